import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bert_jax.config import default_config, parse
from bert_jax.inspect_batches import LEGEND, rates, readable_row, source_shares
from bert_jax.stream.batches import TrainBatches
from bert_jax.training.objectives import OBJECTIVES
from tests.corpus.corpora import documents, write_text
from tests.stream.conftest import config, store  # noqa: F401
from tests.stream.tiny_stores import vocabulary

ROOT = Path(__file__).parent.parent
OBJECTIVES_BY_NAME = {
    name: objective.from_config(default_config()) for name, objective in OBJECTIVES.items()
}


def piece(id: int) -> str:
    if id < 5:
        return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"][id]
    return f"▁{id}" if vocabulary().starts_word[id] else str(id)


def row(objective: str) -> dict[str, np.ndarray]:
    #               CLS to 7, 8, SEP, then 6 goes on with a word, 10, SEP, padding
    ids = [2, 7, 8, 3, 4, 33, 7, 6, 3, 0]
    first_side = 4
    batch = {
        "input_ids": np.array([ids], np.int32),
        "token_type_ids": np.array([[0] * first_side + [1] * 5 + [0]], np.int32),
        "segment_ids": np.array([[1] * 9 + [0]], np.int32),
        "masked_positions": np.array([[4, 5, 6, 0]], np.int32),
        "masked_labels": np.array([[10, 11, 7, 0]], np.int32),
        "masked_weights": np.array([[1, 1, 1, 0]], np.float32),
    }
    if objective != "packed":
        return batch | {"next_sentence_label": np.array([1], np.int32)}
    return batch | {"segment_ids": np.array([[1] * first_side + [2] * 5 + [0]], np.int32)}


def lines_of(name: str, has_colors: bool = False) -> list[str]:
    objective = OBJECTIVES_BY_NAME[name]
    return readable_row(row(name), 0, objective, vocabulary(), piece, has_colors).split("\n")


def test_packed_row_is_shown_by_document():
    assert readable_row(
        row("packed"), 0, OBJECTIVES_BY_NAME["packed"], vocabulary(), piece, has_colors=False
    ).split("\n") == [
        "Row 0: 9 tokens, 3 to predict",
        "  1: [CLS] 7 8 [SEP]",
        "  2: [MASK:10] [33:11] [7:7]6 [SEP]",
    ]


@pytest.mark.parametrize(
    ("objective", "label"), [("nsp", "B is from another document"), ("sop", "A and B swapped")]
)
def test_pair_is_shown_by_side_with_its_label(objective, label):
    assert readable_row(
        row(objective), 0, OBJECTIVES_BY_NAME[objective], vocabulary(), piece, has_colors=False
    ).split("\n") == [
        f"Row 0: 9 tokens, 3 to predict; {label}",
        "  A: [CLS] 7 8 [SEP]",
        "  B: [MASK:10] [33:11] [7:7]6 [SEP]",
    ]


def test_colors_tell_what_was_done():
    text = readable_row(
        row("packed"), 0, OBJECTIVES_BY_NAME["packed"], vocabulary(), piece, has_colors=True
    )
    for colored in ("\033[33m[MASK:10]", "\033[31m[33:11]", "\033[32m[7:7]", "\033[2m[SEP]"):
        assert f"{colored}\033[0m" in text


def test_rates_are_counted():
    assert rates([row("nsp"), row("nsp")], OBJECTIVES_BY_NAME["nsp"], vocabulary()) == {
        "wrong pairs": "100.00%",
        "places in use": "90.00%",
        "tokens to predict": "33.33%",
        "  replaced by [MASK]": "33.33%",
        "  replaced by a random piece": "33.33%",
        "  left as they are": "33.33%",
        "special tokens among them (must be 0)": "0",
    }


def test_shares_of_sources_are_counted():
    assert source_shares([["wiki", "web"], ["web", "web"]]) == {
        "rows of web": "75.00%",
        "rows of wiki": "25.00%",
    }
    assert source_shares([["wiki", "wiki"]]) == {}


def test_rates_of_real_batches_are_those_of_the_config(store, config):
    settings = parse(config)
    batches = TrainBatches(store, settings.stream)
    found = rates(map(batches.batch, range(50)), settings.objective, store.vocabulary)
    assert found["special tokens among them (must be 0)"] == "0"
    assert 0.13 < float(found["tokens to predict"].rstrip("%")) / 100 < 0.17
    assert float(found["documents a row"]) >= 1


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Runs the command for a tiny corpus, whose store the first call makes."""
    place = tmp_path_factory.mktemp("inspect")
    write_text(place / "text.txt", documents(60))
    settings = {
        "total_steps": 100,
        "global_batch_size": 8,
        "corpus.source": f"text:{place}/text.txt",
        "corpus.heldout_fraction": 0.2,
        "corpus.workers": 1,
        "tokenizer.vocab_size": 200,
        "stream.phases[0].sequence_length": 32,
        "stream.phases[1].sequence_length": 64,
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        fields = [f"--config.{name}={value}" for name, value in settings.items()]
        start = [sys.executable, "-m", "bert_jax.inspect_batches", "--config=configs/bert.py:tiny"]
        return subprocess.run(
            [*start, *fields, f"--workdir={place}/run", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_command_shows_a_batch_of_any_step_and_what_is_counted(command):
    shown = command("--step=97", "--rows=2", "--batches=2")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("Step 97 of 100: 8 rows of 64 tokens, ")
    assert LEGEND in shown.stdout
    assert shown.stdout.count("\nRow ") == 2
    assert shown.stdout.count("\n  A: [CLS]") == shown.stdout.count("\n  B: ") == 2
    counted = shown.stdout.partition("Counted over the batches of the steps 97 to 98:\n")[2]
    found = dict(line.rsplit(maxsplit=1) for line in counted.splitlines())
    assert found["  special tokens among them (must be 0)"] == "0"
    assert 13 < float(found["  tokens to predict"].rstrip("%")) < 17
    assert "\033[" not in shown.stdout


def test_a_step_beyond_the_end_is_refused_in_one_line(command):
    refused = command("--step=100")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr == "error: --step=100 is after the run's last step, 99\n"
