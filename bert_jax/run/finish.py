"""The end of a run: a Hugging Face folder, a few predictions, what to type next, the report."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from bert_jax.common import console
from bert_jax.common.errors import UserError
from bert_jax.corpus.store import Split, TokenStore
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.inference.fill_mask import fill_mask, readable
from bert_jax.interop import hugging_face, parity
from bert_jax.interop.tokenizer_check import lines_of
from bert_jax.interop.usage import pytorch_lines
from bert_jax.run import metrics, report
from bert_jax.run.workdir import HUGGING_FACE, TOKENIZER, Run, load_run

SHOWN = 4  # sentences with a masked word
LENGTHS = range(9, 25)  # in pieces: long enough to give a context, short enough to read


def finish(directory: Path, store: TokenStore) -> None:
    """Write what a finished run leaves behind, and show what it learned."""
    run = load_run(directory)  # by all processes, since Orbax lets them wait for each other
    if jax.process_index() != 0:
        return
    folder = directory / HUGGING_FACE
    try:
        lines = lines_of(store.split("heldout"), load_tokenizer(run.tokenizer_directory))
        hugging_face.export(
            run.params, run.model, run.tokenizer_directory, folder, lines=lines[:2000]
        )
    except UserError as error:  # an encoder that no class of transformers computes is still ours
        console.say(f"\nNot exported: {error}")
    else:
        console.say(f"\nExported {folder}.")
        if parity.is_possible():
            difference = parity.verify(folder, run.params, run.model)
            console.say(f"Its logits under transformers are within {difference:.0e} of ours.")
    show_predictions(run, store.split("heldout"))
    say_next_steps(directory)
    report.write(directory)  # last: it tells that all of this is done


def is_finished(directory: Path) -> bool:
    """Whether `finish` came to its end."""
    return (directory / report.FILE).exists()


def show_predictions(run: Run, split: Split) -> None:
    """Print held-out sentences with one word masked, and what the model fills in."""
    tokenizer = load_tokenizer(run.tokenizer_directory)
    examples = list(masked_sentences(split, tokenizer, SHOWN))
    if not examples:
        return
    texts, mask = [text for text, _ in examples], mask_piece(tokenizer)
    filled = fill_mask(jax.device_put(run.params), run.model, tokenizer, texts, top=4)
    console.say("\nHeld-out sentences, one word masked, and the model's guesses:")
    for (text, word), predictions in zip(examples, filled, strict=True):
        console.say(f"{readable(text, predictions, mask)}   (it was: {word})")


def masked_sentences(split: Split, tokenizer: Tokenizer, count: int) -> Iterator[tuple[str, str]]:
    """Sentences spread over a split with a whole word masked, and the word; always the same ones.

    The word is one piece long and stands in the second half of its sentence.
    """
    vocabulary = tokenizer.vocabulary
    mask = mask_piece(tokenizer)
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


def mask_piece(tokenizer: Tokenizer) -> str:
    """How the tokenizer spells the mask: `[MASK]`, or `<mask>` in some that are brought along."""
    return tokenizer.piece(tokenizer.vocabulary.mask_id)


def _sentences(split: Split) -> Iterator[np.ndarray]:
    """Every 97th sentence, so that few neighbours come from one document."""
    for shard in split.shards:
        offsets = shard.sentence_offsets
        for index in range(0, len(offsets) - 1, 97):
            yield shard.tokens[offsets[index] : offsets[index + 1]].astype(np.int64)


def say_next_steps(directory: Path) -> None:
    """What was reached, and what to type next."""
    evaluations = [record for record in metrics.read(directory) if record["split"] != "train"]
    if evaluations:
        last = evaluations[-1]
        console.say(f"\nHeld-out at step {last['step']}: {metrics.describe(last)}")
    folder, mask = directory / HUGGING_FACE, mask_piece(load_tokenizer(directory / TOKENIZER))
    lines = "\n".join(f"    {line}".rstrip() for line in pytorch_lines(folder, mask).splitlines())
    if folder.is_dir():
        lines = f"and from PyTorch, with the folder {folder}:\n\n{lines}"
    else:
        lines = "The run was not exported, so there are no lines for PyTorch."
    console.say(
        f"Learning curves: {directory / 'report.html'}\n"
        f"Next:\n"
        f"    python -m bert_jax.fill_mask --workdir={directory} --text='... {mask} ...'\n"
        f"    python -m bert_jax.evaluate --workdir={directory}\n"
        f"{lines}"
    )
