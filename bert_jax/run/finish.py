"""The end of a run: export to Hugging Face, print sample predictions, write the report."""

from collections.abc import Sequence
from pathlib import Path

import jax

from bert_jax.common import bucket, console, processes
from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.interop import parity
from bert_jax.interop.configs import architecture
from bert_jax.interop.usage import pytorch_lines
from bert_jax.model import ModelConfig
from bert_jax.run import exports, goodput, metrics, report, samples, workdir
from bert_jax.run.console import describe
from bert_jax.run.workdir import HUGGING_FACE, TOKENIZER, Run, load_run


def say_if_not_exportable(model: ModelConfig) -> None:
    """Warn before the training that the trained model will have no Hugging Face folder."""
    if reason := _why_not_exportable(model):
        console.say(f"Note: this run trains, but will not be exported to Hugging Face: {reason}")


def _why_not_exportable(model: ModelConfig) -> str | None:
    try:
        architecture(model)
    except UserError as error:  # no class of transformers computes some encoders
        return str(error)
    return None


def finish(directory: Path) -> None:
    """Export to Hugging Face, print sample predictions, write the report and `finished.json`.

    A failed check of the export becomes a warning in the report: the run itself is complete. Where
    the export is refused, as its folder was changed, there is no `finished.json`: the next start
    tries again.
    """
    if jax.process_index() != 0:
        bucket.pull(directory)  # what process 0 wrote since
    run = load_run(directory)  # by all processes: Orbax makes them wait for each other

    def write() -> None:
        is_exported = False
        warnings: list[str] = []
        if reason := _why_not_exportable(run.model):
            console.say(f"\nNot exported: {reason}")
        else:
            try:
                warnings = export(run, directory / HUGGING_FACE)
                is_exported = True
            except UserError as error:
                warnings = [f"the run was not exported: {error}, and run the same command again"]
        show_predictions(directory, mask_text(load_tokenizer(run.tokenizer_directory)))
        report.write(directory, warnings)
        if is_exported or reason:
            workdir.mark_finished(directory, run.step, warnings, is_exported)
        bucket.push(directory)
        say_next_steps(directory, is_exported, warnings)

    # The others wait here, and not at their end: the runtime kills who waits there for 300 s.
    processes.of_first(write, f"export the run to {directory / HUGGING_FACE}")


def export(run: Run, folder: Path) -> list[str]:
    """Export a run to `folder`, compare its logits, and return the warnings.

    Raises:
      UserError: the run cannot be exported, or `folder` holds other files; it is as it was.
    """
    settings = exports.Settings()
    lines = exports.heldout_lines(run)
    exports.export(run, folder, settings, lines)
    console.say(f"\nExported {folder}.")
    try:
        difference = exports.verify(run, folder, settings, lines)
    except parity.NotComparedError as error:
        console.say(f"Its logits were not compared with transformers: {error}.")
    except UserError as error:
        return [f"the check of the export failed: {error}"]
    else:
        console.say(f"Its logits under transformers are within {difference:.0e} of ours.")
    return []


def is_finished(directory: Path, total_steps: int) -> bool:
    """Whether a run of `total_steps` was exported and reported in `directory`."""
    finished = workdir.read_finished(directory)
    return finished is not None and finished["step"] == total_steps


def show_predictions(workdir: Path, mask: str) -> None:
    """Print held-out sentences with one word masked, and the model's last guesses for it."""
    evaluations = samples.read(workdir)
    if not evaluations:
        return
    console.say("\nHeld-out sentences, one word masked, and the model's guesses:")
    for sentence in evaluations[-1]["sentences"]:
        guesses = "   ".join(f"{text} {share:.1%}" for text, share in sentence["guesses"])
        console.say(
            f"{sentence['text'].strip()}\n  {mask}: {guesses}   (it was: {sentence['word']})"
        )


def mask_text(tokenizer: Tokenizer) -> str:
    """The mask as the tokenizer writes it: `[MASK]`, or `<mask>` in some imported ones."""
    return tokenizer.piece(tokenizer.vocabulary.mask_id)


def say_finished(directory: Path) -> None:
    """`say_next_steps` for a run that an earlier process finished."""
    finished = workdir.read_finished(directory) or {"warnings": []}
    is_there = (bucket.home(directory) / HUGGING_FACE).is_dir()
    # Earlier versions wrote no `exported`.
    say_next_steps(directory, is_there and finished.get("exported", True), finished["warnings"])


def say_next_steps(directory: Path, is_exported: bool, warnings: Sequence[str]) -> None:
    """Print the last held-out figures, the commands to use next, and the warnings.

    Args:
      directory: of the run.
      is_exported: whether the folder in it is that of the last step.
      warnings: of the end of the run.
    """
    evaluations = [record for record in metrics.read(directory) if record["split"] != "train"]
    if evaluations:
        last = evaluations[-1]
        console.say(f"\nHeld-out at step {last['step']}: {describe(last)}")
    if seconds := goodput.total(metrics.read_events(directory)):
        console.say(f"Where the time went: {goodput.describe(seconds)}.")
    place = bucket.home(directory)
    folder = place / HUGGING_FACE
    mask = mask_text(load_tokenizer(directory / TOKENIZER))
    is_here = isinstance(place, Path)
    code = pytorch_lines(folder if is_here else Path(HUGGING_FACE), mask)
    lines = "\n".join(f"    {line}".rstrip() for line in code.splitlines())
    if is_exported:
        what = f"with the folder {folder}" if is_here else f"after gcloud storage cp -r {folder} ."
        lines = f"and from PyTorch, {what}:\n\n{lines}"
    else:
        lines = "The run was not exported, so there are no lines for PyTorch."
    console.say(
        f"Learning curves: {place / 'report.html'}\n"
        f"Next:\n"
        f"    python -m bert_jax.fill_mask --workdir={place} --text='... {mask} ...'\n"
        f"    python -m bert_jax.evaluate --workdir={place}\n"
        f"{lines}"
    )
    for warning in warnings:
        console.say(f"\nWarning: {warning}")
