"""Small tokenizers, and models of both families."""

import dataclasses
from pathlib import Path
from pydoc_data.topics import topics

import jax
import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from bert_jax.corpus.tokenizers.hugging_face import HuggingFaceTokenizer
from bert_jax.corpus.tokenizers.load import TRAINERS
from bert_jax.corpus.tokenizers.settings import TokenizerSettings
from bert_jax.corpus.tokenizers.wordpiece import open_vocabulary
from bert_jax.model import ModelConfig, abstract
from tests import architectures

CHINESE = "维基百科是一个自由内容的网络百科全书。臺灣與香港使用繁體字、中国大陆使用简体字。"


def paragraphs() -> list[str]:
    texts = [line for text in list(topics.values())[:25] for line in text.split("\n") if line]
    return [*texts, *[CHINESE] * 5]


def make_tokenizer(directory: Path, *, kind: str = "unigram", lowercase: bool = False) -> Path:
    """A tokenizer of 700 pieces, in a new directory."""
    settings = TokenizerSettings(
        kind=kind,
        path="",
        vocab_size=700,
        lowercase=lowercase,
        character_coverage=1.0,
        sample_bytes=1_000_000,
    )
    directory.mkdir(parents=True)
    TRAINERS[kind](paragraphs(), settings).save(directory)
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


@pytest.fixture(scope="session")
def wordpiece_directory(tmp_path_factory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("wordpiece") / "tokenizer", kind="wordpiece")


@pytest.fixture(scope="session")
def vocabulary_directory(tmp_path_factory, wordpiece_directory) -> Path:
    """An uncased `vocab.txt` that is laid out as those published with BERT."""
    directory = tmp_path_factory.mktemp("vocabulary")
    pieces = HuggingFaceTokenizer.open(wordpiece_directory / "tokenizer.json")
    ordinary = [pieces.piece(id) for id in range(5, 700)]
    first = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    lines = [*first, *(piece for piece in ordinary if piece == piece.lower())]
    (directory / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    open_vocabulary(directory / "vocab.txt", lowercase=True).save(directory)
    return directory


@pytest.fixture(scope="session")
def byte_level_directory(tmp_path_factory) -> Path:
    """A byte-level BPE model such as ModernBERT's, brought as a `tokenizer.json`."""
    directory = tmp_path_factory.mktemp("bytes")
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(paragraphs(), trainer)
    tokenizer.save(str(directory / "brought.json"))
    HuggingFaceTokenizer.open(directory / "brought.json").save(directory)
    return directory


CLASSIC = dataclasses.replace(
    architectures.CLASSIC,
    vocab_size=700,
    hidden_size=16,
    num_attention_heads=2,
    intermediate_size=24,
    attention_dropout=0.2,
)
MODERN = dataclasses.replace(
    architectures.MODERN,
    vocab_size=700,
    hidden_size=16,
    num_attention_heads=2,
    intermediate_size=24,
    num_hidden_layers=4,
    dropout=0.1,
    attention_dropout=0.2,
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
