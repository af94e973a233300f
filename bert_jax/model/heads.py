"""The pretraining heads: masked tokens, with a choice of softmax, and sentence pairs.

A softmax head is one class here and its entry in HEADS; what the rest of the package needs to know
about it (how its parameters are sharded, its FLOPs, whether it can be exported) are attributes and
static methods of the class.
"""

import functools
import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from bert_jax.common.errors import UserError
from bert_jax.model.config import ModelConfig
from bert_jax.model.cross_entropy import (
    Totals,
    blocked_cross_entropy,
    cross_entropy,
)
from bert_jax.model.encoder import gelu, linear, truncated_normal
from bert_jax.model.norms import make_norm
from bert_jax.model.products import Linear, contract
from bert_jax.model.sampled_softmax import sampled_cross_entropy


class FullHead(nnx.Module):
    """Transform, GELU, norm, and the token table as the decoder (tied), with a bias of its own.

    The logits of all predictions exist at once. The other heads are this one with another softmax.

    Attributes:
      is_exportable: `transformers` has a class that computes the same logits.
      uses_frequency: it treats frequent and rare tokens differently (`ModelConfig.token_order`).
      sharding: (regex of a parameter's name, axis of the mesh for each axis of the parameter) for
        parameters that this head does not have.
    """

    is_exportable: ClassVar[bool] = True
    uses_frequency: ClassVar[bool] = False
    sharding: ClassVar[tuple[tuple[str, tuple[str | None, ...]], ...]] = ()

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.transform = linear(config, config.hidden_size, config.hidden_size, rngs)
        self.norm = make_norm(config, rngs)
        self.bias = nnx.Param(jnp.zeros(config.vocab_size))

    @staticmethod
    def check(config: ModelConfig) -> None:
        """Refuse fields of the config that this head cannot use.

        Raises:
          UserError: names the field, its value and the fix.
        """

    @staticmethod
    def products(config: ModelConfig) -> int:
        """Dot products of width D that the softmax needs for one prediction in training."""
        return config.vocab_size

    def features(self, hidden: Float[Array, "B P D"]) -> Float[Array, "B P D"]:
        """The input of the softmax."""
        return self.norm(gelu(self.transform(hidden))).astype(self.config.dtype)

    def logits(
        self, hidden: Float[Array, "B P D"], table: Float[Array, "V D"]
    ) -> Float[Array, "B P V"]:
        """Logits over the whole vocabulary, in float32."""
        return _scores(self.features(hidden), table) + self.bias[...]

    def totals(
        self,
        hidden: Float[Array, "B P D"],
        table: Float[Array, "V D"],
        labels: Int[Array, "B P"],
        weights: Float[Array, "B P"],
        key: PRNGKeyArray | None,
    ) -> Totals:
        """Summed loss and number of correct predictions.

        Args:
          hidden: hidden states of the masked positions.
          table: the token embeddings.
          labels: ids of the original tokens.
          weights: 0 at unused places for predictions.
          key: the step's key, for sampled losses; None: the exact loss, as in evaluation.
        """
        del key
        return cross_entropy(self.logits(hidden, table), labels, weights)


class BlockedHead(FullHead):
    """The same function as the full head; logits exist for a block of predictions at a time."""

    def totals(self, hidden, table, labels, weights, key):
        del key
        x = self.features(hidden)
        loss, correct = blocked_cross_entropy(x, table, self.bias[...], labels, weights)
        return Totals(loss, {"accuracy": (correct * weights).sum()}, weights.sum())


class SampledHead(BlockedHead):
    """Trains against a sample of the vocabulary; evaluation and parameters are the full head's."""

    uses_frequency = True

    @staticmethod
    def check(config: ModelConfig) -> None:
        """`sampled_negatives` must be a part of the vocabulary."""
        if not 1 <= config.sampled_negatives < config.vocab_size:
            raise UserError(
                f"config.model.sampled_negatives is {config.sampled_negatives}: choose between 1 "
                f"and the vocabulary's {config.vocab_size} tokens"
            )

    @staticmethod
    def products(config: ModelConfig) -> int:
        """The sample's and the label's."""
        return config.sampled_negatives + 1

    def totals(self, hidden, table, labels, weights, key):
        """With a key, estimates from the sample of the summed loss and the correct predictions."""
        if key is None:
            return super().totals(hidden, table, labels, weights, key)
        number, order = self.config.sampled_negatives, self.config.token_order
        x, bias = self.features(hidden), self.bias[...]
        return sampled_cross_entropy(x, table, bias, labels, weights, number, key, order)


