"""The fields of a sentencepiece model that we read or change, as a protocol buffer.

The classes generated in the sentencepiece package do not load with a protobuf older than the one
that generated them, such as the one that Apache Beam pins. These here load with any version.
Fields that are not listed are kept.
"""

from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

UNIGRAM, BPE = 1, 2  # of `trainer_spec.model_type`
_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 2, 3, 4, 5  # of `pieces.type`

_FIELDS = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "bert_jax.sentencepiece"

# Message -> (name, number, type or message, default) of its fields. From sentencepiece_model.proto.
_MESSAGES: dict[str, list[tuple[str, int, int | str, str]]] = {
    "Piece": [
        ("piece", 1, _FIELDS.TYPE_STRING, ""),
        ("score", 2, _FIELDS.TYPE_FLOAT, "0"),
        ("type", 3, _FIELDS.TYPE_INT32, "1"),
    ],
    "TrainerSpec": [
        ("model_type", 3, _FIELDS.TYPE_INT32, str(UNIGRAM)),
        ("split_by_whitespace", 22, _FIELDS.TYPE_BOOL, "true"),
        ("treat_whitespace_as_suffix", 24, _FIELDS.TYPE_BOOL, "false"),
        ("byte_fallback", 35, _FIELDS.TYPE_BOOL, "false"),
    ],
    "NormalizerSpec": [
        ("name", 1, _FIELDS.TYPE_STRING, ""),
        ("precompiled_charsmap", 2, _FIELDS.TYPE_BYTES, ""),
        ("add_dummy_prefix", 3, _FIELDS.TYPE_BOOL, "true"),
        ("remove_extra_whitespaces", 4, _FIELDS.TYPE_BOOL, "true"),
        ("escape_whitespaces", 5, _FIELDS.TYPE_BOOL, "true"),
    ],
    "Model": [
        ("pieces", 1, "Piece", ""),
        ("trainer_spec", 2, "TrainerSpec", ""),
        ("normalizer_spec", 3, "NormalizerSpec", ""),
    ],
}


def parse(serialized: bytes) -> Any:
    """A model as a message with `pieces`, `trainer_spec` and `normalizer_spec`."""
    return _MODEL.FromString(serialized)


def with_control_pieces(serialized: bytes, ids: Iterable[int]) -> bytes:
    """The model in which text that spells one of these pieces does not give its id."""
    model = parse(serialized)
    is_text = [id for id in ids if model.pieces[id].type not in (_UNKNOWN, _CONTROL, _UNUSED)]
    for id in is_text:
        model.pieces[id].type = _CONTROL
    return model.SerializeToString() if is_text else serialized


def user_defined(model: Any) -> list[int]:
    """The ids of the symbols that users defined: matched in text before everything else."""
    return [id for id, piece in enumerate(model.pieces) if piece.type == _USER_DEFINED]


def with_normalization(serialized: bytes, name: str, charsmap: bytes) -> bytes:
    """The model with other normalization rules."""
    model = parse(serialized)
    model.normalizer_spec.name = name
    model.normalizer_spec.precompiled_charsmap = charsmap
    return model.SerializeToString()


def _model_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="bert_jax/sentencepiece.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, default in fields:
            added = message.field.add(name=field, number=number, label=_FIELDS.LABEL_OPTIONAL)
            if isinstance(kind, str):
                added.type, added.type_name = _FIELDS.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
                if field == "pieces":
                    added.label = _FIELDS.LABEL_REPEATED
            else:
                added.type, added.default_value = kind, default
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))


_MODEL = _model_class()
