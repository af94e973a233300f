"""Sentencepiece tokenizers: trained on a sample of the corpus, or existing models.

Unigram language model: Kudo 2018, https://arxiv.org/abs/1804.10959. Byte pair encoding: Sennrich et
al. 2016, https://arxiv.org/abs/1508.07909.
"""

import functools
import hashlib
import io
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from jaxtyping import Int32

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers import normalization, sentencepiece_model
from bert_jax.corpus.tokenizers.base import (
    JOINERS,
    SPACE,
    SPECIAL_TOKENS,
    Tokenizer,
    VocabularyTooLargeError,
    is_unspaced,
    is_unspaced_utf8,
    special_ids,
    vocabulary_too_small,
)
from bert_jax.corpus.tokenizers.settings import TokenizerSettings
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary

MODEL = "sentencepiece.model"
_LETTERS = [*string.ascii_uppercase, *string.ascii_lowercase]

# The number of threads decides the order in which expected counts are summed, and so the last bits
# of the scores: a fixed number gives the same model on every machine.
_TRAINING_THREADS = 4


class SentencePieceTokenizer(Tokenizer):
    """A sentencepiece model of any type, unigram or BPE."""

    def __init__(self, model: bytes, name: str):
        """Wraps a serialized model; `name` is what messages call it.

        Raises:
          UserError: it is not a sentencepiece model, or lacks a special token.
        """
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise UserError(f"{name} is not a sentencepiece model") from error
        self.vocabulary = _vocabulary(self._processor, name)
        special = np.flatnonzero(self.vocabulary.is_special).tolist()
        self._model = sentencepiece_model.with_control_pieces(model, special)
        self._processor.LoadFromSerializedProto(self._model)

    @classmethod
    def load(cls, path: Path) -> "SentencePieceTokenizer":
        """Reads the model that `save` wrote."""
        return cls(path.read_bytes(), str(path))

    @classmethod
    def open(
        cls, path: Path, lowercase: bool = False, strip_accents: str = "auto"
    ) -> "SentencePieceTokenizer":
        """Reads an existing model.

        Args:
          path: of the model.
          lowercase: the model was trained on lower-case text; lower-case its input.
          strip_accents: must not be "yes".

        Raises:
          UserError: there is no such file, it is not a model with the five special tokens, it has
            no upper-case letters while `lowercase` is off, or accents cannot be stripped.
        """
        _refuse_stripping(strip_accents)
        if not path.is_file():
            raise UserError(f"{path} is missing: there is no sentencepiece model")
        tokenizer = cls(path.read_bytes(), str(path))
        if lowercase:
            return cls(_folding_case(tokenizer), str(path))
        unknown = [tokenizer.vocabulary.unk_id in ids for ids in tokenizer.encode(_LETTERS)]
        if all(unknown[:26]) and not any(unknown[26:]):
            raise UserError(
                f"{path} has no upper-case letter: it is a model for text in lower case, set "
                "config.tokenizer.lowercase=True"
            )
        return tokenizer

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._model).hexdigest()[:32]

    def save(self, directory: str | Path) -> None:
        (Path(directory) / MODEL).write_bytes(self._model)
        self.vocabulary.save(Path(directory))

    def encode(self, texts: list[str]) -> list[Int32[np.ndarray, "_"]]:
        # One thread: the corpus is encoded by several processes already.
        return self._processor.encode(texts, return_type="numpy", num_threads=1)

    def encode_with_specials(self, text: str) -> Int32[np.ndarray, "L"]:
        special = {self.piece(int(i)): int(i) for i in np.flatnonzero(self.vocabulary.is_special)}
        pattern = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
        ids: list[np.ndarray] = []
        after_special = False
        for text_or_special in re.split(rf"\s*({pattern})", text):
            if text_or_special in special:
                ids.append(np.array([special[text_or_special]], np.int32))
                after_special = True
            elif text_or_special.strip():
                continues = after_special and not text_or_special[0].isspace()
                processor = self._continuation if continues else self._processor
                ids.append(processor.encode(text_or_special, return_type="numpy"))
        return np.concatenate(ids) if ids else np.zeros(0, np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        is_special = self.vocabulary.is_special
        return self._processor.decode([int(id) for id in ids if not is_special[id]])

    def user_symbols(self) -> list[int]:
        return sentencepiece_model.user_defined(sentencepiece_model.parse(self._model))

    def piece(self, id: int) -> str:
        return self._processor.id_to_piece(id)

    @functools.cached_property
    def _continuation(self) -> sentencepiece.SentencePieceProcessor:
        """The same model without the space that it puts before every text.

        For text that continues a word, as "." does.
        """
        model = sentencepiece_model.parse(self._model)
        model.normalizer_spec.add_dummy_prefix = False
        return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def _vocabulary(processor: sentencepiece.SentencePieceProcessor, name: str) -> Vocabulary:
    pieces = [processor.id_to_piece(id) for id in range(processor.get_piece_size())]
    ids = {piece: id for id, piece in enumerate(pieces)}
    roles = special_ids(ids, name, processor.unk_id())
    is_special = np.array(
        [processor.IsControl(id) or processor.IsUnused(id) for id in range(len(pieces))]
    )
    is_special[list(roles.values())] = True
    starts_word = np.array([piece.startswith(SPACE) or is_unspaced(piece) for piece in pieces])
    for byte in filter(processor.IsByte, range(len(pieces))):  # pieces such as <0xE6>
        starts_word[byte] = is_unspaced_utf8(bytes.fromhex(pieces[byte][3:5]))
    return Vocabulary(
        size=len(pieces), is_special=is_special, starts_word=starts_word & ~is_special, **roles
    )


def train(paragraphs: list[str], settings: TokenizerSettings) -> SentencePieceTokenizer:
    """A tokenizer with `settings.vocab_size` tokens, the special ones at ids 0...4.

    Joiners that occur in the text are in the vocabulary, and so is the space mark: it precedes
    every text, even where words are so long that it is rarer than the characters that
    `settings.character_coverage` leaves out.

    Args:
      paragraphs: text to train on.
      settings: `kind` is unigram or bpe.

    Raises:
      UserError: the text is too small or too varied for the vocabulary, or accents are to be
        stripped.
    """
    _refuse_stripping(settings.strip_accents)
    required = [joiner for joiner in JOINERS if any(joiner in text for text in paragraphs)]
    keep_joiners = normalization.NON_JOINER in required or settings.byte_fallback
    if _spaces_are_rare(paragraphs, settings.character_coverage):
        required.append(SPACE)
    rule = normalization.rule_name(lowercase=settings.lowercase)
    # Only text with joiners or with rare spaces needs options; without them, the models of other
    # text stay the same, byte for byte.
    options: dict[str, Any] = {"normalization_rule_name": rule}
    if keep_joiners:
        options = {"normalizer": normalization.normalizer(rule, keep_joiners=True)}
    if required:
        options["required_chars"] = "".join(required)
    model = io.BytesIO()
    pad, unk, *control = SPECIAL_TOKENS
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(paragraphs),
            model_writer=model,
            model_type=settings.kind,
            vocab_size=settings.vocab_size,
            character_coverage=settings.character_coverage,
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            pad_piece=pad,
            unk_piece=unk,
            control_symbols=control,
            byte_fallback=settings.byte_fallback,
            max_sentence_length=1 << 18,  # bytes; longer paragraphs would be skipped
            num_threads=_TRAINING_THREADS,
            minloglevel=2,
            **options,
        )
    except RuntimeError as error:
        raise _training_error(str(error), settings) from error
    return SentencePieceTokenizer(model.getvalue(), "just trained")


