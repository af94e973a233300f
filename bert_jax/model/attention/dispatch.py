"""The one function that mixes positions, and how it is spread over a mesh."""

import functools
from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PRNGKeyArray

from bert_jax.model.attention import choice, cudnn, pallas, splash, xla
from bert_jax.model.placement import ROWS, platform

Kernel = Callable[[Array, Array, Array, Array], Array]


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

    A position sees those of its own document, at most `window / 2` tokens away. What comes out at
    places of padding is finite and means nothing.

    Args:
      query, key, value: projections of the hidden states.
      segment_ids: the document that each token belongs to, 0 for padding. The tokens of one
        document stand together, the padding last.
      window: width of the local window in tokens, both sides together; 0: no limit.
      rows: `packed`: several documents a row; `padded`: one, and padding behind it.
      dropout_rate: share of the attention probabilities that are dropped.
      dropout_key: None switches dropout off.
      backend: see `choice.BACKENDS`; `auto` takes the device's best that can do all of this.

    Raises:
      UserError: the backend cannot do what these arguments ask.
    """
    _, length, _, head_size = query.shape
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
    if chosen == "xla":
        return xla.attend(
            query,
            key,
            value,
            segment_ids,
            window=call.window,
            dropout_rate=dropout_rate,
            dropout_key=dropout_key,
        )
    interpret = call.is_interpreted
    kernels: dict[str, Kernel] = {
        "cudnn": cudnn.attend,
        "pallas": functools.partial(pallas.attend, window=call.window, interpret=interpret),
        "splash": functools.partial(splash.attend, window=call.window, interpret=interpret),
    }
    return _on_each_device(kernels[chosen])(query, key, value, segment_ids)


def _on_each_device(kernel: Kernel) -> Kernel:
    """`kernel` on each device's rows and heads: the compiler cannot split one by itself."""
    if jax.sharding.get_abstract_mesh().empty:
        return kernel
    heads, rows = P(ROWS, None, "tensor", None), P(ROWS)
    return jax.shard_map(
        kernel, in_specs=(heads, heads, heads, rows), out_specs=heads, check_vma=False
    )
