"""A workdir made of a pretrained encoder, for `train` to continue from and all commands to use."""

import json
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config import default_config
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.model import ModelConfig, Params
from bert_jax.run.saved_config import to_json
from bert_jax.run.workdir import CHECKPOINTS, CONFIG, IMPORTED, TOKENIZER
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.step import TrainState


def create(
    workdir: Path, model: ModelConfig, params: Params, tokenizer: Tokenizer, source: str
) -> None:
    """Write `workdir` with the encoder as its checkpoint of step 0, in full or not at all.

    Args:
      workdir: must not exist, or be empty.
      model: the encoder.
      params: its parameters.
      tokenizer: that it was trained with.
      source: where it is from, for `imported.json`.

    Raises:
      UserError: `workdir` holds something, or cannot be made.
    """
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UserError(f"--workdir={workdir} is not empty: name a new directory")
    partial = workdir.resolve().with_name(f".{workdir.resolve().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / TOKENIZER).mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--workdir={workdir} cannot be made: {error.strerror}") from error
    try:
        tokenizer.save(partial / TOKENIZER)
        (partial / CONFIG).write_text(to_json(config(model, workdir)))
        (partial / IMPORTED).write_text(json.dumps({"from": source}, indent=2) + "\n")
        checkpoints = Checkpoints(partial / CHECKPOINTS, keep=1)
        checkpoints.save(TrainState(jnp.int32(0), params, {}), stream={})
        checkpoints.close()
        if workdir.exists():
            workdir.rmdir()
        os.replace(partial, workdir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def config(model: ModelConfig, workdir: Path) -> ConfigDict:
    """The config of a run with this encoder and the tokenizer in `workdir`."""
    values = default_config()
    for name in values.model:
        setattr(values.model, name, getattr(model, name))
    values.tokenizer.path = str(workdir / TOKENIZER)
    values.stream.objective = "nsp" if model.next_sentence else "packed"
    values.stream.sequence_length = min(128, model.max_position_embeddings)
    return values
