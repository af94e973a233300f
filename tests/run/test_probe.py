"""The probe: features of a frozen encoder are scored on a task while it is pretrained."""

import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import parse
from tests.finetunings import sentiment
from tests.runs import records, tiny, train


@pytest.mark.slow
def test_the_probe_is_logged_beside_the_loss(corpus, tmp_path):
    data = str(sentiment(tmp_path / "train.tsv"))
    fields = {
        "probe.every": 10,
        "probe.train": data,
        "probe.validation": data,
        "probe.text": "sentence",
    }
    run = train(tiny(corpus, **fields), tmp_path / "run")
    probes = [record for record in records(run.workdir) if record["split"] == "probe"]
    assert [record["step"] for record in probes] == [10, 20]
    assert all(record["accuracy"] >= 0.8 for record in probes)


def test_a_probe_without_data_is_refused(corpus):
    with pytest.raises(UserError, match=r"config\.probe\.train is empty"):
        parse(tiny(corpus, **{"probe.every": 2}))
