"""What a change of a recipe costs: the step of each arm, in turns within one process.

    python -m benchmarks.step_turns --store=DIR --arm='bfloat16: model.compute_dtype=bfloat16' ...

Arms as in benchmarks/ablate.py; `base` is `--recipe` with `--set`. Gives the seconds and the CPU
seconds of a step (the least of each turn's mean, and the median), and the ratio to the base's in
the same round. CPU seconds hold on a machine that others use too, as far as its caches do.
"""

import itertools
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import jax
from absl import flags

from benchmarks.ablate import BASE, parse_arm, parse_fields
from bert_jax.common import command_line, memory
from bert_jax.config import changed, named, parse
from bert_jax.corpus.store import TokenStore
from bert_jax.performance.machine import load as machine_load
from bert_jax.performance.machine import machine
from bert_jax.run import distilling
from bert_jax.stream.batches import TrainBatches
from bert_jax.training import sharding
from bert_jax.training.step import compile_steps

FLAGS = flags.FLAGS


class Turn(NamedTuple):
    """Mean seconds of a step in one turn."""

    wall: float
    cpu: float


class Arm:
    """A compiled step and its state."""

    def __init__(self, fields: dict, store: TokenStore):
        config = changed(named(FLAGS.recipe, **parse_fields(FLAGS.set)), fields)
        settings = parse(config, distilling.load(config))
        mesh = sharding.make_mesh(settings.training.mesh)
        stream = TrainBatches(store, settings.stream)
        steps = compile_steps(settings.training, settings.models(store.vocabulary.size)[0], mesh)
        rows = settings.stream.phases[0].global_batch_size
        self._batches = itertools.cycle(
            [sharding.place_batch(mesh, stream.batch(i), rows) for i in range(4)]
        )
        self._step, self._state = steps.train, steps.init()
        self.turn(1)  # compiles

    def turn(self, steps: int) -> Turn:
        began, cpu_began = time.monotonic(), time.process_time()
        for _ in range(steps):
            self._state, figures = self._step(self._state, next(self._batches))
        jax.block_until_ready((self._state, figures))
        return Turn((time.monotonic() - began) / steps, (time.process_time() - cpu_began) / steps)


def main() -> None:
    store = TokenStore.open(Path(FLAGS.store))
    arms = {name: Arm(fields, store) for name, fields in [(BASE, {}), *map(parse_arm, FLAGS.arm)]}
    turns: dict[str, list[Turn]] = {name: [] for name in arms}
    for _ in range(FLAGS.rounds):
        for name, arm in arms.items():
            turns[name].append(arm.turn(FLAGS.steps))
    print(f"{machine()}, load {machine_load()}; {FLAGS.rounds} rounds of {FLAGS.steps} steps")
    print("| arm | CPU ms, least | CPU ms, median | base / arm, CPU | ms, least | base / arm |")
    print("|---|---|---|---|---|---|")
    for name, of_arm in turns.items():
        cpu, wall = [turn.cpu for turn in of_arm], [turn.wall for turn in of_arm]
        ratios = [b.cpu / turn.cpu for b, turn in zip(turns[BASE], of_arm, strict=True)]
        walls = [b.wall / turn.wall for b, turn in zip(turns[BASE], of_arm, strict=True)]
        print(
            f"| {name} | {1e3 * min(cpu):.0f} | {1e3 * statistics.median(cpu):.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f}) | "
            f"{1e3 * min(wall):.0f} | {statistics.median(walls):.2f} |"
        )


if __name__ == "__main__":
    memory.keep_freed_memory()
    flags.DEFINE_string("recipe", "configs/quickstart.py", "The config")
    flags.DEFINE_string("set", "", "Fields for all arms: `field=value, field=value`")
    flags.DEFINE_string("store", None, "A token store (python -m bert_jax.prepare)", required=True)
    flags.DEFINE_integer("rounds", 5, "Turns of each arm")
    flags.DEFINE_integer("steps", 3, "Steps of a turn")
    flags.DEFINE_multi_string("arm", [], "name: field=value, field=value")
    command_line.run(main)
