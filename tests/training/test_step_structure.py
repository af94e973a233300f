"""The training step's structure: what devices exchange, which types it multiplies, what it keeps.

The laws are tested as laws. Beside them the whole structure is pinned in step_structure.json, so
that an upgrade of a library cannot change it unseen. After a deliberate change, renew the file with

    python -m tests.training.test_step_structure

and read its difference before it is committed.
"""

import collections
import json
from pathlib import Path

import jax
import pytest
from jax.extend.core import jaxprs_in_params

from bert_jax.config import default_config, parse
from bert_jax.performance import hlo
from bert_jax.training import sharding
from bert_jax.training.step import abstract_batch, compile_steps
from tests.architectures import make_modern

GOLDEN = Path(__file__).with_name("step_structure.json")
LAYERS, ROWS, LENGTH, WIDTH = 2, 16, 32, 64
MESHES = {
    "data": {"data": 8},
    "fsdp": {"data": 2, "fsdp": 4},
    "tensor": {"data": 2, "tensor": 4},
}
CASES = [("classic", "data"), ("classic", "fsdp"), ("classic", "tensor"), ("modern", "fsdp")]


def small_config(family, mesh="data", layers=LAYERS):
    """A run whose sizes differ from each other, so that every shape tells what it is."""
    config = default_config()
    config.tokenizer.vocab_size = 512
    config.stream.sequence_length, config.global_batch_size = LENGTH, ROWS
    config.model.update(
        num_hidden_layers=layers,
        hidden_size=WIDTH,
        num_attention_heads=4,
        intermediate_size=192,
        max_position_embeddings=40,
        compute_dtype="bfloat16",
    )
    config.mesh.update(MESHES[mesh])
    if family == "classic":
        config.stream.objective = "nsp"
    else:
        make_modern(config.model)
        config.model.update(next_sentence=False, dropout=0.0, attention_dropout=0.0)
    return config


def train_step(config, devices=None):
    """The functions of a run on its mesh, and the abstract batch of its one phase."""
    mesh = sharding.make_mesh(parse(config).training.mesh, devices)
    steps = compile_steps(
        parse(config).training, parse(config).model_config(config.tokenizer.vocab_size), mesh
    )
    return steps, abstract_batch(parse(config).objective, mesh, parse(config).stream.phases[0])


_programs: dict = {}


def program(family, mesh):
    """The compiled text of a case and its abstract state; compiled once."""
    if (family, mesh) not in _programs:
        steps, batch = train_step(small_config(family, mesh))
        lowered = steps.train.lower(steps.abstract_state, batch)
        text = lowered.compile({"xla_backend_optimization_level": 0}).as_text()  # quickly
        _programs[family, mesh] = text, steps.abstract_state
    return _programs[family, mesh]


def products(family, layers):
    """Number of matrix products by the types of operands and result, as accelerators do them."""
    config = small_config(family, layers=layers)
    config.mesh.data = 1
    steps, batch = train_step(config, jax.devices()[:1])
    found: collections.Counter = collections.Counter()

    def count(jaxpr, times):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                operands = " x ".join(str(variable.aval.dtype) for variable in equation.invars)
                found[f"{operands} -> {equation.outvars[0].aval.dtype}"] += times
            runs = times * equation.params.get("length", 1)  # of a scan
            if platforms := equation.params.get("branches_platforms"):
                others = equation.params["branches"][platforms.index(None)]  # all but the CPU
                count(others.jaxpr, runs)
                continue
            for inner in jaxprs_in_params(equation.params):
                count(inner, runs)

    count(steps.train.trace(steps.abstract_state, batch).jaxpr.jaxpr, 1)
    return found


def exchanges(family, mesh):
    """Arrays and bytes that a step exchanges, by kind and number of devices."""
    found: dict = {}
    for collective in hlo.collectives(program(family, mesh)[0]):
        entry = found.setdefault(
            f"{collective.kind} among {len(collective.group)}", {"arrays": 0, "bytes": 0}
        )
        entry["arrays"] += len(collective.arrays) * collective.times
        entry["bytes"] += collective.total
    return dict(sorted(found.items()))


