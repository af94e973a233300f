"""Optimizers step by step against their published formulas, in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, parse
from bert_jax.training.optimizers import make_optimizer, restart_schedules
from bert_jax.training.parameter_rules import check_rules

B1, B2, EPSILON, DECAY, RATE, MATRIX_RATE = 0.9, 0.95, 1e-6, 0.1, 0.03, 0.05
STEPS = 5
SHAPES = {
    "qkv": (4, 3, 2, 2),  # three matrices of 4 x 4
    "input": (4, 2, 6),  # two of 4 x 6
    "output": (6, 4),
    "embedding": (7, 4),
    "scale": (4,),
}


def tree(arrays):
    """The arrays under the names that the rules look for."""
    return {
        "attention": {"qkv": {"kernel": arrays["qkv"]}},
        "feed_forward": {
            "input": {"kernel": arrays["input"]},
            "output": {"kernel": arrays["output"]},
        },
        "tokens": {"embedding": arrays["embedding"]},
        "norm": {"scale": arrays["scale"]},
    }


def tensors(array, name):
    """The separate tensors of an array, as matrices where they are."""
    if name == "qkv":
        return [array[:, i].reshape(4, 4) for i in range(3)]
    if name == "input":
        return [array[:, i] for i in range(2)]
    return [array]


def joined(parts, name):
    if name == "qkv":
        return np.stack([part.reshape(4, 2, 2) for part in parts], axis=1)
    return np.stack(parts, axis=1) if name == "input" else parts[0]


def draw(seed, shapes=SHAPES):
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape) for name, shape in shapes.items()}


def settings(name, **fields):
    config = default_config()
    config.total_steps, config.warmup_steps, config.learning_rate = 10, 0, RATE
    config.optimizer.update(
        name=name,
        b1=B1,
        b2=B2,
        epsilon=EPSILON,
        weight_decay=DECAY,
        clip_norm=0.0,
        muon_learning_rate=MATRIX_RATE,
        **fields,
    )
    return parse(config).training.optimizer


def ours(given, shapes=SHAPES, begin=lambda state: state):
    """The parameters after each step, with the gradients `draw(1)`, `draw(2)`, ...

    `begin` makes the first state of the optimizer of a new one.
    """
    with jax.enable_x64(True):
        optimizer = make_optimizer(given).update
        params = tree(jax.tree.map(jnp.asarray, draw(0, shapes)))
        state = begin(optimizer.init(params))
        update = jax.jit(optimizer.update)
        found = []
        for step in range(STEPS):
            gradient = tree(jax.tree.map(jnp.asarray, draw(step + 1, shapes)))
            updates, state = update(gradient, state, params)
            params = jax.tree.map(jnp.add, params, updates)
            found.append(jax.tree.map(np.asarray, params))
    return found


class Published:
    """One tensor's published update; `__call__` gives what is subtracted, without the rate."""

    def __init__(self, is_matrix):
        self.is_matrix = is_matrix
        self.m = self.v = 0.0
        self.t = 0

    def adam(self, g):
        self.t += 1
        self.m = B1 * self.m + (1 - B1) * g
        self.v = B2 * self.v + (1 - B2) * g**2
        self.m_hat, self.v_hat = self.m / (1 - B1**self.t), self.v / (1 - B2**self.t)
        return self.m_hat / (np.sqrt(self.v_hat) + EPSILON)


class AdamW(Published):
    def __call__(self, w, g):
        return RATE, self.adam(g) + (DECAY * w if w.ndim > 1 else 0)


class Lamb(Published):
    adapts_all = False

    def __call__(self, w, g):
        update = self.adam(g) + (DECAY * w if w.ndim > 1 else 0)
        if w.ndim == 1 and not self.adapts_all:
            return RATE, update
        return RATE, update * np.linalg.norm(w) / np.linalg.norm(update)


class LambOnAll(Lamb):
    adapts_all = True


class StableAdamW(Published):
    def __call__(self, w, g):
        update = self.adam(g) + (DECAY * w if w.ndim > 1 else 0)
        rms = np.sqrt(np.mean(g**2 / np.maximum(self.v_hat, EPSILON**2)))
        return RATE / max(1, rms), update


def newton_schulz(x):
    """Keller Jordan's five quintic iterations."""
    flipped = x.shape[0] > x.shape[1]
    x = x.T if flipped else x
    x = x / (np.linalg.norm(x) + 1e-8)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if flipped else x


class Muon(Published):
    """With Nesterov momentum; its size does not matter, as the direction is normalized."""

    momentum = 0.95

    def __call__(self, w, g):
        if not self.is_matrix:
            return AdamW.__call__(self, w, g)
        self.t += 1
        self.m = self.momentum * self.m + (1 - self.momentum) * g
        m_hat = self.m / (1 - self.momentum ** (self.t + 1))  # as optax corrects Nesterov's look
        g_hat = g / (1 - self.momentum**self.t)
        update = newton_schulz(self.momentum * m_hat + (1 - self.momentum) * g_hat)
        return MATRIX_RATE, self.scale(w) * update + DECAY * w

    def scale(self, w):
        return np.sqrt(max(1, w.shape[1] / w.shape[0]))


class MuonOfRms(Muon):
    def scale(self, w):
        return 0.2 * np.sqrt(max(w.shape))


class NorMuon(Published):
    """Algorithm 1, with matrices as [inputs, outputs]: a row of the paper's is a column here."""

    def __call__(self, w, g):
        if not self.is_matrix:
            return AdamW.__call__(self, w, g)
        self.m = 0.95 * self.m + 0.05 * g
        update = newton_schulz(self.m)
        self.v = 0.95 * self.v + 0.05 * (update**2).mean(axis=0)
        update = update / (np.sqrt(self.v) + 1e-8)
        size = 0.2 * np.sqrt(w.size) / np.linalg.norm(update)
        return MATRIX_RATE, size * update + DECAY * w


