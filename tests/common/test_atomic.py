import pytest

from bert_jax.common.atomic import finished_directory, write_text


def test_a_text_is_replaced_or_stays(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "first ä\n")
    write_text(path, "second ä\n")
    assert path.read_bytes() == "second ä\n".encode()
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "third \udcff")
    assert path.read_bytes() == "second ä\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def write_half(path):
    with finished_directory(path) as unfinished:
        (unfinished / "file").write_text("half")
        raise KeyError


def test_a_directory_is_there_in_full_or_not_at_all(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(KeyError):
        write_half(path)
    assert not list(tmp_path.iterdir())
    for text in ("first", "second"):  # the second one came too late
        with finished_directory(path) as unfinished:
            (unfinished / "file").write_text(text)
    assert (path / "file").read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
