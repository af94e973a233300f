import pytest

from bert_jax.corpus.sentences import split_sentences


@pytest.mark.parametrize(
    ("language", "paragraph", "sentences"),
    [
        (
            "en",
            "Dr. Smith paid 3.5 dollars. He left!  Why?",
            ["Dr. Smith paid 3.5 dollars.", "He left!", "Why?"],
        ),
        ("en", "A heading without an end", ["A heading without an end"]),
        ("de", "Das war z. B. gestern. Heute nicht.", ["Das war z. B. gestern.", "Heute nicht."]),
        ("zh", "今天天气很好。我们去公园吧!好吗?", ["今天天气很好。", "我们去公园吧!", "好吗?"]),
    ],
)
def test_paragraphs_are_cut_by_the_rules_of_their_language(language, paragraph, sentences):
    assert split_sentences(paragraph, language) == sentences
