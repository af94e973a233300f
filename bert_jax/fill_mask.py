"""Predict masked words: `python -m bert_jax.fill_mask --workdir=DIR --text='Paris is [MASK].'`.

Prints the most probable tokens for each [MASK] of each `--text`; without `--text`, for each line of
standard input. `--workdir` is a run of ours, or a folder of `transformers`.
"""

import sys
from collections.abc import Iterator

from absl import flags

from bert_jax.common import command_line
from bert_jax.common.errors import UserError
from bert_jax.inference.fill_mask import readable
from bert_jax.run import pretrained

FLAGS = flags.FLAGS


def define_flags() -> None:
    command_line.define_workdir("The run, or folder of transformers, to load", required=True)
    flags.DEFINE_integer("step", None, "Step of the checkpoint to load. Default: the newest")
    flags.DEFINE_multi_string("text", [], "A text with [MASK] in it")
    flags.DEFINE_integer("top", 5, "Number of predictions for each [MASK]", lower_bound=1)


def main() -> None:
    model = pretrained.load(FLAGS.workdir, FLAGS.step)
    mask = model.mask
    for texts in [FLAGS.text] if FLAGS.text else _typed_lines(mask):
        filled = model.fill_mask(texts, FLAGS.top)
        for text, predictions in zip(texts, filled, strict=True):
            print(readable(text, predictions, mask), flush=True)


def _typed_lines(mask: str) -> Iterator[list[str]]:
    """The non-empty lines of standard input, one at a time so that each is answered at once."""
    if sys.stdin.isatty():
        print(f"Type texts with {mask}, one a line; Ctrl-D ends.", file=sys.stderr)
    is_empty = True
    for line in sys.stdin:
        if line.strip():
            is_empty = False
            yield [line.strip()]
    if is_empty:
        raise UserError(f"there is no text: give --text='... {mask} ...', or lines to read")


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
