"""Tokenizers of the `tokenizers` library are exported as they are, framed for BERT."""

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers, processors, trainers

from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.hugging_face import HuggingFaceTokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.interop.tokenizer_check import SAMPLES
from bert_jax.interop.tokenizers import export

transformers = pytest.importorskip("transformers")

TEXTS = [
    *SAMPLES,
    "Zoë's naïve café in Ångström Straße: 12,5 %, e\u0301te\u0301",
    "维基百科是一个自由内容的网络百科全书。臺灣與香港使用繁體字",
    "the 👨‍👩‍👧 statement 👍🏽 is used 🇩🇪.",
]
DIRECTORIES = ["wordpiece_directory", "vocabulary_directory", "byte_level_directory"]


@pytest.fixture(params=[*DIRECTORIES, "re_imported_directory"])
def directory(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def re_imported_directory(tokenizer_directory, tmp_path) -> Path:
    """What `export` made of a sentencepiece model, brought back as a `tokenizer.json`."""
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    export(tokenizer_directory, tmp_path / "first", max_length=64, token_types=True)
    brought = HuggingFaceTokenizer.open(tmp_path / "first" / "tokenizer.json")
    brought.save(tmp_path / "second")
    return tmp_path / "second"


def exported(directory: Path, out: Path, **settings):
    out.mkdir()
    export(directory, out, **{"max_length": 64, "token_types": True, **settings})
    return transformers.AutoTokenizer.from_pretrained(out)


def framed(trained: Tokenizer, ids) -> list[int]:
    return [trained.vocabulary.cls_id, *map(int, ids), trained.vocabulary.sep_id]


def test_auto_tokenizer_gives_the_ids_of_training(directory, tmp_path):
    tokenizer = exported(directory, tmp_path / "out")
    trained = load_tokenizer(directory)
    for text, ids in zip(TEXTS, trained.encode(TEXTS), strict=True):
        assert tokenizer(text)["input_ids"] == framed(trained, ids), text


def test_masks_in_text_take_the_space_before_them(directory, tmp_path):
    tokenizer = exported(directory, tmp_path / "out")
    trained = load_tokenizer(directory)
    text = "The module  [MASK] , or un[MASK]able [MASK][MASK]; the end [MASK]"
    ids = trained.encode_with_specials(text)
    assert tokenizer(text)["input_ids"] == framed(trained, ids)
    assert list(ids).count(trained.vocabulary.mask_id) == 5
    [plain] = trained.encode(["The module"])
    assert list(ids[: len(plain) + 1]) == [*plain, trained.vocabulary.mask_id]
    tokenizer.save_pretrained(tmp_path / "again")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_pairs_are_framed_padded_and_cut(directory, tmp_path):
    tokenizer = exported(directory, tmp_path / "out")
    trained = load_tokenizer(directory)
    first, second = "the first sentence", "and a second one"
    a, b = (ids.tolist() for ids in trained.encode([first, second]))
    batch = tokenizer([(first, second), (first, "and a second one, much longer")], padding=True)
    padding = len(batch["input_ids"][1]) - len(a) - len(b) - 3
    sep, pad = trained.vocabulary.sep_id, trained.vocabulary.pad_id
    assert padding > 0
    assert batch["input_ids"][0] == [*framed(trained, a), *b, sep] + [pad] * padding
    assert batch["token_type_ids"][0] == [0] * (len(a) + 2) + [1] * (len(b) + 1) + [0] * padding
    assert batch["attention_mask"][0] == [1] * (len(a) + len(b) + 3) + [0] * padding
    assert tokenizer.decode(a) == trained.decode(a) == first
    assert (tokenizer.model_max_length, tokenizer.padding_side) == (64, "right")
    assert len(tokenizer("word " * 100, truncation=True)["input_ids"]) == 64
    assert tokenizer.mask_token_id == trained.vocabulary.mask_id
    assert tokenizer.unk_token_id == trained.vocabulary.unk_id


def test_a_tokenizer_with_ways_of_its_own_is_framed_for_bert(tmp_path):
    """One such as RoBERTa's: other names, a space before the text, truncation and padding."""
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    brought = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    brought.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[AddedToken(name, normalized=True) for name in names],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    brought.train_from_iterator(SAMPLES[:2], trainer)
    brought.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    brought.enable_truncation(8)
    brought.enable_padding(direction="left", pad_id=1, pad_token="<pad>", length=8)
    brought.save(str(tmp_path / "brought.json"))
    trained = HuggingFaceTokenizer.open(tmp_path / "brought.json")
    trained.save(tmp_path)
    tokenizer = exported(tmp_path, tmp_path / "out", token_types=False)
    text = "The quick <mask> fox jumps over the lazy dog, 维基百科 👍🏽"
    ids = trained.encode_with_specials(text)
    found = tokenizer(text, "and a pair")
    assert list(found) == ["input_ids", "attention_mask"]
    pair = [*framed(trained, ids), *trained.encode(["and a pair"])[0], 2]
    assert found["input_ids"] == pair
    assert tokenizer.convert_ids_to_tokens(pair[1]).startswith("\u0120")
    assert trained.decode(ids.tolist()) == text.replace(" <mask>", "")
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert config["add_prefix_space"] is True


def test_ids_without_a_piece_are_no_text(tmp_path):
    pieces = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 9, "the": 5, "##m": 7}
    brought = tokenizers.Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    brought.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    brought.save(str(tmp_path / "brought.json"))
    trained = HuggingFaceTokenizer.open(tmp_path / "brought.json")
    trained.save(tmp_path)
    tokenizer = exported(tmp_path, tmp_path / "out")
    assert trained.encode_with_specials("the [MASK] them").tolist() == [5, 9, 5, 7]
    assert tokenizer("them the[MASK]")["input_ids"] == [2, 5, 7, 5, 9, 3]
    assert trained.decode([5, 7]) == tokenizer.decode([5, 7]) == "them"


def test_the_file_is_the_same_every_time(directory, tmp_path):
    exported(directory, tmp_path / "a")
    exported(directory, tmp_path / "b")
    files = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
