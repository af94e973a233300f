"""Which parameters decay and which Muon takes; the schedule; the first update."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bert_jax import model as model_lib
from bert_jax.common.errors import UserError
from bert_jax.config import default_config, load_config, parse
from bert_jax.model import ModelConfig
from bert_jax.training.optimizers import make_optimizer
from bert_jax.training.optimizers.base import DECAYED
from bert_jax.training.optimizers.matrices import MATRICES
from bert_jax.training.parameter_rules import assign, name_of


def abstract_params(config):
    return model_lib.abstract(ModelConfig(100, **config.model.to_dict()))[1]


def configs():
    classic, modern = default_config(), load_config("configs/quickstart.py")
    return {"classic": classic, "modern": modern}


@pytest.mark.parametrize("family", ["classic", "modern"])
def test_exactly_the_matrices_decay(family):
    params = abstract_params(configs()[family])
    decayed = assign(DECAYED, params)
    for (path, leaf), decays in zip(
        jax.tree.leaves_with_path(params), jax.tree.leaves(decayed), strict=True
    ):
        is_bias = name_of(path).endswith("bias")
        assert decays == (leaf.ndim >= 2 and not is_bias), name_of(path)


@pytest.mark.parametrize("family", ["classic", "modern"])
def test_muon_takes_the_matrices_of_the_encoder_and_the_transform(family):
    params = abstract_params(configs()[family])
    chosen = assign([(regex, axes is not None) for regex, axes in MATRICES], params)
    for path, is_muon in jax.tree.leaves_with_path(chosen):
        name = name_of(path)
        expected = name.endswith("kernel") and ("layers" in name or "transform" in name)
        assert is_muon == expected, name


def test_a_parameter_without_a_rule_is_an_error():
    with pytest.raises(ValueError, match="no rule covers the parameter new"):
        assign(DECAYED, {"new": jnp.zeros(2)})


def test_warmup_longer_than_the_run_is_refused():
    config = default_config()
    config.warmup_steps = config.total_steps
    with pytest.raises(UserError, match=r"config\.warmup_steps"):
        make_optimizer(parse(config).training.optimizer)


def test_an_unknown_optimizer_is_refused():
    config = default_config()
    config.optimizer.name = "sgd"
    with pytest.raises(UserError, match="adamw or muon"):
        make_optimizer(parse(config).training.optimizer)


def test_the_learning_rate_of_each_optimizer_has_a_name():
    config = load_config("configs/quickstart.py")
    config.total_steps, config.warmup_steps = 100, 10
    rates = make_optimizer(parse(config).training.optimizer).learning_rates
    peaks = {name: float(rate(config.warmup_steps)) for name, rate in rates.items()}
    assert peaks == pytest.approx({"learning_rate": 3e-3, "muon_learning_rate": 0.02})


def test_muon_update_of_each_projection_is_orthogonal():
    config = load_config("configs/quickstart.py")
    config.model.num_hidden_layers = 1
    config.total_steps, config.warmup_steps = 100, 0
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 0.0
    params = model_lib.initialize(ModelConfig(100, **config.model.to_dict()), jax.random.key(0))
    optimizer = make_optimizer(parse(config).training.optimizer).update
    gradient = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape), params)
    updates, _ = jax.jit(optimizer.update)(gradient, optimizer.init(params), params)
    query = updates["encoder"]["layers"][0]["attention"]["qkv"]["kernel"][:, 0].reshape(128, 128)
    singular = np.linalg.svd(np.asarray(query), compute_uv=False) / 0.02
    # Five Newton-Schulz steps bring singular values near 1, and no further than this.
    assert singular.min() > 0.3
    assert singular.max() < 1.3


def test_clipping_bounds_the_whole_gradient():
    config = default_config()
    config.warmup_steps = 0
    config.optimizer.clip_norm = 1.0
    config.optimizer.weight_decay = 0.0
    params = {"a": {"kernel": jnp.ones((2, 2))}, "b": {"bias": jnp.ones(2)}}
    big = jax.tree.map(lambda leaf: 1e3 * leaf, params)
    optimizer = make_optimizer(parse(config).training.optimizer).update
    _, state = optimizer.update(big, optimizer.init(params), params)
    first_moment = optax.tree_utils.tree_get(state, "mu")
    assert float(optax.tree.norm(first_moment)) == pytest.approx(0.1, rel=1e-5)  # (1 - b1) * 1
