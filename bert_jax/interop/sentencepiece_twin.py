"""Converts a sentencepiece tokenizer to one of the `tokenizers` library."""

import json
import math
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers import sentencepiece_model
from bert_jax.corpus.tokenizers.base import JOINERS, SPACE
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary

_BORDER = "\ufdd0\ufdd1"  # noncharacters, which no text holds


def convert(serialized: bytes, vocabulary: Vocabulary, name: str) -> tokenizers.Tokenizer:
    """The same tokenizer in the `tokenizers` library.

    Tokens and scores are taken over. Special tokens typed in text give their own ids, and the space
    before them belongs to them, as in `Tokenizer.encode_with_specials`.

    Args:
      serialized: a sentencepiece model.
      vocabulary: its special ids.
      name: what messages call the model.

    Raises:
      UserError: it is neither a unigram nor a BPE model, or marks spaces in another way than
        sentencepiece does by default.
    """
    proto = sentencepiece_model.parse(serialized)
    trainer, spec = proto.trainer_spec, proto.normalizer_spec
    if trainer.treat_whitespace_as_suffix or not spec.escape_whitespaces:
        raise UserError(
            f"the tokenizer {name} was trained with treat_whitespace_as_suffix or without "
            "escape_whitespaces: it cannot be exported"
        )
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    model: models.Model
    if trainer.model_type == sentencepiece_model.UNIGRAM:
        model = models.Unigram(pieces, vocabulary.unk_id, trainer.byte_fallback)
    elif trainer.model_type == sentencepiece_model.BPE:
        model = _bpe(pieces, vocabulary.unk_id, trainer.byte_fallback)
    else:
        raise UserError(
            f"the tokenizer {name} is neither a unigram nor a BPE model of sentencepiece: only "
            "those can be exported"
        )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = _normalizer(proto)
    scheme = "first" if spec.add_dummy_prefix else "never"
    split = trainer.split_by_whitespace  # else there are tokens of several words
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme, split)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(SPACE, scheme, split)]
    )
    specials = [pieces[id][0] for id in vocabulary.is_special.nonzero()[0]]
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False) for piece in specials])
    return tokenizer


def equally_likely(exported: tokenizers.Tokenizer, first: list[int], second: list[int]) -> bool:
    """Whether two ways to cut one text have the same probability under a unigram model.

    "777" is as likely as "7" + "77" as it is the other way round. Sentencepiece adds up the scores
    in single precision and the `tokenizers` library in double; rounding decides.
    """
    model = json.loads(exported.to_str())["model"]
    if model["type"] != "Unigram":
        return False
    texts = ["".join(model["vocab"][id][0] for id in ids) for ids in (first, second)]
    scores = [sum(model["vocab"][id][1] for id in ids) for ids in (first, second)]
    return texts[0] == texts[1] and math.isclose(*scores, rel_tol=1e-5)


def _bpe(pieces: list[tuple[str, float]], unk_id: int, byte_fallback: bool) -> models.BPE:
    """Byte-pair encoding with the merges that make the pieces, those of higher scores first."""
    ids = {piece: id for id, (piece, _) in enumerate(pieces)}
    merges = sorted(
        (-score, ids[left], ids[right], left, right)
        for piece, score in pieces
        for left, right in ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        if left in ids and right in ids
    )
    return models.BPE(
        ids,
        [(left, right) for *_, left, right in merges],
        unk_token=pieces[unk_id][0],
        fuse_unk=True,
        byte_fallback=byte_fallback,
    )


def _normalizer(proto: Any) -> normalizers.Normalizer:
    """Sentencepiece's character map and handling of spaces."""
    spec = proto.normalizer_spec
    steps = _character_map(proto) if spec.precompiled_charsmap else []
    if spec.remove_extra_whitespaces:
        # The space before the text is the one that Metaspace would put there.
        steps += [
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Replace(Regex(r" +\z"), ""),
        ]
    return normalizers.Sequence(steps)


def _character_map(proto: Any) -> list[normalizers.Normalizer]:
    """The charsmap, which the two libraries apply differently.

    `Precompiled` replaces all of a grapheme shorter than six bytes by its first match, and
    characters elsewhere; sentencepiece replaces the longest match. Composing before and after
    corrects that, and so does folding case before where the map folds case. Joiners, which would
    be lost with the grapheme, are separated from it in between. The remaining differences are
    compatibility forms followed by a combining mark, and marks out of canonical order (which
    cleaned text has not).
    """
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    normalize = processor.normalize
    composing = [normalizers.NFC()] if normalize("e\u0301").endswith("\u00e9") else []
    folding: list[normalizers.Normalizer] = []
    if normalize("A").endswith("a"):
        # Sentencepiece keeps the dotted capital I, which `Lowercase` takes apart.
        folding = [normalizers.Lowercase(), normalizers.Replace("i\u0307", "\u0130")]
    return [
        *composing,
        *folding,
        *(normalizers.Replace(joiner, _BORDER + joiner) for joiner in JOINERS),
        normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
        normalizers.Replace(_BORDER, ""),
        *composing,
    ]
