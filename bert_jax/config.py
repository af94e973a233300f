"""Every setting of a run and its default; parsed once into small frozen dataclasses.

A config file is a Python file with `get_config(arg: str = "")` that starts from `default_config()`
and returns it changed. The config is locked: an unknown field, or a value of another type, is
refused with the nearest valid name. `parse` turns it into `RunSettings`, and each part of the
program gets the settings that it needs.
"""

import dataclasses
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, FieldReference

from bert_jax.common.bucket import home
from bert_jax.common.errors import UserError
from bert_jax.corpus import settings as corpus_settings
from bert_jax.model import ModelConfig
from bert_jax.stream.phases import Phase, parse_phases
from bert_jax.stream.settings import StreamSettings
from bert_jax.training.objectives import Objective, parse_objective
from bert_jax.training.settings import MeshSettings, OptimizerSettings, TrainingSettings

COUNTS = (
    "log_every",
    "eval_every",
    "eval_batches",
    "checkpoint_every",
    "keep_checkpoints",
    "max_skipped_updates",
)
COUNTS_OR_NONE = ("keep_every", "keep_best", "watchdog_factor", "watchdog_minimum")


class TextOrMore(FieldReference):
    """A field that is text on the command line and may be a list or a dict in a config file."""

    def __init__(self, default: str):
        super().__init__(default, field_type=object)

    def get_type(self) -> type:
        """The type of the flag that sets it."""
        return str if isinstance(self.get(), str) else object


