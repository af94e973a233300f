"""What README and docs name exists: commands, files, registries and config fields."""

import importlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from bert_jax.config import default_config, finetuning
from bert_jax.run.saved_config import flatten

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("[a-z]*/*.md"))]
FORMER = ROOT / "docs" / "what-changed.md"  # names what is no more, too


@pytest.fixture(params=PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def page(request):
    """The path of a page and its text."""
    return request.param, request.param.read_text()


def test_links_lead_to_files(page):
    path, text = page
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (path.parent / link).exists(), link


def test_named_files_exist(page):
    path, text = page
    names = re.findall(r"\b(?:bert_jax|configs|docs|benchmarks|tests|launch)/[\w/]+\.\w+", text)
    for name in names:
        in_clone = name.removeprefix("bert_jax/")  # launch/README.md: from the clone's parent
        assert (ROOT / name).exists() or (ROOT / in_clone).exists() or path == FORMER, name


def test_commands_exist(page):
    path, text = page
    for name in re.findall(r"python -m bert_jax\.(\w+)", text):
        is_former = path == FORMER and name == "inspect"
        assert (ROOT / "bert_jax" / f"{name}.py").is_file() or is_former, name


def test_config_fields_exist(page):
    config = finetuning.default_config().to_dict() | default_config().to_dict()
    fields = flatten(finetuning.default_config().to_dict()) | flatten(config)
    for name in re.findall(r"\bconfig\.([a-z_]+(?:\.[a-z0-9_]+)?)\b", page[1]):
        if name not in ("json", "py", "field"):  # files, and --config.field=value
            assert name in fields or name in config, name


def test_the_reference_of_the_config_is_that_of_the_code():
    written = runpy.run_path(str(ROOT / "docs" / "config_reference.py"))
    fields = written["fields"]((ROOT / "bert_jax" / "config" / "defaults.py").read_text())
    assert {field.name for field in fields} >= set(flatten(default_config().to_dict()))
    again = "run python docs/config_reference.py"
    assert (ROOT / "docs" / "settings.md").read_text() == written["page"](), again


@pytest.mark.slow
def test_the_site_of_the_documentation_is_built(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    assert (tmp_path / "first-run" / "index.html").exists()


def test_registries_of_the_readme_exist():
    table = ROOT.joinpath("README.md").read_text().partition("register it by name")[2]
    registries = re.findall(r"`(bert_jax[\w.]*)\.([A-Z_]+)`", table)
    assert len(registries) >= 7
    for module, name in registries:
        assert getattr(importlib.import_module(module), name), f"{module}.{name}"
