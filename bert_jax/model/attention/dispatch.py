"""`attend`: chooses a backend, and runs its kernel on each device of the mesh."""

import functools
from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PRNGKeyArray

from bert_jax.model.attention import choice, cudnn, pallas, splash, xla
from bert_jax.model.attention.dropped import Dropout
from bert_jax.model.placement import ROWS, platform

Kernel = Callable[..., Array]  # of query, key, value, segment_ids; dropout= where supported


def attend(
    query: Float[Array, "B L N H"],
    key: Float[Array, "B L N H"],
    value: Float[Array, "B L N H"],
    segment_ids: Int[Array, "B L"],
    *,
    window: int = 0,
    rows: str = "packed",
    dropout_rate: float = 0.0,
    dropout_key: PRNGKeyArray | None = None,
    backend: str = "auto",
) -> Float[Array, "B L N H"]:
    """Scaled dot-product attention (https://arxiv.org/abs/1706.03762, eq. 1); softmax in float32.

    A position attends to those of its own document, at most `window / 2` tokens away. The results
    at padding are finite and have no meaning.

    Args:
      query, key, value: projections of the hidden states.
      segment_ids: the document that each token belongs to, 0 for padding. The tokens of a
        document are consecutive, the padding comes last.
      window: width of the local window in tokens, both sides together; 0: no limit.
      rows: `packed`: several documents a row; `padded`: one, and padding after it.
      dropout_rate: share of the attention probabilities that are dropped.
      dropout_key: None switches dropout off.
      backend: see `choice.BACKENDS`; `auto` takes the fastest on the device that can do all of
        this. With dropout all backends drop the same probabilities (`dropped`).

    Raises:
      UserError: the named backend does not support these arguments.
    """
    _, length, heads, head_size = query.shape
    call = choice.Call(
        platform=platform(),
        dtype=query.dtype.name,
        length=length,
        head_size=head_size,
        window=choice.effective_window(window, length),
        rows=rows,
        dropout_rate=0.0 if dropout_key is None else dropout_rate,
    )
    chosen = choice.resolve(backend, call)
    dropout = Dropout.create(dropout_rate, dropout_key, heads)
    arrays = query, key, value, segment_ids
    if chosen == "xla":
        return xla.attend(*arrays, window=call.window, dropout=dropout)
    interpret = call.is_interpreted
    kernels: dict[str, Kernel] = {
        "cudnn": cudnn.attend,
        "pallas": functools.partial(pallas.attend, window=call.window, interpret=interpret),
        "splash": functools.partial(splash.attend, window=call.window, interpret=interpret),
    }
    return _on_each_device(kernels[chosen], *arrays, dropout)


def _on_each_device(
    kernel: Kernel,
    query: Float[Array, "B L N H"],
    key: Float[Array, "B L N H"],
    value: Float[Array, "B L N H"],
    segment_ids: Int[Array, "B L"],
    dropout: Dropout | None,
) -> Float[Array, "B L N H"]:
    """`kernel` on each device's rows and heads, because the compiler cannot partition a kernel."""
    is_split = not jax.sharding.get_abstract_mesh().empty

    def run(query: Array, key: Array, value: Array, ids: Array, dropout: Dropout | None) -> Array:
        if dropout is None:
            return kernel(query, key, value, ids)
        part = dropout.of_device(query.shape[0], query.shape[2]) if is_split else dropout
        return kernel(query, key, value, ids, dropout=part)

    if not is_split:
        return run(query, key, value, segment_ids, dropout)
    heads, rows = P(ROWS, None, "tensor", None), P(ROWS)
    return jax.shard_map(
        run, in_specs=(heads, heads, heads, rows, P()), out_specs=heads, check_vma=False
    )(query, key, value, segment_ids, dropout)
