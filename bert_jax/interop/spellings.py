"""Names of published checkpoints, spelled as the table of names (`names`) has them.

BERT's first checkpoints in PyTorch kept TensorFlow's names of the norms; encoders saved without
their head lack the first part of each name; RoBERTa is BERT with other names, a table of positions
that begins later, and no segments; Google's own checkpoints have TensorFlow's names.
"""

import re
from typing import NamedTuple

import numpy as np

from bert_jax.interop.tensor_files import Tensors

# Tensors of a state dict that are the same memory as another one. A `model.safetensors` holds them
# once, as `save_pretrained` writes it.
TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
    "decoder.weight": "model.embeddings.tok_embeddings.weight",
}
# Tensors that are no parameters: counters of old releases.
BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
# What the names of heads of fine-tuned models begin with; an encoder is read without them.
TASK_HEADS = ("classifier.", "qa_outputs.", "score.", "pre_classifier.", "out_proj.")

_ROBERTA = {
    "roberta.": "bert.",
    "lm_head.dense.": "cls.predictions.transform.dense.",
    "lm_head.layer_norm.": "cls.predictions.transform.LayerNorm.",
    "lm_head.decoder.": "cls.predictions.decoder.",
    "lm_head.bias": "cls.predictions.bias",
}
_BARE = {  # what the names begin with where the encoder alone was saved -> its prefix
    "bert": (("embeddings.", "encoder.", "pooler."), "bert."),
    "modernbert": (("embeddings.", "layers.", "final_norm."), "model."),
}


def from_pytorch(tensors: Tensors, family: str) -> Tensors:
    """The tensors of a folder of `transformers` under the names of the table.

    Args:
      tensors: as the files have them.
      family: "bert", "roberta" or "modernbert".
    """
    bare, prefix = _BARE["modernbert" if family == "modernbert" else "bert"]

    def spelled(name: str) -> str:
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        name = name.replace("LayerNorm.beta", "LayerNorm.bias")
        if family == "roberta":
            for theirs, ours in _ROBERTA.items():
                if name.startswith(theirs):
                    name = ours + name.removeprefix(theirs)
        return prefix + name if name.startswith(bare) else name

    return {spelled(name): value for name, value in tensors.items()}


class Renaming(NamedTuple):
    """A name of TensorFlow's, as a regular expression, and ours; `True` turns a matrix around."""

    theirs: str
    ours: str
    transposed: bool = False


_TENSORFLOW = (
    Renaming(r"cls/seq_relationship/output_weights", "cls.seq_relationship.weight"),
    Renaming(r"cls/seq_relationship/output_bias", "cls.seq_relationship.bias"),
    Renaming(r"cls/predictions/output_bias", "cls.predictions.bias"),
    Renaming(r"(.*)/LayerNorm/gamma", r"\1.LayerNorm.weight"),
    Renaming(r"(.*)/LayerNorm/beta", r"\1.LayerNorm.bias"),
    Renaming(r"(.*_embeddings)", r"\1.weight"),
    Renaming(r"(.*)/kernel", r"\1.weight", transposed=True),
    Renaming(r"(.*)/bias", r"\1.bias"),
)
# Of the optimizer, not of the model.
_OPTIMIZER = re.compile(
    r".*/(adam_m|adam_v|adafactor_\w+|lamb_\w+)|global_step|.*beta[12]_power|"
    r"(current_)?loss_scale|good_steps|bad_steps"
)


def from_tensorflow(tensors: Tensors) -> Tensors:
    """The tensors of one of Google's checkpoints under the names of the table.

    The optimizer's are left out; a name that is not known stays, for the message that refuses it.
    """
    found = {}
    for name, value in tensors.items():
        if _OPTIMIZER.fullmatch(name):
            continue
        for rule in _TENSORFLOW:
            if re.fullmatch(rule.theirs, name):
                name = re.sub(rf"^{rule.theirs}$", rule.ours, name)
                value = np.ascontiguousarray(value.T) if rule.transposed else value
                break
        found[re.sub(r"layer_(\d+)", r"layer.\1", name).replace("/", ".")] = value
    return found
