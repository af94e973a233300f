"""The stream beside a slow reading of BERT's appendix A.1 and its published code, by statistics."""

import random
from collections import Counter

import numpy as np
import pytest
from tiny_stores import CLS, SEP, draw, vocabulary

from bert_jax.stream.masking import Masker, num_predictions

LENGTH, ROWS, RATE = 40, 2000, 0.15
MASK, SPECIAL = 4, 5


def masked_slowly(
    tokens: list[int], words: bool, dice: random.Random
) -> tuple[list[int], set[int]]:
    """create_masked_lm_predictions of google-research/bert: the row as the model sees it."""
    candidates: list[list[int]] = []
    for place, token in enumerate(tokens):
        if token < SPECIAL:
            continue
        goes_on = place and tokens[place - 1] >= SPECIAL and not vocabulary().starts_word[token]
        if words and goes_on:
            candidates[-1].append(place)
        else:
            candidates.append([place])
    dice.shuffle(candidates)
    wanted = max(1, round(len(tokens) * RATE))
    chosen: set[int] = set()
    for candidate in candidates:
        if len(chosen) + len(candidate) <= wanted:
            chosen.update(candidate)
    seen = list(tokens)
    for place in chosen:
        if dice.random() < 0.8:
            seen[place] = MASK
        elif dice.random() < 0.5:
            seen[place] = dice.randrange(SPECIAL, 64)
    return seen, chosen


@pytest.mark.parametrize("unit", ["token", "word"])
def test_masks_are_those_of_the_paper(unit):
    dice = random.Random(1)
    row = [dice.randrange(SPECIAL, 64) for _ in range(LENGTH)]
    row[0], row[17], row[-1] = CLS, SEP, SEP
    ids = np.tile(np.array(row, np.int32), (ROWS, 1))
    masker = Masker(vocabulary(), unit, mask_share=0.8, random_share=0.1)
    places = num_predictions(RATE, LENGTH)
    batch = masker.mask(ids, np.ones_like(ids), RATE, places, draw(ROWS))

    fast: Counter[tuple[str, int]] = Counter()
    slow: Counter[tuple[str, int]] = Counter()

    def count(counter: Counter[tuple[str, int]], seen: list[int], chosen: set[int]) -> None:
        counter["predictions", len(chosen)] += 1
        for place in chosen:
            counter["place", place] += 1
            piece = seen[place]
            kind = "masked" if piece == MASK else "kept" if piece == row[place] else "random"
            counter[kind, 0] += 1
            if kind == "random":
                counter["piece", piece] += 1

    for seen, positions, weights in zip(
        batch["input_ids"], batch["masked_positions"], batch["masked_weights"], strict=True
    ):
        count(fast, seen.tolist(), set(positions[weights > 0].tolist()))
        count(slow, *masked_slowly(row, unit == "word", dice))
    # Counts of two samples of one size differ by a normal variable of the variance of their sum.
    assert len(fast.keys() | slow.keys()) > LENGTH
    for event in fast.keys() | slow.keys():
        assert abs(fast[event] - slow[event]) <= 5 * (fast[event] + slow[event]) ** 0.5, event
