"""Cross-entropy over a sample of the vocabulary, for vocabularies too large for full logits.

Axes: B batch, P predictions of a row, D width, V vocabulary, S sample.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from bert_jax.model.cross_entropy import Totals
from bert_jax.model.products import contract


def sampled_cross_entropy(
    x: Float[Array, "B P D"],
    table: Float[Array, "V D"],
    bias: Float[Array, "V"],
    labels: Int[Array, "B P"],
    weights: Float[Array, "B P"],
    negatives: int,
    key: PRNGKeyArray,
    order: tuple[int, ...] = (),
) -> Totals:
    """Cross-entropy against a sample of the vocabulary (https://arxiv.org/abs/1412.2007).

    The normalizer of each prediction is estimated as exp(the label's logit) plus the sum of
    exp(logit) / (probability of being in the sample) over the sample without the label: an unbiased
    estimate, with which the loss converges to the exact one as the sample grows. One sample serves
    all predictions of the batch. A prediction counts as correct if no logit of the sample exceeds
    its label's, which is more often than over the whole vocabulary.

    Args:
      x, table, bias, labels, weights: as in `blocked_cross_entropy`.
      negatives: S, the size of the sample.
      key: draws it.
      order: the ids from the most frequent to the rarest; (): the ids are in that order.
    """
    ids, probabilities = sample_ranks(table.shape[0], negatives, key)
    if order:
        ids = jnp.asarray(np.array(order, np.int32))[ids]
    wide = x.astype(jnp.float32)
    label_logits = (wide * table[labels]).sum(axis=-1) + bias[labels]
    others = contract("bpd,sd->bps", x, table[ids], x.dtype, jnp.float32) + bias[ids]
    others = jnp.where(ids == labels[..., None], -jnp.inf, others)  # accidental hits
    estimate = jax.nn.logsumexp(others - jnp.log(probabilities), axis=-1)
    losses = jnp.logaddexp(label_logits, estimate) - label_logits
    correct = (label_logits >= others.max(axis=-1)).astype(jnp.float32)
    metrics = {"accuracy": (correct * weights).sum()}
    return Totals((losses * weights).sum(), metrics, weights.sum())


def sample_ranks(
    vocabulary: int, number: int, key: PRNGKeyArray
) -> tuple[Int[Array, "S"], Float[Array, "S"]]:
    """Distinct ranks of frequency, and the probability with which each is in the sample.

    The probability falls with the rank by Zipf's law (log-uniform); the most frequent tokens are
    always in the sample. Systematic sampling: points at distance 1 from a random start on the line
    of cumulative probabilities.
    """
    shares, bits = _inclusion(vocabulary, number)
    ends = np.cumsum(shares, dtype=np.int64).astype(np.int32)
    start = (jax.random.bits(key, (), jnp.uint32) >> (32 - bits)).astype(jnp.int32)
    points = (jnp.arange(number, dtype=jnp.int32) << bits) + start
    ids = jnp.searchsorted(jnp.asarray(ends), points, side="right")
    return ids, jnp.asarray((shares / 2**bits).astype(np.float32))[ids]


@functools.lru_cache
def _inclusion(vocabulary: int, number: int) -> tuple[Int[np.ndarray, "V"], int]:
    """The probability that each rank is among `number` distinct ones, as integers over 2**bits."""
    bits = 31 - number.bit_length()
    zipf = np.log1p(1.0 / np.arange(1, vocabulary + 1))
    certain = 0  # the first ids, whose probability is cut at 1
    while zipf[certain] * (number - certain) > zipf[certain:].sum():
        certain += 1
    probabilities = np.ones(vocabulary)
    probabilities[certain:] = zipf[certain:] * (number - certain) / zipf[certain:].sum()
    ends = np.round(np.cumsum(probabilities) * 2**bits).astype(np.int64)
    ends[-1] = number << bits
    return np.diff(ends, prepend=0), bits
