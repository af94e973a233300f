"""Predictions of a model for all rows of a split: jitted, in batches of a few shapes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array

from bert_jax.model import Batch, ModelConfig, Params, abstract
from bert_jax.model.bert import Build
from bert_jax.stream.rows import Batch as HostBatch
from bert_jax.tasks.base import Prediction, Task
from bert_jax.tasks.batches import RowBatches
from bert_jax.tasks.data import Record
from bert_jax.tasks.rows import Rows
from bert_jax.training import sharding

Forward = Callable[[Params, Batch], dict[str, Array]]


def compile_forward(task: Task, model: ModelConfig, mesh: Mesh) -> Forward:
    """The jitted outputs of a task."""
    return jitted(task.outputs, model, task.build, mesh)


def jitted(
    outputs: Callable[[Any, Batch], dict[str, Array]],
    model: ModelConfig,
    build: Build,
    mesh: Mesh,
) -> Forward:
    """The jitted function of (params, batch) that computes `outputs` of the module.

    Args:
      outputs: of the module and a batch.
      model: of the encoder.
      build: makes the module.
      mesh: of the devices.
    """
    structure, _ = abstract(model, build)

    def forward(params: Params, batch: Batch) -> dict[str, Array]:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return outputs(nnx.merge(structure, params), batch)

    replicated = jax.NamedSharding(mesh, sharding.P())
    return jax.jit(forward, out_shardings=replicated)


def outputs_of_rows(
    forward: Forward, params: Params, batches: RowBatches, mesh: Mesh
) -> dict[str, np.ndarray]:
    """The outputs of all units, in the order of the rows.

    The host takes the outputs of a batch while the devices compute the next one.
    """
    parts: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
    pending: tuple[np.ndarray, dict[str, Array]] | None = None

    def take(units: np.ndarray, found: dict[str, Array]) -> None:
        arrays = jax.device_get(found)
        parts.append((units, {name: array[: len(units)] for name, array in arrays.items()}))

    for units, batch in batches.in_order():
        found = forward(params, place(mesh, batch))
        if pending:
            take(*pending)
        pending = units, found
    if pending:
        take(*pending)
    order = np.argsort(np.concatenate([units for units, _ in parts]), kind="stable")
    return {name: _joined([part[name] for _, part in parts])[order] for name in parts[0][1]}


def place(mesh: Mesh, batch: HostBatch) -> Batch:
    """A batch, which every process has, on the devices, its units spread over them."""
    count = len(batch["weight"])
    held = sharding.process_rows(mesh, count)
    return sharding.place_batch(mesh, {name: batch[name][held] for name in batch}, count)


def predict(
    task: Task,
    forward: Forward,
    params: Params,
    batches: RowBatches,
    rows: Rows,
    records: Sequence[Record],
    mesh: Mesh,
) -> list[Prediction]:
    """The task's predictions for the examples of a split."""
    return task.predictions(outputs_of_rows(forward, params, batches, mesh), rows, records)


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """One below another; arrays of tokens are padded to the longest rows with zeros."""
    if len({array.shape[1:] for array in arrays}) > 1:
        width = max(array.shape[1] for array in arrays)
        arrays = [
            np.pad(a, [(0, 0), (0, width - a.shape[1]), *[(0, 0)] * (a.ndim - 2)]) for a in arrays
        ]
    return np.concatenate(arrays)
