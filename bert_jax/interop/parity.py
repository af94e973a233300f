"""Whether the exported files compute under `transformers` what the model computes here."""

import dataclasses
import functools
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float

from bert_jax.common.errors import UserError
from bert_jax.interop import configs
from bert_jax.model import ModelConfig, Outputs, abstract

TOLERANCE = (
    1e-4  # of a float32 logit; of larger ones than 1 this share, as rounding grows with them
)

Batch = dict[str, np.ndarray]


def is_possible() -> bool:
    """Whether torch and transformers are installed."""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


class Comparison(NamedTuple):
    """Two sets of logits side by side."""

    difference: float  # the largest, absolute
    largest: float  # logit of `transformers`, absolute

    @property
    def is_close(self) -> bool:
        """Whether the difference is rounding."""
        return self.difference <= TOLERANCE * max(1.0, self.largest)


def verify(folder: Path, params: Any, config: ModelConfig) -> float:
    """The largest difference of the exported files' logits from ours, in float32.

    Compared on random ids, in rows with padding and in rows of several documents.

    Raises:
      UserError: it is more than rounding.
    """
    model = load(folder, config)
    found = [compare(model, params, config, make(config)) for make in (padded_batch, packed_batch)]
    for comparison in found:
        if not comparison.is_close:
            raise UserError(
                f"the logits of {folder} under transformers differ from ours by "
                f"{comparison.difference:.2g}, which is more than rounding: do not use it, and "
                "report this as a bug"
            )
    return max(comparison.difference for comparison in found)


def load(folder: Path, config: ModelConfig) -> Any:
    """The exported PyTorch model."""
    import transformers

    transformers.logging.disable_progress_bar()  # a second of loading needs none
    model_class = getattr(transformers, configs.architecture(config))
    return model_class.from_pretrained(folder, local_files_only=True).float().eval()


def compare(model: Any, params: Any, config: ModelConfig, batch: Batch) -> Comparison:
    """All logits of `batch` that are not padding's, of both heads where there are two."""
    ours = _our_logits(dataclasses.replace(config, compute_dtype="float32"), params, batch)
    mlm_logits, nsp_logits = torch_logits(model, config, batch)
    is_text = batch["segment_ids"] > 0
    pairs = [(np.asarray(ours.mlm_logits)[is_text], mlm_logits[is_text])]
    if ours.nsp_logits is not None and nsp_logits is not None:
        pairs.append((np.asarray(ours.nsp_logits), nsp_logits))
    return Comparison(
        difference=max(float(np.abs(a - b).max()) for a, b in pairs),
        largest=max(float(np.abs(b).max()) for _, b in pairs),
    )


def padded_batch(config: ModelConfig) -> Batch:
    """Random rows of two segments, each but the first with padding at its end."""
    length = _length(config)
    rows = np.array([[1] * length, [1] * (length - length // 4) + [0] * (length // 4)])
    positions = np.broadcast_to(np.arange(length), rows.shape)
    return _batch(config, rows, positions)


def packed_batch(config: ModelConfig) -> Batch:
    """Random rows of several documents, each with positions of its own, and padding in one."""
    length = _length(config)
    first, second = length // 5, length - length // 3
    rows = np.zeros((2, length), np.int64)
    rows[0, :first], rows[0, first:second], rows[0, second:] = 1, 2, 3
    rows[1, :second], rows[1, second : length - 2] = 1, 2
    begins = np.diff(rows, axis=1, prepend=-1) != 0
    place = np.arange(length)
    positions = place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    return _batch(config, rows, positions)


def _length(config: ModelConfig) -> int:
    """Long enough for local windows of the usual widths to cut something off."""
    return min(config.max_position_embeddings, max(64, 2 * config.local_attention), 512)


def _batch(config: ModelConfig, segment_ids: np.ndarray, position_ids: np.ndarray) -> Batch:
    random = np.random.default_rng(0)
    rows, length = segment_ids.shape
    token_types = np.arange(length) * max(config.token_types, 1) // length
    return {
        "input_ids": random.integers(0, config.vocab_size, (rows, length), dtype=np.int32),
        "token_type_ids": np.broadcast_to(token_types, (rows, length)).astype(np.int32),
        "position_ids": position_ids.astype(np.int32),
        "segment_ids": segment_ids.astype(np.int32),
        "masked_positions": np.broadcast_to(np.arange(length), (rows, length)).astype(np.int32),
    }


@functools.partial(jax.jit, static_argnums=0)
def _our_logits(config: ModelConfig, params: Any, batch: Any) -> Outputs:
    return nnx.merge(abstract(config)[0], params)(batch)


def torch_logits(
    model: Any, config: ModelConfig, batch: Batch
) -> tuple[Float[np.ndarray, "B L V"], Float[np.ndarray, "B 2"] | None]:
    """The logits of `transformers` for a batch, in its own way with padding and packing.

    Rows of one document go in as users give them, with a mask of the padding; rows of several with
    a mask of which token sees which.
    """
    import torch

    segment_ids = batch["segment_ids"]
    inputs: dict[str, Any] = {
        name: torch.tensor(batch[name].astype(np.int64)) for name in ("input_ids", "position_ids")
    }
    if config.token_types:
        inputs["token_type_ids"] = torch.tensor(batch["token_type_ids"].astype(np.int64))
    if segment_ids.max() <= 1:
        mask: Any = torch.tensor((segment_ids > 0).astype(np.int64))
    else:
        same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
        mask = _additive(torch, same)
        if model.config.model_type == "modernbert":
            place = np.arange(segment_ids.shape[1])
            near = np.abs(place[:, None] - place[None, :]) <= model.config.local_attention // 2
            mask = {"full_attention": mask, "sliding_attention": _additive(torch, same & near)}
    with torch.no_grad():
        found = model(**inputs, attention_mask=mask)
    if not config.next_sentence:
        return found.logits.numpy(), None
    return found.prediction_logits.numpy(), found.seq_relationship_logits.numpy()


def _additive(torch: Any, visible: np.ndarray) -> Any:
    return torch.where(torch.tensor(visible), 0.0, torch.finfo(torch.float32).min)
