"""Settings of the train step, besides those of the encoder."""

import dataclasses

from bert_jax.training.objectives import StepObjective


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """The fields of `config.optimizer`, and the run's fields that shape the learning rate."""

    total_steps: int
    warmup_steps: int
    learning_rate: float
    name: str
    schedule: str
    b1: float
    b2: float
    epsilon: float
    weight_decay: float
    clip_norm: float
    final_lr_fraction: float
    muon_learning_rate: float
    muon_momentum: float
    # Fine-tuning: (regex, factor) by parameter name; the first that matches the beginning of a name
    # multiplies its updates. 0 freezes it, weight decay included; a name that none matches keeps 1.
    rate_factors: tuple[tuple[str, float], ...] = ()


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
