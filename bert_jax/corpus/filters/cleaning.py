"""Cleaning of text: composed Unicode (NFC), no control characters, single spaces, bounded sizes."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

from bert_jax.corpus.filters.normalization import nfc

# Limits that bound the memory whatever the text: longer paragraphs are cut at a space, longer
# documents at a paragraph.
MAX_PARAGRAPH = 1 << 16  # characters
MAX_DOCUMENT = 1 << 22  # characters

# Control, surrogate and private-use characters and noncharacters carry no text: no version of
# Unicode will change these four sets. Unassigned characters stay: a later version, and a Python
# that knows it, gives them a meaning. Format characters (Cf) stay because joiners spell words in
# Persian and the Indic scripts; only the byte order mark and the soft hyphen are removed.
_REMOVED_CATEGORIES = frozenset({"Cc", "Cs", "Co"})
_NONCHARACTERS = [
    *range(0xFDD0, 0xFDF0),
    *(plane + code for plane in range(0, 0x110000, 0x10000) for code in (0xFFFE, 0xFFFF)),
]
_REMOVED_CHARACTERS = frozenset("\ufeff\u00ad") | frozenset(map(chr, _NONCHARACTERS))


def clean_paragraph(text: str, counts: Counter[str] | None = None) -> str:
    """One paragraph in NFC, without control characters, each run of white space one space.

    Args:
      text: any characters.
      counts: the number of characters that are removed is added to its `removed_characters`.
    """
    if not text.isprintable():  # rare: the loop over characters is slow
        length = len(text)
        text = "".join(map(_printable, text))
        if counts is not None:
            counts["removed_characters"] += length - len(text)
    text = nfc(text)
    if "  " in text or text[:1] == " " or text[-1:] == " ":
        text = " ".join(text.split())
    return text


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    if character.isspace():
        return " "
    removed = (
        character in _REMOVED_CHARACTERS or unicodedata.category(character) in _REMOVED_CATEGORIES
    )
    return "" if removed else character


def clean_documents(
    paragraphs: Iterable[str], counts: Counter[str] | None = None
) -> Iterator[list[str]]:
    """The clean paragraphs of a document, none empty; several documents where it is too long.

    Args:
      paragraphs: of the document.
      counts: see `clean_paragraph`.
    """
    document: list[str] = []
    length = 0
    for paragraph in paragraphs:
        for part in cut_line(paragraph):
            if clean := clean_paragraph(part, counts):
                document.append(clean)
                length += len(clean)
            if length > MAX_DOCUMENT:
                yield document
                document, length = [], 0
    if document:
        yield document


def has_bad_bytes(text: str) -> bool:
    """Whether text decoded with `surrogateescape` had bytes that are not UTF-8."""
    return not text.isprintable() and _BAD_BYTES.search(text) is not None


def replace_bad_bytes(text: str) -> str:
    """Text with U+FFFD for each run of such bytes."""
    return _BAD_BYTES.sub("\ufffd", text)


def cut_line(line: str) -> Iterator[str]:
    """A line, cut after the last space within each MAX_PARAGRAPH characters when longer."""
    while len(line) > MAX_PARAGRAPH:
        end = line.rfind(" ", 0, MAX_PARAGRAPH) + 1 or MAX_PARAGRAPH
        yield line[:end]
        line = line[end:]
    yield line


_BAD_BYTES = re.compile("[\udc80-\udcff]+")
