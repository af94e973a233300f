"""The masked-language head with an adaptive softmax: rare tokens in narrower spaces."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from bert_jax.common.errors import UserError
from bert_jax.model.config import ModelConfig
from bert_jax.model.cross_entropy import Totals, blocked_cross_entropy, cross_entropy
from bert_jax.model.encoder import truncated_normal
from bert_jax.model.heads.base import FullHead, token_scores
from bert_jax.model.products import Linear


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
    """Adaptive softmax (https://arxiv.org/abs/1609.04309) over tokens ordered by frequency.

    The most frequent tokens and one entry for each tail share a softmax (tied to the token table);
    the tokens of tail i have another one in D / 4^i dimensions, which is computed only for the
    predictions whose label is in it: a block of them at a time, so that shapes are fixed and none
    is dropped. A token's probability is the tail's times the token's within the tail.

    Cutoffs, bias and tails are indexed by rank: a token's position in `config.token_order`.
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
        """The width of each tail: D / 4, then a quarter of the one before."""
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
        """Log probabilities of all tokens; as expensive as a full head."""
        x, first = self.features(hidden), self.bounds[0][0]
        top = jax.nn.log_softmax(token_scores(x, self._top_table(table)) + self._top_bias())
        parts = [top[..., :first]]
        for index, (tail, (begin, end)) in enumerate(zip(self.tails, self.bounds, strict=True)):
            scores = token_scores(tail.projection(x), tail.pieces.embedding[...])
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
        """From all log probabilities, for one prediction of each row at a time."""

        def one(prediction: tuple[Array, Array, Array]) -> Totals:
            hidden, labels, weights = prediction
            return cross_entropy(self.logits(hidden, table), labels, weights)

        columns = (jnp.moveaxis(array, 1, 0)[:, :, None] for array in (labels, weights))
        by_prediction = jnp.moveaxis(hidden, 1, 0)[:, :, None]  # P B 1 D
        return jax.tree.map(jnp.sum, jax.lax.map(one, (by_prediction, *columns)))

    def _top_table(self, table: Float[Array, "V D"]) -> Float[Array, "top D"]:
        first, order = self.bounds[0][0], self.config.token_order
        frequent = table[np.array(order[:first])] if order else table[:first]
        return jnp.concatenate([frequent, self.clusters.embedding[...]])

    def _top_bias(self) -> Float[Array, "top"]:
        return jnp.concatenate([self.bias[: self.bounds[0][0]], self.clusters.bias[...]])


@functools.lru_cache
def ranks(order: tuple[int, ...]) -> Int[np.ndarray, "V"]:
    """The rank of each id in `order`."""
    return np.argsort(np.array(order)).astype(np.int32)
