"""A workdir made of a pretrained encoder, for `train` to continue from and all commands to use."""

import json
from pathlib import Path

import jax.numpy as jnp
from ml_collections import ConfigDict

from bert_jax.common.atomic import finished_directory
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
    try:
        with finished_directory(workdir.resolve()) as unfinished:
            (unfinished / TOKENIZER).mkdir()
            tokenizer.save(unfinished / TOKENIZER)
            (unfinished / CONFIG).write_text(to_json(config(model, workdir)))
            (unfinished / IMPORTED).write_text(json.dumps({"from": source}, indent=2) + "\n")
            checkpoints = Checkpoints(unfinished / CHECKPOINTS, keep=1)
            checkpoints.save(TrainState(jnp.int32(0), params, {}), stream={})
            checkpoints.close()
    except OSError as error:
        raise UserError(f"--workdir={workdir} cannot be made: {error.strerror}") from error


def config(model: ModelConfig, workdir: Path) -> ConfigDict:
    """The config of a run with this encoder and the tokenizer in `workdir`."""
    values = default_config()
    for name in values.model:
        setattr(values.model, name, getattr(model, name))
    values.tokenizer.path = str(workdir / TOKENIZER)
    values.stream.objective = "nsp" if model.next_sentence else "packed"
    values.stream.sequence_length = min(128, model.max_position_embeddings)
    return values
