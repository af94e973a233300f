"""A workdir made of a published encoder is what a run may begin with."""

from pathlib import Path

import jax
import numpy as np
import pytest

from bert_jax import train
from bert_jax.common.errors import UserError
from bert_jax.config import load_config
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.run import imported, pretrained

CONFIG = str(Path(__file__).parents[2] / "configs" / "continue_pretraining.py")


@pytest.fixture
def workdir(classic, redrawn, wordpiece_directory, tmp_path):
    path = tmp_path / "imported"
    tokenizer = load_tokenizer(wordpiece_directory)
    imported.create(path, classic, redrawn(classic), tokenizer, "somewhere")
    return path


def test_the_config_continues_with_its_encoder_and_tokenizer(workdir, classic):
    config = load_config(CONFIG, str(workdir))
    assert config.init_from == str(workdir)
    assert config.model.hidden_size == classic.hidden_size
    assert not config.model.next_sentence
    assert config.tokenizer.path == str(workdir / "tokenizer")
    with pytest.raises(UserError, match="needs the workdir to begin with after a colon"):
        load_config(CONFIG)


@pytest.mark.slow
def test_training_begins_with_the_imported_parameters(workdir, corpus, tmp_path):
    config = load_config(CONFIG, str(workdir))
    fields = {"total_steps": 2, "warmup_steps": 1, "global_batch_size": 8, "learning_rate": 1e-9}
    config.update(fields | {"eval_every": 2, "checkpoint_every": 2})
    config.corpus.update({"source": corpus, "workers": 1, "heldout_fraction": 0.2})
    config.stream.sequence_length = 32
    train.train(config, tmp_path / "adapted")
    before, after = (
        pretrained.load(path).params["encoder"] for path in (workdir, tmp_path / "adapted")
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), before, after)
