import dataclasses
import json
import re

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers import wordpiece
from bert_jax.corpus.tokenizers.base import is_unspaced_utf8
from bert_jax.corpus.tokenizers.hugging_face import HuggingFaceTokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.corpus.tokenizers.settings import TokenizerSettings
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.corpus.tokenizers.wordpiece import open_vocabulary
from tests.corpus.corpora import build_store, documents, tiny_config, write_text

SETTINGS = TokenizerSettings(
    kind="wordpiece",
    path="",
    vocab_size=300,
    lowercase=False,
    character_coverage=1.0,
    sample_bytes=1_000_000,
)
PARAGRAPHS = [paragraph for document in documents(100) for paragraph in document]
VOCABULARY = [
    *("[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", ".", "[", "]"),
    *("un", "##aff", "##able", "the", "river", "Mask", "mask", "\u6cb3", "##ing"),
]


@pytest.fixture
def vocabulary_file(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return path


def pieces(tokenizer, text):
    return [tokenizer.piece(int(id)) for id in tokenizer.encode([text])[0]]


def test_a_bert_vocabulary_is_used_as_bert_does(vocabulary_file):
    tokenizer = open_vocabulary(vocabulary_file, lowercase=True)
    assert pieces(tokenizer, "The UNaffable river!") == [
        "the",
        "un",
        "##aff",
        "##able",
        "river",
        "!",
    ]
    assert pieces(tokenizer, "\u6cb3\u6cb3 caf\u00e9") == ["\u6cb3", "\u6cb3", "[UNK]"]
    assert pieces(tokenizer, "[MASK].") == ["[", "mask", "]", "."]
    vocabulary = tokenizer.vocabulary
    assert (vocabulary.unk_id, vocabulary.cls_id, vocabulary.mask_id) == (3, 4, 6)
    assert np.flatnonzero(vocabulary.is_special).tolist() == [0, 1, 2, 3, 4, 5, 6]
    starts = [VOCABULARY[id] for id in np.flatnonzero(vocabulary.starts_word)]
    assert starts == [piece for piece in VOCABULARY[7:] if not piece.startswith("##")]
    asked = tokenizer.encode_with_specials("the [MASK].").tolist()
    assert asked == [VOCABULARY.index(piece) for piece in ("the", "[MASK]", ".")]
    assert (
        tokenizer.decode(tokenizer.encode(["unaffable river!"])[0].tolist()) == "unaffable river!"
    )


def test_an_uncased_vocabulary_is_not_used_on_cased_text(tmp_path, vocabulary_file):
    open_vocabulary(vocabulary_file, lowercase=False)
    vocabulary_file.write_text("\n".join(piece for piece in VOCABULARY if piece != "Mask"))
    with pytest.raises(
        UserError, match=r"vocab\.txt .* uncased vocabulary, set config.tokenizer.low"
    ):
        open_vocabulary(vocabulary_file, lowercase=False)
    vocabulary_file.write_text("the\nriver\n")
    with pytest.raises(UserError, match=r"vocab\.txt has no token \[PAD\] or <pad>"):
        open_vocabulary(vocabulary_file, lowercase=True)


def test_wordpiece_is_trained_and_saved(tmp_path):
    tokenizer = wordpiece.train(PARAGRAPHS, SETTINGS)
    assert [tokenizer.piece(id) for id in range(5)] == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
    ]
    assert tokenizer.vocab_size == 300
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert Vocabulary.load(tmp_path).size == 300
    for mine, theirs in zip(loaded.encode(PARAGRAPHS), tokenizer.encode(PARAGRAPHS), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert wordpiece.train(PARAGRAPHS, SETTINGS).fingerprint == tokenizer.fingerprint
    large = dataclasses.replace(SETTINGS, vocab_size=30_000)
    with pytest.raises(UserError, match=r"vocab_size=30000: its text gives at most \d+ tokens"):
        wordpiece.train(PARAGRAPHS, large)
    small = dataclasses.replace(SETTINGS, vocab_size=60)
    with pytest.raises(UserError, match=r"vocab_size=60 is too small: the characters .* need \d+"):
        wordpiece.train(PARAGRAPHS, small)


def test_wordpiece_is_trained_on_lower_case():
    settings = dataclasses.replace(SETTINGS, lowercase=True)
    tokenizer = wordpiece.train(PARAGRAPHS, settings)
    assert not any(re.search("[A-Z]", tokenizer.piece(id)) for id in range(5, 300))
    text = PARAGRAPHS[0]
    ids = tokenizer.encode([text])[0]
    assert ids.tolist() == tokenizer.encode([text.upper()])[0].tolist()
    assert tokenizer.vocabulary.unk_id not in ids
    letters = "".join(text.lower().split())
    assert "".join(tokenizer.decode(ids.tolist()).split()) == letters


def byte_level(path, texts=PARAGRAPHS, vocab_size=400):
    """A tokenizer as GPT-2, RoBERTa and ModernBERT have them."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.enable_truncation(8)
    tokenizer.save(str(path))
    return path


def test_a_byte_level_tokenizer_json_is_used(tmp_path):
    ours = HuggingFaceTokenizer.open(byte_level(tmp_path / "tokenizer.json"))
    text = " ".join(["the [MASK] town of stone"] * 4)
    ids = ours.encode([text])[0]
    assert len(ids) > 8  # truncation is not for a corpus
    assert ours.vocabulary.mask_id not in ids
    words = [ours.piece(int(id)) for id in ids[ours.vocabulary.starts_word[ids]]]
    assert len(words) == 19  # all but the very first, which no space marks
    assert all(piece.startswith("\u0120") for piece in words)


CHARACTERS = "河流市場石橋北方人民年建造多房屋"
CHINESE = ["".join(CHARACTERS[i * k % 16] for i in range(30)) for k in range(1, 12)]


@pytest.mark.parametrize("vocab_size", [261, 275, 320])
def test_byte_level_pieces_begin_words_where_characters_without_spaces_begin(tmp_path, vocab_size):
    path = byte_level(tmp_path / "tokenizer.json", CHINESE * 20, vocab_size)
    ours = HuggingFaceTokenizer.open(path)
    for text in CHINESE:
        at = 0  # in the bytes of the text
        borders = {len(text[:end].encode()) for end in range(len(text))}
        for id in ours.encode([text])[0]:
            assert ours.vocabulary.starts_word[id] == (at in borders)
            at += len(ours.piece(int(id)))  # a character a byte
        assert at == len(text.encode())


@pytest.mark.parametrize(
    ("piece", "starts"),
    [
        ("\u6cb3\u6d41".encode(), True),
        ("\u6cb3".encode()[:1], True),
        ("\u6cb3".encode()[1:], False),
        ("\u0e01".encode(), True),  # Thai
        ("\u0e01".encode()[:2], True),
        ("\u1ebf".encode()[:1], False),  # Vietnamese: in the middle of words
        ("\u0915".encode()[:2], False),  # Hindi
        ("caf\u00e9".encode(), False),
        (b"\xff", False),
        (b"\xed", False),  # Korean
        (b"", False),
    ],
)
def test_the_first_bytes_of_a_character_tell_its_script(piece, starts):
    assert is_unspaced_utf8(piece) == starts


def test_every_word_of_a_byte_level_store_has_a_beginning(tmp_path):
    texts = documents(60)
    path = byte_level(tmp_path / "tokenizer.json")
    config = tiny_config(f"text:{write_text(tmp_path / 'a.txt', texts)}", tokenizer_path=str(path))
    store = build_store(config, tmp_path / "store")
    starts = store.vocabulary.starts_word
    words = []
    for split in ("train", "heldout"):
        (shard,) = store.split(split).shards
        borders = zip(shard.document_offsets[:-1] + 1, shard.document_offsets[1:] - 1, strict=True)
        found = [shard.tokens[begin:end] for begin, end in borders]
        # Nothing stands before the first word, as in text that a model is asked about.
        assert not any(starts[ids[0]] for ids in found)
        words += [1 + int(starts[ids].sum()) for ids in found]
    assert sorted(words) == sorted(len(" ".join(text).split()) for text in texts)


def test_a_tokenizer_json_can_be_used_on_lower_case(tmp_path):
    path = byte_level(tmp_path / "tokenizer.json")
    cased, uncased = (HuggingFaceTokenizer.open(path, lowercase) for lowercase in (False, True))
    (expected,) = cased.encode(["the old caf\u00e9"])
    assert uncased.encode(["THE Old CAF\u00c9"])[0].tolist() == expected.tolist()
    uncased.save(tmp_path)
    assert load_tokenizer(tmp_path).encode(["THE Old CAF\u00c9"])[0].tolist() == expected.tolist()


def test_ids_beyond_two_bytes_are_stored_in_four(tmp_path):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    names = [*special, *(f"word{i}" for i in range(70_000))]
    tokenizer = tokenizers.Tokenizer(
        models.WordLevel({name: id for id, name in enumerate(names)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    numbers = [[69_999 - i, i] for i in range(60)]
    texts = [[f"word{a} word{b}"] for a, b in numbers]
    config = tiny_config(
        f"text:{write_text(tmp_path / 'a.txt', texts)}",
        tokenizer_path=str(tmp_path / "tokenizer.json"),
    )
    store = build_store(config, tmp_path / "store")
    shards = [store.split(split).shards[0] for split in ("train", "heldout")]
    assert {shard.tokens.dtype for shard in shards} == {np.dtype(np.uint32)}
    found = [shard.tokens.reshape(-1, 4)[:, 1:3].astype(int) - 5 for shard in shards]
    assert sorted(np.concatenate(found).tolist()) == sorted(numbers)


def test_all_missing_special_pieces_are_named(tmp_path):
    tokenizers.Tokenizer(models.BPE({"a": 0, "<s>": 1}, [])).save(str(tmp_path / "t.json"))
    missing = r"\[PAD\] or <pad>, and no \[UNK\] or <unk>, and no \[SEP\] or .*, and no \[MASK\] or"
    with pytest.raises(UserError, match=rf"t\.json has no token {missing}"):
        HuggingFaceTokenizer.open(tmp_path / "t.json")


def test_what_is_no_tokenizer_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": 3}))
    with pytest.raises(UserError, match=r"tokenizer\.json is not a tokenizer.json"):
        HuggingFaceTokenizer.open(path)
    with pytest.raises(UserError, match=r"none\.txt is missing"):
        open_vocabulary(tmp_path / "none.txt", lowercase=False)
    with pytest.raises(UserError, match=r"kind='words': write one of unigram, bpe, wordpiece"):
        build_store(tiny_config("docs:", tokenizer_kind="words"), tmp_path / "store")


def test_stores_are_made_with_each_kind_of_tokenizer(tmp_path):
    source = f"text:{write_text(tmp_path / 'a.txt', documents(150))}"
    for kind in ("unigram", "bpe", "wordpiece"):
        made = build_store(tiny_config(source, tokenizer_kind=kind), tmp_path / kind)
        tokenizer = made.tokenizer_directory
        again = build_store(tiny_config(source, tokenizer_path=str(tokenizer)), tmp_path / "again")
        assert again.fingerprint == made.fingerprint
        (tmp_path / "again").rename(tmp_path / f"again-{kind}")
        assert made.manifest["splits"]["train"]["unknown"] == 0
