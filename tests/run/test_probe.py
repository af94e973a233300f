"""The probe: features of a frozen encoder are scored on a task while it is pretrained."""

import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import parse
from tests.finetunings import sentiment
from tests.runs import records, tiny, train

TAGGED = "".join(f"{word}\t{tag}\n" for word, tag in (("a", "DET"), ("dog", "NOUN"))) + "\n"
UPDATES = {"probe.steps": 20, "probe.learning_rate": 3e-3}
CASES = {
    "texts": {"probe.text": "sentence"},
    "finetune": {"probe.text": "sentence", "probe.kind": "finetune", **UPDATES},
    "tagging": {"probe.task": "tagging", **UPDATES},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_probe_is_logged_beside_the_loss_and_changes_nothing(name, corpus, finished, tmp_path):
    data = tmp_path / "train.conll"
    if name == "tagging":
        data.write_text(TAGGED * 20)
    else:
        data = sentiment(tmp_path / "train.tsv")
    fields = {"probe.every": 10, "probe.train": str(data), "probe.validation": str(data)}
    run = train(tiny(corpus, **fields, **CASES[name]), tmp_path / "run")
    probes = [record for record in records(run.workdir) if record["split"] == "probe"]
    assert [record["step"] for record in probes] == [10, 20]
    assert all(record["accuracy"] >= 0.8 for record in probes)
    ours, theirs = (
        [r["loss"] for r in records(each.workdir) if r["split"] == "train"]
        for each in (run, finished)
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"probe.kind": "thawed"}, "is 'thawed': choose frozen or finetune"),
        ({"probe.steps": 0}, r"config\.probe\.steps is 0"),
    ],
)
def test_a_probe_that_cannot_be_is_refused(fields, message, corpus):
    with pytest.raises(UserError, match=message):
        parse(tiny(corpus, **fields))


def test_a_probe_without_data_is_refused(corpus):
    with pytest.raises(UserError, match=r"config\.probe\.train is empty"):
        parse(tiny(corpus, **{"probe.every": 2}))
