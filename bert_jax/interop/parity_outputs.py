"""What the model here and `transformers` compute for a batch, in float32."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from bert_jax.interop import configs
from bert_jax.interop.parity_batches import NumpyBatch
from bert_jax.model import ModelConfig, Outputs, Params, abstract

TorchLogits = tuple[Float[np.ndarray, "B L V"], Float[np.ndarray, "B 2"] | None]


def our_logits(config: ModelConfig, params: Params, batch: NumpyBatch) -> Outputs:
    """Our logits in full float32, on any device.

    By default a product of float32 matrices takes inputs of 10 bits (TF32) on A100 and H100 and of
    8 bits (bfloat16) on TPUs, which is off by 1e-3 and more: the highest precision turns that off.
    We do not compute on the CPU instead, because a process may have no CPU backend
    (JAX_PLATFORMS=cuda). The XLA backend of attention obeys the precision, the kernels may not.
    """
    return _in_float32(_forward, config, params, batch)


def our_hidden(config: ModelConfig, params: Params, batch: NumpyBatch) -> Float[Array, "B L D"]:
    """Our hidden states in full float32, as `our_logits` computes logits."""
    return _in_float32(_hidden, config, params, batch)


def in_float32(config: ModelConfig) -> ModelConfig:
    """The encoder in float32, with the attention that obeys the precision of products."""
    return dataclasses.replace(config, compute_dtype="float32", attention_backend="xla")


def _in_float32(forward: Any, config: ModelConfig, params: Params, batch: NumpyBatch) -> Any:
    with jax.default_matmul_precision("highest"):
        return forward(in_float32(config), params, batch)


@functools.partial(jax.jit, static_argnums=0)
def _forward(config: ModelConfig, params: Params, batch: Any) -> Outputs:
    return nnx.merge(abstract(config)[0], params)(batch)


@functools.partial(jax.jit, static_argnums=0)
def _hidden(config: ModelConfig, params: Params, batch: Any) -> Float[Array, "B L D"]:
    return nnx.merge(abstract(config)[0], params).hidden(batch).astype(jnp.float32)


def load_torch(folder: Path, config: ModelConfig) -> Any:
    """The exported PyTorch model."""
    import transformers

    transformers.logging.disable_progress_bar()  # loading takes a second
    model_class = getattr(transformers, configs.architecture(config))
    return model_class.from_pretrained(folder, local_files_only=True).float().eval()


def torch_hidden(
    folder: Path, config: ModelConfig, batch: NumpyBatch
) -> Float[np.ndarray, "B L D"]:
    """The hidden states of an exported encoder under `transformers`, of rows of one text each."""
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).float().eval()
    with torch.no_grad():
        return model(**_padded_inputs(config, batch)).last_hidden_state.numpy()


def _padded_inputs(config: ModelConfig, batch: NumpyBatch) -> dict[str, Any]:
    """A batch with one text a row as users pass it, with a mask of the padding."""
    import torch

    names = ("input_ids", "position_ids", *(("token_type_ids",) if config.token_types else ()))
    inputs = {name: torch.tensor(batch[name].astype(np.int64)) for name in names}
    return inputs | {"attention_mask": torch.tensor((batch["segment_ids"] > 0).astype(np.int64))}


def torch_logits(model: Any, config: ModelConfig, batch: NumpyBatch) -> TorchLogits:
    """The logits of `transformers` for a batch.

    Rows of one document are passed as users pass them, with a mask of the padding; rows of several
    documents with a mask of which token sees which.
    """
    import torch

    segment_ids = batch["segment_ids"]
    inputs = _padded_inputs(config, batch)
    if segment_ids.max() > 1:
        same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
        mask: Any = _additive(torch, same)
        if model.config.model_type == "modernbert":
            column = np.arange(segment_ids.shape[1])
            near = np.abs(column[:, None] - column[None, :]) <= model.config.local_attention // 2
            mask = {"full_attention": mask, "sliding_attention": _additive(torch, same & near)}
        inputs["attention_mask"] = mask
    with torch.no_grad():
        outputs = model(**inputs)
    if not config.next_sentence:
        return outputs.logits.numpy(), None
    return outputs.prediction_logits.numpy(), outputs.seq_relationship_logits.numpy()


def _additive(torch: Any, visible: np.ndarray) -> Any:
    return torch.where(torch.tensor(visible), 0.0, torch.finfo(torch.float32).min)
