"""Flags: help, wrong ones in one clear line, and what a process may be started as."""

import functools
import runpy
import sys

import pytest
from absl import flags

from bert_jax import convert, evaluate, fill_mask
from bert_jax.common import command_line, config_files
from bert_jax.common.errors import UserError
from tests import commands
from tests.runs import ROOT

TRAIN = (command_line.define_config, lambda: None)
CONFIG = f"--config={ROOT}/configs/bert.py:tiny"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.sed=3", "no field 'sed': did you mean 'seed'"),
        ("--config.model.hiden_size=3", "no field 'hiden_size': did you mean 'hidden_size'"),
        ("--config.total_steps=many", "config.total_steps=many: write a whole number, in digits"),
        ("--config.stream.phases[0].sequence_length=8k", "_length=8k: write a whole number"),
        ("--config.corpus.heldout_fraction=1%", "heldout_fraction=1%: write a number"),
        ("--config.corpus.deduplicate=maybe", "deduplicate=maybe: write True or False"),
        ("--config=nowhere.py", "nowhere.py does not exist; for this command there are bert, "),
        ("--wrkdir=x", "no flag --wrkdir; a config field is --config.FIELD=VALUE"),
        ("extra", "'extra' is not a flag"),
        ("--config.stream.mask_share=0.5", "'mask_share' is now called 'mask_replace_prob'"),
        ("--config.stream.random_share=0", "'random_share' is now called 'random_replace_prob'"),
        (
            "--config.optimizer.final_learning_rate=0.1",
            "'final_learning_rate' is now called 'final_lr_fraction'",
        ),
        (
            "--config.stream.phases[0].mask_share=0.5",
            "'mask_share' is now called 'mask_replace_prob'",
        ),
        (
            "--workdir=s3://bucket/run",
            "--workdir=s3://bucket/run: give a path of a local or mounted",
        ),
    ],
)
def test_a_wrong_flag_ends_in_one_clear_line(flag, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert message in commands.run(*TRAIN, CONFIG, flag).error()


def test_a_compile_cache_on_a_url_is_refused():
    flag = "--compile_cache=gs://bucket/programs"
    error = commands.run(command_line.define_compile_cache, lambda: None, flag).error()
    assert error.startswith(f"error: {flag}: URLs are not supported here")


def test_a_config_file_with_a_former_name_is_told_the_new_one(tmp_path):
    text = "from bert_jax.config import default_config\ndef get_config(arg=''):\n"
    text += "    config = default_config()\n    config.stream.mask_share = 0.5\n    return config\n"
    (tmp_path / "old.py").write_text(text)
    error = commands.run(*TRAIN, f"--config={tmp_path}/old.py").error()
    assert "'mask_share' is now called 'mask_replace_prob'" in error


def test_without_a_config_those_that_exist_are_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    error = commands.run(*TRAIN).error()
    assert "--config=FILE[:argument] is missing" in error
    for name in ("bert", "modernbert", "quickstart"):
        assert f" {name}, " in error


@pytest.mark.parametrize(
    ("folder", "config", "command"),
    [
        (config_files.RUNS, "finetune/classification", "bert_jax.finetune"),
        (config_files.FINETUNINGS, "quickstart", "bert_jax.train"),
    ],
)
def test_a_config_for_another_command_is_told_its_command(folder, config, command):
    define = functools.partial(command_line.define_config, folder)
    error = commands.run(define, lambda: None, f"--config={config}").error()
    assert f"{config}.py is one for python -m {command}; for this command there are " in error
    assert config not in error.partition("there are")[2]


@pytest.mark.parametrize("name", ["bert", "bert.py", "configs/bert.py"])
def test_configs_of_the_package_have_names_everywhere(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def check():
        assert str(command_line.workdir()) == "runs/bert-tiny"
        assert command_line.config().model.hidden_size == 128

    assert commands.run(command_line.define_config, check, f"--config={name}:tiny").err == ""


def test_a_file_of_the_user_wins_over_a_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = "from bert_jax.config import default_config\ndef get_config(arg=''):\n"
    text += "    config = default_config()\n    config.seed = 77\n    return config\n"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "bert.py").write_text(text)

    def check():
        assert command_line.config().seed == 77

    assert commands.run(command_line.define_config, check, "--config=configs/bert.py").err == ""


def test_a_flag_that_is_missing_is_named():
    error = commands.run(fill_mask.define_flags, fill_mask.main, "--text=[MASK]").error()
    assert error.splitlines()[0] == "error: --workdir is missing"


@pytest.mark.parametrize("url", ["gs://bucket", "s3://bucket/run", "file:///tmp/run"])
@pytest.mark.parametrize(
    ("define", "main"),
    [
        (evaluate.define_flags, evaluate.main),
        (fill_mask.define_flags, fill_mask.main),
        (convert.define_flags, convert.export),
    ],
)
def test_a_url_is_no_directory_of_a_run(define, main, url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = commands.run(define, main, f"--workdir={url}").error()
    assert error.startswith(
        f"error: --workdir={url}: give a path of a local or mounted file system"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("directory", ["/a/run", "run", "a:b", "./gs:", "C/D://"])
def test_a_path_is_one(directory):
    def check():
        assert command_line.workdir().name

    assert commands.run(command_line.define_config, check, CONFIG, f"--workdir={directory}")[0] == 0


def test_help_shows_the_command_first_and_is_no_failure(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fill_mask", "--help"])
    # Compiled with the checks of the tests, it would fail where they are not installed.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "bert_jax.fill_mask")  # runs as the main module
    with commands.defined(), pytest.raises(SystemExit) as end:
        runpy.run_module("bert_jax.fill_mask", run_name="__main__", alter_sys=True)
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("Predict masked words: `python -m bert_jax.fill_mask --workdir=DIR")
    for flag in ("--step", "--text", "--top"):
        assert f"\n  {flag}: " in said


@pytest.mark.parametrize("name", ["SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "JAX_NUM_PROCESSES"])
def test_one_of_several_tasks_is_refused(name):
    with pytest.raises(UserError, match=rf"{name}=4.*Add --distributed"):
        command_line.expect_one_process({name: "4"})


@pytest.mark.parametrize("environ", [{}, {"SLURM_NTASKS": "1"}, {"SLURM_NTASKS": ""}])
def test_a_single_task_may_run(environ):
    command_line.expect_one_process(environ)


def test_the_flags_of_other_tests_are_gone():
    assert "workdir" not in flags.FLAGS