def is_parameter(shape, params, tensor):
    """Whether it is the shape of a parameter, or of its part where the tensor axis splits it."""
    return any(
        shape
        in (leaf.shape, (*leaf.shape[:axis], leaf.shape[axis] // tensor, *leaf.shape[axis + 1 :]))
        for leaf in jax.tree.leaves(params)
        for axis in range(leaf.ndim)
    )


def exchanged(family, mesh, kind):
    """The shapes of all arrays that a kind of exchange moves, once for each run."""
    text, _ = program(family, mesh)
    return [
        shape
        for collective in hlo.collectives(text)
        if collective.kind == kind
        for _ in range(collective.times)
        for _, shape in collective.arrays
    ]


def test_replicas_exchange_their_gradients_once_and_nothing_else():
    text, state = program("classic", "data")
    assert {collective.kind for collective in hlo.collectives(text)} == {"all-reduce"}
    summed = collections.Counter(exchanged("classic", "data", "all-reduce"))
    parameters = collections.Counter(leaf.shape for leaf in jax.tree.leaves(state.params))
    table = state.params["encoder"]["embeddings"]["tokens"]["embedding"].shape
    parameters[table] += 1  # once as the embedding and once as the head
    surplus = summed - parameters
    assert not parameters - summed
    assert set(surplus) <= {()}, "more than gradients and figures crosses devices"


@pytest.mark.parametrize(("family", "mesh"), CASES)
def test_only_parameters_are_gathered(family, mesh):
    """An all-gather of activations would cost more than all that fsdp saves."""
    _, state = program(family, mesh)
    gathered = exchanged(family, mesh, "all-gather")
    assert bool(gathered) == (mesh == "fsdp")
    for shape in gathered:
        assert is_parameter(shape, state.params, MESHES[mesh].get("tensor", 1)), shape


def test_fsdp_gathers_every_matrix():
    _, state = program("classic", "fsdp")
    gathered = exchanged("classic", "fsdp", "all-gather")
    for leaf in jax.tree.leaves(state.params):
        if "fsdp" in leaf.sharding.spec:
            assert leaf.shape in gathered
        else:
            assert leaf.ndim == 1 or leaf.size < WIDTH**2


def test_tensor_axis_sums_activations_twice_a_layer_forward_and_twice_backward():
    """As Megatron-LM (https://arxiv.org/abs/1909.08053, section 3)."""
    activations = (ROWS // MESHES["tensor"]["data"], LENGTH, WIDTH)
    summed = exchanged("classic", "tensor", "all-reduce")
    # and once more the sum over the parts of the token table, forward or backward
    assert summed.count(activations) in (4 * LAYERS, 4 * LAYERS + 1)


@pytest.mark.parametrize("family", ["classic", "modern"])
def test_layers_multiply_bfloat16(family):
    """Per layer 6 products forward, each with two backward; operands in bfloat16."""
    layer = products(family, LAYERS + 1) - products(family, LAYERS)
    assert layer.total() == 18
    assert all(types.startswith("bfloat16 x bfloat16") for types in layer), layer


@pytest.mark.parametrize(("family", "mesh"), CASES)
def test_every_array_of_the_state_is_written_in_place(family, mesh):
    text, state = program(family, mesh)
    assert hlo.donated(text) == len(jax.tree.leaves(state))


def pinned():
    """All that the file holds."""
    return {
        "products": {
            family: dict(sorted(products(family, LAYERS).items()))
            for family in ("classic", "modern")
        },
        "exchanges": {f"{family}, {mesh}": exchanges(family, mesh) for family, mesh in CASES},
    }


def test_structure_is_the_pinned_one():
    expected = json.loads(GOLDEN.read_text())
    assert pinned() == expected, (
        "the step's structure changed: if that is meant, run "
        f"`python -m tests.training.test_step_structure` and commit {GOLDEN.name}"
    )


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    GOLDEN.write_text(json.dumps(pinned(), indent=1) + "\n")
