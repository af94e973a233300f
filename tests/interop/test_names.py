"""The table of names: complete in both directions, and exact."""

import jax
import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.interop import configs, names


def test_there_and_back_is_exact(model_config, redrawn):
    params = redrawn(model_config)
    again = names.from_torch(names.to_torch(params, model_config), model_config)
    jax.tree.map(np.testing.assert_array_equal, params, again)  # raises where the trees differ


def test_names_and_shapes_are_those_that_save_pretrained_writes(
    model_config, redrawn, tokenizer_directory, tmp_path
):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    from safetensors.numpy import load_file

    vocabulary = Vocabulary.load(tokenizer_directory)
    architecture = getattr(transformers, configs.architecture(model_config))
    hugging_face = architecture.config_class(**configs.to_hugging_face(model_config, vocabulary))
    architecture(hugging_face).save_pretrained(tmp_path)
    theirs = load_file(tmp_path / "model.safetensors")
    ours = names.to_torch(redrawn(model_config), model_config)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_query_key_and_value_are_parted_by_head(classic, redrawn):
    params = redrawn(classic)
    tensors = names.to_torch(params, classic)
    kernel = params["encoder"]["layers"][1]["attention"]["qkv"]["kernel"]  # D 3 N H
    key = tensors["bert.encoder.layer.1.attention.self.key.weight"]  # (N H) D
    np.testing.assert_array_equal(key[8:].T, kernel[:, 1, 1])  # the second of two heads


def test_a_parameter_without_a_name_is_no_silent_loss(modern, redrawn):
    params = redrawn(modern)
    params["encoder"]["surprise"] = np.zeros(3)
    with pytest.raises(AssertionError, match="encoder/surprise"):
        names.to_torch(params, modern)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("cls.predictions.bias"), "missing: cls.predictions.bias"),
        (lambda t: t.update(extra=np.zeros(3)), "without a place in this model: extra"),
        (
            lambda t: t.update({"bert.pooler.dense.weight": np.ones((8, 32))}),
            r"pooler.dense.weight is \[8, 32\], not \[16, 16\]",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(classic, redrawn, change, message):
    tensors = names.to_torch(redrawn(classic), classic)
    change(tensors)
    with pytest.raises(UserError, match=message):
        names.from_torch(tensors, classic)


def test_all_that_does_not_fit_is_listed_at_once(classic, redrawn):
    tensors = names.to_torch(redrawn(classic), classic)
    for name in [name for name in tensors if name.endswith("output.LayerNorm.bias")]:
        del tensors[name]
    del tensors["cls.predictions.bias"]
    tensors["extra"] = np.zeros(3)
    tensors["bert.embeddings.LayerNorm.bias"] = np.zeros(3)
    with pytest.raises(UserError) as refused:
        names.from_torch(tensors, classic)
    message = str(refused.value)
    assert "bert.encoder.layer.*.output.LayerNorm.bias (2 of them), cls.predictions.bias" in message
    assert (
        "in this model: extra; of another shape: bert.embeddings.LayerNorm.bias is [3]" in message
    )
