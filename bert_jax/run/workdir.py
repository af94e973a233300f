"""A run's directory: its files, its lock, and loading the run that is in it.

* `config.json`, the resolved config; with `tokenizer/` and `checkpoints/` it is all that is needed
  to convert, fine-tune or fill masks
* `tokenizer/`, and for the heads `adaptive` and `sampled` `token_order.npy`: the ids from the most
  frequent to the rarest
* `checkpoints/<step>/`, the newest few, and those that `keep_every` and `keep_best` keep; a damaged
  one is set aside as `<step>.damaged`
* `corpus/`, the token store, unless config.corpus.directory names another place
* `preset.json`, the config file that the run began with, without the flags
* `samples.jsonl`, what the model fills into the same sentences at each evaluation
* `metrics.jsonl`, one object a line, and TensorBoard's files in `tensorboard/`
* `hf/`, the last checkpoint as a Hugging Face folder
* `report.html`, the run in curves and figures, renewed at every evaluation
* `finished.json`, written last: the step at which the run was exported and reported, whether there
  was a class of transformers to export it to, and warnings
* `imported.json`, where the encoder is from, if `convert import` made the directory
* `lock`, while a process trains here
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from bert_jax.common import processes
from bert_jax.common.atomic import finished_directory, finished_file, write_text
from bert_jax.common.bucket import CHECKPOINTS, home
from bert_jax.common.errors import UserError
from bert_jax.common.lock import exclusive
from bert_jax.config import RunSettings, parse
from bert_jax.corpus.store import TokenStore
from bert_jax.corpus.store.arrays import write_array
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.model import ModelConfig, abstract
from bert_jax.model.heads import HEADS
from bert_jax.run.saved_config import from_dict, to_json
from bert_jax.training.checkpoint import restore_params
from bert_jax.training.saved import saved_steps

CONFIG = "config.json"
TOKENIZER = "tokenizer"
HUGGING_FACE = "hf"
FINISHED = "finished.json"
IMPORTED = "imported.json"
TOKEN_ORDER = "token_order.npy"
LOCK = "lock"


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Keep other runs out of `workdir` during the block.

    Of several processes of one run, the first one holds the lock. What is made of the
    directory and those above it is removed again if the block leaves nothing in it.

    Raises:
      UserError: a live process of another run holds it; nothing in `workdir` was touched. Or
        `workdir` cannot be made.
    """
    if jax.process_index() != 0:
        yield
        return
    made = [path for path in (workdir, *workdir.parents) if not path.exists()]
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--workdir={workdir} cannot be made ({error.strerror}: {error.filename}): name a "
            "directory that you may write to"
        ) from error
    refusal = (
        f"--workdir={home(workdir)} is in use by another run: wait until that ends, stop it, or "
        "give this one another --workdir"
    )
    try:
        with exclusive(home(workdir) / LOCK, refusal):
            yield
    finally:
        with contextlib.suppress(OSError):  # there is something in it
            for path in made:
                path.rmdir()


def token_order(workdir: Path, settings: RunSettings, store: TokenStore) -> tuple[int, ...]:
    """What process 0 finds: of a run with checkpoints the saved order, else that of the store.

    Every process must call it.
    """

    def find() -> tuple[int, ...]:
        if has_checkpoints(workdir):
            return saved_token_order(workdir, settings)
        return counted_token_order(settings, store)

    return tuple(processes.of_first(find, f"order the tokens in {workdir}"))


def saved_token_order(workdir: Path, settings: RunSettings) -> tuple[int, ...]:
    """The ids from the most frequent to the rarest when the run in `workdir` began.

    () if its head does not ask for them, or an earlier version began it: in the order of the ids.

    Raises:
      UserError: the file with them is damaged.
    """
    path = workdir / TOKEN_ORDER
    if not HEADS[settings.model["head"]].uses_frequency or not path.exists():
        return ()
    try:
        return tuple(np.load(path, allow_pickle=False).tolist())
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}): restore it from a copy") from error


def counted_token_order(settings: RunSettings, store: TokenStore) -> tuple[int, ...]:
    """The ids from the most frequent in `store` to the rarest; () if no head asks for them."""
    if not HEADS[settings.model["head"]].uses_frequency:
        return ()
    return tuple(np.argsort(-store.token_counts, kind="stable").tolist())


