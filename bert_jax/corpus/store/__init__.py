"""The token store: memory-mapped arrays of token ids in shards, with a manifest."""

from bert_jax.corpus.store.token_store import (
    ARRAYS,
    FORMAT_VERSION,
    MANIFEST,
    REPORT,
    SPLITS,
    TOKENIZER,
    Shard,
    Split,
    TokenStore,
    file_sha256,
    fingerprint,
    read_manifest,
)

__all__ = [
    "ARRAYS",
    "FORMAT_VERSION",
    "MANIFEST",
    "REPORT",
    "SPLITS",
    "TOKENIZER",
    "Shard",
    "Split",
    "TokenStore",
    "file_sha256",
    "fingerprint",
    "read_manifest",
]
