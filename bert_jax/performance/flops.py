"""FLOPs of a training step, and the peak FLOP/s of devices."""

import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from bert_jax.model import ModelConfig
from bert_jax.model.heads import HEADS
from bert_jax.model.products import contract
from bert_jax.performance.topology import CHIPS

# Dense peak in FLOP/s of one device by the start of its `device_kind`, from the vendors' data
# sheets: bfloat16, and float32 as JAX runs it by default on NVIDIA (TF32).
PEAKS = {
    "NVIDIA H200": {"bfloat16": 989e12, "float32": 494e12},
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989e12, "float32": 494e12},
    "NVIDIA A100": {"bfloat16": 312e12, "float32": 156e12},
    "TPU v4": {"bfloat16": CHIPS["v4"].peak},
    "TPU v5 lite": {"bfloat16": CHIPS["v5e"].peak},
    "TPU v5": {"bfloat16": CHIPS["v5p"].peak},
    "TPU v6": {"bfloat16": CHIPS["v6e"].peak},
}


def training(model: ModelConfig, sequence_length: int, predictions: int) -> float:
    """FLOPs of one training step for one row that is one document without padding.

    Args:
      model: the encoder and its heads.
      sequence_length: L, tokens of the row.
      predictions: P, positions that the masked-language head computes.
    """
    return _training(model, np.array([sequence_length]), predictions)


def of_batch(model: ModelConfig, batch: Mapping[str, np.ndarray]) -> float:
    """FLOPs of one training step for the contents of a batch.

    Counted are its tokens without padding, the attention within each document, and the predictions
    in use. What a step computes beyond that (padding, or attention between the documents of a row)
    does not count.
    """
    segments = batch["segment_ids"]
    numbers = segments + (segments.max(initial=0) + 1) * np.arange(len(segments))[:, None]
    _, documents = np.unique(numbers[segments > 0], return_counts=True)
    return _training(model, documents, int((batch["masked_weights"] > 0).sum()))


def _training(
    model: ModelConfig, documents: Int[np.ndarray, "documents"], predictions: int
) -> float:
    """Dense matrix products, forward and backward: 2 for a multiply-add, backward twice forward.

    Attention counts its two products of n x n, or n x window where a layer is local, for each
    document of n tokens; embeddings, norms, softmax and the next-sentence head are left out,
    recomputation too. Of the head's softmax it counts what every prediction needs: the vocabulary,
    the sample, or the adaptive softmax's first part and its projections into the tails.
    """
    width, inner = model.hidden_size, model.intermediate_size
    maps = 2 if model.feed_forward == "gelu" else 3
    per_token = 4 * width**2 + maps * width * inner  # multiply-adds of one layer
    attention = sum(
        2 * width * int((documents * np.minimum(documents, model.window(layer) or documents)).sum())
        for layer in range(model.num_hidden_layers)
    )
    head = predictions * width * (width + HEADS[model.head].products(model))
    forward = model.num_hidden_layers * per_token * int(documents.sum()) + attention + head
    return 3 * 2.0 * forward


def peak(device_kind: str, dtype: str) -> float | None:
    """Dense peak of one device in FLOP/s; None where it is not known."""
    for name in sorted(PEAKS, key=len, reverse=True):
        if device_kind.startswith(name):
            return PEAKS[name].get(dtype)
    return None


def measured_peak(device: jax.Device, dtype: str) -> float:
    """FLOP/s of a device in large square matrix products, as the model computes them.

    The fastest of a few; under other load the result is too low, and an MFU too high.
    """
    size, repeats = (1536, 4) if device.platform == "cpu" else (8192, 20)
    with jax.default_device(device):
        x, mean = jnp.ones((size, size), dtype), jnp.full((size, size), 1 / size, dtype)
        product = jax.jit(lambda x, y: contract("ij,jk->ik", x, y, dtype))
        jax.block_until_ready(product(x, mean))
        fastest = float("inf")
        for _ in range(4):
            start = time.perf_counter()
            for _ in range(repeats):
                x = product(x, mean)  # stays all ones
            jax.block_until_ready(x)
            fastest = min(fastest, time.perf_counter() - start)
    return 2.0 * size**3 * repeats / fastest
