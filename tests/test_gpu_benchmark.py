"""The benchmark for GPUs: parts that crash or hang, and all of it in small form on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from tests.corpus.corpora import build_store, documents, tiny_config, write_text

ROOT = Path(__file__).parent.parent
PART = """
import sys, time
print('{"check": "first", "ok": true}', flush=True)
print("no row")
if sys.argv[1] == "crash":
    sys.exit("it broke")
if sys.argv[1] == "hang":
    time.sleep(600)
print('{"check": "last", "ok": true}')
"""


def test_a_part_that_crashes_or_hangs_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "PARTS", tmp_path / "part.py")
    gpu.PARTS.write_text(PART)
    report = gpu.Report(tmp_path / "results.json")
    limits = {"crash": 60, "hang": 3, "good": 60}
    gpu.run_together([gpu.Part(name, [], limit) for name, limit in limits.items()], report)
    found = json.loads((tmp_path / "results.json").read_text())
    assert {name: part["status"] for name, part in found.items()} == {
        "crash": "failed with status 1",
        "hang": "stopped: out of time",
        "good": "ok",
    }
    checks = {name: [row["check"] for row in part["rows"]] for name, part in found.items()}
    assert checks == {"crash": ["first"], "hang": ["first"], "good": ["first", "last"]}
    assert "it broke" in capsys.readouterr().out


@pytest.mark.slow
def test_all_parts_run_on_a_cpu(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    write_text(tmp_path / "text.txt", documents(120))
    build_store(tiny_config(f"text:{tmp_path}/text.txt"), tmp_path / "store")
    xla = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    command = [sys.executable, "benchmarks/gpu.py", "--tiny", "--seconds=1800"]
    run = subprocess.run(
        [*command, f"--store={tmp_path / 'store'}", f"--json={tmp_path / 'gpu.json'}"],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": " ".join(xla)},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert set(found) == set(gpu.NAMES)
    assert {part["status"] for part in found.values()} == {"ok"}
    sides = {(row["shape"], row["side"]) for row in found["steps"]["rows"]}
    peers = ("bert_jax", "eager_float32")
    assert sides == {(shape, side) for shape in ("bert", "ettin-68m") for side in peers}
    assert all(row["equal"] for row in found["bytes"]["rows"])  # CPUs need no flag for it
    assert found["train"]["rows"][-1]["step"] == 5
    assert found["train"]["rows"][-1]["loss"] > 0
