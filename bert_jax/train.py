"""Pretrain: `python -m bert_jax.train --config=configs/quickstart.py [--workdir=DIR]`.

Prepares the corpus if its token store is not there yet, trains, evaluates on held-out documents,
saves checkpoints, and at the end exports a Hugging Face folder. The same command continues a run
that was interrupted; a run is a function of its config, its corpus and the step alone.
"""

import functools
import os
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from bert_jax.common import bucket, command_line, compile_cache, console, memory, processes
from bert_jax.config import RunSettings, load_config, parse
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.model.compute_dtype import AUTO, fast_dtype
from bert_jax.run import (
    agreement,
    budget,
    continuation,
    distilling,
    finish,
    goodput,
    initial,
    rollback,
    token_store,
    trackers,
    workdir,
)
from bert_jax.run import preset as presets
from bert_jax.run.evaluations import Evaluations
from bert_jax.run.goodput import Clock
from bert_jax.run.health import entropy
from bert_jax.run.preset import Preset
from bert_jax.run.progress import Reporter
from bert_jax.run.saved_config import Change, config_hash
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.identity import expect_same, identity
from bert_jax.stream.sanity import check_predictions
from bert_jax.training import saved, sharding
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.preemption import EXIT_STATUS, StopRequests
from bert_jax.training.preflight import attention_lines, check, vocab_size
from bert_jax.training.spikes import SpikeError
from bert_jax.training.step import compile_steps


def train(
    config: ConfigDict,
    directory: str | Path,
    clock: Clock | None = None,
    from_step: int | None = None,
    preset: Preset | None = None,
) -> None:
    """Train what `config` describes in `directory`, or continue there.

    Args:
      config: of the run.
      directory: of the run.
      clock: of this process; None: it begins now.
      from_step: go back to this checkpoint, to continue with a changed config.
      preset: the config file that `config` comes from, for the report.

    Raises:
      UserError: the config, the corpus or the directory is invalid; the message gives the fix.
      SystemExit: a signal stopped the run, which is saved; the status asks to be started again.
    """
    directory = Path(directory)
    if preset:
        budget.expect_used(config, preset.config)
    agreement.expect_equal_processes(config)
    # The lock is held until the end: a second process would delete what this one writes. All
    # processes wait for it here, so that none reads the directory before an earlier run has ended.
    with workdir.lock(directory), StopRequests() as stop_requests:
        agreement.expect_shared_workdir(directory)
        bucket.pull(directory)

        # --- Check everything that can be checked before any work is done.
        config = continuation.as_begun(directory, config)
        initial.resolve(directory, config)
        settings = parse(config)
        mesh = sharding.make_mesh(settings.training.mesh)
        if config.model.compute_dtype == AUTO:
            device = mesh.devices.flat[0]
            config.model.compute_dtype = processes.of_first(
                lambda: fast_dtype(device), "choose the compute dtype"
            )
        settings = parse(config, distilling.load(config))
        models = settings.models(vocab_size(settings.corpus.tokenizer))
        check(settings.training, settings.stream.phases, models, mesh)
        trackers.check(settings.tracker)

        # --- Train; after a spike of the loss, go back and train on.
        if from_step is not None:
            processes.of_first(
                lambda: continuation.go_back(directory, config, from_step),
                f"go back to step {from_step}",
            )
        clock = clock or Clock()
        while True:
            changes = continuation.check(directory, config)
            try:
                return train_locked(
                    config, settings, directory, mesh, stop_requests, clock, changes, preset
                )
            except SpikeError as spike:
                # As any resume, before the spike; without the batches that led there.
                clock = Clock()
                settings = parse(config, settings.teacher)  # its steps may have been measured
                rollback.go_back(
                    directory / workdir.CHECKPOINTS,
                    settings.spikes,
                    spike,
                    initial.begins_at(config),
                    settings.checkpoint_every,
                )
                bucket.push(directory)


