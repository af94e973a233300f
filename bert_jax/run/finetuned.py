"""The directory of a fine-tuning.

* `config.json`, the resolved config; `model.json`, the encoder's architecture; `tokenizer/`
* `rows/`, the tokenized text
* `seeds/<seed>/`: `checkpoints/` (the newest and the best), `metrics.jsonl`, `result.json` at the
  end of that seed, with what the tasks found in the data (labels, thresholds)
* `results.json`, `predictions.jsonl`, `report.html`, `hf/`: of the best seed, written last
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bert_jax.common.atomic import finished_directory, write_json, write_text
from bert_jax.common.errors import UserError
from bert_jax.config.finetuning import FinetuneSettings, default_config, parse
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.model import ModelConfig, Params, abstract
from bert_jax.run.finetuning import Finetuning, History
from bert_jax.run.saved_config import flatten
from bert_jax.tasks import Task
from bert_jax.tasks.data import Record
from bert_jax.training.checkpoint import restore_params

CONFIG, MODEL, TOKENIZER = "config.json", "model.json", "tokenizer"
ROWS, SEEDS, CHECKPOINTS, RESULT = "rows", "seeds", "checkpoints", "result.json"
RESULTS, PREDICTIONS = "results.json", "predictions.jsonl"
FREE_TO_CHANGE = ("log_every", "seeds", "mesh.data", "mesh.fsdp", "mesh.tensor")


def check(directory: Path, config: ConfigDict) -> None:
    """Check that the directory has no other run, before anything is done.

    Raises:
      UserError: it has; the message shows the fields that differ.
    """
    path = directory / CONFIG
    if not path.is_file():
        return
    old = _read(path)
    if "task" not in old:
        raise UserError(
            f"--workdir={directory} holds a pretraining run: name another directory for the "
            "fine-tuning, and this one as config.init"
        )
    flat, new = flatten(old), flatten(_plain(config))
    different = [
        f"{name} was {json.dumps(flat.get(name))} and is now {json.dumps(new.get(name))}"
        for name in sorted(flat.keys() | new.keys())
        if flat.get(name) != new.get(name) and name not in FREE_TO_CHANGE
    ]
    if different and (directory / SEEDS).is_dir():
        raise UserError(
            f"--workdir={directory} holds a fine-tuning with another config: "
            f"{'; '.join(different)}. Use another --workdir, or the config that it began with"
        )


def claim(directory: Path, config: ConfigDict, model: ModelConfig, tokenizer: Tokenizer) -> None:
    """Write what predictions need besides the parameters."""
    write_json(directory / CONFIG, _plain(config))
    write_json(directory / MODEL, dataclasses.asdict(model))
    if not (directory / TOKENIZER).is_dir():
        with finished_directory(directory / TOKENIZER) as unfinished:
            tokenizer.save(unfinished)


def read_result(directory: Path) -> dict[str, Any] | None:
    """What a finished seed ended with; None: it is not finished."""
    return _read(directory / RESULT) if (directory / RESULT).is_file() else None


def write_result(
    directory: Path, run: Finetuning, seed: int, history: History, params: Params
) -> dict[str, Any]:
    """Write predictions and figures of a seed's best checkpoint."""
    scores, states = {}, {}
    for index, prepared in enumerate(run.tasks):
        task, records = prepared.task, prepared.records
        found, before = run.predict(index, params, "validation"), task.state()
        task.calibrate(found, records["validation"])
        if run.reported != "validation" or task.state() != before:
            found = run.predict(index, params, run.reported)
        scores[task.name] = task.score(found, records[run.reported])
        states[task.name] = task.state()
        lines = [
            {"id": name_of_example(record, number)} | prediction | {"gold": task.gold(record)}
            for number, (record, prediction) in enumerate(
                zip(records[run.reported], found, strict=True)
            )
        ]
        write_lines(directory / f"predictions-{task.name}.jsonl", lines)
    result = {
        "seed": seed,
        "data": run.identity,
        "step": history.best_step,
        "validation": history.best,
        "metrics": scores,
        "untrained": history.untrained(),
        "state": states,
    }
    write_json(directory / RESULT, result)
    return result


def name_of_example(record: Record, number: int) -> Any:
    """The id in the data, or the number of the example from 0 on."""
    return record.values.get("id", number)


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write JSON lines, all or none."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_text(path, text)


@dataclasses.dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model, as predictions need it."""

    settings: FinetuneSettings
    model: ModelConfig
    params: Params
    tokenizer: Tokenizer
    task: Task


def load(directory: Path, name: str = "") -> Finetuned:
    """The best model of the fine-tuning in `directory`.

    Args:
      directory: its workdir.
      name: of the task, where it has several.

    Raises:
      UserError: there is none, or it is not finished.
    """
    if not (directory / RESULTS).is_file():
        raise UserError(
            f"--workdir={directory} holds no finished fine-tuning: {RESULTS} is missing; run "
            "python -m bert_jax.finetune first"
        )
    config = default_config()
    config.update(_tuples(_read(directory / CONFIG)))
    settings = parse(config)
    best = _read(directory / RESULTS)["best"]
    states = _read(directory / SEEDS / str(best["seed"]) / RESULT)["state"]
    for task in settings.tasks:
        task.restore(states[task.name])
    by_name = {task.name: task for task in settings.tasks}
    if name and name not in by_name:
        raise UserError(f"--task={name}: {directory} has the tasks {', '.join(by_name)}")
    model = ModelConfig(**_tuples(_read(directory / MODEL)))
    _, shapes = abstract(model, settings.tasks[0].build)
    checkpoints = directory / SEEDS / str(best["seed"]) / CHECKPOINTS
    _, params = restore_params(checkpoints, best["step"], shapes)
    task = by_name[name] if name else settings.tasks[0]
    return Finetuned(settings, model, params, load_tokenizer(directory / TOKENIZER), task)


def _plain(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON gives it back: lists for tuples."""
    return json.loads(json.dumps(config.to_dict()))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({error})") from error


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
