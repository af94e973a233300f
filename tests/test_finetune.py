"""The finetune command: learns, gains, continues exactly, exports, predicts."""

import json
import os
import signal

import numpy as np
import pytest

from bert_jax import predict
from bert_jax.common.errors import UserError
from bert_jax.run import finetuned, finetuning, pretrained
from tests import commands
from tests.finetunings import finetune, sentiment, tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return sentiment(tmp_path_factory.mktemp("data") / "train.tsv")


@pytest.fixture(scope="module")
def config(finished, data):
    fields = {"data.text": "sentence", "total_steps": 60, "eval_every": 20}
    fields["model.compute_dtype"] = "bfloat16"  # the export is compared in float32 all the same
    return tiny("classification", finished.workdir, data, **fields)


@pytest.fixture(scope="module")
def classified(config, tmp_path_factory):
    """A finished fine-tuning of 60 steps."""
    return finetune(config, tmp_path_factory.mktemp("finetuned") / "run")


def results(directory):
    return json.loads((directory / "results.json").read_text())


def test_it_learns_and_says_the_gain(classified):
    found = results(classified)
    assert found["task"] == "classification"
    assert found["metric"] == "accuracy"
    assert found["baseline"] == 0.5
    assert found["value"] > 0.9 > found["untrained"]
    assert found["labels"] == ["negative", "positive"]
    assert set(found["metrics"]) == {"accuracy", "macro_f1", "micro_f1", "matthews"}
    assert [seed["seed"] for seed in found["seeds"]] == [0]
    assert "Confusion matrix" in (classified / "report.html").read_text()


def test_predictions_have_probabilities_and_the_right_label(classified):
    lines = (classified / "predictions.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert len(lines) == 48
    assert first["gold"] == "positive"
    assert sum(first["probabilities"].values()) == pytest.approx(1.0)


def test_the_export_is_a_classifier_of_transformers(classified):
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(classified / "hf")
    assert model.config.id2label == {0: "negative", 1: "positive"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(classified / "hf")
    inputs = tokenizer("a warm and lovely film ", return_tensors="pt")
    shares = model(**inputs).logits.softmax(-1)[0].tolist()
    first = json.loads((classified / "predictions.jsonl").read_text().splitlines()[0])
    np.testing.assert_allclose(shares, list(first["probabilities"].values()), atol=1e-4)


def test_a_stopped_run_continues_to_the_same_bytes(config, classified, tmp_path, monkeypatch):
    log = finetuning.SeedWriter.train

    def log_and_stop(writer, step, task, figures):
        log(writer, step, task, figures)
        if step == 33:  # between two evaluations
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(finetuning.SeedWriter, "train", log_and_stop)
    with pytest.raises(SystemExit) as stopped:
        finetune(config, tmp_path / "run")
    assert stopped.value.code == 75
    monkeypatch.undo()
    finetune(config, tmp_path / "run")
    for name in ("results.json", "predictions.jsonl", "hf/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (classified / name).read_bytes(), name


def test_predictions_for_new_data_are_those_of_the_run(classified, data, tmp_path):
    unlabelled = tmp_path / "new.jsonl"
    texts = [line.split("\t")[0] for line in data.read_text().splitlines()[1:]]
    unlabelled.write_text("\n".join(json.dumps({"sentence": text}) for text in texts))
    found = list(predict.predictions(classified, str(unlabelled)))
    lines = (classified / "predictions.jsonl").read_text().splitlines()
    for ours, line in zip(found, map(json.loads, lines), strict=True):
        assert ours["label"] == line["label"]
        assert ours["probabilities"] == pytest.approx(line["probabilities"], abs=1e-5)


def test_an_input_without_examples_is_refused_and_leaves_no_file(classified, tmp_path):
    (tmp_path / "empty.tsv").write_text("sentence\n")
    with pytest.raises(UserError, match=r"--input=.*empty\.tsv holds no example"):
        predict.write(
            tmp_path / "out.jsonl", predict.predictions(classified, str(tmp_path / "empty.tsv"))
        )
    assert [path.name for path in tmp_path.iterdir()] == ["empty.tsv"]


def test_files_that_cannot_be_predicted_to_are_refused_at_once(tmp_path):
    for name in ("in.tsv", "out.jsonl"):
        (tmp_path / name).write_text("sentence\n")
    for source, out, message in (
        ("in.tvs", "out.jsonl", "in.tvs is missing"),
        ("in.tsv", "none/out.jsonl", f"there is no directory {tmp_path / 'none'}"),
        ("in.tsv", "in.tsv", "in.tsv is the input"),
    ):
        flags = (f"--workdir={tmp_path}", f"--input={tmp_path / source}", f"--out={tmp_path / out}")
        done = commands.run(predict.define_flags, predict.main, *flags)
        assert done.status != 0
        assert message in done.err


def test_another_config_is_refused_before_anything_is_written(config, classified):
    changed = config.copy_and_resolve_references()
    changed.learning_rate = 1.0
    with pytest.raises(UserError, match=r"learning_rate was 0\.003 and is now 1\.0"):
        finetune(changed, classified)
    assert finetuned.read_result(classified / "seeds" / "0") is not None


def test_more_labels_than_the_head_has_are_refused(config, data, classified):
    before = (classified / "results.json").read_bytes()
    text = data.read_text()
    more = config.copy_and_resolve_references()
    more.seeds = 2
    data.write_text(text + "a film\tneutral\n")
    try:
        with pytest.raises(UserError, match="the data or the tokenizer changed since step"):
            finetune(more, classified)
    finally:
        data.write_text(text)
    assert (classified / "results.json").read_bytes() == before


def test_its_exported_folder_is_a_start_and_the_fine_tuning_itself_says_so(classified):
    with pytest.raises(UserError, match=rf"is a fine-tuning.*{classified / 'hf'}"):
        pretrained.load(classified)
    assert pretrained.load(classified / "hf").config.norm == "post"


def test_bad_data_leaves_nothing_behind(config, data, tmp_path):
    other = tmp_path / "validation.tsv"
    other.write_text("sentence\tlabel\na film\tneutral\n")
    changed = config.copy_and_resolve_references()
    changed.data.validation = str(other)
    with pytest.raises(UserError, match="line 2: the label 'neutral' is not one of"):
        finetune(changed, tmp_path / "run")
    assert not (tmp_path / "run").exists()
