"""A config as `RunSettings`: parsed and checked once; each part gets the settings that it needs.

The fields of a group are parsed beside the code that uses them: `corpus.settings`, `stream.phases`,
`training.objectives`, `training.optimizer_settings`, `training.spikes`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bert_jax.common.bucket import home
from bert_jax.common.errors import UserError
from bert_jax.common.lengths import interval, seconds
from bert_jax.corpus import settings as corpus_settings
from bert_jax.corpus import sources
from bert_jax.model import ModelConfig
from bert_jax.stream.mixture import expect_sources
from bert_jax.stream.phases import Phase, parse_phases
from bert_jax.stream.settings import StreamSettings
from bert_jax.training.objectives import Objective, parse_objective
from bert_jax.training.objectives.distillation import Distillation, DistillationSettings, Teacher
from bert_jax.training.optimizer_settings import parse_optimizer
from bert_jax.training.settings import MeshSettings, TrainingSettings
from bert_jax.training.spikes import SpikeSettings, parse_spikes

COUNTS = ("log_every", "eval_batches", "keep_checkpoints", "max_skipped_updates")
COUNTS_OR_NONE = ("keep_every", "keep_best", "watchdog_factor", "watchdog_minimum")
INTERVALS = ("eval_every", "checkpoint_every")  # steps, or a share of the run
# The length of a run that is given in time, before its speed is measured: for commands that only
# look at its batches or its step.
STEPS_UNTIL_MEASURED = 1000
PROBES = ("frozen", "finetune")


@dataclasses.dataclass(frozen=True)
class ProbeSettings:
    """The fields of `config.probe`."""

    every: int
    task: str
    kind: str
    steps: int
    learning_rate: float
    train: str
    validation: str
    text: str
    text_pair: str
    label: str
    tokens: str
    tags: str
    limit: int
    max_length: int


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """A config, parsed and checked.

    Attributes:
      total_steps: updates of the run; of one that is given in time and not measured yet,
        STEPS_UNTIL_MEASURED.
      log_every, eval_batches: as in the config.
      eval_every, checkpoint_every: steps.
      keep_checkpoints, keep_every, keep_best: as in the config.
      max_skipped_updates, watchdog_factor, watchdog_minimum, spikes: as in the config.
      objective: examples and losses.
      distillation: as in the config.
      teacher: of `objective`; None: there is none, or it was not loaded.
      tracker: where figures go besides the workdir; empty: nowhere.
      corpus: what the token store depends on.
      corpus_directory: where the token store is; None: in the workdir.
      stream: seed, objective and phases.
      model: the fields of `config.model`.
      training: seed, objective, optimizer and mesh.
      probe: labelled texts to probe the encoder on.
    """

    total_steps: int
    log_every: int
    eval_every: int
    eval_batches: int
    checkpoint_every: int
    keep_checkpoints: int
    keep_every: int
    keep_best: int
    max_skipped_updates: int
    watchdog_factor: int
    watchdog_minimum: float
    spikes: SpikeSettings
    objective: Objective
    distillation: DistillationSettings
    teacher: Teacher | None
    tracker: str
    corpus: corpus_settings.Settings
    corpus_directory: Path | None
    stream: StreamSettings
    model: Mapping[str, Any]
    training: TrainingSettings
    probe: ProbeSettings

    def store_directory(self, workdir: Path) -> Path:
        """Where the token store of the run in `workdir` is."""
        if self.corpus_directory is None and not isinstance(home(workdir), Path):
            raise UserError(
                f"--workdir={home(workdir)}: the token store needs a file system, for its memory "
                "maps. Set config.corpus.directory to a directory that all hosts share"
            )
        return self.corpus_directory or workdir / "corpus"

    def model_config(
        self,
        vocab_size: int,
        phase: Phase | None = None,
        token_order: tuple[int, ...] = (),
    ) -> ModelConfig:
        """The encoder in `phase`: phases may differ in the rotary base.

        Args:
          vocab_size: tokens of the run's tokenizer.
          phase: None: the first one.
          token_order: the ids from the most frequent to the rarest.

        Raises:
          UserError: the fields of `config.model` contradict each other.
        """
        theta = (phase or self.stream.phases[0]).rope_theta
        fields = {**self.model, "rope_theta": theta, "token_order": token_order}
        return ModelConfig(vocab_size=vocab_size, rows=self.objective.rows, **fields)

    def models(self, vocab_size: int, token_order: tuple[int, ...] = ()) -> list[ModelConfig]:
        """The encoder in each phase."""
        phases = self.stream.phases
        return [self.model_config(vocab_size, phase, token_order) for phase in phases]


def parse(config: ConfigDict, teacher: Teacher | None = None) -> RunSettings:
    """The settings of a config.

    Args:
      config: of a run.
      teacher: of `config.distillation`; None: the objective is that without a teacher, as commands
        need it that train nothing.

    Raises:
      UserError: a field is invalid, by itself or together with others.
    """
    for name in COUNTS:
        if config[name] < 1:
            raise UserError(f"config.{name} is {config[name]}: set it to 1 or more")
    for name in COUNTS_OR_NONE:
        if config[name] < 0:
            raise UserError(f"config.{name} is {config[name]}: set it to 0 (none) or more")
    config = _with_length(config)
    objective = parse_objective(config)
    distillation = DistillationSettings(**config.distillation.to_dict())
    if teacher:
        objective = Distillation(objective, distillation, teacher)
    mesh = MeshSettings(**config.mesh.to_dict())
    corpus, phases = corpus_settings.from_config(config), parse_phases(config)
    for phase in phases:
        if phase.weights:
            expect_sources(phase, [source.name for source in sources.parse(corpus.source)])
    training = TrainingSettings(config.seed, objective, parse_optimizer(config), mesh)
    return RunSettings(
        total_steps=config.total_steps,
        **{name: config[name] for name in (*COUNTS, *COUNTS_OR_NONE)},
        spikes=parse_spikes(config),
        **{name: interval(name, config[name], config.total_steps) for name in INTERVALS},
        objective=objective,
        distillation=distillation,
        teacher=teacher,
        tracker=config.tracker,
        corpus=corpus,
        corpus_directory=Path(config.corpus.directory) if config.corpus.directory else None,
        stream=StreamSettings(config.seed, objective, phases),
        model=config.model.to_dict(),
        training=training,
        probe=_parse_probe(config.probe),
    )


def _with_length(config: ConfigDict) -> ConfigDict:
    """The config with `total_steps`, also where only its budget is given."""
    seconds("budget", config.budget)
    if config.total_steps > 0:
        return config
    if config.total_steps < 0 or not config.budget:
        raise UserError(
            f"config.total_steps is {config.total_steps} and config.budget is {config.budget!r}: "
            "set the steps of the run, or total_steps=0 and the time that it may take (5m)"
        )
    config = config.copy_and_resolve_references()
    config.total_steps = STEPS_UNTIL_MEASURED
    return config


def _parse_probe(config: ConfigDict) -> ProbeSettings:
    if config.every < 0 or config.max_length < 4 or config.limit < 0:
        raise UserError(
            "config.probe.every and config.probe.limit must be 0 or more, and "
            "config.probe.max_length 4 or more"
        )
    if config.kind not in PROBES:
        raise UserError(f"config.probe.kind is {config.kind!r}: choose {' or '.join(PROBES)}")
    if config.steps < 1 or not config.learning_rate > 0:
        raise UserError(
            f"config.probe.steps is {config.steps} and config.probe.learning_rate "
            f"{config.learning_rate}: set both above 0"
        )
    if config.every and not config.train:
        raise UserError(
            f"config.probe.every is {config.every} and config.probe.train is empty: name a file "
            "with labelled texts"
        )
    return ProbeSettings(**config.to_dict())
