"""How long a save stops training: `python benchmarks/save_time.py [--directory=DIR]`.

Saves a state as large as BERT-base's with AdamW three times, 1.3 GB each, and prints the time until
`save` returns and until the checkpoint with its digests is complete. The first save also compiles
the check for NaN.
"""

import argparse
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax.common import platforms
from bert_jax.config import load_config, parse
from bert_jax.model import ModelConfig, abstract
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.digests import damage
from bert_jax.training.optimizers import make_optimizer
from bert_jax.training.step import TrainState

VOCABULARY = 30_522


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: /tmp")
    with tempfile.TemporaryDirectory(dir=parser.parse_args().directory) as directory:
        measure(Path(directory))


def measure(directory: Path) -> None:
    config = load_config(str(Path(__file__).parent.parent / "configs" / "bert.py"), "base")
    settings = parse(config)
    _, shapes = abstract(ModelConfig(VOCABULARY, **config.model.to_dict()))
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    opt_state = make_optimizer(settings.training.optimizer).update.init(params)
    # Not zeros, which Orbax would compress to nothing.
    params, opt_state = jax.tree.map(random, (params, opt_state))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((params, opt_state)))
    print(f"{jax.devices()[0].device_kind}, {size / 1e9:.2f} GB")
    checkpoints = Checkpoints(directory, keep=1)
    for step in (1, 2, 3):
        state = jax.block_until_ready(TrainState(jnp.int32(step), params, opt_state))
        began = time.perf_counter()
        checkpoints.save(state, {})
        blocked = time.perf_counter() - began
        checkpoints.wait()
        total = time.perf_counter() - began
        print(f"save {step}: training waits {blocked:.2f} s; complete after {total:.1f} s")
    checkpoints.close()
    began = time.perf_counter()
    assert damage(directory / "3") is None
    print(f"compared with its digests in {time.perf_counter() - began:.1f} s")


def random(leaf: jax.Array) -> jax.Array:
    values = np.random.default_rng(0).standard_normal(leaf.shape, np.float32)
    return jnp.asarray(values).astype(leaf.dtype)


if __name__ == "__main__":
    platforms.hide_missing_tpu()
    main()
