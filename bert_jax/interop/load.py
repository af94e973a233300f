"""Reads an encoder from a folder of `transformers`, or from one of Google's checkpoints."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.interop import configs, names, spellings
from bert_jax.interop.folder_tokenizer import open_folder_tokenizer
from bert_jax.interop.tensor_files import Tensors, read_tensors
from bert_jax.interop.tensorflow_checkpoint import is_google_folder, read_google_folder
from bert_jax.model import ModelConfig, Params
from bert_jax.model.heads import HEADS

CONFIG = "config.json"
NEW_HEAD = "the masked-language head is new: the folder has none"  # a note
POOLER = ("bert.pooler.dense.weight", "bert.pooler.dense.bias")


class Encoder(NamedTuple):
    """An encoder with its parameters (float32), and what a user should know of how it was read."""

    model: ModelConfig
    params: Params
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Imported:
    """An encoder and the tokenizer that it was trained with."""

    model: ModelConfig
    params: Params
    tokenizer: Tokenizer
    notes: tuple[str, ...]


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a model of `transformers` or of Google's, and not a run of ours."""
    if is_google_folder(folder):
        return True
    try:
        return "model_type" in json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError, TypeError):
        return False


def load_folder(folder: Path, *, allow_pickle: bool = False) -> Imported:
    """The encoder and the tokenizer of a folder.

    Args:
      folder: of `transformers`, or with a checkpoint of Google's.
      allow_pickle: whether to read weights that are pickles.

    Raises:
      UserError: it holds no encoder that we have, a part of it is missing, damaged or of another
        shape than its config says, or the tokenizer is not the checkpoint's.
    """
    encoder = load_params(folder, allow_pickle=allow_pickle)
    tokenizer = open_folder_tokenizer(folder)
    pad_id = None if is_google_folder(folder) else _read_config(folder).get("pad_token_id")
    _expect_ids(encoder.model, pad_id, tokenizer, folder)
    model, params, notes = _without_unused_rows(encoder, tokenizer)
    return Imported(model, params, tokenizer, notes)


def load_params(folder: Path, *, allow_pickle: bool = False) -> Encoder:
    """The encoder of a folder that `transformers`, Google or `hugging_face.export` wrote.

    A masked-language head that the folder does not have is drawn at random, always the same; the
    heads of fine-tuned models are left out. The notes say so.

    Raises:
      UserError: the folder holds no encoder that we have, or a part of it is missing, damaged or of
        another shape than its config says.
    """
    if is_google_folder(folder):
        tensors, values = read_google_folder(folder)
        return _assemble(spellings.from_tensorflow(tensors), values, folder)
    values = _read_config(folder)
    family = configs.family(values)
    tensors = spellings.from_pytorch(read_tensors(folder, allow_pickle=allow_pickle), family)
    table = "bert.embeddings.position_embeddings.weight"
    if table in tensors:
        tensors[table] = tensors[table][configs.first_position(values) :]
    return _assemble(tensors, values, folder)


def _assemble(tensors: Tensors, values: Mapping[str, Any], folder: Path) -> Encoder:
    """The encoder that tensors, under the names of the table, and a `config.json` describe."""
    has_pairs = "cls.seq_relationship.weight" in tensors
    config = configs.from_hugging_face(values, next_sentence=has_pairs)
    notes = []
    tensors = _without_copies(tensors)
    if not has_pairs and POOLER[0] in tensors:
        notes.append("the pooler is not used")
        tensors = {name: value for name, value in tensors.items() if name not in POOLER}
    head = _head_rows(config)
    has_head = bool(head & tensors.keys())
    if tasks := sorted(name for name in tensors if name.startswith(spellings.TASK_HEADS)):
        notes.append(f"the head of a fine-tuned model is not used: {', '.join(tasks)}")
        # A fine-tuned ModernBERT has a layer of its head under the names of the pretraining head.
        has_head = (has_head and "decoder.bias" in tensors) or "cls.predictions.bias" in tensors
        tensors = {name: value for name, value in tensors.items() if name not in tasks}
    if not has_head:
        notes.append(NEW_HEAD)
        tensors = {name: value for name, value in tensors.items() if name not in head}
        tensors |= _new_head(config)
    try:
        return Encoder(config, names.from_torch(tensors, config), tuple(notes))
    except UserError as error:
        raise UserError(f"{folder}: {error}") from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder} holds no {CONFIG}: it is not a folder of transformers")
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is no object of JSON")
    return values


def _without_copies(tensors: Tensors) -> Tensors:
    """Only the tensors that are parameters of the model.

    Raises:
      UserError: the decoder is not tied to the embeddings.
    """
    for copy, original in spellings.TIED.items():
        if copy not in tensors:
            continue
        if original not in tensors or not np.array_equal(tensors[copy], tensors[original]):
            raise UserError(f"the checkpoint's {copy!r} is not tied to {original!r}")
    unused = {*spellings.TIED, *spellings.BUFFERS}
    return {name: value for name, value in tensors.items() if name not in unused}


def _head_rows(config: ModelConfig) -> set[str]:
    """The tensors of the masked-language head."""
    table = names.rows(config)
    return {name for row in table if row.ours.startswith("mlm_head/") for name in row.theirs}


def _new_head(config: ModelConfig) -> Tensors:
    """A masked-language head as at the start of a training, always the same one."""
    head = HEADS[config.head](config, rngs=nnx.Rngs(params=jax.random.key(0)))
    params = nnx.to_pure_dict(nnx.split(head, nnx.Param)[1])
    return names.part_to_torch({"mlm_head": params}, config)


def _expect_ids(model: ModelConfig, pad_id: int | None, tokenizer: Tokenizer, folder: Path) -> None:
    """Raise if the tokenizer is not that of the model.

    Raises:
      UserError: it has more tokens than the model, or another id for padding.
    """
    vocabulary = tokenizer.vocabulary
    if vocabulary.size > model.vocab_size:
        raise UserError(
            f"the tokenizer in {folder} has {vocabulary.size} tokens and the model has "
            f"{model.vocab_size}: it is not the checkpoint's; put the right one there"
        )
    if pad_id is not None and pad_id != vocabulary.pad_id:
        raise UserError(
            f"the tokenizer in {folder} pads with the id {vocabulary.pad_id} and config.json says "
            f"{pad_id}: it is not the checkpoint's; put the right one there"
        )


def _without_unused_rows(encoder: Encoder, tokenizer: Tokenizer) -> Encoder:
    """The encoder for the ids of its tokenizer alone: some tables are padded to a round size."""
    model, params, notes = encoder
    size = tokenizer.vocabulary.size
    unused = model.vocab_size - size
    if not unused:
        return encoder
    embeddings = params["encoder"]["embeddings"]["tokens"]
    embeddings["embedding"] = embeddings["embedding"][:size].copy()
    params["mlm_head"]["bias"] = params["mlm_head"]["bias"][:size].copy()
    note = f"{unused} rows of the embeddings are left out: the tokenizer has no ids for them"
    return Encoder(dataclasses.replace(model, vocab_size=size), params, (*notes, note))
