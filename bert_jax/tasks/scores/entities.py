"""Entities in tags, by the rules of conlleval (E. Tjong Kim Sang, CoNLL-2000 shared task).

The rules read IOB1, IOB2, IOBES and BILOU alike, also where a sequence breaks its own scheme.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

Tags = Sequence[str]


class Span(NamedTuple):
    """An entity: the words [start, end) and its type."""

    start: int
    end: int
    type: str


class Score(NamedTuple):
    """Precision, recall and F1, and the number of entities that they come from."""

    precision: float
    recall: float
    f1: float
    support: int


def has_entities(tags: set[str]) -> bool:
    """Whether tags mark entities (B-PER, I-PER, O), and not a class of each word (NOUN, VERB)."""
    marked = {tag for tag in tags if re.match(r"[BIESLU]-.", tag)}
    return bool(marked) and marked | {"O"} >= tags


def spans(tags: Tags) -> list[Span]:
    """The entities of one sentence, in order."""
    found: list[Span] = []
    start, kind = None, ""
    before, before_type = "O", ""
    for index, tag in enumerate([*tags, "O"]):
        prefix, _, type = tag.partition("-")
        prefix = {"U": "S", "L": "E"}.get(prefix, prefix)  # BILOU's names
        if start is not None and _ends(before, prefix, before_type, type):
            found.append(Span(start, index, kind))
            start = None
        if _begins(before, prefix, before_type, type):
            start, kind = index, type
        before, before_type = prefix, type
    return found


def _ends(before: str, now: str, before_type: str, type: str) -> bool:
    return before in ("E", "S") or now in ("B", "S", "O") or (before != "O" and before_type != type)


def _begins(before: str, now: str, before_type: str, type: str) -> bool:
    if now == "O":
        return False
    return now in ("B", "S") or before in ("E", "S", "O") or before_type != type


def to_iob2(tags: Tags) -> list[str]:
    """The tags of a sentence in IOB2: B- begins every entity."""
    result = ["O"] * len(tags)
    for start, end, type in spans(tags):
        result[start:end] = [f"B-{type}", *[f"I-{type}"] * (end - start - 1)]
    return result


def entity_scores(gold: Sequence[Tags], predicted: Sequence[Tags]) -> dict[str, Score]:
    """By type, and of all under "micro": an entity is right if its words and type are."""
    counts: dict[str, list[int]] = {}  # gold, predicted, both
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        is_gold, is_predicted = set(spans(gold_tags)), set(spans(predicted_tags))
        for column, group in enumerate((is_gold, is_predicted, is_gold & is_predicted)):
            for span in group:
                for name in (span.type, "micro"):
                    counts.setdefault(name, [0, 0, 0])[column] += 1
    counts.setdefault("micro", [0, 0, 0])
    return {name: _score(*counts[name]) for name in sorted(counts)}


def _score(gold: int, predicted: int, both: int) -> Score:
    precision = both / predicted if predicted else 0.0
    recall = both / gold if gold else 0.0
    f1 = 2 * both / (gold + predicted) if gold + predicted else 0.0
    return Score(precision, recall, f1, gold)
