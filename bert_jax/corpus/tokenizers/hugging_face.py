"""Tokenizers of Hugging Face's `tokenizers` library: any `tokenizer.json`."""

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from jaxtyping import Int32
from tokenizers import AddedToken, decoders, normalizers

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import (
    SPACE,
    Tokenizer,
    is_unspaced,
    is_unspaced_utf8,
    special_ids,
)
from bert_jax.corpus.tokenizers.text_files import read_utf8
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
_UNREACHABLE = "\ufdd0\ufdd1\ufdd0\ufdd1"  # noncharacters, which no text holds


class HuggingFaceTokenizer(Tokenizer):
    """A tokenizer of the `tokenizers` library."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, name: str):
        """Wraps a tokenizer; `name` is what messages call it.

        Raises:
          UserError: it lacks a special token.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if tokenizer.decoder is None:
            _add_decoder(tokenizer)
        self._name = name
        self._tokenizer = _with_unknown(tokenizer, name)
        self.vocabulary = _vocabulary(self._tokenizer, name)
        self._literal = _literal(self._tokenizer, self.vocabulary)

    @classmethod
    def load(cls, path: Path) -> "HuggingFaceTokenizer":
        """Reads the file that `save` wrote.

        Raises:
          UserError: it is damaged.
        """
        text = read_utf8(path)
        try:
            return cls(tokenizers.Tokenizer.from_str(text), str(path))
        except UserError:
            raise
        except Exception as error:  # the library raises no subclass
            raise UserError(f"{path} is not a tokenizer.json: {error}") from error

    @classmethod
    def open(
        cls, path: Path, lowercase: bool = False, strip_accents: str = "auto"
    ) -> "HuggingFaceTokenizer":
        """Reads an existing `tokenizer.json`.

        Args:
          path: of the file.
          lowercase: convert text to lower case before the tokenizer's own steps.
          strip_accents: "auto" leaves accents to the tokenizer's own normalizer; "yes" and "no"
            take its place.

        Raises:
          UserError: it is no such file, or lacks a special token.
        """
        tokenizer = cls.load(path)
        if lowercase and not _lowers_case(tokenizer._tokenizer):
            tokenizer = tokenizer._normalizing_first(normalizers.Lowercase())
        if strip_accents == "yes":
            strip = [normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()]
            tokenizer = tokenizer._normalizing_first(*strip)
        elif strip_accents == "no":
            values = json.loads(tokenizer._tokenizer.to_str())
            values["normalizer"] = _keeping_accents(values["normalizer"])
            tokenizer = cls(tokenizers.Tokenizer.from_str(json.dumps(values)), str(path))
        return tokenizer

    def _normalizing_first(self, *steps: normalizers.Normalizer) -> "HuggingFaceTokenizer":
        """The tokenizer with steps before its own normalizer."""
        existing = [self._tokenizer.normalizer] if self._tokenizer.normalizer else []
        self._tokenizer.normalizer = normalizers.Sequence([*steps, *existing])
        return HuggingFaceTokenizer(self._tokenizer, self._name)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()[:32]

    def save(self, directory: str | Path) -> None:
        (Path(directory) / FILE).write_text(self._tokenizer.to_str(pretty=True), encoding="utf-8")
        self.vocabulary.save(Path(directory))

    def encode(self, texts: list[str]) -> list[Int32[np.ndarray, "_"]]:
        encodings = self._literal.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def encode_with_specials(self, text: str) -> Int32[np.ndarray, "L"]:
        encoding = self._reading_specials.encode(text, add_special_tokens=False)
        return np.array(encoding.ids, np.int32)

    def reading_specials(self) -> tokenizers.Tokenizer:
        """A copy for text in which special tokens such as "[MASK]" give their own ids."""
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
        return text.removeprefix(" ")  # byte-level models keep the space before the first word

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
    roles = special_ids(ids, name, _unknown_id(model, ids))
    added = tokenizer.get_added_tokens_decoder()
    is_special[[*roles.values(), *(id for id, token in added.items() if token.special)]] = True
    return Vocabulary(
        size=size, is_special=is_special, starts_word=starts_word & ~is_special, **roles
    )


