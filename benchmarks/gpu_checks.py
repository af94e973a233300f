"""The checks of benchmarks/gpu.py: each yields rows, `ok` says whether a check has passed."""

import dataclasses
import hashlib
import itertools
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import flags

from benchmarks.gpu_speed import ROOT, Row, prepared

FLAGS = flags.FLAGS
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
PARTS = Path(__file__).with_name("gpu_parts.py")


def tests() -> Iterator[Row]:
    """Attention backends and matrix products against float64, forward and gradients."""
    from tests.model.attention_reference import (
        GPU_CASES,
        GPU_TOLERANCE,
        differences,
        inputs,
        segments,
    )
    from tests.model.product_reference import SPECS, product_difference

    cases = [("xla", "packed", 0, True)] if FLAGS.tiny else GPU_CASES
    for (backend, rows, window, has_dropout), length in itertools.product(
        cases, (64,) if FLAGS.tiny else (64, 192, 512)
    ):
        name = f"attention {backend} {rows} {length}" + " window" * bool(window)
        arrays = inputs(length, heads=4, width=64)
        options = {"window": window, "rows": rows, "backend": backend, "has_dropout": has_dropout}
        given = segments(rows, length)
        found = lambda a=arrays, g=given, o=options: differences(a, g, dtype="bfloat16", **o)  # noqa: E731
        yield checked(name + " dropout" * has_dropout, found, GPU_TOLERANCE)
    for spec in SPECS[:1] if FLAGS.tiny else SPECS:
        # Sums are in float32 over exact operands; float32 operands are rounded to TF32 by default.
        for dtype, tolerance in (("bfloat16", 1e-5), ("float32", 5e-3)):
            found = lambda s=spec, d=dtype: {"all": product_difference(s, d)}  # noqa: E731
            yield checked(f"product {spec} {dtype}", found, tolerance)


def checked(name: str, compute: Callable[[], dict[str, float]], tolerance: float) -> Row:
    """A check as a row; one that raises has failed."""
    try:
        difference = max(compute().values())
    except Exception as error:
        traceback.print_exc()
        return {"check": name, "ok": False, "error": f"{type(error).__name__}: {error}"[:300]}
    return {"check": name, "ok": difference <= tolerance, "difference": difference}


def export() -> Iterator[Row]:
    """Logits of a BERT and a ModernBERT in the shapes of their base sizes, random weights."""
    import jax
    import numpy as np
    import torch
    import transformers

    from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
    from bert_jax.interop import configs, names, parity, parity_batches
    from bert_jax.model import initialize
    from tests.architectures import CLASSIC
    from tests.architectures import MODERN as SMALL_MODERN

    sizes = {} if FLAGS.tiny else {"hidden_size": 768, "num_attention_heads": 12}
    sizes |= {} if FLAGS.tiny else {"num_hidden_layers": 12, "intermediate_size": 1152}
    for model in (CLASSIC, SMALL_MODERN):
        model = dataclasses.replace(model, **sizes)
        random = np.random.default_rng(0)
        params = jax.tree.map(  # no zero biases, no scales of one
            lambda leaf, random=random: leaf + random.normal(0, 0.1, leaf.shape).astype(np.float32),
            jax.device_get(initialize(model, jax.random.key(0))),
        )
        no_tokens = np.zeros(model.vocab_size, bool)
        vocabulary = Vocabulary(model.vocab_size, 0, 1, 2, 3, 4, no_tokens, no_tokens)
        name = configs.architecture(model)
        architecture = getattr(transformers, name)
        values = configs.to_hugging_face(model, vocabulary)
        theirs = architecture(architecture.config_class(**values)).eval()
        state = {key: torch.from_numpy(v) for key, v in names.to_torch(params, model).items()}
        theirs.load_state_dict(state, strict=False)
        theirs.tie_weights()
        for make in (parity_batches.padded_batch, parity_batches.packed_batch):
            found = parity.compare(theirs, params, model, make(model))
            row = {"check": f"{name} {make.__name__}", "ok": found.is_close}
            yield row | {"difference": found.difference, "largest_logit": found.largest}


def trained_digest() -> Iterator[Row]:
    """Hashes of the whole state after some steps on fixed batches, in both families."""
    import jax
    import numpy as np

    from bert_jax.common import compile_cache
    from bert_jax.config import load_config

    compile_cache.use(compile_cache.OFF)  # kernels are chosen anew in each process
    for file, length in (("bert.py", 128), ("modernbert.py", 256)):
        config = load_config(str(ROOT / "configs" / file))
        config.total_steps, config.warmup_steps = 1000, 10
        config.model.compute_dtype = "float32" if FLAGS.tiny else "bfloat16"
        layers, width, heads = (2, 32, 2) if FLAGS.tiny else (4, 512, 8)
        config.model.num_hidden_layers, config.model.hidden_size = layers, width
        config.model.num_attention_heads, config.model.intermediate_size = heads, 2 * width
        config.tokenizer.vocab_size = 300 if FLAGS.tiny else 30_592
        config.global_batch_size = 2 if FLAGS.tiny else 32
        config.stream.phases = ({"until": 1.0, "sequence_length": 64 if FLAGS.tiny else length},)
        runner, phase, source = prepared(config)
        step, batches = runner.compile(phase), source.batches(phase)
        for _ in range(3 if FLAGS.tiny else 50):
            runner.state, _ = step(runner.state, runner.place(next(batches)))
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(jax.device_get(runner.state)):
            digest.update(np.ascontiguousarray(leaf).tobytes())
        yield {"family": file, "digest": digest.hexdigest()}


def equal_bytes() -> Iterator[Row]:
    """Whether two processes reach the same state, without and with deterministic operations."""
    command = [sys.executable, str(PARTS), "digest", *(["--tiny"] if FLAGS.tiny else [])]
    xla = os.environ.get("XLA_FLAGS", "")
    settings = {"as it is": xla, DETERMINISTIC: f"{xla} {DETERMINISTIC}"}
    runs = {
        name: [
            subprocess.Popen(
                command, env=os.environ | {"XLA_FLAGS": text}, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for name, text in settings.items()
    }
    for name, pair in runs.items():
        texts = [run.communicate()[0] for run in pair]
        if any(run.returncode for run in pair):
            yield {"flags": name, "ok": False, "error": "a run failed"}
            continue
        first, second = ([json.loads(line) for line in text.splitlines()] for text in texts)
        for one, other in zip(first, second, strict=True):
            row = {"flags": name, "family": one["family"], "equal": one == other}
            # Only with the flag are equal bytes promised.
            yield row | ({"ok": one == other} if name == DETERMINISTIC else {})
