"""Ends of lines: LF, CR LF, CR, NEL (U+0085), and U+2028 and U+2029."""

import re
from collections.abc import Iterator

# Where a file of text may be cut: after a blank line, or after a line. Patterns match only where
# the next byte cannot belong to the same line end.
BLANK_LINE = re.compile(
    rb"\n[ \t\r]*\n"
    rb"|\r[ \t]*\r(?=[^\r\n])"
    rb"|(?:\xc2\x85|\xe2\x80[\xa8\xa9])[ \t]*(?:\xc2\x85|\xe2\x80[\xa8\xa9])"
)
TEXT_LINE = re.compile(rb"\n|\r(?=[^\r\n])|\xc2\x85|\xe2\x80[\xa8\xa9]")
# In formats with quoted text, such as JSON, only these end a line.
RECORD_LINE = re.compile(rb"\n|\r(?=[^\r\n])")

_CARRIAGE_RETURNS = re.compile("\r+\n")  # CR CR LF: a file that was converted twice


def with_line_feeds(texts: Iterator[str], unicode: bool = True) -> Iterator[str]:
    """Text in blocks, with a line feed for every end of a line; see `line_feeds`."""
    held = ""  # carriage returns: a line feed may follow in the next block
    for text in texts:
        text = held + text
        whole = text.rstrip("\r")
        held = text[len(whole) :]
        yield line_feeds(whole, unicode)
    yield line_feeds(held, unicode)


def line_feeds(text: str, unicode: bool = True) -> str:
    """Text with a line feed for every end of a line.

    Args:
      text: does not end between CR and LF.
      unicode: NEL, U+2028 and U+2029 end lines, too.
    """
    if "\r" in text:
        if "\r\r\n" in text:
            text = _CARRIAGE_RETURNS.sub("\n", text)
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if unicode and not text.isascii():
        for end in "\x85\u2028\u2029":
            if end in text:
                text = text.replace(end, "\n")
    return text


def paragraphs(text: str) -> list[str]:
    """The lines of a document's text; none if there is no text."""
    return line_feeds(text).split("\n") if text else []


def split_lines(texts: Iterator[str]) -> Iterator[str]:
    """Lines with their line feeds, from text in blocks."""
    unfinished: list[str] = []  # parts of a line that continues
    for text in texts:
        first, *rest = text.split("\n")
        unfinished.append(first)
        for following in rest:
            yield "".join(unfinished) + "\n"
            unfinished = [following]
    if line := "".join(unfinished):
        yield line


def lines_of_bytes(blocks: Iterator[bytes], start: int) -> Iterator[tuple[int, bytes]]:
    """Lines that end in LF, CR LF or CR, without their ends, each with its first byte's offset.

    CR LF leaves a space at the end of its line.

    Args:
      blocks: the bytes.
      start: offset of the first byte.
    """
    offset = start
    unfinished: list[bytes] = []
    for block in _single_ends(blocks):
        first, *rest = block.split(b"\n")
        unfinished.append(first)
        for following in rest:
            line = b"".join(unfinished)
            yield offset, line
            offset += len(line) + 1
            unfinished = [following]
    if line := b"".join(unfinished):
        yield offset, line


def _single_ends(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks with LF for CR and space LF for CR LF: the total length does not change."""
    held = b""
    for block in blocks:
        if held or b"\r" in block:
            block = held + block
            held = b"\r" if block.endswith(b"\r") else b""
            block = block.removesuffix(b"\r").replace(b"\r\n", b" \n").replace(b"\r", b"\n")
        yield block
    if held:
        yield b"\n"
