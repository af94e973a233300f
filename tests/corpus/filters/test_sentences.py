import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.common.errors import UserError
from bert_jax.config import parse
from bert_jax.corpus.filters.sentences import split_sentences
from bert_jax.stream.batches import TrainBatches
from tests.corpus.corpora import build_store, documents, tiny_config, write_text


@pytest.mark.parametrize(
    ("language", "paragraph", "sentences"),
    [
        (
            "en",
            "Dr. Smith paid 3.5 dollars. He left!  Why?",
            ["Dr. Smith paid 3.5 dollars.", "He left!", "Why?"],
        ),
        ("en", "A heading without an end", ["A heading without an end"]),
        ("en", "* an item of a list", ["* an item of a list"]),
        ("en", "1. First. 2. Then this.", ["1. First.", "2. Then this."]),
        ("en", "II. Methods here. III.", ["II. Methods here. III."]),
        ("en", "One. -- . Two. ***", ["One. -- .", "Two. ***"]),
        ("en", "-- . -- .", ["-- . -- ."]),
        ("en", "3.", ["3."]),
        ("de", "Das war z. B. gestern. Heute nicht.", ["Das war z. B. gestern.", "Heute nicht."]),
        (
            "ja",
            "今日は天気がいいです。公園に行きましょう!いいですか?",
            ["今日は天気がいいです。", "公園に行きましょう!", "いいですか?"],
        ),
        # Thai has spaces between sentences and within them: only end marks tell.
        ("th", "วันนี้อากาศดีมาก เราไปกันเถอะ! ดีไหม?", ["วันนี้อากาศดีมาก เราไปกันเถอะ!", "ดีไหม?"]),
        ("zh", "今天天气很好。我们去公园吧!好吗?", ["今天天气很好。", "我们去公园吧!", "好吗?"]),
    ],
)
def test_paragraphs_are_cut_by_the_rules_of_their_language(language, paragraph, sentences):
    assert split_sentences(paragraph, language) == sentences


@given(
    st.lists(
        st.sampled_from(["1.", "(b)", "Go.", "?!", "--", "He left.", "\u597d\u3002"]), min_size=1
    )
)
@settings(max_examples=100, deadline=None)
def test_nothing_is_lost_and_no_fragment_stands_alone_beside_a_sentence(pieces):
    paragraph = " ".join(pieces)
    sentences = split_sentences(paragraph, "en")
    assert "".join("".join(sentences).split()) == "".join(paragraph.split())
    assert len(sentences) == 1 or all(re.search(r"\w", sentence) for sentence in sentences)


def test_lines_can_be_sentences(tmp_path):
    lines = documents(60)
    path = write_text(tmp_path / "a.txt", lines)
    config = tiny_config(f"text:{path}", corpus_lines="sentence")
    store = build_store(config, tmp_path / "store")
    counts = store.manifest["splits"]
    assert sum(split["sentences"] for split in counts.values()) == sum(map(len, lines))
    cut = build_store(tiny_config(f"text:{path}"), tmp_path / "cut")
    assert cut.manifest["splits"]["train"]["sentences"] > counts["train"]["sentences"]
    with pytest.raises(UserError, match=r"config\.corpus\.lines is 'sentence' there and 'paragr"):
        build_store(tiny_config(f"text:{path}"), tmp_path / "store")
    with pytest.raises(UserError, match=r"config\.corpus\.lines='verse': write one of par"):
        build_store(tiny_config(f"text:{path}", corpus_lines="verse"), tmp_path / "other")


def test_headings_and_fragments_make_pairs(tmp_path):
    texts = [["Heading", "1.", "--", *text, "?"] for text in documents(60)]
    config = tiny_config(f"text:{write_text(tmp_path / 'a.txt', texts)}", stream_objective="nsp")
    store = build_store(config, tmp_path / "store")
    batches = TrainBatches(store, parse(config).stream)
    labels = np.concatenate([batches.batch(step)["next_sentence_label"] for step in range(20)])
    assert 0.4 < labels.mean() < 0.6
