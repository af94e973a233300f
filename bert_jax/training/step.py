"""The state of a run, and the step that is compiled.

The loss of a batch is a sum over its predictions divided by their number, over the whole global
batch: neither devices nor micro-batches with different numbers of predictions change it.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

from bert_jax import model as model_lib
from bert_jax.model import Batch, ModelConfig, Params, Totals
from bert_jax.model.dropout import Rows, rows_of_batch
from bert_jax.stream.phases import Phase
from bert_jax.training import sharding
from bert_jax.training.frozen import Frozen
from bert_jax.training.objectives import Objective, StepObjective
from bert_jax.training.optimizers import make_optimizer
from bert_jax.training.parameter_rules import assign
from bert_jax.training.settings import TrainingSettings

TotalsByName = dict[str, Totals]
KeyData = UInt32[np.ndarray, "words"]
SKIPPED = "skipped_updates"


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
    """All state of a run: everything else is a function of config, corpus and `step`."""

    step: Any  # int32 scalar: how many updates were made
    params: Params
    opt_state: optax.OptState


class StepFigures(NamedTuple):
    """What a train step reports.

    Attributes:
      totals: each loss of the objective with its metrics, summed over the batch.
      scalars: `grad_norm`, before clipping; the learning rates; `SKIPPED`, 1 if the update was
        left out because a loss or the gradient was not finite, else 0.
    """

    totals: TotalsByName
    scalars: dict[str, Float[Array, ""]]


def key_data(seed: int, name: str) -> KeyData:
    """The PRNG key for one purpose, such as dropout, as an argument of compiled functions."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return np.asarray(jax.random.key_data(key))


class Update:
    """The compiled update of a batch, with the seed and the frozen parameters filled in."""

    def __init__(self, jitted: jax.stages.Wrapped, key: KeyData, frozen: Frozen, shardings: Any):
        """`jitted`: a function of the state, the batch, the key of dropout and the frozen."""
        self._jitted, self._key, self._frozen, self._shardings = jitted, key, frozen, shardings

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, StepFigures]:
        """The next state, and figures of the batch; the given state is overwritten."""
        return self._jitted(state, batch, self._key, self._placed)

    def trace(self, state: Any, batch: Any) -> Any:
        """As `jax.jit(...).trace`, for arrays or their shapes."""
        return self._jitted.trace(state, batch, self._key, self._frozen.abstract(self._shardings))

    def lower(self, state: Any, batch: Any) -> Any:
        """As `jax.jit(...).lower`, for arrays or their shapes."""
        return self._jitted.lower(state, batch, self._key, self._frozen.abstract(self._shardings))

    def compile(self, state: Any, batch: Any) -> "CompiledUpdate":
        """The update for one shape of batch."""
        program = self.lower(state, batch).compile()
        return CompiledUpdate(program, self._key, self._placed)

    @functools.cached_property
    def _placed(self) -> Params:
        return self._frozen.on(self._shardings)


class CompiledUpdate:
    """The update for batches of one shape.

    Attributes:
      program: with its text, its memory and its cost.
    """

    def __init__(self, program: jax.stages.Compiled, key: KeyData, frozen: Params):
        """`program`: of the state, the batch, the key of dropout and the frozen parameters."""
        self.program, self._key, self._frozen = program, key, frozen

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, StepFigures]:
        """The next state, and figures of the batch; the given state is overwritten."""
        return self.program(state, batch, self._key, self._frozen)


@dataclasses.dataclass(frozen=True)
class Steps:
    """The compiled functions of a run on a mesh."""

    with_seed: Callable[[int], "Steps"]  # those of a run with another seed: nothing new to compile
    init: Callable[[], TrainState]  # the state before the first step, a function of the seed
    init_from: Callable[[Params], TrainState]  # the same with given parameters
    train: Update
    evaluate: Callable[[Params, Batch], TotalsByName]
    abstract_state: TrainState  # shapes, types and shardings: what a checkpoint is restored into


