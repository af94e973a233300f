"""Settings: strict names and types, and the way through JSON and back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, flatten, from_dict, load_config, to_json

ROOT = Path(__file__).parent.parent
CONFIGS = [
    ("quickstart.py", ""),
    *(("bert.py", size) for size in ("tiny", "mini", "small", "medium", "base", "large")),
    *(("modernbert.py", size) for size in ("base", "large")),
]


@pytest.mark.parametrize(("file", "arg"), CONFIGS)
def test_every_config_survives_json(file, arg):
    config = load_config(str(ROOT / "configs" / file), arg)
    assert to_json(from_dict(json.loads(to_json(config)))) == to_json(config)


@pytest.mark.parametrize("file", ["bert.py", "modernbert.py"])
def test_an_unknown_size_is_refused_with_the_known_ones(file):
    with pytest.raises(UserError, match="base"):
        load_config(str(ROOT / "configs" / file), "huge")


@pytest.mark.parametrize("file", ["quickstart.py", "bert.py", "modernbert.py"])
def test_config_docstrings_tell_paper_and_command(file):
    text = (ROOT / "configs" / file).read_text()
    assert "Paper:" in text
    assert f"Command:   python -m bert_jax.train --config=configs/{file}" in text


def test_fields_of_another_version_are_refused_by_name():
    values = default_config().to_dict()
    values["model"]["layers"] = 3
    with pytest.raises(UserError, match=r"model\.layers"):
        from_dict(values)


def test_flatten_names_every_field():
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == {"a": 1, "b.c": 2, "b.d.e": 3}


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.sed=3", "no field 'sed': did you mean 'seed'"),
        ("--config.model.hiden_size=3", "no field 'hiden_size': did you mean 'hidden_size'"),
        ("--config.total_steps=many", "config.total_steps=many"),
        ("--config=nowhere.py", "nowhere.py"),
        ("--wrkdir=x", "wrkdir"),
        ("extra", "'extra' is not a flag"),
    ],
)
def test_a_wrong_flag_ends_in_one_clear_line(flag, message):
    command = [sys.executable, "-m", "bert_jax.train", "--config=configs/quickstart.py", flag]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert run.returncode == 1
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in run.stderr
