"""The end of a run: export to Hugging Face, print sample predictions, write the report."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from bert_jax.common import bucket, console, processes
from bert_jax.common.errors import UserError
from bert_jax.corpus.store import Split, TokenStore
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.inference.fill_mask import fill_mask, readable
from bert_jax.interop import parity
from bert_jax.interop.usage import pytorch_lines
from bert_jax.run import exports, goodput, metrics, report, workdir
from bert_jax.run.workdir import HUGGING_FACE, TOKENIZER, Run, load_run

SHOWN = 4  # sentences with a masked word
LENGTHS = range(9, 25)  # tokens of a sentence: enough context, short enough to read


def finish(directory: Path, store: TokenStore) -> None:
    """Export to Hugging Face, print sample predictions, write the report and `finished.json`.

    A failed check of the export becomes a warning in the report: the run itself is complete.
    """
    if jax.process_index() != 0:
        bucket.pull(directory)  # what process 0 wrote since
    run = load_run(directory)  # by all processes: Orbax makes them wait for each other

    def write() -> None:
        held_out = store.split("heldout")
        warnings = export(run, directory / HUGGING_FACE)
        show_predictions(run, held_out)
        report.write(directory, warnings)
        workdir.mark_finished(directory, run.step, warnings)
        bucket.push(directory)
        say_next_steps(directory)

    # The others wait here, and not at their end: the runtime kills who waits there for 300 s.
    processes.of_first(write, f"export the run to {directory / HUGGING_FACE}")


def export(run: Run, folder: Path) -> list[str]:
    """Export a run to `folder`, compare its logits, and return the warnings."""
    settings = exports.Settings()
    try:
        lines = exports.heldout_lines(run)
        exports.export(run, folder, settings, lines)
    except UserError as error:  # no class of transformers computes some encoders
        console.say(f"\nNot exported: {error}")
        return []
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


def show_predictions(run: Run, split: Split) -> None:
    """Print held-out sentences with one word masked, and the model's predictions for it."""
    tokenizer = load_tokenizer(run.tokenizer_directory)
    examples = list(masked_sentences(split, tokenizer, SHOWN))
    if not examples:
        return
    texts, mask = [text for text, _ in examples], mask_text(tokenizer)
    filled = fill_mask(jax.device_put(run.params), run.model, tokenizer, texts, top=4)
    console.say("\nHeld-out sentences, one word masked, and the model's guesses:")
    for (text, word), predictions in zip(examples, filled, strict=True):
        console.say(f"{readable(text, predictions, mask)}   (it was: {word})")


def masked_sentences(split: Split, tokenizer: Tokenizer, count: int) -> Iterator[tuple[str, str]]:
    """Up to `count` sentences of a split with a word masked, and that word; always the same ones.

    The word is one token long and in the second half of its sentence.
    """
    vocabulary = tokenizer.vocabulary
    mask = mask_text(tokenizer)
    for sentence in _sentences(split):
        if not count:
            return
        is_special = vocabulary.is_special[sentence]
        starts = vocabulary.starts_word[sentence]
        whole = np.flatnonzero(starts[:-1] & starts[1:])
        whole = whole[whole >= len(sentence) // 2]
        if len(sentence) in LENGTHS and whole.size and not is_special.any():
            before, (word, *after) = np.split(sentence, [whole[0]])
            text = f"{tokenizer.decode(before.tolist())} {mask} {tokenizer.decode(after)}"
            yield text, tokenizer.decode([int(word)])
            count -= 1


def mask_text(tokenizer: Tokenizer) -> str:
    """The mask as the tokenizer writes it: `[MASK]`, or `<mask>` in some imported ones."""
    return tokenizer.piece(tokenizer.vocabulary.mask_id)


def _sentences(split: Split) -> Iterator[np.ndarray]:
    """Every 97th sentence, so that few of them are from one document."""
    for shard in split.shards:
        offsets = shard.sentence_offsets
        for index in range(0, len(offsets) - 1, 97):
            yield shard.tokens[offsets[index] : offsets[index + 1]].astype(np.int64)


def say_next_steps(directory: Path) -> None:
    """Print the last held-out figures, the commands to use next, and the run's warnings."""
    evaluations = [record for record in metrics.read(directory) if record["split"] != "train"]
    if evaluations:
        last = evaluations[-1]
        console.say(f"\nHeld-out at step {last['step']}: {metrics.describe(last)}")
    if seconds := goodput.total(metrics.read_events(directory)):
        console.say(f"Where the time went: {goodput.describe(seconds)}.")
    place = bucket.home(directory)
    folder = place / HUGGING_FACE
    mask = mask_text(load_tokenizer(directory / TOKENIZER))
    is_here = isinstance(place, Path)
    code = pytorch_lines(folder if is_here else Path(HUGGING_FACE), mask)
    lines = "\n".join(f"    {line}".rstrip() for line in code.splitlines())
    if folder.is_dir():
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
    for warning in (workdir.read_finished(directory) or {"warnings": []})["warnings"]:
        console.say(f"\nWarning: {warning}")
