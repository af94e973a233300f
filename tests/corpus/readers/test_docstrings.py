import importlib.metadata

import pytest

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers.docstrings import dependencies, list_parts, module_paragraphs, prose


def test_dependencies_are_closed_and_without_extras():
    names = [distribution.name.lower() for distribution in dependencies("bert_jax")]
    assert {"numpy", "jax", "jaxlib", "scipy"} <= set(names)  # scipy: through jax
    assert "bert_jax" not in names
    assert "ruff" not in names  # of the extra `test`
    assert names == sorted(names, key=lambda name: name.replace("_", "-").replace(".", "-"))


def test_parts_are_the_same_every_time():
    parts = list_parts("")
    assert repr(parts) == repr(list_parts(""))
    assert sum(part.size for part in parts) > 50_000_000
    assert all("/" not in part.name for part in parts)  # paths differ between machines
    topics = list(parts[0].documents())
    assert len(topics) > 50
    assert any("assert" in paragraph for document in topics for paragraph in document)
    with pytest.raises(UserError, match="takes no location"):
        list_parts("numpy")


def test_docstrings_are_read_in_order_and_nothing_is_run():
    source = b'''
"""The module."""
raise SystemExit("was imported")
class A:
    """The class."""
    def f(self):
        """The method,
        on two lines.
        """
def g():
    """The function."""
'''
    assert module_paragraphs(source) == [
        "The module.",
        "The class.",
        "The method, on two lines.",
        "The function.",
    ]
    assert module_paragraphs(b'"""No Python""" {{ template }}') == []


def test_installed_packages_have_their_docstrings():
    numpy = importlib.metadata.distribution("numpy")
    path = numpy.locate_file("numpy/_core/fromnumeric.py")
    assert any("Sum of array elements" in text for text in module_paragraphs(path.read_bytes()))


def test_docstrings_become_prose():
    docstring = """Adds two numbers, which
    may be of any kind.

    >>> add(1, 2)
    3

    Parameters
    ----------
    first : int
        The one number, in
        two lines.
    second : int
        The other.

    ```
    code()
    ```
    - an item
    - another item
      that goes on
    """
    assert prose(docstring) == [
        "Adds two numbers, which may be of any kind.",
        "Parameters",
        "first : int The one number, in two lines.",
        "second : int The other.",
        "- an item",
        "- another item that goes on",
    ]
