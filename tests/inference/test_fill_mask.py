"""Masks are filled as `transformers` fills them, and nothing is compiled twice."""

import jax
import pytest

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.inference import fill_mask as fill_mask_module
from bert_jax.inference.fill_mask import Prediction, fill_mask, readable
from bert_jax.interop.hugging_face import export

TEXTS = ["The [MASK] statement is used.", "An un[MASK]able [MASK] of a class", "[MASK]"]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory) -> Tokenizer:
    return load_tokenizer(tokenizer_directory)


@pytest.mark.parametrize(
    "directory", ["tokenizer_directory", "wordpiece_directory", "byte_level_directory"]
)
def test_predictions_are_those_of_the_pipeline(family, redrawn, directory, request, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    directory = request.getfixturevalue(directory)
    tokenizer = load_tokenizer(directory)
    params = redrawn(family)
    export(params, family, directory, tmp_path / "hf")
    pipeline = transformers.pipeline("fill-mask", model=str(tmp_path / "hf"), top_k=700)
    for text, ours in zip(TEXTS, fill_mask(params, family, tokenizer, TEXTS, top=3), strict=True):
        theirs = pipeline(text)
        theirs = [theirs] if isinstance(theirs[0], dict) else theirs
        assert len(ours) == len(theirs) == text.count("[MASK]")
        for predicted, all_scores in zip(ours, theirs, strict=True):
            # We never predict a special piece; the pipeline may.
            ordinary = [score for score in all_scores if score["token"] >= 5]
            share = sum(score["score"] for score in ordinary)
            pieces = [tokenizer.piece(score["token"]) for score in ordinary[:3]]
            assert [prediction.piece for prediction in predicted] == pieces
            shares = [score["score"] / share for score in ordinary[:3]]
            assert [p.probability for p in predicted] == pytest.approx(shares, rel=1e-3)


def test_a_text_gets_the_same_predictions_alone_and_among_others(classic, redrawn, tokenizer):
    params = redrawn(classic)
    many = [f"{'the ' * n} [MASK] indeed" for n in range(18)]
    together = fill_mask(params, classic, tokenizer, many)
    for text, expected in zip(many[::7], together[::7], strict=True):
        [[alone]] = fill_mask(params, classic, tokenizer, [text])
        assert [p.piece for p in alone] == [p.piece for p in expected[0]]
        assert alone[0].probability == pytest.approx(expected[0][0].probability, rel=1e-4)


def test_other_texts_compile_nothing_new(modern, redrawn, tokenizer):
    params = jax.device_put(redrawn(modern))
    fill_mask(params, modern, tokenizer, ["a [MASK] text"])
    compiled = fill_mask_module._most_probable._cache_size()
    for text in ("another [MASK]", "[MASK] and [MASK] and the rest of it", "one more [MASK] here"):
        fill_mask(params, modern, tokenizer, [text])
    assert fill_mask_module._most_probable._cache_size() == compiled


def test_probabilities_of_all_ordinary_pieces_sum_to_one(modern, redrawn, tokenizer):
    [[filled]] = fill_mask(redrawn(modern), modern, tokenizer, ["a [MASK]"], top=10_000)
    assert len(filled) == 695
    assert sum(prediction.probability for prediction in filled) == pytest.approx(1, abs=1e-5)
    assert not {"[PAD]", "[MASK]"} & {prediction.piece for prediction in filled}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no mask here", r"has no \[MASK\]"),
        ("", r"has no \[MASK\]"),
        ("word " * 80 + "[MASK]", "the model takes at most 64"),
    ],
)
def test_texts_that_cannot_be_filled_are_refused(classic, redrawn, tokenizer, text, message):
    with pytest.raises(UserError, match=message):
        fill_mask(redrawn(classic), classic, tokenizer, [text])


@pytest.mark.parametrize(
    ("directory", "spelled"),
    [
        ("tokenizer_directory", {"\u2581the": "the", "ing": "##ing", ".": ".", "\u2581": "\u2581"}),
        ("wordpiece_directory", {"the": "the", "##ing": "##ing", ".": ".", "百": "百"}),
        (
            "byte_level_directory",
            {"\u0120the": "the", "ing": "##ing", ".": ".", "\u0120": "\u0120", "\u00e7": "\u00e7"},
        ),
    ],
)
def test_pieces_of_every_family_are_spelled_alike(classic, redrawn, directory, spelled, request):
    tokenizer = load_tokenizer(request.getfixturevalue(directory))
    [[filled]] = fill_mask(redrawn(classic), classic, tokenizer, ["a [MASK]"], top=10_000)
    texts = {prediction.piece: prediction.text for prediction in filled}
    assert {piece: texts[piece] for piece in spelled} == spelled


def test_the_readable_form_has_a_line_for_each_mask():
    first = [Prediction("\u2581Paris", "Paris", 0.5), Prediction("ing", "##ing", 0.25)]
    second = [Prediction("京", "京", 0.05)]
    assert readable("A [MASK] of [MASK] ", [first, second]) == (
        "A [MASK] of [MASK]\n  [MASK] 1: Paris 50.0%   ##ing 25.0%\n  [MASK] 2: 京 5.0%"
    )
    assert readable("[MASK]", [first[:1]]) == "[MASK]\n  [MASK]: Paris 50.0%"
