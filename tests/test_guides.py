"""The commands and code of the guides run, one after another, as a new user would run them.

A block that begins with ```sh norun needs what is not here: a GPU, a cluster, another run.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import ROOT, pages

GUIDES = ("first-run.md", "own-text.md")
# What makes a guide's run short; its other flags are as written.
SHORT = {
    "total_steps": 20,
    "warmup_steps": 4,
    "global_batch_size": 8,
    "corpus.source": "text:data/*.txt",
    "corpus.heldout_fraction": 0.2,
    "corpus.workers": 1,
    "tokenizer.vocab_size": 300,
}
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shortened(line: str) -> str:
    """A command of a guide; the flags that make it short come last and win."""
    if "--config=" not in line:
        return line
    return " ".join([line, *(f"'--config.{name}={value}'" for name, value in SHORT.items())])


def commands(kind: str, text: str) -> list[list[str]]:
    """What a block runs, a line of a shell or all of a script."""
    if kind == "python":
        return [[sys.executable, "-c", text]]
    lines = text.replace("\\\n", " ").splitlines()
    return [["bash", "-ec", shortened(line)] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_runs_as_it_is_written(name, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pages.txt").write_text(pages())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    blocks = BLOCK.findall((ROOT / "docs" / name).read_text())
    assert len(blocks) >= 3
    for command in [command for block in blocks for command in commands(*block)]:
        run = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, f"{command[-1]}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}"
