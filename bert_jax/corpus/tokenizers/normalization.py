"""Sentencepiece's normalization rules, with or without joiners kept.

The rules `nmt_nfkc` and `nmt_nfkc_cf` replace the zero-width non-joiner by a space, which splits
Persian words. They are compiled into a "charsmap": the size of a double-array trie (uint32), the
trie over UTF-8 bytes, and the texts that its leaves point to. Leaves are shared by all characters
that become the same text, so a rule is removed at the last byte of its character.
"""

import struct

import sentencepiece

from bert_jax.corpus.tokenizers import sentencepiece_model

NON_JOINER = "\u200c"
_LEAF = 1 << 31
_LABEL = 0xFF  # the bits that hold the byte of a unit; no byte of UTF-8 has all of them


def rule_name(*, lowercase: bool) -> str:
    """NFKC without control characters; with `lowercase` also case folding."""
    return "nmt_nfkc_cf" if lowercase else "nmt_nfkc"


def normalizer(rule: str, *, keep_joiners: bool) -> sentencepiece.SentencePieceNormalizer:
    """A rule of sentencepiece, or the same rule with the zero-width non-joiner as it is."""
    normalizer = sentencepiece.SentencePieceNormalizer(rule_name=rule)
    if not keep_joiners:
        return normalizer
    model = sentencepiece_model.parse(normalizer.serialized_model_proto())
    spec = model.normalizer_spec
    spec.name = f"{rule}_joiners"
    spec.precompiled_charsmap = _without_rule(spec.precompiled_charsmap, NON_JOINER)
    return sentencepiece.SentencePieceNormalizer(model_proto=model.SerializeToString())


def _without_rule(charsmap: bytes, character: str) -> bytes:
    """A charsmap that leaves `character`, for which it has a rule, as it is."""
    at = 4 + 4 * _last_unit(charsmap[4:], character.encode())
    unit = struct.unpack_from("<I", charsmap, at)[0]
    return charsmap[:at] + struct.pack("<I", unit | _LABEL) + charsmap[at + 4 :]


def _last_unit(trie: bytes, key: bytes) -> int:
    """The unit of the last byte of `key`, in the layout of darts-clone."""
    unit = struct.unpack_from("<I", trie)[0]
    position = 0
    for byte in key:
        position ^= (unit >> 10) << ((unit & 1 << 9) >> 6) ^ byte
        unit = struct.unpack_from("<I", trie, 4 * position)[0]
        if unit & (_LEAF | _LABEL) != byte:
            raise KeyError(key)
    return position