def train_locked(
    config: ConfigDict,
    settings: RunSettings,
    directory: Path,
    mesh: jax.sharding.Mesh,
    stop_requests: StopRequests,
    clock: Clock,
    changes: list[Change],
    preset: Preset | None,
) -> None:
    """`train`, while this process holds the lock of `directory`."""
    place = bucket.home(directory)  # of checkpoints; the other files are uploaded from `directory`

    # --- The corpus: a token store, made now if it is not there yet.
    with clock.spending("preparing"):
        store = token_store.open_or_build(settings, directory)
    if settings.teacher:
        tokenizer = load_tokenizer(store.tokenizer_directory)
        distilling.expect_same_vocabulary(settings.teacher, tokenizer)
    order = workdir.token_order(directory, settings, store)
    is_measured = not config.total_steps  # the run is given in time
    if is_measured:
        with clock.spending("preparing"):
            config.total_steps = budget.measured_steps(config, settings, store, mesh, order)
        settings = parse(config, settings.teacher)
    phases = settings.stream.phases
    spikes = processes.of_first(lambda: initial.spikes(directory, config), f"read {directory}")
    stream = TrainBatches(store, settings.stream, rollback.batches(spikes))
    check_predictions(stream, store.vocabulary)  # that the corpus suits the objective
    if jax.process_index() == 0:
        saved.set_aside_damaged(place / workdir.CHECKPOINTS)
        workdir.claim(directory, config, store, order)
        bucket.push(directory)

    # --- The model, its optimizer and the compiled steps; phases may differ in the rotary base.
    models = settings.models(store.vocabulary.size, order)
    finish.say_if_not_exportable(models[0])
    for line in attention_lines(phases, models[0], mesh, settings.training.mesh.micro_batches):
        console.say(line)
    steps_of_model = {
        model: compile_steps(settings.training, model, mesh) for model in dict.fromkeys(models)
    }
    steps_of_phase = [steps_of_model[model] for model in models]

    # --- The state: the newest checkpoint, or the first step. What process 0 reads holds for all,
    # so that all take the same branch.
    checkpoints = Checkpoints(
        place / workdir.CHECKPOINTS,
        settings.keep_checkpoints,
        settings.keep_every,
        settings.keep_best,
    )
    first_step, is_finished = processes.of_first(
        lambda: (
            checkpoints.latest_step() or 0,
            finish.is_finished(directory, settings.total_steps),
        ),
        f"read {place}",
    )
    if first_step == settings.total_steps and is_finished:
        console.say(f"The run in {place} is finished ({first_step} steps); nothing to do.")
        return finish.say_finished(directory)
    kept: dict[str, str] = {}
    if first_step:
        console.say(f"Continuing at step {first_step} of {settings.total_steps} in {place}.")
        kept = checkpoints.stream(first_step)
        expect_same(kept, identity(store, stream, first_step), store, first_step)
        distilling.expect_same_teacher(kept, settings.teacher, first_step)
        state = checkpoints.restore(first_step, steps_of_phase[0].abstract_state)
    else:
        console.say(f"Starting a run of {settings.total_steps} steps in {place}.")
        state = initial.first_state(config, settings, steps_of_phase[0], store, stream)
        first_step = int(state.step)
        if jax.process_index() == 0:
            presets.write(directory, preset)

    # --- The batches. TensorFlow takes seconds to import, and only the pipeline needs it.
    from bert_jax.stream import pipeline

    rows = functools.partial(sharding.process_rows, mesh)
    batches = pipeline.train_batches(stream, first_step, settings.total_steps, rows)
    evaluations = Evaluations(settings, directory, store, models, mesh)

    # --- The loop: batch, step, log, evaluate, save.
    reporter = Reporter(
        settings,
        directory,
        mesh,
        models[0],
        first_step,
        clock,
        spikes,
        kept.get("figures", ""),
        entropy(store.token_counts),
    )
    reporter.start(config_hash(config), changes)
    if jax.process_index() == 0:
        rollback.write(directory, spikes)
        workdir.write_config(directory, config)
    with (
        stop_requests.during_steps(),
        reporter.watching(),
        rollback.recorded(reporter, checkpoints),
    ):
        for phase, steps in zip(phases, steps_of_phase, strict=True):
            reporter.begin_phase(phase, first_step)
            if phase.stop > first_step:
                console.say(f"Compiling the step for rows of {phase.sequence_length} tokens.")
            for step in range(max(phase.start, first_step), phase.stop):
                with reporter.waiting_for_data():
                    batch = next(batches)
                reporter.takes(batch)
                placed = sharding.place_batch(mesh, batch, phase.global_batch_size)
                state, figures = steps.train(state, placed)
                done = step + 1
                reporter.train(done, phase, figures)
                held_out_loss = evaluations.run(done, phase, steps, state, figures, reporter)
                is_last = done == settings.total_steps
                if is_last:
                    reporter.event(done, "finish")
                is_stop = stop_requests.is_stop(done) and not is_last
                if done % settings.checkpoint_every == 0 or is_last or is_stop:
                    with reporter.pause(figures, "saving"):
                        bucket.push(directory)  # so that the metrics are never older
                        facts = (
                            identity(store, stream, done)
                            | distilling.facts(settings.teacher)
                            | {"figures": reporter.memory()}
                        )
                        checkpoints.save(state, facts, held_out_loss)
                    reporter.saved(done, held_out_loss)
                if is_stop:
                    reporter.event(done, "stop")
                    reporter.close()
                    checkpoints.close()
                    bucket.push(directory)
                    console.say(f"Saved at step {done}; the same command continues from there.")
                    raise SystemExit(EXIT_STATUS)
    reporter.close()
    checkpoints.close()
    stop_requests.end_if_stopped()
    if is_measured:
        console.say(budget.took(config.budget, clock.seconds()))

    # --- The result: a Hugging Face folder, the report, and what to do with them.
    finish.finish(directory)


def define_flags() -> None:
    """Define the command's flags."""
    flags.DEFINE_integer(
        "from_step",
        None,
        "Go back to this checkpoint, to continue with a changed config; later ones are set aside",
    )
    flags.DEFINE_bool(
        "distributed",
        False,
        "Meet the run's other processes through jax.distributed: under SLURM, Open MPI, GKE and on "
        "TPU pods as found, else by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID",
    )


def main() -> None:
    clock = Clock(goodput.process_start())
    if flags.FLAGS.distributed:
        with clock.spending("waiting"):
            sharding.start_distributed()
    else:
        command_line.expect_one_process(os.environ)
    compile_cache.use(flags.FLAGS.compile_cache)
    preset = Preset(command_line.config_name(), load_config(*command_line.config_file()))
    train(command_line.config(), command_line.workdir(), clock, flags.FLAGS.from_step, preset)


if __name__ == "__main__":
    memory.keep_freed_memory()
    command_line.define_config()
    command_line.define_compile_cache()
    define_flags()
    command_line.run(main)
