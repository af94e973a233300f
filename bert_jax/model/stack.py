"""Runs all layers: unrolled in the program, or as a scan over groups of layers.

In both cases the parameters are a tree with an entry for each layer; a scan stacks them inside the
traced step.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from bert_jax.model.config import ModelConfig
from bert_jax.model.placement import ROWS, place
from bert_jax.model.products import PRODUCT

Hidden = Float[Array, "B L D"]
Key = PRNGKeyArray | None
Apply = Callable[[Any, Hidden, int, Key], Hidden]  # layer, its input, its window, its dropout key

# What a layer's forward pass saves for the backward pass, besides the layer's input.
POLICIES = {
    "dots": jax.checkpoint_policies.save_only_these_names(PRODUCT),  # of the linear maps
    "full": jax.checkpoint_policies.nothing_saveable,
}


class _Layer(NamedTuple):
    """One layer: how it is built, its parameters, its window and its dropout key."""

    structure: nnx.GraphDef
    params: Any
    window: int
    key: Key


class Loop(NamedTuple):
    """Which of some layers a scan covers: `repeats` groups of `period`, from number `first` on."""

    first: int
    period: int
    repeats: int

    @property
    def stop(self) -> int:
        """The first layer after the loop."""
        return self.first + self.period * self.repeats


def apply_layers(
    layers: Sequence[nnx.Module],
    x: Hidden,
    keys: Sequence[Key],
    apply: Apply,
    config: ModelConfig,
    which: range,
) -> Hidden:
    """The output of the last of some consecutive layers.

    Args:
      layers: all layers.
      x: input of the first of `which`.
      keys: the dropout key of each layer, the same for every way to run the layers.
      apply: computes one layer.
      config: `layers` and `rematerialization` say how.
      which: the layers that are applied.
    """
    parts = []
    for index in which:
        structure, params = nnx.split(layers[index], nnx.Param)
        parts.append(_Layer(structure, params, config.window(index), keys[index]))
    loop = scan_loop(config, which)
    if not loop.repeats:
        return _unrolled(parts, x, apply, config.rematerialization)
    x = _unrolled(parts[: loop.first], x, apply, config.rematerialization)
    x = _scanned(parts[loop.first : loop.stop], x, apply, config.rematerialization, loop.period)
    return _unrolled(parts[loop.stop :], x, apply, config.rematerialization)


def scan_loop(config: ModelConfig, which: range) -> Loop:
    """The layers of `which` that can be scanned: groups with the same structure and windows.

    ModernBERT's base size as an example: 22 layers, every third one global (G), the others local
    (L). The first layer has no attention norm and is unrolled; the loop has 7 repeats of 3 layers:

        G | L L G | L L G | L L G | L L G | L L G | L L G | L L G

    Layers that are left over at the end are unrolled too.
    """
    if config.layers == "unrolled":
        return Loop(0, 1, 0)
    first = 1 if config.norm == "pre" and which.start == 0 else 0
    period = config.global_every if config.local_attention else 1
    repeats = (len(which) - first) // period
    return Loop(first, period, repeats) if repeats > 1 else Loop(0, 1, 0)


def _unrolled(layers: Sequence[_Layer], x: Hidden, apply: Apply, remat: str) -> Hidden:
    for layer in layers:
        x = _run(layer, x, apply, remat, is_in_scan=False)
    return x


def _scanned(layers: Sequence[_Layer], x: Hidden, apply: Apply, remat: str, period: int) -> Hidden:
    """A scan over groups of `period` layers; layer i of every group has one structure."""
    group = layers[:period]
    stacked = [
        jax.tree.map(
            lambda *leaves: jnp.stack(leaves),
            *((layer.params, layer.key) for layer in layers[index::period]),
        )
        for index in range(period)
    ]

    def step(x: Hidden, of_group: list[tuple[Any, Key]]) -> tuple[Hidden, None]:
        for layer, (params, key) in zip(group, of_group, strict=True):
            layer = layer._replace(params=params, key=key)
            x = _run(layer, x, apply, remat, is_in_scan=True)
        return x, None

    return jax.lax.scan(step, x, stacked)[0]


def _run(layer: _Layer, x: Hidden, apply: Apply, remat: str, *, is_in_scan: bool) -> Hidden:
    def forward(x: Hidden, params: Any, key: Key) -> Hidden:
        module = nnx.merge(layer.structure, params)
        return place(apply(module, x, layer.window, key), ROWS)

    if remat != "none":
        # The compiler must not merge the recomputation with the first computation; inside a scan
        # it cannot.
        forward = jax.checkpoint(forward, policy=POLICIES[remat], prevent_cse=not is_in_scan)
    return forward(x, layer.params, layer.key)
