"""The pretraining heads: masked words, with a choice of softmax, and sentence pairs."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from bert_jax.model.config import ModelConfig
from bert_jax.model.cross_entropy import (
    Totals,
    blocked_cross_entropy,
    cross_entropy,
)
from bert_jax.model.encoder import gelu, layer_norm, linear, truncated_normal
from bert_jax.model.products import Linear, contract
from bert_jax.model.sampled_softmax import sampled_cross_entropy


class FullHead(nnx.Module):
    """Transform, GELU, norm, and the token table as the decoder (tied), with a bias of its own.

    The logits of all predictions exist at once. The other heads are this one with another softmax.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        """Draw the transform."""
        self.config = config
        self.transform = linear(config, config.hidden_size, config.hidden_size, rngs)
        self.norm = layer_norm(config, rngs)
        self.bias = nnx.Param(jnp.zeros(config.vocab_size))

    def features(self, hidden: Float[Array, "B P D"]) -> Float[Array, "B P D"]:
        """What the softmax is computed from."""
        return self.norm(gelu(self.transform(hidden))).astype(self.config.dtype)

    def logits(
        self, hidden: Float[Array, "B P D"], table: Float[Array, "V D"]
    ) -> Float[Array, "B P V"]:
        """Whole logits over the vocabulary, in float32."""
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
          hidden: of the masked positions.
          table: the embeddings of the tokens.
          labels: the right pieces.
          weights: 0 where there is nothing to predict.
          key: of the step, for losses that are drawn; None: exact ones, as evaluation has them.
        """
        del key
        return cross_entropy(self.logits(hidden, table), labels, weights)


class BlockedHead(FullHead):
    """The same function; logits exist for a block of predictions at a time."""

    def totals(self, hidden, table, labels, weights, key):
        """Summed loss and number of correct predictions."""
        del key
        x = self.features(hidden)
        loss, correct = blocked_cross_entropy(x, table, self.bias[...], labels, weights)
        return Totals(loss, {"accuracy": (correct * weights).sum()}, weights.sum())


class SampledHead(BlockedHead):
    """Trains against a sample of the vocabulary; evaluation and parameters are the full head's."""

    def totals(self, hidden, table, labels, weights, key):
        """Summed loss and number of correct predictions; with a key, estimates of them."""
        if key is None:
            return super().totals(hidden, table, labels, weights, key)
        number = self.config.sampled_negatives
        x, bias = self.features(hidden), self.bias[...]
        return sampled_cross_entropy(x, table, bias, labels, weights, number, key)


class Clusters(nnx.Module):
    """The entries of the tails in the first softmax."""

    def __init__(self, config: ModelConfig, tails: int, *, rngs: nnx.Rngs):
        """Draw one row a tail."""
        draw = truncated_normal(config.initializer_range)
        self.embedding = nnx.Param(draw(rngs.params(), (tails, config.hidden_size)))
        self.bias = nnx.Param(jnp.zeros(tails))


class Tail(nnx.Module):
    """The pieces of one cluster, told apart in a narrower space."""

    def __init__(self, config: ModelConfig, width: int, size: int, *, rngs: nnx.Rngs):
        """Draw the projection, which keeps the scale, and one row a piece."""
        self.projection = Linear(
            (config.hidden_size,),
            (width,),
            use_bias=False,
            dtype=config.dtype,
            kernel_init=truncated_normal(config.hidden_size**-0.5),
            rngs=rngs,
        )
        draw = truncated_normal(config.initializer_range)
        self.pieces = nnx.Embed(size, width, embedding_init=draw, rngs=rngs)


class AdaptiveHead(FullHead):
    """Adaptive softmax (https://arxiv.org/abs/1609.04309) over ids in the order of frequency.

    The first ids and one entry for each tail share a softmax (tied to the token table); the ids of
    tail i have one of their own in D / 4^i dimensions, which is computed only for the predictions
    whose label is in it: a block of them at a time, so that shapes are fixed and none is dropped.
    A piece's probability is its tail's times its own within the tail.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        """Draw the transform and the tails."""
        super().__init__(config, rngs=rngs)
        ends = (*config.cutoffs[1:], config.vocab_size)
        self.bounds = tuple(zip(config.cutoffs, ends, strict=True))
        tails = len(self.bounds)
        self.clusters = Clusters(config, tails, rngs=rngs)
        sizes = [end - begin for begin, end in self.bounds]
        shapes = zip(config.tail_widths, sizes, strict=True)
        self.tails = nnx.List([Tail(config, *shape, rngs=rngs) for shape in shapes])

    def logits(self, hidden, table):
        """Logarithms of the probabilities of all pieces, which costs what a full head costs."""
        x, first = self.features(hidden), self.bounds[0][0]
        top = jax.nn.log_softmax(_scores(x, self._top_table(table)) + self._top_bias())
        parts = [top[..., :first]]
        for index, (tail, (begin, end)) in enumerate(zip(self.tails, self.bounds, strict=True)):
            scores = _scores(tail.projection(x), tail.pieces.embedding[...])
            inside = jax.nn.log_softmax(scores + self.bias[begin:end])
            parts.append(inside + top[..., first + index, None])
        return jnp.concatenate(parts, axis=-1)

    def totals(self, hidden, table, labels, weights, key):
        """Summed loss and number of correct predictions.

        With a key, a prediction in a tail counts as correct only if its tail wins the first
        softmax; the exact count would need all tails for all predictions.
        """
        if key is None:
            return self._exact(hidden, table, labels, weights)
        x, first = self.features(hidden), self.bounds[0][0]
        cluster = jnp.searchsorted(jnp.asarray(self.config.cutoffs), labels, side="right")
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
        return jnp.concatenate([table[: self.bounds[0][0]], self.clusters.embedding[...]])

    def _top_bias(self) -> Float[Array, "top"]:
        return jnp.concatenate([self.bias[: self.bounds[0][0]], self.clusters.bias[...]])


HEADS = {"full": FullHead, "blocked": BlockedHead, "sampled": SampledHead, "adaptive": AdaptiveHead}


class NextSentenceHead(nnx.Module):
    """BERT's pooler (dense, tanh on [CLS]) and the two-way classifier, in float32."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        """Draw both maps."""
        width, dtype = config.hidden_size, jnp.float32
        self.pooler = linear(config, width, width, rngs, dtype=dtype)
        self.classifier = linear(config, width, 2, rngs, dtype=dtype)

    def __call__(self, first: Float[Array, "B D"]) -> Float[Array, "B 2"]:
        """Logits of (is next, is random)."""
        return self.classifier(jnp.tanh(self.pooler(first)))


def _scores(x: Float[Array, "B P D"], table: Float[Array, "V D"]) -> Float[Array, "B P V"]:
    """The products with each row of a table, accumulated in float32."""
    return contract("bpd,vd->bpv", x, table, x.dtype, jnp.float32)
