"""The CRF equals a brute-force sum over all sequences; words that are not scored do not count."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.tasks import crf

TAGS, LENGTH = 3, 5


@pytest.fixture(scope="module")
def row():
    """Emissions of five tokens, three of them words, and transitions."""
    random = np.random.default_rng(0)
    emissions = jnp.asarray(random.normal(size=(1, LENGTH, TAGS)), jnp.float32)
    transitions = jnp.asarray(random.normal(size=(TAGS + 1, TAGS + 1)), jnp.float32)
    mask = jnp.array([[False, True, True, False, True]])
    return emissions, transitions, mask


def score_of(tags, emissions, transitions, words):
    """The score of a sequence, added up one by one."""
    total = transitions[TAGS, tags[0]] + transitions[tags[-1], TAGS]
    total += sum(emissions[0, word, tag] for word, tag in zip(words, tags, strict=True))
    return float(total + sum(transitions[a, b] for a, b in itertools.pairwise(tags)))


def test_likelihood_and_best_tags_equal_the_sum_over_all_sequences(row):
    emissions, transitions, mask = row
    words = np.flatnonzero(mask[0])
    sequences = list(itertools.product(range(TAGS), repeat=len(words)))
    arrays = np.asarray(emissions), np.asarray(transitions)
    scores = np.array([score_of(tags, *arrays, words) for tags in sequences])
    partition = np.log(np.exp(scores).sum())

    compact = crf.compact(emissions, jnp.zeros(mask.shape, jnp.int32), mask)
    found = crf.log_partition(compact[0], compact[2], transitions)
    np.testing.assert_allclose(found[0], partition, rtol=1e-5)

    model = crf.Crf(TAGS)
    model.transitions[...] = transitions
    placed = np.full((len(sequences), LENGTH), 7)
    placed[:, words] = sequences
    tile = (len(sequences), 1)
    likelihoods = model.log_likelihood(
        jnp.tile(emissions, (*tile, 1)), jnp.asarray(placed), jnp.tile(mask, tile)
    )
    np.testing.assert_allclose(likelihoods, scores - partition, atol=1e-4)
    best = model.decode(emissions, mask)[0]
    assert tuple(np.asarray(best)[words]) == sequences[int(scores.argmax())]
    assert not np.asarray(best)[~np.asarray(mask[0])].any()


def test_a_row_without_words_has_no_loss_and_a_finite_gradient(row):
    emissions, transitions, _ = row
    model = crf.Crf(TAGS)
    model.transitions[...] = transitions
    nothing = jnp.zeros((1, LENGTH), bool)

    def likelihood(emissions):
        return model.log_likelihood(emissions, jnp.zeros((1, LENGTH), jnp.int32), nothing).sum()

    assert likelihood(emissions) == 0.0
    np.testing.assert_array_equal(jax.grad(likelihood)(emissions), 0.0)
