"""Cross-entropy over a vocabulary, from whole logits or block by block.

Both return sums, so that parts of a batch can be added. Axes: B batch, P predictions of a row, N
those of all rows, D width, V vocabulary.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from bert_jax.model.placement import ROWS, mesh_in_context, platform
from bert_jax.model.products import contract

# Size of the logits of one block on one device. Small blocks stay in a CPU's cache; accelerators
# need large products.
CPU_BLOCK_BYTES, BLOCK_BYTES = 16 * 2**20, 256 * 2**20
# Predictions. Every block also adds to the gradient of the table, which takes as long as this many.
LEAST_BLOCK = 256


class Totals(NamedTuple):
    """Weighted sums over the predictions of a batch; divided by `weight` they are means."""

    loss: Float[Array, ""]  # nats
    metrics: dict[str, Float[Array, ""]]  # by name, such as accuracy: the correct predictions
    weight: Float[Array, ""]  # of all predictions


class Summed(NamedTuple):
    """The weighted sum of the losses, and which predictions are correct (1.0 or 0.0)."""

    loss: Float[Array, ""]
    correct: Float[Array, "*N"]


class Gradients(NamedTuple):
    """Gradients of a summed loss."""

    x: Float[Array, "*N D"]
    table: Float[Array, "V D"]
    bias: Float[Array, "V"]


LossAndGradients = tuple[Summed, Gradients | None]  # None: gradients were not requested


class Regularizers(NamedTuple):
    """What is added to the cross-entropy in training.

    Attributes:
      smoothing: share of the label's probability that all tokens get alike
        (https://arxiv.org/abs/1512.00567, section 7).
      z_loss: factor of the square of the logarithm of the normalizer, which keeps it near 0
        (https://arxiv.org/abs/2204.02311, section 5).
    """

    smoothing: float = 0.0
    z_loss: float = 0.0


PLAIN = Regularizers()


def cross_entropy(
    logits: Float[Array, "*N V"],
    labels: Int[Array, "*N"],
    weights: Float[Array, "*N"],
    regularizers: Regularizers = PLAIN,
) -> Totals:
    """Summed loss and number of correct predictions of whole logits in float32."""
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    log_normalizer = jax.nn.logsumexp(logits, axis=-1)
    losses = _losses(log_normalizer, label_logits, logits.mean(axis=-1), regularizers)
    # Correct: no other logit exceeds the label's; on CPUs an argmax costs ten times a max.
    correct = (label_logits >= logits.max(axis=-1)).astype(jnp.float32)
    metrics = {"accuracy": (correct * weights).sum()}
    return Totals((losses * weights).sum(), metrics, weights.sum())


def _losses(
    log_normalizer: Float[Array, "*N"],
    label_logits: Float[Array, "*N"],
    mean_logits: Float[Array, "*N"],
    regularizers: Regularizers,
) -> Float[Array, "*N"]:
    smoothing, z_loss = regularizers
    target = (1 - smoothing) * label_logits + smoothing * mean_logits if smoothing else label_logits
    losses = log_normalizer - target
    return losses + z_loss * log_normalizer**2 if z_loss else losses


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def blocked_cross_entropy(
    x: Float[Array, "B P D"],
    table: Float[Array, "V D"],
    bias: Float[Array, "V"],
    labels: Int[Array, "B P"],
    weights: Float[Array, "B P"],
    regularizers: Regularizers = PLAIN,
) -> Summed:
    """Cross-entropy of the logits x @ table.T + bias, computed one block at a time.

    Predictions are taken in blocks. As the loss is a sum, the gradient of a block is known as soon
    as its logits are, and is computed with them: nothing else is kept or recomputed for the
    backward pass, which only scales. Blocks whose weights are all 0 are skipped.

    On a mesh each device takes blocks of its rows and, where `tensor` divides V, of its part of
    the vocabulary: hidden states are not exchanged, and the gradient of the table is summed
    over the devices once, after the last block.

    Args:
      x: hidden states, in the type of the matrix products.
      table: one row for each token of the vocabulary.
      bias: one number for each token of the vocabulary.
      labels: ids of the original tokens.
      weights: 0 where there is nothing to predict; gradients treat them as constants.
      regularizers: added to the loss.
    """
    return _sums(x, table, bias, labels, weights, regularizers, with_gradients=False)[0]


def _backward(regularizers: Regularizers, gradients: Gradients, cotangent: Summed) -> tuple:
    del regularizers
    scaled = jax.tree.map(lambda leaf: (leaf * cotangent.loss).astype(leaf.dtype), gradients)
    return (*scaled, None, None)


def _sums(
    x: Float[Array, "B P D"],
    table: Float[Array, "V D"],
    bias: Float[Array, "V"],
    labels: Int[Array, "B P"],
    weights: Float[Array, "B P"],
    regularizers: Regularizers,
    *,
    with_gradients: bool,
) -> LossAndGradients:
    table = table.astype(x.dtype)  # before devices exchange it
    mesh = mesh_in_context()
    on_device = functools.partial(
        _on_device,
        platform=platform(),
        regularizers=regularizers,
        with_gradients=with_gradients,
    )
    if mesh is None:
        return on_device(x, table, bias, labels, weights, vocab_axes=())
    tensor = mesh.shape["tensor"]
    vocab_axes = ("tensor",) if tensor > 1 and table.shape[0] % tensor == 0 else ()

    def on_mesh(*arguments: Array) -> tuple:
        summed, gradients = on_device(*arguments, vocab_axes=vocab_axes)
        sums = jax.lax.psum(summed.loss, ROWS), summed.correct
        if gradients is None:
            return sums, ()
        d_table, d_bias = jax.lax.psum((gradients.table, gradients.bias), ROWS)
        return sums, (gradients.x, d_table, d_bias)

    sums, gradients = jax.shard_map(
        on_mesh,
        in_specs=(P(ROWS), P(vocab_axes), P(vocab_axes), P(ROWS), P(ROWS)),
        out_specs=(
            (P(), P(ROWS)),
            (P(ROWS), P(vocab_axes), P(vocab_axes)) if with_gradients else (),
        ),
        check_vma=False,  # the check rejects the loop's carry
    )(x, table, bias, labels, weights)
    return Summed(*sums), Gradients(*gradients) if with_gradients else None


blocked_cross_entropy.defvjp(functools.partial(_sums, with_gradients=True), _backward)


def _on_device(
    x: Float[Array, "B P D"],
    table: Float[Array, "V D"],
    bias: Float[Array, "V"],
    labels: Int[Array, "B P"],
    weights: Float[Array, "B P"],
    platform: str,
    regularizers: Regularizers,
    with_gradients: bool,
    vocab_axes: tuple[str, ...],
) -> LossAndGradients:
    """The rows of one device and its part of the vocabulary (split over `vocab_axes`)."""
    shape, number = weights.shape, weights.size
    x, labels, weights = x.reshape(number, -1), labels.reshape(-1), weights.reshape(-1)
    size = _block_size(platform, number, table.shape[0])
    block = functools.partial(
        _block,
        table=table,
        bias=bias,
        regularizers=regularizers,
        with_gradients=with_gradients,
        vocab_axes=vocab_axes,
    )
    if size >= number:
        summed, gradients = block(x, labels, weights)
    else:
        # Predictions with a weight come first, so that the blocks after them can be skipped.
        order = jnp.argsort(weights == 0, stable=True)
        blocks = -(-number // size)
        rows = _padded(blocks * size, x[order], labels[order], weights[order])
        counted = jnp.count_nonzero(weights)
        if vocab_axes:  # the devices communicate in every block, so all must run it
            counted = jax.lax.pmax(counted, ROWS)

        def add(carry: LossAndGradients, begin: Array) -> LossAndGradients:
            new, new_gradients = block(
                *(jax.lax.dynamic_slice_in_dim(array, begin, size) for array in rows)
            )
            sums, gradients = carry
            put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=begin, axis=0)
            sums = Summed(sums.loss + new.loss, put(sums.correct, new.correct))
            if gradients is None or new_gradients is None:
                return sums, None
            return sums, Gradients(
                put(gradients.x, new_gradients.x),
                gradients.table + new_gradients.table,
                gradients.bias + new_gradients.bias,
            )

        def step(carry: LossAndGradients, begin: Array) -> tuple[Any, None]:
            return jax.lax.cond(begin < counted, add, lambda carry, _: carry, carry, begin), None

        no_sums = Summed(jnp.zeros(()), jnp.zeros(blocks * size))
        no_gradients = Gradients(
            jnp.zeros_like(rows[0]), jnp.zeros(table.shape), jnp.zeros(bias.shape)
        )
        nothing = no_sums, no_gradients if with_gradients else None
        (summed, gradients), _ = jax.lax.scan(step, nothing, jnp.arange(0, blocks * size, size))
        back = jnp.argsort(order)
        summed = summed._replace(correct=summed.correct[back])
        if gradients is not None:
            gradients = gradients._replace(x=gradients.x[back])
    summed = summed._replace(correct=summed.correct.reshape(shape))
    if gradients is None:
        return summed, None
    return summed, gradients._replace(x=gradients.x.reshape(*shape, -1))


def _block(
    x: Float[Array, "N D"],
    labels: Int[Array, "N"],
    weights: Float[Array, "N"],
    *,
    table: Float[Array, "V D"],
    bias: Float[Array, "V"],
    regularizers: Regularizers,
    with_gradients: bool,
    vocab_axes: tuple[str, ...],
) -> LossAndGradients:
    """The logits of some predictions, their loss and its gradient; softmax in float32."""
    first = jax.lax.axis_index(vocab_axes) * table.shape[0] if vocab_axes else 0
    logits = contract("nd,vd->nv", x, table, x.dtype, jnp.float32) + bias
    is_label = jnp.arange(table.shape[0]) == (labels - first)[:, None]  # N V
    label_logits = jnp.where(is_label, logits, 0.0).sum(axis=1)
    highest = logits.max(axis=1)
    if vocab_axes:
        label_logits = jax.lax.psum(label_logits, vocab_axes)
        highest = jax.lax.pmax(highest, vocab_axes)
    exponentials = jnp.exp(logits - highest[:, None])
    normalizer = exponentials.sum(axis=1)
    if vocab_axes:
        normalizer = jax.lax.psum(normalizer, vocab_axes)
    log_normalizer = highest + jnp.log(normalizer)
    smoothing, z_loss = regularizers
    vocabulary, mean_logits = table.shape[0], logits.sum(axis=1)
    if smoothing and vocab_axes:
        vocabulary *= jax.lax.axis_size(vocab_axes)
        mean_logits = jax.lax.psum(mean_logits, vocab_axes)
    losses = _losses(log_normalizer, label_logits, mean_logits / vocabulary, regularizers)
    summed = Summed((losses * weights).sum(), (label_logits >= highest).astype(jnp.float32))
    if not with_gradients:
        return summed, None
    share = weights / normalizer
    if z_loss:
        share *= 1 + 2 * z_loss * log_normalizer
    target = jnp.where(is_label, (1 - smoothing) * weights[:, None], 0.0)
    d_logits = exponentials * share[:, None] - target
    if smoothing:
        d_logits -= smoothing / vocabulary * weights[:, None]
    d_x = contract("nv,vd->nd", d_logits, table, x.dtype, jnp.float32)
    if vocab_axes:
        d_x = jax.lax.psum(d_x, vocab_axes)
    d_table = contract("nv,nd->vd", d_logits, x, x.dtype, jnp.float32)
    return summed, Gradients(d_x.astype(x.dtype), d_table, d_logits.sum(axis=0))


def logits_of_block(platform: str) -> int:
    """The most logits in float32 that one device has of a block."""
    return (CPU_BLOCK_BYTES if platform == "cpu" else BLOCK_BYTES) // 4


def _block_size(platform: str, number: int, vocabulary: int) -> int:
    """Predictions of a block: `number` in equal parts within the limit."""
    limit = max(LEAST_BLOCK, logits_of_block(platform) // vocabulary)
    return math.ceil(number / math.ceil(number / limit))


def _padded(size: int, *arrays: Array) -> tuple[Array, ...]:
    """The arrays with zeros appended, each `size` long."""
    return tuple(
        jnp.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1)) for array in arrays
    )
