"""Text files of tokenizers, which must be UTF-8."""

import codecs
from pathlib import Path

from bert_jax.common.errors import UserError

_MARKS = {  # those of UTF-32 begin with those of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_utf8(path: Path) -> str:
    """The text of a file, without the byte order mark that it may begin with.

    Raises:
      UserError: it is in another encoding.
    """
    data = path.read_bytes()
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            raise UserError(f"{path} is {encoding}: save it as UTF-8")
    if b"\0" in data:
        raise UserError(f"{path} holds NUL bytes, as UTF-16 does: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not UTF-8: the byte 0x{data[error.start]:02X} in line {line} is of another "
            "encoding, such as Latin-1; save it as UTF-8"
        ) from error
