"""Recognizes files that are not text by their first bytes."""

from bert_jax.common.errors import UserError

_HEAD = 8192  # bytes that are looked at

# First bytes -> what such a file is, and what to do about it.
_KINDS = {
    b"\x1f\x8b": ("a gzip archive", "end its name in .gz"),
    b"\xfd7zXZ\x00": ("an xz archive", "end its name in .xz"),
    b"\x28\xb5\x2f\xfd": ("a zstd archive", "end its name in .zst"),
    b"BZh91AY&SY": ("a bzip2 archive", "pack it as .gz, .xz or .zst"),
    b"PK\x03\x04": ("a zip archive or an office document", "unpack it"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it"),
    b"%PDF-": ("a PDF document", "extract its text (pdftotext)"),
    b"PAR1\x15": ("a parquet file", "write parquet: before its path"),
    b"\x89PNG": ("a picture", ""),
    b"\xff\xd8\xff": ("a picture", ""),
    b"GIF89a": ("a picture", ""),
    b"\xff\xfe": ("text in UTF-16", "convert it (iconv -f UTF-16 -t UTF-8)"),
    b"\xfe\xff": ("text in UTF-16", "convert it (iconv -f UTF-16 -t UTF-8)"),
}


def refuse_binary(name: str, head: bytes) -> None:
    """Raise if the file `name`, which begins with `head`, is not text.

    Raises:
      UserError: says what it is and how to convert it.
    """
    head = head[:_HEAD]
    for begin, (kind, fix) in _KINDS.items():
        if head.startswith(begin):
            raise _refusal(name, kind, fix)
    if head[257:262] == b"ustar":
        raise _refusal(name, "a tar archive", "unpack it")
    if b"\0" in head:
        raise _refusal(
            name, "a binary file (it has zero bytes)", "if it is text in UTF-16, convert it"
        )


def _refusal(name: str, kind: str, fix: str) -> UserError:
    fix = f"{fix}, or leave it" if fix else "leave it"
    return UserError(f"{name} is {kind}, not UTF-8 text: {fix} out of config.corpus.source")
