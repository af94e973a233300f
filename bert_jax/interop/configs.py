"""`config.json` of `transformers` and our `ModelConfig`, each from the other."""

from collections.abc import Mapping
from typing import Any, Literal

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.model import ModelConfig
from bert_jax.model.heads import HEADS

Architecture = Literal["BertForPreTraining", "BertForMaskedLM", "ModernBertForMaskedLM"]

# The fields that make an encoder one of the two families; all other fields are free.
BERT = {
    "norm": "post",
    "position": "learned",
    "feed_forward": "gelu",
    "use_bias": True,
    "local_attention": 0,
}
MODERNBERT = {
    "norm": "pre",
    "position": "rotary",
    "feed_forward": "geglu",
    "use_bias": False,
    "token_types": 0,
    "next_sentence": False,
}
MODERNBERT_LOCAL_ATTENTION = 128  # written where there are no local layers
# `model_type` in config.json -> the spelling of its tensors' names (`spellings.from_pytorch`).
# A RoBERTa computes what a BERT with one segment computes, and is read as one.
FAMILIES = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "modernbert": "modernbert",
}


def architecture(config: ModelConfig) -> Architecture:
    """The class of `transformers` that computes exactly what this encoder computes.

    Raises:
      UserError: no class does; the message names the first field that prevents it.
    """
    family, name = (BERT, "BERT") if config.norm == "post" else (MODERNBERT, "ModernBERT")
    for field, value in family.items():
        if getattr(config, field) != value:
            raise UserError(
                f"config.model.{field} is {getattr(config, field)!r}: no class of transformers has "
                f"it together with norm={config.norm!r} ({name} has {field}={value!r}), so the "
                "model cannot be exported"
            )
    if family is BERT and config.token_types < 1:
        raise UserError(
            "config.model.token_types is 0: no class of transformers has it together with "
            "norm='post' (BERT has 2), so the model cannot be exported"
        )
    if not HEADS[config.head].is_exportable:
        exportable = ", ".join(name for name, head in HEADS.items() if head.is_exportable)
        raise UserError(
            f"config.model.head is {config.head!r}: no class of transformers has such a head, so "
            f"the model cannot be exported (those that can: {exportable})"
        )
    if family is MODERNBERT:
        return "ModernBertForMaskedLM"
    return "BertForPreTraining" if config.next_sentence else "BertForMaskedLM"


def encoder_architecture(config: ModelConfig) -> str:
    """The class of the encoder alone.

    Raises:
      UserError: as `architecture` does.
    """
    return "ModernBertModel" if architecture(config).startswith("Modern") else "BertModel"


def to_hugging_face(config: ModelConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    """The values of `config.json`; those of ModernBERT also under the names of transformers 4."""
    name = architecture(config)
    values = {
        "architectures": [name],
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "initializer_range": config.initializer_range,
        "pad_token_id": vocabulary.pad_id,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }
    if name != "ModernBertForMaskedLM":
        return values | {
            "model_type": "bert",
            "hidden_act": "gelu",
            "hidden_dropout_prob": config.dropout,
            "attention_probs_dropout_prob": config.attention_dropout,
            "type_vocab_size": config.token_types,
            "layer_norm_eps": config.norm_epsilon,
        }
    windows = [config.window(layer) for layer in range(config.num_hidden_layers)]
    return values | {
        "model_type": "modernbert",
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
        "classifier_pooling": "mean",
        "norm_eps": config.norm_epsilon,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "classifier_bias": False,
        "decoder_bias": True,
        "embedding_dropout": config.dropout,
        "mlp_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "bos_token_id": vocabulary.cls_id,
        "eos_token_id": vocabulary.sep_id,
        "cls_token_id": vocabulary.cls_id,
        "sep_token_id": vocabulary.sep_id,
        "local_attention": config.local_attention or MODERNBERT_LOCAL_ATTENTION,
        "layer_types": ["sliding_attention" if w else "full_attention" for w in windows],
        "global_attn_every_n_layers": config.global_every if config.local_attention else 1,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": config.rope_theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": config.local_rope_theta},
        },
        "global_rope_theta": config.rope_theta,
        "local_rope_theta": config.local_rope_theta,
    }


