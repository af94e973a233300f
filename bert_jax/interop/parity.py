"""Checks that an exported folder gives the same outputs under `transformers` as the model here."""

import importlib
import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from packaging.version import Version

from bert_jax.common.errors import UserError
from bert_jax.interop.parity_batches import NumpyBatch, packed_batch, padded_batch, text_batch
from bert_jax.interop.parity_outputs import (
    TorchLogits,
    load_torch,
    our_hidden,
    our_logits,
    torch_hidden,
    torch_logits,
)
from bert_jax.model import ModelConfig, Outputs, Params

# Largest difference of an output in float32: absolute up to an output of 1, relative above.
TOLERANCE = 1e-4
OLDEST = "5.20"  # release of transformers that the comparison is tested with

Pair = tuple[Float[np.ndarray, "*_"], Float[np.ndarray, "*_"]]  # ours, theirs


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
    """Two sets of outputs side by side."""

    difference: float  # the largest, absolute
    largest: float  # output of the other side, absolute

    @property
    def is_close(self) -> bool:
        """Whether the difference is within rounding errors."""
        return self.difference <= TOLERANCE * max(1.0, self.largest)


def expect_close(what: str, pairs: Iterable[Pair]) -> float:
    """The largest difference of our outputs from `what`.

    Raises:
      UserError: it is more than rounding.
    """
    found = _comparison(pairs)
    if not found.is_close:
        raise UserError(
            f"{what} differ from ours by {found.difference:.2g}, which is more than rounding: do "
            "not use it, and report this as a bug"
        )
    return found.difference


def _comparison(pairs: Iterable[Pair]) -> Comparison:
    found = [(float(np.abs(a - b).max()), float(np.abs(b).max())) for a, b in pairs]
    return Comparison(*map(max, zip(*found, strict=True)))


def compare(model: Any, params: Params, config: ModelConfig, batch: NumpyBatch) -> Comparison:
    """All logits of `batch` except those at padding, of both heads if there are two."""
    ours, theirs = our_logits(config, params, batch), torch_logits(model, config, batch)
    return _comparison(_logits(ours, theirs, batch))


def _logits(ours: Outputs, theirs: TorchLogits, batch: NumpyBatch) -> list[Pair]:
    mlm_logits, nsp_logits = theirs
    is_text = batch["segment_ids"] > 0
    pairs = [(np.asarray(ours.mlm_logits)[is_text], mlm_logits[is_text])]
    if ours.nsp_logits is not None and nsp_logits is not None:
        pairs.append((np.asarray(ours.nsp_logits), nsp_logits))
    return pairs


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
        model = load_torch(folder, config)
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
    return max(
        expect_close(
            f"the logits of {folder} under transformers",
            _logits(our_logits(config, params, batch), logits, batch),
        )
        for batch, logits in zip(batches, theirs, strict=True)
    )


def verify_encoder(folder: Path, params: Params, config: ModelConfig) -> float:
    """The largest difference of the hidden states of an exported encoder from ours, in float32.

    Raises:
      NotComparedError: torch or transformers is missing, broken or too old.
      UserError: the difference is more than rounding.
    """
    require_libraries()
    batch = padded_batch(config)
    is_text = batch["segment_ids"] > 0
    ours, theirs = our_hidden(config, params, batch), torch_hidden(folder, config, batch)
    what = f"the hidden states of {folder} under transformers"
    return expect_close(what, [(np.asarray(ours)[is_text], theirs[is_text])])


def _version() -> str:
    import transformers

    return getattr(transformers, "__version__", "0")


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
