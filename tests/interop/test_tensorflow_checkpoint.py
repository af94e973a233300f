"""Google's checkpoints are read as TensorFlow writes them."""

import json
import re

import jax
import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.interop import names
from bert_jax.interop.load import load_folder
from bert_jax.interop.tensorflow_checkpoint import read_checkpoint
from tests.encoders import CLASSIC


def published(params, config):
    """The tensors of an encoder under Google's names, with some of the optimizer's."""
    tensors = {"global_step": np.int64(7), "bert/pooler/dense/kernel/adam_m": np.zeros((2, 2))}
    for name, value in names.to_torch(params, config).items():
        name = re.sub(r"layer\.(\d+)", r"layer_\1", name).replace(".", "/")
        if name == "cls/seq_relationship/weight":
            name = "cls/seq_relationship/output_weights"
        elif name.endswith("embeddings/weight"):
            name = name.removesuffix("/weight")
        elif "LayerNorm" in name:
            name = name.replace("weight", "gamma").replace("bias", "beta")
        elif name.endswith("/weight"):
            name, value = name.replace("/weight", "/kernel"), value.T
        elif name in ("cls/predictions/bias", "cls/seq_relationship/bias"):
            name = name.replace("bias", "output_bias")
        tensors[name] = value
    return tensors


@pytest.mark.slow
def test_a_checkpoint_of_googles_is_read_without_tensorflow(
    redrawn, vocabulary_directory, tmp_path
):
    import dataclasses

    import tensorflow as tf

    tokens = (vocabulary_directory / "vocab.txt").read_text().splitlines()
    config = dataclasses.replace(CLASSIC, vocab_size=len(tokens))
    params = redrawn(config)
    tensors = published(params, config)
    prefix = tmp_path / "bert_model.ckpt"
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(value) for value in tensors.values()],
    )
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n")
    values = {
        "vocab_size": len(tokens),
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "hidden_act": "gelu",
        "type_vocab_size": 2,
        "attention_probs_dropout_prob": config.attention_dropout,
    }
    (tmp_path / "bert_config.json").write_text(json.dumps(values))
    read = load_folder(tmp_path)
    assert read.model == config
    assert not read.notes
    jax.tree.map(np.testing.assert_array_equal, params, read.params)
    assert read.tokenizer.encode(["The THE"])[0].tolist() == [tokens.index("the")] * 2
    for name, value in tensors.items():
        found = read_checkpoint(prefix)[name]
        np.testing.assert_array_equal(found, value)

    data = tmp_path / "bert_model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"bert_model\.ckpt is cut short: .* is not whole"):
        read_checkpoint(prefix)
    data.unlink()
    with pytest.raises(UserError, match="data-00000-of-00001 is missing"):
        read_checkpoint(prefix)


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_an_index_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "a.ckpt.index").write_bytes(content)
    with pytest.raises(UserError, match="is damaged, or no checkpoint of TensorFlow"):
        read_checkpoint(tmp_path / "a.ckpt")
