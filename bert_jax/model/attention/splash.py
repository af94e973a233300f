"""Splash attention (TPUs): JAX's Pallas kernel, which skips the blocks outside a window."""

import jax
from jax.experimental.pallas.ops.tpu.splash_attention import (
    BlockSizes,
    FullMask,
    LocalMask,
    MultiHeadMask,
    SegmentIds,
    make_splash_mha,
)
from jaxtyping import Array, Float, Int


def attend(
    query: Float[Array, "B L N H"],
    key: Float[Array, "B L N H"],
    value: Float[Array, "B L N H"],
    segment_ids: Int[Array, "B L"],
    window: int,
    interpret: bool,
) -> Float[Array, "B L N H"]:
    """Attention within documents; padding (segment 0) attends to padding: no softmax is empty."""
    _, length, heads, head_size = query.shape
    shape = (length, length)
    reach = window // 2
    mask = LocalMask(shape, (reach, reach), offset=0) if window else FullMask(shape)
    kernel = make_splash_mha(
        MultiHeadMask([mask] * heads),
        block_sizes=_block_sizes(length),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    by_head = (x.swapaxes(1, 2) for x in (query * head_size**-0.5, key, value))  # B N L H
    mixed = jax.vmap(kernel)(*by_head, SegmentIds(segment_ids, segment_ids))
    return mixed.swapaxes(1, 2)


def _block_sizes(length: int) -> BlockSizes:
    """The largest blocks that divide the row: the kernel's default of 128 is slow."""
    size = next(size for size in (512, 256, 128) if length % size == 0)
    return BlockSizes(
        block_q=size,
        block_kv=size,
        block_kv_compute=size,
        block_q_dkv=size,
        block_kv_dkv=size,
        block_kv_dkv_compute=size,
        block_q_dq=size,
        block_kv_dq=size,
    )
