"""Tokenizers of Hugging Face's library: WordPiece, trained or by its vocab.txt, and tokenizer.json.

WordPiece as in BERT: Devlin et al. 2019, https://arxiv.org/abs/1810.04805.
"""

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from jaxtyping import Int32
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from bert_jax.common.errors import UserError
from bert_jax.corpus.settings import TokenizerSettings
from bert_jax.corpus.tokenizers.base import (
    SPECIAL_PIECES,
    Tokenizer,
    is_unspaced,
    is_unspaced_utf8,
    special_ids,
)
from bert_jax.corpus.tokenizers.sentencepiece import SPACE, too_small
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary

FILE = "tokenizer.json"

# How byte-level models write bytes: as the character of that number where it is printable, else as
# one from U+0100 on.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = sorted(set(range(0x100)) - set(_PRINTABLE))
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(0x100 + index): byte for index, byte in enumerate(_OTHERS)
}
_STEPS = ("normalizer", "pre_tokenizer", "decoder")
_PLACEHOLDER = re.compile(r"\[unused\d+\]")


class HuggingFaceTokenizer(Tokenizer):
    """A tokenizer of the `tokenizers` library."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, name: str):
        """Wraps a tokenizer; `name` is what messages call it.

        Raises:
          UserError: it lacks a special piece.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # "[MASK]" in text is text
        if tokenizer.decoder is None:
            _add_decoder(tokenizer)
        self._tokenizer = tokenizer
        self.vocabulary = _vocabulary(tokenizer, name)

    @classmethod
    def open(cls, path: Path, lowercase: bool = False) -> "HuggingFaceTokenizer":
        """Reads a `tokenizer.json`.

        Args:
          path: of the file.
          lowercase: make text lower case before all else that the tokenizer does.

        Raises:
          UserError: it is none, or lacks a special piece.
        """
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more special
            raise UserError(f"{path} is not a tokenizer.json: {error}") from error
        if lowercase:
            own = [tokenizer.normalizer] if tokenizer.normalizer else []
            tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
        return cls(tokenizer, str(path))

    @classmethod
    def from_vocabulary(cls, path: Path, lowercase: bool) -> "HuggingFaceTokenizer":
        """The WordPiece tokenizer of a BERT vocabulary, a piece a line.

        Raises:
          UserError: there is no such file, it lacks a special piece, or has no upper-case letters
            while `lowercase` is off.
        """
        if not path.is_file():
            raise UserError(f"{path} is missing: no vocab.txt is there")
        pieces = path.read_text(encoding="utf-8").split("\n")
        ids = {piece.rstrip("\r"): id for id, piece in enumerate(pieces) if piece.rstrip("\r")}
        special_ids(ids, str(path))
        if not lowercase and not any(re.match(r"[A-Z]", piece) for piece in ids):
            raise UserError(
                f"{path} has no piece with an upper-case letter: it is an uncased vocabulary, set "
                "config.tokenizer.lowercase=True"
            )
        return cls(_wordpiece(models.WordPiece(ids, unk_token="[UNK]"), lowercase), str(path))

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()[:32]

    def save(self, directory: str | Path) -> None:
        (Path(directory) / FILE).write_text(self._tokenizer.to_str(pretty=True), encoding="utf-8")
        self.vocabulary.save(Path(directory))

    def encode(self, texts: list[str]) -> list[Int32[np.ndarray, "_"]]:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def encode_with_specials(self, text: str) -> Int32[np.ndarray, "L"]:
        encoding = self._reading_specials.encode(text, add_special_tokens=False)
        return np.array(encoding.ids, np.int32)

    def reading_specials(self) -> tokenizers.Tokenizer:
        """A copy in which special pieces in text stand for themselves."""
        known = self.vocabulary
        plain = [self.piece(id) for id in (known.pad_id, known.unk_id, known.cls_id, known.sep_id)]
        mask = AddedToken(self.piece(known.mask_id), lstrip=True, normalized=False)
        copy = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        copy.add_special_tokens([*(AddedToken(piece, normalized=False) for piece in plain), mask])
        return copy

    @functools.cached_property
    def _reading_specials(self) -> tokenizers.Tokenizer:
        return self.reading_specials()

    def decode(self, ids: Sequence[int]) -> str:
        is_special = self.vocabulary.is_special
        text = self._tokenizer.decode([int(id) for id in ids if not is_special[id]])
        return text.removeprefix(" ")  # byte-level models keep the one before the first word

    def piece(self, id: int) -> str:
        return self._tokenizer.id_to_token(id) or ""


