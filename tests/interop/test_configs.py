"""Which encoders `transformers` has, and their configs in both directions."""

import dataclasses
from pathlib import Path

import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import load_config
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.interop import configs
from bert_jax.model import ModelConfig


@pytest.fixture
def vocabulary(tokenizer_directory) -> Vocabulary:
    return Vocabulary.load(tokenizer_directory)


def test_there_and_back_is_equal(model_config, vocabulary):
    values = configs.to_hugging_face(model_config, vocabulary)
    assert configs.from_hugging_face(values, next_sentence=model_config.next_sentence) == (
        model_config
    )


def test_what_transformers_saves_is_read_alike(model_config, vocabulary, tmp_path):
    """`save_pretrained` adds its defaults and drops what it does not know."""
    transformers = pytest.importorskip("transformers")
    values = configs.to_hugging_face(model_config, vocabulary)
    kind = {"bert": transformers.BertConfig, "modernbert": transformers.ModernBertConfig}
    saved = kind[values["model_type"]](**values).to_dict()
    again = configs.from_hugging_face(saved, next_sentence=model_config.next_sentence)
    assert again == model_config


@pytest.mark.parametrize("vers", ["layer_types", "global_attn_every_n_layers"])
def test_modernbert_is_read_in_the_names_of_each_version(modern, vocabulary, vers):
    values = configs.to_hugging_face(modern, vocabulary)
    old = {"global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"}
    new = {"layer_types", "rope_parameters"}
    for name in old if vers in new else new:
        del values[name]
    assert configs.from_hugging_face(values, next_sentence=False) == modern


def test_all_layers_global_stays_so(modern, vocabulary):
    everywhere = dataclasses.replace(modern, local_attention=0)
    values = configs.to_hugging_face(everywhere, vocabulary)
    assert set(values["layer_types"]) == {"full_attention"}
    assert configs.from_hugging_face(values, next_sentence=False).local_attention == 0


@pytest.mark.parametrize(
    ("file", "arg", "expected"),
    [
        *[("bert.py", size, "BertForPreTraining") for size in ("tiny", "base", "large")],
        *[("modernbert.py", size, "ModernBertForMaskedLM") for size in ("base", "large")],
        ("quickstart.py", "", "ModernBertForMaskedLM"),
    ],
)
def test_every_shipped_config_has_a_class(file, arg, expected):
    config = load_config(str(Path(__file__).parents[2] / "configs" / file), arg)
    assert configs.architecture(ModelConfig(1000, **config.model.to_dict())) == expected


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [
        ("classic", "position", "rotary"),
        ("classic", "position", "sinusoidal"),
        ("classic", "feed_forward", "geglu"),
        ("classic", "use_bias", False),
        ("classic", "local_attention", 16),
        ("classic", "token_types", 0),
        ("modern", "position", "learned"),
        ("modern", "feed_forward", "gelu"),
        ("modern", "use_bias", True),
        ("modern", "token_types", 2),
        ("modern", "next_sentence", True),
    ],
)
def test_an_encoder_that_transformers_lacks_is_refused_by_field(request, family, field, value):
    config = dataclasses.replace(request.getfixturevalue(family), **{field: value})
    with pytest.raises(UserError, match=rf"config\.model\.{field} is {value!r}"):
        configs.architecture(config)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("classic", {"model_type": "distilbert"}, "model_type is 'distilbert'"),
        ("classic", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("classic", {"is_decoder": True}, "is_decoder is True"),
        ("modern", {"norm_bias": True}, "norm_bias is True"),
        ("modern", {"layer_types": ["sliding_attention"] * 4}, "layer_types"),
        (
            "modern",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
            r"rope_parameters\.full_attention\.rope_type is 'yarn'",
        ),
    ],
)
def test_a_model_that_we_lack_is_refused_by_field(request, vocabulary, family, change, message):
    values = configs.to_hugging_face(request.getfixturevalue(family), vocabulary) | change
    with pytest.raises(UserError, match=message):
        configs.from_hugging_face(values, next_sentence=False)
