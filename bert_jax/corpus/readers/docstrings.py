"""English documentation that every installation contains: the default corpus, about 20 MB.

The docstrings of the packages that bert_jax depends on, and Python's own help topics. Files are
parsed, never imported; the same package versions give the same text on every machine.
"""

import ast
import dataclasses
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from bert_jax.common.errors import UserError
from bert_jax.corpus.settings import Reading

PART_BYTES = 8 << 20  # of Python source, of which about a fifth is docstrings
_TESTS = re.compile(r"(^|/)(tests?|testing|_vendor)/|(_test|/test_\w*|/conftest)\.py$")
_WORD = re.compile(r"[^\W\d_]{2}")
_ITEM = re.compile(r"([-*+•] |\(?\d+[.)] |:\w|@\w|[\w*`.,\[\]]+( \([^)]*\))? ?: |\.\. )")
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclasses.dataclass(frozen=True)
class DocstringPart:
    """The docstrings of some modules; a module is a document."""

    name: str
    paths: tuple[str, ...]
    size: int

    file_bytes = None
    costly = True
    in_sentences = False

    def documents(self) -> Iterator[list[str]]:
        for path in self.paths:
            if paragraphs := module_paragraphs(Path(path).read_bytes()):
                yield paragraphs


@dataclasses.dataclass(frozen=True)
class TopicsPart:
    """Python's help topics; a topic is a document."""

    path: str
    size: int

    name = "docs:pydoc_data.topics"
    file_bytes = None
    costly = True
    in_sentences = False

    def documents(self) -> Iterator[list[str]]:
        tree = ast.parse(Path(self.path).read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                for topic in node.values:
                    if paragraphs := prose(ast.literal_eval(topic)):
                        yield paragraphs


def list_parts(location: str, reading: Reading | None = None) -> list[DocstringPart | TopicsPart]:
    """The parts of the default corpus, in the order of the packages' names.

    Raises:
      UserError: `location` is not empty.
    """
    if location:
        raise UserError(f"config.corpus.source='docs:{location}': docs: takes no location")
    parts: list[DocstringPart | TopicsPart] = []
    spec = importlib.util.find_spec("pydoc_data.topics")
    if spec and spec.origin:
        parts.append(TopicsPart(spec.origin, Path(spec.origin).stat().st_size))
    modules: list[tuple[str, Path]] = []
    size = 0
    for package, path in _modules():
        modules.append((package, path))
        size += path.stat().st_size
        if size >= PART_BYTES:
            parts.append(_part(modules, size))
            modules, size = [], 0
    if modules:
        parts.append(_part(modules, size))
    return parts


def _part(modules: list[tuple[str, Path]], size: int) -> DocstringPart:
    """Named by its packages, not by the paths, which differ between machines."""
    first, last = modules[0][0], modules[-1][0]
    name = f"docs:{first}" if first == last else f"docs:{first}...{last}"
    return DocstringPart(name, tuple(str(path) for _, path in modules), size)


def _modules() -> Iterator[tuple[str, Path]]:
    """The package of each module with docstrings worth reading, and its file."""
    for distribution in dependencies("bert_jax"):
        package = distribution.name  # each access parses the metadata
        names = sorted(str(file) for file in distribution.files or () if file.suffix == ".py")
        for name in names:
            path = Path(str(distribution.locate_file(name)))
            if not _TESTS.search(name) and path.is_file():
                yield package, path


def dependencies(name: str) -> list[importlib.metadata.Distribution]:
    """The distributions that `name` needs, directly or not, without extras; sorted by name."""
    distributions: dict[str, importlib.metadata.Distribution] = {}
    missing: set[str] = set()
    wanted = [name]
    while wanted:
        key = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if key in distributions or key in missing:
            continue
        try:
            distributions[key] = importlib.metadata.distribution(key)
        except importlib.metadata.PackageNotFoundError:
            missing.add(key)
            continue
        for line in distributions[key].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
    del distributions[re.sub(r"[-_.]+", "-", name).lower()]
    return [distributions[key] for key in sorted(distributions)]


def module_paragraphs(source: bytes) -> list[str]:
    """The docstrings of a module, its classes and functions, as prose, in the order of the file."""
    if b'"""' not in source and b"'''" not in source:
        return []  # parsing costs more than the one-line docstrings in plain quotes are worth
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # files for other Python versions, templates
        return []
    documented = [node for node in ast.walk(tree) if isinstance(node, _Documented)]
    documented.sort(key=lambda node: getattr(node, "lineno", 0))
    docstrings = (ast.get_docstring(node) for node in documented)
    return [paragraph for text in docstrings if text for paragraph in prose(text)]


def prose(docstring: str) -> list[str]:
    """A docstring as paragraphs of prose: lines joined, examples, rulers and code left out.

    A line begins a new paragraph when it is indented less than the one before or looks like an
    item of a list or a parameter.
    """
    paragraphs: list[list[str]] = []
    indent = -1  # of the previous line; -1: the next line begins a paragraph
    fenced = in_example = False
    for line in docstring.expandtabs().split("\n"):
        text = line.strip()
        if text.startswith(("```", "~~~")):
            fenced = not fenced
        in_example = text.startswith((">>>", "$ ")) or (in_example and bool(text))
        if not text or fenced or in_example or not _WORD.search(text):
            indent = -1
            continue
        line_indent = len(line) - len(line.lstrip())
        if line_indent < indent or indent == -1 or _ITEM.match(text):
            paragraphs.append([])
        paragraphs[-1].append(text)
        indent = line_indent
    return [" ".join(lines) for lines in paragraphs]
