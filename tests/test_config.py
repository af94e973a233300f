"""Settings: strict names and types, and the way through JSON and back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, flatten, from_dict, load_config, to_json
from bert_jax.corpus.settings import from_config

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


CONFIG = """
from bert_jax.config import default_config

def get_config(arg=""):
    config = default_config()
    if arg:
        config.corpus.source = [{"source": "jsonl:/j", "name": "web"}, "text:/t"]
        config.corpus.options = {"web": {"field": "meta.text"}}
    return config
"""


def flags_of(tmp_path, arg, *arguments):
    """The config of a file, with fields from a command line."""
    (tmp_path / "config.py").write_text(CONFIG)
    values = flags.FlagValues()
    arguments = ["command", f"--config={tmp_path}/config.py:{arg}", *arguments]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    values(arguments)
    return values.config


def test_sources_and_options_are_text_on_the_command_line_and_more_in_a_file(tmp_path):
    text = ["--config.corpus.source", "text:/a b", "--config.corpus.options=text:/a b: field=x"]
    config = flags_of(tmp_path, "", *text)
    assert (config.corpus.source, config.corpus.options) == ("text:/a b", "text:/a b: field=x")
    config = flags_of(tmp_path, "list")
    assert config.corpus.options == {"web": {"field": "meta.text"}}
    copy = from_dict(json.loads(to_json(config)))
    assert to_json(copy) == to_json(config)
    assert from_config(copy) == from_config(config)
    assert flatten(config.to_dict())["corpus.options"] == {"web": {"field": "meta.text"}}
    config = flags_of(
        tmp_path, "list", "--config.corpus.source=text:/a", "--config.corpus.options="
    )
    assert (config.corpus.source, config.corpus.options) == ("text:/a", "")


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
