"""One table of parameter names, ours and PyTorch's, read in two directions.

PyTorch keeps a linear map as [outputs, inputs] with flat axes; ours are [*inputs, *outputs] with
the heads as a separate axis. Where PyTorch has several tensors for one of ours (query, key and
value), they are its equal parts along the outputs. Weights that are tied (the decoder of the
masked-language head) are stored once, as `save_pretrained` stores them.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bert_jax.common.errors import UserError
from bert_jax.interop.tensor_files import Tensors
from bert_jax.model import ModelConfig, Params, abstract


@dataclasses.dataclass(frozen=True)
class Row:
    """One of our parameters and the tensors that hold it; `{i}` stands for the layer.

    Attributes:
      ours: path in our tree, its keys joined by slashes.
      theirs: names of the tensors, its equal parts.
      inputs: how many leading axes of ours are inputs, for linear maps, which PyTorch transposes;
        0: a table or a vector.
    """

    ours: str
    theirs: tuple[str, ...]
    inputs: int = 0

    def at(self, layer: int) -> "Row":
        """The row of one layer."""
        names = tuple(name.format(i=layer) for name in self.theirs)
        return dataclasses.replace(self, ours=self.ours.format(i=layer), theirs=names)


def _linear(ours: str, *theirs: str, inputs: int = 1, bias: bool) -> tuple[Row, ...]:
    kernel = Row(f"{ours}/kernel", tuple(f"{name}.weight" for name in theirs), inputs)
    offsets = Row(f"{ours}/bias", tuple(f"{name}.bias" for name in theirs))
    return (kernel, offsets) if bias else (kernel,)


def _norm(ours: str, theirs: str, *, bias: bool) -> tuple[Row, ...]:
    scale = Row(f"{ours}/scale", (f"{theirs}.weight",))
    return (scale, Row(f"{ours}/bias", (f"{theirs}.bias",))) if bias else (scale,)


BERT = (
    Row("encoder/embeddings/tokens/embedding", ("bert.embeddings.word_embeddings.weight",)),
    Row("encoder/embeddings/positions/embedding", ("bert.embeddings.position_embeddings.weight",)),
    Row(
        "encoder/embeddings/token_types/embedding",
        ("bert.embeddings.token_type_embeddings.weight",),
    ),
    *_norm("encoder/embeddings/norm", "bert.embeddings.LayerNorm", bias=True),
    *_linear("mlm_head/transform", "cls.predictions.transform.dense", bias=True),
    *_norm("mlm_head/norm", "cls.predictions.transform.LayerNorm", bias=True),
    Row("mlm_head/bias", ("cls.predictions.bias",)),
)
BERT_NEXT_SENTENCE = (
    *_linear("nsp_head/pooler", "bert.pooler.dense", bias=True),
    *_linear("nsp_head/classifier", "cls.seq_relationship", bias=True),
)
_BERT = "bert.encoder.layer.{i}"
BERT_LAYER = (
    *_linear(
        "encoder/layers/{i}/attention/qkv",
        f"{_BERT}.attention.self.query",
        f"{_BERT}.attention.self.key",
        f"{_BERT}.attention.self.value",
        bias=True,
    ),
    *_linear(
        "encoder/layers/{i}/attention/output",
        f"{_BERT}.attention.output.dense",
        inputs=2,
        bias=True,
    ),
    *_norm("encoder/layers/{i}/attention_norm", f"{_BERT}.attention.output.LayerNorm", bias=True),
    *_linear("encoder/layers/{i}/feed_forward/input", f"{_BERT}.intermediate.dense", bias=True),
    *_linear("encoder/layers/{i}/feed_forward/output", f"{_BERT}.output.dense", bias=True),
    *_norm("encoder/layers/{i}/feed_forward_norm", f"{_BERT}.output.LayerNorm", bias=True),
)

MODERNBERT = (
    Row("encoder/embeddings/tokens/embedding", ("model.embeddings.tok_embeddings.weight",)),
    *_norm("encoder/embeddings/norm", "model.embeddings.norm", bias=False),
    *_norm("encoder/final_norm", "model.final_norm", bias=False),
    *_linear("mlm_head/transform", "head.dense", bias=False),
    *_norm("mlm_head/norm", "head.norm", bias=False),
    Row("mlm_head/bias", ("decoder.bias",)),
)
_MODERN = "model.layers.{i}"
MODERNBERT_LAYER = (
    *_linear("encoder/layers/{i}/attention/qkv", f"{_MODERN}.attn.Wqkv", bias=False),
    *_linear("encoder/layers/{i}/attention/output", f"{_MODERN}.attn.Wo", inputs=2, bias=False),
    *_linear("encoder/layers/{i}/feed_forward/input", f"{_MODERN}.mlp.Wi", bias=False),
    *_linear("encoder/layers/{i}/feed_forward/output", f"{_MODERN}.mlp.Wo", bias=False),
    *_norm("encoder/layers/{i}/feed_forward_norm", f"{_MODERN}.mlp_norm", bias=False),
)
MODERNBERT_NORM = _norm("encoder/layers/{i}/attention_norm", f"{_MODERN}.attn_norm", bias=False)


def rows(config: ModelConfig) -> list[Row]:
    """The table for a model of one of the two families (see `configs.architecture`)."""
    layers = range(config.num_hidden_layers)
    if config.norm == "post":
        heads = BERT_NEXT_SENTENCE if config.next_sentence else ()
        return [*BERT, *heads, *(row.at(i) for i in layers for row in BERT_LAYER)]
    # The first layer reads the normed embeddings and has no norm before its attention.
    norms = [row.at(i) for i in layers[1:] for row in MODERNBERT_NORM]
    return [*MODERNBERT, *norms, *(row.at(i) for i in layers for row in MODERNBERT_LAYER)]


def encoder_rows(config: ModelConfig) -> list[Row]:
    """The rows of the encoder alone, without pretraining heads."""
    return [row for row in rows(config) if row.ours.startswith("encoder/")]


# The head of a task: its parts in our tree, and in the classes BertFor... and ModernBertFor...
TASK_HEAD = {
    "post": {"dense": "bert.pooler.dense"},
    "pre": {"dense": "head.dense", "norm": "head.norm"},
}


def task_to_torch(
    encoder: Params, head: Params, config: ModelConfig, classifier: str = "classifier"
) -> Tensors:
    """An encoder and the head of a task as the tensors of a PyTorch state dict, float32.

    Args:
      encoder: its parameters.
      head: with `classifier` and, as far as the class has them, `dense` and `norm`.
      config: of the encoder.
      classifier: what the class calls the last linear map.
    """
    parts = {name: theirs for name, theirs in TASK_HEAD[config.norm].items() if name in head}
    table = encoder_rows(config)
    for name, theirs in (parts | {"classifier": classifier}).items():
        has_bias = "bias" in head[name]
        make = _norm if name == "norm" else _linear
        table += make(f"head/{name}", theirs, bias=has_bias)
    ours = flatten({"encoder": encoder, "head": head})
    _expect_equal(set(ours), {row.ours for row in table})
    return _tensors(ours, table)


def encoder_to_torch(encoder: Params, config: ModelConfig) -> Tensors:
    """An encoder alone as `BertModel` and `ModernBertModel` hold it, float32."""
    prefix = "bert." if config.norm == "post" else "model."
    tensors = _tensors(flatten({"encoder": encoder}), encoder_rows(config))
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def pooler_to_torch(params: Params, config: ModelConfig) -> Tensors:
    """The pooler of a model with a next-sentence head, as `BertModel` holds it."""
    pooler = part_to_torch({"nsp_head": {"pooler": params["nsp_head"]["pooler"]}}, config)
    return {name.removeprefix("bert."): value for name, value in pooler.items()}


def to_torch(params: Params, config: ModelConfig) -> Tensors:
    """Our parameters as the tensors of a PyTorch state dict, float32."""
    _expect_equal(set(flatten(params)), {row.ours for row in rows(config)})
    return part_to_torch(params, config)


def part_to_torch(params: Params, config: ModelConfig) -> Tensors:
    """`to_torch` for a part of the parameters, such as one head."""
    ours = flatten(params)
    return _tensors(ours, [row for row in rows(config) if row.ours in ours])


def _tensors(ours: Mapping[str, Any], table: Iterable[Row]) -> Tensors:
    tensors = {}
    for row in table:
        value = np.asarray(ours[row.ours], np.float32)
        for name, part in zip(row.theirs, _to_parts(value, row), strict=True):
            tensors[name] = np.ascontiguousarray(part)
    return tensors


def from_torch(tensors: Mapping[str, np.ndarray], config: ModelConfig) -> Params:
    """The reverse of `to_torch`.

    Raises:
      UserError: tensors are missing, of another shape, or not part of the model; the message lists
        all of them.
    """
    shapes = {path: leaf.shape for path, leaf in flatten(abstract(config)[1]).items()}
    table = rows(config)
    _expect_equal(set(shapes), {row.ours for row in table})
    expected = {
        name: part.shape
        for row in table
        for name, part in zip(
            row.theirs, _to_parts(np.zeros(shapes[row.ours], np.bool_), row), strict=True
        )
    }
    _expect_tensors(tensors, expected)
    ours = {}
    for row in table:
        parts = [np.asarray(tensors[name], np.float32) for name in row.theirs]
        ours[row.ours] = _from_parts(parts, shapes[row.ours], row)
    return nest(ours)


def _expect_tensors(
    tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise one error for all tensors that are missing, unknown or of another shape."""
    missing = grouped(expected.keys() - tensors.keys())
    unknown = grouped(tensors.keys() - expected.keys())
    misshapen = [
        f"{name} is {list(tensors[name].shape)}, not {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    problems = [
        f"{what}: {', '.join(names)}"
        for what, names in (
            ("missing", missing),
            ("without a place in this model", unknown),
            ("of another shape", misshapen),
        )
        if names
    ]
    if problems:
        raise UserError(
            f"the tensors are not those of the encoder that the config describes. "
            f"{'; '.join(problems)}. Get the folder again, or correct its config"
        )


