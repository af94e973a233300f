"""Every setting of a fine-tuning and its default; parsed once into small frozen dataclasses.

As `bert_jax.config` for pretraining: a config file has `get_config(arg: str = "")`, which starts
from `default_config()`. An unknown field or a value of another type is refused.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config import default_config as pretraining_config
from bert_jax.model import ModelConfig
from bert_jax.tasks import OPTIONS, TASKS, Task, TaskSettings, make_task
from bert_jax.tasks.data import DataSettings
from bert_jax.training.optimizer_settings import optimizer_settings
from bert_jax.training.settings import MeshSettings, OptimizerSettings, Section

COUNTS = ("batch_size", "seeds", "shapes", "log_every")
COUNTS_OF_TASK = ("n_best", "max_answer_length")
SHARES_OF_TASK = ("head_dropout", "label_smoothing")
CHOICES_OF_TASK = {"class_weights": ("none", "balanced"), "pooling": ("cls", "mean")}
SHORTEST = 8  # tokens of a row


def default_config() -> ConfigDict:
    """All fields of a fine-tuning with their defaults."""
    config = ConfigDict()
    config.task = "classification"  # one of bert_jax.tasks.TASKS
    # The encoder to start from: a workdir (runs/mine, runs/mine@500), a folder of transformers;
    # random:X takes the architecture of X (one of these, or a config file) and no weights
    config.init = ""
    config.seed = 0  # the first one
    config.seeds = 1  # runs with the seeds seed, seed + 1, ...; mean and standard deviation
    config.epochs = 3.0
    config.total_steps = 0  # instead of epochs; 0: by epochs
    config.learning_rate = 5e-5  # the peak
    config.head_learning_rate = 0.0  # of the head; 0: the same
    config.layer_decay = 1.0  # factor of the learning rate a layer, from the top one down
    config.freeze = ""  # regex: parameters whose name it matches at its start stay as they are
    config.warmup_fraction = 0.1  # share of the steps
    config.batch_size = 32
    config.max_length = 128  # tokens of a row; longer texts are cut, or divided into windows
    # Tokens that the windows of long texts overlap by; 0: long texts are cut (question answering:
    # 64). Tagging always divides sentences between words, without an overlap.
    config.stride = 0
    config.shapes = 4  # row lengths that are compiled; rows are padded to the next one
    config.eval_every = 0  # steps between evaluations on the validation split; 0: each epoch
    config.patience = 0  # evaluations without a better one after which to stop; 0: never
    config.log_every = 50
    config.metric = ""  # that chooses the best checkpoint; empty: the task's first one
    config.head_dropout = 0.1
    config.label_smoothing = 0.0
    config.class_weights = "none"  # none | balanced: by the frequency of the classes
    config.crf = False  # tagging: a CRF over the tags of a sentence
    config.similarity = "regression"  # what it learns from: regression | contrastive | unsupervised
    config.pooling = "mean"  # similarity: the vector of a text: cls | mean
    config.temperature = 0.05  # similarity: of the contrastive loss
    config.max_answer_length = 30  # question answering: tokens
    config.n_best = 20  # question answering: candidates for starts and ends, and answers listed

    config.data = data = ConfigDict()
    data.train = ""
    data.validation = ""  # empty: validation_fraction of train, chosen by a hash
    data.test = ""  # the results are those on it, if it is given
    data.format = "auto"  # by the name | csv | tsv | jsonl | parquet | conll | conllu | squad
    data.text = "text"  # columns, by name; by number (0, 1, ...) in csv and tsv without a header
    data.text_pair = ""  # the second text
    data.text_negative = ""  # similarity: a text that is not similar (a hard negative)
    data.label = "label"
    data.choices = "choices"  # multiple choice: a column with a list, or columns: "a,b,c,d"
    data.tokens = "tokens"
    data.tags = "tags"
    data.validation_fraction = 0.1
    data.limit = 0  # training examples to use, chosen by a hash; 0: all

    # Several tasks at once: dicts with `name` and any of `task`, `data` (a dict) and the fields of
    # one task above; their batches alternate, each drawn with a probability that is proportional to
    # examples ** task_exponent.
    config.tasks = ()
    config.task_exponent = 0.5  # 1: in proportion to the examples; 0: all alike

    config.model = model = ConfigDict()
    model.dropout = -1.0  # of the encoder and its attention; -1: as it was pretrained
    model.compute_dtype = ""  # float32 | bfloat16; empty: as it was pretrained
    model.attention_backend = "auto"
    model.rematerialization = "none"

    pretraining = pretraining_config()
    config.optimizer = ConfigDict(pretraining.optimizer.to_dict())
    config.optimizer.final_lr_fraction = 0.0
    config.mesh = ConfigDict(pretraining.mesh.to_dict())
    return config.lock()


@dataclasses.dataclass(frozen=True)
class FinetuneSettings:
    """A config, parsed and checked; fields as in the config.

    Attributes:
      tasks: one, or several that share an encoder.
      model: fields of the encoder's config that replace its own.
    """

    init: str
    seed: int
    seeds: int
    epochs: float
    total_steps: int
    learning_rate: float
    head_learning_rate: float
    layer_decay: float
    freeze: str
    warmup_fraction: float
    batch_size: int
    shapes: int
    eval_every: int
    patience: int
    log_every: int
    task_exponent: float
    tasks: tuple[Task, ...]
    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    mesh: MeshSettings

    def optimizer_settings(self, steps: int, model: ModelConfig) -> OptimizerSettings:
        """The optimizer of a run of so many steps."""
        warmup_steps = min(int(self.warmup_fraction * steps), steps - 1)
        return optimizer_settings(
            self.optimizer,
            (Section(0, steps, warmup_steps),),
            self.learning_rate,
            model.hidden_size,
        )


def parse(config: ConfigDict) -> FinetuneSettings:
    """The settings of a config.

    Raises:
      UserError: a field is invalid, by itself or together with others.
    """
    _check(config)
    changed = {name: value for name, value in config.model.to_dict().items() if value not in ("",)}
    rate = changed.pop("dropout")
    if rate >= 0:
        changed |= {"dropout": rate, "attention_dropout": rate}
    optimizer = config.optimizer.to_dict()
    optimizer.pop("next_sentence_weight", None)
    names = {field.name for field in dataclasses.fields(FinetuneSettings)}
    rest = {name: config[name] for name in names if name in config}
    return FinetuneSettings(
        **rest
        | {
            "tasks": _tasks(config),
            "model": changed,
            "optimizer": optimizer,
            "mesh": MeshSettings(**config.mesh.to_dict()),
        }
    )


def _check(config: ConfigDict) -> None:
    for name in COUNTS:
        if config[name] < 1:
            raise UserError(f"config.{name} is {config[name]}: set it to 1 or more")
    for name in ("total_steps", "eval_every", "patience", "head_learning_rate"):
        if config[name] < 0:
            raise UserError(f"config.{name} is {config[name]}: set it to 0 or more")
    if not 0 <= config.warmup_fraction < 1:
        raise UserError(
            f"config.warmup_fraction is {config.warmup_fraction}: choose a share in [0, 1)"
        )
    if not config.total_steps and not config.epochs > 0:
        raise UserError(f"config.epochs is {config.epochs}: set it above 0, or config.total_steps")
    if not config.learning_rate > 0:
        raise UserError(f"config.learning_rate is {config.learning_rate}: set it above 0")
    if not 0 < config.layer_decay <= 1:
        raise UserError(f"config.layer_decay is {config.layer_decay}: choose a factor in (0, 1]")
    if config.optimizer.rates and (
        config.head_learning_rate or config.layer_decay != 1 or config.freeze
    ):
        raise UserError(
            f"config.optimizer.rates is {config.optimizer.rates!r}: it takes the place of "
            "config.head_learning_rate, config.layer_decay and config.freeze; use one or the others"
        )
    if not config.init:
        raise UserError(
            "config.init is empty: name a workdir (runs/mine), a folder of transformers, or "
            "random:configs/bert.py:mini for an encoder that was not trained"
        )
    try:
        re.compile(config.freeze)
    except re.error as error:
        raise UserError(f"config.freeze={config.freeze!r} is no regex: {error}") from error


def _tasks(config: ConfigDict) -> tuple[Task, ...]:
    if not config.tasks:
        _expect_options(config.task, config, OPTIONS)
        return (_task(config, config.task, "config"),)
    tasks: list[Task] = []
    for entry in config.tasks:
        given = dict(entry)
        name = given.pop("name", "")
        if not re.fullmatch(r"\w+", name) or name in [task.name for task in tasks]:
            raise UserError(
                f"config.tasks: the name {name!r}: give each task a name of its own, of letters, "
                "digits and _"
            )
        own = _of_entry(config, name, given)
        _expect_options(own.task, own, [option for option in OPTIONS if option in given])
        tasks.append(_task(own, name, f"config.tasks, {name}"))
    for task in tasks:
        task.together = tuple(tasks)
    return tuple(tasks)


def _of_entry(config: ConfigDict, name: str, given: Mapping[str, Any]) -> ConfigDict:
    """The config with the fields of one entry of `config.tasks`."""
    own = config.copy_and_resolve_references()
    known = {"task", *(field.name for field in dataclasses.fields(TaskSettings))} - {"name"}
    for group, fields, allowed in (
        ("", given, known),
        ("data.", given.get("data", {}), set(config.data)),
    ):
        if unknown := set(fields) - allowed:
            raise UserError(f"config.tasks: {name} has no field {group}{min(unknown)}")
    try:
        own.update(dict(given))
    except TypeError as error:
        raise UserError(f"config.tasks: {name}: {error}") from error
    return own


def _expect_options(kind: str, config: ConfigDict, options: Iterable[str]) -> None:
    """Raise if an option is set that the task would ignore.

    Raises:
      UserError: names it.
    """
    defaults = default_config()
    for option in options:
        value, default = config[option], defaults[option]
        if kind in TASKS and value != default and option not in TASKS[kind].options:
            raise UserError(
                f"config.{option} is {value!r}: {kind} has no such option; leave it at {default!r}"
            )


def _task(config: ConfigDict, name: str, where: str) -> Task:
    """A task by the fields of a config.

    Raises:
      UserError: one is invalid; `where` says in the message whose it is.
    """
    for field in COUNTS_OF_TASK:
        if config[field] < 1:
            raise UserError(f"{where}.{field} is {config[field]}: set it to 1 or more")
    for field in SHARES_OF_TASK:
        if not 0 <= config[field] < 1:
            raise UserError(f"{where}.{field} is {config[field]}: choose a share in [0, 1)")
    for field, allowed in CHOICES_OF_TASK.items():
        if config[field] not in allowed:
            raise UserError(f"{where}.{field} is {config[field]!r}: choose {' or '.join(allowed)}")
    if config.max_length < SHORTEST:
        raise UserError(f"{where}.max_length is {config.max_length}: set it to {SHORTEST} or more")
    if not 0 <= config.stride <= config.max_length // 2:
        raise UserError(
            f"{where}.stride is {config.stride}: windows of {config.max_length} tokens overlap by "
            "at most half of them; 0 cuts long texts"
        )
    if not config.temperature > 0:
        raise UserError(f"{where}.temperature is {config.temperature}: set it above 0")
    if not 0 < config.data.validation_fraction < 1:
        raise UserError(
            f"{where}.data.validation_fraction is {config.data.validation_fraction}: choose a "
            "share in (0, 1)"
        )
    values = {
        field.name: config[field.name]
        for field in dataclasses.fields(TaskSettings)
        if field.name not in ("name", "data")
    }
    data = DataSettings(**config.data.to_dict())
    return make_task(config.task, TaskSettings(name=name, data=data, **values))
