"""The wheel has all that the package needs outside of the clone; .ci/run trains with it."""

import os
import subprocess
import sys
import zipfile

import pytest

from tests.runs import ROOT


@pytest.mark.slow
def test_the_wheel_is_complete(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = (
        "from bert_jax.common import config_files, page;"
        "print(*config_files.names(), *config_files.names('finetune'));"
        "print(len(page.page('a', page.charts([page.Chart('', '', [page.Line('', [1], [2])])]))))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    )
    names, size = run.stdout.splitlines()
    assert {"quickstart", "bert", "modernbert", "finetune/classification"} <= set(names.split())
    assert int(size) > 50_000  # with uPlot
    assert (tmp_path / "installed" / "bert_jax" / "py.typed").exists()
