"""Settings of the train step, besides those of the encoder."""

import dataclasses
from typing import NamedTuple

from bert_jax.training.objectives import StepObjective


class Section(NamedTuple):
    """Part of a run over which the learning-rate schedule goes once.

    Attributes:
      start: its first step.
      steps: how many it has.
      warmup_steps: the first ones, over which the rate rises.
      peak: share of the run's learning rates that is reached.
      is_last: of the run; a stable rate decays at the end of the run alone.
    """

    start: int
    steps: int
    warmup_steps: int
    peak: float = 1.0
    is_last: bool = True


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """The fields of `config.optimizer`, and the run's fields that shape the learning rate.

    Attributes:
      sections: parts of the run, each with its own warm-up; one, unless the config has restarts.
      learning_rate: the peak.
      hidden_size: of the model, for the Transformer's schedule.
    """

    sections: tuple[Section, ...]
    learning_rate: float
    hidden_size: int
    name: str
    schedule: str
    decay_steps: int
    decay_shape: str
    decay_power: float
    b1: float
    b2: float
    epsilon: float
    weight_decay: float
    clip_norm: float
    final_lr_fraction: float
    muon_learning_rate: float
    muon_momentum: float
    muon_scale: str
    normuon_b2: float
    soap_every: int
    lamb_adapts: str
    rates: tuple[tuple[str, float], ...]  # (regex, factor); (): 1 for all
    average_last: int  # steps; 0: no average

    @property
    def total_steps(self) -> int:
        """Steps of the run."""
        return self.sections[-1].start + self.sections[-1].steps


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    """The fields of `config.mesh`."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    micro_batches: int = 1


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Seed, objective, optimizer and mesh of a run."""

    seed: int
    objective: StepObjective
    optimizer: OptimizerSettings
    mesh: MeshSettings
