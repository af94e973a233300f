"""Cleaning of text: composed Unicode (NFC), no control characters, single spaces, bounded sizes."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

# Bounds that keep memory flat whatever the text: longer paragraphs are cut at a space, longer
# documents at a paragraph.
MAX_PARAGRAPH = 1 << 16  # characters
MAX_DOCUMENT = 1 << 22  # characters

# Control, surrogate and private-use characters carry no text. Format characters (Cf) stay, for
# joiners spell words in Persian and the Indic scripts; only the marks of an encoding or a line
# break go.
_REMOVED_CATEGORIES = frozenset({"Cc", "Cs", "Co", "Cn"})
_REMOVED_CHARACTERS = frozenset("\ufeff\u00ad")


def clean_paragraph(text: str) -> str:
    """One paragraph in NFC, without control characters, white space runs made one space."""
    if not text.isprintable():  # rarely: the loop over characters is slow
        text = "".join(map(_printable, text))
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
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


def clean_documents(paragraphs: Iterable[str]) -> Iterator[list[str]]:
    """The clean paragraphs of a document, none empty; several documents where it is too long."""
    document: list[str] = []
    length = 0
    for paragraph in paragraphs:
        for piece in pieces(paragraph):
            if clean := clean_paragraph(piece):
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


def pieces(line: str) -> Iterator[str]:
    """A line, cut after the last space within each MAX_PARAGRAPH characters when longer."""
    while len(line) > MAX_PARAGRAPH:
        end = line.rfind(" ", 0, MAX_PARAGRAPH) + 1 or MAX_PARAGRAPH
        yield line[:end]
        line = line[end:]
    yield line


_BAD_BYTES = re.compile("[\udc80-\udcff]+")
