"""Whose directory it is: a run with a checkpoint binds, a first try does not."""

import json

import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, to_json
from bert_jax.run import workdir


def begin(directory, values, *, checkpoint):
    (directory / workdir.CONFIG).write_text(json.dumps(values))
    if checkpoint:
        (directory / workdir.CHECKPOINTS / "5").mkdir(parents=True)


@pytest.fixture
def other():
    values = json.loads(to_json(default_config()))
    values["model"]["hidden_size"] = 64
    return values


def test_a_run_with_a_checkpoint_refuses_another_config_and_shows_the_difference(tmp_path, other):
    begin(tmp_path, other, checkpoint=True)
    with pytest.raises(UserError, match=r"model\.hidden_size was 64 and is now 128"):
        workdir.check(tmp_path, default_config())


def test_a_first_try_without_a_checkpoint_binds_nobody(tmp_path, other):
    begin(tmp_path, other, checkpoint=False)
    workdir.check(tmp_path, default_config())


def test_a_field_that_a_later_version_added_had_its_default(tmp_path):
    values = json.loads(to_json(default_config()))
    del values["optimizer"]["muon_momentum"]
    begin(tmp_path, values, checkpoint=True)
    config = default_config()
    workdir.check(tmp_path, config)
    config.optimizer.muon_momentum = 0.9
    with pytest.raises(UserError, match=r"muon_momentum was 0\.95 and is now 0\.9"):
        workdir.check(tmp_path, config)


def test_where_a_run_computes_and_how_often_it_logs_may_change(tmp_path):
    begin(tmp_path, json.loads(to_json(default_config())), checkpoint=True)
    config = default_config()
    config.log_every, config.mesh.fsdp = 7, 2
    config.model.head = "full"  # another way to the same function
    workdir.check(tmp_path, config)


def test_a_head_that_learns_otherwise_is_another_run(tmp_path):
    begin(tmp_path, json.loads(to_json(default_config())), checkpoint=True)
    config = default_config()
    config.model.head = "sampled"
    with pytest.raises(UserError, match=r'model\.head was "blocked" and is now "sampled"'):
        workdir.check(tmp_path, config)


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"config\.json is missing"):
        workdir.load_run(tmp_path)
