"""`config.distillation`: a run that learns from another run, or from an exported folder."""

import json
import shutil

import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import load_config, parse
from bert_jax.run import distilling, pretrained
from bert_jax.run.distilling import expect_same_teacher, vocabulary_fingerprint
from bert_jax.training import sharding
from bert_jax.training.preflight import check
from tests.runs import ROOT, assert_same_bytes, records, tiny, train, whole_state

SMALLER = {
    "model.hidden_size": 16,
    "model.num_hidden_layers": 1,
    "model.intermediate_size": 32,
    "distillation.relation_heads": 8,
}


@pytest.fixture(scope="module")
def fields(finished):
    return SMALLER | {
        "corpus.directory": str(finished.workdir / "corpus"),
        "distillation.teacher": str(finished.workdir),
    }


def test_a_run_and_its_exported_folder_are_the_same_teacher(corpus, finished, fields):
    config = tiny(corpus, **fields)
    run = distilling.load(config)
    assert config.distillation.teacher == run.name == f"{finished.workdir}@20"
    config.distillation.teacher = f"{finished.workdir}/hf"
    config.tokenizer.path = f"{finished.workdir}/tokenizer"
    folder = distilling.load(config)
    assert config.distillation.teacher == folder.name == f"{finished.workdir}/hf"
    assert (folder.vocabulary, folder.fingerprint) == (run.vocabulary, run.fingerprint)
    assert folder.model.num_hidden_layers == run.model.num_hidden_layers
    assert distilling.load(tiny(corpus)) is None


def test_another_vocabulary_is_refused_with_both_fingerprints(corpus, finished, fields, tmp_path):
    theirs = vocabulary_fingerprint(pretrained.load(finished.workdir).tokenizer)
    other = fields | {"corpus.directory": "", "tokenizer.vocab_size": 310}
    message = rf"another vocabulary \(fingerprint {theirs}\) than this run's corpus \(\w{{16}}\)"
    with pytest.raises(UserError, match=rf"{message}: set config\.tokenizer\.path"):
        train(tiny(corpus, **other), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    # A tokenizer that is there already is refused before the corpus is prepared.
    given = {"tokenizer.path": str(tmp_path / "run" / "corpus" / "tokenizer")}
    with pytest.raises(UserError, match=message):
        train(tiny(corpus, **other, **given), tmp_path / "given")
    assert not (tmp_path / "given").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"distillation.teacher": "nowhere"}, r"distillation\.teacher=nowhere: .*nowhere"),
        ({"distillation.teacher": "gs://b/run@5"}, r"teacher=gs://b/run@5: URLs are not supported"),
        ({"distillation.teacher": "{}@7"}, r"teacher=.*@7: .*holds the steps 10, 15, 20"),
        ({"model.max_position_embeddings": 128}, "has positions for 64 tokens, and .* rows of 128"),
    ],
)
def test_a_teacher_that_does_not_suit_is_refused(corpus, finished, fields, changed, message):
    config = tiny(corpus, **{**fields, **changed})
    config.distillation.teacher = config.distillation.teacher.format(finished.workdir)
    if "model.max_position_embeddings" in changed:
        config.stream.phases[-1]["sequence_length"] = 128
    with pytest.raises(UserError, match=message):
        distilling.load(config)


def test_a_run_goes_on_with_the_teacher_that_it_began_with(corpus, fields):
    teacher = distilling.load(tiny(corpus, **fields))
    kept = {"corpus": "c", **distilling.facts(teacher)}
    expect_same_teacher(kept, teacher, 5)
    expect_same_teacher({"corpus": "c"}, None, 5)
    with pytest.raises(UserError, match=rf"{teacher.fingerprint} up to step 5, and .* is \(none\)"):
        expect_same_teacher(kept, None, 5)
    with pytest.raises(UserError, match=r"teacher \(none\) up to step 5, and .*@20, with the"):
        expect_same_teacher({"corpus": "c"}, teacher, 5)


def test_the_recipe_makes_a_student_of_half_the_size(finished):
    config = load_config(str(ROOT / "configs" / "distil.py"), str(finished.workdir))
    settings = parse(config, distilling.load(config))
    size = settings.teacher.model.vocab_size
    models, mesh = settings.models(size), sharding.make_mesh(settings.training.mesh)
    check(settings.training, settings.stream.phases, models, mesh)
    theirs = settings.teacher.model
    assert 2 * models[0].hidden_size == theirs.hidden_size == 32
    assert models[0].num_hidden_layers == theirs.num_hidden_layers // 2
    assert config.tokenizer.path == f"{finished.workdir}/tokenizer"
    with pytest.raises(UserError, match="needs the teacher after a colon"):
        load_config(str(ROOT / "configs" / "distil.py"))


@pytest.mark.slow
def test_an_interrupted_distillation_ends_with_the_same_bytes(corpus, finished, fields, tmp_path):
    def student(teacher):
        config = tiny(corpus, **{**fields, "distillation.teacher": teacher}, total_steps=10)
        config.stream.phases, config.stream.sequence_length = (), 32
        config.mesh.data, config.mesh.fsdp = 4, 2
        return config

    train(student(str(finished.workdir)), tmp_path / "straight")
    workdir = tmp_path / "resumed"
    shutil.copytree(tmp_path / "straight", workdir)
    shutil.rmtree(workdir / "checkpoints" / "10")
    # The teacher may stand elsewhere now, or train on: its parameters are what counts.
    shutil.copytree(finished.workdir, tmp_path / "moved")
    with pytest.raises(UserError, match=r"this run learned from the teacher \w{16} up to step 5"):
        train(student(f"{tmp_path}/moved@15"), workdir)
    said = train(student(f"{tmp_path}/moved@20"), workdir).said
    assert "Continuing at step 5 of 10" in said
    one, other = (whole_state(tmp_path / name, 10) for name in ("straight", "resumed"))
    assert_same_bytes(one, other)
    recorded = json.loads((tmp_path / "straight" / "config.json").read_text())
    assert recorded["distillation"]["teacher"] == f"{finished.workdir}@20"
    figures = records(tmp_path / "straight")
    of_train = next(record for record in figures if record["split"] == "train")
    assert of_train["loss"] == pytest.approx(
        sum(of_train[f"{name}_loss"] for name in ("mlm", "nsp", "relations", "soft")), rel=1e-4
    )
    assert not any("soft_loss" in record for record in figures if record["split"] == "heldout")