def _spaces_are_rare(paragraphs: list[str], character_coverage: float) -> bool:
    """Whether the mark of a space may be among the characters that are left out."""
    spaces = sum(text.count(" ") + 1 for text in paragraphs)
    return spaces < 2 * (1 - character_coverage) * sum(map(len, paragraphs))


def _folding_case(tokenizer: SentencePieceTokenizer) -> bytes:
    """The model with NFKC and case folding as its normalization."""
    joined = f"a{normalization.NON_JOINER}b"
    keep_joiners = joined in tokenizer._processor.normalize(joined)
    rule = normalization.rule_name(lowercase=True)
    folding = normalization.normalizer(rule, keep_joiners=keep_joiners)
    spec = sentencepiece_model.parse(folding.serialized_model_proto()).normalizer_spec
    return sentencepiece_model.with_normalization(
        tokenizer._model, spec.name, spec.precompiled_charsmap
    )


def _refuse_stripping(strip_accents: str) -> None:
    if strip_accents == "yes":
        raise UserError(
            "config.tokenizer.strip_accents='yes': sentencepiece tokenizers keep accents; write "
            "'auto', or use config.tokenizer.kind='wordpiece'"
        )


def _training_error(message: str, settings: TokenizerSettings) -> UserError:
    if match := re.search(r"value <= (\d+)", message):
        return VocabularyTooLargeError(settings, int(match[1]))
    if match := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return vocabulary_too_small(settings, int(match[1]))
    return UserError(f"no tokenizer could be trained on the corpus: {message}")
