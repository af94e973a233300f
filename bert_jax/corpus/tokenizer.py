"""The small interface that every tokenizer of a token store has."""

import abc
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from bert_jax.corpus.vocabulary import Vocabulary

SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0...4 where we train


class Tokenizer(abc.ABC):
    """Text to ids and back. `vocabulary` holds what needs no text."""

    vocabulary: Vocabulary

    @staticmethod
    def load(directory: str | Path) -> "Tokenizer":
        """The tokenizer that `save` wrote into `directory`.

        Raises:
          UserError: there is none.
        """
        from bert_jax.corpus.sentencepiece_tokenizer import SentencePieceTokenizer

        return SentencePieceTokenizer.open(Path(directory))

    @property
    def vocab_size(self) -> int:
        return self.vocabulary.size

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Hash of everything that decides ids."""

    @abc.abstractmethod
    def save(self, directory: str | Path) -> None:
        """Writes the tokenizer's files into `directory`, which exists."""

    @abc.abstractmethod
    def encode(self, texts: list[str]) -> list[Int32[np.ndarray, "_"]]:
        """The ids of each text. Text never gives a special id, even where it spells "[MASK]"."""

    @abc.abstractmethod
    def encode_continuation(self, text: str) -> Int32[np.ndarray, "_"]:
        """The ids of text that goes on in the middle of a word, as "." does after a word."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Plain text; special ids are left out."""

    @abc.abstractmethod
    def piece(self, id: int) -> str:
        """The piece of an id as the vocabulary spells it."""

    def encode_with_specials(self, text: str) -> Int32[np.ndarray, "L"]:
        """The ids of `text`, in which special pieces such as "[MASK]" stand for themselves.

        As in training text, a special piece takes the white space before it.
        """
        special = {self.piece(int(i)): int(i) for i in np.flatnonzero(self.vocabulary.is_special)}
        pattern = "|".join(map(re.escape, special))
        ids: list[np.ndarray] = []
        after_special = False
        for text_or_special in re.split(rf"({pattern})", text):
            if text_or_special in special:
                ids.append(np.array([special[text_or_special]], np.int32))
                after_special = True
            elif text_or_special.strip():
                goes_on = after_special and not text_or_special[0].isspace()
                if goes_on:
                    ids.append(self.encode_continuation(text_or_special))
                else:
                    ids += self.encode([text_or_special])
        return np.concatenate(ids) if ids else np.zeros(0, np.int32)
