"""README and docs: every command is one that the code takes, and guides run as they are written.

Every command line on every page is parsed: its flags exist, its config loads and has its fields.
Of the guides below each block runs, one after another, as a new user would run them, shortened.
A block that begins with ```sh norun needs what is not here: a package index, a GPU, a cluster.
"""

import re
import shutil
import subprocess
import tomllib
from importlib import util

import pytest

from bert_jax.config import default_config, parse
from tests import guides
from tests.runs import ROOT
from tests.test_documentation import FORMER, PAGES

# Each with whether its first steps make the run `runs/mine` themselves.
GUIDES = {
    "README.md": True,
    "docs/first-run.md": True,
    "docs/own-text.md": True,
    "docs/languages.md": False,
    "docs/domain.md": False,
    "docs/conversion.md": False,
    "docs/downstream.md": False,
    "docs/report.md": False,
    "docs/distil.md": False,
}
PLACEHOLDERS = {"…": "quickstart", "...": "quickstart", "N": "0"}
ELSEWHERE = (
    "pip ",
    "pytest ",
    ". .venv",
    "python3 -m venv",
    "python -m benchmarks",
    "python bench",
)


def arguments(words):
    """A command's arguments with a config in place of `--config=…`."""
    for word in words:
        if word in PLACEHOLDERS or word in ("[--language=zh]", "[.txt]"):
            continue
        flag, _, value = word.partition("=")
        value = PLACEHOLDERS.get(value, value)
        yield f"{flag}={value}" if value else word


@pytest.fixture(scope="module")
def place(finished, tmp_path_factory):
    """Where a config that begins with another run finds that run."""
    directory = tmp_path_factory.mktemp("place")
    for name in ("configs", "benchmarks"):
        (directory / name).symlink_to(ROOT / name)
    (directory / "runs").mkdir()
    for name in ("imported", "teacher"):
        (directory / "runs" / name).symlink_to(finished.workdir)
    return directory


@pytest.mark.parametrize(
    "path", [path for path in PAGES if path != FORMER], ids=lambda path: path.name
)
def test_every_command_of_a_page_is_one_that_the_code_takes(path, place, monkeypatch):
    monkeypatch.chdir(place)
    for words, is_whole in guides.named_commands(path.read_text()):
        name = words[2] if words[1] == "-m" else words[1].removesuffix(".py").replace("/", ".")
        if name.startswith("bert_jax."):
            guides.check(name, list(arguments(words[3:])), is_whole, monkeypatch)
        elif name.startswith("benchmarks."):
            code = (ROOT / f"{name.replace('.', '/')}.py").read_text()
            for flag in re.findall(r"--([a-z_]+)", " ".join(words)):
                assert f'"{flag}"' in code or f'"--{flag}"' in code or flag == "config", words
        else:
            assert util.find_spec(name), words


@pytest.mark.parametrize("name", ["corpus.md", "stream.md"])
def test_lines_of_a_config_file_are_accepted(name):
    shown = guides.blocks((ROOT / "docs" / name).read_text())
    snippets = [body for kind, _, body in shown if "config." in body and kind == "python"]
    snippets = [body for body in snippets if body.startswith("config.")]
    assert snippets
    for body in snippets:
        config = default_config()
        config.total_steps = 10_000
        exec(body, {"config": config})
        parse(config)


def test_extras_images_and_tests_that_are_named_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for path in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        text = path.read_text()
        for names in re.findall(r"pip install [^\n`]*(?:\.|bert_jax)\[([a-z0-9,]+)\]", text):
            assert set(names.split(",")) <= set(extras["optional-dependencies"]), names
        for name in re.findall(r"docker build -f (\S+)", text):
            assert (ROOT / name).is_file(), name
        for name in re.findall(r"pytest (?:-\S+ (?:\d |slow )?)*(tests/[\w/.]+)", text):
            assert (ROOT / name).exists(), name


def test_dry_runs_of_launchers_are_accepted(tmp_path):
    text = (ROOT / "docs" / "many-machines.md").read_text()
    found = [
        line
        for kind, _, body in guides.blocks(text)
        for line in guides.lines(body)
        if "--dry-run" in line
    ]
    assert found
    for line in found:
        subprocess.run(["bash", "-euc", line], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_runs_as_it_is_written(name, finished, tmp_path, monkeypatch):
    guides.furnish(tmp_path, finished.workdir)
    if GUIDES[name]:
        shutil.rmtree(tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    count, names = 0, {}
    for kind, norun, body in guides.blocks((ROOT / name).read_text()):
        if norun:
            continue
        if kind == "python":
            exec(body, names)
            count += 1
        for line in guides.lines(body) if kind in guides.SHELL else []:
            if line.startswith("python -m bert_jax"):
                guides.run(line)
                count += 1
            else:
                assert line.startswith(ELSEWHERE), line
    assert count >= 2
