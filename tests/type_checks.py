"""Array shapes and types in the package's signatures are checked while the tests run."""

from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import beartype

_jaxtyped = jaxtyping.jaxtyped


def install() -> None:
    """Checks the signatures of `bert_jax`; to be called before the package is imported.

    jaxtyping binds the arguments of each call in Python, ten times as slow as beartype: only the
    functions that name arrays need it. Functions within functions are left out: they would be
    decorated at every call, with types made anew, which beartype's caches mix up in the end.
    """
    jaxtyping.install_import_hook("bert_jax", "beartype.beartype")
    jaxtyping.jaxtyped = _checked


def _checked(*, typechecker: Callable) -> Callable[[Any], Any]:
    """What the import hook of jaxtyping decorates each function and class with."""

    def decorate(function):
        if "<locals>" in function.__qualname__:
            return function
        annotations = getattr(function, "__annotations__", None)
        if isinstance(function, type) or annotations is None or "jaxtyping." in repr(annotations):
            return _jaxtyped(function, typechecker=typechecker)
        return beartype(function)

    return decorate
