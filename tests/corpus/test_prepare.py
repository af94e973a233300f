import os
import subprocess
import sys

import pytest

from bert_jax.config import load_config, parse
from bert_jax.corpus.store import TokenStore
from bert_jax.prepare import summary, verdict
from tests.corpus.corpora import build_store, contents, documents, tiny_config, write_text

CONFIG = """
from bert_jax.config import default_config

def get_config(arg=""):
    config = default_config()
    config.corpus.heldout_fraction = 0.2
    config.corpus.workers = 2
    config.tokenizer.vocab_size = 200
    return config
"""


def prepare(directory, *arguments):
    (directory / "config.py").write_text(CONFIG)
    return subprocess.run(
        [
            *(sys.executable, "-m", "bert_jax.prepare", f"--config={directory}/config.py"),
            *(f"--workdir={directory}/run", *arguments),
        ],
        capture_output=True,
        text=True,
    )


def test_the_command_makes_the_store_prints_what_is_in_it_and_opens_it_again(tmp_path):
    write_text(tmp_path / "a.txt", documents(60))
    write_text(tmp_path / "b.txt", documents(60, seed=1))
    source = f"--config.corpus.source=text:{tmp_path}/*.txt"
    first = prepare(tmp_path, source)
    assert first.returncode == 0, first.stderr
    store = TokenStore.open(tmp_path / "run" / "corpus")
    count = store.split("train").num_documents
    assert f"train    {count} documents" in first.stdout
    assert "report.html" in first.stdout
    tokens = store.split("train").num_tokens
    epochs = 1000 * 32 * 128 / tokens  # the default config
    assert f"{tokens:,} tokens an epoch; the recipe's 1,000 steps see 4,096,000" in first.stdout
    assert f"tokens, {epochs:.1f} epochs" in first.stdout
    steps = int(1000 * 40 / epochs)
    assert f"{epochs:,.0f} epochs of the same text: more than about 40 teach" in first.stdout
    assert f"; config.total_steps={steps} is 40 epochs" in first.stdout
    assert first.stdout.strip().endswith("verdict  see the warnings, then train")
    made = f"making the token store {tmp_path}/run/corpus from text:{tmp_path}/*.txt (0.1 MB)"
    assert first.stderr.startswith(made)
    assert "heldout_fraction: the corpus" not in first.stdout
    again = prepare(tmp_path, source)
    assert again.stdout == first.stdout
    assert again.stderr == ""
    config = load_config(f"{tmp_path}/config.py")
    config.total_steps, config.warmup_steps = steps, 0
    assert verdict(store, parse(config), steps).endswith("verdict  ready to train")
    in_time = verdict(store, parse(config), 0)
    assert "as many of them as fit in config.budget\n  verdict  ready to train" in in_time


def test_a_held_out_split_larger_than_the_config_says_is_explained(tmp_path):
    config = tiny_config(f"text:{write_text(tmp_path / 'a.txt', documents(60))}")
    config.corpus.heldout_fraction = 0.001
    (line,) = [
        line
        for line in summary(build_store(config, tmp_path / "store")).splitlines()
        if "heldout  " in line
    ]
    assert line.endswith("unknown (more than heldout_fraction: the corpus is small)")


def test_a_store_is_verified(tmp_path):
    write_text(tmp_path / "a.txt", documents(60))
    source = f"--config.corpus.source=text:{tmp_path}/a.txt"
    assert prepare(tmp_path, "--verify", source).stderr.strip().endswith("manifest.json is missing")
    prepare(tmp_path, source)
    (tmp_path / "a.txt").unlink()  # it is not needed
    assert "10 files, 0.3 MB, are undamaged" in prepare(tmp_path, "--verify", source).stdout
    for name in ("train/00000/tokens.npy", "tokenizer/sentencepiece.model"):
        path = tmp_path / "run" / "corpus" / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result = prepare(tmp_path, "--verify", source)
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert "the content of tokenizer/sentencepiece.model, train/00000/tokens.npy is not" in line
    assert line.endswith("delete the token store's directory and prepare it again")


@pytest.mark.slow
def test_the_command_runs_a_pipeline(tmp_path):
    pytest.importorskip("apache_beam")
    write_text(tmp_path / "a.txt", documents(60))
    source = f"--config.corpus.source=text:{tmp_path}/a.txt"
    plain = prepare(tmp_path, source, f"--config.corpus.directory={tmp_path}/plain")
    options = ("--runner=DirectRunner", "--beam_option=--direct_num_workers=2")
    result = prepare(tmp_path, source, f"--config.corpus.directory={tmp_path}/beam", *options)
    assert result.returncode == 0, result.stderr
    assert result.stdout.replace("beam", "plain") == plain.stdout
    assert contents(tmp_path / "beam") == contents(tmp_path / "plain")


def test_what_the_user_can_fix_is_one_line(tmp_path):
    result = prepare(tmp_path, "--config.corpus.source=text:nowhere/*.txt")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines() == [
        f"error: config.corpus.source: no file matches 'nowhere/*.txt' in {os.getcwd()}"
    ]
