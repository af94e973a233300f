"""The peer of the speedrun: `transformers`' BERT under the usual recipe, on our rows and masks.

AdamW, a linear warm-up over a tenth of the steps and a linear decay, gradients clipped to 1. Its
batches are made before the clock starts, so that it pays nothing for its collator, and are those of
the classic recipe in our code: both can be compared token by token.
"""

import itertools
import os
import time
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.learning import Point
from bert_jax.model import ModelConfig, Totals
from bert_jax.performance import flops
from bert_jax.performance.peers import labelled
from bert_jax.run.metrics import summarize
from bert_jax.stream.rows import Batch

CLASS = "BertForMaskedLM"
CHUNK = 50  # batches that are made at once, outside of the clock


class Peer:
    """A model of `transformers` and its optimizer."""

    def __init__(self, model: ModelConfig, rate: float, dtype: str, *, is_compiled: bool):
        """Draw the parameters.

        Args:
          model: whose sizes it has.
          rate: the peak of the learning rate.
          dtype: of autocast: float32 or bfloat16.
          is_compiled: by torch.compile.
        """
        import torch
        import transformers

        self.torch, self.dtype, self.rate = torch, dtype, rate
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.device == "cpu":
            torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("high")
        config = transformers.BertConfig(
            vocab_size=model.vocab_size,
            hidden_size=model.hidden_size,
            num_hidden_layers=model.num_hidden_layers,
            num_attention_heads=model.num_attention_heads,
            intermediate_size=model.intermediate_size,
            attn_implementation="sdpa",
        )
        self.model = transformers.BertForMaskedLM(config).to(self.device)
        self.forward = torch.compile(self.model) if is_compiled else self.model
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0}]
        self.optimizer = torch.optim.AdamW(groups, lr=rate)

    def place(self, batch: Batch) -> dict:
        tensors = labelled(batch, CLASS)
        return {n: self.torch.from_numpy(a).to(self.device) for n, a in tensors.items()}

    def step(self, batch: dict, share: float) -> float:
        """An update with a share of the peak rate; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = share * self.rate
        self.model.train()
        with self.torch.autocast(self.device, self.torch.bfloat16, enabled=self.is_half):
            loss = self.forward(**batch).loss
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def totals(self, batches: Sequence[Batch]) -> Totals:
        """Sums over the predictions of held-out batches."""
        self.model.eval()
        loss = correct = weight = 0.0
        with self.torch.no_grad():
            for batch in batches:
                placed = self.place(batch)
                labels = placed.pop("labels")
                with self.torch.autocast(self.device, self.torch.bfloat16, enabled=self.is_half):
                    logits = self.model(**placed).logits
                is_label = labels >= 0
                logits, labels = logits[is_label].float(), labels[is_label]
                entropy = self.torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
                loss += entropy.item()
                correct += (logits.argmax(-1) == labels).sum().item()
                weight += len(labels)
        return Totals(np.float64(loss), {"accuracy": np.float64(correct)}, np.float64(weight))

    @property
    def is_half(self) -> bool:
        return self.dtype == "bfloat16"


def fastest(model: ModelConfig, batches: Sequence[Batch], steps: int = 4) -> tuple[str, bool]:
    """The type and whether compiled, whichever makes a step fastest here (second to last steps)."""
    seconds = {}
    for dtype, is_compiled in itertools.product(("float32", "bfloat16"), (False, True)):
        peer = Peer(model, 1e-4, dtype, is_compiled=is_compiled)
        placed = [peer.place(batch) for batch in batches[:steps]]
        try:
            peer.step(placed[0], 1.0)  # compiles
        except Exception as error:  # no C++ compiler, or a type that this device lacks
            print(f"{dtype}, compiled {is_compiled}: {type(error).__name__}")
            continue
        began = time.process_time()
        for batch in placed[1:]:
            peer.step(batch, 1.0)
        seconds[dtype, is_compiled] = (time.process_time() - began) / (len(placed) - 1)
        print(f"{dtype}, compiled {is_compiled}: {seconds[dtype, is_compiled]:.2f} CPU s a step")
    return min(seconds, key=lambda key: seconds[key])


def train_peer(
    peer: Peer,
    model: ModelConfig,
    batches: Iterator[Batch],
    held_out: dict[str, Sequence[Batch]],
    total_steps: int,
    eval_every: int,
) -> Iterator[Point]:
    """Train, and yield a point at each evaluation.

    Args:
      peer: at its beginning.
      model: its sizes, to count FLOPs by.
      batches: as the stream makes them.
      held_out: batches by the name of their loss, `mlm` and `mask_only`.
      total_steps, eval_every: steps.
    """
    warmup = max(1, total_steps // 10)
    seconds = cpu_seconds = tokens = work = 0.0
    done = 0
    while done < total_steps:
        chunk = [peer.place(b) for b in itertools.islice(batches, min(CHUNK, total_steps - done))]
        for batch in chunk:
            share = min(done / warmup, (total_steps - done) / (total_steps - warmup))
            began, cpu_began = time.monotonic(), time.process_time()
            loss = peer.step(batch, share)
            if done:  # the first step compiles
                seconds += time.monotonic() - began
                cpu_seconds += time.process_time() - cpu_began
            rows, length = batch["input_ids"].shape
            predictions = int((batch["labels"] >= 0).sum() / rows)
            tokens += rows * length / 1e6
            work += rows * flops.training(model, length, predictions) / 1e12
            done += 1
            if done % eval_every == 0 or done == total_steps:
                totals = {name: peer.totals(of_kind) for name, of_kind in held_out.items()}
                found = summarize(totals, {"mlm": 1.0})
                yield Point(done, tokens, work, seconds, cpu_seconds, loss, found)
