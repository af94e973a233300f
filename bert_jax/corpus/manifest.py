"""Putting the parts of a store together: the lists of its manifest."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bert_jax.corpus.encode import Encoded
from bert_jax.corpus.sources import Part
from bert_jax.corpus.store import SPLITS, TOKENIZER, file_sha256
from bert_jax.corpus.survey import Survey

_COUNTS = ("documents", "sentences", "tokens")


def list_sources(
    weighted: Sequence[tuple[Part, float]], surveys: Sequence[Survey], encoded: Sequence[Encoded]
) -> list[dict[str, Any]]:
    """Of each file that was read: its bytes, a hash of its clean text, and what of it is stored."""
    sources: dict[str, dict[str, Any]] = {}
    for (part, weight), found, stored in zip(weighted, surveys, encoded, strict=True):
        source = sources.setdefault(
            part.name,
            {"name": part.name, "is_file": part.file_bytes is not None, "weight": weight}
            | {"bytes": part.file_bytes or 0, "documents": 0, "hash": hashlib.sha256()}
            | {split: dict.fromkeys(_COUNTS, 0) for split in SPLITS},
        )
        source["bytes"] += 0 if source["is_file"] else part.size
        source["documents"] += found.counts["documents"]
        source["hash"].update(found.document_hashes.astype("<u8").tobytes())
        for split in SPLITS:
            for name in _COUNTS:
                source[split][name] += stored.facts["splits"][split][name]
    for source in sources.values():
        source["hash"] = source["hash"].hexdigest()
    return list(sources.values())


def collect_shards(
    encoded: Sequence[Encoded], weights: Sequence[float], scratch: Path
) -> dict[str, Any]:
    """Moves the shards of all parts to their places; the manifest's `splits` and `files`.

    A training shard of weight 2 is listed, and counted, twice.
    """
    splits: dict[str, dict[str, Any]] = {
        split: {"documents": 0, "sentences": 0, "tokens": 0, "characters": 0, "unknown": 0}
        for split in SPLITS
    }
    files = {
        f"{TOKENIZER}/{path.name}": {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted((scratch / TOKENIZER).iterdir())
    }
    for split in SPLITS:
        (scratch / split).mkdir(exist_ok=True)
        shards = []
        for index, (part, weight) in enumerate(zip(encoded, weights, strict=True)):
            facts = part.facts
            counts = facts["splits"][split]
            if not counts["documents"]:
                continue
            shard = f"{split}/{index:05d}"
            times = max(1, int(weight)) if split == "train" else 1
            shards += [shard] * times
            for name, value in counts.items():
                splits[split][name] += value * times
            if not (scratch / shard).is_dir():  # else a build was killed after it moved it
                (part.directory / split).rename(scratch / shard)
            for name, file in facts["files"].items():
                if Path(name).parent.name == split:
                    files[f"{shard}/{Path(name).name}"] = file
        splits[split]["shards"] = shards
    return {"splits": splits, "files": files}
