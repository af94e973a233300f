"""`config.init_from`: a run that begins with another run's checkpoint."""

import json

import jax
import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.run import initial
from bert_jax.run.workdir import load_run
from tests.runs import assert_same_bytes, records, tiny, train, whole_state


@pytest.fixture(scope="module")
def kept(finished):
    """Fields of runs on the token store of `finished`."""
    return {
        "corpus.directory": str(finished.workdir / "corpus"),
        "init_from": str(finished.workdir),
    }


@pytest.mark.slow
def test_parameters_begin_a_run_at_step_0_and_the_checkpoint_is_recorded(
    corpus, finished, kept, tmp_path
):
    """With a learning rate of 0, the parameters stay."""
    config = tiny(corpus, **kept, learning_rate=0.0, total_steps=5, warmup_steps=0, seed=3)
    config.model.compute_dtype = "auto"
    said = train(config, tmp_path / "run").said
    assert "Starting a run of 5 steps" in said
    assert f"begins with {finished.workdir}@20" in said
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert recorded["init_from"] == f"{finished.workdir}@20"
    assert recorded["model"]["compute_dtype"] in ("float32", "bfloat16")
    ours, theirs = load_run(tmp_path / "run").params, load_run(finished.workdir).params
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    # The same command again: a later checkpoint of that run would not make this another one.
    assert "is finished" in train(config, tmp_path / "run").said


def test_a_run_with_checkpoints_needs_its_source_no_more(corpus, tmp_path):
    config = tiny(corpus, init_from="nowhere@500")
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    initial.resolve(tmp_path, config)
    assert config.init_from == "nowhere@500"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init_from": "nowhere"}, "nowhere holds no run"),
        ({"init_from": "{}@7"}, r"init_from=.*@7: .*holds the steps 10, 15, 20"),
        ({"init_state": "some"}, "init_state is 'some': choose one of params, optimizer, all"),
        ({"init_state": "all", "total_steps": 20}, "continues at step 20: set config.total_steps"),
        ({"model.intermediate_size": 32}, r"parameter encoder.*is \(64,\) there and \(32,\) here"),
        ({"init_state": "optimizer", "optimizer.name": "muon"}, "optimizer.name=adamw, and this"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    corpus, finished, kept, tmp_path, fields, message
):
    values = {**kept, **fields}
    values["init_from"] = values["init_from"].format(finished.workdir)
    with pytest.raises(UserError, match=message):
        train(tiny(corpus, **values), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints" / "5").exists()


@pytest.mark.slow
def test_an_exported_folder_begins_a_run_as_well(corpus, finished, kept, tmp_path):
    fields = kept | {"init_from": f"{finished.workdir}/hf"}
    config = tiny(corpus, **fields, learning_rate=0.0, total_steps=5, warmup_steps=0)
    train(config, tmp_path / "run")
    ours, theirs = load_run(tmp_path / "run").params, load_run(finished.workdir).params
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    with pytest.raises(UserError, match="init_state to params, not all"):
        train(tiny(corpus, **fields, init_state="all"), tmp_path / "other")


def branching(corpus, **fields):
    """A run with a stable learning rate up to its last 4 steps."""
    config = tiny(corpus, **fields, checkpoint_every=5)
    config.stream.phases, config.stream.sequence_length = (), 32
    config.optimizer.schedule, config.optimizer.decay_steps = "wsd", 4
    return config


@pytest.mark.slow
def test_a_decay_that_branches_off_a_stable_run_equals_the_straight_run(corpus, finished, tmp_path):
    directory = {"corpus.directory": f"{finished.workdir}/corpus"}
    train(branching(corpus, **directory, total_steps=10), tmp_path / "straight")
    train(branching(corpus, **directory, total_steps=14), tmp_path / "stable")
    source = {"init_from": f"{tmp_path}/stable@5", "init_state": "all"}
    branch = train(branching(corpus, **directory, **source, total_steps=10), tmp_path / "branch")
    assert min(record["step"] for record in records(tmp_path / "branch")) == 6
    one, other = (whole_state(tmp_path / name, 10) for name in ("straight", "branch"))
    assert_same_bytes(one, other)
    assert "begins with" in branch.said

    other_corpus = branching(corpus, **directory, **source, total_steps=10, seed=1)
    with pytest.raises(UserError, match="step 4 of this run would have another batch"):
        train(other_corpus, tmp_path / "other")


@pytest.mark.slow
def test_a_warm_optimizer_begins_its_schedule_again(corpus, finished, kept, tmp_path):
    config = tiny(corpus, **kept, init_state="optimizer", total_steps=5, checkpoint_every=1)
    config.keep_checkpoints = 5
    train(config, tmp_path / "run")
    before, after = whole_state(finished.workdir, 20), whole_state(tmp_path / "run", 1)
    counts = [
        int(leaf)
        for state in (before, after)
        for path, leaf in jax.tree.leaves_with_path(state["opt_state"])
        if jax.tree_util.keystr(path).endswith("['count']")
    ]
    assert counts == [20, 20, 21, 1]  # of the moments and of the schedule
    rates = [r["learning_rate"] for r in records(tmp_path / "run") if r["split"] == "train"]
    assert rates[:2] == pytest.approx([0.0, 2.5e-5])


def test_another_tokenizer_is_refused_with_the_field_to_set(corpus, kept, tmp_path):
    fields = {"init_from": kept["init_from"], "tokenizer.vocab_size": 310}
    with pytest.raises(UserError, match=r"another tokenizer .*set config\.tokenizer\.path="):
        train(tiny(corpus, **fields), tmp_path / "run")
