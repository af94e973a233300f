"""The registry of readers: a kind of source is added from outside of the package."""

import dataclasses

from bert_jax.corpus.readers import READERS
from bert_jax.corpus.readers.base import Part, Reader
from bert_jax.corpus.sources import parse
from tests.corpus.corpora import build_store, documents, tiny_config, write_text


@dataclasses.dataclass(frozen=True)
class SeedPart:
    """Documents that are made of nothing but a seed."""

    seed: int
    count: int

    file_bytes = None
    costly = False
    in_sentences = False
    size = 1000

    @property
    def name(self) -> str:
        return f"seed {self.seed}"

    def documents(self):
        yield from documents(self.count, self.seed)


def list_parts(location, reading):
    return [SeedPart(int(seed), 40) for seed in location.split(",")]


def test_a_reader_registered_from_outside_fills_a_store(tmp_path, monkeypatch):
    monkeypatch.setitem(READERS, "seed", Reader("seed:NUMBERS", list_parts, reads_files=False))
    path = write_text(tmp_path / "a.txt", documents(40, 1) + documents(40, 2))
    (source,) = parse("seed:1,2")
    assert all(isinstance(part, Part) for part in list_parts(source.location, None))
    store = build_store(tiny_config("seed:1,2"), tmp_path / "store")
    assert [entry["name"] for entry in store.manifest["sources"]] == ["seed 1", "seed 2"]
    same = build_store(tiny_config(f"text:{path}"), tmp_path / "same")
    assert store.fingerprint == same.fingerprint
    build_store(tiny_config("seed:1,2"), tmp_path / "store")  # opens it again
