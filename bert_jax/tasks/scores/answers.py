"""SQuAD's scores: exact match and F1 over words, as its evaluation script computes them."""

import re
import string
from collections import Counter
from collections.abc import Sequence


def normalized(text: str) -> str:
    """In lower case, without punctuation, articles and extra spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(predicted: str, answers: Sequence[str]) -> float:
    """1.0 if the prediction is one of the answers; of none if it is empty."""
    return float(normalized(predicted) in [normalized(answer) for answer in answers or [""]])


def f1(predicted: str, answers: Sequence[str]) -> float:
    """The best overlap of words with one of the answers."""
    return max(_overlap(predicted, answer) for answer in answers or [""])


def _overlap(predicted: str, answer: str) -> float:
    ours, theirs = normalized(predicted).split(), normalized(answer).split()
    if not ours or not theirs:
        return float(ours == theirs)
    same = sum((Counter(ours) & Counter(theirs)).values())
    if not same:
        return 0.0
    precision, recall = same / len(ours), same / len(theirs)
    return 2 * precision * recall / (precision + recall)
