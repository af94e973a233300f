"""Fine-tune: `python -m bert_jax.finetune --config=configs/finetune/classification.py
--config.init=runs/mine --config.data.train=train.tsv --workdir=runs/sst2`.

Scores the majority class and the untrained head first, trains on the task, keeps the checkpoint
that is best on the validation split, and ends with figures, predictions, a report and a Hugging
Face folder. The same command continues a fine-tuning that was interrupted; it is a function of its
config, its data and the step alone.
"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from bert_jax.common import command_line, compile_cache, config_files, console, memory
from bert_jax.common.errors import UserError
from bert_jax.config.finetuning import FinetuneSettings, parse
from bert_jax.model import ModelConfig
from bert_jax.run import finetune_finish, finetuned, workdir
from bert_jax.run.finetuning import Finetuning, History, SeedWriter, check_freeze
from bert_jax.run.starting import Start, load_start
from bert_jax.tasks.data import Record, splits
from bert_jax.tasks.evaluation import compile_forward, place
from bert_jax.tasks.parameters import rate_factors, starting_params
from bert_jax.tasks.prepared import TaskOrder, prepare
from bert_jax.training import saved, sharding
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.parameter_rules import check_rules
from bert_jax.training.preemption import EXIT_STATUS, StopRequests
from bert_jax.training.settings import TrainingSettings
from bert_jax.training.step import Steps, compile_steps


def finetune(config: ConfigDict, directory: str | Path) -> None:
    """Fine-tune as `config` says in `directory`, or continue there.

    Raises:
      UserError: the config, the data or the directory is invalid; the message gives the fix.
      SystemExit: a signal stopped the run, which is saved; the status asks to be started again.
    """
    # --- Check the config and read all data before anything is written.
    directory = Path(directory)
    settings = parse(config)
    finetuned.check(directory, config)
    mesh = sharding.make_mesh(settings.mesh)
    sharding.check_batch_size(mesh, settings.batch_size, settings.mesh.micro_batches)
    records = [splits(task.settings.data) for task in settings.tasks]
    start = load_start(settings.init, lambda: texts(records))
    model = encoder(settings, start)
    check_tasks(settings, model)

    # --- Text becomes rows of tokens, once.
    tasks = [
        prepare(task, of_task, start.tokenizer, directory / finetuned.ROWS)
        for task, of_task in zip(settings.tasks, records, strict=True)
    ]
    with workdir.lock(directory), StopRequests() as stop_requests:
        for task in tasks:
            task.keep()
        finetuned.claim(directory, config, model, start.tokenizer)
        run = Finetuning(
            settings,
            directory,
            mesh,
            model,
            tasks,
            [compile_forward(task.task, model, mesh) for task in tasks],
        )
        run.say_data()

        # --- The score of the majority class, then the seeds, then the result.
        baseline = run.baseline()
        compiled = compile_tasks(run)
        results = [
            train_seed(run, compiled, start, settings.seed + index, stop_requests)
            for index in range(settings.seeds)
        ]
        finetune_finish.finish(run, baseline, results)


def check_tasks(settings: FinetuneSettings, model: ModelConfig) -> None:
    """Check that the tasks can be learned with this encoder and mesh.

    Raises:
      UserError: one cannot.
    """
    for task in settings.tasks:
        task.check_model(model)
        if task.in_batch and settings.mesh.micro_batches > 1:
            raise UserError(
                f"config.mesh.micro_batches is {settings.mesh.micro_batches}: {task.name} learns "
                "from the other rows of a batch, which must stay whole; set it to 1"
            )


def encoder(settings: FinetuneSettings, start: Start) -> ModelConfig:
    """The pretrained architecture, with what the config changes in it.

    Raises:
      UserError: rows are longer than it takes.
    """
    longest = max(task.settings.max_length for task in settings.tasks)
    most = start.model.max_position_embeddings
    if longest > most:
        raise UserError(
            f"config.max_length is {longest}, and the encoder takes at most {most} tokens: lower "
            "it; longer texts become windows with config.stride"
        )
    return dataclasses.replace(start.model, rows="padded", token_order=(), **settings.model)


def texts(records: list[dict[str, list[Record]]]) -> Iterator[str]:
    """All texts of the training examples, for a tokenizer that is trained on them."""
    for of_task in records:
        for record in of_task["train"]:
            for value in record.values.values():
                yield from (part for part in _parts(value) if isinstance(part, str))


def _parts(value: Any) -> list[Any]:
    return [" ".join(map(str, value))] if isinstance(value, list) else [value]


def compile_tasks(run: Finetuning) -> list[Steps]:
    """The steps of each task, on one state; all seeds share them.

    Raises:
      UserError: a regex of the config matches no parameter.
    """
    settings = run.settings
    optimizer = settings.optimizer_settings(run.total_steps, run.model)
    factors = rate_factors(
        run.model,
        head=(settings.head_learning_rate or settings.learning_rate) / settings.learning_rate,
        layer_decay=settings.layer_decay,
        freeze=settings.freeze,
    )
    optimizer = dataclasses.replace(optimizer, rates=factors or optimizer.rates)
    compiled = [
        compile_steps(
            TrainingSettings(settings.seed, task.task, optimizer, settings.mesh),
            run.model,
            run.mesh,
        )
        for task in run.tasks
    ]
    check_freeze(settings.freeze, compiled[0].abstract_state.params)
    given = () if factors else optimizer.rates
    check_rules("optimizer.rates", given, compiled[0].abstract_state.params)
    return compiled


def train_seed(
    run: Finetuning,
    compiled: list[Steps],
    start: Start,
    seed: int,
    stop_requests: StopRequests,
) -> dict[str, Any]:
    """Train one seed to its end, or read what it ended with: `seeds/<seed>/result.json`."""
    settings, directory = run.settings, run.directory / finetuned.SEEDS / str(seed)
    if (result := finetuned.read_result(directory)) is not None:
        run.expect_same_data(result.get("data", {}), result["step"])
        return result
    directory.mkdir(parents=True, exist_ok=True)
    for task in run.tasks:  # without the thresholds of an earlier seed
        task.task.restore(task.learned)

    # --- The compiled steps: one for each task, on one state.
    steps = [of_task.with_seed(seed) for of_task in compiled]

    # --- The state: the newest checkpoint, or the pretrained encoder with new heads.
    saved.set_aside_damaged(directory / finetuned.CHECKPOINTS)
    checkpoints = Checkpoints(directory / finetuned.CHECKPOINTS, keep=1, keep_best=1)
    first_step = checkpoints.latest_step() or 0
    if first_step:
        run.expect_same_data(checkpoints.stream(first_step), first_step)
        state = checkpoints.restore(first_step, steps[0].abstract_state)
        console.say(f"Seed {seed}: continuing at step {first_step} of {run.total_steps}.")
    else:
        state = steps[0].init()
        state.params = starting_params(state.params, start.params)
        console.say(f"Seed {seed}: {run.total_steps} steps.")
    writer = SeedWriter(run, directory, first_step)
    history = History(directory, settings.patience)
    if not first_step:
        writer.scores(0, run.reported, run.evaluate(state.params, run.reported))

    # --- The batches: of which task, and which of its, is known for every step.
    batches = [
        task.batches("train", settings.batch_size, seed, settings.shapes) for task in run.tasks
    ]
    examples = [len(task.rows["train"]) for task in run.tasks]
    order = TaskOrder(examples, settings.task_exponent, run.total_steps, seed)
    eval_every = settings.eval_every or sum(map(len, batches))

    # --- The loop: batch, step, log, evaluate, save.
    with stop_requests.during_steps():
        for step in range(first_step, run.total_steps):
            if history.is_over:
                break
            index = int(order.task[step])
            batch = place(run.mesh, batches[index].at(int(order.batch[step])))
            state, figures = steps[index].train(state, batch)
            done, value = step + 1, None
            writer.train(done, run.tasks[index].task, figures)
            is_last = done == run.total_steps
            if done % eval_every == 0 or is_last:
                writer.flush()
                scores = run.evaluate(state.params, "validation")
                value = run.selection(scores)
                writer.scores(done, "validation", scores, value)
                history.add(done, value)
            is_stop = stop_requests.is_stop(done) and not is_last
            if value is not None or is_stop:
                # Of equal checkpoints the first one is the best.
                checkpoints.save(
                    state, run.identity, None if value is None else done * 1e-9 - value
                )
            if is_stop:
                writer.close()
                checkpoints.close()
                console.say(f"Saved at step {done}; the same command continues from there.")
                raise SystemExit(EXIT_STATUS)
    writer.close()
    checkpoints.wait()
    stop_requests.end_if_stopped()

    # --- The best checkpoint, its thresholds, its figures.
    state = checkpoints.restore(history.best_step, steps[0].abstract_state)
    checkpoints.close()
    return finetuned.write_result(directory, run, seed, history, state.params)


def define_flags() -> None:
    """Define `--seeds`; fine-tuning needs a workdir on a file system."""
    command_line.define_as_local("workdir")
    flags.DEFINE_integer(
        "seeds", None, "Runs with different seeds, the same as --config.seeds", lower_bound=1
    )


def main() -> None:
    command_line.expect_one_process(os.environ)
    compile_cache.use(flags.FLAGS.compile_cache)
    config = command_line.config()
    if flags.FLAGS.seeds:
        config.seeds = flags.FLAGS.seeds
    finetune(config, command_line.workdir())


if __name__ == "__main__":
    memory.keep_freed_memory()
    command_line.define_config(config_files.FINETUNINGS)
    command_line.define_compile_cache()
    define_flags()
    command_line.run(main)
