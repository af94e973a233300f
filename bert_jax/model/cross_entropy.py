"""Cross-entropy over a vocabulary: whole, and in blocks that are never whole.

Both give sums, so that parts of a batch add up. Axes: B batch, P predictions of a row, N those of
all rows, D width, V vocabulary.
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

# Of the logits of one block on one device. Small blocks stay in a processor's cache; accelerators
# want large products.
CPU_BLOCK_BYTES, BLOCK_BYTES = 16 * 2**20, 256 * 2**20
# Every block adds to the gradient of the table, which takes the time of so many predictions.
LEAST_BLOCK = 256


class Totals(NamedTuple):
    """Weighted sums over the predictions of a batch; divided by `weight` they are means."""

    loss: Float[Array, ""]  # nats
    metrics: dict[str, Float[Array, ""]]  # by name: what is reported besides the loss
    weight: Float[Array, ""]  # of all of them


class Summed(NamedTuple):
    """A loss summed over predictions that were each weighted, and which of them were right."""

    loss: Float[Array, ""]
    correct: Float[Array, "*N"]


class Gradients(NamedTuple):
    """Of a summed loss."""

    x: Float[Array, "*N D"]
    table: Float[Array, "V D"]
    bias: Float[Array, "V"]


Found = tuple[Summed, Gradients | None]  # no gradients where none are asked for


def cross_entropy(
    logits: Float[Array, "*N V"], labels: Int[Array, "*N"], weights: Float[Array, "*N"]
) -> Totals:
    """Summed loss and number of correct predictions of whole logits in float32."""
    own = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1) - own
    # Correct: no other logit exceeds the label's; on CPUs an argmax costs ten times a max.
    correct = (own >= logits.max(axis=-1)).astype(jnp.float32)
    metrics = {"accuracy": (correct * weights).sum()}
    return Totals((losses * weights).sum(), metrics, weights.sum())


@jax.custom_vjp
def blocked_cross_entropy(
    x: Float[Array, "B P D"],
    table: Float[Array, "V D"],
    bias: Float[Array, "V"],
    labels: Int[Array, "B P"],
    weights: Float[Array, "B P"],
) -> Summed:
    """The cross-entropy of the logits x @ table.T + bias, which never exist whole.

    Predictions are taken in blocks. As the loss is a sum, the gradient of a block is known as soon
    as its logits are, and is computed with them: nothing is kept or computed again for the
    backward pass, which only scales. Blocks without a prediction that counts are not computed.

    On a mesh each device takes blocks of its own rows and, where `tensor` divides V, of its own
    part of the vocabulary: no hidden state travels, and the gradient of the table is summed over
    the devices once, after the last block.

    Args:
      x: hidden states, in the type of the matrix products.
      table: one row a piece.
      bias: one number a piece.
      labels: the right pieces.
      weights: 0 where there is nothing to predict. Constants, as far as gradients go.
    """
    return _sums(x, table, bias, labels, weights, with_gradients=False)[0]


def _backward(gradients: Gradients, cotangent: Summed) -> tuple:
    scaled = jax.tree.map(lambda leaf: (leaf * cotangent.loss).astype(leaf.dtype), gradients)
    return (*scaled, None, None)


def _sums(
    x: Float[Array, "B P D"],
    table: Float[Array, "V D"],
    bias: Float[Array, "V"],
    labels: Int[Array, "B P"],
    weights: Float[Array, "B P"],
    *,
    with_gradients: bool,
) -> Found:
    table = table.astype(x.dtype)  # before it travels
    mesh = mesh_in_context()
    on_device = functools.partial(_on_device, platform=platform(), with_gradients=with_gradients)
    if mesh is None:
        return on_device(x, table, bias, labels, weights, pieces=())
    tensor = mesh.shape["tensor"]
    pieces = ("tensor",) if tensor > 1 and table.shape[0] % tensor == 0 else ()

    def on_mesh(*arguments: Array) -> tuple:
        found, gradients = on_device(*arguments, pieces=pieces)
        sums = jax.lax.psum(found.loss, ROWS), found.correct
        if gradients is None:
            return sums, ()
        d_table, d_bias = jax.lax.psum((gradients.table, gradients.bias), ROWS)
        return sums, (gradients.x, d_table, d_bias)

    found, gradients = jax.shard_map(
        on_mesh,
        in_specs=(P(ROWS), P(pieces), P(pieces), P(ROWS), P(ROWS)),
        out_specs=(
            (P(), P(ROWS)),
            (P(ROWS), P(pieces), P(pieces)) if with_gradients else (),
        ),
        check_vma=False,  # it cannot see what the sums of a loop have in common
    )(x, table, bias, labels, weights)
    return Summed(*found), Gradients(*gradients) if with_gradients else None


blocked_cross_entropy.defvjp(functools.partial(_sums, with_gradients=True), _backward)


def _on_device(
    x: Float[Array, "B P D"],
    table: Float[Array, "V D"],
    bias: Float[Array, "V"],
    labels: Int[Array, "B P"],
    weights: Float[Array, "B P"],
    platform: str,
    with_gradients: bool,
    pieces: tuple[str, ...],
) -> Found:
    """The rows of one device and its part of the vocabulary, which `pieces` is the axis of."""
    shape, number = weights.shape, weights.size
    x, labels, weights = x.reshape(number, -1), labels.reshape(-1), weights.reshape(-1)
    size = _block_size(platform, number, table.shape[0])
    block = functools.partial(
        _block, table=table, bias=bias, with_gradients=with_gradients, pieces=pieces
    )
    if size >= number:
        found, gradients = block(x, labels, weights)
    else:
        # Those that count come first, so that the blocks behind them need not be computed.
        order = jnp.argsort(weights == 0, stable=True)
        blocks = -(-number // size)
        rows = _padded(blocks * size, x[order], labels[order], weights[order])
        counted = jnp.count_nonzero(weights)
        if pieces:  # all devices meet in every block
            counted = jax.lax.pmax(counted, ROWS)

        def add(carry: Found, begin: Array) -> Found:
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

        def step(carry: Found, begin: Array) -> tuple[Any, None]:
            return jax.lax.cond(begin < counted, add, lambda carry, _: carry, carry, begin), None

        no_sums = Summed(jnp.zeros(()), jnp.zeros(blocks * size))
        no_gradients = Gradients(
            jnp.zeros_like(rows[0]), jnp.zeros(table.shape), jnp.zeros(bias.shape)
        )
        nothing = no_sums, no_gradients if with_gradients else None
        (found, gradients), _ = jax.lax.scan(step, nothing, jnp.arange(0, blocks * size, size))
        back = jnp.argsort(order)
        found = found._replace(correct=found.correct[back])
        if gradients is not None:
            gradients = gradients._replace(x=gradients.x[back])
    found = found._replace(correct=found.correct.reshape(shape))
    if gradients is None:
        return found, None
    return found, gradients._replace(x=gradients.x.reshape(*shape, -1))


def _block(
    x: Float[Array, "N D"],
    labels: Int[Array, "N"],
    weights: Float[Array, "N"],
    *,
    table: Float[Array, "V D"],
    bias: Float[Array, "V"],
    with_gradients: bool,
    pieces: tuple[str, ...],
) -> Found:
    """The logits of some predictions, their loss and its gradient; softmax in float32."""
    first = jax.lax.axis_index(pieces) * table.shape[0] if pieces else 0
    logits = contract("nd,vd->nv", x, table, x.dtype, jnp.float32) + bias
    is_label = jnp.arange(table.shape[0]) == (labels - first)[:, None]  # N V
    own = jnp.where(is_label, logits, 0.0).sum(axis=1)
    highest = logits.max(axis=1)
    if pieces:
        own, highest = jax.lax.psum(own, pieces), jax.lax.pmax(highest, pieces)
    exponentials = jnp.exp(logits - highest[:, None])
    normalizer = exponentials.sum(axis=1)
    if pieces:
        normalizer = jax.lax.psum(normalizer, pieces)
    losses = highest + jnp.log(normalizer) - own
    found = Summed((losses * weights).sum(), (own >= highest).astype(jnp.float32))
    if not with_gradients:
        return found, None
    probabilities = exponentials * (weights / normalizer)[:, None]
    d_logits = probabilities - jnp.where(is_label, weights[:, None], 0.0)
    d_x = contract("nv,vd->nd", d_logits, table, x.dtype, jnp.float32)
    if pieces:
        d_x = jax.lax.psum(d_x, pieces)
    d_table = contract("nv,nd->vd", d_logits, x, x.dtype, jnp.float32)
    return found, Gradients(d_x.astype(x.dtype), d_table, d_logits.sum(axis=0))


def _block_size(platform: str, number: int, vocabulary: int) -> int:
    """How many of `number` predictions make a block: equal parts within the bound."""
    most = CPU_BLOCK_BYTES if platform == "cpu" else BLOCK_BYTES
    limit = max(LEAST_BLOCK, most // (4 * vocabulary))
    return math.ceil(number / math.ceil(number / limit))


def _padded(size: int, *arrays: Array) -> tuple[Array, ...]:
    """The arrays with zeros behind them, each `size` long."""
    return tuple(
        jnp.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1)) for array in arrays
    )
