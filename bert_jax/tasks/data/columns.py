"""Words with tags, a word a line: CoNLL and CoNLL-U (https://universaldependencies.org/format)."""

from collections.abc import Iterator
from pathlib import Path

from bert_jax.common.errors import UserError
from bert_jax.tasks.data.records import DataSettings, Record

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


def conll(path: Path, settings: DataSettings, labelled: bool) -> Iterator[Record]:
    """Sentences between blank lines; the columns `tokens` and `tags` by number (-1: the last).

    Columns are separated by tabs or, in files without tabs, by spaces. Where labels are not needed,
    a single column is the words.
    """
    token, tag = (_number(settings, name) for name in ("tokens", "tags"))
    for first, lines in _sentences(path):
        rows = [
            line.split("\t") if "\t" in line else line.split()
            for line in lines
            if not line.startswith("-DOCSTART-")
        ]
        for index, row in enumerate(rows):
            if len(row) != len(rows[0]) or (labelled and len(row) < 2):
                raise UserError(
                    f"{path}, line {first + index} has {len(row)} columns, and the sentence begins "
                    f"with {len(rows[0])}: a word and its tag are expected in each line"
                )
        if not rows:
            continue
        where = f"{path}, line {first}"
        number = token if len(rows[0]) > 1 else 0
        values = {"tokens": _column(rows, number, "tokens", where)}
        if labelled:
            values["tags"] = _column(rows, tag, "tags", where)
        yield Record(values, where)


def conllu(path: Path, settings: DataSettings, labelled: bool) -> Iterator[Record]:
    """The words of CoNLL-U with the column that config.data.tags names (upos by default).

    Words are the syntactic ones: lines of multiword ranges (`3-4`) and of empty nodes (`5.1`) have
    no tags of their own and are left out.
    """
    del labelled
    name = "upos" if settings.tags in ("tags", "", "-1") else settings.tags
    if name not in CONLLU:
        raise UserError(f"config.data.tags={name!r}: CoNLL-U has the columns {', '.join(CONLLU)}")
    for first, lines in _sentences(path):
        words, tags = [], []
        for index, line in enumerate(lines):
            if line.startswith("#"):
                continue
            row = line.split("\t")
            if len(row) != len(CONLLU):
                raise UserError(
                    f"{path}, line {first + index} has {len(row)} columns, and CoNLL-U has "
                    f"{len(CONLLU)}, separated by tabs"
                )
            if row[0].isdigit():
                words.append(row[1])
                tags.append(row[CONLLU.index(name)])
        if words:
            yield Record({"tokens": words, "tags": tags}, f"{path}, line {first}")


def _sentences(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines between blank ones, and the number of the first one."""
    lines: list[str] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                lines.append(line.rstrip("\r\n"))
            elif lines:
                yield number - len(lines), lines
                lines = []
    if lines:
        yield number - len(lines) + 1, lines


def _column(rows: list[list[str]], number: int, name: str, where: str) -> list[str]:
    try:
        return [row[number] for row in rows]
    except IndexError as error:
        raise UserError(
            f"{where}: config.data.{name}={number}, and there are {len(rows[0])} columns: give a "
            "number, 0 for the first and -1 for the last"
        ) from error


def _number(settings: DataSettings, name: str) -> int:
    value = getattr(settings, name)
    if value == name:  # the default of other formats
        return {"tokens": 0, "tags": -1}[name]
    try:
        return int(value)
    except ValueError as error:
        raise UserError(
            f"config.data.{name}={value!r}: columns of CoNLL files have no names; give a number, 0 "
            "for the first and -1 for the last"
        ) from error
