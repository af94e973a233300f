"""Every field of `config` with its default and what it means.

A config file is a Python file with `get_config(arg: str = "")` that starts from `default_config()`
and returns it changed. The config is locked: an unknown field, or a value of another type, is
refused with the nearest valid name.
"""

from ml_collections import ConfigDict, FieldReference


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
    # A run is as long as its steps, or, where total_steps is 0, as its budget: the time that its
    # training may take, as 5m, 40s, 8h. The step is measured on the run's devices before it begins;
    # total_steps is then recorded in the run's config.json.
    config.total_steps = 1000
    config.budget = ""
    # Here and in eval_every, checkpoint_every and optimizer.decay_steps, a number below 1 is a
    # share of total_steps.
    config.warmup_steps = 100.0
    config.global_batch_size = 32
    config.learning_rate = 1e-3  # the peak, reached after warmup_steps
    # A trained encoder to begin with: the --workdir of a run, workdir@step, or a folder of
    # transformers
    config.init_from = ""
    # What is taken from it: params | optimizer (the parameters and the optimizer's moments; both
    # begin at step 0) | all (the step too: the run branches off there)
    config.init_state = "params"
    config.log_every = 20
    config.eval_every = 500.0
    config.eval_batches = 100  # at most, of held-out examples, evenly spread over the split
    config.checkpoint_every = 500.0
    config.keep_checkpoints = 3  # the newest ones; older ones are deleted, except by the next two
    config.keep_every = 0  # checkpoints of steps that this divides are kept for good; 0: none
    config.keep_best = 0  # so many are kept of those with the lowest held-out loss; 0: none
    # Updates whose loss or gradient is not finite are skipped; so many in a row stop the run.
    config.max_skipped_updates = 20
    # No step for so many times the median step, and for at least the minimum: all stacks are
    # written to the workdir, and the processes exit to be started again. 0: never.
    config.watchdog_factor = 100
    config.watchdog_minimum = 600.0  # seconds
    # After a spike of the loss, the run goes back and leaves out the batches that led there.
    config.spikes = spikes = ConfigDict()
    spikes.threshold = 20.0  # robust deviations (of 1 % of the median, at least); 0: off
    spikes.window = 128  # steps before it, of the same phase; none is found before so many
    spikes.left_out = 16  # batches that are left out, the spike's and those before it
    spikes.rollbacks = 3  # so many in a run; the next spike stops it

    config.tracker = ""  # where figures go besides the workdir: wandb | trackio | empty: nowhere

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
    # Of the matrix products; parameters stay float32. float32 | bfloat16 | auto: bfloat16 where the
    # device computes it fast, recorded as such when the run begins
    model.compute_dtype = "float32"
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
    model.label_smoothing = 0.0  # in training: share of the label that all tokens get alike
    model.z_loss = 0.0  # in training: factor of the squared logarithm of the normalizer
    model.adaptive_cutoffs = ()  # adaptive: first ranks of the tails; (): about V / 16 and V / 4

    # A teacher (docs/distil.md). The loss is the weighted sum of three
    config.distillation = distillation = ConfigDict()
    # A trained encoder with the same tokenizer: a workdir, workdir@step, or a folder of
    # transformers; empty: none
    distillation.teacher = ""
    distillation.teacher_layer = 0  # whose relations are learned, counted from 1; 0: the last
    distillation.relation_heads = 16  # parts of queries, keys and values; divides both widths
    distillation.relation_weight = 1.0  # of the divergence of the relations among them; 0: without
    distillation.soft_weight = 1.0  # of that of predictions at masked positions; 0: without
    distillation.temperature = 1.0  # of these predictions
    distillation.mlm_weight = 1.0  # of the objective's own losses, above 0

    config.optimizer = optimizer = ConfigDict()
    # adamw | lamb | stable_adamw | muon, normuon, soap (the encoder's matrices; the rest by AdamW)
    optimizer.name = "adamw"
    # Of the learning rate, after a linear warm-up: linear | polynomial | cosine | inverse_sqrt |
    # transformer (inverse_sqrt with the paper's peak; learning_rate is a factor, 1.0 in the paper)
    # | wsd (warm-up, stable, decay)
    optimizer.schedule = "linear"
    optimizer.b1 = 0.9
    optimizer.b2 = 0.999
    optimizer.epsilon = 1e-6
    optimizer.weight_decay = 0.01
    optimizer.clip_norm = 1.0  # of the whole gradient; 0: no clipping
    optimizer.final_lr_fraction = 0.0  # share of the peak at total_steps
    optimizer.decay_steps = 0.1  # wsd: of the decay at the end
    optimizer.decay_shape = "linear"  # wsd: linear | sqrt (1 - sqrt)
    optimizer.decay_power = 1.0  # polynomial
    # Re-warming: dicts with `at` (share of total_steps), where the schedule begins again, with
    # `warmup_steps` of its own, and `peak` as a share of the learning rates (1.0)
    optimizer.restarts = ()
    optimizer.muon_learning_rate = 0.02  # of the matrices, under muon, normuon and soap
    optimizer.muon_momentum = 0.95  # muon, normuon
    optimizer.muon_scale = "width"  # size of an update: width | rms (0.2 in any shape)
    optimizer.normuon_b2 = 0.95
    optimizer.soap_every = 10  # steps between two renewals of the bases
    optimizer.lamb_adapts = "matrices"  # tensors with a trust ratio: matrices | all
    # Factors of the learning rates by parameter name, the first that matches; 0 freezes. All
    # parameters must be covered: "embedding=0; .*=1", or pairs in a config file
    optimizer.rates = TextOrMore("")
    optimizer.average_last = 0.0  # the run ends with the mean of so many last steps; 0: of none
    optimizer.next_sentence_weight = 1.0  # loss = mlm_loss + next_sentence_weight * nsp_loss

    # Labelled texts on which the encoder is probed in training (bert_jax/run/probe.py)
    config.probe = probe = ConfigDict()
    probe.every = 0  # steps; 0: never
    probe.task = "classification"  # any of a fine-tuning's, such as tagging
    # frozen: features of the encoder are scored; finetune: a copy of it is fine-tuned
    probe.kind = "frozen"
    probe.steps = 100  # updates, where something is trained: all but frozen texts
    probe.learning_rate = 5e-4  # of these updates, the peak
    probe.train = ""  # a file as config.data.train of a fine-tuning
    probe.validation = ""  # empty: a tenth of train
    probe.text = "text"  # columns
    probe.text_pair = ""
    probe.label = "label"
    probe.tokens = "tokens"
    probe.tags = "tags"
    probe.limit = 2000  # training examples
    probe.max_length = 128

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
