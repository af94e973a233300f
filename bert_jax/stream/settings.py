"""Everything that a run's batches depend on, besides the token store."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from bert_jax.corpus.store import Split
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.stream.examples import Examples
from bert_jax.stream.phases import Phase


@runtime_checkable
class ExampleSource(Protocol):
    """The part of an objective (`training.objectives`) that the stream uses.

    Attributes:
      padding: for arrays that are not 0 in padding rows, their value there.
    """

    padding: Mapping[str, int]

    def examples(
        self, split: Split, vocabulary: Vocabulary, sequence_length: int, *, is_training: bool
    ) -> Examples:
        """The rows of a split at one length."""


@dataclasses.dataclass(frozen=True)
class StreamSettings:
    """Seed, objective and phases of a run: with the store, all that its batches depend on."""

    seed: int
    objective: ExampleSource
    phases: tuple[Phase, ...]

    def phase_at(self, step: int) -> Phase:
        """The phase of the update that is made at `step`."""
        return next(phase for phase in self.phases if step < phase.stop)

    def phase_before(self, step: int) -> Phase:
        """The phase of the last of `step` updates; at step 0, the first phase."""
        return next(phase for phase in self.phases if step <= phase.stop)
