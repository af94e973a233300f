"""Cutting paragraphs into sentences, by the rules of their language."""

import sentencex


def split_sentences(paragraph: str, language: str) -> list[str]:
    """The sentences of a paragraph, in order, without white space around them.

    Args:
      paragraph: clean text, not empty.
      language: ISO 639-1 code; languages unknown to sentencex get the rules of a related one.
    """
    return [sentence.strip() for sentence in sentencex.segment(language, paragraph)]
