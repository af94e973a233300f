"""The way through the layers: unrolled or scanned, keeping or recomputing what lies between.

The parameters are a tree with an entry a layer in either case; what is scanned is stacked while the
step is traced.
"""

from collections.abc import Callable, Sequence
from typing import Any

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

# What the forward pass of a layer leaves for the backward pass, besides the layer's input.
POLICIES = {
    "dots": jax.checkpoint_policies.save_only_these_names(PRODUCT),  # of the linear maps
    "full": jax.checkpoint_policies.nothing_saveable,
}


def through_layers(
    layers: Sequence[nnx.Module], x: Hidden, keys: Sequence[Key], apply: Apply, config: ModelConfig
) -> Hidden:
    """The output of the last layer.

    Args:
      layers: all layers.
      x: input of the first.
      keys: of each layer's dropout, whether it is scanned or not.
      apply: computes one layer.
      config: `layers` and `rematerialization` say how.
    """
    parts = [nnx.split(layer, nnx.Param) for layer in layers]
    start, period, repeats = repeating(config)
    stop = start + period * repeats

    def run(
        indices: range, params: Sequence[Any], x: Hidden, keys: Sequence[Key], is_scanned: bool
    ) -> Hidden:
        for index, own, key in zip(indices, params, keys, strict=True):
            window, structure = config.window(index), parts[index][0]

            def layer(x: Hidden, own: Any, key: Key, window=window, structure=structure) -> Hidden:
                return place(apply(nnx.merge(structure, own), x, window, key), ROWS)

            x = _rematerialized(layer, config.rematerialization, is_scanned)(x, own, key)
        return x

    def run_unrolled(indices: range, x: Hidden) -> Hidden:
        own, own_keys = [parts[i][1] for i in indices], [keys[i] for i in indices]
        return run(indices, own, x, own_keys, is_scanned=False)

    x = run_unrolled(range(start), x)
    if repeats:
        places = [range(start + offset, stop, period) for offset in range(period)]
        stacked = [
            jax.tree.map(
                lambda *leaves: jnp.stack(leaves), *((parts[i][1], keys[i]) for i in every)
            )
            for every in places
        ]

        def step(x: Hidden, group: list[tuple[Any, Key]]) -> tuple[Hidden, None]:
            params, own_keys = zip(*group, strict=True)
            indices = range(start, start + period)
            return run(indices, params, x, own_keys, is_scanned=True), None

        x, _ = jax.lax.scan(step, x, stacked)
    return run_unrolled(range(stop, len(layers)), x)


def repeating(config: ModelConfig) -> tuple[int, int, int]:
    """What is scanned: the first layer, layers in a group that repeats, how often it does.

    A pre-norm encoder's first layer has no attention norm and stands apart. Where every n-th layer
    is global, a group is n layers; what is left over at the end is unrolled.
    """
    if config.layers == "unrolled":
        return 0, 1, 0
    start = 1 if config.norm == "pre" else 0
    period = config.global_every if config.local_attention else 1
    repeats = (config.num_hidden_layers - start) // period
    return (start, period, repeats) if repeats > 1 else (0, 1, 0)


def _rematerialized(
    layer: Callable[..., Hidden], rematerialization: str, is_scanned: bool
) -> Callable[..., Hidden]:
    if rematerialization == "none":
        return layer
    # The body of a scan is apart from the rest already, so that nothing can be merged away.
    return jax.checkpoint(layer, policy=POLICIES[rematerialization], prevent_cse=not is_scanned)
