import dataclasses
import io
import string

import numpy as np
import pytest
import sentencepiece

import bert_jax.corpus.tokenizers.sentencepiece as sentencepiece_tokenizer
from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.corpus.tokenizers.sentencepiece import SentencePieceTokenizer
from bert_jax.corpus.tokenizers.settings import TokenizerSettings
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from tests.corpus.corpora import documents

SETTINGS = TokenizerSettings(
    kind="unigram",
    path="",
    vocab_size=200,
    lowercase=False,
    character_coverage=1.0,
    sample_bytes=1_000_000,
)
PARAGRAPHS = [paragraph for document in documents(100) for paragraph in document]


@pytest.fixture(scope="module")
def tokenizer():
    return sentencepiece_tokenizer.train(PARAGRAPHS, SETTINGS)


def pieces(tokenizer, ids):
    return [tokenizer.piece(int(id)) for id in ids]


def test_special_pieces_are_the_first_five(tokenizer):
    vocabulary = tokenizer.vocabulary
    assert pieces(tokenizer, range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert [vocabulary.pad_id, vocabulary.unk_id, vocabulary.cls_id] == [0, 1, 2]
    assert [vocabulary.sep_id, vocabulary.mask_id, vocabulary.size] == [3, 4, 200]
    assert np.flatnonzero(vocabulary.is_special).tolist() == [0, 1, 2, 3, 4]


def test_text_is_encoded_and_decoded(tokenizer):
    texts = ["The old river town.", "Stone bridge", ""]
    assert [tokenizer.decode(ids.tolist()) for ids in tokenizer.encode(texts)] == texts


def test_words_start_where_a_space_was(tokenizer):
    ids = tokenizer.encode(["The river bridge."])[0]
    starts = tokenizer.vocabulary.starts_word[ids]
    assert int(starts.sum()) == 3
    assert starts[0]


def test_pieces_of_scripts_without_spaces_are_words_of_their_own():
    characters = "河流市場石橋北方人民年年建造多房屋"
    texts = [f"{characters[i % 17]}{characters[i * 5 % 17]} a" for i in range(200)]
    settings = dataclasses.replace(SETTINGS, vocab_size=25)
    tokenizer = sentencepiece_tokenizer.train(texts, settings)
    ids = [id for id in range(25) if tokenizer.piece(id) in characters]
    assert ids
    assert tokenizer.vocabulary.starts_word[ids].all()


def test_special_pieces_in_text_are_text_unless_asked_for(tokenizer):
    text = "The old [MASK]. Stone [MASK]s"
    mask = tokenizer.vocabulary.mask_id
    assert mask not in tokenizer.encode([text])[0]
    ids = tokenizer.encode_with_specials(text)
    assert pieces(tokenizer, ids).count("[MASK]") == 2
    where = np.flatnonzero(ids == mask)
    assert tokenizer.piece(int(ids[where[0] + 1])) == "."  # not "▁.": no space was there
    assert not tokenizer.vocabulary.starts_word[ids[where[1] + 1]]
    assert tokenizer.decode(ids[: where[0]].tolist()) == "The old"


def test_encoding_with_specials_is_encoding_where_there_are_none(tokenizer):
    ids = tokenizer.encode_with_specials("The old river")
    np.testing.assert_array_equal(ids, tokenizer.encode(["The old river"])[0])
    assert len(tokenizer.encode_with_specials("  ")) == 0


def test_saving_and_loading_keeps_everything(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    vocabulary = Vocabulary.load(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert vocabulary.token_dtype == np.uint16
    for field in dataclasses.fields(Vocabulary):
        np.testing.assert_array_equal(
            getattr(vocabulary, field.name), getattr(tokenizer.vocabulary, field.name)
        )


def test_training_gives_the_same_bytes_again(tokenizer):
    again = sentencepiece_tokenizer.train(PARAGRAPHS, SETTINGS)
    assert again.fingerprint == tokenizer.fingerprint


def test_lower_case_is_a_setting():
    settings = dataclasses.replace(SETTINGS, lowercase=True)
    tokenizer = sentencepiece_tokenizer.train(PARAGRAPHS, settings)
    assert tokenizer.decode(tokenizer.encode(["The OLD River"])[0].tolist()) == "the old river"


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_vocabulary_larger_than_the_text_gives_is_refused_with_the_largest_that_fits(kind):
    settings = dataclasses.replace(SETTINGS, kind=kind, vocab_size=30_000)
    with pytest.raises(UserError, match=r"vocab_size=30000.*at most (\d+) tokens") as error:
        sentencepiece_tokenizer.train(PARAGRAPHS, settings)
    largest = int(str(error.value).split("at most ")[1].split()[0])
    settings = dataclasses.replace(settings, vocab_size=largest)
    assert sentencepiece_tokenizer.train(PARAGRAPHS, settings).vocab_size == largest


def test_byte_fallback_leaves_nothing_unknown():
    settings = dataclasses.replace(SETTINGS, kind="bpe", vocab_size=500, byte_fallback=True)
    tokenizer = sentencepiece_tokenizer.train(PARAGRAPHS, settings)
    ids = tokenizer.encode(["river \u6f22"])[0]
    assert tokenizer.vocabulary.unk_id not in ids
    assert tokenizer.decode(ids.tolist()) == "river \u6f22"
    starts = tokenizer.vocabulary.starts_word[tokenizer.encode(["\u6f22\u6f22"])[0]]
    assert starts.tolist() == [True, *[True, False, False] * 2]  # the space, and each character


def test_a_vocabulary_smaller_than_the_alphabet_is_refused():
    settings = dataclasses.replace(SETTINGS, vocab_size=20)
    with pytest.raises(UserError, match=r"vocab_size=20 is too small.*raise it"):
        sentencepiece_tokenizer.train(PARAGRAPHS, settings)


def trained(texts=PARAGRAPHS, **options):
    """A model of sentencepiece's own trainer with its defaults: <unk>, <s> and </s>."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=200, minloglevel=2, **options
    )
    return model.getvalue()


def test_a_model_for_lower_case_is_used_as_albert_does(tmp_path):
    lower = [text.lower() for text in [*PARAGRAPHS, *string.ascii_lowercase * 50]]
    model = trained(lower, control_symbols=["[CLS]", "[SEP]", "[MASK]"], pad_id=3)
    (tmp_path / "uncased.model").write_bytes(model)
    with pytest.raises(UserError, match=r"uncased\.model .* set config.tokenizer.lowercase=True"):
        SentencePieceTokenizer.open(tmp_path / "uncased.model")
    ours = SentencePieceTokenizer.open(tmp_path / "uncased.model", lowercase=True)
    plain = sentencepiece.SentencePieceProcessor(model_proto=model)
    for text in PARAGRAPHS[:20]:
        assert ours.encode([text])[0].tolist() == plain.encode(text.lower())
    ours.save(tmp_path)
    assert load_tokenizer(tmp_path).encode(["The OLD"])[0].tolist() == plain.encode("the old")


def test_special_pieces_that_users_defined_are_not_read_from_text(tmp_path):
    special = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    (tmp_path / "a.model").write_bytes(trained(user_defined_symbols=special))
    tokenizer = SentencePieceTokenizer.open(tmp_path / "a.model")
    mask = tokenizer.vocabulary.mask_id
    assert tokenizer.vocabulary.is_special[mask]
    assert mask not in tokenizer.encode(["a [MASK] b"])[0]
    assert mask in tokenizer.encode_with_specials("a [MASK] b")


def test_a_model_without_special_pieces_and_other_files_are_refused(tmp_path):
    (tmp_path / "plain.model").write_bytes(trained())
    (tmp_path / "other.model").write_bytes(b"no model")
    with pytest.raises(
        UserError,
        match=r"has no token \[PAD\] or <pad>, and no \[MASK\] or <mask>",
    ):
        SentencePieceTokenizer.open(tmp_path / "plain.model")
    with pytest.raises(UserError, match=r"other\.model is not a sentencepiece model"):
        SentencePieceTokenizer.open(tmp_path / "other.model")
    with pytest.raises(UserError, match=r"none\.model is missing"):
        SentencePieceTokenizer.open(tmp_path / "none.model")
