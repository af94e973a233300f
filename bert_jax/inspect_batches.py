"""Look at the batches of a run: `python -m bert_jax.inspect_batches --config=FILE [--step=K]`.

Prints rows of the batch at step K as text, then statistics of that batch and the following ones.
Any step takes the same time. Needs no accelerator; prepares the token store if it does not exist.
"""

import collections
import itertools
import os
import sys
from collections.abc import Callable, Iterable

import numpy as np
from absl import flags

from bert_jax.common import command_line
from bert_jax.common.errors import UserError
from bert_jax.config import parse
from bert_jax.corpus.build import build_store
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.run import rollback
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.rows import Batch
from bert_jax.training.objectives import Objective
from bert_jax.training.objectives.base import Ratio

FLAGS = flags.FLAGS

LEGEND = """\
[MASK:text] the model sees [MASK], and must predict `text`
[pie:text]  the model sees the random token `pie`, and must predict `text`
[text:text] the model sees `text` itself, and must predict it
"""
_COLORS = {"mask": "\033[33m", "random": "\033[31m", "kept": "\033[32m", "special": "\033[2m"}


def define_flags() -> None:
    """Define the command's flags."""
    command_line.define_config()
    flags.DEFINE_integer("step", 0, "The step whose batch is shown", lower_bound=0)
    flags.DEFINE_integer("rows", 4, "Number of rows to show", lower_bound=0)
    flags.DEFINE_integer("batches", 20, "Number of batches for the statistics", lower_bound=1)


def main() -> None:
    settings = parse(command_line.config())
    objective = settings.objective
    if FLAGS.step >= settings.total_steps:
        raise UserError(
            f"--step={FLAGS.step} is after the run's last step, {settings.total_steps - 1}"
        )
    directory = settings.store_directory(command_line.workdir())
    store = build_store(settings.corpus, directory, objective.needs)
    left_out = rollback.batches(rollback.read(command_line.workdir()))
    batches = TrainBatches(store, settings.stream, left_out)
    tokenizer = load_tokenizer(store.tokenizer_directory)
    has_colors = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    phase = settings.stream.phase_at(FLAGS.step)
    batch = batches.batch(FLAGS.step)
    print(
        f"Step {FLAGS.step} of {settings.total_steps}: {phase.global_batch_size} rows of "
        f"{phase.sequence_length} tokens, {batches.num_examples(phase):,} rows an epoch.\n"
    )
    print(LEGEND)
    sources = batches.sources(FLAGS.step)
    for row in range(min(FLAGS.rows, phase.global_batch_size)):
        text = readable_row(batch, row, objective, store.vocabulary, tokenizer.piece, has_colors)
        print(f"{sources[row]}\n{text}\n" if len(set(sources)) > 1 else f"{text}\n")
    last = min(FLAGS.step + FLAGS.batches, settings.total_steps)
    steps = range(FLAGS.step, last)
    counted = rates(map(batches.batch, steps), objective, store.vocabulary)
    print(f"Counted over the batches of the steps {FLAGS.step} to {last - 1}:")
    for name, value in (source_shares(map(batches.sources, steps)) | counted).items():
        print(f"  {name:38} {value}")


def readable_row(
    batch: Batch,
    row: int,
    objective: Objective,
    vocabulary: Vocabulary,
    text_of: Callable[[int], str],
    has_colors: bool,
) -> str:
    """One row of a batch as text, a line for each document or side of a pair.

    Args:
      batch: the batch.
      row: the row's number.
      objective: that made the batch.
      vocabulary: of the ids.
      text_of: the text of an id.
      has_colors: for terminals that show them.
    """
    count = np.count_nonzero(batch["masked_weights"][row])
    positions = batch["masked_positions"][row, :count].tolist()
    labels = dict(zip(positions, batch["masked_labels"][row, :count].tolist(), strict=True))
    used = np.count_nonzero(batch["segment_ids"][row])
    title = f"Row {row}: {used} tokens, {count} to predict"
    remark, parts = objective.inspect_row(batch, row)
    if remark:
        title += f"; {remark}"
    texts: dict[str, str] = {}
    for column, (part, id) in enumerate(zip(parts, batch["input_ids"][row].tolist(), strict=False)):
        text, kind = _token(id, labels.get(column), vocabulary, text_of)
        if has_colors and kind:
            text = f"{_COLORS[kind]}{text}\033[0m"
        begins = labels.get(column, id)
        space = " " if vocabulary.starts_word[begins] or vocabulary.is_special[begins] else ""
        texts[part] = texts.get(part, "") + space + text
    return "\n".join([title, *(f"  {part}: {text.strip()}" for part, text in texts.items())])


def _token(
    seen: int, label: int | None, vocabulary: Vocabulary, text_of: Callable[[int], str]
) -> tuple[str, str]:
    """How a token is printed, and its kind: a key of _COLORS, or empty."""

    def text(id: int) -> str:
        return text_of(id).removeprefix("▁").removeprefix("##")

    if label is None:
        return text(seen), "special" if vocabulary.is_special[seen] else ""
    if seen == vocabulary.mask_id:
        return f"[MASK:{text(label)}]", "mask"
    return f"[{text(seen)}:{text(label)}]", "kept" if seen == label else "random"


def source_shares(sources: Iterable[list[str]]) -> dict[str, str]:
    """The share of the rows that each source has; empty if there is only one source."""
    count = collections.Counter(itertools.chain.from_iterable(sources))
    if len(count) < 2:
        return {}
    return {f"rows of {name}": f"{count[name] / count.total():.2%}" for name in sorted(count)}


def rates(batches: Iterable[Batch], objective: Objective, vocabulary: Vocabulary) -> dict[str, str]:
    """What is masked, how, and what the rows are made of, counted over batches."""
    count: collections.Counter[str] = collections.Counter()
    of_objective: dict[str, Ratio] = {}
    for batch in batches:
        seen, is_prediction = batch["input_ids"], batch["masked_weights"] > 0
        labels = batch["masked_labels"][is_prediction]
        placed = np.take_along_axis(seen, batch["masked_positions"], axis=1)[is_prediction]
        counts = {
            "rows": len(seen),
            "positions": seen.size,
            "tokens": int(np.count_nonzero(batch["segment_ids"])),
            "predictions": len(labels),
            "masked": int(np.count_nonzero(placed == vocabulary.mask_id)),
            "kept": int(np.count_nonzero(placed == labels)),
            "special": int(np.count_nonzero(vocabulary.is_special[labels])),
        }
        count.update(counts)
        for name, ratio in objective.inspect_batch(batch).items():
            before = of_objective.get(name, Ratio(0, 0, ratio.style))
            of_objective[name] = Ratio(
                before.part + ratio.part, before.whole + ratio.whole, ratio.style
            )

    def share(part: int, whole: str) -> str:
        return f"{part / count[whole]:.2%}"

    return {
        name: format(ratio.part / ratio.whole, ratio.style) for name, ratio in of_objective.items()
    } | {
        "positions in use": share(count["tokens"], "positions"),
        "tokens to predict": share(count["predictions"], "tokens"),
        "  replaced by [MASK]": share(count["masked"], "predictions"),
        "  replaced by a random token": share(
            count["predictions"] - count["masked"] - count["kept"], "predictions"
        ),
        "  unchanged": share(count["kept"], "predictions"),
        "special tokens among them (must be 0)": f"{count['special']}",
    }


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
