"""Reads TensorFlow's checkpoints, as BERT was published in, without TensorFlow.

A checkpoint is a table of entries (`PREFIX.index`) and flat files of values
(`PREFIX.data-00000-of-00001`). The table has LevelDB's format: sorted keys in blocks, an index of
the blocks, a footer (https://github.com/google/leveldb/blob/main/doc/table_format.md). Each entry
is a `BundleEntryProto`, the first one a `BundleHeaderProto`
(tensorflow/core/protobuf/tensor_bundle.proto).
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from bert_jax.common.errors import UserError
from bert_jax.interop.tensor_files import Tensors

CONFIG = "bert_config.json"
_FOOTER, _MAGIC = 48, 0xDB4775248B80FB57
_TRAILER = 5  # bytes after a block: kind of compression, checksum
# Numbers of tensorflow/core/framework/types.proto -> types of numpy.
_DTYPES: dict[int, Any] = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    9: np.int64,
    14: ml_dtypes.bfloat16,
    19: np.float16,
}


def is_google_folder(folder: Path) -> bool:
    """Whether a folder holds a BERT as Google published it."""
    return (folder / CONFIG).is_file() and any(folder.glob("*.index"))


def read_google_folder(folder: Path) -> tuple[Tensors, dict[str, Any]]:
    """The tensors of a folder with `bert_config.json` and a checkpoint, and the config.

    Raises:
      UserError: a file is missing or damaged, or there are several checkpoints.
    """
    prefixes = sorted(path.with_suffix("") for path in folder.glob("*.index"))
    if len(prefixes) != 1:
        listed = ", ".join(path.name for path in prefixes)
        raise UserError(
            f"{folder} holds {len(prefixes)} checkpoints ({listed}): leave one of them there"
        )
    try:
        values = json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise UserError(f"{folder / CONFIG} is no JSON: {error}") from error
    return read_checkpoint(prefixes[0]), {"model_type": "bert"} | values


def read_checkpoint(prefix: Path) -> Tensors:
    """The numeric tensors of a checkpoint by their names.

    Args:
      prefix: what the names of its files begin with, such as `bert_model.ckpt`.

    Raises:
      UserError: a file is missing or damaged.
    """
    index = prefix.with_name(prefix.name + ".index")
    try:
        table = index.read_bytes()
        entries = dict(_table(table))
        shards = dict(_fields(entries.pop(b""))).get(1, 1)
    except FileNotFoundError as error:
        raise UserError(f"{index} is missing: it belongs to the checkpoint {prefix}") from error
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise UserError(f"{index} is damaged, or no checkpoint of TensorFlow: {error!r}") from error
    files: dict[int, np.ndarray] = {}
    tensors: Tensors = {}
    for key, entry in entries.items():
        values: dict[int, Any] = dict(_fields(entry))
        dtype, shard = values.get(1, 0), values.get(3, 0)
        if dtype not in _DTYPES:
            continue  # text, such as the graph of objects that TensorFlow 2 saves
        if shard not in files:
            path = prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")
            if not path.is_file():
                raise UserError(f"{path} is missing: it belongs to the checkpoint {prefix}")
            files[shard] = np.memmap(path, np.uint8, "r")
        name, shape = key.decode(), _shape(values.get(2, b""))
        begin, size = values.get(4, 0), values.get(5, 0)
        data = files[shard][begin : begin + size]
        if len(data) != size or size != np.dtype(_DTYPES[dtype]).itemsize * np.prod(shape):
            raise UserError(f"the checkpoint {prefix} is cut short: {name} is not whole")
        tensors[name] = np.frombuffer(data.tobytes(), _DTYPES[dtype]).reshape(shape)
    return tensors


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All entries of a table in LevelDB's format."""
    footer = data[-_FOOTER:]
    if len(footer) < _FOOTER or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise ValueError("its last bytes are not those of a table")
    _, at = _handle(footer, 0)  # of the block of metadata
    index, _ = _handle(footer, at)
    for _, handle in _block(data, *index):
        yield from _block(data, *_handle(handle, 0)[0])


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and where the next handle begins."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a block: each key gives what differs from the one before it."""
    block = data[offset : offset + size + _TRAILER]
    if len(block) < size + _TRAILER or block[size]:
        raise ValueError("a block is cut short, or compressed")
    restarts = struct.unpack("<I", block[size - 4 : size])[0]
    end, at, key = size - 4 * (restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        at += fresh
        yield key, block[at : at + length]
        at += length


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The numbered fields of a message of protocol buffers; messages in it stay bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        value: int | bytes
        if kind == 0:
            value, at = _varint(message, at)
        elif kind == 2:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, at = message[at : at + length], at + length
        else:
            raise ValueError(f"a field has the unknown wire type {kind}")
        yield number, value


def _shape(message: bytes) -> tuple[int, ...]:
    """Of a `TensorShapeProto`: a message for each axis, whose field 1 is the size."""
    axes = (axis for number, axis in _fields(message) if number == 2)
    return tuple(dict(_fields(axis)).get(1, 0) for axis in axes)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
