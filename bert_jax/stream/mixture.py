"""Which source each example comes from: at every point of a run in the ratio of the weights."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int64

from bert_jax.common.errors import UserError
from bert_jax.stream.phases import Phase

Count = TypeVar("Count", int, np.ndarray)

# The largest sum of weights: products of two such sums fit into 64 bits.
_LARGEST_SUM = 2**30


class SourceExamples(NamedTuple):
    """Of each row: example `number` of a source, counted over the whole run."""

    source: Int64[np.ndarray, "B"]
    number: Int64[np.ndarray, "B"]


@dataclasses.dataclass(frozen=True)
class Mixture:
    """How the examples of a phase are dealt out to the sources.

    Of any first n examples of the phase, a source with the share p of the weights has p * n, to
    within half an example for each source.

    Attributes:
      weights: of each source.
      first: of each source, how many of its examples earlier phases have used.
    """

    weights: tuple[int, ...]
    first: tuple[int, ...]

    def deal(self, counter: Int64[np.ndarray, "B"]) -> SourceExamples:
        """The source of each example of the phase, and its number among all of that source.

        The sources choose one after another: the first one takes its share of the examples, spread
        evenly, the next one its share of what is left, and so on; the last one takes the rest.
        """
        source = np.full(len(counter), len(self.weights) - 1)
        number = counter.copy()
        undecided = np.arange(len(counter))
        total = sum(self.weights)
        for index, weight in enumerate(self.weights[:-1]):
            if not len(undecided):
                break
            count = number[undecided]
            taken = _rounded(count, weight, total)
            is_taken = _rounded(count + 1, weight, total) > taken
            source[undecided[is_taken]] = index
            number[undecided] = np.where(is_taken, taken, count - taken)
            undecided = undecided[~is_taken]
            total -= weight
        return SourceExamples(source, number + np.array(self.first)[source])

    def counts(self, count: int) -> list[int]:
        """How many of the first `count` examples of the phase each source has."""
        result = []
        total = sum(self.weights)
        for weight in self.weights[:-1]:
            result.append(_rounded(count, weight, total) if total else 0)
            count -= result[-1]
            total -= weight
        return [*result, count]


def mixtures(
    phases: Sequence[Phase], sizes: Mapping[int, Mapping[str, int]]
) -> tuple[Mixture, ...]:
    """The mixture of every phase; a phase without weights takes each source by its size.

    A phase continues each source after the last example that earlier phases of the same sequence
    length have used.

    Args:
      phases: of the run.
      sizes: by sequence length, how many examples each source has.

    Raises:
      UserError: weights name a source that does not exist, or that has no example.
    """
    result: list[Mixture] = []
    used = {length: [0] * len(of_source) for length, of_source in sizes.items()}
    for phase in phases:
        of_source = sizes[phase.sequence_length]
        mixture = Mixture(_weights(phase, of_source), tuple(used[phase.sequence_length]))
        counts = mixture.counts((phase.stop - phase.start) * phase.global_batch_size)
        used[phase.sequence_length] = [
            sum(pair) for pair in zip(mixture.first, counts, strict=True)
        ]
        result.append(mixture)
    return tuple(result)


def expect_sources(phase: Phase, sources: Collection[str]) -> None:
    """Raise if a weight of the phase is that of none of the sources.

    Raises:
      UserError: names those that there are.
    """
    for name, _ in phase.weights:
        if name not in sources:
            raise UserError(
                f"{_where(phase)}: the corpus has no source {name!r}; it has {', '.join(sources)}"
            )


def _where(phase: Phase) -> str:
    text = ", ".join(f"{name}={float(weight):g}" for name, weight in phase.weights)
    return f"the weights {text!r} of phase {phase.index} (config.stream.weights)"


def _weights(phase: Phase, sizes: Mapping[str, int]) -> tuple[int, ...]:
    if not phase.weights:
        excess = max(0, sum(sizes.values()).bit_length() - _LARGEST_SUM.bit_length() + 1)
        return tuple(-(-size >> excess) for size in sizes.values())
    expect_sources(phase, sizes)
    weights, where = dict(phase.weights), _where(phase)
    for name, weight in weights.items():
        if weight and not sizes[name]:
            raise UserError(
                f"{where}: the source {name!r} has no example for rows of "
                f"{phase.sequence_length} tokens; set its weight to 0, or give it more documents"
            )
    shares = [weights.get(name, Fraction(0)) for name in sizes]
    scale = math.lcm(*(share.denominator for share in shares))
    if sum(shares) * scale > _LARGEST_SUM:
        raise UserError(f"{where} have too many digits to be kept exactly; round them")
    return tuple(int(share * scale) for share in shares)


def _rounded(count: Count, weight: int, total: int) -> Count:
    """The integer next to count * weight / total; the product could overflow 64 bits."""
    whole, rest = count // total, count % total
    return whole * weight + (2 * rest * weight + total) // (2 * total)
