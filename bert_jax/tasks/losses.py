"""Losses of tasks, summed over a batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bert_jax.model import Totals


def smoothed_cross_entropy(
    logits: Float[Array, "*N K"],
    labels: Int[Array, "*N"],
    weights: Float[Array, "*N"],
    smoothing: float,
) -> Totals:
    """Summed loss and accuracy; a share `smoothing` of each label is spread over all classes.

    https://arxiv.org/abs/1512.00567, section 7.
    """
    logs = jax.nn.log_softmax(logits)
    of_label = jnp.take_along_axis(logs, labels[..., None], axis=-1)[..., 0]
    losses = -(1.0 - smoothing) * of_label - smoothing * logs.mean(axis=-1)
    correct = (of_label >= logs.max(axis=-1)).astype(jnp.float32)
    metrics = {"accuracy": (correct * weights).sum()}
    return Totals((losses * weights).sum(), metrics, weights.sum())


def contrastive(
    vectors: Float[Array, "B G D"], weight: Float[Array, "B"], temperature: float
) -> Totals:
    """The cross-entropy of finding each text's pair among all texts of the batch.

    https://arxiv.org/abs/2104.08821, equations 1 and 5.

    Args:
      vectors: of norm 1: the text, its pair and, where G is 3, its hard negative.
      weight: 0 for padding, which is no negative.
      temperature: that the cosines are divided by.
    """
    others = jnp.concatenate(jnp.unstack(vectors[:, 1:], axis=1))  # G - 1 blocks of B
    logits = vectors[:, 0] @ others.T / temperature
    is_text = jnp.tile(weight > 0, vectors.shape[1] - 1)
    logs = jax.nn.log_softmax(jnp.where(is_text, logits, -1e9))
    of_pair = jnp.diagonal(logs)
    right = (of_pair >= logs.max(axis=1)).astype(jnp.float32)
    return Totals((-of_pair * weight).sum(), {"accuracy": (right * weight).sum()}, weight.sum())
