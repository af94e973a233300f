"""The parameters at the start of a fine-tuning, and their learning rates by name."""

import jax

from bert_jax.model import ModelConfig, Params
from bert_jax.tasks.heads import starting_head


def starting_params(random: Params, pretrained: Params | None) -> Params:
    """The pretrained encoder under new heads, which take over what pretraining trained of them.

    Args:
      random: the whole model's initial parameters.
      pretrained: with `encoder` and any pretraining heads; None: all stay random.
    """
    if pretrained is None:
        return random
    heads = {
        name: starting_head(head, pretrained) for name, head in random.get("heads", {}).items()
    }
    own = {"heads": heads} if heads else {}
    return jax.tree.map(
        lambda new, like: jax.device_put(new, like.sharding),
        {"encoder": pretrained["encoder"], **own},
        random,
    )


def rate_factors(
    model: ModelConfig, *, head: float, layer_decay: float, freeze: str
) -> tuple[tuple[str, float], ...]:
    """Rules (regex, factor) by parameter name for `OptimizerSettings.rates`; (): 1 for all.

    The learning rate of layer i of n is multiplied by layer_decay ** (n - i), that of the
    embeddings by layer_decay ** (n + 1) (https://arxiv.org/abs/1905.05583, section 5.3.4).

    Args:
      model: of the encoder.
      head: factor of the heads.
      layer_decay: 1: all layers alike.
      freeze: regex of the beginnings of names of parameters that do not change; empty: none.
    """
    rules: list[tuple[str, float]] = [(f"^({freeze}).*", 0.0)] if freeze else []
    if head != 1.0:
        rules.append((r"^heads\..*", head))
    if layer_decay != 1.0:
        layers = model.num_hidden_layers
        rules += [
            (rf"^encoder\.layers\.{i}\..*", layer_decay ** (layers - i)) for i in range(layers)
        ]
        rules.append((r"^encoder\.embeddings\..*", layer_decay ** (layers + 1)))
    return (*rules, (".*", 1.0)) if rules else ()
