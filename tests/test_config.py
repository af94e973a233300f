"""Settings: strict names and types, and the way through JSON and back."""

import json
from fractions import Fraction
from pathlib import Path

import jax
import pytest
from absl import flags
from ml_collections import config_flags

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, load_config, parse
from bert_jax.corpus.settings import from_config
from bert_jax.model import abstract
from bert_jax.run.saved_config import flatten, from_dict, to_json
from bert_jax.training.optimizers import make_optimizer

ROOT = Path(__file__).parent.parent
CONFIGS = [
    ("quickstart.py", ""),
    *(("bert.py", size) for size in ("tiny", "mini", "small", "medium", "base", "large")),
    *(("modernbert.py", size) for size in ("base", "large", "base-1024")),
    ("bert_lamb.py", "base"),
    ("one_gpu_day.py", ""),
    *(("small.py", size) for size in ("17m", "32m", "68m")),
    ("small_data.py", ""),
    ("multilingual.py", "en=9,de=3,sw=0.2"),
]
FILES = list(dict.fromkeys(file for file, _ in CONFIGS))


@pytest.mark.parametrize(("file", "arg"), CONFIGS)
def test_every_config_survives_json(file, arg):
    config = load_config(str(ROOT / "configs" / file), arg)
    assert to_json(from_dict(json.loads(to_json(config)))) == to_json(config)


@pytest.mark.parametrize(("file", "arg"), {file: (file, arg) for file, arg in CONFIGS}.values())
def test_the_run_of_every_config_can_be_built(file, arg):
    """The phases, the schedule, and the shapes of the model and of the optimizer's state."""
    config = load_config(str(ROOT / "configs" / file), arg)
    settings = parse(config)
    model = settings.models(config.tokenizer.vocab_size)[-1]
    settings.objective.check_model(model)
    _, params = abstract(model)
    optimizer = make_optimizer(settings.training.optimizer)
    jax.eval_shape(optimizer.update.init, params)
    assert settings.stream.phases[-1].stop == settings.total_steps


def test_the_small_shapes_have_the_parameters_that_their_names_say():
    for name, millions in (("17m", 17), ("32m", 32), ("68m", 68)):
        config = load_config(str(ROOT / "configs" / "small.py"), name)
        _, params = abstract(parse(config).models(config.tokenizer.vocab_size)[0])
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        assert abs(count / 1e6 - millions) < 0.5, name


@pytest.mark.parametrize("file", ["bert.py", "modernbert.py", "small.py", "multilingual.py"])
def test_an_unknown_size_is_refused_with_the_known_ones(file):
    with pytest.raises(UserError, match=r"base|17m|en=3"):
        load_config(str(ROOT / "configs" / file), "huge")


@pytest.mark.parametrize("file", FILES)
def test_config_docstrings_tell_paper_command_and_what_to_expect(file):
    text = (ROOT / "configs" / file).read_text()
    assert "Paper:" in text
    assert "Hardware:" in text
    assert "measured" in text or "Measured" in text or file == "quickstart.py"
    assert f"Command:   python -m bert_jax.train --config=configs/{file}" in text


def test_fields_of_another_version_are_refused_by_name():
    values = default_config().to_dict()
    values["model"]["layers"] = 3
    with pytest.raises(UserError, match=r"model\.layers"):
        from_dict(values)


def test_flatten_names_every_field():
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == {"a": 1, "b.c": 2, "b.d.e": 3}


def test_former_names_of_an_older_run_are_read_under_the_new_ones():
    values = default_config().to_dict()
    stream, optimizer = values["stream"], values["optimizer"]
    del stream["mask_replace_prob"], stream["random_replace_prob"], optimizer["final_lr_fraction"]
    stream |= {"mask_share": 0.7, "random_share": 0.2, "phases": [{"until": 1.0, "mask_share": 1}]}
    optimizer["final_learning_rate"] = 0.1
    config = from_dict(values)
    assert config.stream.mask_replace_prob == 0.7
    assert config.stream.random_replace_prob == 0.2
    assert config.stream.phases == ({"until": 1.0, "mask_replace_prob": 1},)
    assert config.optimizer.final_lr_fraction == 0.1


def test_a_phase_with_a_former_name_is_told_the_new_one():
    config = default_config()
    config.stream.phases = ({"until": 1.0, "mask_share": 0.5},)
    with pytest.raises(
        UserError, match=r"phases\[0\]\.mask_share is now called 'mask_replace_prob'"
    ):
        parse(config)


CONFIG = """
from bert_jax.config import default_config

def get_config(arg=""):
    config = default_config()
    if arg:
        config.corpus.source = [{"source": "jsonl:/j", "name": "web"}, "text:/t"]
        config.corpus.options = {"web": {"field": "meta.text"}}
        config.stream.weights = {"web": 0.25, "text:/t": 1}
    return config
"""


def test_a_config_file_need_not_take_an_argument(tmp_path):
    (tmp_path / "own.py").write_text(CONFIG.replace('arg=""', "").replace("if arg:", "if False:"))
    assert load_config(f"{tmp_path}/own.py", "").to_dict() == default_config().to_dict()


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
    weights = parse(copy).stream.phases[0].weights
    assert weights == (("web", Fraction(1, 4)), ("text:/t", Fraction(1)))
    assert flatten(config.to_dict())["corpus.options"] == {"web": {"field": "meta.text"}}
    config = flags_of(
        tmp_path, "list", "--config.corpus.source=text:/a", "--config.corpus.options="
    )
    assert (config.corpus.source, config.corpus.options) == ("text:/a", "")
