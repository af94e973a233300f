"""Words as pieces: each distinct word is encoded once; where each piece begins in its word."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from bert_jax.corpus.tokenizers.base import Tokenizer

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # of some bytes of a character, decoded


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

        Found by decoding longer and longer beginnings, and looking for what each piece adds. The
        tokenizer may change case, accents and compatible characters (½, ℃, …), and leave out
        unknown ones. Where it changes more, all pieces stand for the whole word.
        """
        if word not in self._starts:
            self._starts[word] = self._find_starts(word)
        return self._starts[word]

    def _find_starts(self, word: str) -> list[int]:
        ids = self.ids(word).tolist()
        folded = [_folded(character) for character in word]
        whole = "".join(folded)
        # Which character of the word each folded one comes from.
        origins = [index for index, part in enumerate(folded) for _ in part] + [len(word)]
        starts, place, before = [], 0, ""
        for count in range(1, len(ids) + 1):
            decoded = _folded(self._tokenizer.decode(ids[:count])).rstrip(INCOMPLETE)
            found = whole.find(decoded[len(before) :], place)
            if found < 0 or not decoded.startswith(before):
                return [0] * len(ids)
            starts.append(origins[found])
            place, before = found + len(decoded) - len(before), decoded
        return starts


def _folded(text: str) -> str:
    """What tokenizers leave of a text, whether they change it or not: no case, accents, spaces."""
    parts = unicodedata.normalize("NFKD", text).lower()
    return "".join(c for c in parts if not unicodedata.combining(c) and not c.isspace())


def words_of(text: str) -> list[tuple[str, int]]:
    """The parts of a text between white space, and where each begins."""
    return [(match.group(), match.start()) for match in re.finditer(r"\S+", text)]
