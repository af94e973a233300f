"""The first state of a run: random, or that of a trained encoder (`config.init_from`).

`config.init_from` is the directory of a run, `directory@step`, or a folder of `transformers`.
Without a step, the newest whole checkpoint of a run is meant, and its step is recorded in the new
run's `config.json`: a run that is started again begins with the same state.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from bert_jax.common import console, processes
from bert_jax.common.bucket import AnyPath, home
from bert_jax.common.errors import UserError
from bert_jax.config import RunSettings, parse
from bert_jax.corpus.store import TokenStore
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.interop.load import is_model_folder
from bert_jax.model import Params
from bert_jax.run import pretrained, rollback, workdir
from bert_jax.run.pretrained import split_step, with_step
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.identity import expect_same, identity
from bert_jax.training import saved
from bert_jax.training.checkpoint import restore_params, restore_state, stream_of
from bert_jax.training.optimizers import restart_schedules
from bert_jax.training.parameter_rules import name_of
from bert_jax.training.step import Steps, TrainState

INIT_STATES = ("params", "optimizer", "all")


class Source(NamedTuple):
    """A checkpoint of another run, or a folder of `transformers`."""

    directory: Path
    step: int | None  # None: the newest whole one; or a folder of `transformers`

    @property
    def checkpoints(self) -> AnyPath:
        return home(self.directory) / workdir.CHECKPOINTS

    @property
    def is_folder(self) -> bool:
        return is_model_folder(self.directory)

    def __str__(self) -> str:
        return str(self.directory) if self.step is None else f"{self.directory}@{self.step}"


def resolve(directory: Path, config: ConfigDict) -> None:
    """Check `config.init_from` and `config.init_state`, and add the step to the former.

    A run that has checkpoints of its own needs its source no more: it may be gone.

    Args:
      directory: of the run.
      config: of the run.

    Raises:
      UserError: there is no such run or checkpoint, or it is damaged.
    """
    if config.init_state not in INIT_STATES:
        raise UserError(
            f"config.init_state is {config.init_state!r}: choose one of {', '.join(INIT_STATES)}"
        )
    if not config.init_from:
        return
    if processes.of_first(lambda: workdir.has_checkpoints(directory), f"read {directory}"):
        return
    source = Source(*split_step(config.init_from))
    if not (source.directory / workdir.CONFIG).is_file():
        raise UserError(
            f"config.init_from={config.init_from}: {source.directory} holds no run "
            f"({workdir.CONFIG} is missing); name the --workdir of a run, workdir@step, or a "
            "folder of transformers"
        )
    is_import = workdir.imported_from(source.directory) is not None
    if (source.is_folder or is_import) and config.init_state != "params":
        raise UserError(
            f"config.init_from={config.init_from} was trained elsewhere and has parameters alone: "
            f"set config.init_state to params, not {config.init_state}"
        )
    if source.is_folder:
        return
    try:
        step = processes.of_first(
            lambda: saved.choose(source.checkpoints, source.step), f"read {source}"
        )
    except UserError as error:
        raise UserError(f"config.init_from={config.init_from}: {error}") from error
    config.init_from = with_step(config.init_from, step)
    if config.init_state == "all" and step >= config.total_steps:
        raise UserError(
            f"config.init_from={config.init_from} with config.init_state=all continues at step "
            f"{step}: set config.total_steps, which is {config.total_steps}, above it"
        )


def begins_at(config: ConfigDict) -> int:
    """The step of a run's first state: 0, or that at which it branches off another run."""
    if not config.init_from or config.init_state != "all":
        return 0
    _, step = split_step(config.init_from)
    return step or 0


def spikes(directory: Path, config: ConfigDict) -> list[dict[str, Any]]:
    """The spikes that the run in `directory` left out; a branch begins with those of its source."""
    found = rollback.read(directory)
    if found or workdir.has_checkpoints(directory) or not (begin := begins_at(config)):
        return found
    source, _ = split_step(config.init_from)
    return [spike for spike in rollback.read(source) if spike["first"] < begin]


