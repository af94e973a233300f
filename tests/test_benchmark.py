"""The benchmark command: what it measures, what it refuses, and what a second start reads again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from absl.testing import flagsaver

from bert_jax import benchmark
from bert_jax.common import command_line
from bert_jax.common.errors import UserError
from bert_jax.config import default_config, parse
from bert_jax.performance import capacity, profiling
from bert_jax.performance.measuring import INPUT, real
from tests import commands

ROOT = Path(__file__).parent.parent
TINY = [
    "--config=configs/bert.py:tiny",
    "--config.total_steps=100",
    "--config.warmup_steps=10",
    "--config.global_batch_size=4",
    "--config.model.num_hidden_layers=1",
    "--config.model.hidden_size=32",
    "--config.model.num_attention_heads=2",
    "--config.model.intermediate_size=64",
    "--config.tokenizer.vocab_size=300",
    "--config.stream.phases[0].sequence_length=32",
    "--config.stream.phases[1].sequence_length=64",
]
# TensorFlow is not there, as on a machine that only computes.
COMMAND = """
import runpy, sys
sys.modules["tensorflow"] = None
runpy.run_module("bert_jax.benchmark", run_name="__main__", alter_sys=True)
"""


def report(path, *flags):
    """What the command writes, and what it says."""
    xla = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    run = subprocess.run(
        [sys.executable, "-c", COMMAND, *TINY, f"--json={path}", *flags],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": " ".join(xla)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(path.read_text()), run.stdout


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    place = tmp_path_factory.mktemp("first")
    return report(place / "figures.json", "--steps=3", f"--compile_cache={place / 'compiled'}")


@pytest.mark.slow
def test_every_part_takes_time_and_the_parts_are_the_whole(first):
    for phase in first[0]["phases"]:
        parts = phase["part_seconds"]
        for name in (*profiling.PARTS, INPUT):
            assert parts[name] > 0, name
        computed = sum(parts.values()) - parts[profiling.IDLE]
        assert parts[profiling.OTHER] < 0.1 * computed
        # The steps of the profile run one by one; those that are timed do not, on a busy machine.
        assert 0.2 < sum(parts.values()) / phase["step_seconds_median"] < 20


@pytest.mark.slow
def test_figures_follow_from_the_steps(first):
    phases = first[0]["phases"]
    assert [phase["sequence_length"] for phase in phases] == [32, 64]
    for phase in phases:
        median = sorted(phase["step_seconds"])[1]
        assert len(phase["step_seconds"]) == 3
        assert phase["step_seconds_median"] == median
        assert phase["sequences_per_second"] == pytest.approx(4 / median)
        assert 0 < phase["real_flops"] <= phase["row_flops"] <= phase["compiler_flops"]
        assert phase["mfu"] == pytest.approx(phase["real_flops"] / median / phase["peak"])
        assert 0 < phase["program_bytes"] < phase["process_peak_bytes"]


@pytest.mark.slow
def test_the_table_names_what_the_file_holds(first):
    for text in ("compile time", "step, median", "MFU", "attention", "optimizer", "input", "idle"):
        assert text in first[1]


@pytest.mark.slow
def test_a_second_start_reads_what_the_first_compiled(first, tmp_path):
    compiled = Path(first[0]["compile_cache"]).parent  # of the processor's own
    again, _ = report(
        tmp_path / "again.json", "--steps=1", "--phase=1", f"--compile_cache={compiled}"
    )
    assert [phase["is_cached"] for phase in first[0]["phases"]] == [False, False]
    assert [phase["is_cached"] for phase in again["phases"]] == [True]


def test_a_phase_that_is_not_there_is_refused():
    assert [phase.index for phase in benchmark.chosen(parse(default_config()), None)] == [0]
    with pytest.raises(UserError, match="--phase=1: the config's phases are 0 to 0"):
        benchmark.chosen(parse(default_config()), 1)


@pytest.fixture(scope="module")
def _flags():
    with commands.defined(command_line.define_compile_cache, benchmark.define_flags):
        yield


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "--steps=0: take 1 or more"),
        ({"rounds": -1}, "--rounds=-1: take 1 or more"),
        ({"peers": ["eager_float16"]}, "--peers=eager_float16: choose from eager_float32, "),
    ],
)
@pytest.mark.usefixtures("_flags")
def test_flags_that_make_no_sense_are_refused(given, message):
    values = benchmark.FLAGS
    if not values.is_parsed():
        values.mark_as_parsed()
    with flagsaver.flagsaver(**given), pytest.raises(UserError, match=message):
        benchmark.check_flags()


def test_real_batches_need_a_store(tmp_path):
    with pytest.raises(UserError, match=r"no token store in .* bert_jax\.prepare"):
        real(parse(default_config()), tmp_path)


def test_the_largest_batch_is_found_between_two_sizes():
    """A program of 1,000 bytes a row and 500 besides."""

    def compile_rows(rows):
        return jax.jit(lambda x: x.sum()).lower(jax.ShapeDtypeStruct((rows, 250), "float32"))

    def in_use(rows):
        return capacity.bytes_in_use(compile_rows(rows).compile())

    limit = in_use(44) + 10
    found = capacity.largest_batch(lambda rows: compile_rows(rows).compile(), 4, limit)
    assert found.rows == 44
    assert found.too_many == 48
    assert list(found.tried) == [4, 8, 16, 32, 64, 48, 40, 44]
    with pytest.raises(UserError, match="not even 4 rows fit"):
        capacity.largest_batch(lambda rows: compile_rows(rows).compile(), 4, 100)


@pytest.mark.slow
def test_beside_transformers_both_sides_learn_the_same_batches(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    flags = ("--compare", "--peers=eager_float32", "--rounds=1", "--steps=2", "--phase=0")
    found, said = report(tmp_path / "compare.json", *flags)
    ((ours, peer),) = found["compare"]
    assert [ours["side"], peer["side"]] == ["bert_jax", "eager_float32"]
    assert len(peer["rounds"][0]) == 2
    assert peer["times_ours"][0] > 0
    assert peer["step_seconds_median"] > 0
    lines = said.splitlines()
    for name in ("bert_jax", "eager_float32"):  # as it goes, before the table
        assert any(line.startswith(f"{name}: the first step took") for line in lines)
        assert any(line.startswith(f"round 1 of 1: {name}") for line in lines)
