"""The model computes what `transformers` computes, for every shape that can be exported.

The initial norms and biases are ones and zeros, which hide a swapped or forgotten one: all
parameters are redrawn.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from bert_jax.config import load_config
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.interop import configs, names, parity, parity_batches
from bert_jax.model import ModelConfig, abstract
from tests.architectures import CLASSIC, MODERN

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CONFIGS = Path(__file__).parents[2] / "configs"


def preset(file: str, arg: str) -> ModelConfig:
    """A shipped config's encoder, all but its sizes."""
    model = load_config(str(CONFIGS / file), arg).model
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    small = {name: getattr(MODERN, name) for name in (*sizes, "intermediate_size")}
    return dataclasses.replace(ModelConfig(97, **model.to_dict()), **small, compute_dtype="float32")


FAMILIES = {
    "bert.py": preset("bert.py", "base"),
    "modernbert.py": preset("modernbert.py", "base"),
    "quickstart.py": preset("quickstart.py", ""),
    "BertForPreTraining": CLASSIC,
    "BertForMaskedLM": dataclasses.replace(CLASSIC, next_sentence=False),
    "one segment": dataclasses.replace(CLASSIC, token_types=1, norm_epsilon=1e-3),
    "ModernBert with local layers": MODERN,
    "ModernBert, other angles": dataclasses.replace(
        MODERN, rope_theta=500.0, local_rope_theta=20.0, global_every=3, local_attention=9
    ),
}


def redrawn(config: ModelConfig) -> names.Params:
    """Parameters that all matter: no zero bias, no norm scale of one."""
    random = np.random.default_rng(0)

    def draw(leaf):
        return (0.3 * random.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree.map(draw, abstract(config)[1])


def in_torch(config: ModelConfig, params: names.Params):
    """The same model in `transformers`, from its state dict alone."""
    nothing = np.zeros(config.vocab_size, bool)
    vocabulary = Vocabulary(config.vocab_size, 0, 1, 2, 3, 4, nothing, nothing)
    values = configs.to_hugging_face(config, vocabulary)
    architecture = getattr(transformers, configs.architecture(config))
    model = architecture(architecture.config_class(**values)).eval()
    state = {name: torch.from_numpy(v) for name, v in names.to_torch(params, config).items()}
    loaded = model.load_state_dict(state, strict=False)
    model.tie_weights()
    assert not loaded.unexpected_keys
    assert all(".decoder." in f".{key}" for key in loaded.missing_keys)  # tied
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> ModelConfig:
    return FAMILIES[request.param]


@pytest.mark.parametrize("batch", [parity_batches.padded_batch, parity_batches.packed_batch])
def test_logits_equal_those_of_transformers(family, batch):
    params = redrawn(family)
    compared = parity.compare(in_torch(family, params), params, family, batch(family))
    assert compared.difference <= 1e-4


@pytest.mark.parametrize("name", ["BertForPreTraining", "ModernBert with local layers"])
def test_every_parameter_shows_in_the_comparison(name):
    """A parameter that the comparison cannot see could be lost without notice."""
    config = FAMILIES[name]
    params = redrawn(config)
    model = in_torch(config, params)
    batch = parity_batches.padded_batch(config)
    leaves, tree = jax.tree.flatten(params)
    for index, (path, leaf) in enumerate(jax.tree.leaves_with_path(params)):
        changed = [*leaves[:index], leaf[::-1].copy(), *leaves[index + 1 :]]
        compared = parity.compare(model, tree.unflatten(changed), config, batch)
        assert not compared.is_close, jax.tree_util.keystr(path)
