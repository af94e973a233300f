import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.common.errors import UserError
from bert_jax.config import parse
from bert_jax.corpus.store import Split
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.mixture import Mixture
from bert_jax.stream.packed import PackedExamples
from bert_jax.stream.pairs import PairExamples
from bert_jax.stream.rows import digest
from tests.stream.parts import assert_equal, joined, part
from tests.stream.tiny_stores import MemoryStore, random_shards, vocabulary

IDS = {"a": (5, 25), "b": (25, 45), "c": (45, 64)}

weights = st.lists(st.integers(0, 2**20), min_size=1, max_size=8).filter(any)


@pytest.fixture(scope="module")
def mixed() -> MemoryStore:
    """Three sources of ids of their own: 30 documents in 2 shards, 9 in 1, 20 in 3."""

    def split(seed: int) -> Split:
        sizes = {"a": (30, 2), "b": (9, 1), "c": (20, 3)}
        shards = {name: random_shards(seed, *sizes[name], *IDS[name]) for name in sizes}
        names = [name for name in shards for _ in shards[name]]
        return Split(tuple(itertools.chain(*shards.values())), tuple(names))

    return MemoryStore(Path("m"), {"fingerprint": "m"}, {"train": split(3), "heldout": split(4)})


def deal(mixture: Mixture, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    return mixture.deal(np.arange(begin, end))


@settings(max_examples=80, deadline=None)
@given(weights, st.integers(0, 2000))
def test_every_source_has_its_share_at_every_point(weights, count):
    mixture = Mixture(tuple(weights), (0,) * len(weights))
    source, _ = deal(mixture, 0, count)
    counts = np.cumsum(source[:, None] == np.arange(len(weights)), axis=0)
    wanted = np.arange(1, count + 1)[:, None] * np.array(weights) / sum(weights)
    assert np.all(abs(counts - wanted) <= len(weights) / 2)
    assert mixture.counts(count) == np.bincount(source, minlength=len(weights)).tolist()
    assert not counts[:, np.array(weights) == 0].any()


@settings(max_examples=80, deadline=None)
@given(weights, st.integers(0, 10**15), st.integers(0, 300))
def test_a_source_continues_from_any_point_without_a_gap(weights, begin, count):
    first = tuple(range(100, 100 + len(weights)))
    mixture = Mixture(tuple(weights), first)
    source, number = deal(mixture, begin, begin + count)
    before, after = mixture.counts(begin), mixture.counts(begin + count)
    assert sum(before) == begin
    for index in range(len(weights)):
        begins, ends = first[index] + before[index], first[index] + after[index]
        assert number[source == index].tolist() == list(range(begins, ends))


def sizes_at(split: Split, objective: str, length: int) -> dict[str, int]:
    if objective == "packed":
        return PackedExamples(split, vocabulary(), length).sizes
    return PairExamples(split, vocabulary(), objective, length, 0.0).sizes


PHASES = (
    {"until": 0.3, "weights": "a=1, b=3"},
    {"until": 0.5, "global_batch_size": 4},
    {"until": 0.6, "sequence_length": 16, "weights": "c=1"},
    {"until": 1.0, "weights": "c=0.7, a=0.2, b=0.1"},
)


@pytest.mark.parametrize("objective", ["packed", "nsp"])
def test_every_source_ends_its_epochs_over_phases_of_other_weights(mixed, config, objective):
    config.stream.objective = objective
    config.total_steps = 300
    config.stream.phases = PHASES
    batches = TrainBatches(mixed, parse(config).stream)
    sizes = sizes_at(mixed.split("train"), objective, 32)
    of_source: dict[str, list[int]] = {name: [] for name in sizes}
    for phase in batches.settings.phases:
        counts = dict.fromkeys(sizes, 0)
        for step in range(phase.start, phase.stop):
            names, index = batches.sources(step), batches.example_index(step)
            for name, example in zip(names, index.tolist(), strict=True):
                counts[name] += 1
                if phase.sequence_length == 32:
                    of_source[name].append(example)
        if phase.weights:
            rows = sum(counts.values())
            shares = (
                {"a": 1 / 4, "b": 3 / 4} if phase.index == 0 else {"c": 0.7, "a": 0.2, "b": 0.1}
            )
            shares = {"c": 1.0} if phase.index == 2 else shares
            assert all(abs(counts[n] - shares.get(n, 0) * rows) <= 1.5 for n in counts)
    begin = 0
    for name, size in sizes.items():
        seen = of_source[name]
        for epoch in range(len(seen) // size):
            order = seen[epoch * size : (epoch + 1) * size]
            assert sorted(order) == list(range(begin, begin + size))
        assert len(seen) > 2 * size
        begin += size


@pytest.mark.parametrize("objective", ["packed", "nsp", "sop"])
def test_rows_are_of_their_source_alone(mixed, config, objective):
    config.stream.objective = objective
    config.stream.phases = PHASES
    batches = TrainBatches(mixed, parse(config).stream)
    found = set()
    for step in (0, 14, 20, 27, 40):
        batch, names = batches.batch(step), batches.sources(step)
        original = batch["input_ids"].copy()
        row, place = np.nonzero(batch["masked_weights"])
        original[row, batch["masked_positions"][row, place]] = batch["masked_labels"][row, place]
        for ids, name in zip(original, names, strict=True):
            low, high = IDS[name]
            text = ids[ids >= 5]
            assert len(text)
            assert np.all((text >= low) & (text < high))
            found.add(name)
    assert found == {"a", "b", "c"}


@pytest.mark.parametrize("objective", ["packed", "nsp"])
def test_mixtures_are_the_same_on_any_number_of_processes(mixed, config, objective):
    config.stream.objective = objective
    config.stream.phases = ({"until": 1.0, "global_batch_size": 16, "weights": "b=1, c=0.3"},)
    batches = TrainBatches(mixed, parse(config).stream)
    for processes in (2, 4):
        for step in (0, 31):
            parts = [batches.batch(step, part(i, processes)) for i in range(processes)]
            assert_equal(joined(parts), batches.batch(step))


def test_without_weights_sources_make_no_difference(mixed, config):
    train = mixed.split("train")
    merged = MemoryStore(Path("m"), {}, {"train": train.as_one_source()})
    assert_equal(
        TrainBatches(mixed, parse(config).stream).batch(5),
        TrainBatches(merged, parse(config).stream).batch(5),
    )
    assert set(TrainBatches(mixed, parse(config).stream).sources(5)) <= set(train.sources)


def test_a_source_can_be_evaluated_alone(tmp_path):
    from tests.corpus.corpora import build_store, documents, tiny_config, write_text

    for name in ("first", "second"):
        write_text(tmp_path / f"{name}.txt", documents(60, seed=len(name)))
    mixture = f"x=text:{tmp_path}/first.txt + y=text:{tmp_path}/second.txt"
    store = build_store(tiny_config(mixture), tmp_path / "store")
    whole, x, y = (store.split(name) for name in ("heldout", "heldout/x", "heldout/y"))
    assert x.num_documents > 0 < y.num_documents
    assert x.num_documents + y.num_documents == whole.num_documents
    with pytest.raises(UserError, match="has no source 'z'; it has x, y"):
        store.split("heldout/z")


def test_mixed_batches_never_change(mixed, config):
    config.stream.phases = PHASES
    batches = TrainBatches(mixed, parse(config).stream)
    found = [digest(batches.batch(step))[:8] for step in (0, 15, 25, 49)]
    assert found == ["d3100cd1", "3dd674e9", "13eb9bdd", "edd6ee31"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a", r"config\.stream\.weights='a': 'a' is not of the form name=weight"),
        ("a=1, b=-2", r"'b=-2' is not of the form .* not below 0"),
        ("a=x", "'a=x' is not of the form"),
        ("a=1/0", "is not of the form"),
        ("a=nan", "is not of the form"),
        ("a=1, a=2", "names 'a' twice"),
        ("a=0, b=0", "at least one weight must be above 0"),
        ("a=1, d=1", "the corpus has no source 'd'; it has a, b, c"),
        ("a=0.333333333333, b=1", "too many digits"),
    ],
)
def test_weights_that_make_no_sense_are_refused(mixed, config, value, message):
    config.stream.weights = value
    with pytest.raises(UserError, match=message):
        TrainBatches(mixed, parse(config).stream)


def test_a_source_without_examples_at_the_length_is_refused(mixed, config):
    lonely = Split(
        (*mixed.split("train").shards, *random_shards(1, 1, 1, 5, 64)),
        (*mixed.split("train").sources, "lonely"),
    )
    store = MemoryStore(Path("m"), {}, {"train": lonely})
    config.stream.weights = "a=1, lonely=0.1"
    TrainBatches(store, parse(config).stream)  # packed rows need only one document
    config.stream.objective = "nsp"  # pairs need two
    with pytest.raises(UserError, match="'lonely' has no example for rows of 32 tokens; set its"):
        TrainBatches(store, parse(config).stream)
