"""Processes that must agree before they work: the comparison, and two real processes."""

import json

import pytest

from bert_jax.common import processes
from bert_jax.run.agreement import difference, expect_equal_processes, facts
from tests.runs import tiny, two_processes

EQUAL = {"jax": "0.10.2", "the kind of device": "TPU v5 lite", "config.seed": "0"}


def of(*changes):
    return [EQUAL | {"host": f"host{i}"} | change for i, change in enumerate(changes)]


def test_equal_processes_on_different_hosts_agree():
    assert difference(of({}, {}, {})) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ({}, {"jax": "0.11.0"}),
            "jax is 0.10.2 in process 0 (host0) and 0.11.0 in process 1 (host1)",
        ),
        (({}, {}, {"config.seed": "1"}), "config.seed is 0 in process 0, 1 (host0) and 1 in proc"),
        (({}, {"config.new": "true"}), "config.new is unknown in process 0 (host0) and true in"),
        (
            ({"config.seed": "1"}, *[{}] * 9),
            "config.seed is 1 in process 0 (host0) and 0 in process 1, 2, 3 and 6 more (host1)",
        ),
    ],
)
def test_what_differs_is_named_with_processes_and_hosts(changes, message):
    said = difference(of(*changes))
    assert message in said
    assert "same flags, the same installation and the same kind of device" in said


def test_the_facts_hold_every_field_and_the_source(corpus):
    found = facts(tiny(corpus))
    assert found["config.optimizer.name"] == '"adamw"'
    assert found["the source of bert_jax"].startswith("0.1.0 ")
    assert json.loads(json.dumps(found)) == found


def test_one_process_has_no_one_to_agree_with(corpus):
    expect_equal_processes(tiny(corpus))


def test_one_process_gets_what_several_would():
    assert processes.of_first(lambda: {"steps": (1, 2)}, "count") == {"steps": [1, 2]}


# What process `index` of two does, by the name of the case in argv[1].
PROGRAM = """
import os, sys, time
from pathlib import Path
from bert_jax.common import compile_cache, processes
from bert_jax.common.errors import UserError
from bert_jax.config import default_config
from bert_jax.run import agreement
from bert_jax.training.sharding import start_distributed

processes.SEEN_WITHIN, processes.NOTICE = 1.0, 0.2
start_distributed()
import jax
index, here = jax.process_index(), Path(sys.argv[1])

def tried(name, action):
    try:
        print(index, name, action(), flush=True)
    except UserError as error:
        print(index, name, "refused:", error, flush=True)

own = here / str(index)
own.mkdir()
config = default_config()
tried("same config", lambda: agreement.expect_equal_processes(config))
with config.unlocked():
    config.seed = index
tried("another seed", lambda: agreement.expect_equal_processes(config))
tried("shared", lambda: agreement.expect_shared_workdir(here))
tried("not shared", lambda: agreement.expect_shared_workdir(own))
tried("first", lambda: processes.of_first(lambda: [index, "said"], "say"))
tried("slow first", lambda: processes.of_first(lambda: time.sleep(0.5), "sleep a little"))
tried("cache", lambda: Path(compile_cache.use(str(here / "cache"))).parent.name)
tried("no cache", lambda: compile_cache.use("/proc/programs"))
tried("own cache", lambda: compile_cache.use(str(own / "cache")))
print(index, "keeps programs:", jax.config.jax_enable_compilation_cache, flush=True)
if index == 0:
    time.sleep(float(sys.argv[2]))
processes.barrier("end")
"""


@pytest.mark.slow
def test_two_processes_compare_what_they_run_and_see(tmp_path):
    said = two_processes(PROGRAM, tmp_path, 0)
    for process in range(2):
        assert f"{process} same config None" in said
        assert f"{process} another seed refused: the processes of this run differ: " in said
        assert f"{process} shared None" in said
        assert f"{process} not shared refused: process 1 on " in said
        assert f"{process} first [0, 'said']" in said
        assert f"{process} cache cache" in said
        assert f"{process} no cache None" in said
        assert f"{process} own cache None" in said
        assert f"{process} keeps programs: False" in said
    assert "config.seed is 0 in process 0" in said
    assert f"does not see --workdir={tmp_path / '0'} of process 0: use a directory" in said
    assert "Process 1 on" in said
    assert "waits for process 0 to sleep a little since 0 s." in said
    assert "Note: no compiled programs are kept: process 1 on " in said
    assert "Note: no compiled programs are kept: /proc/programs" in said
    assert not list(tmp_path.glob("*.token"))
