"""How much arithmetic a model costs, and how much a device can do."""

from bert_jax.model import ModelConfig

# Dense peak in FLOP/s of one device by the start of its `device_kind`, from the makers' data
# sheets: bfloat16, and float32 as JAX runs it by default (TF32 on NVIDIA, bfloat16 passes on TPU).
PEAKS = {
    "NVIDIA H200": {"bfloat16": 989e12, "float32": 494e12},
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989e12, "float32": 494e12},
    "NVIDIA A100": {"bfloat16": 312e12, "float32": 156e12},
    "TPU v4": {"bfloat16": 275e12},
    "TPU v5 lite": {"bfloat16": 197e12},
    "TPU v5": {"bfloat16": 459e12},
    "TPU v6": {"bfloat16": 918e12},
}


def training(model: ModelConfig, sequence_length: int, predictions: int) -> float:
    """FLOPs of one training step for one sequence: dense matrix products, forward and backward.

    Counts 2 for a multiply-add and the backward pass as twice the forward pass. Attention counts
    its two L x L products, or L x window where a layer is local; embeddings, norms and softmax
    are left out, recomputation too.

    Args:
      model: the encoder and its heads.
      sequence_length: L, tokens of the sequence.
      predictions: P, positions that the masked-language head computes.
    """
    width, inner = model.hidden_size, model.intermediate_size
    maps = 2 if model.feed_forward == "gelu" else 3
    per_token = 4 * width**2 + maps * width * inner  # multiply-adds of one layer
    attention = sum(
        2 * width * sequence_length * min(sequence_length, model.window(layer) or sequence_length)
        for layer in range(model.num_hidden_layers)
    )
    head = predictions * (width**2 + width * model.vocab_size)
    forward = model.num_hidden_layers * per_token * sequence_length + attention + head
    return 3 * 2.0 * forward


def peak(device_kind: str, dtype: str) -> float | None:
    """Dense peak of one device in FLOP/s; None where it is not known."""
    for name in sorted(PEAKS, key=len, reverse=True):
        if device_kind.startswith(name):
            return PEAKS[name].get(dtype)
    return None
