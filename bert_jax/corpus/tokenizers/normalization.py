"""Sentencepiece's normalization rules, and the same ones with joiners kept.

The rules `nmt_nfkc` and `nmt_nfkc_cf` make a space of the zero-width non-joiner, which cuts Persian
words in two. They are compiled into a "charsmap": the size of a double-array trie (uint32), the
trie, and the texts that the trie's leaves point to, each with a zero byte after it.
"""

import struct

import sentencepiece

from bert_jax.corpus.tokenizers import sentencepiece_model

NON_JOINER = "\u200c"
_IS_LEAF = 1 << 31


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
    spec.precompiled_charsmap = _with_rule(spec.precompiled_charsmap, NON_JOINER, NON_JOINER)
    return sentencepiece.SentencePieceNormalizer(model_proto=model.SerializeToString())


def _with_rule(charsmap: bytes, key: str, value: str) -> bytes:
    """A charsmap in which `key`, which has a rule of its own, becomes `value`."""
    size = struct.unpack_from("<I", charsmap)[0]
    trie, texts = charsmap[4 : 4 + size], charsmap[4 + size :]
    leaf = 4 * _leaf(trie, key.encode())
    unit = struct.pack("<I", _IS_LEAF | len(texts))
    trie = trie[:leaf] + unit + trie[leaf + 4 :]
    return charsmap[:4] + trie + texts + value.encode() + b"\0"


def _leaf(trie: bytes, key: bytes) -> int:
    """The unit of a double-array trie that holds the value of `key`; as darts-clone lays it out."""
    unit = struct.unpack_from("<I", trie)[0]
    position = _offset(unit)
    for byte in key:
        position ^= byte
        unit = struct.unpack_from("<I", trie, 4 * position)[0]
        if unit & (_IS_LEAF | 0xFF) != byte:
            raise KeyError(key)
        position ^= _offset(unit)
    if not unit >> 8 & 1:
        raise KeyError(key)
    return position


def _offset(unit: int) -> int:
    """How far a unit's children are from it, to be combined by exclusive or."""
    return (unit >> 10) << ((unit & 1 << 9) >> 6)
