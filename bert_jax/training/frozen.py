"""Parameters that losses depend on and that are not trained, such as a teacher's."""

from typing import Any

import jax

from bert_jax.model import Params


class Frozen:
    """Arguments of the compiled step beside the state and the batch; not in checkpoints.

    Closed over, they would be constants of the program, one copy for each.
    """

    def __init__(self, params: Params):
        """`params`: arrays on the host, the same in all processes."""
        self.params = params
        self._placed: Params = {}
        self._shardings: Any = None

    def on(self, shardings: Any) -> Params:
        """The parameters on the devices: placed once, however many steps are compiled."""
        if self._shardings != shardings:
            self._placed, self._shardings = jax.device_put(self.params, shardings), shardings
        return self._placed

    def abstract(self, shardings: Any) -> Any:
        """Their shapes, types and shardings, for devices that this machine need not have."""
        return jax.tree.map(
            lambda leaf, spread: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spread),
            self.params,
            shardings,
        )


NOTHING = Frozen({})
