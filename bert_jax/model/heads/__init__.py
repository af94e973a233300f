"""The pretraining heads: masked tokens, with a choice of softmax, and sentence pairs.

`HEADS` has the masked-language heads by the name that `config.model.head` gives. To add one, write
a subclass of `FullHead` in its own file and register it here. What the other packages need to know
about a head (how its parameters are sharded, its FLOPs, whether it can be exported) are attributes
and static methods of its class.
"""

from bert_jax.model.heads.adaptive import AdaptiveHead
from bert_jax.model.heads.base import BlockedHead, FullHead
from bert_jax.model.heads.next_sentence import NextSentenceHead
from bert_jax.model.heads.sampled import SampledHead

HEADS: dict[str, type[FullHead]] = {
    "full": FullHead,
    "blocked": BlockedHead,
    "sampled": SampledHead,
    "adaptive": AdaptiveHead,
}

__all__ = ["HEADS", "NextSentenceHead"]
