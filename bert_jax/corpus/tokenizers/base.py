"""The small interface that every tokenizer of a token store has."""

import abc
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.settings import TokenizerSettings
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary

SPACE = "\u2581"  # the mark of a space that sentencepiece's tokens have at their start
# Zero-width non-joiner and joiner: they spell words of Persian and of Indic scripts, and emoji.
JOINERS = ("\u200c", "\u200d")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0...4 where we train

# What the five roles are called in published tokenizers.
_ROLES = {
    "pad_id": ("[PAD]", "<pad>"),
    "unk_id": ("[UNK]", "<unk>"),
    "cls_id": ("[CLS]", "<s>", "<cls>"),
    "sep_id": ("[SEP]", "</s>", "<sep>"),
    "mask_id": ("[MASK]", "<mask>"),
}

# Scripts written without spaces: there each token counts as a word.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)


class Tokenizer(abc.ABC):
    """Text to ids and back. `vocabulary` holds what needs no text."""

    vocabulary: Vocabulary

    @property
    def vocab_size(self) -> int:
        return self.vocabulary.size

    @functools.cached_property
    def joint(self) -> str:
        """What is put before a sentence that follows another one.

        A space for tokenizers that recognize the start of a word only by it, as byte-level ones
        do; nothing for all others.
        """
        alone, spaced = self.encode(["a", " a"])
        starts = self.vocabulary.starts_word
        needs_space = not starts[alone[:1]].any() and starts[spaced[:1]].any()
        return " " if needs_space else ""

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
    def encode_with_specials(self, text: str) -> Int32[np.ndarray, "L"]:
        """The ids of `text`, in which special tokens such as "[MASK]" give their own ids.

        White space before [MASK] belongs to it, as in training text.
        """

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Plain text; special ids are left out."""

    def user_symbols(self) -> list[int]:
        """The ids of symbols that users defined: found in text before all else."""
        return []

    @abc.abstractmethod
    def piece(self, id: int) -> str:
        """How the vocabulary spells a token."""


def special_ids(ids: Mapping[str, int], name: str, unk_id: int | None = None) -> dict[str, int]:
    """The ids of the five roles, as fields of a `Vocabulary`.

    Args:
      ids: of all tokens of a tokenizer.
      name: what messages call the tokenizer.
      unk_id: what the tokenizer itself gives for unknown text; None: it does not say.

    Raises:
      UserError: roles have no token.
    """
    roles: dict[str, int] = {}
    missing: list[str] = []
    for role, names in _ROLES.items():
        found = [ids[piece] for piece in names if piece in ids]
        if role == "unk_id" and unk_id is not None:
            roles[role] = unk_id
        elif found:
            roles[role] = found[0]
        else:
            missing.append(" or ".join(names))
    if missing:
        raise UserError(
            f"the tokenizer {name} has no token {', and no '.join(missing)}; BERT needs them: let "
            "bert_jax train a tokenizer (config.tokenizer.path=''), or make this one again with "
            "them as its special tokens (spm_train calls them --control_symbols)"
        )
    return roles


class VocabularyTooLargeError(UserError):
    """The text gives fewer tokens than wanted.

    Attributes:
      largest: how many it gives.
    """

    def __init__(self, settings: TokenizerSettings, largest: int):
        super().__init__(
            f"the corpus is too small for config.tokenizer.vocab_size={settings.vocab_size}: its "
            f"text gives at most {largest} tokens, many of them rare; lower it, best to well below "
            "that, or add text"
        )
        self.largest = largest


def vocabulary_too_small(settings: TokenizerSettings, needed: int) -> UserError:
    """The alphabet alone has more tokens than wanted."""
    return UserError(
        f"config.tokenizer.vocab_size={settings.vocab_size} is too small: the characters of "
        f"the corpus alone need {needed} tokens; raise it, or lower "
        "config.tokenizer.character_coverage"
    )


def is_unspaced(piece: str) -> bool:
    """Whether a text begins in a script that is written without spaces."""
    return _UNSPACED.match(piece) is not None


def is_unspaced_utf8(piece: bytes) -> bool:
    """The same for a token of UTF-8 that may begin or end within a character.

    The first bytes of a character count as what most characters with these bytes are; bytes from
    within a character continue a word.
    """
    lead = piece[:1]
    length = 2 if lead < b"\xe0" else 3 if lead < b"\xf0" else 4
    if not b"\xc2" <= lead <= b"\xf4" or len(piece) >= length:
        return is_unspaced(piece[:length].decode("utf-8", "ignore"))
    missing = length - len(piece)
    code = lead[0] & (0x7F >> length)
    for byte in piece[1:]:
        code = code << 6 | byte & 0x3F
    begin, end = code << 6 * missing, min((code + 1) << 6 * missing, 0x110000)
    characters = "".join(map(chr, range(begin, end)))
    return 2 * len(_UNSPACED.findall(characters)) > end - begin