def compile_steps(settings: TrainingSettings, model: ModelConfig, mesh: Mesh) -> Steps:
    """Jit the run's functions with the state and the batch spread over `mesh`.

    The state is donated to the train step. Evaluation takes the parameters alone.
    """
    objective = settings.objective
    optimizer = make_optimizer(settings.optimizer)
    structure, _ = model_lib.abstract(model, objective.build)
    micro_batches = settings.mesh.micro_batches

    def init_from(params: Params) -> TrainState:
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.update.init(params))

    def init(key: UInt32[Array, "words"]) -> TrainState:
        key = jax.random.wrap_key_data(key)
        return init_from(model_lib.initialize(model, key, objective.build))

    shapes = jax.eval_shape(init, key_data(settings.seed, "parameters"))
    of_params = sharding.parameter_shardings(mesh, shapes.params)
    of_opt_state = sharding.optimizer_shardings(shapes.opt_state, shapes.params, of_params)
    replicated = jax.NamedSharding(mesh, sharding.P())
    of_state = TrainState(replicated, of_params, of_opt_state)
    of_frozen = sharding.parameter_shardings(mesh, objective.frozen.params)
    of_rows = sharding.batch_sharding(mesh)

    @jax.named_scope("head")  # in profiles: everything outside of the encoder's own scopes
    def totals(
        objective: StepObjective, params: Params, batch: Batch, key: PRNGKeyArray | None
    ) -> TotalsByName:
        params = jax.lax.with_sharding_constraint(params, sharding.gathered(of_params))
        # Attention chooses its backend by the mesh's devices and shards its kernels over it.
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return objective.totals(nnx.merge(structure, params), batch, key)

    def loss(
        params: Params, frozen: Params, batch: Batch, counts: dict[str, Array], key: PRNGKeyArray
    ) -> tuple[Array, TotalsByName]:
        frozen = jax.lax.with_sharding_constraint(frozen, sharding.gathered(of_frozen))
        found = totals(objective.given(frozen), params, batch, key)
        parts = [
            weight * found[name].loss / counts[name]
            for name, weight in objective.loss_weights.items()
        ]
        return functools.reduce(jnp.add, parts), found

    def gradients(
        params: Params, frozen: Params, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Params, TotalsByName]:
        counts = {name: jnp.maximum(n, 1.0) for name, n in objective.counts(batch).items()}
        gradient = jax.grad(loss, has_aux=True)
        if micro_batches == 1:
            return gradient(params, frozen, batch, counts, key)
        parts = jax.tree.map(lambda array: split_rows(array, micro_batches), batch)

        def add(total: Any, index: Array) -> tuple[Any, None]:
            part = jax.tree.map(lambda array: array[index], parts)
            with rows_of_batch(Rows(index, micro_batches)):  # dropout is that of the whole batch
                found = gradient(params, frozen, part, counts, key)
            return jax.tree.map(jnp.add, total, found), None

        first = jax.tree.map(lambda array: array[0], parts)
        zeros = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(gradient, params, frozen, first, counts, key),
        )
        return jax.lax.scan(add, zeros, jnp.arange(micro_batches))[0]

    def train(
        state: TrainState, batch: Batch, key: UInt32[Array, "words"], frozen: Params
    ) -> tuple[TrainState, StepFigures]:
        key = jax.random.fold_in(jax.random.wrap_key_data(key), state.step)
        gradient, found = gradients(state.params, frozen, batch, key)
        gradient = jax.lax.with_sharding_constraint(gradient, of_params)
        with jax.named_scope("optimizer"):
            updates, opt_state = optimizer.update.update(gradient, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            grad_norm = optax.tree.norm(gradient)
            losses = [each.loss for each in found.values()]
            is_finite = jnp.isfinite(jnp.stack([grad_norm, *losses])).all()
            old = state.params, state.opt_state
            new = _if_finite(is_finite, (params, opt_state), old)
            if objective.idle:
                new = _without(objective.idle, new, old)
            scalars = {"grad_norm": grad_norm, SKIPPED: 1.0 - is_finite}
        for name, learning_rate in optimizer.learning_rates.items():
            scalars[name] = learning_rate(state.step)
        return TrainState(state.step + 1, *new), StepFigures(found, scalars)

    def evaluate(params: Params, batch: Batch) -> TotalsByName:
        return totals(objective, params, batch, None)

    # The keys are arguments, as constants would make another program of each seed.
    compiled_init = jax.jit(init, in_shardings=replicated, out_shardings=of_state)
    compiled_init_from = jax.jit(init_from, in_shardings=(of_params,), out_shardings=of_state)
    compiled_train = jax.jit(
        train,
        in_shardings=(of_state, of_rows, replicated, of_frozen),
        out_shardings=(of_state, replicated),
        donate_argnums=0,
    )
    compiled_evaluate = jax.jit(
        evaluate, in_shardings=(of_params, of_rows), out_shardings=replicated
    )
    abstract_state = jax.tree.map(
        lambda leaf, spread: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spread),
        shapes,
        of_state,
    )

    def with_seed(seed: int) -> Steps:
        return Steps(
            with_seed=with_seed,
            init=functools.partial(compiled_init, key_data(seed, "parameters")),
            init_from=compiled_init_from,
            train=Update(compiled_train, key_data(seed, "dropout"), objective.frozen, of_frozen),
            evaluate=compiled_evaluate,
            abstract_state=abstract_state,
        )

    return with_seed(settings.seed)


def _if_finite(is_finite: Array, new: Any, old: Any) -> Any:
    """`new`, or `old` if a loss or the gradient is not finite; integer counters always advance."""

    def choose(new: Array, old: Array) -> Array:
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        return jnp.where(is_finite, new, old)

    return jax.tree.map(choose, new, old)


def _without(idle: str, new: Any, old: Any) -> Any:
    """`new`, and `old` where the regex matches the name of a parameter or of its moment."""
    is_idle = assign([(idle, True), (".*", False)], new)
    return jax.tree.map(lambda new, old, idle: old if idle else new, new, old, is_idle)


def abstract_batch(
    objective: Objective, mesh: Mesh, phase: Phase
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes, types and shardings of a training batch: what a step is lowered for."""
    spread = sharding.batch_sharding(mesh)
    return {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=spread)
        for name, (dtype, shape) in objective.batch_shapes(phase).items()
    }


def split_rows(array: Array, parts: int) -> Array:
    """[B, ...] to [parts, B / parts, ...], every part with rows of every device.

    Part i takes the rows i, i + parts, ...: consecutive rows are on one device, so nothing moves
    between devices.
    """
    size = array.shape[0] // parts
    return array.reshape(size, parts, *array.shape[1:]).swapaxes(0, 1)
