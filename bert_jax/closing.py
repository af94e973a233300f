"""The end of a run: a Hugging Face folder, the report, a look at predictions, what to type next."""

from pathlib import Path

from bert_jax import cli


def finish(directory: Path, store) -> None:
    say_next_steps(directory)


def say_next_steps(directory: Path) -> None:
    cli.say("next")
