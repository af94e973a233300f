"""What a run recorded, read from its workdir."""

import dataclasses
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from bert_jax.config import RunSettings, default_config, parse
from bert_jax.corpus.store import REPORT
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.run import goodput, metrics, preset, samples, workdir
from bert_jax.run.saved_config import flatten, to_json


@dataclasses.dataclass(frozen=True)
class History:
    """A run, as its report shows it.

    Attributes:
      workdir: of the run.
      name: how pages call it.
      values: every field of its config, flat (`model.norm`).
      preset_name: of the config file that it began with; None: it is not known.
      preset_values: every field of that file's config, else the defaults.
      settings: its config, parsed.
      records: of metrics.jsonl: figures at steps.
      events: of metrics.jsonl: what happened at steps.
      samples: what the model filled into the same sentences at each evaluation.
      corpus: the figures of its corpus (`report.json` of the token store); None: not there.
      mask: how the run's tokenizer writes the mask.
      finished: step and warnings of a run that is finished, else None.
    """

    workdir: Path
    name: str
    values: dict[str, Any]
    preset_name: str | None
    preset_values: dict[str, Any]
    settings: RunSettings
    records: list[dict[str, Any]]
    events: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    corpus: dict[str, Any] | None
    mask: str
    finished: dict[str, Any] | None

    @property
    def splits(self) -> list[str]:
        """`train` and the evaluation splits, in the order of their first records."""
        return list(dict.fromkeys(record["split"] for record in self.records))

    @property
    def step(self) -> int:
        """The last step that left a record."""
        return max((record["step"] for record in self.records), default=0)

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Where the time went, over all processes that computed the run one after another."""
        return goodput.total(self.events)

    def seconds_until(self, end: int) -> dict[str, float]:
        """`seconds` as the first `end` events tell it."""
        return goodput.total(self.events[:end])

    def last(self, split: str) -> dict[str, Any] | None:
        """The last record of a split."""
        return next((r for r in reversed(self.records) if r["split"] == split), None)

    def series(self, split: str, figure: str) -> tuple[list[int], list[float]]:
        """Steps and values of a figure in a split."""
        found = [r for r in self.records if r["split"] == split and figure in r]
        return [r["step"] for r in found], [float(r[figure]) for r in found]

    def tokens(self, step: int) -> int:
        """Tokens in the batches of the first `step` steps, padding included."""
        return sum(
            max(0, min(step, phase.stop) - phase.start)
            * phase.global_batch_size
            * phase.sequence_length
            for phase in self.settings.stream.phases
        )


def read(directory: Path) -> History:
    """The history of the run in `directory`.

    Raises:
      UserError: there is no run.
    """
    config = workdir.load_config(directory)
    settings = parse(config)
    found = preset.read(directory)
    lines = metrics.read_all(directory)
    return History(
        workdir=directory,
        name=str(directory),
        values=flatten(json.loads(to_json(config))),
        preset_name=found["name"] if found else None,
        preset_values=flatten(found["values"] if found else json.loads(to_json(default_config()))),
        settings=settings,
        records=[line for line in lines if "split" in line],
        events=[line for line in lines if "event" in line],
        samples=samples.read(directory),
        corpus=_read_json(settings.store_directory(directory) / REPORT),
        mask=_mask(directory / workdir.TOKENIZER),
        finished=workdir.read_finished(directory),
    )


def _mask(tokenizer_directory: Path) -> str:
    if not tokenizer_directory.exists():
        return "[MASK]"
    tokenizer = load_tokenizer(tokenizer_directory)
    return tokenizer.piece(tokenizer.vocabulary.mask_id)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
