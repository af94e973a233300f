"""The real training steps compile for TPUs that are not there, fit, and exchange no activations."""

import json
import sys

import jax
import pytest

from bert_jax import plan
from bert_jax.common.errors import UserError
from bert_jax.config import load_config, parse
from bert_jax.performance import hlo, scaling, topology
from bert_jax.performance.topology import Slice
from bert_jax.training import sharding
from bert_jax.training.step import compile_steps

GRID = Slice.parse("v5e:4x4")
# name: config file, argument, rows of the global batch, mesh
CASES = {
    "bert-large": ("configs/bert.py", "large", 128, {"data": 4, "fsdp": 4}),
    "modernbert-base": ("configs/modernbert.py", "base", 64, {"data": 16}),
}


def shortened(name):
    """The published widths, vocabulary and last phase with one layer: the others are like it."""
    file, size, rows, mesh = CASES[name]
    config = load_config(file, size)
    config.model.compute_dtype = "bfloat16"
    config.model.num_hidden_layers = 1
    config.global_batch_size = rows
    config.mesh.update(mesh)
    return config


@pytest.fixture(scope="module")
def devices():
    pytest.importorskip("libtpu", reason="the TPU compiler: pip install -e '.[tpu]'")
    return topology.devices(GRID)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert-large", "modernbert-base"])
def test_a_step_compiles_for_a_slice_fits_and_exchanges_parameters_alone(name, devices):
    settings = parse(shortened(name))
    mesh = sharding.make_mesh(settings.training.mesh, devices)
    model = settings.models(settings.corpus.tokenizer.vocab_size)[-1]
    quick = {"exec_time_optimization_effort": -1.0}  # of the compiler; the exchanges stay
    step = plan.compiled(settings, mesh, settings.stream.phases[-1], model, quick)
    text, memory = step.as_text(), step.memory_analysis()
    assert memory.argument_size_in_bytes + memory.temp_size_in_bytes < GRID.chip.memory
    assert hlo.estimated_cycles(text) > 0

    params = compile_steps(settings.training, model, mesh).abstract_state.params
    shapes = {leaf.shape for leaf in jax.tree.leaves(params)}
    found = hlo.collectives(text)
    moved = {kind: [c for c in found if c.kind == kind] for kind in hlo.KINDS}
    assert not moved["all-to-all"]
    gathered = {shape for c in moved["all-gather"] for _, shape in c.arrays}
    assert gathered <= shapes, "activations are gathered"
    assert bool(gathered) == (settings.training.mesh.fsdp > 1)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    summed = sum(c.total for kind in ("all-reduce", "reduce-scatter") for c in moved[kind])
    # Gradients cross once, in 2 or 4 bytes a number; the token table's at most twice.
    assert summed < 4 * (size + max(leaf.size for leaf in jax.tree.leaves(params))) * 1.25


def test_the_table_and_the_json_say_the_same():
    exchange = hlo.Collective("all-gather", (("bf16", (1000, 500)),), (0, 1), 24, False, "")
    times = scaling.Times(products=0.004, memory=0.002, compiler=0.008, exposed=0.002, hidden=0.001)
    made = plan.Plan(
        topology="v5e:2x2",
        mesh={"data": 2, "fsdp": 2, "tensor": 1},
        sequence_length=512,
        global_batch_size=40,
        arguments=2**30,
        temporaries=2**31,
        program=0,
        memory=2.0**34,
        attention="splash",
        flops=8e11,
        compiler_flops=9e11,
        bytes_accessed=1e9,
        memory_traffic=1e9,
        collectives=(exchange,),
        compile_seconds=60.0,
        times=times,
        scaling={2: times},
    )
    lines = plan.describe([made]).splitlines()
    shown = {line[:36].strip(): line[36:].strip() for line in lines}
    assert shown["memory in use"] == "3.00 GiB of 16.00 GiB"
    assert shown["all-gather among 2 chips"] == "24 times, 24.00 MB"
    assert shown["predicted step"] == "10.0 ms"
    assert shown["predicted share of the peak (MFU)"] == "40%"
    assert shown["predicted sequences/s a chip"] == "1,000.0"
    assert shown["weak scaling, 2 chips"] == "80.0%"
    (read,) = json.loads(plan.to_json([made]))
    assert read["times"]["exposed"] == 0.002
    assert read["collectives"][0]["arrays"] == [["bf16", [1000, 500]]]


def test_without_the_tpu_compiler_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[tpu\]'"):
        topology.devices(GRID)


def test_a_mesh_that_is_not_the_slice_is_refused(devices):
    config = shortened("bert-large")
    config.mesh.data = 3
    with pytest.raises(UserError, match="16 devices"):
        plan.plan(parse(config), GRID)


def test_a_batch_that_does_not_divide_is_refused(devices):
    config = shortened("bert-large")
    config.global_batch_size = 100
    with pytest.raises(UserError, match="multiple of 16"):
        plan.plan(parse(config), GRID)
