"""The `config.json` of a run: written, read, and compared when the run continues."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.common.renamed import RENAMED, RENAMED_FIELDS
from bert_jax.config import default_config

# Fields that may change when a run continues: where and how it is computed and shown, and how it
# learns from here on. Never the batches and masks of the steps that were made: of the length of the
# run and its phases, `continuation` allows what leaves those. A change of any other field makes it
# another run.
FREE_TO_CHANGE = (
    "total_steps",
    "stream.phases",
    "learning_rate",
    "warmup_steps",
    "optimizer.schedule",
    "optimizer.final_lr_fraction",
    "optimizer.decay_steps",
    "optimizer.decay_shape",
    "optimizer.decay_power",
    "optimizer.restarts",
    "optimizer.muon_learning_rate",
    "model.compute_dtype",
    "mesh.micro_batches",
    "log_every",
    "eval_every",
    "eval_batches",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_every",
    "keep_best",
    "max_skipped_updates",
    "watchdog_factor",
    "watchdog_minimum",
    "tracker",
    "spikes.threshold",
    "spikes.window",
    "spikes.left_out",
    "spikes.rollbacks",
    "corpus.directory",
    "distillation.teacher",  # its place: checkpoints know its parameters
    "corpus.workers",
    "mesh.data",
    "mesh.fsdp",
    "mesh.tensor",
    "model.attention_backend",
    "model.rematerialization",
    "model.layers",
    "probe.every",
    "probe.task",
    "probe.kind",
    "probe.steps",
    "probe.learning_rate",
    "probe.train",
    "probe.validation",
    "probe.text",
    "probe.text_pair",
    "probe.label",
    "probe.tokens",
    "probe.tags",
    "probe.limit",
    "probe.max_length",
)
# Values of a field that compute the same function, so that a run may change between them.
INTERCHANGEABLE = {"model.head": ("full", "blocked")}
# Fields whose values may be dicts, which `flatten` does not enter.
_MAY_BE_DICTS = ("corpus.options", "stream.weights")


class Change(NamedTuple):
    """A config field whose value is not that of the run so far."""

    field: str
    old: Any
    new: Any


def changes(saved: Mapping[str, Any], config: ConfigDict) -> list[Change]:
    """The fields in which `config` differs from the resolved values of a run's `config.json`."""
    # A field that is missing was added later, and the run had its default.
    default, new = (flatten(json.loads(to_json(c))) for c in (default_config(), config))
    old = default | flatten_saved(saved)
    return [
        Change(name, old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def config_hash(config: ConfigDict) -> str:
    """A short hash of all fields."""
    return hashlib.sha256(to_json(config).encode()).hexdigest()[:12]


def from_dict(values: Mapping[str, Any]) -> ConfigDict:
    """A config from its resolved values (`config.json`).

    Raises:
      UserError: `values` has a field that this version does not know, or one of another type.
    """
    config = default_config()
    for name, value in flatten_saved(values).items():
        group, _, field = name.rpartition(".")
        target = config.get(group, config)
        if (group and group not in config) or field not in target:
            raise UserError(f"config field {name!r} is not known to this version of bert_jax")
        try:
            target[field] = tuple(value) if isinstance(value, list) else value
        except TypeError as error:
            raise UserError(f"config field {name!r} is {value!r}, of another type") from error
    return config


def to_json(config: ConfigDict) -> str:
    """The resolved config as JSON text, one field a line."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def flatten_saved(values: Mapping[str, Any]) -> dict[str, Any]:
    """`flatten` of a run's `config.json`, with the present names of fields that were renamed."""
    flat = {RENAMED.get(name, name): value for name, value in flatten(values).items()}
    if "stream.phases" in flat:
        flat["stream.phases"] = [
            {RENAMED_FIELDS.get(name, name): value for name, value in phase.items()}
            for phase in flat["stream.phases"]
        ]
    return flat


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"model": {"norm": "pre"}}` -> `{"model.norm": "pre"}`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and prefix + name not in _MAY_BE_DICTS:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def is_same_run(field: str, old: Any, new: Any) -> bool:
    """Whether a run that began with the value `old` of a field may continue with `new`."""
    same = INTERCHANGEABLE.get(field, ())
    return old == new or field in FREE_TO_CHANGE or (old in same and new in same)
