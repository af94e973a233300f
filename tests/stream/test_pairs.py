import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.common.errors import UserError
from bert_jax.corpus.store import Split
from bert_jax.stream.pairs import PairExamples, coin_flips, truncated_lengths
from bert_jax.stream.randomness import bits
from bert_jax.stream.rows import Batch
from tests.stream.paper import truncate_seq_pair
from tests.stream.tiny_stores import CLS, SEP, draw, numbered_split, random_split, texts, vocabulary

lengths = st.lists(
    st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=6), max_size=6), min_size=1
)


def has_pairs(parts: list[list[list[int]]]) -> bool:
    documents = [document for part in parts for document in part]
    return len(documents) >= 2 and any(len(document) >= 2 for document in documents)


def epoch_of(split: Split, length: int, short_fraction: float, objective: str = "nsp") -> Batch:
    examples = PairExamples(split, vocabulary(), objective, length, short_fraction)
    index = np.arange(examples.sizes["all"])
    return examples.rows(index, np.zeros_like(index), draw(examples.sizes["all"]))


def sides(batch: Batch):
    """(A, B, label) of each row, after checking how it is framed."""
    for ids, types, segments, positions, label in zip(
        batch["input_ids"],
        batch["token_type_ids"],
        batch["segment_ids"],
        batch["position_ids"],
        batch["next_sentence_label"],
        strict=True,
    ):
        used = np.count_nonzero(segments)
        assert np.array_equal(segments, np.arange(len(ids)) < used)
        assert np.array_equal(positions, np.where(segments, np.arange(len(ids)), 0))
        first_sep, second_sep = np.flatnonzero(ids == SEP)
        assert ids[0] == CLS
        assert second_sep == used - 1
        assert not ids[used:].any()
        assert np.array_equal(np.flatnonzero(types), np.arange(first_sep + 1, used))
        yield ids[1:first_sep], ids[first_sep + 1 : second_sep], label


@settings(max_examples=60, deadline=None)
@given(lengths.filter(has_pairs), st.integers(8, 64), st.sampled_from([0.0, 0.5, 1.0]))
def test_labels_are_true_in_the_text(parts, length, short_fraction):
    split = numbered_split(parts)
    document_of = {i: d for d, text in enumerate(texts(split)) for i in text}
    starts = {int(part.tokens[offset]) for part in split.shards for offset in part.sentence_offsets}
    for a, b, label in sides(epoch_of(split, length, short_fraction)):
        assert len(a) >= 1
        assert len(b) >= 1
        assert np.all(np.diff(a) == 1)
        assert np.all(np.diff(b) == 1)
        same_document = document_of[a[0]] == document_of[b[0]]
        assert same_document == (label == 0)
        if same_document:
            assert b[0] > a[-1]
        if len(a) + len(b) < length - 3 and not short_fraction:
            assert a[0] in starts
            assert b[0] in starts
            assert label or b[0] == a[-1] + 1


@settings(max_examples=60, deadline=None)
@given(lengths.filter(has_pairs), st.integers(8, 64), st.sampled_from([0.0, 0.5, 1.0]))
def test_sentence_order_labels_are_true_in_the_text(parts, length, short_fraction):
    split = numbered_split(parts)
    document_of = {i: d for d, text in enumerate(texts(split)) for i in text}
    for a, b, label in sides(epoch_of(split, length, short_fraction, "sop")):
        assert len({document_of[i] for i in (*a, *b)}) == 1
        first, second = (b, a) if label else (a, b)
        assert first[-1] < second[0]
        if len(a) + len(b) < length - 3 and not short_fraction:
            assert first[-1] + 1 == second[0]


def test_half_of_the_pairs_are_swapped():
    examples = PairExamples(numbered_split([[[3, 4, 2]]]), vocabulary(), "sop", 16, 0.0)
    index = np.zeros(4000, int)
    labels = examples.rows(index, index, draw(4000))["next_sentence_label"]
    assert abs(np.count_nonzero(labels) - 2000) < 5 * np.sqrt(1000)


def test_half_of_the_pairs_are_random_whatever_the_corpus():
    for parts in ([[[3, 3], [1]]], [[[2, 2]] * 50], [[[40] * 30, [1], [1]], [[1]]]):
        split = numbered_split(parts)
        examples = PairExamples(split, vocabulary(), "nsp", 16, 0.1)
        index = np.arange(4000) % examples.sizes["all"]
        labels = examples.rows(index, index, draw(4000))["next_sentence_label"]
        assert abs(np.count_nonzero(labels) - 2000) < 5 * np.sqrt(1000)


