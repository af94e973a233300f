"""Pretrain: `python -m bert_jax.train --config=configs/quickstart.py [--workdir=DIR]`.

Prepares the corpus if its token store is not there yet, trains, evaluates on held-out documents,
saves checkpoints, and at the end exports a Hugging Face folder. The same command goes on with a
run that was interrupted; a run is a function of its config, its corpus and the step alone.
"""

import functools
import itertools
import os
import time
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from bert_jax.common import command_line, compile_cache, console, memory
from bert_jax.common.errors import UserError
from bert_jax.config import corpus_directory
from bert_jax.corpus.build import build_store
from bert_jax.corpus.store import MANIFEST, TokenStore
from bert_jax.interop.configs import architecture
from bert_jax.model import ModelConfig
from bert_jax.run import finish, workdir
from bert_jax.run.progress import Reporter
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.identity import expect_same, identity
from bert_jax.stream.phases import phases
from bert_jax.training import sharding
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.preflight import attention_lines, check
from bert_jax.training.step import compile_steps, evaluation_sums, model_of


def train(config: ConfigDict, directory: Path) -> None:
    """Run, or go on with, the training that `config` describes, in `directory`.

    Raises:
      UserError: something in the config, the corpus or the directory has to be fixed first.
    """
    # --- Refuse what cannot work, before any work is done.
    mesh = sharding.make_mesh(config.mesh)
    check(config, mesh)
    with workdir.lock(directory):  # until the end: a second process would delete what this writes
        workdir.check(directory, config)
        train_locked(config, directory, mesh)


def train_locked(config: ConfigDict, directory: Path, mesh: jax.sharding.Mesh) -> None:
    """`train`, in a directory that no other run can use meanwhile."""
    # --- The corpus: a token store, made now if it is not there yet.
    store = prepare(config, directory)
    stream = TrainBatches(store, config)  # refuses a corpus that the objective cannot be had from
    if jax.process_index() == 0:
        workdir.claim(directory, config, store)

    # --- The model, its optimizer and the compiled steps.
    model = model_of(config, store.vocabulary.size)
    say_if_not_exportable(model)
    for line in attention_lines(config, model, mesh):
        console.say(line)
    models = {model_of(config, store.vocabulary.size, phase) for phase in phases(config)}
    steps_of = {each.rope_theta: compile_steps(config, each, mesh) for each in models}
    steps = steps_of[model.rope_theta]

    # --- The state: the newest checkpoint, or the first step. All processes ask whether the run is
    # finished before any of them can finish it: opening the checkpoints waits for all.
    finished = finish.is_finished(directory, config.total_steps)
    checkpoints = Checkpoints(directory / workdir.CHECKPOINTS, config.keep_checkpoints)
    first_step = checkpoints.latest_step() or 0
    if first_step == config.total_steps and finished:
        console.say(f"The run in {directory} is finished ({first_step} steps); nothing to do.")
        return finish.say_next_steps(directory)
    if first_step:
        console.say(f"Going on at step {first_step} of {config.total_steps} in {directory}.")
        now = identity(store, stream, first_step)
        expect_same(checkpoints.stream(first_step), now, store, first_step)
        state = checkpoints.restore(first_step, steps.abstract_state)
    else:
        console.say(f"Starting a run of {config.total_steps} steps in {directory}.")
        state = steps.init()

    # --- The batches. TensorFlow takes seconds to import, and only the pipeline needs it.
    from bert_jax.stream import pipeline

    rows = functools.partial(sharding.process_rows, mesh)
    batch_size = phases(config)[-1].global_batch_size
    held_out = pipeline.evaluation_batches(store, "heldout", config, batch_size, rows)
    batches = pipeline.train_batches(store, config, first_step, config.total_steps, rows)

    # --- The loop: batch, step, log, evaluate, save.
    reporter = Reporter(config, directory, mesh, model, first_step)
    for phase in phases(config):
        steps = steps_of[phase.rope_theta]
        for step in range(max(phase.start, first_step), phase.stop):
            with reporter.waiting_for_data():
                batch = next(batches)
            placed = sharding.place_batch(mesh, batch, phase.global_batch_size)
            state, sums = steps.train(state, placed)
            done = step + 1
            reporter.train(done, phase, sums)
            if done % config.eval_every == 0 or done == config.total_steps:
                with reporter.pause(sums):
                    first = itertools.islice(held_out, config.eval_batches)
                    found = evaluation_sums(mesh, steps, state.params, first, batch_size)
                    reporter.evaluation(done, "heldout", found)
            if done % config.checkpoint_every == 0 or done == config.total_steps:
                with reporter.pause(sums):
                    checkpoints.save(state, identity(store, stream, done))
    reporter.close()
    checkpoints.close()

    # --- The result: a Hugging Face folder, the report, and what to do with them.
    finish.finish(directory, store)


def say_if_not_exportable(model: ModelConfig) -> None:
    """Tell before the training what would otherwise come to light after it."""
    try:
        architecture(model)
    except UserError as error:
        console.say(f"Note: this run trains, but will not be exported to Hugging Face: {error}")


def prepare(config: ConfigDict, directory: Path) -> TokenStore:
    """The run's token store; the first process makes it while the others wait for it."""
    place = corpus_directory(directory, config)
    while jax.process_index() != 0 and not (place / MANIFEST).is_file():
        time.sleep(0.5)
    return workdir.open_store(directory, config, place) or build_store(config, place)


def define_flags() -> None:
    """Define `--distributed`."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "Meet the run's other processes through jax.distributed: under SLURM, Open MPI, GKE and on "
        "TPU pods as found, else by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID",
    )


def main() -> None:
    """Run the command."""
    if flags.FLAGS.distributed:
        sharding.start_distributed()
    else:
        command_line.expect_one_process(os.environ)
    compile_cache.use(flags.FLAGS.compile_cache)
    train(command_line.config(), command_line.workdir())


if __name__ == "__main__":
    memory.keep_freed_memory()
    command_line.define_config()
    command_line.define_compile_cache()
    define_flags()
    command_line.run(main)
