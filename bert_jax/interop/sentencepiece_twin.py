"""A sentencepiece tokenizer in the `tokenizers` library."""

import json
import math
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers import sentencepiece_model
from bert_jax.corpus.tokenizers.base import SPACE
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary


def convert(serialized: bytes, vocabulary: Vocabulary, name: str) -> tokenizers.Tokenizer:
    """The same tokenizer in the `tokenizers` library.

    Pieces and scores are taken over. Special pieces typed in text stand for themselves and take
    the space before them, as `Tokenizer.encode_with_specials` has it.

    Args:
      serialized: a sentencepiece model.
      vocabulary: its special ids.
      name: what messages call the model.

    Raises:
      UserError: it is neither a unigram nor a BPE model, or marks spaces in another way than
        sentencepiece does unless told so.
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
    split = trainer.split_by_whitespace  # else there are pieces of several words
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
    """Sentencepiece's character map and handling of spaces.

    `Precompiled` applies the map to graphemes shorter than six bytes by their first match, and to
    characters elsewhere; sentencepiece applies it to the longest match. Composing before and after
    makes up for it, and so does folding case before where the map folds case. What is left are
    compatibility forms followed by a combining mark of their own.
    """
    spec = proto.normalizer_spec
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        normalize = sentencepiece.SentencePieceProcessor(
            model_proto=proto.SerializeToString()
        ).normalize
        composes = normalize("e\u0301").endswith("\u00e9")
        folds = normalize("A").endswith("a")
        composing = [normalizers.NFC()] if composes else []
        steps += composing
        if folds:
            # Sentencepiece keeps the dotted capital I, which `Lowercase` takes apart.
            steps += [normalizers.Lowercase(), normalizers.Replace("i\u0307", "\u0130")]
        steps += [normalizers.Precompiled(spec.precompiled_charsmap), *composing]
    if spec.remove_extra_whitespaces:
        # The space in front of the text is the one that Metaspace would put there.
        steps += [
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Replace(Regex(r" +\z"), ""),
        ]
    return normalizers.Sequence(steps)
