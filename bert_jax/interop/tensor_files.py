"""Reads the tensors of a checkpoint's files, whole or in shards, by name; writes safetensors."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from bert_jax.common.errors import UserError

Tensors = dict[str, np.ndarray]  # by name
Dtype = Literal["float32", "float16", "bfloat16"]
NUMPY: dict[Dtype, Any] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}
SAFETENSORS, BIN = "model.safetensors", "pytorch_model.bin"
FORMATS = (SAFETENSORS, BIN)  # the first one that is there is read


def read_tensors(folder: Path, *, allow_pickle: bool = False) -> Tensors:
    """All tensors of a folder of `transformers`.

    Args:
      folder: with `model.safetensors`, `pytorch_model.bin`, or shards of one and their index.
      allow_pickle: read `.bin` files, which are pickles, too. Only tensors are unpickled
        (`weights_only` of torch), and they need torch.

    Raises:
      UserError: there is no such file, it is damaged, or it is a pickle and those are not allowed.
    """
    for name in FORMATS:
        files = list(_files(folder, name))
        if not files:
            continue
        if name == BIN and not allow_pickle:
            raise UserError(
                f"{files[0]} is a pickle, which can run code as it is read: get the model as "
                "safetensors, or, if you trust where it is from, make a workdir of it with "
                "`python -m bert_jax.convert import --allow_pickle`"
            )
        read = _read_safetensors if name == SAFETENSORS else _read_bin
        tensors: Tensors = {}
        for file in files:
            tensors |= read(file)
        return tensors
    raise UserError(f"{folder} holds neither {SAFETENSORS} nor {BIN}, nor an index of shards")


def write_safetensors(tensors: Tensors, folder: Path, dtype: Dtype = "float32") -> None:
    """Write `model.safetensors`."""
    cast = {name: value.astype(NUMPY[dtype]) for name, value in tensors.items()}
    save_file(cast, folder / SAFETENSORS, metadata={"format": "pt"})


def import_torch(what: str) -> Any:
    """The module torch.

    Raises:
      UserError: it is not installed; the message begins with `what`, which needs it.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(f"{what} needs torch: pip install torch, or use safetensors") from error
    return torch


def _files(folder: Path, name: str) -> Iterator[Path]:
    """The file of that name, or the shards that its index lists."""
    if (folder / name).is_file():
        yield folder / name
        return
    index = folder / f"{name}.index.json"
    if not index.is_file():
        return
    try:
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index} is no index of shards: {error!r}") from error
    if missing := [shard for shard in shards if not (folder / Path(shard).name).is_file()]:
        raise UserError(f"{folder} lacks {', '.join(missing)}, which {index.name} lists")
    yield from (folder / Path(shard).name for shard in shards)


def _read_safetensors(path: Path) -> Tensors:
    try:
        return load_file(path)
    except (SafetensorError, KeyError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _read_bin(path: Path) -> Tensors:
    torch = import_torch(str(path))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value.float().numpy() for name, value in state.items()}
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is no file of tensors alone, or damaged: {reason}") from error
