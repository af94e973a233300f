"""The kinds of tokenizers: which function trains one, which class reads a file.

A new kind is a file with its class and trainer, and a line in the tables below.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers import hugging_face, sentencepiece, wordpiece
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.settings import TokenizerSettings

# config.tokenizer.kind -> training function.
TRAINERS: dict[str, Callable[[list[str], TokenizerSettings], Tokenizer]] = {
    "unigram": sentencepiece.train,
    "bpe": sentencepiece.train,
    "wordpiece": wordpiece.train,
}

# The file that `Tokenizer.save` writes -> function that reads it.
_SAVED: dict[str, Callable[[Path], Tokenizer]] = {
    hugging_face.FILE: hugging_face.HuggingFaceTokenizer.load,
    sentencepiece.MODEL: sentencepiece.SentencePieceTokenizer.load,
}

# The suffix of an existing tokenizer's file -> function of path, lowercase, strip_accents.
_OPENERS: dict[str, Callable[[Path, bool, str], Tokenizer]] = {
    ".txt": wordpiece.open_vocabulary,
    ".json": hugging_face.HuggingFaceTokenizer.open,
    "": sentencepiece.SentencePieceTokenizer.open,
}

# File names in a directory; the first one that exists is used.
_IN_DIRECTORIES = (hugging_face.FILE, sentencepiece.MODEL, "spiece.model", "vocab.txt")

_SECONDS_BETWEEN_LINES = 10


def load_tokenizer(directory: str | Path) -> Tokenizer:
    """The tokenizer that `Tokenizer.save` wrote into `directory`.

    Raises:
      UserError: there is none.
    """
    for name, load in _SAVED.items():
        if (path := Path(directory) / name).is_file():
            return load(path)
    raise UserError(f"{directory} holds no tokenizer: {' and '.join(_SAVED)} are missing")


def open_tokenizer(path: Path, lowercase: bool, strip_accents: str = "auto") -> Tokenizer:
    """An existing tokenizer: a sentencepiece model, a `vocab.txt`, a `tokenizer.json`.

    Args:
      path: of the file, or of a directory that holds it.
      lowercase: `config.tokenizer.lowercase`.
      strip_accents: `config.tokenizer.strip_accents`.

    Raises:
      UserError: the file is missing, is not what its name says, or lacks special tokens.
    """
    if path.is_dir():
        files = [path / name for name in _IN_DIRECTORIES if (path / name).is_file()]
        if not files:
            raise UserError(
                f"config.tokenizer.path={path} holds none of {', '.join(_IN_DIRECTORIES)}"
            )
        path = files[0]
    elif not path.is_file():
        raise UserError(f"config.tokenizer.path={path} is missing: there is no such file")
    return _OPENERS.get(path.suffix, _OPENERS[""])(path, lowercase, strip_accents)


def case_warnings(tokenizer: Tokenizer, path: str) -> list[str]:
    """Whether lower-cased text leaves a part of the vocabulary unused, as one sentence.

    Args:
      tokenizer: opened for `lowercase=True`.
      path: what the message calls it.
    """
    ordinary = np.flatnonzero(~tokenizer.vocabulary.is_special)
    texts = [tokenizer.decode([int(id)]).strip() for id in ordinary]
    # Every byte alphabet contains single upper-case letters.
    cased = sum(len(text) > 1 and text != text.lower() for text in texts)
    if 100 * cased <= len(texts):
        return []
    return [
        f"{path} has {cased:,} tokens with upper-case letters, which text in lower case never "
        "gives: it is a cased vocabulary, set config.tokenizer.lowercase=False"
    ]


def train_tokenizer(paragraphs: Iterable[str], settings: TokenizerSettings) -> Tokenizer:
    """A tokenizer with `settings.vocab_size` tokens, the special ones at ids 0...4.

    Raises:
      UserError: the text is too small or too varied for the vocabulary.
    """
    texts = list(paragraphs)
    characters = sum(map(len, texts))
    with _progress(
        f"training a {settings.kind} tokenizer of {settings.vocab_size:,} tokens on "
        f"{characters:,} characters"
    ):
        return TRAINERS[settings.kind](texts, settings)


@contextlib.contextmanager
def _progress(task: str) -> Iterator[None]:
    """Prints `task` at once, and every ten seconds how long it has taken."""
    begin = time.monotonic()
    done = threading.Event()

    def report() -> None:
        while not done.wait(_SECONDS_BETWEEN_LINES):
            print(f"{task}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)

    print(task, file=sys.stderr, flush=True)
    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