class Clusters(nnx.Module):
    """The entries of the tails in the first softmax: one row for each tail."""

    def __init__(self, config: ModelConfig, tails: int, *, rngs: nnx.Rngs):
        draw = truncated_normal(config.initializer_range)
        self.embedding = nnx.Param(draw(rngs.params(), (tails, config.hidden_size)))
        self.bias = nnx.Param(jnp.zeros(tails))


class Tail(nnx.Module):
    """The softmax over `size` rare tokens, in a space of `width` dimensions."""

    def __init__(self, config: ModelConfig, width: int, size: int, *, rngs: nnx.Rngs):
        self.projection = Linear(
            (config.hidden_size,),
            (width,),
            use_bias=False,
            dtype=config.dtype,
            kernel_init=truncated_normal(config.hidden_size**-0.5),  # keeps the scale
            rngs=rngs,
        )
        draw = truncated_normal(config.initializer_range)
        self.pieces = nnx.Embed(size, width, embedding_init=draw, rngs=rngs)


class AdaptiveHead(FullHead):
    """Adaptive softmax (https://arxiv.org/abs/1609.04309) over tokens in the order of frequency.

    The most frequent tokens and one entry for each tail share a softmax (tied to the token table);
    the tokens of tail i have one of their own in D / 4^i dimensions, which is computed only for the
    predictions whose label is in it: a block of them at a time, so that shapes are fixed and none
    is dropped. A token's probability is its tail's times its own within the tail.

    Inside, a token is its rank in `config.token_order`: cutoffs, bias and tails count in ranks.
    """

    is_exportable = False
    uses_frequency = True
    sharding = (
        (r"mlm_head\.tails\.\d+\.pieces\.embedding", ("tensor", "fsdp")),  # [part of V, narrow D]
        (r"mlm_head\.tails\.\d+\.projection\.kernel", ("fsdp", None)),  # [D, narrow D]
        (r"mlm_head\.clusters\.embedding", (None, "fsdp")),  # [tails, D]
    )

    @staticmethod
    def check(config: ModelConfig) -> None:
        """`adaptive_cutoffs` must be ascending ranks of the vocabulary."""
        ends = (0, *config.adaptive_cutoffs, config.vocab_size)
        if any(one >= other for one, other in itertools.pairwise(ends)):
            raise UserError(
                f"config.model.adaptive_cutoffs is {config.adaptive_cutoffs}: choose rising ranks "
                f"between 0 and the vocabulary's {config.vocab_size} tokens"
            )

    @staticmethod
    def cutoffs(config: ModelConfig) -> tuple[int, ...]:
        """The first rank of each tail; by default about V / 16 and V / 4, multiples of 64."""
        sizes = (config.vocab_size // 16, config.vocab_size // 4)
        return config.adaptive_cutoffs or tuple(size // 64 * 64 or size for size in sizes)

    @staticmethod
    def tail_widths(config: ModelConfig) -> tuple[int, ...]:
        """The width of each tail: a quarter of the one before, the first one D / 4."""
        count = len(AdaptiveHead.cutoffs(config))
        return tuple(max(1, config.hidden_size // 4 ** (i + 1)) for i in range(count))

    @staticmethod
    def products(config: ModelConfig) -> int:
        """The first softmax, and the projections into the tails."""
        cutoffs = AdaptiveHead.cutoffs(config)
        return cutoffs[0] + len(cutoffs) + sum(AdaptiveHead.tail_widths(config))

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        cutoffs = self.cutoffs(config)
        self.bounds = tuple(zip(cutoffs, (*cutoffs[1:], config.vocab_size), strict=True))
        tails = len(self.bounds)
        self.clusters = Clusters(config, tails, rngs=rngs)
        sizes = [end - begin for begin, end in self.bounds]
        shapes = zip(self.tail_widths(config), sizes, strict=True)
        self.tails = nnx.List([Tail(config, *shape, rngs=rngs) for shape in shapes])

    def logits(self, hidden, table):
        """Log probabilities of all tokens; costs as much as a full head."""
        x, first = self.features(hidden), self.bounds[0][0]
        top = jax.nn.log_softmax(_scores(x, self._top_table(table)) + self._top_bias())
        parts = [top[..., :first]]
        for index, (tail, (begin, end)) in enumerate(zip(self.tails, self.bounds, strict=True)):
            scores = _scores(tail.projection(x), tail.pieces.embedding[...])
            inside = jax.nn.log_softmax(scores + self.bias[begin:end])
            parts.append(inside + top[..., first + index, None])
        by_rank = jnp.concatenate(parts, axis=-1)
        order = self.config.token_order
        return by_rank[..., ranks(order)] if order else by_rank

    def totals(self, hidden, table, labels, weights, key):
        """Summed loss and number of correct predictions, exact without a key.

        With a key, a prediction in a tail counts as correct only if its tail wins the first
        softmax; the exact count would need all tails for all predictions.
        """
        if key is None:
            return self._exact(hidden, table, labels, weights)
        x, first = self.features(hidden), self.bounds[0][0]
        if order := self.config.token_order:
            labels = jnp.asarray(ranks(order))[labels]
        cluster = jnp.searchsorted(jnp.asarray(self.cutoffs(self.config)), labels, side="right")
        top_labels = jnp.where(cluster == 0, labels, first + cluster - 1)
        loss, correct = blocked_cross_entropy(
            x, self._top_table(table), self._top_bias(), top_labels, weights
        )
        for index, (tail, (begin, end)) in enumerate(zip(self.tails, self.bounds, strict=True)):
            is_inside = cluster == index + 1
            tail_loss, tail_correct = blocked_cross_entropy(
                tail.projection(x),
                tail.pieces.embedding[...],
                self.bias[begin:end],
                jnp.clip(labels - begin, 0, end - begin - 1),
                jnp.where(is_inside, weights, 0.0),
            )
            loss += tail_loss
            correct *= jnp.where(is_inside, tail_correct, 1.0)
        return Totals(loss, {"accuracy": (correct * weights).sum()}, weights.sum())

    def _exact(self, hidden, table, labels, weights) -> Totals:
        """From the logarithms of all probabilities, for one prediction of each row at a time."""

        def one(prediction: tuple[Array, Array, Array]) -> Totals:
            own_hidden, own_labels, own_weights = prediction
            return cross_entropy(self.logits(own_hidden, table), own_labels, own_weights)

        columns = (jnp.moveaxis(array, 1, 0)[:, :, None] for array in (labels, weights))
        apart = jnp.moveaxis(hidden, 1, 0)[:, :, None]  # P B 1 D
        return jax.tree.map(jnp.sum, jax.lax.map(one, (apart, *columns)))

    def _top_table(self, table: Float[Array, "V D"]) -> Float[Array, "top D"]:
        first, order = self.bounds[0][0], self.config.token_order
        frequent = table[np.array(order[:first])] if order else table[:first]
        return jnp.concatenate([frequent, self.clusters.embedding[...]])

    def _top_bias(self) -> Float[Array, "top"]:
        return jnp.concatenate([self.bias[: self.bounds[0][0]], self.clusters.bias[...]])


HEADS: dict[str, type[FullHead]] = {
    "full": FullHead,
    "blocked": BlockedHead,
    "sampled": SampledHead,
    "adaptive": AdaptiveHead,
}


@functools.lru_cache
def ranks(order: tuple[int, ...]) -> Int[np.ndarray, "V"]:
    """The rank of each id in `order`."""
    return np.argsort(np.array(order)).astype(np.int32)


class NextSentenceHead(nnx.Module):
    """BERT's pooler (dense, tanh on [CLS]) and the two-way classifier, in float32."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        width, dtype = config.hidden_size, jnp.float32
        self.pooler = linear(config, width, width, rngs, dtype=dtype)
        self.classifier = linear(config, width, 2, rngs, dtype=dtype)

    def __call__(self, first: Float[Array, "B D"]) -> Float[Array, "B 2"]:
        """Logits of (is next, is random)."""
        return self.classifier(jnp.tanh(self.pooler(first)))


def _scores(x: Float[Array, "B P D"], table: Float[Array, "V D"]) -> Float[Array, "B P V"]:
    """Dot products with each row of a table, accumulated in float32."""
    return contract("bpd,vd->bpv", x, table, x.dtype, jnp.float32)