def default_config() -> ConfigDict:
    """All fields of a run with their defaults."""
    config = ConfigDict()
    config.seed = 0
    config.total_steps = 1000
    config.warmup_steps = 100
    config.global_batch_size = 32
    config.learning_rate = 1e-3  # the peak, reached after warmup_steps
    config.log_every = 20
    config.eval_every = 500
    config.eval_batches = 100  # at most, of held-out examples, evenly spread over the split
    config.checkpoint_every = 500
    config.keep_checkpoints = 3  # the newest ones; older ones are deleted, except by the next two
    config.keep_every = 0  # checkpoints of steps that this divides are kept for good; 0: none
    config.keep_best = 0  # so many are kept of those with the lowest held-out loss; 0: none
    # Updates whose loss or gradient is not finite are skipped; so many in a row stop the run.
    config.max_skipped_updates = 20
    # No step for so many times the median step, and for at least the minimum: all stacks are
    # written to the workdir, and the processes exit to be started again. 0: never.
    config.watchdog_factor = 100
    config.watchdog_minimum = 600.0  # seconds

    config.corpus = corpus = ConfigDict()
    # text: jsonl: parquet: csv: tsv: tfds: docs:; several with " + ", or a list; docs/corpus.md
    corpus.source = TextOrMore("docs:")
    # By source, in place of fields below: "web: field=body, language=de; wiki: documents=line",
    # or {"web": {"field": "body", "language": "de"}, "wiki": {"documents": "line"}}
    corpus.options = TextOrMore("")
    corpus.documents = "blank_line"  # what ends one in text files: blank_line | line | file
    corpus.lines = "paragraph"  # what a line of text files is: paragraph | sentence
    corpus.field = "text"  # of jsonl: objects, parquet: csv: tsv: rows, tfds: examples; meta.text
    corpus.data_dir = ""  # of prepared tfds: data sets; empty: ~/tensorflow_datasets
    corpus.invalid_utf8 = "refuse"  # refuse | replace (by U+FFFD) | drop (the document)
    corpus.bad_records = "refuse"  # lines that are not JSON, rows of another width: refuse | skip
    corpus.quoting = "auto"  # cells in double quotes: on | off | auto (csv: on, tsv: off)
    corpus.minimum_characters = 0  # shorter documents are dropped
    corpus.directory = ""  # where the token store lives; empty: <workdir>/corpus
    corpus.language = "en"  # ISO 639 code, for splitting sentences
    corpus.split_sentences = True  # the nsp objective needs sentences
    corpus.deduplicate = True  # drop later copies of documents and of long paragraphs
    corpus.near_duplicates = 0.0  # drop documents at least this similar to earlier ones; 0: keep
    corpus.heldout_fraction = 0.01  # share of the documents held out for evaluation
    corpus.workers = 0  # processes that encode; 0: one per core. Never changes the bytes

    config.tokenizer = tokenizer = ConfigDict()
    tokenizer.kind = "unigram"  # unigram | bpe (sentencepiece) | wordpiece; trained on a sample
    # Instead: a sentencepiece model, a vocab.txt, a tokenizer.json, or a directory with one
    tokenizer.path = ""
    tokenizer.vocab_size = 8192  # tokens, the five special ones included
    tokenizer.lowercase = False  # of an existing one: it was trained on text in lower case
    # Whether é becomes e. auto: with lowercase where BERT does so (wordpiece, vocab.txt) | yes
    # (not for sentencepiece) | no
    tokenizer.strip_accents = "auto"
    tokenizer.character_coverage = 0.9995
    tokenizer.byte_fallback = False  # sentencepiece: bytes for characters outside the vocabulary
    tokenizer.sample_bytes = 10_000_000  # of text to train on

    config.stream = stream = ConfigDict()
    # packed: rows of several documents, MLM; nsp: pairs, MLM and next sentence; sop: pairs, MLM
    # and sentence order
    stream.objective = "packed"
    stream.sequence_length = 128
    stream.mask_rate = 0.15  # share of the tokens to predict
    stream.final_mask_rate = 0.0  # the rate changes to this linearly over the run; 0: constant
    stream.mask_unit = "token"  # token | word: whole words | span: of words, as SpanBERT
    stream.mask_replace_prob = 0.8  # of those, replaced by [MASK]
    stream.random_replace_prob = 0.1  # of those, replaced by a random token; the rest is kept
    stream.short_fraction = 0.1  # nsp, sop: share of pairs cut to a random shorter length
    # Share of the rows by source: "wiki=0.7, web=0.3", or {"wiki": 0.7, "web": 0.3}; empty: by size
    stream.weights = TextOrMore("")
    # Phases of one run, in order: dicts with `until` (share of total_steps at which the phase
    # ends; the last is 1.0) and any of sequence_length, global_batch_size, mask_rate,
    # final_mask_rate (rates of that phase alone), mask_unit, mask_replace_prob,
    # random_replace_prob, weights, rope_theta (of the global layers).
    stream.phases = ()

    config.model = model = ConfigDict()
    model.hidden_size = 128
    model.num_hidden_layers = 4
    model.num_attention_heads = 4
    model.intermediate_size = 512
    model.max_position_embeddings = 512
    model.position = "learned"  # learned | rotary | sinusoidal
    model.norm = "post"  # post | pre
    model.feed_forward = "gelu"  # gelu | geglu
    model.use_bias = True  # in the linear layers and norms
    model.token_types = 2  # segment A/B embeddings; 0: none
    model.next_sentence = True  # the pooler and the next-sentence head
    model.norm_epsilon = 1e-12
    model.dropout = 0.1  # after the embeddings and each sub-layer
    model.attention_dropout = 0.1  # on the attention probabilities
    model.initializer_range = 0.02
    model.local_attention = 0  # window of the local layers in tokens, both sides; 0: none local
    model.global_every = 3  # with local_attention: every n-th layer stays global
    model.rope_theta = 160_000.0  # of the global layers
    model.local_rope_theta = 10_000.0  # of the local layers
    model.compute_dtype = "float32"  # of the matrix products; parameters stay float32
    # auto: the device's best | xla | cudnn, pallas (NVIDIA GPUs) | splash (TPUs)
    model.attention_backend = "auto"
    # What the backward pass recomputes, to save memory: none | dots (all but the products of the
    # linear maps) | full (all but each layer's input)
    model.rematerialization = "none"
    model.layers = "unrolled"  # unrolled (fastest) | scanned (small program, however deep)
    # Softmax over the vocabulary: full | blocked (the same, a block of logits at a time) | adaptive
    # (rare tokens in narrower tails; cannot be exported) | sampled (in training; evaluated exactly)
    model.head = "blocked"
    model.sampled_negatives = 8192  # sampled: tokens in each step's sample
    model.adaptive_cutoffs = ()  # adaptive: first ranks of the tails; (): about V / 16 and V / 4

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "adamw"  # adamw | muon (encoder matrices by Muon, the rest by AdamW)
    optimizer.schedule = "linear"  # of the learning rate, after a linear warm-up
    optimizer.b1 = 0.9
    optimizer.b2 = 0.999
    optimizer.epsilon = 1e-6
    optimizer.weight_decay = 0.01
    optimizer.clip_norm = 1.0  # of the whole gradient; 0: no clipping
    optimizer.final_lr_fraction = 0.0  # share of the peak at total_steps (linear decay)
    optimizer.muon_learning_rate = 0.02
    optimizer.muon_momentum = 0.95
    optimizer.next_sentence_weight = 1.0  # loss = mlm_loss + next_sentence_weight * nsp_loss

    config.mesh = mesh = ConfigDict()
    mesh.data = -1  # replicas of the parameters; -1: all devices that are left
    mesh.fsdp = 1  # devices that share one copy of the parameters
    mesh.tensor = 1  # devices that share one layer's heads and feed-forward
    mesh.micro_batches = 1  # gradient accumulation: parts of a batch, one after another
    return config.lock()


