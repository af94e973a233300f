"""The lists of a store's manifest, from the surveys and shards of all bundles."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bert_jax.corpus.encode import Encoded
from bert_jax.corpus.sources import Bundle
from bert_jax.corpus.store import SPLITS, TOKENIZER, file_sha256
from bert_jax.corpus.survey import Survey

_COUNTS = ("documents", "sentences", "tokens")


def list_sources(
    bundles: Sequence[Bundle], surveys: Sequence[Survey], encoded: Sequence[Encoded]
) -> list[dict[str, Any]]:
    """For each file that was read: its bytes, a hash of its clean text, and counts by split."""
    sources: dict[str, dict[str, Any]] = {}
    for bundle, surveyed, written in zip(bundles, surveys, encoded, strict=True):
        counts, stored = surveyed.documents_by_part, written.facts["parts"]
        hashes = np.split(surveyed.document_hashes, np.cumsum(counts)[:-1])
        for part, count, part_hashes, by_split in zip(
            bundle.parts, counts, hashes, stored, strict=True
        ):
            source = sources.setdefault(
                part.name,
                {"name": part.name, "is_file": part.file_bytes is not None}
                | {"source": bundle.source.name, "bytes": part.file_bytes or 0}
                | {"documents": 0, "hash": hashlib.sha256()}
                | {split: dict.fromkeys(_COUNTS, 0) for split in SPLITS},
            )
            source["bytes"] += 0 if source["is_file"] else part.size
            source["documents"] += count
            source["hash"].update(part_hashes.astype("<u8").tobytes())
            for split in SPLITS:
                for name in _COUNTS:
                    source[split][name] += by_split[split][name]
    for source in sources.values():
        source["hash"] = source["hash"].hexdigest()
    return list(sources.values())


def count_by_source(files: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, int]]]:
    """Documents, sentences and tokens of each source by split, from what `list_sources` gave."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for file in files:
        of_source = counts.setdefault(
            file["source"], {split: dict.fromkeys(_COUNTS, 0) for split in SPLITS}
        )
        for split in SPLITS:
            for name in _COUNTS:
                of_source[split][name] += file[split][name]
    return counts


def collect_shards(
    encoded: Sequence[Encoded], bundles: Sequence[Bundle], scratch: Path
) -> dict[str, Any]:
    """Moves the shards of all bundles to their directories; the manifest's `splits` and `files`.

    `splits` has for each split its counts, its shards, and the source of each shard.
    """
    counted = ("documents", "sentences", "tokens", "characters", "unknown")
    splits: dict[str, dict[str, Any]] = {
        split: {**dict.fromkeys(counted, 0), "shards": [], "sources": []} for split in SPLITS
    }
    files = {
        f"{TOKENIZER}/{path.name}": {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted((scratch / TOKENIZER).iterdir())
    }
    for split in SPLITS:
        (scratch / split).mkdir(exist_ok=True)
        for index, (written, bundle) in enumerate(zip(encoded, bundles, strict=True)):
            facts = written.facts
            counts = facts["splits"][split]
            if not counts["documents"]:
                continue
            shard = f"{split}/{index:05d}"
            splits[split]["shards"].append(shard)
            splits[split]["sources"].append(bundle.source.name)
            for name, value in counts.items():
                splits[split][name] += value
            if not (scratch / shard).is_dir():  # else a killed build has moved it
                (written.directory / split).rename(scratch / shard)
            for name, file in facts["files"].items():
                if Path(name).parent.name == split:
                    files[f"{shard}/{Path(name).name}"] = file
    return {"splits": splits, "files": files}
