import importlib.util

import pytest

from bert_jax.common.errors import UserError
from bert_jax.corpus import beam
from bert_jax.corpus.readers import files
from tests.corpus.corpora import build_store, contents, documents, third, tiny_config, write_text

with_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None, reason="the extra `beam` is not installed"
)


RUNNERS = [
    ["--runner=DirectRunner"],
    [
        "--runner=DirectRunner",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=2",
    ],
]


@with_beam
@pytest.mark.slow
def test_a_pipeline_makes_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "range_bytes", third)
    texts = documents(120)
    for index in range(4):
        write_text(tmp_path / "text" / f"{index}.txt", texts[index * 30 : index * 30 + 30])
    config = tiny_config(f"text:{tmp_path}/text/*.txt")
    build_store(config, tmp_path / "plain")
    build_store(config, tmp_path / "beam", beam.engine(RUNNERS[1]))
    assert contents(tmp_path / "beam") == contents(tmp_path / "plain")


@with_beam
@pytest.mark.parametrize("options", RUNNERS)
def test_errors_of_a_pipeline_reach_the_user(tmp_path, options):
    (tmp_path / "bad.txt").write_bytes(b"bad \xff")
    config = tiny_config(f"text:{tmp_path}/bad.txt")
    with pytest.raises(UserError, match=r"^[^ ]*bad\.txt is not UTF-8"):
        build_store(config, tmp_path / "store", beam.engine(options))
    assert not (tmp_path / "store").exists()


@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is not None, reason="it is installed")
def test_without_beam_the_message_says_what_to_install():
    with pytest.raises(UserError, match=r"pip install 'bert_jax\[beam\]'"):
        beam.engine(["--runner=DirectRunner"])
