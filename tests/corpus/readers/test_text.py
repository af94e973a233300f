import gzip
import lzma

import pyarrow
import pytest

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers import files, text
from tests.corpus.corpora import documents, read, write_text

COMPRESSORS = [
    ("gz", gzip.compress),
    ("xz", lzma.compress),
    ("zst", pyarrow.Codec("zstd").compress),
]


def test_a_blank_line_ends_a_document_and_a_line_is_a_paragraph(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\n \t\n\n\nthree\n")
    (tmp_path / "b.txt").write_bytes("vier für\n".encode())
    assert [[line.strip() for line in document] for document in read(f"text:{tmp_path}/*.txt")] == [
        ["one", "two"],
        ["three"],
        ["vier für"],
    ]


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSORS)
def test_compressed_files_hold_the_same_documents(tmp_path, suffix, compress):
    texts = documents(20)
    plain = write_text(tmp_path / "a.txt", texts)
    packed = tmp_path / f"a.txt.{suffix}"
    content = plain.read_bytes()
    # Parallel compressors write several frames one after another.
    packed.write_bytes(bytes(compress(content[:999])) + bytes(compress(content[999:])))
    assert read(f"text:{packed}") == texts


def test_a_document_can_be_a_line_or_a_file(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\nthree\n")
    (tmp_path / "b.txt").write_text("four")
    source = f"text:{tmp_path}"
    assert read(source, corpus_documents="line") == [["one"], ["two"], ["three"], ["four"]]
    assert read(source, corpus_documents="file") == [["one", "two", "three"], ["four"]]
    with pytest.raises(UserError, match=r"documents='page': write one of blank_line, line, file"):
        read(source, corpus_documents="page")


def test_a_directory_means_all_files_below_it(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", [["a"]])
    write_text(tmp_path / "b.txt", [["b"]])
    assert read(f"text:{tmp_path}") == [["b"], ["a"]]


def test_a_line_without_end_comes_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "MAX_DOCUMENT", 200_000)
    path = tmp_path / "a.txt"
    path.write_text("word " * 60_000)
    found = read(f"text:{path}")
    assert "".join("".join(document) for document in found) == "word " * 60_000
    assert max(len(line) for document in found for line in document) <= 1 << 16
    assert len(found) == 2


@pytest.mark.parametrize("way", ["line", "blank_line"])
def test_a_long_line_is_one_document(tmp_path, way):
    long = "word " * 40_000 + " " * 140_000 + "end"  # a piece of it is blank
    (tmp_path / "a.txt").write_text(f"first\n\n{long}\n\nlast\n")
    first, whole, last = read(f"text:{tmp_path}/a.txt", corpus_documents=way)
    assert (first, last) == (["first"], ["last"])
    assert "".join(whole).split() == long.split()
    assert max(map(len, whole)) <= 1 << 16


@pytest.mark.parametrize(
    ("content", "offset", "byte"),
    [(b"fine\n\nbad \xff text", 10, "0xff"), (b"ends in \xe6\xbc", 8, "0xe6")],
)
def test_bytes_that_are_not_utf8_are_named_with_their_offset(tmp_path, content, offset, byte):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"bad\.txt is not UTF-8.*{byte} at offset {offset};"):
        read(f"text:{path}")


def test_the_offset_is_right_in_later_parts_and_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 7)
    monkeypatch.setattr(files, "range_bytes", lambda total: 50)
    content = "漢字 text\n\n".encode() * 20
    path = tmp_path / "bad.txt"
    path.write_bytes(content[:143] + b"\x80" + content[143:])
    with pytest.raises(UserError, match=r"0x80 at offset 143;"):
        read(f"text:{path}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.txt",
            gzip.compress(b"text", mtime=0),
            r"a\.txt is a gzip archive, .*: end its name in \.gz, or",
        ),
        ("a.txt", lzma.compress(b"text"), "is an xz archive"),
        ("a.txt", b"PK\x03\x04\x14\0", "is a zip archive or an office document, .*: unpack it"),
        ("a.txt", b"%PDF-1.7\n", r"is a PDF document, .*: extract its text \(pdftotext\)"),
        ("a.txt", b"\x89PNG\r\n", "is a picture, not UTF-8 text: leave it out of"),
        ("a.txt", "Grüße".encode("utf-16"), "is text in UTF-16, .*iconv"),
        ("a.txt", "Grüße".encode("utf-16-be"), r"binary file \(it has zero bytes\), .*UTF-16"),
        ("a.tar.gz", gzip.compress(b"a" * 257 + b"ustar", mtime=0), r"a\.tar\.gz is a tar archive"),
    ],
)
def test_binary_files_are_told_apart(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    for policy in ("refuse", "replace"):
        with pytest.raises(UserError, match=message):
            read(f"text:{tmp_path / name}", corpus_invalid_utf8=policy)


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSORS)
@pytest.mark.parametrize("left", [0.3, 0.95])
def test_a_truncated_archive_is_named(tmp_path, suffix, compress, left):
    path = tmp_path / f"cut.txt.{suffix}"
    content = bytes(compress("\n\n".join(map(str, range(20_000))).encode()))
    path.write_bytes(content[: int(left * len(content))])
    with pytest.raises(UserError, match=rf"cut\.txt\.{suffix} is damaged or cut off"):
        read(f"text:{path}")


def test_a_zstd_file_with_a_long_window_is_not_called_damaged(tmp_path):
    header = b"\x28\xb5\x2f\xfd" + bytes([0, (31 - 10) << 3])  # a window of 2^31 bytes
    block = (5 << 3 | 1).to_bytes(3, "little") + b"text\n"
    (tmp_path / "a.txt.zst").write_bytes(header + block)
    with pytest.raises(UserError, match=r"a\.txt\.zst was packed with a window of more than 128"):
        read(f"text:{tmp_path}")


def test_nothing_to_read_is_refused(tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UserError, match="no file matches"):
        read(f"text:{tmp_path}/*.md")
    with pytest.raises(UserError, match=r"nothing to read at .*empty\.txt \(empty\)"):
        read(f"text:{tmp_path}/*.txt")
    with pytest.raises(UserError, match="no known kind"):
        read(f"{tmp_path}/empty.txt")
