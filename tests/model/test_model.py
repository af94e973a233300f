"""The encoder: who sees whom, what stays float32, and the published sizes."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from transformers import ModernBertConfig, ModernBertForMaskedLM

from bert_jax import model as model_lib
from bert_jax.common.errors import UserError
from bert_jax.config import default_config, load_config
from bert_jax.model import ModelConfig
from bert_jax.model.dropout import dropout
from tests.synthetic import random_batch

VOCAB = 64


def small(**changes):
    config = default_config().model
    config.update(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, **changes
    )
    return ModelConfig(VOCAB, **config.to_dict())


MODERN = {
    "position": "rotary",
    "norm": "pre",
    "feed_forward": "geglu",
    "use_bias": False,
    "token_types": 0,
    "next_sentence": False,
}
FAMILIES = [{}, MODERN, MODERN | {"local_attention": 8}, {"position": "sinusoidal"}]


@functools.cache
def compiled_encoder(config):
    structure, _ = model_lib.abstract(config)
    params = model_lib.initialize(config, jax.random.key(0))
    return jax.jit(lambda *arrays: nnx.merge(structure, params).encoder(*arrays))


def hidden_states(config, batch):
    names = ("input_ids", "token_type_ids", "position_ids", "segment_ids")
    return compiled_encoder(config)(*(batch[name] for name in names))


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_packed_documents_and_padding_do_not_see_each_other(family):
    batch = random_batch(VOCAB, batch_size=4, length=16)
    config = small(**family)
    before = hidden_states(config, batch)
    for changed in (0, 1, 2):  # the padding, the first document, the second
        other = dict(batch)
        inside = batch["segment_ids"] == changed
        other["input_ids"] = np.where(inside, (batch["input_ids"] + 1) % VOCAB, batch["input_ids"])
        after = hidden_states(config, other)
        moved = np.abs(np.asarray(after - before)).max(-1) > 1e-6
        np.testing.assert_array_equal(moved[~inside], False)
        assert moved[inside].all()


def test_a_packed_document_reads_as_it_does_alone():
    batch = random_batch(VOCAB, batch_size=1, length=16)
    config = small(**MODERN)
    second = batch["segment_ids"][0] == 2
    size = second.sum()
    alone = {name: array[:, second] for name, array in batch.items() if array.shape == (1, 16)}
    alone["segment_ids"] = np.ones((1, size), np.int32)
    packed = hidden_states(config, batch)[0, second]
    np.testing.assert_allclose(packed, hidden_states(config, alone)[0], atol=1e-5)


def test_every_third_layer_is_global():
    config = small(**MODERN | {"local_attention": 8, "global_every": 3})
    assert [config.window(layer) for layer in range(7)] == [0, 8, 8, 0, 8, 8, 0]


def test_dropout_keeps_the_mean_and_needs_a_key():
    ones = jnp.ones((200, 200))
    dropped = dropout(ones, 0.25, jax.random.key(0))
    share = float((dropped == 0).mean())
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / ones.size)
    np.testing.assert_allclose(dropped[dropped != 0], 1 / 0.75, rtol=1e-6)
    np.testing.assert_array_equal(dropout(ones, 0.25, None), ones)


def test_bfloat16_computes_in_it_and_ends_in_float32():
    config = small(compute_dtype="bfloat16")
    structure, _ = model_lib.abstract(config)
    bert = nnx.merge(structure, model_lib.initialize(config, jax.random.key(0)))

    def logits(batch):
        outputs = bert(batch)
        return outputs.mlm_logits, outputs.nsp_logits

    for array in jax.eval_shape(logits, random_batch(VOCAB)):
        assert array.dtype == jnp.float32
    assert hidden_states(config, random_batch(VOCAB)).dtype == jnp.bfloat16


def test_the_model_runs_in_both_modes_of_nnx():
    batch = jax.tree.map(jnp.asarray, random_batch(VOCAB))
    found = []
    for graph in (True, False):
        before = nnx.set_graph_mode(graph) if hasattr(nnx, "set_graph_mode") else None
        try:
            structure, _ = model_lib.abstract(small())
            params = model_lib.initialize(small(), jax.random.key(0))
            found.append(nnx.merge(structure, params)(batch).mlm_logits)
        finally:
            if before is not None:
                before.__exit__(None, None, None) if hasattr(before, "__exit__") else None
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("size", "published"),
    [
        ("tiny", 4_385_920),
        ("mini", 11_170_560),
        ("small", 28_763_648),
        ("medium", 41_373_184),
        ("base", 109_482_240),
        ("large", 335_141_888),
    ],
)
def test_bert_sizes_have_the_published_parameters(size, published):
    """Encoder and pooler with 30,522 pieces, as the published checkpoints count."""
    config = load_config("configs/bert.py", size)
    model = ModelConfig(config.tokenizer.vocab_size, **config.model.to_dict())
    _, params = model_lib.abstract(model)
    counted = (params["encoder"], params["nsp_head"]["pooler"])
    assert sum(leaf.size for leaf in jax.tree.leaves(counted)) == published


PUBLISHED_MODERNBERT = {
    "base": {},  # the defaults of transformers' class
    "large": {
        "hidden_size": 1024,
        "intermediate_size": 2624,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
    },
}


@pytest.mark.parametrize("size", ["base", "large"])
def test_modernbert_sizes_have_the_parameters_of_the_published_classes(size):
    config = load_config("configs/modernbert.py", size)
    model = ModelConfig(config.tokenizer.vocab_size, **config.model.to_dict())
    _, params = model_lib.abstract(model)
    with torch.device("meta"):
        published = ModernBertForMaskedLM(ModernBertConfig(**PUBLISHED_MODERNBERT[size]))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == sum(parameter.numel() for parameter in published.parameters())


def test_the_model_takes_no_tensorflow():
    code = (
        "import sys, bert_jax.model, bert_jax.training.step; sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("position", "none"), ("norm", "rms"), ("hidden_size", 0), ("num_attention_heads", 3)],
)
def test_an_impossible_encoder_is_refused_by_field(field, value):
    config = default_config().model
    config[field] = value
    with pytest.raises(UserError, match=rf"config\.model\.{field}"):
        ModelConfig(VOCAB, **config.to_dict())
