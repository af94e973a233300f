"""Checks that an exported folder gives the same logits under `transformers` as the model here."""

import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from packaging.version import Version

from bert_jax.common.errors import UserError
from bert_jax.interop import configs
from bert_jax.model import ModelConfig, Outputs, Params, abstract

# Largest difference of a logit in float32: absolute up to a logit of 1, relative above.
TOLERANCE = 1e-4
TEXTS = 8  # real texts that are compared at most
OLDEST = "5.20"  # release of transformers that the comparison is tested with

NumpyBatch = dict[str, np.ndarray]  # the arrays of a `model.Batch`
TorchLogits = tuple[Float[np.ndarray, "B L V"], Float[np.ndarray, "B 2"] | None]


class NotComparedError(UserError):
    """The installed libraries cannot do the comparison; the folder may be right."""


def require_libraries() -> None:
    """Import torch and transformers.

    Raises:
      NotComparedError: one of them is missing, or broken: importing it may then raise anything.
    """
    for name in ("torch", "transformers"):
        try:
            if importlib.util.find_spec(name) is None:
                raise NotComparedError(f"{name} is not installed")
            importlib.import_module(name)
        except NotComparedError:
            raise
        except Exception as error:
            raise NotComparedError(f"{name} cannot be imported ({_in_one_line(error)})") from error


class Comparison(NamedTuple):
    """Two sets of logits side by side."""

    difference: float  # the largest, absolute
    largest: float  # logit of `transformers`, absolute

    @property
    def is_close(self) -> bool:
        """Whether the difference is within rounding errors."""
        return self.difference <= TOLERANCE * max(1.0, self.largest)


def verify(
    folder: Path,
    params: Params,
    config: ModelConfig,
    texts: Sequence[Int[np.ndarray, "_"]] = (),
) -> float:
    """The largest difference of the exported files' logits from ours, in float32.

    Compared on random ids, in rows with padding and in rows of several documents, and on texts.

    Args:
      folder: that was exported.
      params: the parameters, as the file has them.
      config: the encoder.
      texts: ids of real texts, with special tokens around them; some of them are compared.

    Raises:
      NotComparedError: torch or transformers is missing, broken or too old.
      UserError: transformers cannot load the folder, or the difference is more than rounding.
    """
    require_libraries()
    batches = [padded_batch(config), packed_batch(config)]
    if texts:
        batches.append(text_batch(config, texts))
    try:
        model = load(folder, config)
        theirs = [torch_logits(model, config, batch) for batch in batches]
    except Exception as error:  # other releases lack classes, take other arguments, ...
        version, reason = _version(), _in_one_line(error)
        if Version(version) < Version(OLDEST):
            raise NotComparedError(
                f"transformers {version} is older than {OLDEST} and cannot compute the folder "
                f"({reason}): upgrade it with `pip install --upgrade transformers`"
            ) from error
        raise UserError(
            f"transformers {version} cannot compute {folder}: {reason}; report this as a bug"
        ) from error
    comparisons = [
        _comparison(our_logits(config, params, batch), logits, batch)
        for batch, logits in zip(batches, theirs, strict=True)
    ]
    for comparison in comparisons:
        if not comparison.is_close:
            raise UserError(
                f"the logits of {folder} under transformers differ from ours by "
                f"{comparison.difference:.2g}, which is more than rounding: do not use it, and "
                "report this as a bug"
            )
    return max(comparison.difference for comparison in comparisons)


def verify_encoder(folder: Path, params: Params, config: ModelConfig) -> float:
    """The largest difference of the hidden states of an exported encoder from ours, in float32.

    Raises:
      NotComparedError: torch or transformers is missing, broken or too old.
      UserError: the difference is more than rounding.
    """
    require_libraries()
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    batch = padded_batch(config)
    is_text = batch["segment_ids"] > 0
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).float().eval()
    with torch.no_grad():
        theirs = model(**_padded_inputs(config, batch)).last_hidden_state.numpy()
    ours = np.asarray(our_hidden(config, params, batch))
    found = Comparison(
        difference=float(np.abs(ours - theirs)[is_text].max()),
        largest=float(np.abs(theirs[is_text]).max()),
    )
    if not found.is_close:
        raise UserError(
            f"the hidden states of {folder} under transformers differ from ours by "
            f"{found.difference:.2g}, which is more than rounding: do not use it, and report this "
            "as a bug"
        )
    return found.difference


