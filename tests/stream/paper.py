"""Slow implementations of BERT's procedures, in plain Python, one row at a time.

After appendix A.1 of the paper and `create_pretraining_data.py` of google-research/bert.
"""

import random
from typing import NamedTuple

from tests.stream.tiny_stores import vocabulary

MASK, SPECIAL = 4, 5
STARTS_WORD = vocabulary().starts_word.tolist()


def masked_slowly(
    tokens: list[int], rate: float, words: bool, dice: random.Random
) -> tuple[list[int], set[int]]:
    """create_masked_lm_predictions: the row as the model sees it, and what it predicts."""
    candidates: list[list[int]] = []
    for place, token in enumerate(tokens):
        if token < SPECIAL:
            continue
        continues = place and tokens[place - 1] >= SPECIAL and not STARTS_WORD[token]
        if words and continues:
            candidates[-1].append(place)
        else:
            candidates.append([place])
    dice.shuffle(candidates)
    wanted = max(1, round(len(tokens) * rate))
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


class Pair(NamedTuple):
    """The two sides of a pair; whether the second one is random."""

    a: list[int]
    b: list[int]
    is_random: bool


def pairs_slowly(
    documents: list[list[list[int]]], number: int, max_seq_length: int, dice: random.Random
) -> list[Pair]:
    """create_instances_from_document, with short_seq_prob = 0."""
    document = documents[number]
    target = max_num_tokens = max_seq_length - 3
    pairs: list[Pair] = []
    chunk: list[list[int]] = []
    length = 0
    i = 0
    while i < len(document):
        chunk.append(document[i])
        length += len(document[i])
        if i == len(document) - 1 or length >= target:
            a_end = dice.randint(1, len(chunk) - 1) if len(chunk) >= 2 else 1
            a = [token for sentence in chunk[:a_end] for token in sentence]
            b: list[int] = []
            is_random = len(chunk) == 1 or dice.random() < 0.5
            if is_random:
                other = number
                for _ in range(10):
                    other = dice.randint(0, len(documents) - 1)
                    if other != number:
                        break
                start = dice.randint(0, len(documents[other]) - 1)
                for sentence in documents[other][start:]:
                    b.extend(sentence)
                    if len(b) >= target - len(a):
                        break
                i -= len(chunk) - a_end  # what was not used is put back
            else:
                b = [token for sentence in chunk[a_end:] for token in sentence]
            truncate_seq_pair(a, b, max_num_tokens, dice)
            pairs.append(Pair(a, b, is_random))
            chunk, length = [], 0
        i += 1
    return pairs


def truncate_seq_pair(a: list[int], b: list[int], target: int, dice: random.Random) -> None:
    """Truncates the longer side, at its front or its end, until both fit."""
    while len(a) + len(b) > target:
        longer = a if len(a) > len(b) else b
        if dice.random() < 0.5:
            del longer[0]
        else:
            longer.pop()