def claim(
    workdir: Path, config: ConfigDict, store: TokenStore, order: tuple[int, ...] = ()
) -> None:
    """Write the tokenizer and the `token_order` of a run that starts or continues.

    Raises:
      UserError: the run there began with another tokenizer.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    steps = saved_steps(home(workdir) / CHECKPOINTS)
    if not steps:
        shutil.rmtree(workdir / TOKENIZER, ignore_errors=True)
    if steps[-1:] != [config.total_steps]:
        (workdir / FINISHED).unlink(missing_ok=True)  # of an earlier run in this directory
        (home(workdir) / FINISHED).unlink(missing_ok=True)  # nothing else removes it in a bucket
    _keep_tokenizer(workdir / TOKENIZER, store.tokenizer_directory)
    if order:
        with finished_file(workdir / TOKEN_ORDER) as unfinished:
            write_array(unfinished, np.array(order))


def write_config(workdir: Path, config: ConfigDict) -> None:
    """Write `config.json`; once a change of it is in `metrics.jsonl`, so that none is lost."""
    path, text = workdir / CONFIG, to_json(config)
    if not path.exists() or path.read_text() != text:
        write_text(path, text)


def has_checkpoints(workdir: Path) -> bool:
    """Whether a run in `workdir` saved at least one checkpoint."""
    return bool(saved_steps(home(workdir) / CHECKPOINTS))


def mark_finished(workdir: Path, step: int, warnings: list[str], is_exported: bool = True) -> None:
    """Record that the run was exported and reported at `step`, its last, and with what warnings."""
    values = {"step": step, "exported": is_exported, "warnings": warnings}
    text = json.dumps(values, indent=2)
    write_text(workdir / FINISHED, text + "\n")


def read_finished(workdir: Path) -> dict[str, Any] | None:
    """What `mark_finished` recorded: `step`, `exported`, `warnings`. None: not finished."""
    try:
        return json.loads((workdir / FINISHED).read_text())
    except (FileNotFoundError, ValueError):
        return None


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run, as the commands after training need it."""

    workdir: Path
    settings: RunSettings
    model: ModelConfig
    step: int
    params: Any  # host arrays

    @property
    def tokenizer_directory(self) -> Path:
        return self.workdir / TOKENIZER


def load_config(workdir: Path, flag: str = "--workdir") -> ConfigDict:
    """The resolved config of the run in `workdir`, which `flag` named.

    Raises:
      UserError: `workdir` holds no run, or its config cannot be read.
    """
    path = workdir / CONFIG
    if not path.is_file():
        raise UserError(f"{flag}={workdir}: {path} is missing, so no run was begun there")
    values = read_config(path)
    if "model_type" in values:
        raise UserError(
            f"{flag}={workdir} is a folder of transformers, and this needs a run: make one of "
            f"it with `python -m bert_jax.convert import --from={workdir} --workdir=DIR`"
        )
    if "task" in values:
        raise UserError(
            f"{flag}={workdir} is a fine-tuning, and this needs its encoder: name the folder "
            f"that it exported, {workdir / 'hf'}"
        )
    return from_dict(values)


def read_config(path: Path) -> dict[str, Any]:
    """The values in a `config.json`.

    Raises:
      UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}): restore it from a copy; it holds the config that the "
            "run began with"
        ) from error


def load_run(workdir: Path, step: int | None = None, flag: str = "--workdir") -> Run:
    """The run in `workdir`, which `flag` named, at `step` or at its newest whole checkpoint.

    Raises:
      UserError: `workdir` holds no run, or no such checkpoint, or that one is damaged.
    """
    settings = parse(load_config(workdir, flag))
    size = Vocabulary.load(workdir / TOKENIZER).size
    _, abstract_params = abstract(settings.model_config(size))
    step, params = restore_params(home(workdir) / CHECKPOINTS, step, abstract_params)
    phase = settings.stream.phase_before(step)
    model = settings.model_config(size, phase, saved_token_order(workdir, settings))
    # Inputs may have any length, and the devices may be others than those of the training.
    model = dataclasses.replace(model, attention_backend="auto", rows="packed")
    return Run(workdir, settings, model, step, params)


def imported_from(workdir: Path) -> str | None:
    """What `convert import` made the directory from; None: a run trained there."""
    try:
        return json.loads((workdir / IMPORTED).read_text())["from"]
    except FileNotFoundError:
        return None


def _keep_tokenizer(kept: Path, tokenizer: Path) -> None:
    """Copy the tokenizer next to the checkpoints, so that they are usable without the corpus."""
    if not kept.exists():
        with finished_directory(kept) as unfinished:
            shutil.copytree(tokenizer, unfinished, dirs_exist_ok=True)
    expect_same_tokenizer(kept, tokenizer)


def expect_same_tokenizer(kept: Path, tokenizer: Path) -> None:
    """Raise if a token store's tokenizer is not the run's.

    Raises:
      UserError: names the file that differs.
    """
    if name := first_difference(kept, tokenizer):
        raise UserError(
            f"{kept / name} differs from {tokenizer / name}: the corpus was prepared again after "
            "the run began; use another --workdir, or the token store that the run began with"
        )


def first_difference(kept: Path, tokenizer: Path) -> str | None:
    """The first file of the directory `tokenizer` that is not, byte for byte, in `kept`."""
    for path in sorted(tokenizer.iterdir()):
        twin = kept / path.name
        if not twin.exists() or twin.read_bytes() != path.read_bytes():
            return path.name
    return None