def test_the_other_document_and_its_sentence_are_uniform():
    split = numbered_split([[[1, 1], [1], [1]], [[1, 1, 1, 1]]])
    rows = 12_000
    examples = PairExamples(split, vocabulary(), "nsp", 16, 0.0)
    index = np.zeros(rows, int)  # the only window of the first document
    batch = examples.rows(index, index, draw(rows))
    first_b = [b[0] for _, b, label in sides(batch) if label]
    # The other documents are [7], [8] and [9 10 11 12].
    counts = np.bincount(first_b, minlength=13)[7:]
    expected = len(first_b) * np.array([1 / 3, 1 / 3, *[1 / 12] * 4])
    assert np.all(abs(counts - expected) < 5 * np.sqrt(expected))


def test_border_is_uniform_among_the_sentences():
    split = numbered_split([[[2, 2, 2, 2], [9]]])
    rows = 6000
    examples = PairExamples(split, vocabulary(), "nsp", 64, 0.0)
    index = np.zeros(rows, int)
    batch = examples.rows(index, index, draw(rows))
    sizes = np.bincount([len(a) for a, _, _ in sides(batch)])
    assert np.flatnonzero(sizes).tolist() == [2, 4, 6]
    assert np.all(abs(sizes[[2, 4, 6]] - 2000) < 5 * np.sqrt(2000))


def test_every_document_with_two_sentences_is_used_and_no_other():
    split = random_split(5, 40, 3)
    examples = PairExamples(split, vocabulary(), "nsp", 24, 0.0)
    windows = 0
    for part in split.shards:
        for d in range(part.num_documents):
            if part.document_sentences[d + 1] - part.document_sentences[d] >= 2:
                size = part.document_offsets[d + 1] - part.document_offsets[d] - 2
                windows += -(-size // 21)
    assert examples.sizes["all"] == windows


def test_short_pairs_have_every_length():
    split = numbered_split([[[5] * 40, [5] * 40]])
    examples = PairExamples(split, vocabulary(), "nsp", 32, 1.0)
    index = np.arange(20_000) % examples.sizes["all"]
    used = np.count_nonzero(examples.rows(index, index, draw(20_000))["segment_ids"], axis=1)
    assert used.min() == 5
    assert used.max() == 32
    # Targets below 10 always have ten tokens (two sentences) to be cut from.
    counts = np.bincount(used - 3)[2:10]
    expected = len(index) / 28
    assert np.all(abs(counts - expected) < 5 * np.sqrt(expected))


def test_truncation_leaves_what_berts_procedure_leaves():
    for a in range(1, 14):
        for b in range(1, 14):
            for target in range(2, 28):
                left, right = [0] * a, [0] * b
                truncate_seq_pair(left, right, target, random.Random(0))
                lengths = np.array([a]), np.array([b]), np.array([target])
                assert [x.item() for x in truncated_lengths(*lengths)] == [len(left), len(right)]


def test_cuts_are_spread_as_by_berts_procedure():
    coin = random.Random(0)
    trials, cut = 3000, 70
    slow = []
    for _ in range(trials):
        left = list(range(100))
        truncate_seq_pair(left, [0] * 10, 40, coin)
        slow.append(left[0])
    coins = bits(0, "coins", 0, trials, 16)
    fast = coin_flips(np.full(trials, cut), coins)
    # Both are binomial: mean 35, deviation sqrt(70) / 2.
    for drawn in (np.array(slow), fast):
        assert abs(drawn.mean() - cut / 2) < 5 * np.sqrt(cut / 4 / trials)
        assert abs(drawn.var() / (cut / 4) - 1) < 5 * np.sqrt(2 / trials)


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 511, 512, 513, 10_000, 10**6])
def test_coin_flips_are_binomial(count):
    trials = 4000
    heads = coin_flips(np.full(trials, count), bits(0, "coins", 0, trials, 16))
    assert np.all((heads >= 0) & (heads <= count))
    assert abs(heads.mean() - count / 2) <= 5 * np.sqrt(count / 4 / trials)
    assert abs(heads.var() - count / 4) <= 5 * np.sqrt(2 / trials) * count / 4


@pytest.mark.parametrize(
    ("objective", "parts", "fix"),
    [
        ("nsp", [], "more documents"),
        ("sop", [], "more documents"),
        ("nsp", [[[4, 4]]], "more documents"),
        ("nsp", [[[4], [4], [4]]], r"add documents .* config\.corpus\.split_sentences are right"),
        ("sop", [[[4]]], r"add documents .* config\.corpus\.split_sentences are right"),
    ],
)
def test_corpora_without_pairs_are_refused(objective, parts, fix):
    with pytest.raises(UserError, match=fix):
        PairExamples(numbered_split(parts), vocabulary(), objective, 16, 0.1)
