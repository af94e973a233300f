from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.corpus.filters import cleaning
from bert_jax.corpus.filters.cleaning import clean_documents, clean_paragraph


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("as it is", "as it is"),
        ("  two  spaces\tand a tab ", "two spaces and a tab"),
        ("no\u00a0break\u2003em\u2028line", "no break em line"),
        ("cafe\u0301", "caf\u00e9"),
        (
            "bell\x07 nul\x00 mark\ufeff soft\u00adhyphen private\ue000",
            "bell nul mark softhyphen private",
        ),
        ("e\u00ad\u0301", "\u00e9"),
        (
            "\u0645\u06cc\u200c\u062e\u0648",
            "\u0645\u06cc\u200c\u062e\u0648",
        ),  # the joiner spells the word
        # Assigned in Unicode 15, 16 and 15.1: each Python keeps them, known or not.
        ("a\U0001fa77b\U0001fae9c\U0002ebf0d", "a\U0001fa77b\U0001fae9c\U0002ebf0d"),
        ("no\ufdd0 character\ufffe\U0010ffff", "no character"),
        (" \t\u3000", ""),
    ],
)
def test_a_paragraph_is_composed_printable_and_single_spaced(text, clean):
    assert clean_paragraph(text) == clean


def test_removed_characters_are_counted():
    counts = Counter()
    documents = clean_documents(["bell\x07 nul\x00", "a\tnew\U0001fae9 \ue000", "plain"], counts)
    assert list(documents) == [["bell nul", "a new\U0001fae9", "plain"]]
    assert counts == {"removed_characters": 3}


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_cleaning_twice_is_cleaning_once(text):
    once = clean_paragraph(text)
    assert clean_paragraph(once) == once


def test_documents_and_paragraphs_have_bounded_sizes(monkeypatch):
    monkeypatch.setattr(cleaning, "MAX_PARAGRAPH", 10)
    monkeypatch.setattr(cleaning, "MAX_DOCUMENT", 25)
    texts = ["one two three four five six", "x" * 25, "", "end"]
    found = list(clean_documents(texts))
    assert found == [
        ["one two", "three", "four five", "six", "x" * 10],
        ["x" * 10, "x" * 5, "end"],
    ]
    again = [document for texts in found for document in clean_documents(texts)]
    assert again == found