def first_state(
    config: ConfigDict,
    settings: RunSettings,
    steps: Steps,
    store: TokenStore,
    stream: TrainBatches,
) -> TrainState:
    """The state that a run begins with; its step is 0, or that of a checkpoint to branch off from.

    Args:
      config: of the run, resolved.
      settings: the same, parsed.
      steps: compiled, of the run's first phase.
      store: of the run.
      stream: of the run.

    Raises:
      UserError: the checkpoint of `config.init_from` does not fit the run.
    """
    if not config.init_from:
        return steps.init()
    source = Source(*split_step(config.init_from))
    console.say(f"It begins with {config.init_from} (config.init_state={config.init_state}).")
    if source.is_folder:
        return _with_params(source, _folder_params(source, store), steps)
    assert source.step is not None
    _expect_same_tokenizer(source, store)
    _expect_same_order(source, settings, store)
    if config.init_state == "params":
        _, params = restore_params(source.checkpoints, source.step, steps.abstract_state.params)
        return _with_params(source, params, steps)
    _expect_same_optimizer(source, config)
    state = restore_state(source.checkpoints, source.step, steps.abstract_state)
    if config.init_state == "all":
        before = stream_of(source.checkpoints, source.step)
        expect_same(before, identity(store, stream, source.step), store, source.step)
        return state
    zero = jax.device_put(np.int32(0), steps.abstract_state.step.sharding)
    return TrainState(zero, state.params, restart_schedules(state.opt_state))


def _expect_same_tokenizer(source: Source, store: TokenStore) -> None:
    theirs = source.directory / workdir.TOKENIZER
    if name := workdir.first_difference(theirs, store.tokenizer_directory):
        raise UserError(
            f"config.init_from={source} has another tokenizer than this run's corpus "
            f"({name} differs): set config.tokenizer.path={theirs}, or "
            "config.corpus.directory to the token store of that run"
        )


def _expect_same_order(source: Source, settings: RunSettings, store: TokenStore) -> None:
    """Heads that treat frequent tokens differently must agree on which these are."""
    config = workdir.load_config(source.directory)
    theirs = workdir.saved_token_order(source.directory, parse(config))
    if theirs and theirs != workdir.counted_token_order(settings, store):
        raise UserError(
            f"config.init_from={source} has the head {settings.model['head']}, whose classes "
            "follow the order of frequency in its own corpus, and this run has another corpus: use "
            "the same token store, or a run with config.model.head=blocked"
        )


def _folder_params(source: Source, store: TokenStore) -> Params:
    """The parameters of a folder of `transformers`, whose tokenizer must be the store's."""
    encoder = pretrained.load(source.directory, flag="config.init_from")
    ours = load_tokenizer(store.tokenizer_directory)
    theirs = encoder.tokenizer
    sizes = ours.vocabulary.size, theirs.vocabulary.size
    if sizes[0] != sizes[1] or any(ours.piece(i) != theirs.piece(i) for i in range(sizes[0])):
        raise UserError(
            f"config.init_from={source} has another vocabulary ({sizes[1]} tokens) than this run's "
            f"corpus ({sizes[0]}): set config.tokenizer.path={source}"
        )
    return encoder.params


def _with_params(source: Source, params: Params, steps: Steps) -> TrainState:
    """The state at step 0 with these parameters.

    Raises:
      UserError: the run's model has others; Orbax restores what is there, whatever is wanted.
    """
    wanted = steps.abstract_state.params
    _expect_same_shapes(source, params, wanted)
    found = {name_of(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    placed = jax.tree.map_with_path(
        lambda path, leaf: jax.device_put(found[name_of(path)], leaf.sharding), wanted
    )
    return steps.init_from(placed)


def _expect_same_shapes(source: Source, params: Any, wanted: Any) -> None:
    theirs = {name_of(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(params)}
    for path, leaf in jax.tree.leaves_with_path(wanted):
        shape = theirs.get(name_of(path))
        if shape != leaf.shape:
            raise UserError(
                f"config.init_from={source} does not fit config.model: the parameter "
                f"{name_of(path)} is {shape or 'missing'} there and {leaf.shape} here; use the "
                f"model settings of {source.directory / workdir.CONFIG}"
            )


def _expect_same_optimizer(source: Source, config: ConfigDict) -> None:
    theirs = workdir.load_config(source.directory)
    if theirs.optimizer.name != config.optimizer.name:
        raise UserError(
            f"config.init_state={config.init_state} takes the optimizer's state from {source}, "
            f"which has config.optimizer.name={theirs.optimizer.name}, and this run "
            f"{config.optimizer.name}: use that one, or config.init_state=params"
        )
