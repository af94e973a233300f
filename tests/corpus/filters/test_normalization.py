import sys
import unicodedata

import pytest

from bert_jax.corpus.filters.normalization import RANGES, nfc


def ranges():
    """`RANGES`, from the data of this Python."""
    jamo = [*range(0x1100, 0x1200), *range(0xAC00, 0xD7A4)]
    active = set(jamo)
    for code in range(sys.maxunicode + 1):
        parts = unicodedata.decomposition(chr(code)).split()
        if parts and not parts[0].startswith("<"):
            active |= {code, *(int(part, 16) for part in parts)}
        elif unicodedata.combining(chr(code)):
            active.add(code)
    found, begin = [], 0
    for code in range(sys.maxunicode + 2):
        if code > sys.maxunicode or unicodedata.category(chr(code)) == "Cn":
            if not active.isdisjoint(range(begin, code)):
                found.append((begin, code - 1))
            begin = code + 1
    return [f"{a:x}" if a == b else f"{a:x}-{b:x}" for a, b in found]


@pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="needs Python 3.11")
def test_the_ranges_are_those_of_unicode_14():
    assert RANGES.split() == ranges()


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("cafe\u0301 \u1100\u1161\u11a8 \u0061\u0301\u0323", "caf\u00e9 \uac01 \u1ea1\u0301"),
        ("-e\u0301-", "-\u00e9-"),
        # Marks of Unicode 15: composed or reordered across by a Python that knows them.
        ("e\U0001e4ed\u0301 \u0301\U00010efd", "e\U0001e4ed\u0301 \u0301\U00010efd"),
        ("e\u0301\U0001e4ed\u0301\u0323", "\u00e9\U0001e4ed\u0323\u0301"),
    ],
)
def test_the_result_does_not_depend_on_python(text, normalized):
    assert nfc(text) == normalized
