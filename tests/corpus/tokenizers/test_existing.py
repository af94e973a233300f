"""Existing tokenizers of all kinds, and text that they were not made for."""

# ruff: noqa: RUF001
import dataclasses
import io

import numpy as np
import pytest
import sentencepiece
import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers import normalization
from bert_jax.corpus.tokenizers.load import (
    TRAINERS,
    case_warnings,
    load_tokenizer,
    open_tokenizer,
    train_tokenizer,
)
from bert_jax.corpus.tokenizers.settings import TokenizerSettings

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
CHARACTERS = ["\u2581", *"abcxyz<>/[]smkupnd"]
SETTINGS = TokenizerSettings(
    kind="unigram",
    path="",
    vocab_size=60,
    lowercase=False,
    character_coverage=0.9995,
    sample_bytes=1_000_000,
)
PERSIAN = ["دوست می\u200cروم کتاب\u200cها", "شب می\u200cدانم ابر\u200cها", "نان می\u200cگویم"] * 20


def model_of(kind: str, *, unknown: bool = True):
    """A model of a few characters, its special tokens among its own."""
    names = [*SPECIAL, *CHARACTERS]
    ids = {name: id for id, name in enumerate(names)}
    unk = "<unk>" if unknown else None
    if kind == "unigram":
        scored = [(name, -1.0 if id >= 5 else 0.0) for id, name in enumerate(names)]
        return models.Unigram(scored, 3 if unknown else None, False)
    if kind == "bpe":
        word = ["<", "m", "a", "s", "k", ">"]
        merges = [("".join(word[:end]), word[end]) for end in range(1, 6)]
        parts = ["".join(word[:end]) for end in range(2, 6)]
        ids |= {part: len(ids) + i for i, part in enumerate(parts)}
        return models.BPE(ids, merges, unk_token=unk)
    if kind == "wordpiece":
        return models.WordPiece(ids, unk_token="<unk>" if unknown else "[none]")
    return models.WordLevel(ids, unk_token="<unk>" if unknown else "[none]")


def tokenizer_json(path, kind, *, added=True, unknown=True):
    tokenizer = tokenizers.Tokenizer(model_of(kind, unknown=unknown))
    if kind in ("unigram", "bpe"):
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if added:
        tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in SPECIAL])
    tokenizer.save(str(path))
    return path


KINDS = ["unigram", "bpe", "wordpiece", "wordlevel"]


@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_text_never_becomes_a_special_id_whatever_the_model(kind, added, tmp_path):
    tokenizer = open_tokenizer(tokenizer_json(tmp_path / "t.json", kind, added=added), False)
    known = tokenizer.vocabulary
    text = "a <mask> <s> </s><pad> b"
    ids = tokenizer.encode([text])[0]
    assert not np.isin(ids, [known.mask_id, known.cls_id, known.sep_id, known.pad_id]).any()
    asked = tokenizer.encode_with_specials(text)
    assert np.isin([known.mask_id, known.cls_id, known.sep_id, known.pad_id], asked).all()
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.encode([text])[0].tolist() == ids.tolist()
    assert loaded.fingerprint == tokenizer.fingerprint


def test_unused_names_that_are_added_tokens_are_not_read_from_text(tmp_path):
    tokenizer = tokenizers.Tokenizer(model_of("wordlevel"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens(["[unused0]", "http://"])
    tokenizer.save(str(tmp_path / "t.json"))
    ours = open_tokenizer(tmp_path / "t.json", False)
    assert [ours.piece(int(id)) for id in ours.encode(["[unused0] http:// a"])[0]] == [
        *("<unk>", "http://", "a")
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_characters_are_unknown_where_the_file_names_no_token_for_them(kind, tmp_path):
    path = tokenizer_json(tmp_path / "t.json", kind, unknown=False)
    tokenizer = open_tokenizer(path, False)
    ids = tokenizer.encode(["\u6cb3 \u6d41"])[0]
    assert np.count_nonzero(ids == tokenizer.vocabulary.unk_id) >= 1
    assert tokenizer.vocabulary.unk_id == 3


def trained(texts, **options) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, minloglevel=2, **options
    )
    return model.getvalue()


def test_what_sentencepiece_gives_for_unknown_text_is_the_unknown_token(tmp_path):
    """Also where the model has another token with the name of that role."""
    symbols = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    path = tmp_path / "a.model"
    path.write_bytes(trained(["ab ba abba"] * 9, user_defined_symbols=symbols, vocab_size=14))
    tokenizer = open_tokenizer(path, True)
    assert tokenizer.vocabulary.unk_id in tokenizer.encode(["\u6cb3"])[0]


@pytest.mark.parametrize(("kind", "size"), [("unigram", 28), ("bpe", 45), ("wordpiece", 70)])
def test_joiners_survive_to_the_ids_and_back(kind, size):
    settings = dataclasses.replace(SETTINGS, kind=kind, vocab_size=size)
    tokenizer = train_tokenizer([*PERSIAN, "क्\u200dष"], settings)
    for text in ["می\u200cروم", "ابر\u200cها شب", "क्\u200dष"]:
        ids = tokenizer.encode([text])[0]
        assert tokenizer.vocabulary.unk_id not in ids
        assert tokenizer.decode(ids.tolist()) == text


def test_text_without_joiners_gets_the_rules_of_sentencepiece():
    tokenizer = train_tokenizer(["a river bank"] * 50, dataclasses.replace(SETTINGS, vocab_size=15))
    stock = normalization.normalizer("nmt_nfkc", keep_joiners=False).serialized_model_proto()
    assert (
        normalization.sentencepiece_model.parse(
            tokenizer._model
        ).normalizer_spec.precompiled_charsmap
        == normalization.sentencepiece_model.parse(stock).normalizer_spec.precompiled_charsmap
    )


def test_the_rules_that_keep_joiners_change_nothing_else():
    for rule in ("nmt_nfkc", "nmt_nfkc_cf"):
        stock = normalization.normalizer(rule, keep_joiners=False)
        ours = normalization.normalizer(rule, keep_joiners=True)
        for first in (*range(0, 0x3000, 16), *range(0xF900, 0x10000, 16)):
            text = "".join(f"x{chr(code)}" for code in range(first, first + 16)) + "e\u0301"
            kept = text.replace("\u200c", "")
            assert ours.normalize(kept) == stock.normalize(kept)
        assert "a\u200cb" in ours.normalize("a\u200cb")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_the_mark_of_a_space_belongs_to_the_vocabulary_of_very_long_words(kind):
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("acgt"), 3000)) for _ in range(4)]
    tokenizer = train_tokenizer(texts, dataclasses.replace(SETTINGS, kind=kind, vocab_size=14))
    assert "\u2581" in [tokenizer.piece(id) for id in range(14)]
    assert tokenizer.vocabulary.unk_id not in tokenizer.encode([texts[0]])[0]


