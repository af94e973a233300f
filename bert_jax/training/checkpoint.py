"""A run's checkpoints: Orbax's manager, with digests, and a state refused that is not finite."""

import asyncio
import contextlib
import errno
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from bert_jax.common.bucket import AnyPath
from bert_jax.common.errors import UserError
from bert_jax.training import digests, saved
from bert_jax.training.finite import first_not_finite
from bert_jax.training.step import TrainState

_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))


class Checkpoints:
    """The checkpoints of one run, `<directory>/<step>`, each complete or absent."""

    def __init__(self, directory: AnyPath, keep: int, keep_every: int = 0, keep_best: int = 0):
        """Open or create `directory`.

        Removes what a killed process left half-written, so no other process may be saving here.

        Args:
          directory: of all checkpoints of the run.
          keep: the newest ones that are kept; older ones are deleted, except by the next two.
          keep_every: checkpoints of a step that this divides are kept; 0: they are as all others.
          keep_best: so many with the lowest held-out loss are kept, of those saved with a loss.
        """
        policies: list[Any] = [preservation_policy.LatestN(keep)]
        if keep_every:
            policies.append(preservation_policy.EveryNSteps(keep_every))
        if keep_best:
            policies.append(
                preservation_policy.BestN(
                    get_metric_fn=_loss,
                    reverse=True,  # the last ones of a descending order are kept
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                )
            )
        logging.getLogger("absl").addFilter(_is_not_of_full_disk)
        self._directory = directory
        self._keeps_losses = bool(keep_best)
        is_local = isinstance(directory, Path)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
            best_fn=_loss if keep_best else None,
            cleanup_tmp_directories=True,
            temporary_path_class=_WithDigests if is_local else _CommittedWithDigests,
        )
        self._manager = ocp.CheckpointManager(_absolute(directory), options=options)

    def latest_step(self) -> int | None:
        """The newest step saved; None in a new run."""
        return self._manager.latest_step()

    def save(
        self, state: TrainState, stream: dict[str, str], held_out_loss: float | None = None
    ) -> None:
        """Start saving the state at its step; the files are written while training continues.

        Args:
          state: step, parameters and optimizer state.
          stream: the identity of the stream that it was trained on, kept as metadata.
          held_out_loss: of this state, if it was evaluated; the best are chosen by it.

        Raises:
          UserError: the state holds a NaN or infinity, and is not saved; or the disk is full.
        """
        step = int(state.step)
        if name := first_not_finite(state):
            self.wait()  # the process may end in a way that does not
            raise UserError(
                f"the state at step {step} is not saved: {name} holds NaN or infinity. "
                f"{self._newest()}. Lower config.learning_rate, or raise config.warmup_steps"
            )
        is_known = self._keeps_losses and math.isfinite(held_out_loss or math.nan)
        with self._full_disk_is_said():
            self._manager.save(
                step,
                args=ocp.args.StandardSave(_as_dict(state)),
                # Never None where losses are kept: Orbax would warn at each save.
                metrics={"loss": held_out_loss} if is_known else {} if self._keeps_losses else None,
                custom_metadata=stream | digests.MARK,
                force=True,
            )

    def stream(self, step: int) -> dict[str, str]:
        """The identity of the stream that was saved with the state at `step`."""
        # Not by the manager: it would warn of each item that it has no handler for.
        return digests.custom_metadata(self._directory / str(step))

    def restore(self, step: int, abstract_state: TrainState) -> TrainState:
        """The state saved at `step`, on the mesh that `abstract_state` is sharded over."""
        target = _as_dict(abstract_state)
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(target))
        return TrainState(**restored)

    def wait(self) -> None:
        """Block until every save is on disk.

        Raises:
          UserError: the disk is full.
        """
        with self._full_disk_is_said():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait as `wait` does, then release the directory."""
        with self._full_disk_is_said():
            self._manager.close()

    @contextlib.contextmanager
    def _full_disk_is_said(self) -> Iterator[None]:
        """Raises a UserError for a full disk: that of this save, or of the one before it."""
        try:
            yield
        except Exception as error:
            if not _is_full_disk(error):
                raise
            raise UserError(
                f"the disk that holds {self._directory} is full: a checkpoint was not saved. "
                f"{self._newest()}. Free some space and run the same command again"
            ) from error

    def _newest(self) -> str:
        steps = saved.saved_steps(self._directory)
        return (
            f"The checkpoint of step {steps[-1]} is there" if steps else "There is none before it"
        )


class _WithDigests(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """Renames a finished checkpoint in two stages, and writes its digests between them.

    Runs in Orbax's thread, on the first process, after all processes have written. The name between
    the stages is a temporary one as well: a process that is killed here leaves no checkpoint.
    """

    async def finalize(self) -> None:
        final = self.get_final()
        if not final.name.isdigit():  # a part of the checkpoint, which has its own
            await super().finalize()
            return
        staged = final.with_name(f"{self.get().name}.digests")
        self._final_path = staged
        try:
            await super().finalize()
        finally:
            self._final_path = final
        await asyncio.to_thread(digests.write, Path(staged))
        os.rename(staged, final)


class _CommittedWithDigests(ocp.path.atomicity.CommitFileTemporaryPath):
    """Marks a finished checkpoint in a bucket as complete, and then writes its digests.

    Nothing is renamed there: files are copied one by one. A process that is killed between the two
    leaves a checkpoint that lacks its digests, which counts as damaged.
    """

    async def finalize(self) -> None:
        await super().finalize()
        if self.get_final().name.isdigit():
            await asyncio.to_thread(digests.write, self.get_final())


def restore_params(
    directory: AnyPath, step: int | None, abstract_params: Any
) -> tuple[int, dict[str, Any]]:
    """The step and the parameters saved at it, as host arrays.

    Args:
      directory: of all checkpoints of the run.
      step: to restore; None: the newest whole checkpoint, with a note on damaged ones after it.
      abstract_params: the parameters' structure, shapes and types.

    Raises:
      UserError: there is no such checkpoint, or it is damaged.
    """
    # The first process reads all files, and the others take what it chose.
    chosen = saved.choose(directory, step) if jax.process_index() == 0 else 0
    if jax.process_count() > 1:
        chosen = int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
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
        found = checkpointer.restore(_absolute(directory) / str(chosen) / "default", arguments)
    return chosen, found["params"]


def _absolute(directory: AnyPath) -> AnyPath:
    return directory.absolute() if isinstance(directory, Path) else directory


def restore_state(directory: AnyPath, step: int, abstract_state: TrainState) -> TrainState:
    """The whole state of another run, on the mesh that `abstract_state` is sharded over.

    Args:
      directory: of all checkpoints of that run.
      step: of the checkpoint.
      abstract_state: what it must have.

    Raises:
      UserError: the checkpoint has other arrays, or arrays of other shapes.
    """
    path = directory / str(step) / "default"
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            restored = checkpointer.restore(_absolute(path), _as_dict(abstract_state))
    except ValueError as error:
        raise UserError(
            f"the checkpoint {path.parent} does not fit: its model or its optimizer has other "
            f"arrays ({str(error).splitlines()[0]})"
        ) from error
    return TrainState(**restored)


def stream_of(directory: AnyPath, step: int) -> dict[str, str]:
    """The identity of the stream that was saved with the state of another run at `step`."""
    return digests.custom_metadata(directory / str(step))


def _is_full_disk(error: BaseException) -> bool:
    return any(text in str(error) for text in _FULL)


def _is_not_of_full_disk(record: logging.LogRecord) -> bool:
    """Keeps Orbax's tracebacks of a full disk out of the log: the error is raised anyway."""
    error = record.exc_info and record.exc_info[1]
    return not (error and _is_full_disk(error))


def _loss(metrics: dict[str, float]) -> float:
    """What the best checkpoints are chosen by; infinite where the state was not evaluated."""
    return metrics.get("loss", math.inf)


def _as_dict(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state}
