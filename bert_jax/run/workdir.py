"""A run's directory: whose it is, and what the other commands need of it.

* `config.json`, the resolved config; with `tokenizer/` and `checkpoints/` it is all that is needed
  to convert, fine-tune or fill masks
* `tokenizer/`
* `checkpoints/<step>/`, the newest few
* `corpus/`, the token store, unless config.corpus.directory says where it is
* `metrics.jsonl`, one object a line, and TensorBoard's files in `tensorboard/`
* `hf/`, the last checkpoint as a Hugging Face folder
* `report.html`, the learning curves; written last, so it tells that the run is finished
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config import (
    RunSettings,
    default_config,
    flatten,
    from_dict,
    is_same_run,
    parse,
    to_json,
)
from bert_jax.corpus.store import TokenStore
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.model import ModelConfig, abstract
from bert_jax.training import checkpoint

CONFIG = "config.json"
TOKENIZER = "tokenizer"
CHECKPOINTS = "checkpoints"
HUGGING_FACE = "hf"


def check(workdir: Path, config: ConfigDict) -> None:
    """Refuse a directory that holds another run; one without a checkpoint binds nobody yet.

    Raises:
      UserError: the message shows the fields that differ.
    """
    path = workdir / CONFIG
    if not path.exists() or not _has_checkpoint(workdir):
        return
    # A field that came later had its default before.
    default, new = (flatten(json.loads(to_json(c))) for c in (default_config(), config))
    old = default | flatten(json.loads(path.read_text()))
    different = [
        f"{name} was {json.dumps(old.get(name))} and is now {json.dumps(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if not is_same_run(name, old.get(name), new.get(name))
    ]
    if different:
        raise UserError(
            f"--workdir={workdir} holds a run with another config: {'; '.join(different)}. "
            "Use another --workdir, or the config that the run began with"
        )


def claim(workdir: Path, config: ConfigDict, store: TokenStore) -> None:
    """Make `workdir` the directory of the run of this config on this token store.

    Raises:
      UserError: the run there was begun with another tokenizer.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    if not _has_checkpoint(workdir):
        shutil.rmtree(workdir / TOKENIZER, ignore_errors=True)
    _keep_tokenizer(workdir / TOKENIZER, store.tokenizer_directory)
    path, text = workdir / CONFIG, to_json(config)
    if not path.exists() or path.read_text() != text:
        write_whole(path, text)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader finds all of it or what was there before."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text)
    os.replace(unfinished, path)


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run as the commands after training need it."""

    workdir: Path
    settings: RunSettings
    model: ModelConfig
    step: int
    params: Any  # host arrays

    @property
    def tokenizer_directory(self) -> Path:
        """Where the run's tokenizer is."""
        return self.workdir / TOKENIZER


def load_config(workdir: Path) -> ConfigDict:
    """The resolved config of the run in `workdir`.

    Raises:
      UserError: `workdir` holds no run.
    """
    path = workdir / CONFIG
    if not path.is_file():
        raise UserError(f"--workdir={workdir}: {path} is missing, so no run was begun there")
    return from_dict(json.loads(path.read_text()))


def load_run(workdir: Path, step: int | None = None) -> Run:
    """The run in `workdir` at `step`, or at its newest checkpoint.

    Raises:
      UserError: `workdir` holds no run, or no such checkpoint.
    """
    settings = parse(load_config(workdir))
    size = Vocabulary.load(workdir / TOKENIZER).size
    _, abstract_params = abstract(settings.model_config(size))
    step, params = checkpoint.restore_params(workdir / CHECKPOINTS, step, abstract_params)
    model = settings.model_config(size, settings.stream.phase_before(step))
    # What is used may be of any length, in any type, on other devices than the run was trained on.
    model = dataclasses.replace(model, attention_backend="auto", rows="packed")
    return Run(workdir, settings, model, step, params)


def _has_checkpoint(workdir: Path) -> bool:
    return any(path.name.isdigit() for path in (workdir / CHECKPOINTS).glob("*"))


def _keep_tokenizer(kept: Path, tokenizer: Path) -> None:
    """Copy the tokenizer beside the checkpoints, so that they are usable without the corpus."""
    if not kept.exists():
        unfinished = kept.with_name(kept.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(tokenizer, unfinished)
        os.replace(unfinished, kept)
    expect_same_tokenizer(kept, tokenizer)


def expect_same_tokenizer(kept: Path, tokenizer: Path) -> None:
    """Refuse a token store of another tokenizer than the run's.

    Raises:
      UserError: a file differs; names it.
    """
    for path in sorted(tokenizer.iterdir()):
        twin = kept / path.name
        if not twin.exists() or twin.read_bytes() != path.read_bytes():
            raise UserError(
                f"{twin} differs from {path}: the corpus was prepared anew since the run began; "
                "use another --workdir, or the token store that the run began with"
            )
