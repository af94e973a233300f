"""`samples.jsonl` of a run: what the model fills into the same sentences at each evaluation.

One object a line: `step`, and `sentences` with `text`, the masked `word` and the `guesses`, each a
token as text and its probability, the most probable first.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from bert_jax.common.atomic import write_text
from bert_jax.corpus.store import Split, TokenStore
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.inference.fill_mask import Prediction, fill_mask
from bert_jax.model import ModelConfig, Params

FILE = "samples.jsonl"
SHOWN = 4  # sentences with a masked word
TOP = 4  # guesses for each
EVERY = 97  # of the sentences is looked at
LENGTHS = range(9, 25)  # tokens of a sentence: enough context, short enough to read


def record(workdir: Path, step: int, store: TokenStore, model: ModelConfig, params: Params) -> None:
    """Fill the sentences and add a line to the run's file, in place of later ones.

    All processes of a run call it; the first one writes.

    Args:
      workdir: of the run.
      step: of the parameters.
      store: whose held-out sentences are filled.
      model: the encoder, whose rows hold several documents and whose attention runs anywhere.
      params: spread over all devices of the run.
    """
    tokenizer = load_tokenizer(store.tokenizer_directory)
    examples = list(masked_sentences(store.split("heldout"), tokenizer, SHOWN))
    if not examples:
        return
    texts = [text for text, _ in examples]
    filled = fill_mask(params, model, tokenizer, texts, TOP, fetch=_fetch)
    sentences = [
        {"text": text, "word": word, "guesses": _guesses(guesses)}
        for (text, word), (guesses,) in zip(examples, filled, strict=True)
    ]
    if jax.process_index() == 0:
        kept = [line for line in read(workdir) if line["step"] < step]
        lines = [*kept, {"step": step, "sentences": sentences}]
        write_text(workdir / FILE, "".join(json.dumps(line) + "\n" for line in lines))


def read(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run, oldest first; those that cannot be read are left out."""
    try:
        lines = (workdir / FILE).read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def masked_sentences(split: Split, tokenizer: Tokenizer, count: int) -> Iterator[tuple[str, str]]:
    """Up to `count` sentences of a split with a word masked, and that word; always the same ones.

    The word is one token long and in the second half of its sentence.
    """
    vocabulary = tokenizer.vocabulary
    mask = tokenizer.piece(vocabulary.mask_id)
    for sentence in _sentences(split):
        if not count:
            return
        is_special = vocabulary.is_special[sentence]
        starts = vocabulary.starts_word[sentence]
        whole = np.flatnonzero(starts[:-1] & starts[1:])
        whole = whole[whole >= len(sentence) // 2]
        if len(sentence) in LENGTHS and whole.size and not is_special.any():
            ids, at = sentence.tolist(), int(whole[0])
            text = f"{tokenizer.decode(ids[:at])} {mask} {tokenizer.decode(ids[at + 1 :])}"
            yield text, tokenizer.decode([ids[at]])
            count -= 1


def _sentences(split: Split) -> Iterator[np.ndarray]:
    """Sentences far from one another, so that few of them are from one document."""
    for shard in split.shards:
        offsets = shard.sentence_offsets
        for index in range(0, len(offsets) - 1, EVERY):
            yield shard.tokens[offsets[index] : offsets[index + 1]].astype(np.int64)


def _guesses(predictions: list[Prediction]) -> list[list[str | float]]:
    return [[guess.text, round(guess.probability, 4)] for guess in predictions]


def _fetch(arrays: Any) -> Any:
    """Arrays on the host, from devices of which other processes may hold some."""
    if jax.process_count() == 1:
        return jax.device_get(arrays)
    return multihost_utils.process_allgather(arrays, tiled=True)
