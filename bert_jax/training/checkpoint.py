"""Thin wrapper around Orbax's CheckpointManager."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from bert_jax.common.errors import UserError
from bert_jax.training.step import TrainState


class Checkpoints:
    """The checkpoints of one run, `<directory>/<step>`, each complete or absent."""

    def __init__(self, directory: Path, keep: int):
        """Open or create `directory`; the newest `keep` checkpoints are kept, older ones deleted.

        Removes what a killed process left half-written, so no other process may be saving here.
        """
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation_policy.LatestN(keep),
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def latest_step(self) -> int | None:
        """The newest step saved; None in a new run."""
        return self._manager.latest_step()

    def save(self, state: TrainState, stream: dict[str, str]) -> None:
        """Start saving the state at its step; the files are written while training continues.

        Args:
          state: step, parameters and optimizer state.
          stream: the identity of the stream that it was trained on, kept as metadata.
        """
        self._manager.save(
            int(state.step),
            args=ocp.args.StandardSave(_as_dict(state)),
            custom_metadata=stream,
            force=True,
        )

    def stream(self, step: int) -> dict[str, str]:
        """The identity of the stream that was saved with the state at `step`."""
        return self._manager.metadata(step).custom_metadata

    def restore(self, step: int, abstract_state: TrainState) -> TrainState:
        """The state saved at `step`, on the mesh that `abstract_state` is sharded over."""
        target = _as_dict(abstract_state)
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(target))
        return TrainState(**restored)

    def wait(self) -> None:
        """Block until every save is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait for the writing, then release the directory."""
        self._manager.close()


def saved_steps(directory: Path) -> list[int]:
    """The steps of the complete checkpoints in `directory`, ascending."""
    return sorted(int(path.name) for path in directory.glob("*") if path.name.isdigit())


def restore_params(
    directory: Path, step: int | None, abstract_params: Any
) -> tuple[int, dict[str, Any]]:
    """The step (`step`, or the newest) and the parameters saved at it, as host arrays.

    Raises:
      UserError: there is no checkpoint, or none of that step.
    """
    steps = saved_steps(directory)
    if not steps:
        raise UserError(f"{directory} holds no checkpoint: train the run first")
    if step is None:
        step = steps[-1]
    if step not in steps:
        raise UserError(f"--step={step}: {directory} holds the steps {', '.join(map(str, steps))}")
    arguments = ocp.args.PyTreeRestore(
        item={"params": abstract_params},
        restore_args={
            "params": jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), abstract_params
            )
        },
        partial_restore=True,
    )
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        saved = checkpointer.restore(directory.absolute() / str(step) / "default", arguments)
    return step, saved["params"]


def _as_dict(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state}
