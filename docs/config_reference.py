"""Writes docs/settings.md, the reference of all config fields: `python docs/config_reference.py`.

Fields, defaults and descriptions are those of the code: the comments on a field's line and on the
lines above it.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "settings.md"
SOURCES = {
    "Pretraining": ("bert_jax/config/defaults.py", "python -m bert_jax.train"),
    "Fine-tuning": ("bert_jax/config/finetuning.py", "python -m bert_jax.finetune"),
}
FUNCTION = "default_config"


class Field(NamedTuple):
    """A field of a config."""

    name: str
    default: str
    description: str


def fields(source: str) -> Iterator[Field]:
    """The fields that `default_config` sets, in its order."""
    function = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == FUNCTION
    )
    lines, groups = source.splitlines(), {"config": ""}
    for statement in function.body:
        if not isinstance(statement, ast.Assign):
            continue
        names = [ast.unparse(target) for target in statement.targets]
        first = names[0]
        if ast.unparse(statement.value) == "ConfigDict()":
            for name in names:  # config.model = model = ConfigDict()
                groups[name] = first.partition(".")[2] + "." if "." in first else ""
            continue
        group, _, field = first.rpartition(".")
        if group not in groups:
            continue
        above = []
        number = statement.lineno - 2
        while lines[number].strip().startswith("#"):
            above.insert(0, lines[number].strip().removeprefix("#").strip())
            number -= 1
        beside = re.search(r"  # (.*)$", lines[statement.end_lineno - 1])
        text = " ".join([*above, *([beside[1]] if beside else [])])
        yield Field(groups[group] + field, _default(statement.value), text)


def page() -> str:
    """The text of docs/settings.md."""
    parts = [
        "# Config fields",
        "Written by `python docs/config_reference.py` from the code. A field is set with "
        "`--config.FIELD=VALUE`, or in a config file.",
    ]
    for title, (path, command) in SOURCES.items():
        rows = [
            "| `{}` | `{}` | {} |".format(*(part.replace("|", "\\|") for part in field))
            for field in fields((ROOT / path).read_text())
        ]
        parts.append(f"## {title}\n\nOf `{command}`; defaults of `{path}`.")
        parts.append("\n".join(["| field | default | |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _default(value: ast.expr) -> str:
    if isinstance(value, ast.Call) and value.args:  # TextOrMore("docs:")
        value = value.args[0]
    return ast.unparse(value)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"Wrote {PAGE}")
