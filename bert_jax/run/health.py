"""Signs that a run does not learn, in its records: each is said once, with likely causes.

A check is a function of the last records of training and the last evaluation, so a resumed run says
what an uninterrupted one would have said at the same step. To add one, write it and register it in
`CHECKS`.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

Record = Mapping[str, Any]
WINDOW = 20  # records of training that are looked at
PLATEAU_STEPS = 500  # and three times the warm-up: earlier, a loss may well stand there
NSP_STEPS = 1000  # as many, for the pairs
SLOW_STEPS = 100  # earlier, the first batches may wait for the disk


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the checks know of a run besides its records.

    Attributes:
      warmup_steps: of the learning rate.
      entropy: of the corpus' token frequencies, in nats.
    """

    warmup_steps: int
    entropy: float


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is wrong, and why it may be.

    Attributes:
      name: of the check.
      text: one or two sentences.
      rests_on_times: whether another machine might not find it.
    """

    name: str
    text: str
    rests_on_times: bool = False


# (the last records of training, the last evaluation, facts) -> the text, if something is wrong
Check = Callable[[Sequence[Record], Record | None, Facts], str | None]


def unigram_plateau(train: Sequence[Record], heldout: Record | None, facts: Facts) -> str | None:
    """The masked-token loss stands still at the entropy of the token frequencies."""
    del heldout
    if train[-1]["step"] < max(PLATEAU_STEPS, 3 * facts.warmup_steps):
        return None
    losses = _values(train, "mlm_loss")
    if len(losses) < WINDOW:
        return None
    early, late = np.mean(losses[: WINDOW // 2]), np.mean(losses[WINDOW // 2 :])
    if late < 0.95 * facts.entropy or late > 1.1 * facts.entropy or late < 0.99 * early:
        return None
    return (
        f"the masked-token loss stands at {late:.2f}, the entropy of the corpus' token frequencies "
        f"({facts.entropy:.2f}): only how frequent tokens are was learned. Likely causes: a "
        "learning rate too high for post-norm (warm up longer, or set config.model.norm to 'pre'), "
        "or far too low; very small batches; text in another order than its tokenizer knows"
    )


def pairs_at_chance(train: Sequence[Record], heldout: Record | None, facts: Facts) -> str | None:
    """The labels of sentence pairs are guessed."""
    del heldout
    accuracy = _values(train, "nsp_accuracy")
    if train[-1]["step"] < max(NSP_STEPS, 3 * facts.warmup_steps) or len(accuracy) < WINDOW:
        return None
    if np.mean(accuracy) > 0.55:
        return None
    return (
        f"the labels of the sentence pairs are predicted at chance ({np.mean(accuracy):.1%}). "
        "Likely causes: documents of one sentence each, sentences that were split wrongly or "
        "shuffled (look at inspect_batches), or a learning rate too high for post-norm"
    )


def same_batch(train: Sequence[Record], heldout: Record | None, facts: Facts) -> str | None:
    """Three records in a row were trained on the same batch."""
    del heldout, facts
    inputs = [record.get("input") for record in train[-3:]]
    if len(inputs) < 3 or inputs[0] is None or len(set(inputs)) > 1:
        return None
    steps = [record["step"] for record in train[-3:]]
    return (
        f"the steps {steps[0]}, {steps[1]} and {steps[2]} had the same batch. Likely causes: a "
        "corpus with fewer rows than a batch (see inspect_batches: rows an epoch), or a custom "
        "stream that ignores the step"
    )


def exploding_gradient(train: Sequence[Record], heldout: Record | None, facts: Facts) -> str | None:
    """The gradient norm is ten times what it was."""
    del heldout, facts
    norms = _values(train, "grad_norm")
    if len(norms) < WINDOW:
        return None
    before, now = np.median(norms[: WINDOW // 2]), np.median(norms[-3:])
    if now <= 10.0 * before:
        return None
    return (
        f"the gradient norm grew from {before:.3g} to {now:.3g}. Likely causes: a learning rate "
        "that is too high (config.learning_rate), too short a warm-up, no clipping "
        "(config.optimizer.clip_norm), bfloat16 where float32 is needed"
    )


def heldout_far_above(train: Sequence[Record], heldout: Record | None, facts: Facts) -> str | None:
    """Held-out text is predicted much worse than the training text."""
    del facts
    losses = _values(train, "mlm_loss")
    if heldout is None or "mlm_loss" not in heldout or len(losses) < 5:
        return None
    loss, of_train = heldout["mlm_loss"], float(np.mean(losses[-5:]))
    if loss <= 1.25 * of_train:
        return None
    return (
        f"the held-out loss {loss:.2f} is far above that of training ({of_train:.2f}). Likely "
        "causes: so many epochs of a small corpus that it is learned by heart (more text, dropout, "
        "fewer steps), or held-out documents of another kind"
    )


def slow_input(train: Sequence[Record], heldout: Record | None, facts: Facts) -> str | None:
    """The device waits for the batches."""
    del heldout, facts
    waits = _values(train, "data_wait_fraction")
    if train[-1]["step"] < SLOW_STEPS or len(waits) < 5 or np.mean(waits[-5:]) < 0.2:
        return None
    return (
        f"{np.mean(waits[-5:]):.0%} of the time is spent waiting for batches. Likely causes: "
        "other programs on this machine's cores, a token store on a slow network disk (copy it to "
        "a local one: config.corpus.directory), very many short documents a row"
    )


CHECKS: dict[str, Check] = {
    "unigram_plateau": unigram_plateau,
    "pairs_at_chance": pairs_at_chance,
    "same_batch": same_batch,
    "exploding_gradient": exploding_gradient,
    "heldout_far_above": heldout_far_above,
    "slow_input": slow_input,
}
REST_ON_TIMES = ("slow_input",)


class Health:
    """Applies the checks to each new record; every one speaks once in a run."""

    def __init__(self, facts: Facts, lines: Iterable[Record] = ()):
        """Continue after `lines`, the records and events of the run so far."""
        self._facts = facts
        self._train: collections.deque[Record] = collections.deque(maxlen=WINDOW)
        self._heldout: Record | None = None
        self._said: set[str] = set()
        for line in lines:
            self._take(line)
            if line.get("event") == "warning":
                self._said.add(line["name"])

    def add(self, record: Record) -> list[Finding]:
        """What is found for the first time with this record."""
        self._take(record)
        if not self._train:
            return []
        found = []
        for name, check in CHECKS.items():
            if name not in self._said and (
                text := check([*self._train], self._heldout, self._facts)
            ):
                self._said.add(name)
                found.append(Finding(name, text, name in REST_ON_TIMES))
        return found

    def _take(self, line: Record) -> None:
        if line.get("split") == "train":
            self._train.append(line)
        elif line.get("split") == "heldout":
            self._heldout = line


def entropy(counts: Int64[np.ndarray, "V"]) -> float:
    """The entropy of tokens with these counts, in nats: the loss of a guess by frequency alone."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _values(records: Sequence[Record], name: str) -> list[float]:
    return [record[name] for record in records if name in record]
