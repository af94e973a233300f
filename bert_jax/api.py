"""bert_jax from Python: `load` a trained encoder, `train` one, `finetune` it.

    from bert_jax import api

    api.train(api.config("quickstart", total_steps=60, warmup_steps=10), "runs/small")
    model = api.load("runs/small")
    model.fill_mask("The capital of France is [MASK].")

`bert_jax.load` is `api.load`. The functions that train are only here, because `bert_jax.train` and
`bert_jax.finetune` are the modules of the commands, which do the same.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from bert_jax import finetune as finetune_command
from bert_jax import train as train_command
from bert_jax.common import config_files
from bert_jax.common.errors import UserError
from bert_jax.config import load_config
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.inference import fill_mask as filling
from bert_jax.inference import logits as all_logits
from bert_jax.inference.embed import embed
from bert_jax.inference.fill_mask import Prediction
from bert_jax.model import ModelConfig, Params
from bert_jax.run import pretrained


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained encoder with its heads and its tokenizer, on this machine's first device.

    Attributes:
      config: its architecture.
      params: its parameters, a pytree of float32 arrays.
      tokenizer: `encode`, `decode`, `vocabulary`.
    """

    config: ModelConfig
    params: Params
    tokenizer: Tokenizer

    def fill_mask(self, texts: str | Sequence[str], top: int = 5) -> list[list[list[Prediction]]]:
        """For each text and each of its [MASK]s, the most probable tokens.

        Raises:
          UserError: a text has no [MASK], or more tokens than the model takes.
        """
        return filling.fill_mask(self.params, self.config, self.tokenizer, _texts(texts), top)

    def embed(
        self, texts: str | Sequence[str], pooling: str = "mean", normalize: bool = False
    ) -> Float[np.ndarray, "n D"]:
        """A vector for each text: the mean over its tokens, or `cls`, that of its first one."""
        parts = embed(
            self.params,
            self.config,
            self.tokenizer,
            _texts(texts),
            pooling=pooling,
            normalize=normalize,
        )
        return np.concatenate([*parts])

    def logits(self, texts: str | Sequence[str]) -> list[Float[np.ndarray, "L V"]]:
        """For each text, the logits of the masked-language head at each token, [CLS] first.

        Raises:
          UserError: a text has more tokens than the model takes.
        """
        return all_logits.logits(self.params, self.config, self.tokenizer, _texts(texts))


def load(workdir: str | Path, step: int | None = None) -> Model:
    """The encoder of a run, at its newest checkpoint or at `step`, or of a `transformers` folder.

    Raises:
      UserError: there is none, or it cannot be used.
    """
    found = pretrained.load(workdir, step)
    return Model(found.model, jax.device_put(found.params), found.tokenizer)


def config(name: str, **fields: Any) -> ConfigDict:
    """A config by name (`quickstart`, `bert:tiny`) or file, with fields changed.

    Args:
      name: as the flag `--config` takes it.
      fields: top-level ones by keyword, others as `**{"model.hidden_size": 64}`.

    Raises:
      UserError: there is no such config, or no such field.
    """
    file, _, arg = name.partition(":")
    path = config_files.find(file)
    if not path.is_file():
        raise UserError(f"there is no config {name!r}: there are {', '.join(config_files.names())}")
    found = load_config(str(path), arg)
    for field, value in fields.items():
        group, _, last = field.rpartition(".")
        try:
            (found[group] if group else found)[last] = value
        except (KeyError, AttributeError, TypeError) as error:
            raise UserError(f"config field {field!r}: {error}") from error
    return found


def train(config: ConfigDict, workdir: str | Path) -> Model:
    """Pretrain in `workdir`, or continue there, and load the result; `bert_jax.train` is this.

    Raises:
      UserError: the config, the corpus or the workdir is invalid.
      SystemExit: a signal stopped the run, which is saved.
    """
    train_command.train(config, Path(workdir))
    return load(workdir)


def finetune(config: ConfigDict, workdir: str | Path) -> Path:
    """Fine-tune in `workdir`, or continue there; `python -m bert_jax.predict` uses the result.

    Args:
      config: of a fine-tuning: `api.config("finetune/classification", init="runs/mine")`.
      workdir: of the fine-tuning, which is returned.

    Raises:
      UserError: the config, the data or the workdir is invalid.
      SystemExit: a signal stopped it, and it is saved.
    """
    finetune_command.finetune(config, Path(workdir))
    return Path(workdir)


def _texts(texts: str | Sequence[str]) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts
