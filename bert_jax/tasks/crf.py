"""A linear-chain conditional random field over the tags of a row.

J. Lafferty, A. McCallum, F. Pereira: "Conditional random fields", ICML 2001. Scores of a sequence
of tags: the emissions of its words, a transition for each pair of neighbours, and scores of its
first and last tag. Words that are not scored (later pieces, padding) are skipped.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int


class Crf(nnx.Module):
    """Scores of neighbouring tags, [from, to]; row K: of the first tag, column K: of the last."""

    def __init__(self, tags: int):
        self.transitions = nnx.Param(jnp.zeros((tags + 1, tags + 1)))

    def log_likelihood(
        self, emissions: Float[Array, "B L K"], tags: Int[Array, "B L"], mask: Bool[Array, "B L"]
    ) -> Float[Array, "B"]:
        """The log-probability of `tags` where `mask`; 0 for rows without a word."""
        emissions, tags, mask = compact(emissions, tags, mask)
        scores = self.transitions[...]
        return jnp.where(
            mask[:, 0],
            score(emissions, tags, mask, scores) - log_partition(emissions, mask, scores),
            0.0,
        )

    def decode(
        self, emissions: Float[Array, "B L K"], mask: Bool[Array, "B L"]
    ) -> Int[Array, "B L"]:
        """The best tags of the words in each row, at their places; elsewhere 0."""
        packed, _, packed_mask = compact(emissions, jnp.zeros(mask.shape, jnp.int32), mask)
        best = viterbi(packed, packed_mask, self.transitions[...])
        place = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
        return jnp.where(mask, jnp.take_along_axis(best, place, axis=1), 0)


def compact(
    emissions: Float[Array, "B L K"], tags: Int[Array, "B L"], mask: Bool[Array, "B L"]
) -> tuple[Float[Array, "B L K"], Int[Array, "B L"], Bool[Array, "B L"]]:
    """The words of each row moved to its beginning."""
    order = jnp.argsort(~mask, axis=1, stable=True)
    return (
        jnp.take_along_axis(emissions, order[..., None], axis=1),
        jnp.take_along_axis(tags, order, axis=1),
        jnp.take_along_axis(mask, order, axis=1),
    )


def score(
    emissions: Float[Array, "B L K"],
    tags: Int[Array, "B L"],
    mask: Bool[Array, "B L"],
    transitions: Float[Array, "K1 K1"],
) -> Float[Array, "B"]:
    """The unnormalized score of compact tags."""
    tags = jnp.where(mask, tags, 0)
    own = jnp.take_along_axis(emissions, tags[..., None], axis=2)[..., 0]
    steps = transitions[tags[:, :-1], tags[:, 1:]]
    last = jnp.take_along_axis(tags, jnp.maximum(mask.sum(axis=1) - 1, 0)[:, None], axis=1)[:, 0]
    ends = transitions[-1, tags[:, 0]] + transitions[last, -1]
    return jnp.where(mask, own, 0.0).sum(1) + jnp.where(mask[:, 1:], steps, 0.0).sum(1) + ends


def log_partition(
    emissions: Float[Array, "B L K"],
    mask: Bool[Array, "B L"],
    transitions: Float[Array, "K1 K1"],
) -> Float[Array, "B"]:
    """The log of the summed exponentials of the scores of all sequences (forward algorithm)."""
    inner = transitions[:-1, :-1]

    def step(alpha: Array, word: tuple[Array, Array]) -> tuple[Array, None]:
        emission, is_word = word
        new = jax.nn.logsumexp(alpha[:, :, None] + inner, axis=1) + emission
        return jnp.where(is_word[:, None], new, alpha), None

    first = emissions[:, 0] + transitions[-1, :-1]
    words = emissions[:, 1:].swapaxes(0, 1), mask[:, 1:].swapaxes(0, 1)
    alpha, _ = jax.lax.scan(step, first, words)
    return jax.nn.logsumexp(alpha + transitions[:-1, -1], axis=1)


def viterbi(
    emissions: Float[Array, "B L K"],
    mask: Bool[Array, "B L"],
    transitions: Float[Array, "K1 K1"],
) -> Int[Array, "B L"]:
    """The sequence of tags with the highest score, of compact words; 0 after the last word."""
    inner = transitions[:-1, :-1]

    def forward(best: Array, word: tuple[Array, Array]) -> tuple[Array, Array]:
        emission, is_word = word
        candidates = best[:, :, None] + inner
        new = candidates.max(axis=1) + emission
        stay = jnp.broadcast_to(jnp.arange(inner.shape[0]), new.shape)
        back = jnp.where(is_word[:, None], candidates.argmax(axis=1), stay)
        return jnp.where(is_word[:, None], new, best), back

    first = emissions[:, 0] + transitions[-1, :-1]
    words = emissions[:, 1:].swapaxes(0, 1), mask[:, 1:].swapaxes(0, 1)
    best, backs = jax.lax.scan(forward, first, words)
    last = (best + transitions[:-1, -1]).argmax(axis=1)

    def backward(tag: Array, back: Array) -> tuple[Array, Array]:
        before = jnp.take_along_axis(back, tag[:, None], axis=1)[:, 0]
        return before, tag

    begin, rest = jax.lax.scan(backward, last, backs, reverse=True)
    tags = jnp.concatenate([begin[None], rest]).swapaxes(0, 1)
    return jnp.where(mask, tags, 0).astype(jnp.int32)
