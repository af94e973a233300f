"""Learning rates by parameter name: each parameter gets the factor that the settings promise."""

import pytest

from bert_jax.model import abstract
from bert_jax.tasks.parameters import rate_factors
from bert_jax.training.parameter_rules import assign
from tests.architectures import MODERN
from tests.tasks.examples import task

LAYERS = 3


def factors(**settings):
    """The factor of each parameter of a classifier, as a tree."""
    classes = task("classification")
    classes.labels = ["a", "b"]
    _, params = abstract(MODERN, classes.build)
    rules = rate_factors(MODERN, **{"head": 1.0, "layer_decay": 1.0, "freeze": ""} | settings)
    return assign(rules or [(".*", 1.0)], params)


def values(tree):
    """The distinct numbers in a tree."""
    found = [values(part) for part in tree.values()] if isinstance(tree, dict) else [{tree}]
    return set().union(*found)


def test_layers_decay_from_the_top_down():
    found = factors(layer_decay=0.5)
    for layer in range(LAYERS):
        assert values(found["encoder"]["layers"][layer]) == {0.5 ** (LAYERS - layer)}
    assert values(found["encoder"]["embeddings"]) == {0.5 ** (LAYERS + 1)}
    assert values(found["encoder"]["final_norm"]) == {1.0}
    assert values(found["heads"]) == {1.0}


def test_the_head_has_its_own_rate():
    found = factors(head=10.0)
    assert values(found["heads"]) == {10.0}
    assert values(found["encoder"]) == {1.0}


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [("encoder", {0.0}), (r"encoder\.(embeddings|layers\.0)", {0.0, 1.0})],
)
def test_frozen_parameters_stay_whatever_else_is_set(freeze, frozen):
    found = factors(freeze=freeze, head=2.0)
    assert values(found["encoder"]) == frozen
    assert values(found["encoder"]["embeddings"]) == {0.0}
    assert values(found["encoder"]["layers"][0]) == {0.0}
    assert values(found["heads"]) == {2.0}


def test_without_settings_there_are_no_rules():
    assert rate_factors(MODERN, head=1.0, layer_decay=1.0, freeze="") == ()
