"""Small tokenizers, and models of both families."""

import dataclasses
from pathlib import Path
from pydoc_data.topics import topics

import jax
import numpy as np
import pytest

from bert_jax.corpus.sentencepiece_tokenizer import train
from bert_jax.corpus.settings import TokenizerSettings
from bert_jax.model import ModelConfig, abstract

CHINESE = "维基百科是一个自由内容的网络百科全书。臺灣與香港使用繁體字、中国大陆使用简体字。"


def make_tokenizer(directory: Path, *, kind: str = "unigram", lowercase: bool = False) -> Path:
    """A tokenizer of 700 pieces, in a new directory."""
    paragraphs = [line for text in list(topics.values())[:25] for line in text.split("\n") if line]
    settings = TokenizerSettings(
        kind=kind,
        path="",
        vocab_size=700,
        lowercase=lowercase,
        character_coverage=1.0,
        sample_bytes=1_000_000,
    )
    directory.mkdir(parents=True)
    train([*paragraphs, *[CHINESE] * 5], settings).save(directory)
    return directory


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("cased") / "tokenizer")


@pytest.fixture(scope="session")
def lowercase_tokenizer_directory(tmp_path_factory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("uncased") / "tokenizer", lowercase=True)


@pytest.fixture(scope="session")
def bpe_tokenizer_directory(tmp_path_factory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("bpe") / "tokenizer", kind="bpe")


CLASSIC = ModelConfig(
    vocab_size=700,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=64,
    position="learned",
    norm="post",
    feed_forward="gelu",
    use_bias=True,
    token_types=2,
    next_sentence=True,
    norm_epsilon=1e-12,
    dropout=0.1,
    attention_dropout=0.2,
    initializer_range=0.02,
    local_attention=0,
    global_every=1,
    rope_theta=160_000.0,
    local_rope_theta=10_000.0,
    compute_dtype="float32",
)
MODERN = dataclasses.replace(
    CLASSIC,
    num_hidden_layers=4,
    position="rotary",
    norm="pre",
    feed_forward="geglu",
    use_bias=False,
    token_types=0,
    next_sentence=False,
    norm_epsilon=1e-5,
    local_attention=32,
    global_every=3,
    rope_theta=80_000.0,
    local_rope_theta=5_000.0,
)
MODELS = {
    "BertForPreTraining": CLASSIC,
    "BertForMaskedLM": dataclasses.replace(CLASSIC, next_sentence=False),
    "ModernBertForMaskedLM": MODERN,
}


@pytest.fixture(params=MODELS)
def model_config(request) -> ModelConfig:
    return MODELS[request.param]


@pytest.fixture(params=["BertForPreTraining", "ModernBertForMaskedLM"])
def family(request) -> ModelConfig:
    return MODELS[request.param]


@pytest.fixture
def classic() -> ModelConfig:
    return CLASSIC


@pytest.fixture
def modern() -> ModelConfig:
    return MODERN


@pytest.fixture(scope="session")
def redrawn():
    """Parameters of a config that all differ: no zero bias, no norm scale of one."""

    def draw(config: ModelConfig):
        random = np.random.default_rng(0)
        return jax.tree.map(
            lambda leaf: (0.3 * random.standard_normal(leaf.shape)).astype(np.float32),
            abstract(config)[1],
        )

    return draw
