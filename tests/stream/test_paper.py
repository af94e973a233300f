"""The stream and slow implementations of the paper's procedures, compared by statistics."""

import random
from collections import Counter

import numpy as np
import pytest

from bert_jax.stream.masking import Masker, max_predictions
from bert_jax.stream.pairs import PairExamples
from tests.stream.paper import MASK, SPECIAL, masked_slowly, pairs_slowly
from tests.stream.tiny_stores import CLS, SEP, draw, numbered_split, vocabulary

LENGTH, ROWS, RATE = 40, 2000, 0.15


def assert_alike(fast: Counter, slow: Counter) -> None:
    """Counts of samples of one size differ by a normal variable; its variance is their sum."""
    for event in fast.keys() | slow.keys():
        assert abs(fast[event] - slow[event]) <= 5 * (fast[event] + slow[event]) ** 0.5, event


@pytest.mark.parametrize("unit", ["token", "word"])
def test_masks_are_those_of_the_paper(unit):
    dice = random.Random(1)
    row = [dice.randrange(SPECIAL, 64) for _ in range(LENGTH)]
    row[0], row[17], row[-1] = CLS, SEP, SEP
    ids = np.tile(np.array(row, np.int32), (ROWS, 1))
    masker = Masker(vocabulary(), unit, mask_replace_prob=0.8, random_replace_prob=0.1)
    places = max_predictions(RATE, LENGTH)
    batch = masker.mask(ids, np.ones_like(ids), RATE, places, draw(ROWS))

    fast: Counter[tuple[str, int]] = Counter()
    slow: Counter[tuple[str, int]] = Counter()

    def count(counter: Counter[tuple[str, int]], seen: list[int], chosen: set[int]) -> None:
        counter["predictions", len(chosen)] += 1
        for place in chosen:
            counter["place", place] += 1
            token = seen[place]
            kind = "masked" if token == MASK else "kept" if token == row[place] else "random"
            counter[kind, 0] += 1
            if kind == "random":
                counter["token", token] += 1

    for seen, positions, weights in zip(
        batch["input_ids"], batch["masked_positions"], batch["masked_weights"], strict=True
    ):
        count(fast, seen.tolist(), set(positions[weights > 0].tolist()))
        count(slow, *masked_slowly(row, RATE, unit == "word", dice))
    assert len(fast.keys() | slow.keys()) > LENGTH
    assert_alike(fast, slow)


# Sentences of documents, in tokens. A row of 24 has 21 for text: documents of 21 and less are one
# chunk for both procedures; in those of 42, both end the first chunk with the sentence that reaches
# 21, because the windows that the stream cuts are 21 long there. The last two give random sides.
DOCUMENTS = [[3, 4, 2], [5, 1, 6, 4], [8, 9, 4], [6, 7, 9, 8, 5, 7], [12, 18, 2, 10], [7], [30]]


@pytest.mark.parametrize("number", range(5))
def test_the_first_pair_of_a_document_is_that_of_the_paper(number):
    split = numbered_split([DOCUMENTS[:3], DOCUMENTS[3:]])
    documents = [
        [
            shard.tokens[begin : begin + size].tolist()
            for begin, size in zip(
                shard.sentence_offsets[first : first + len(sizes)], sizes, strict=True
            )
        ]
        for shard, part in zip(split.shards, (DOCUMENTS[:3], DOCUMENTS[3:]), strict=True)
        for first, sizes in zip(shard.document_sentences, part, strict=False)
    ]
    examples = PairExamples(split, vocabulary(), "nsp", 24, short_fraction=0.0)
    first_window = [0, 1, 2, 3, 5][number]
    index = np.full(ROWS, first_window)
    batch = examples.rows(index, np.zeros_like(index), draw(ROWS, seed=number))

    fast: Counter[tuple] = Counter()
    slow: Counter[tuple] = Counter()

    def count(counter: Counter[tuple], a: list[int], b: list[int], is_random: bool) -> None:
        counter["label", is_random] += 1
        counter["length of A", len(a)] += 1
        counter["length of B", is_random, len(b)] += 1
        counter["A", a[0], a[-1]] += 1
        counter["B", is_random, b[0], b[-1]] += 1

    dice = random.Random(number)
    for ids, types, used, label in zip(
        batch["input_ids"],
        batch["token_type_ids"],
        batch["segment_ids"],
        batch["next_sentence_label"],
        strict=True,
    ):
        sides = [ids[(types == side) & (used > 0)].tolist() for side in (0, 1)]
        count(fast, sides[0][1:-1], sides[1][:-1], bool(label))
        count(slow, *pairs_slowly(documents, number, 24, dice)[0])
    assert len(fast.keys() | slow.keys()) > 20
    assert_alike(fast, slow)