def _version() -> str:
    import transformers

    return getattr(transformers, "__version__", "0")


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def load(folder: Path, config: ModelConfig) -> Any:
    """The exported PyTorch model."""
    import transformers

    transformers.logging.disable_progress_bar()  # loading takes a second
    model_class = getattr(transformers, configs.architecture(config))
    return model_class.from_pretrained(folder, local_files_only=True).float().eval()


def compare(model: Any, params: Params, config: ModelConfig, batch: NumpyBatch) -> Comparison:
    """All logits of `batch` except those at padding, of both heads if there are two."""
    ours, theirs = our_logits(config, params, batch), torch_logits(model, config, batch)
    return _comparison(ours, theirs, batch)


def _comparison(ours: Outputs, theirs: TorchLogits, batch: NumpyBatch) -> Comparison:
    mlm_logits, nsp_logits = theirs
    is_text = batch["segment_ids"] > 0
    pairs = [(np.asarray(ours.mlm_logits)[is_text], mlm_logits[is_text])]
    if ours.nsp_logits is not None and nsp_logits is not None:
        pairs.append((np.asarray(ours.nsp_logits), nsp_logits))
    return Comparison(
        difference=max(float(np.abs(a - b).max()) for a, b in pairs),
        largest=max(float(np.abs(b).max()) for _, b in pairs),
    )


def padded_batch(config: ModelConfig) -> NumpyBatch:
    """Two random rows of two segments, the second with padding at its end."""
    length = _length(config)
    rows = np.array([[1] * length, [1] * (length - length // 4) + [0] * (length // 4)])
    positions = np.broadcast_to(np.arange(length), rows.shape)
    return _batch(config, rows, positions)


def packed_batch(config: ModelConfig) -> NumpyBatch:
    """Two random rows of several documents, whose positions start at 0; one row ends in padding."""
    length = _length(config)
    first, second = length // 5, length - length // 3
    rows = np.zeros((2, length), np.int64)
    rows[0, :first], rows[0, first:second], rows[0, second:] = 1, 2, 3
    rows[1, :second], rows[1, second : length - 2] = 1, 2
    is_first = np.diff(rows, axis=1, prepend=-1) != 0
    column = np.arange(length)
    positions = column - np.maximum.accumulate(np.where(is_first, column, 0), axis=1)
    return _batch(config, rows, positions)


def text_batch(config: ModelConfig, texts: Sequence[Int[np.ndarray, "_"]]) -> NumpyBatch:
    """Rows of the first texts, one each and of segment 0, with padding."""
    length = _length(config)
    texts = [ids[:length] for ids in texts[:TEXTS]]
    rows = np.array([[1] * len(ids) + [0] * (length - len(ids)) for ids in texts])
    batch = _batch(config, rows, np.broadcast_to(np.arange(length), rows.shape))
    batch["token_type_ids"][:] = 0
    for row, ids in zip(batch["input_ids"], texts, strict=True):
        row[: len(ids)] = ids
    return batch


def _length(config: ModelConfig) -> int:
    """Tokens of a row: longer than a local window, so that the window matters."""
    return min(config.max_position_embeddings, max(64, 2 * config.local_attention), 512)


def _batch(config: ModelConfig, segment_ids: np.ndarray, position_ids: np.ndarray) -> NumpyBatch:
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


def _in_float32(forward: Any, config: ModelConfig, params: Params, batch: NumpyBatch) -> Any:
    config = dataclasses.replace(config, compute_dtype="float32", attention_backend="xla")
    with jax.default_matmul_precision("highest"):
        return forward(config, params, batch)


@functools.partial(jax.jit, static_argnums=0)
def _forward(config: ModelConfig, params: Params, batch: Any) -> Outputs:
    return nnx.merge(abstract(config)[0], params)(batch)


@functools.partial(jax.jit, static_argnums=0)
def _hidden(config: ModelConfig, params: Params, batch: Any) -> Float[Array, "B L D"]:
    return nnx.merge(abstract(config)[0], params).hidden(batch).astype(jnp.float32)


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
