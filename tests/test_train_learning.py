"""The command learns: a small real text, and rows that grow longer."""

import json
from pydoc_data import topics

import numpy as np
import pytest

from bert_jax.config import load_config as load_config_file
from bert_jax.corpus.store import TokenStore
from bert_jax.run import metrics
from bert_jax.run.workdir import load_run
from tests.runs import as_document, train


@pytest.mark.slow
def test_rows_grow_longer_with_another_rotary_base(corpus, tmp_path):
    config = load_config_file("configs/modernbert.py", "base")
    config.corpus.source = corpus
    config.corpus.heldout_fraction, config.corpus.workers = 0.2, 1
    config.tokenizer.vocab_size = 300
    config.total_steps, config.warmup_steps, config.global_batch_size = 4, 1, 8
    config.log_every, config.eval_every, config.checkpoint_every = 1, 2, 2
    config.stream.phases = (
        {"until": 0.5, "sequence_length": 16, "rope_theta": 100.0},
        {"until": 1.0, "sequence_length": 32, "rope_theta": 10_000.0},
    )
    config.model.hidden_size, config.model.intermediate_size = 32, 48
    config.model.num_attention_heads, config.model.num_hidden_layers = 2, 2
    config.optimizer.name = "adamw"  # compiles sooner
    train(config, tmp_path / "run")

    assert [load_run(tmp_path / "run", step).model.rope_theta for step in (2, 4)] == [100.0, 1e4]
    exported = json.loads((tmp_path / "run" / "hf" / "config.json").read_text())
    assert exported["rope_parameters"]["full_attention"]["rope_theta"] == 10_000.0


@pytest.mark.slow
def test_a_small_real_text_is_learned_beyond_its_word_frequencies(tmp_path):
    """A model that only knows how often each token occurs stays at the unigram entropy."""
    pages = [as_document(topics.topics[name]) for name in sorted(topics.topics)]
    (tmp_path / "topics.txt").write_text("\n\n".join(pages))
    config = load_config_file("configs/quickstart.py", "")
    config.corpus.source = f"text:{tmp_path}/topics.txt"
    config.corpus.heldout_fraction = 0.05
    config.corpus.workers = 1
    config.tokenizer.vocab_size = 1000
    config.total_steps, config.warmup_steps, config.global_batch_size = 150, 15, 32
    config.eval_every = config.checkpoint_every = config.total_steps
    config.model.num_hidden_layers = 2
    train(config, tmp_path / "run")

    tokens = np.concatenate(
        [
            shard.tokens
            for shard in TokenStore.open(tmp_path / "run" / "corpus").split("train").shards
        ]
    )
    counts = np.bincount(tokens[tokens > 4])  # without the special tokens
    shares = counts[counts > 0] / counts.sum()
    entropy = -(shares * np.log(shares)).sum()
    held_out = [r for r in metrics.read(tmp_path / "run") if r["split"] == "heldout"][-1]
    assert held_out["mlm_loss"] < entropy - 0.5