def from_hugging_face(values: Mapping[str, Any], *, next_sentence: bool) -> ModelConfig:
    """The encoder that a `config.json` describes; fields that it leaves out have their defaults.

    Args:
      values: the content of `config.json`.
      next_sentence: whether the checkpoint holds a next-sentence head.

    Raises:
      UserError: the model is of another family, or has a part that ours does not have.
    """
    kind = family(values)
    read = _read_modernbert if kind == "modernbert" else _read_bert
    sizes = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
    )
    if missing := [name for name in sizes if name not in values]:
        raise UserError(f"config.json has no {', no '.join(map(repr, missing))}")
    fields: dict[str, Any] = {"next_sentence": next_sentence} | read(values)
    fields |= {name: values[name] for name in sizes}
    fields["max_position_embeddings"] -= first_position(values)
    fields["initializer_range"] = values.get("initializer_range", 0.02)
    return ModelConfig(compute_dtype="float32", **fields)


def family(values: Mapping[str, Any]) -> str:
    """Which of the families in `FAMILIES` a `config.json` describes.

    Raises:
      UserError: none of them.
    """
    kind = values.get("model_type")
    if kind not in FAMILIES:
        raise UserError(
            f"model_type is {kind!r} in config.json: only {', '.join(FAMILIES)} are read, an "
            "encoder of another family cannot be imported"
        )
    return FAMILIES[kind]


def first_position(values: Mapping[str, Any]) -> int:
    """The row of the position table that a text's first token has: RoBERTa skips some."""
    return values.get("pad_token_id", 1) + 1 if family(values) == "roberta" else 0


def _read_bert(values: Mapping[str, Any]) -> dict[str, Any]:
    _expect(values, "hidden_act", "gelu")
    _expect(values, "is_decoder", False)
    _expect(values, "tie_word_embeddings", True)
    _expect(values, "position_embedding_type", "absolute")
    return BERT | {
        "token_types": values.get("type_vocab_size", 2),
        "norm_epsilon": values.get("layer_norm_eps", 1e-12),
        "dropout": values.get("hidden_dropout_prob", 0.1),
        "attention_dropout": values.get("attention_probs_dropout_prob", 0.1),
        "global_every": 1,
        "rope_theta": 160_000.0,
        "local_rope_theta": 10_000.0,
    }


def _read_modernbert(values: Mapping[str, Any]) -> dict[str, Any]:
    for field in ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"):
        _expect(values, field, False)
    for field in ("decoder_bias", "tie_word_embeddings"):
        _expect(values, field, True)
    for field in ("hidden_activation", "classifier_activation"):
        _expect(values, field, "gelu")
    every = _global_every(values)
    ropes = values.get("rope_parameters") or {}
    for name, rope in ropes.items():
        if rope.get("rope_type", "default") != "default":
            raise UserError(
                f"rope_parameters.{name}.rope_type is {rope['rope_type']!r} in config.json: only "
                "'default' is read"
            )
    theta = ropes.get("full_attention", {}).get("rope_theta", values.get("global_rope_theta"))
    local = ropes.get("sliding_attention", {}).get("rope_theta", values.get("local_rope_theta"))
    return MODERNBERT | {
        "norm_epsilon": values.get("norm_eps", 1e-5),
        "dropout": values.get("embedding_dropout", 0.0),
        "attention_dropout": values.get("attention_dropout", 0.0),
        "local_attention": 0 if every == 1 else values.get("local_attention", 128),
        "global_every": every,
        "rope_theta": 160_000.0 if theta is None else theta,
        "local_rope_theta": 10_000.0 if local is None else local,
    }


def _global_every(values: Mapping[str, Any]) -> int:
    """The n of "every n-th layer is global", from the layer types or transformers 4's field."""
    types = values.get("layer_types")
    if types is None:
        return values.get("global_attn_every_n_layers", 3)
    is_global = [kind == "full_attention" for kind in types]
    stated = values.get("global_attn_every_n_layers", 1)
    for every in (stated, *range(1, len(types) + 1)):
        if is_global == [layer % every == 0 for layer in range(len(types))]:
            return every
    raise UserError(f"layer_types in config.json is no 'every n-th layer is global': {types}")


def _expect(values: Mapping[str, Any], field: str, value: Any) -> None:
    if values.get(field, value) != value:
        raise UserError(
            f"{field} is {values[field]!r} in config.json: only models with {value!r} are read"
        )
