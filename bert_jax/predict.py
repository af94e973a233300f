"""Predict with a fine-tuned model: `python -m bert_jax.predict --workdir=DIR --input=FILE
--out=FILE`.

The input has the columns of the training data; labels are not needed. The output is JSON lines, one
an example, with probabilities; large inputs are read, predicted and written part by part.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from absl import flags

from bert_jax.common import command_line, console
from bert_jax.common.atomic import finished_file
from bert_jax.common.errors import UserError
from bert_jax.run import finetuned
from bert_jax.tasks.batches import RowBatches
from bert_jax.tasks.data import TFDS, stream
from bert_jax.tasks.evaluation import compile_forward, predict
from bert_jax.training import sharding
from bert_jax.training.settings import MeshSettings

FLAGS = flags.FLAGS
PART = 2048  # examples that are in memory together
ROWS_PER_DEVICE = 32


def define_flags() -> None:
    command_line.define_workdir("The fine-tuning to load", required=True)
    flags.DEFINE_string("input", None, "The file with the examples", required=True)
    flags.DEFINE_string("out", None, "The file to write, JSON lines", required=True)
    flags.DEFINE_string("task", "", "Which task, where the fine-tuning has several")
    for name in ("workdir", "input", "out"):
        command_line.define_as_local(name)


def main() -> None:
    source, out = Path(FLAGS.input), Path(FLAGS.out)
    if not FLAGS.input.startswith(TFDS) and not source.is_file():
        raise UserError(f"--input={source} is missing: there is no such file")
    if out.exists() and source.exists() and out.samefile(source):
        raise UserError(f"--out={out} is the input: name another file")
    if not out.parent.is_dir():
        raise UserError(f"--out={out}: there is no directory {out.parent}")
    console.begin(f"Predicting {FLAGS.input} with {FLAGS.workdir}")
    count = write(out, predictions(Path(FLAGS.workdir), FLAGS.input, FLAGS.task))
    print(f"Wrote {out}: {count:,} predictions.")


def predictions(directory: Path, path: str, name: str = "") -> Iterator[dict[str, Any]]:
    """The predictions for the examples of a file, in order.

    Raises:
      UserError: the model or the file cannot be used, or the file holds no example.
    """
    model = finetuned.load(directory, name)
    mesh = sharding.make_mesh(MeshSettings())
    forward = compile_forward(model.task, model.model, mesh)
    params = jax.device_put(model.params, sharding.parameter_shardings(mesh, model.params))
    records = stream(path, model.task.settings.data, "input")
    number = cut = 0
    while part := list(itertools.islice(records, PART)):
        rows = model.task.features(part, model.tokenizer)
        # The lengths are those of every part, so that later parts compile nothing.
        batches = RowBatches(
            rows,
            model.tokenizer.vocabulary,
            ROWS_PER_DEVICE * mesh.size,
            seed=0,
            shapes=model.settings.shapes,
            longest=model.task.settings.max_length,
        )
        found = predict(model.task, forward, params, batches, rows, part, mesh)
        for record, prediction in zip(part, found, strict=True):
            yield {"id": finetuned.name_of_example(record, number)} | prediction
            number += 1
        cut += rows.cut
    if not number:
        raise UserError(f"--input={path} holds no example: name a file with examples")
    if cut:
        console.say(f"Note: {model.task.cut_note(cut, number, path)}")


def write(out: Path, lines: Iterator[dict[str, Any]]) -> int:
    """Write JSON lines as they come, into a file that has its name when it is complete."""
    count = 0
    with finished_file(out) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
