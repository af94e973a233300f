"""Sentence vectors: `python -m bert_jax.embed --workdir=DIR --input=FILE --out=x.npy`.

Writes a vector for each line of a text file, in its order: `.npy`, an array [lines, width], or
`.parquet` with the columns `text` and `vector`. `--workdir` is a run of ours, or a folder of
`transformers`.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import flags

from bert_jax.common import command_line, console
from bert_jax.common.atomic import finished_file
from bert_jax.common.errors import UserError
from bert_jax.corpus.readers.text import CONVERT
from bert_jax.inference.embed import POOLINGS
from bert_jax.interop.sentence_transformers import Modules, read_modules
from bert_jax.run import pretrained

FLAGS = flags.FLAGS
SUFFIXES = (".npy", ".parquet")
TABLES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".pq")  # their lines are not texts


def define_flags() -> None:
    """Define the command's flags."""
    command_line.define_workdir("The run, or folder of transformers, to load", required=True)
    flags.DEFINE_integer("step", None, "Step of the checkpoint to load. Default: the newest")
    flags.DEFINE_string("input", None, "A text file, one text a line", required=True)
    flags.DEFINE_string("out", None, "The file to write: x.npy or x.parquet", required=True)
    folder = "Default: what a folder of sentence-transformers says, else"
    what = "mean of a text's tokens, or the first token"
    flags.DEFINE_enum("pooling", None, POOLINGS, f"{what}. {folder} mean")
    flags.DEFINE_bool("normalize", None, f"Divide each vector by its length. {folder} not")
    what = "Tokens of a text; longer ones are cut"
    flags.DEFINE_integer("max_length", None, f"{what}. {folder} 512", lower_bound=3)
    flags.DEFINE_integer("batch_size", 64, "Texts of a batch", lower_bound=1)


def main() -> None:
    source, out = Path(FLAGS.input), Path(FLAGS.out)
    if not source.is_file():
        raise UserError(f"--input={source} is missing: there is no such file")
    if source.suffix.lower() in TABLES:
        raise UserError(
            f"--input={source} is no plain text, and each line of the file is embedded as it is: "
            "write the texts alone to a .txt file, one a line"
        )
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out={out}: end it in {' or '.join(SUFFIXES)}")
    if not out.parent.is_dir():
        raise UserError(f"--out={out}: there is no directory {out.parent}")
    count = sum(1 for _ in _lines(source))
    if not count:
        raise UserError(f"--input={source} has no lines")
    console.begin(f"Embedding the {count:,} lines of {source} with {FLAGS.workdir}")
    model = pretrained.load(FLAGS.workdir, FLAGS.step)
    modules = _modules(model.path)
    vectors = model.embed_batches(
        _lines(source),
        pooling=modules.pooling,
        normalize=modules.normalize,
        max_length=modules.max_length,
        batch_size=FLAGS.batch_size,
    )
    write = _write_npy if out.suffix == ".npy" else _write_parquet
    with finished_file(out) as unfinished:
        write(unfinished, vectors, (count, model.config.hidden_size), source)
    print(f"Wrote {out}: {count:,} vectors of {model.config.hidden_size} numbers.")


def _modules(folder: Path) -> Modules:
    """What the flags say, and the folder where they say nothing."""
    names = [field.name for field in dataclasses.fields(Modules)]
    given: dict[str, Any] = {
        name: FLAGS[name].value for name in names if FLAGS[name].value is not None
    }
    modules = dataclasses.replace(read_modules(folder), **given)
    if not modules.pooling:
        raise UserError(
            f"{folder} makes its vectors by other modules than the mean or the first token (see "
            f"its modules.json): choose one of {', '.join(POOLINGS)} with --pooling"
        )
    return modules


def _lines(path: Path) -> Iterator[str]:
    """The lines of the file; an empty one has a vector, too, so that numbers stay the same."""
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"--input={path} is not UTF-8 text: {CONVERT}") from error


def _write_npy(
    path: Path, vectors: Iterator[np.ndarray], shape: tuple[int, int], source: Path
) -> None:
    del source
    array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    done = 0
    for part in vectors:
        array[done : done + len(part)] = part
        done += len(part)
    array.flush()


def _write_parquet(
    path: Path, vectors: Iterator[np.ndarray], shape: tuple[int, int], source: Path
) -> None:
    width, texts = shape[1], _lines(source)
    schema = pa.schema([("text", pa.string()), ("vector", pa.list_(pa.float32(), width))])
    with pq.ParquetWriter(path, schema) as writer:
        for part in vectors:
            column = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), width)
            lines = pa.array([next(texts) for _ in part])
            writer.write_table(pa.table([lines, column], schema=schema))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
