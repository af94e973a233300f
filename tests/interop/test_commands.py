"""`convert export` and `fill_mask` on a run."""

import runpy
import shutil
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax import convert, fill_mask
from bert_jax.config import default_config
from bert_jax.interop import parity
from bert_jax.interop.load import load_params
from bert_jax.model import ModelConfig
from bert_jax.run.saved_config import to_json
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.step import TrainState
from tests import commands


@pytest.fixture(scope="module")
def run(tmp_path_factory, tokenizer_directory, redrawn) -> Path:
    """A workdir with checkpoints of a small classic encoder at the steps 3 and 7."""
    workdir = tmp_path_factory.mktemp("runs") / "small"
    config = default_config()
    config.model.hidden_size = 16
    config.model.num_hidden_layers = 2
    config.model.num_attention_heads = 2
    config.model.intermediate_size = 24
    config.model.max_position_embeddings = 64
    config.stream.sequence_length = 64
    config.model.attention_backend = "splash"  # cannot do what the commands ask for
    workdir.mkdir()
    (workdir / "config.json").write_text(to_json(config))
    shutil.copytree(tokenizer_directory, workdir / "tokenizer")
    checkpoints = Checkpoints(workdir / "checkpoints", keep=5)
    for step in (3, 7):
        params = redrawn(ModelConfig(700, **config.model.to_dict()))
        params["mlm_head"]["bias"][:] = step
        state = TrainState(jnp.int32(step), params, {"count": jnp.int32(step)})
        checkpoints.save(state, stream={})
    checkpoints.close()
    return workdir


EXPORT = (convert.define_flags, convert.export)
FILL = (fill_mask.define_flags, fill_mask.main)


def test_export_says_what_it_wrote_and_what_to_type_next(run, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    done = commands.run(*EXPORT, f"--workdir={run}", f"--out={tmp_path / 'hf'}")
    assert done.status == 0, done.err
    assert "BertForPreTraining at step 7" in done.out
    assert "model.safetensors" in done.out
    assert "from ours under transformers" in done.out
    lines = done.out.partition("installed:\n")[2]
    code = "\n".join(line.removeprefix("    ") for line in lines.splitlines())
    names: dict = {}
    exec(code, names)
    found = names["fill"]("A [MASK].")
    assert len(found) == 5
    config, params, _ = load_params(tmp_path / "hf")
    assert config.next_sentence
    np.testing.assert_array_equal(params["mlm_head"]["bias"], 7)


def test_an_earlier_step_can_be_exported_as_a_state_dict(run, tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "hf"
    flags = (f"--workdir={run}", f"--out={out}", "--step=3", "--format=bin")
    done = commands.run(*EXPORT, *flags, "--nocheck")
    assert done.status == 0, done.err
    assert "not compared (--nocheck)" in done.out
    assert (out / "pytorch_model.bin").exists()
    np.testing.assert_array_equal(load_params(out, allow_pickle=True).params["mlm_head"]["bias"], 3)


def test_masks_are_filled_from_the_flags_and_from_the_standard_input(run):
    texts = ["--text=A [MASK] statement.", "--text=[MASK] and [MASK]"]
    by_flag = commands.run(*FILL, f"--workdir={run}", "--top=2", *texts)
    assert by_flag.status == 0, by_flag.err
    assert by_flag.out.count("%") == 6
    typed = "A [MASK] statement.\n\n[MASK] and [MASK]\n"
    by_line = commands.run(*FILL, f"--workdir={run}", "--top=2", input=typed)
    assert by_line.out == by_flag.out


def test_a_check_that_fails_is_an_error(run, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    monkeypatch.setattr(parity, "TOLERANCE", 0.0)
    done = commands.run(*EXPORT, f"--workdir={run}", f"--out={tmp_path / 'hf'}")
    assert "differ from ours by" in done.error()


def test_convert_needs_to_know_what_to_do(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["convert"])
    # Compiled with the checks of the tests, it would fail where they are not installed.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "bert_jax.convert")  # runs as the main module
    with commands.defined(), pytest.raises(SystemExit, match=r"^error: .*bert_jax\.convert export"):
        runpy.run_module("bert_jax.convert", run_name="__main__", alter_sys=True)


@pytest.mark.parametrize(
    ("command", "args", "message"),
    [
        (EXPORT, ["--workdir=nowhere"], "--workdir=nowhere"),
        (
            EXPORT,
            ["--workdir={run}", "--format=onnx"],
            "--format=onnx: value should be one of <safetensors|bin>",
        ),
        (EXPORT, ["--workdir={run}", "--out={run}"], "holds files that no export wrote"),
        (FILL, ["--workdir={run}", "--text=no mask"], "'no mask' has no [MASK]"),
        (FILL, ["--workdir={run}"], "there is no text"),
        (FILL, ["--workdir={empty}", "--text=[MASK]"], "holds no checkpoint"),
    ],
)
def test_bad_input_ends_in_one_line_and_changes_nothing(run, tmp_path, command, args, message):
    empty = tmp_path / "empty"
    shutil.copytree(run, empty, ignore=shutil.ignore_patterns("checkpoints"))
    (empty / "checkpoints").mkdir()
    before = sorted(run.rglob("*"))
    done = commands.run(*command, *(arg.format(run=run, empty=empty) for arg in args))
    assert message in done.error()
    assert sorted(run.rglob("*")) == before
