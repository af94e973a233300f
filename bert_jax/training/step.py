"""The state of a run, the pretraining loss, and the step that is compiled.

The loss of a batch is a sum over its predictions divided by their number, over the whole global
batch: neither devices nor micro-batches with different numbers of predictions change it.
"""

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from bert_jax import model as model_lib
from bert_jax.model import Batch, Bert, ModelConfig
from bert_jax.stream.phases import Phase, phases
from bert_jax.stream.settings import PAIR_OBJECTIVES
from bert_jax.training import sharding
from bert_jax.training.optimizer import learning_rate_schedule, make_optimizer

Sums = dict[str, Float[Array, ""]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
    """All that changes in a run; the rest follows from the config, the corpus and `step`."""

    step: Any  # int32 scalar: how many updates were made
    params: Any
    opt_state: Any


def initial_state(
    config: ConfigDict, model: ModelConfig, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state before the first step, a function of `config.seed`."""
    params = model_lib.initialize(model, stream_key(config.seed, "parameters"))
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def stream_key(seed: int, name: str) -> PRNGKeyArray:
    """The key of one named use of randomness."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


@jax.named_scope("head")  # all that the encoder does not name otherwise
def pretraining_sums(model: Bert, batch: Batch, key: PRNGKeyArray | None) -> Sums:
    """Summed losses, correct predictions and counts of a batch.

    Without a key there is no dropout, and the losses are exact whatever the head trains on.
    """
    sums: Sums = {}
    for name, (loss, correct, number) in model.totals(batch, key).items():
        sums |= {f"{name}_loss": loss, f"{name}_correct": correct, f"{name}_count": number}
    return sums


def prediction_counts(batch: Batch) -> Sums:
    """How many predictions and pairs the whole batch asks for."""
    counts = {"mlm": batch["masked_weights"].sum()}
    if "next_sentence_label" in batch:
        counts["nsp"] = (batch["next_sentence_label"] >= 0).sum().astype(jnp.float32)
    return counts


def model_of(config: ConfigDict, vocab_size: int, phase: Phase | None = None) -> ModelConfig:
    """The encoder of a run as it is in `phase`, whose rotary base may be its own.

    Args:
      config: of the run.
      vocab_size: pieces of its tokenizer.
      phase: None: the first.
    """
    rows = "padded" if config.stream.objective in PAIR_OBJECTIVES else "packed"
    model = ModelConfig.create(config.model, vocab_size, rows)
    theta = (phase or phases(config)[0]).rope_theta
    return dataclasses.replace(model, rope_theta=theta)


@dataclasses.dataclass(frozen=True)
class Steps:
    """The compiled functions of a run on a mesh."""

    init: Callable[[], TrainState]
    train: jax.stages.Wrapped  # (TrainState, Batch) -> (TrainState, Sums)
    evaluate: Callable[[Any, Batch], Sums]
    abstract_state: TrainState  # shapes, types and shardings: what a checkpoint is restored into


def compile_steps(config: ConfigDict, model: ModelConfig, mesh: Mesh) -> Steps:
    """Jit the run's functions with the state and the batch spread over `mesh`.

    The state is donated to the train step. Evaluation takes the parameters alone.
    """
    optimizer = make_optimizer(config)
    structure, _ = model_lib.abstract(model)
    shapes = jax.eval_shape(lambda: initial_state(config, model, optimizer))
    state_shardings = sharding.state_shardings(mesh, shapes)
    used = sharding.gathered(state_shardings.params)
    rows = sharding.batch_sharding(mesh)
    schedule = learning_rate_schedule(config)
    next_sentence_weight = config.optimizer.next_sentence_weight
    micro_batches = config.mesh.micro_batches

    def batch_sums(params: Any, batch: Batch, key: PRNGKeyArray | None) -> Sums:
        # Attention kernels split themselves over the mesh, and choose themselves by its devices.
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return pretraining_sums(nnx.merge(structure, params), batch, key)

    def loss(params: Any, batch: Batch, counts: Sums, key: PRNGKeyArray) -> tuple[Array, Sums]:
        params = jax.lax.with_sharding_constraint(params, used)
        sums = batch_sums(params, batch, key)
        total = sums["mlm_loss"] / counts["mlm"]
        if "nsp_loss" in sums:
            total += next_sentence_weight * sums["nsp_loss"] / counts["nsp"]
        return total, sums

    def gradients(params: Any, batch: Batch, key: PRNGKeyArray) -> tuple[Any, Sums]:
        counts = {name: jnp.maximum(n, 1.0) for name, n in prediction_counts(batch).items()}
        gradient = jax.grad(loss, has_aux=True)
        if micro_batches == 1:
            return gradient(params, batch, counts, key)
        parts = jax.tree.map(lambda rows: split_rows(rows, micro_batches), batch)

        def add(total: Any, index: Array) -> tuple[Any, None]:
            part = jax.tree.map(lambda rows: rows[index], parts)
            part_key = jax.random.fold_in(key, index)
            return jax.tree.map(jnp.add, total, gradient(params, part, counts, part_key)), None

        first = jax.tree.map(lambda rows: rows[0], parts)
        zeros = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(gradient, params, first, counts, key),
        )
        return jax.lax.scan(add, zeros, jnp.arange(micro_batches))[0]

    def train(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        key = jax.random.fold_in(stream_key(config.seed, "dropout"), state.step)
        gradient, sums = gradients(state.params, batch, key)
        gradient = jax.lax.with_sharding_constraint(gradient, state_shardings.params)
        with jax.named_scope("optimizer"):
            updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            sums["grad_norm"] = optax.tree.norm(gradient)
        sums["learning_rate"] = config.learning_rate * schedule(state.step)
        return TrainState(state.step + 1, params, opt_state), sums

    def evaluate(params: Any, batch: Batch) -> Sums:
        params = jax.lax.with_sharding_constraint(params, used)
        return batch_sums(params, batch, None)

    everywhere = jax.NamedSharding(mesh, sharding.P())
    return Steps(
        init=jax.jit(
            lambda: initial_state(config, model, optimizer), out_shardings=state_shardings
        ),
        train=jax.jit(
            train,
            in_shardings=(state_shardings, rows),
            out_shardings=(state_shardings, everywhere),
            donate_argnums=0,
        ),
        evaluate=jax.jit(
            evaluate, in_shardings=(state_shardings.params, rows), out_shardings=everywhere
        ),
        abstract_state=jax.tree.map(
            lambda leaf, spread: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spread),
            shapes,
            state_shardings,
        ),
    )


def abstract_batch(config: ConfigDict, mesh: Mesh, phase: Phase) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes, types and shardings of a training batch (contract C5): what a step is lowered for."""
    batch_sharding = sharding.batch_sharding(mesh)

    def rows(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(
            (phase.global_batch_size, *shape), dtype, sharding=batch_sharding
        )

    tokens = rows(jnp.int32, phase.sequence_length)
    predictions = rows(jnp.int32, phase.max_predictions)
    batch = dict.fromkeys(("input_ids", "token_type_ids", "position_ids", "segment_ids"), tokens)
    batch |= dict.fromkeys(("masked_positions", "masked_labels"), predictions)
    batch["masked_weights"] = rows(jnp.float32, phase.max_predictions)
    if config.stream.objective in PAIR_OBJECTIVES:
        batch["next_sentence_label"] = rows(jnp.int32)
    return batch


def evaluation_sums(
    mesh: Mesh,
    steps: Steps,
    params: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    batch_size: int,
) -> Sums:
    """The sums over some batches: so that every prediction has the same weight."""
    total: Sums = {}
    for batch in batches:
        sums = steps.evaluate(params, sharding.place_batch(mesh, dict(batch), batch_size))
        total = jax.tree.map(jnp.add, total, sums) if total else sums
    return total


def split_rows(rows: Array, parts: int) -> Array:
    """[B, ...] to [parts, B / parts, ...], every part with rows of every device.

    Part i takes the rows i, i + parts, ...: consecutive rows live on one device, so that nothing
    moves between devices.
    """
    size = rows.shape[0] // parts
    return rows.reshape(size, parts, *rows.shape[1:]).swapaxes(0, 1)
