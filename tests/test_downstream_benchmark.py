"""The records and the table of the downstream benchmark."""

import argparse
import json

import pytest

from benchmarks import downstream


def record(encoder, seed, value, library=downstream.OURS):
    return {
        "task": "sst2",
        "encoder": encoder,
        "library": library,
        "seed": seed,
        "metric": "accuracy",
        "value": value,
        **({"baseline": 0.509} if library == downstream.OURS else {}),
    }


def test_a_table_has_a_column_for_each_encoder_and_library():
    records = [record("ours", 0, 0.80), record("ours", 1, 0.82), record("random", 0, 0.7)]
    records.append(record("ours", 0, 0.81, downstream.PYTORCH))
    header, _, row = downstream.table(records).splitlines()
    assert header == "| task | metric | ours | random | ours, PyTorch | majority class |"
    assert row == "| SST-2 | accuracy | 0.810 ± 0.014 (2) | 0.700 | 0.810 | 0.509 |"


@pytest.fixture
def arguments(tmp_path):
    return argparse.Namespace(
        out=tmp_path,
        data=tmp_path,
        examples=100,
        epochs=1.0,
        seeds=3,
        learning_rate=1e-4,
        batch_size=16,
        max_length=256,
    )


def test_seeds_with_a_record_are_not_run_again(arguments):
    config = downstream.config_of("sst2", "runs/mine", arguments)
    about = ("sst2", "ours", downstream.OURS)
    downstream.write(arguments.out, downstream.described(*about, 1, config, "accuracy"))
    assert downstream.missing_seeds(*about, config, arguments) == [0, 2]
    arguments.epochs = 2.0
    config = downstream.config_of("sst2", "runs/mine", arguments)
    with pytest.raises(SystemExit, match="another epochs"):
        downstream.missing_seeds(*about, config, arguments)


def test_the_articles_of_xquad_are_split(arguments):
    articles = [{"title": str(number)} for number in range(12)]
    (arguments.data / "xquad").mkdir()
    (arguments.data / "xquad" / "xquad.en.json").write_text(json.dumps({"data": articles}))
    train, validation = downstream.files("xquad", arguments)
    assert [a["title"] for a in json.loads(validation.read_text())["data"]] == ["0", "6"]
    assert len(json.loads(train.read_text())["data"]) == 10
