"""The exported tokenizer gives the ids that the model was trained on."""

import random
import unicodedata
from pathlib import Path

import pytest
import sentencepiece
import tokenizers
from tokenizers import normalizers

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.interop.sentencepiece_twin import convert, equally_likely
from bert_jax.interop.tokenizer_check import SAMPLES, check
from bert_jax.interop.tokenizers import export

KINDS = ["tokenizer_directory", "lowercase_tokenizer_directory", "bpe_tokenizer_directory"]


@pytest.fixture(params=KINDS)
def directory(request):
    return request.getfixturevalue(request.param)


def test_ids_are_equal_on_the_samples_and_on_random_cuts_of_them(directory, tmp_path):
    exported = export(directory, tmp_path, max_length=64, token_types=True)
    trained = load_tokenizer(directory)
    text = " ".join(sample[:200] for sample in SAMPLES)
    draw = random.Random(0)
    starts = [draw.randrange(len(text)) for _ in range(500)]
    cuts = [text[start : start + draw.randrange(60)] for start in starts]
    found = exported.encode_batch(cuts, add_special_tokens=False)
    for cut, ids, encoding in zip(cuts, trained.encode(cuts), found, strict=True):
        # A cut inside a cluster may leave a mark after a compatibility form (see `_normalizer`).
        if not any(unicodedata.combining(c) for c in cut):
            assert encoding.ids == list(ids), cut


def test_special_pieces_in_text_stand_for_themselves(directory, tmp_path):
    exported = export(directory, tmp_path, max_length=64, token_types=True)
    trained = load_tokenizer(directory)
    text = "The module [MASK] , or un[MASK]able [MASK][MASK]; [SEP] the end [MASK]"
    ids = exported.encode(text, add_special_tokens=False).ids
    assert ids == list(trained.encode_with_specials(text))
    assert ids.count(trained.vocabulary.mask_id) == 5


def test_auto_tokenizer_frames_pairs_pads_and_decodes(directory, tmp_path):
    transformers = pytest.importorskip("transformers")
    export(directory, tmp_path, max_length=64, token_types=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    trained = load_tokenizer(directory)
    first, second = "the first sentence", "and a second one"
    batch = tokenizer([(first, second), (first, first)], padding=True)
    a, b = (list(ids) for ids in trained.encode([first, second]))
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [
        *range(5)
    ]
    padding = max(0, len(a) - len(b))
    assert batch["input_ids"][0] == [2, *a, 3, *b, 3] + [0] * padding
    assert batch["token_type_ids"][0] == [0] * (len(a) + 2) + [1] * (len(b) + 1) + [0] * padding
    assert batch["attention_mask"][0] == [1] * (len(a) + len(b) + 3) + [0] * padding
    assert tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True) == f"{first} {second}"
    assert tokenizer.model_max_length == 64
    assert len(tokenizer("word " * 100, truncation=True)["input_ids"]) == 64
    assert (tokenizer.mask_token, tokenizer.unk_token_id) == ("[MASK]", 1)


def test_words_that_come_one_by_one_keep_their_places(tokenizer_directory, tmp_path):
    """Tagging gives words, and needs to know which tokens came from which."""
    transformers = pytest.importorskip("transformers")
    export(tokenizer_directory, tmp_path, max_length=64, token_types=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    words = ["import", "unbelievable", "modules", "."]
    encoding = tokenizer(words, is_split_into_words=True, add_special_tokens=False)
    trained = load_tokenizer(tokenizer_directory)
    parts = [list(ids) for ids in trained.encode(words)]
    assert encoding["input_ids"] == [id for part in parts for id in part]
    assert encoding.word_ids() == [i for i, part in enumerate(parts) for _ in part]


def test_equally_likely_cuts_of_a_text_are_both_right(tokenizer_directory, tmp_path):
    exported = export(tokenizer_directory, tmp_path, max_length=64, token_types=True)
    pieces = exported.get_vocab()
    twice, once = next((id, pieces[p[0]]) for p, id in pieces.items() if p[0] * 2 == p)
    assert equally_likely(exported, [twice, once], [once, twice])
    assert not equally_likely(exported, [once, once], [twice])  # another probability
    assert not equally_likely(exported, [once, 10], [10, once])  # another text


def test_a_difference_is_found(tokenizer_directory, lowercase_tokenizer_directory):
    trained = load_tokenizer(tokenizer_directory)
    other = lowercase_tokenizer_directory / "sentencepiece.model"
    with pytest.raises(UserError, match="in another way than the training tokenizer"):
        check(convert(other.read_bytes(), trained.vocabulary, "other"), trained)


def train(directory: Path, **settings) -> Path:
    """A model as a user may bring it, in a new directory."""
    directory.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SAMPLES[:4] * 5),
        model_prefix=str(directory / "sentencepiece"),
        vocab_size=600,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
        **settings,
    )
    load_tokenizer(directory).vocabulary.save(directory)
    return directory


def test_user_defined_symbols_give_equal_ids_or_a_refusal(tmp_path):
    """Merges do not make "<url>": a BPE model in the other library reads its characters."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    symbols = {"user_defined_symbols": ["<url>"], "control_symbols": specials}
    directory = train(tmp_path / "tokenizer", model_type="bpe", **symbols)
    with pytest.raises(UserError, match=r"reads '<url>' in another way"):
        export(directory, tmp_path, max_length=64, token_types=True)


def test_real_lines_are_compared_too(tokenizer_directory, lowercase_tokenizer_directory):
    trained = load_tokenizer(tokenizer_directory)
    model = (tokenizer_directory / "sentencepiece.model").read_bytes()
    exported = convert(model, trained.vocabulary, "same")
    check(exported, trained, ["a zebra of text", "می\u200cروم"])
    exported.normalizer = normalizers.Sequence(
        [exported.normalizer, normalizers.Replace("zebra", "cobra")]
    )
    with pytest.raises(UserError, match="'a zebra of text' in another way"):
        check(exported, trained, ["a zebra of text"])


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_models_that_fall_back_to_bytes_and_have_their_own_names(model_type, tmp_path):
    transformers = pytest.importorskip("transformers")
    directory = train(
        tmp_path / "tokenizer",
        model_type=model_type,
        byte_fallback=True,
        pad_id=3,
        pad_piece="<pad>",
        control_symbols=["<mask>"],
    )
    export(directory, tmp_path, max_length=64, token_types=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("a <mask> \U0001f40d")["input_ids"]
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert (pieces[0], pieces[-1], pieces.count("<mask>")) == ("<s>", "</s>", 1)
    assert pieces[-6:-1] == ["\u2581", "<0xF0>", "<0x9F>", "<0x90>", "<0x8D>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a \U0001f40d"


def test_another_kind_of_model_is_refused(tmp_path):
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    directory = train(tmp_path / "tokenizer", model_type="char", control_symbols=specials)
    with pytest.raises(UserError, match="neither a unigram nor a BPE model"):
        export(directory, tmp_path, max_length=64, token_types=True)


def test_the_file_is_the_same_every_time(tokenizer_directory, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        export(tokenizer_directory, tmp_path / name, max_length=64, token_types=False)
    files = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    assert tokenizers.Tokenizer.from_buffer(files[0]).get_vocab_size() == 700