def _unknown_id(model: dict[str, Any], ids: dict[str, int]) -> int | None:
    """The id that a model gives for unknown text; None: it drops such text, or fails."""
    if model["type"] == "Unigram":
        return model["unk_id"]
    return ids.get(model["unk_token"] or "")


def _with_unknown(tokenizer: tokenizers.Tokenizer, name: str) -> tokenizers.Tokenizer:
    """The tokenizer, changed if necessary so that unknown text gives the unknown token.

    A model that names none fails on such text (Unigram, WordPiece, WordLevel) or drops it (BPE):
    it gets the token that has this role. Byte-level models with all bytes know all text.

    Raises:
      UserError: there is no such token.
    """
    values = json.loads(tokenizer.to_str())
    model = values["model"]
    ids = tokenizer.get_vocab(with_added_tokens=True)
    knows_bytes = _is_byte_level(tokenizer) and all(byte in ids for byte in _BYTES)
    if _unknown_id(model, ids) is not None or (model["type"] == "BPE" and knows_bytes):
        return tokenizer
    id = special_ids(ids, name)["unk_id"]
    piece = tokenizer.id_to_token(id)
    if model["type"] == "Unigram":
        if id >= len(model["vocab"]):
            raise UserError(
                f"the tokenizer {name} names no unknown token in its model (unk_id), and its "
                f"{piece!r} is not one of the model's tokens: set unk_id in the file"
            )
        model["unk_id"] = id
    else:
        model["vocab"][piece] = id
        model["unk_token"] = piece
    return tokenizers.Tokenizer.from_str(json.dumps(values))


def _literal(tokenizer: tokenizers.Tokenizer, vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    """A copy that reads special tokens as text: "[MASK]" gives no special id.

    The library can switch off its search for added tokens, but its models may contain special
    tokens too. So in this copy special tokens have names that no text spells.
    """
    special = {tokenizer.id_to_token(int(id)) for id in np.flatnonzero(vocabulary.is_special)}

    def hidden(piece: str) -> str:
        return _UNREACHABLE + piece if piece in special else piece

    values = json.loads(tokenizer.to_str())
    model = values["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [[hidden(piece), score] for piece, score in model["vocab"]]
    else:
        model["vocab"] = {hidden(piece): id for piece, id in model["vocab"].items()}
        model["unk_token"] = hidden(model["unk_token"]) if model["unk_token"] else None
    if model["type"] == "BPE":
        cut = len(model["continuing_subword_prefix"] or "")
        model["merges"] = [
            [left, right]
            for left, right in model["merges"]
            if not special & {left, right, left + right[cut:]}
        ]
    for token in values["added_tokens"]:
        token["special"] |= token["content"] in special
        token["content"] = hidden(token["content"])
    values["post_processor"] = None
    copy = tokenizers.Tokenizer.from_str(json.dumps(values))
    copy.encode_special_tokens = True
    return copy


def _lowers_case(tokenizer: tokenizers.Tokenizer) -> bool:
    normalizer = tokenizer.normalizer
    return normalizer is not None and "a" in normalizer.normalize_str("A")


def _keeping_accents(normalizer: Any) -> Any:
    """The JSON of a normalizer without the steps that strip accents."""
    if not normalizer or normalizer["type"] == "StripAccents":
        return None
    if normalizer["type"] == "Sequence":
        steps = map(_keeping_accents, normalizer["normalizers"])
        return {**normalizer, "normalizers": [step for step in steps if step]}
    if "strip_accents" in normalizer:
        return {**normalizer, "strip_accents": False}
    return normalizer


def _add_decoder(tokenizer: tokenizers.Tokenizer) -> None:
    """Sets the decoder that belongs to the model."""
    values = json.loads(tokenizer.to_str())
    if values["model"]["type"] == "WordPiece":
        tokenizer.decoder = decoders.WordPiece(values["model"]["continuing_subword_prefix"])
    elif _is_byte_level(tokenizer):
        tokenizer.decoder = decoders.ByteLevel()


def _is_byte_level(tokenizer: tokenizers.Tokenizer) -> bool:
    """Whether tokens represent bytes, each as one character (Radford et al. 2019)."""
    values = json.loads(tokenizer.to_str())
    return '"ByteLevel"' in json.dumps([values[step] for step in _STEPS])
