"""Sentencepiece tokenizers: trained on a sample of the corpus, or existing models.

Unigram language model: Kudo 2018, https://arxiv.org/abs/1804.10959.
"""

import functools
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import sentencepiece
from jaxtyping import Int32

from bert_jax.corpus.settings import TokenizerSettings
from bert_jax.corpus.tokenizer import SPECIAL_PIECES, Tokenizer
from bert_jax.corpus.vocabulary import Vocabulary
from bert_jax.errors import UserError

MODEL = "sentencepiece.model"
SPACE = "\u2581"  # the mark of a space that pieces carry in front

# What the five roles are called in published models.
_ROLES = {
    "pad_id": ("[PAD]", "<pad>"),
    "unk_id": ("[UNK]", "<unk>"),
    "cls_id": ("[CLS]", "<s>", "<cls>"),
    "sep_id": ("[SEP]", "</s>", "<sep>"),
    "mask_id": ("[MASK]", "<mask>"),
}

# The threads share the sums of expected counts, and so decide the last bits of the scores: a fixed
# number gives the same model on every machine.
_TRAINING_THREADS = 4

# Scripts written without spaces: there each piece counts as a word of its own.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)


class SentencePieceTokenizer(Tokenizer):
    """A sentencepiece model of any type, unigram or BPE."""

    def __init__(self, model: bytes, name: str):
        """Wraps a serialized model; `name` is what messages call it.

        Raises:
          UserError: it is not a sentencepiece model, or lacks a special piece.
        """
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise UserError(f"{name} is not a sentencepiece model") from error
        self._model = model
        self.vocabulary = _vocabulary(self._processor, name)

    @classmethod
    def open(cls, path: Path) -> "SentencePieceTokenizer":
        """Reads a model file, or the one in the directory of a token store.

        Raises:
          UserError: there is no such file, or it is no model with the five special pieces.
        """
        path = path / MODEL if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"{path} is missing: no sentencepiece model is there")
        return cls(path.read_bytes(), str(path))

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._model).hexdigest()[:32]

    def save(self, directory: str | Path) -> None:
        (Path(directory) / MODEL).write_bytes(self._model)
        self.vocabulary.save(Path(directory))

    def encode(self, texts: list[str]) -> list[Int32[np.ndarray, "_"]]:
        # One thread: the corpus is encoded by several processes already.
        return self._processor.encode(texts, return_type="numpy", num_threads=1)

    def encode_continuation(self, text: str) -> Int32[np.ndarray, "_"]:
        return self._continuation.encode(text, return_type="numpy")

    def decode(self, ids: Sequence[int]) -> str:
        is_special = self.vocabulary.is_special
        return self._processor.decode([int(id) for id in ids if not is_special[id]])

    def piece(self, id: int) -> str:
        return self._processor.id_to_piece(id)

    @functools.cached_property
    def _continuation(self) -> sentencepiece.SentencePieceProcessor:
        """The same model without the space that it puts before every text."""
        from sentencepiece import sentencepiece_model_pb2

        model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
        model.ParseFromString(self._model)
        model.normalizer_spec.add_dummy_prefix = False
        return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def _vocabulary(processor: sentencepiece.SentencePieceProcessor, name: str) -> Vocabulary:
    pieces = [processor.id_to_piece(id) for id in range(processor.get_piece_size())]
    ids = {piece: id for id, piece in enumerate(pieces)}
    roles: dict[str, int] = {}
    for role, names in _ROLES.items():
        found = [ids[piece] for piece in names if piece in ids]
        if not found:
            raise UserError(
                f"the tokenizer {name} has no piece {' or '.join(names)}, which BERT needs; train "
                "one with it (config.tokenizer.path=''), or add it to the model"
            )
        roles[role] = found[0]
    is_special = np.array(
        [processor.IsControl(id) or processor.IsUnused(id) for id in range(len(pieces))]
    )
    is_special[list(roles.values())] = True
    starts_word = np.array(
        [piece.startswith(SPACE) or bool(_UNSPACED.match(piece)) for piece in pieces]
    )
    return Vocabulary(
        size=len(pieces), is_special=is_special, starts_word=starts_word & ~is_special, **roles
    )


def train(paragraphs: Iterable[str], settings: TokenizerSettings) -> SentencePieceTokenizer:
    """A unigram tokenizer with `settings.vocab_size` pieces, the special ones at ids 0...4.

    Raises:
      UserError: the text is too small or too varied for the vocabulary.
    """
    model = io.BytesIO()
    pad, unk, *control = SPECIAL_PIECES
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(paragraphs),
            model_writer=model,
            model_type=settings.kind,
            vocab_size=settings.vocab_size,
            character_coverage=settings.character_coverage,
            normalization_rule_name="nmt_nfkc_cf" if settings.lowercase else "nmt_nfkc",
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            pad_piece=pad,
            unk_piece=unk,
            control_symbols=control,
            max_sentence_length=1 << 18,  # bytes; longer paragraphs would be skipped
            num_threads=_TRAINING_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _training_error(str(error), settings) from error
    return SentencePieceTokenizer(model.getvalue(), "just trained")


def _training_error(message: str, settings: TokenizerSettings) -> UserError:
    if match := re.search(r"value <= (\d+)", message):
        return UserError(
            f"the corpus is too small for config.tokenizer.vocab_size={settings.vocab_size}: its "
            f"text gives at most {match[1]} pieces; lower it to that, or add text"
        )
    if match := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"config.tokenizer.vocab_size={settings.vocab_size} is too small: the characters of "
            f"the corpus alone need {match[1]} pieces; raise it, or lower "
            "config.tokenizer.character_coverage"
        )
    return UserError(f"no tokenizer could be trained on the corpus: {message}")
