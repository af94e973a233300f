"""Which run may use a directory: its config, its lock, its token store, and when it is finished."""

import json

import numpy as np
import pytest

from bert_jax import train as train_module
from bert_jax.common.errors import UserError
from bert_jax.config import default_config, parse
from bert_jax.run import continuation, finish, token_store, workdir
from bert_jax.run.saved_config import to_json
from tests.corpus.corpora import build_store, documents, write_text


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
        continuation.check(tmp_path, default_config())


def test_a_directory_without_a_checkpoint_takes_any_config(tmp_path, other):
    begin(tmp_path, other, checkpoint=False)
    continuation.check(tmp_path, default_config())


def test_a_field_that_a_later_version_added_had_its_default(tmp_path):
    values = json.loads(to_json(default_config()))
    del values["optimizer"]["muon_momentum"]
    begin(tmp_path, values, checkpoint=True)
    config = default_config()
    continuation.check(tmp_path, config)
    config.optimizer.muon_momentum = 0.9
    with pytest.raises(UserError, match=r"muon_momentum was 0\.95 and is now 0\.9"):
        continuation.check(tmp_path, config)


def test_where_a_run_computes_and_how_often_it_logs_may_change(tmp_path):
    begin(tmp_path, json.loads(to_json(default_config())), checkpoint=True)
    config = default_config()
    config.log_every, config.mesh.fsdp = 7, 2
    config.model.head = "full"  # another way to the same function
    continuation.check(tmp_path, config)


def test_a_head_with_another_loss_is_another_run(tmp_path):
    begin(tmp_path, json.loads(to_json(default_config())), checkpoint=True)
    config = default_config()
    config.model.head = "sampled"
    with pytest.raises(UserError, match=r'model\.head was "blocked" and is now "sampled"'):
        continuation.check(tmp_path, config)


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"config\.json is missing"):
        workdir.load_run(tmp_path)


def test_a_config_of_an_older_version_has_former_names(tmp_path):
    values = json.loads(to_json(default_config()))
    values["stream"]["mask_share"] = values["stream"].pop("mask_replace_prob")
    begin(tmp_path, values, checkpoint=True)
    config = default_config()
    continuation.check(tmp_path, config)
    config.stream.mask_replace_prob = 0.7
    with pytest.raises(UserError, match=r"mask_replace_prob was 0\.8 and is now 0\.7"):
        continuation.check(tmp_path, config)


def test_a_damaged_config_is_named(tmp_path):
    begin(tmp_path, {}, checkpoint=True)
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        continuation.check(tmp_path, default_config())
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        workdir.load_config(tmp_path)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"task": "classification", "total_steps": 0}, "a fine-tuning"),
        ({"model_type": "bert"}, "a folder of transformers"),
        ({"name": "x"}, r"a config\.json that is not a run's"),
    ],
)
def test_another_kind_of_directory_is_refused(tmp_path, values, kind):
    begin(tmp_path, values, checkpoint=False)
    with pytest.raises(UserError, match=rf"{tmp_path} holds {kind}, and training there would"):
        continuation.check(tmp_path, default_config())


def test_a_directory_in_use_is_refused_and_nothing_in_it_touched(tmp_path):
    config = default_config()
    config.model.next_sentence = False
    with workdir.lock(tmp_path / "run"):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(UserError, match=r"run is in use by another run: wait .*process \d+ on"):
            train_module.train(config, tmp_path / "run")
        assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with workdir.lock(tmp_path / "run"):
        pass


@pytest.fixture(scope="module")
def corpus_config(tmp_path_factory):
    """A config of two small files that match a glob, and of a store of them."""
    place = tmp_path_factory.mktemp("files")
    write_text(place / "a.txt", documents(60))
    write_text(place / "b.txt", documents(60, seed=1))
    config = default_config()
    config.corpus.source = f"text:{place}/*.txt"
    config.corpus.directory = str(place / "store")
    config.corpus.heldout_fraction, config.corpus.workers = 0.2, 1
    config.tokenizer.vocab_size = 200
    build_store(config, place / "store")
    return config, place


def test_a_run_with_checkpoints_goes_on_when_its_source_files_changed(
    corpus_config, tmp_path, capsys
):
    config, place = corpus_config
    begin(tmp_path, {}, checkpoint=True)
    before = token_store.open_or_build(parse(config), tmp_path).fingerprint
    assert capsys.readouterr().out == ""
    write_text(place / "new.txt", documents(3))
    (place / "a.txt").unlink()
    try:
        assert token_store.open_or_build(parse(config), tmp_path).fingerprint == before
        said = capsys.readouterr().out
        assert f"new.txt had no bytes and has {(place / 'new.txt').stat().st_size} now" in said
        assert "a.txt had" in said
        assert "continues on the store as it is" in said
        with pytest.raises(UserError, match="is another one"):  # a run that has not begun
            token_store.open_or_build(parse(config), tmp_path / "other")
    finally:
        (place / "new.txt").unlink()
        write_text(place / "a.txt", documents(60))


def test_finished_is_said_by_its_file_and_not_by_a_report_of_an_earlier_run(
    corpus_config, tmp_path
):
    config, _ = corpus_config
    store = token_store.open_or_build(parse(config), tmp_path)
    (tmp_path / "report.html").write_text("of an earlier run")
    assert not finish.is_finished(tmp_path, config.total_steps)
    workdir.mark_finished(tmp_path, config.total_steps, [])
    assert finish.is_finished(tmp_path, config.total_steps)
    assert not finish.is_finished(tmp_path, config.total_steps + 1)
    (tmp_path / workdir.CHECKPOINTS / str(config.total_steps)).mkdir(parents=True)
    workdir.claim(tmp_path, config, store)
    assert finish.is_finished(tmp_path, config.total_steps)
    # The checkpoints are deleted to train again: what was finished is so no more.
    (tmp_path / workdir.CHECKPOINTS / str(config.total_steps)).rmdir()
    workdir.claim(tmp_path, config, store)
    assert not finish.is_finished(tmp_path, config.total_steps)


def test_the_order_of_frequency_is_that_of_the_corpus_and_stays_with_the_run(
    corpus_config, tmp_path
):
    config = corpus_config[0].copy_and_resolve_references()
    config.model.next_sentence = False
    store = token_store.open_or_build(parse(config), tmp_path)
    assert workdir.token_order(tmp_path, parse(config), store) == ()
    config.model.head, config.model.sampled_negatives = "sampled", 20
    order = workdir.token_order(tmp_path, parse(config), store)
    workdir.claim(tmp_path, config, store, order)
    assert workdir.saved_token_order(tmp_path, parse(config)) == order
    counts = store.token_counts[list(order)]
    assert sorted(order) == list(range(200))
    assert (np.diff(counts) <= 0).all()
    assert counts[0] > counts[-1]
    other = tmp_path / "older"  # a run that began before there was such a file
    (other / workdir.CHECKPOINTS / "5").mkdir(parents=True)
    assert workdir.token_order(other, parse(config), store) == ()