def _vocabulary(tokenizer: tokenizers.Tokenizer, name: str) -> Vocabulary:
    ids = tokenizer.get_vocab(with_added_tokens=True)
    size = max(ids.values()) + 1  # some ids may be free
    model = json.loads(tokenizer.to_str())["model"]
    continues = model.get("continuing_subword_prefix") or ""
    is_special = np.ones(size, bool)
    starts_word = np.zeros(size, bool)
    is_byte_level = _is_byte_level(tokenizer)
    for piece, id in ids.items():
        is_special[id] = _PLACEHOLDER.fullmatch(piece) is not None
        if model["type"] == "WordPiece":
            starts_word[id] = not piece.startswith(continues)
        elif model["type"] == "WordLevel":
            starts_word[id] = True
        elif is_byte_level:
            utf8 = bytes(_BYTES[character] for character in piece if character in _BYTES)
            starts_word[id] = utf8.startswith(b" ") or is_unspaced_utf8(utf8)
        else:
            starts_word[id] = piece.startswith(SPACE) or is_unspaced(piece)
    roles = special_ids(ids, name)
    added = tokenizer.get_added_tokens_decoder()
    is_special[[*roles.values(), *(id for id, token in added.items() if token.special)]] = True
    return Vocabulary(
        size=size, is_special=is_special, starts_word=starts_word & ~is_special, **roles
    )


def _add_decoder(tokenizer: tokenizers.Tokenizer) -> None:
    """Gives a tokenizer that only ever encoded the decoder that belongs to its pieces."""
    values = json.loads(tokenizer.to_str())
    if values["model"]["type"] == "WordPiece":
        tokenizer.decoder = decoders.WordPiece(values["model"]["continuing_subword_prefix"])
    elif _is_byte_level(tokenizer):
        tokenizer.decoder = decoders.ByteLevel()


def _is_byte_level(tokenizer: tokenizers.Tokenizer) -> bool:
    """Whether the pieces spell bytes, each as one character (Radford et al. 2019)."""
    values = json.loads(tokenizer.to_str())
    return '"ByteLevel"' in json.dumps([values[step] for step in _STEPS])


def _wordpiece(model: models.WordPiece, lowercase: bool) -> tokenizers.Tokenizer:
    """BERT's tokenizer around a model: words and punctuation apart, Chinese by character."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def train(paragraphs: Iterable[str], settings: TokenizerSettings) -> HuggingFaceTokenizer:
    """A WordPiece tokenizer with `settings.vocab_size` pieces, the special ones at ids 0...4.

    Raises:
      UserError: the text is too small or too varied for the vocabulary.
    """
    paragraphs = list(paragraphs)
    tokenizer = _wordpiece(models.WordPiece({}, unk_token="[UNK]"), settings.lowercase)
    alphabet = _alphabet(map(tokenizer.normalizer.normalize_str, paragraphs), settings)
    # The trainer numbers continuing characters as it meets them, in the order of a hash table that
    # differs between runs, and breaks ties by number. Named as special pieces they have theirs.
    continuing = [f"##{character}" for character in alphabet]
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=[*SPECIAL_PIECES, *continuing],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(paragraphs, trainer)
    ids = tokenizer.get_vocab()
    if len(ids) < settings.vocab_size:
        raise too_small(settings, len(ids))
    model = models.WordPiece(ids, unk_token="[UNK]")
    return HuggingFaceTokenizer(_wordpiece(model, settings.lowercase), "just trained")


def _alphabet(texts: Iterable[str], settings: TokenizerSettings) -> list[str]:
    """The characters that make up `character_coverage` of the texts, sorted.

    Raises:
      UserError: they alone fill the vocabulary.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    del counts[" "]
    by_frequency = sorted(counts, key=lambda character: (-counts[character], character))
    covered = np.cumsum([counts[character] for character in by_frequency])
    needed = 1 + int(np.searchsorted(covered, settings.character_coverage * covered[-1]))
    alphabet = sorted(by_frequency[:needed])
    needed = len(SPECIAL_PIECES) + 2 * len(alphabet)
    if settings.vocab_size < needed:
        raise UserError(
            f"config.tokenizer.vocab_size={settings.vocab_size} is too small: the characters of "
            f"the corpus alone need {needed} pieces; raise it, or lower "
            "config.tokenizer.character_coverage"
        )
    return alphabet