class Soap(Published):
    """Algorithm 3 with a renewal at every second step; the first gradient begins the bases."""

    def __call__(self, w, g):
        if not self.is_matrix:
            return AdamW.__call__(self, w, g)
        update = np.zeros_like(w)
        if self.t:
            rotated = self.left.T @ g @ self.right
            self.m = B1 * self.m + (1 - B1) * g
            self.v = B2 * self.v + (1 - B2) * rotated**2
            mean = self.left.T @ self.m @ self.right / (1 - B1**self.t)
            root = np.sqrt(self.v / (1 - B2**self.t)) + EPSILON
            update = self.left @ (mean / root) @ self.right.T
            self.l = B2 * self.l + (1 - B2) * g @ g.T
            self.r = B2 * self.r + (1 - B2) * g.T @ g
            if self.t % 2 == 0:
                self.left = np.linalg.qr(self.l @ self.left)[0]
                self.right = np.linalg.qr(self.r @ self.right)[0]
        else:
            self.l, self.r = (1 - B2) * g @ g.T, (1 - B2) * g.T @ g
            self.left = np.linalg.eigh(self.l)[1][:, ::-1]
            self.right = np.linalg.eigh(self.r)[1][:, ::-1]
        self.t += 1
        return MATRIX_RATE, update + DECAY * w


CASES = {
    "adamw": (AdamW, {}),
    "lamb": (Lamb, {}),
    "lamb, all": (LambOnAll, {"lamb_adapts": "all"}),
    "stable_adamw": (StableAdamW, {}),
    "muon": (Muon, {}),
    "muon, rms": (MuonOfRms, {"muon_scale": "rms"}),
    "normuon": (NorMuon, {}),
    "soap": (Soap, {"soap_every": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_published_formula(case):
    published, fields = CASES[case]
    # The first gradient of a wide matrix leaves SOAP a choice of eigenvectors to the eigenvalue 0.
    shapes = SHAPES | {"input": (4, 2, 4), "output": (4, 4)} if case == "soap" else SHAPES
    found = ours(settings(case.partition(",")[0], **fields), shapes)
    params = draw(0, shapes)
    rules = {
        name: [published(name in ("qkv", "input", "output")) for _ in tensors(array, name)]
        for name, array in params.items()
    }
    for step in range(STEPS):
        gradient, share = draw(step + 1, shapes), 1 - step / 10  # the linear schedule
        for name, array in params.items():
            parts = []
            for rule, w, g in zip(
                rules[name], tensors(array, name), tensors(gradient[name], name), strict=True
            ):
                rate, update = rule(w, g)
                parts.append(w - share * rate * update)
            params[name] = joined(parts, name)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8),
            found[step],
            tree(params),
        )


def test_factors_scale_the_update_and_freeze():
    plain = ours(settings("adamw"))[0]
    scaled = ours(settings("adamw", rates="qkv.kernel=0; .*embedding=0.5; .*=1"))[0]
    before = tree(draw(0))
    np.testing.assert_array_equal(
        scaled["attention"]["qkv"]["kernel"], before["attention"]["qkv"]["kernel"]
    )
    np.testing.assert_allclose(
        2 * (scaled["tokens"]["embedding"] - before["tokens"]["embedding"]),
        plain["tokens"]["embedding"] - before["tokens"]["embedding"],
    )
    np.testing.assert_array_equal(scaled["norm"]["scale"], plain["norm"]["scale"])


def averaging(last, **fields):
    """Settings of a run of STEPS steps that ends with the mean of its last ones."""
    given = settings("adamw", **fields)
    section = given.sections[0]._replace(steps=STEPS)
    return dataclasses.replace(given, sections=(section,), average_last=last)


@pytest.mark.parametrize(
    ("begin", "averaged"),
    [
        (lambda state: state, 3),
        # Made longer after a mean over other steps: it begins anew in the last steps.
        (lambda state: state._replace(averaged=jnp.float32(7), mean=tree(draw(9))), 3),
        # A branch that begins when the last steps have begun: the mean is over those that it makes.
        (lambda state: state._replace(steps=jnp.int32(STEPS - 2)), 2),
        # A warm optimizer in a new run.
        (lambda state: restart_schedules(state._replace(steps=jnp.int32(8))), 3),
    ],
)
def test_the_mean_of_the_last_steps_is_what_a_run_ends_with(begin, averaged):
    plain = ours(averaging(0))
    made = STEPS if averaged == 3 else 2  # steps up to the end of the run
    found = ours(averaging(3), begin=begin)
    jax.tree.map(np.testing.assert_array_equal, found[made - 2], plain[made - 2])
    jax.tree.map(
        lambda found, *last: np.testing.assert_allclose(found, np.mean(last, axis=0), rtol=1e-5),
        found[made - 1],
        *plain[made - averaged : made],
    )


def test_a_mean_of_more_steps_than_a_run_has_is_refused():
    with pytest.raises(UserError, match=r"average_last is 11, and the run has 10 steps: set it to"):
        settings("adamw", average_last=11)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ("embedding=0.5", "no rule covers the parameter attention.qkv.kernel; end with"),
        ("layers.*=0; .*=1", "no parameter is left for 'layers"),
        ("embedding", "which is no list of REGEX=FACTOR"),
    ],
)
def test_factors_that_miss_are_refused(rates, message):
    with pytest.raises(UserError, match=message):
        check_rules("optimizer.rates", settings("adamw", rates=rates).rates, tree(draw(0)))
