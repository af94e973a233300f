"""Writers for experiment trackers, off by default: `config.tracker`.

A new one is a class with `log` and `close` here, and its entry in `TRACKERS`.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from bert_jax.common.bucket import home
from bert_jax.common.errors import UserError


@runtime_checkable
class Tracker(Protocol):
    """Where figures of a run go besides its workdir."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Record figures, named `split/figure`."""

    def close(self) -> None:
        """Send what is left."""


class _Wandb:
    """https://docs.wandb.ai; its own steps may not go back, as those of a run do after a spike."""

    def __init__(self, workdir: Path, config: Mapping[str, Any]):
        # The id makes a run that continues the same one there; it must not hold a slash.
        name = _name(workdir)
        self._run = _client("wandb").init(
            project="bert_jax",
            id=name.replace("/", "-"),
            name=name,
            resume="allow",
            config=dict(config),
            dir=str(workdir),
        )
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({**figures, "step": step})

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """https://huggingface.co/docs/trackio."""

    def __init__(self, workdir: Path, config: Mapping[str, Any]):
        self._module = _client("trackio")
        self._module.init(
            project="bert_jax", name=_name(workdir), resume="allow", config=dict(config)
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._module.log(dict(figures), step=step)

    def close(self) -> None:
        self._module.finish()


TRACKERS: dict[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "wandb": _Wandb,
    "trackio": _Trackio,
}


def check(name: str) -> None:
    """Check that the tracker exists and its client is installed; an empty name is none.

    Raises:
      UserError: it does not, or is not.
    """
    if name and name not in TRACKERS:
        raise UserError(f"config.tracker is {name!r}: it can be {', '.join(TRACKERS)}, or empty")
    if name:
        _client(name)


def start(name: str, workdir: Path, config: Mapping[str, Any]) -> Tracker | None:
    """The tracker `name` for the run in `workdir`; None for an empty name.

    Raises:
      UserError: there is no such tracker, or its client is not installed.
    """
    check(name)
    return TRACKERS[name](workdir, config) if name else None


def _client(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"config.tracker is {name!r}, which is not installed: pip install 'bert_jax[{name}]'"
        ) from error


def _name(workdir: Path) -> str:
    place = home(workdir)  # a copy of a bucket is elsewhere at each start
    return "/".join((place.resolve() if isinstance(place, Path) else place).parts[-2:])
