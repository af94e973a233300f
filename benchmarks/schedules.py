"""The picture of the learning-rate schedules in docs/step.md: `python benchmarks/schedules.py`."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from bert_jax.config import default_config, parse
from bert_jax.training.schedules import make_schedule

mpl.rcParams["svg.hashsalt"] = "schedules"  # the same bytes every time

TOTAL, WARM_UP = 1000, 100
SCHEDULES = {
    "linear": {"schedule": "linear"},
    "polynomial, decay_power=2": {"schedule": "polynomial", "decay_power": 2.0},
    "cosine, final_lr_fraction=0.1": {"schedule": "cosine", "final_lr_fraction": 0.1},
    "inverse_sqrt": {"schedule": "inverse_sqrt"},
    "wsd, decay_steps=0.2": {"schedule": "wsd", "decay_steps": 0.2},
    "wsd, the same, decay_shape=sqrt": {
        "schedule": "wsd",
        "decay_steps": 0.2,
        "decay_shape": "sqrt",
    },
    "linear, restarts at 0.6 with peak=0.5": {
        "schedule": "linear",
        "restarts": ({"at": 0.6, "warmup_steps": 50, "peak": 0.5},),
    },
}


def main() -> None:
    steps = np.arange(TOTAL + 1)
    figure, axes = plt.subplots(figsize=(8, 4))
    for name, fields in SCHEDULES.items():
        config = default_config()
        config.total_steps, config.warmup_steps = TOTAL, WARM_UP
        config.optimizer.update(fields)
        share = make_schedule(parse(config).training.optimizer)
        axes.plot(steps, [float(share(step)) for step in steps], label=name)
    axes.set(xlabel="step", ylabel="share of the peak")
    axes.legend(fontsize=8)
    out = Path(__file__).parents[1] / "docs" / "schedules.svg"
    figure.savefig(out, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
