"""Writes folders that `transformers` loads; `load` reads them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, get_args

import jax
import numpy as np

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.interop import configs, names, tokenizers
from bert_jax.interop.export_folder import write_folder, write_json
from bert_jax.interop.spellings import TIED
from bert_jax.interop.tensor_files import (
    BIN,
    NUMPY,
    Dtype,
    Tensors,
    import_torch,
    write_safetensors,
)
from bert_jax.model import ModelConfig, Params

Format = Literal["safetensors", "bin"]
Kind = Literal["pretraining", "encoder"]


def export(
    params: Params,
    model_config: ModelConfig,
    tokenizer_directory: Path,
    out: Path,
    format: Format = "safetensors",
    lines: Iterable[str] = (),
    *,
    kind: Kind = "pretraining",
    dtype: Dtype = "float32",
    write_more: Callable[[Path], None] | None = None,
) -> None:
    """Writes `config.json`, the weights and the tokenizer's files into the folder `out`.

    Args:
      params: the parameters, as `bert_jax.model.initialize` gives them.
      model_config: the encoder that they belong to.
      tokenizer_directory: a tokenizer saved by `bert_jax.corpus.tokenizers.base`.
      out: written in full or not at all; replaces an earlier export that was not changed since.
      format: "safetensors", or "bin" for a PyTorch state dict, which needs torch.
      lines: real text, on which the exported tokenizer must give the same ids as the run's.
      kind: "pretraining", with the heads that the model has, or "encoder", without.
      dtype: of the weights in the file.
      write_more: writes further files into the folder before it is put in place.

    Raises:
      UserError: no class of transformers computes what the model computes, `out` holds other files,
        the tokenizer cannot be exported, or torch is missing.
    """
    if format not in get_args(Format):
        raise UserError(f"--format={format}: choose one of {', '.join(get_args(Format))}")
    vocabulary = Vocabulary.load(tokenizer_directory)
    if vocabulary.size > model_config.vocab_size:
        raise UserError(
            f"the tokenizer in {tokenizer_directory} has {vocabulary.size} tokens and the model "
            f"{model_config.vocab_size}: they are not of one run"
        )
    values = configs.to_hugging_face(model_config, vocabulary) | {"dtype": dtype}
    tensors = names.to_torch(params, model_config)
    if kind == "encoder":
        values["architectures"] = [configs.encoder_architecture(model_config)]
        tensors = names.encoder_to_torch(params["encoder"], model_config)
        if model_config.next_sentence:
            tensors |= names.pooler_to_torch(params, model_config)
    save_weights = {"safetensors": write_safetensors, "bin": _save_bin}[format]

    def write(folder: Path) -> None:
        write_json(folder / "config.json", values)
        tokenizers.export(
            tokenizer_directory,
            folder,
            max_length=model_config.max_position_embeddings,
            token_types=model_config.token_types > 1,
            lines=lines,
        )
        save_weights(tensors, folder, dtype)
        if write_more:
            write_more(folder)

    write_folder(out, write)


def rounded(params: Params, dtype: Dtype) -> Params:
    """The parameters as they come back from a file of `dtype`, in float32."""
    return jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float32).astype(NUMPY[dtype]).astype(np.float32), params
    )


def _save_bin(tensors: Tensors, folder: Path, dtype: Dtype) -> None:
    torch = import_torch("--format=bin")
    kind = getattr(torch, dtype)
    state = {name: torch.from_numpy(value.copy()).to(kind) for name, value in tensors.items()}
    state |= {copy: state[original] for copy, original in TIED.items() if original in state}
    torch.save(state, folder / BIN)
