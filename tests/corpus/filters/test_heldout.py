import random

import numpy as np
import pytest

from bert_jax.corpus.filters.dedup import document_hash
from bert_jax.corpus.filters.heldout import Chooser, HeldOut, heldout_below


def test_the_held_out_share_is_the_fraction():
    hashes = [document_hash([f"document {i}"]) for i in range(4000)]
    heldout = sum(hash < heldout_below(0.1) for hash in hashes)
    assert 310 < heldout < 490  # 400 +- 4.7 standard deviations
    assert not any(hash < heldout_below(0.0) for hash in hashes)
    assert all(hash < heldout_below(1.0) for hash in hashes)


def hashes_of(count, seed=0):
    random_hashes = random.Random(seed)
    return np.array([random_hashes.getrandbits(64) for _ in range(count)], np.uint64)


def choose(fraction, *bundles):
    """The rule, and the hashes that it holds out; a bundle is hashes, and lengths or one length."""
    chooser = Chooser(fraction)
    for hashes, lengths in bundles:
        chooser.add(hashes, np.broadcast_to(np.asarray(lengths, np.int64), hashes.shape))
    rule, count = chooser.choose()
    held = {int(hash) for hashes, _ in bundles for hash in hashes if rule.holds(int(hash))}
    assert len(held) == count
    return rule, held


@pytest.mark.parametrize(
    ("documents", "length", "expected"),
    [
        (445, 9000, 20),  # laws: one of them was held out
        (308, 5000, 20),
        (60, 9000, 6),  # a tenth, rounded up
        (61, 9000, 7),
        (2, 9000, 1),
        (2000, 1000, 50),  # 50,000 characters
        (2000, 100, 200),  # not more than a tenth
    ],
)
def test_a_small_corpus_has_a_floor(documents, length, expected):
    hashes = hashes_of(documents)
    hashes = hashes[hashes >= heldout_below(0.002)]
    missing = documents - len(hashes)
    hashes = np.concatenate([hashes, (1 << 63) + np.arange(missing, dtype=np.uint64)])
    rule, held = choose(0.002, (hashes, length))
    assert held == set(np.sort(hashes)[-expected:].tolist())
    assert rule.below == heldout_below(0.002)


def test_a_corpus_that_has_enough_is_split_by_its_fraction_alone():
    hashes = hashes_of(3000)
    rule, held = choose(0.01, (hashes, 2000))
    assert rule == HeldOut(heldout_below(0.01))
    assert rule.as_facts() == {"below": "028f5c28f5c28f60", "start": None}
    assert 20 <= len(held) < 45


def test_no_floor_is_added_where_nothing_is_to_be_held_out():
    assert choose(0.0, (hashes_of(100), 2000))[1] == set()


def test_the_floor_does_not_depend_on_the_order_or_on_the_bundles():
    hashes = hashes_of(300)
    lengths = np.random.default_rng(0).integers(1, 5000, 300)
    expected = choose(0.001, (hashes, lengths))
    order = np.random.default_rng(1).permutation(300)
    parts = [(hashes[own], lengths[own]) for own in np.split(order, [7, 7, 150])]
    assert choose(0.001, *parts) == expected


def test_documents_below_the_fraction_stay_when_others_are_added():
    hashes, more = hashes_of(200), hashes_of(4000, seed=1)
    rule, held = choose(0.02, (hashes, 2000))
    after, held_after = choose(0.02, (hashes, 2000), (more, 2000))
    assert after == HeldOut(rule.below)
    assert {hash for hash in held if hash < rule.below} <= held_after
