"""Tasks with a few settings, and their examples."""

from bert_jax.config.finetuning import default_config, parse
from bert_jax.tasks import Task
from bert_jax.tasks.data import Record


def config(**fields):
    """The default config with some fields changed."""
    found = default_config()
    found.init = "runs/mine"
    for name, value in fields.items():
        group, _, field = name.rpartition(".")
        (found[group] if group else found)[field] = value
    return found


def task(kind: str, **fields) -> Task:
    """A task by its settings."""
    return parse(config(task=kind, **fields)).tasks[0]


def records(*rows: dict) -> list[Record]:
    """The examples of a file."""
    return [Record(row, f"train.jsonl, line {index + 1}") for index, row in enumerate(rows)]
