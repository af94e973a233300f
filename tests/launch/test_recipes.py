"""launch/README.md shows what the scripts print; scripts and images pass their linters."""

import re
import subprocess

import pytest

from tests.launch.scripts import ROOT, run

RECIPE = re.compile(r"```sh\n(.*?)```\n+```(?:text|yaml)\n(.*?)```", re.DOTALL)
RECIPES = RECIPE.findall((ROOT / "launch" / "README.md").read_text())


@pytest.mark.parametrize(
    ("command", "output"), RECIPES, ids=[re.search(r"launch/\w+", text)[0] for text, _ in RECIPES]
)
def test_the_recipe_prints_what_the_page_shows(command, output):
    assert "--dry-run" in command
    assert run("bash", "-euc", command, TMPDIR="/tmp") == output


def test_every_launcher_of_other_machines_has_a_recipe():
    shown = "".join(command for command, _ in RECIPES)
    for script in ("slurm.sbatch", "gke.sh", "tpu_vm.sh"):
        assert script in shown


def test_hadolint_finds_nothing():
    names = ["launch/Dockerfile.gpu", "launch/Dockerfile.tpu"]
    checked = subprocess.run(
        ["hadolint", *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_shellcheck_finds_nothing():
    scripts = [*(ROOT / "launch").glob("*.s[bh]*"), *(ROOT / "tests" / "launch").glob("*.sh")]
    scripts.append(ROOT / ".ci" / "run")
    assert len(scripts) >= 8
    names = [str(path.relative_to(ROOT)) for path in scripts]
    checked = subprocess.run(
        ["shellcheck", *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
