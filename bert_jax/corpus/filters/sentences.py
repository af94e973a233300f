"""Cutting paragraphs into sentences, by the rules of their language."""

import re

import sentencex

_WORD = re.compile(r"\w")
_NUMBERING = re.compile(r"[(\[]?(\d{1,3}|[ivxlIVXL]{1,5}|[A-Za-z])[.)\]]+\s*")
_LONGEST_NUMBERING = 12  # characters


def split_sentences(paragraph: str, language: str) -> list[str]:
    """The sentences of a paragraph, in order, without white space around them.

    A paragraph without an end mark, such as a heading or an item of a list, is one sentence.
    Segments
    without content are joined to a neighbour: the number of an item to the next sentence,
    punctuation without a word to the previous one.

    Args:
      paragraph: clean text, not empty.
      language: ISO 639-1 code; languages unknown to sentencex get the rules of a related one.
    """
    sentences: list[str] = []
    beginning = ""  # of the next sentence
    for segment in sentencex.segment(language, paragraph):
        if len(segment) < _LONGEST_NUMBERING and _NUMBERING.fullmatch(segment):
            beginning += segment
        elif _WORD.search(segment):
            sentences.append(beginning + segment)
            beginning = ""
        elif sentences and not beginning:
            sentences[-1] += segment
        else:
            beginning += segment
    if beginning and sentences:
        sentences[-1] += beginning
    elif beginning:
        sentences = [beginning]
    return [sentence.strip() for sentence in sentences]