def modern(model: ConfigDict) -> None:
    """Set the fields that make `config.model` a ModernBERT (https://arxiv.org/abs/2412.13663).

    Pre-norm, rotary positions, GeGLU, no biases, no dropout; all layers global.
    """
    model.position = "rotary"
    model.norm = "pre"
    model.norm_epsilon = 1e-5
    model.feed_forward = "geglu"
    model.use_bias = False
    model.token_types = 0
    model.next_sentence = False
    model.dropout = 0.0
    model.attention_dropout = 0.0


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """A config, parsed and checked.

    Attributes:
      total_steps: updates of the run.
      log_every, eval_every, eval_batches: as in the config.
      checkpoint_every, keep_checkpoints, keep_every, keep_best: as in the config.
      max_skipped_updates, watchdog_factor, watchdog_minimum: as in the config.
      objective: examples and losses.
      corpus: what the token store depends on.
      corpus_directory: where the token store is; None: in the workdir.
      stream: seed, objective and phases.
      model: the fields of `config.model`.
      training: seed, objective, optimizer and mesh.
    """

    total_steps: int
    log_every: int
    eval_every: int
    eval_batches: int
    checkpoint_every: int
    keep_checkpoints: int
    keep_every: int
    keep_best: int
    max_skipped_updates: int
    watchdog_factor: int
    watchdog_minimum: float
    objective: Objective
    corpus: corpus_settings.Settings
    corpus_directory: Path | None
    stream: StreamSettings
    model: Mapping[str, Any]
    training: TrainingSettings

    def store_directory(self, workdir: Path) -> Path:
        """Where the token store of the run in `workdir` is."""
        if self.corpus_directory is None and not isinstance(home(workdir), Path):
            raise UserError(
                f"--workdir={home(workdir)}: the token store needs a file system, for its memory "
                "maps. Set config.corpus.directory to a directory that all hosts share"
            )
        return self.corpus_directory or workdir / "corpus"

    def model_config(
        self,
        vocab_size: int,
        phase: Phase | None = None,
        token_order: tuple[int, ...] = (),
    ) -> ModelConfig:
        """The encoder in `phase`: phases may differ in the rotary base.

        Args:
          vocab_size: tokens of the run's tokenizer.
          phase: None: the first one.
          token_order: the ids from the most frequent to the rarest.

        Raises:
          UserError: the fields of `config.model` contradict each other.
        """
        theta = (phase or self.stream.phases[0]).rope_theta
        fields = {**self.model, "rope_theta": theta, "token_order": token_order}
        return ModelConfig(vocab_size=vocab_size, rows=self.objective.rows, **fields)

    def models(self, vocab_size: int, token_order: tuple[int, ...] = ()) -> list[ModelConfig]:
        """The encoder in each phase."""
        phases = self.stream.phases
        return [self.model_config(vocab_size, phase, token_order) for phase in phases]


def parse(config: ConfigDict) -> RunSettings:
    """The settings of a config.

    Raises:
      UserError: a field is invalid, by itself or together with others.
    """
    for name in COUNTS:
        if config[name] < 1:
            raise UserError(f"config.{name} is {config[name]}: set it to 1 or more")
    for name in COUNTS_OR_NONE:
        if config[name] < 0:
            raise UserError(f"config.{name} is {config[name]}: set it to 0 (none) or more")
    objective = parse_objective(config)
    optimizer = OptimizerSettings(
        total_steps=config.total_steps,
        warmup_steps=config.warmup_steps,
        learning_rate=config.learning_rate,
        **{
            name: value
            for name, value in config.optimizer.to_dict().items()
            if name != "next_sentence_weight"
        },
    )
    mesh = MeshSettings(**config.mesh.to_dict())
    return RunSettings(
        total_steps=config.total_steps,
        **{name: config[name] for name in (*COUNTS, *COUNTS_OR_NONE)},
        objective=objective,
        corpus=corpus_settings.from_config(config),
        corpus_directory=Path(config.corpus.directory) if config.corpus.directory else None,
        stream=StreamSettings(config.seed, objective, parse_phases(config)),
        model=config.model.to_dict(),
        training=TrainingSettings(config.seed, objective, optimizer, mesh),
    )


def load_config(path: str, arg: str = "") -> ConfigDict:
    """The config that the file `path` returns, as with `--config=path:arg`."""
    return runpy.run_path(path)["get_config"](arg)