def vocab_txt(path, *tokens):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tokens]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(names) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-16", r"vocab\.txt is UTF-16: save it as UTF-8"),
        ("utf-32", r"vocab\.txt is UTF-32: save it as UTF-8"),
        ("utf-16-le", r"vocab\.txt holds NUL bytes, as UTF-16 does"),
        ("latin-1", r"vocab\.txt is not UTF-8: the byte 0xE9 in line 6"),
    ],
)
def test_vocabularies_in_other_encodings_are_refused(encoding, message, tmp_path):
    path = vocab_txt(tmp_path / "vocab.txt", "caf\u00e9")
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    with pytest.raises(UserError, match=message):
        open_tokenizer(path, True)


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = vocab_txt(tmp_path / "vocab.txt", "caf\u00e9")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert open_tokenizer(path, True).vocabulary.pad_id == 0


def test_a_directory_is_read_as_its_file_is(tmp_path):
    path = vocab_txt(tmp_path / "dir" / "vocab.txt", "the", "The", "River", "caf\u00e9", "cafe")
    for given in (path, path.parent):
        tokenizer = open_tokenizer(given, True)
        assert tokenizer.encode(["The"])[0].tolist() == [5]
        (warning,) = case_warnings(tokenizer, str(given))
        assert "2 tokens with upper-case letters" in warning
        assert "set config.tokenizer.lowercase=False" in warning
        for strip_accents, id in (("auto", 9), ("yes", 9), ("no", 8)):
            ours = open_tokenizer(given, True, strip_accents)
            assert ours.encode(["Caf\u00e9"])[0].tolist() == [id]
        assert open_tokenizer(given, False, "yes").encode(["caf\u00e9"])[0].tolist() == [9]
    assert not case_warnings(open_tokenizer(vocab_txt(path, "the", "river"), True), "vocab.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds none of tokenizer\.json, .*vocab\.txt"):
        open_tokenizer(tmp_path / "empty", True)


def test_a_directory_with_a_tokenizer_json_is_made_lower_case_too(tmp_path):
    path = tokenizer_json(tmp_path / "tokenizer.json", "wordpiece")
    expected = open_tokenizer(path, True).encode(["A"])[0].tolist()
    assert open_tokenizer(tmp_path, True).encode(["A"])[0].tolist() == expected == [6]
    (tmp_path / "run").mkdir()
    opened = open_tokenizer(path, True)
    opened.save(tmp_path / "run")
    assert open_tokenizer(tmp_path / "run", True).fingerprint == opened.fingerprint


def test_sentencepiece_does_not_strip_accents():
    with pytest.raises(UserError, match="strip_accents='yes': sentencepiece tokenizers keep"):
        train_tokenizer(["a b"], dataclasses.replace(SETTINGS, strip_accents="yes"))


def test_a_model_of_text_in_lower_case_is_loaded_as_it_was_trained(tmp_path):
    texts = ["the quick brown fox jumps over the lazy dog"] * 20
    tokenizer = train_tokenizer(texts, dataclasses.replace(SETTINGS, vocab_size=33))
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint


def test_training_says_what_it_does_at_once(capsys):
    train_tokenizer(["ab ba"] * 20, dataclasses.replace(SETTINGS, kind="bpe", vocab_size=9))
    assert capsys.readouterr().err.startswith("training a bpe tokenizer of 9 tokens on 100 char")
    assert set(TRAINERS) == {"unigram", "bpe", "wordpiece"}
