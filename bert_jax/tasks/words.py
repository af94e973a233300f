"""Words as pieces: each distinct word is encoded once; where each piece begins in its word."""

import re
from collections.abc import Sequence

import numpy as np

from bert_jax.corpus.tokenizers.base import Tokenizer


class WordEncoder:
    """The ids of words that are parts of a text; a word without ids counts as unknown."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._ids: dict[str, np.ndarray] = {}
        self._starts: dict[str, list[int]] = {}

    def learn(self, words: Sequence[str]) -> None:
        """Encode words that are new, all in one call."""
        new = [word for word in dict.fromkeys(words) if word not in self._ids]
        encoded = self._tokenizer.encode([self._tokenizer.joint + word for word in new])
        unknown = np.array([self._tokenizer.vocabulary.unk_id], np.int32)
        for word, ids in zip(new, encoded, strict=True):
            self._ids[word] = ids if len(ids) else unknown

    def ids(self, word: str) -> np.ndarray:
        """Of a word that was learned."""
        return self._ids[word]

    def starts(self, word: str) -> list[int]:
        """Where each piece of a word begins in it, in characters.

        Found by decoding longer and longer beginnings. Where the tokenizer changes the text, so
        that lengths differ, all pieces stand for the whole word.
        """
        if word not in self._starts:
            self._starts[word] = self._find_starts(word)
        return self._starts[word]

    def _find_starts(self, word: str) -> list[int]:
        ids = self.ids(word).tolist()
        ends = [
            len(re.sub(r"\s", "", self._tokenizer.decode(ids[: n + 1]))) for n in range(len(ids))
        ]
        if ends[-1] != len(word) or ends != sorted(ends):
            return [0] * len(ids)
        return [0, *ends[:-1]]


def words_of(text: str) -> list[tuple[str, int]]:
    """The parts of a text between white space, and where each begins."""
    return [(match.group(), match.start()) for match in re.finditer(r"\S+", text)]