def grouped(names: Iterable[str]) -> list[str]:
    """Sorted names of tensors; those that differ in the number of the layer alone are one entry."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(re.sub(r"\.\d+\.", ".*.", name), []).append(name)
    return [
        members[0] if len(members) == 1 else f"{pattern} ({len(members)} of them)"
        for pattern, members in groups.items()
    ]


def _to_parts(value: np.ndarray, row: Row) -> list[np.ndarray]:
    if row.inputs:
        inputs = int(np.prod(value.shape[: row.inputs]))
        return np.split(value.reshape(inputs, -1).T, len(row.theirs))
    # A table is unchanged; a vector may have several axes (the bias of query, key, value).
    return [value] if len(row.theirs) == 1 else [part.reshape(-1) for part in value]


def _from_parts(parts: list[np.ndarray], shape: tuple[int, ...], row: Row) -> np.ndarray:
    whole = np.concatenate(parts)
    return np.ascontiguousarray(whole.T if row.inputs else whole).reshape(shape)


def _expect_equal(ours: set[str], table: set[str]) -> None:
    if ours != table:
        raise AssertionError(f"the table of names does not cover the model: {ours ^ table}")


def flatten(tree: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a parameter tree by their paths, keys joined by slashes."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        flat |= flatten(value, f"{path}/") if isinstance(value, dict) else {path: value}
    return flat


def nest(flat: Mapping[str, Any]) -> Params:
    """The reverse of `flatten`."""
    tree: dict[Any, Any] = {}
    for path, value in flat.items():
        *parents, leaf = (int(key) if key.isdigit() else key for key in path.split("/"))
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[leaf] = value
    return tree
