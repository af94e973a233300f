"""The Arrow types that contain text: plain, dictionary-encoded, in lists, in structs."""

import pyarrow
from pyarrow import types

_LISTS = (
    types.is_list,
    types.is_large_list,
    types.is_fixed_size_list,
    types.is_list_view,
    types.is_large_list_view,
)
_TEXTS = (
    types.is_string,
    types.is_large_string,
    types.is_string_view,
    types.is_binary,
    types.is_large_binary,
    types.is_binary_view,
    types.is_fixed_size_binary,
    types.is_null,  # every value is missing
)


def inner_type(kind: pyarrow.DataType, inner: str) -> pyarrow.DataType:
    """The type of the field `inner` of `kind` ("": of `kind` itself), without lists and encodings.

    Raises:
      KeyError: there is no such field.
    """
    kind = _bare(kind)
    if not inner:
        return kind
    names = [field.name for field in kind] if types.is_struct(kind) else []
    if inner in names:
        return _bare(kind.field(inner).type)
    name, _, rest = inner.partition(".")
    if name not in names or not rest:
        raise KeyError(inner)
    return inner_type(kind.field(name).type, rest)


def is_text(kind: pyarrow.DataType) -> bool:
    """Whether values of `kind`, which `inner_type` gave, are strings or bytes."""
    return any(is_one(kind) for is_one in _TEXTS)


def as_bytes(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type `kind` with bytes in place of strings, for arrays whose strings are not UTF-8."""
    if isinstance(kind, pyarrow.BaseExtensionType):
        return as_bytes(kind.storage_type)
    if types.is_dictionary(kind):
        return as_bytes(kind.value_type)
    if _is_list(kind):
        return pyarrow.large_list(as_bytes(kind.value_type))
    if types.is_struct(kind):
        return pyarrow.struct([(field.name, as_bytes(field.type)) for field in kind])
    if types.is_string(kind):
        return pyarrow.binary()
    if types.is_large_string(kind):
        return pyarrow.large_binary()
    return pyarrow.binary_view() if types.is_string_view(kind) else kind


def column_names(schema: pyarrow.Schema) -> list[str]:
    """The columns; the fields of a struct by `column.field`."""
    names = []
    for field in schema:
        kind = _bare(field.type)
        inner = [f"{field.name}.{part.name}" for part in kind] if types.is_struct(kind) else []
        names += inner or [field.name]
    return names


def _bare(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The value type of a dictionary, list or extension type."""
    while True:
        if isinstance(kind, pyarrow.BaseExtensionType):
            kind = kind.storage_type
        elif types.is_dictionary(kind) or _is_list(kind):
            kind = kind.value_type
        else:
            return kind


def _is_list(kind: pyarrow.DataType) -> bool:
    return any(is_one(kind) for is_one in _LISTS)
