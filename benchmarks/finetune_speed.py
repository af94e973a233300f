"""Fine-tuning steps, ours and eager PyTorch's under `transformers`, in turns on the same batches.

    python benchmarks/finetune_speed.py --train=sst2/train.tsv

Classification with an encoder of 4 layers x 256 and random weights; both update all parameters by
AdamW, in float32. Ours pads to one of a few lengths, theirs to the longest row of the batch. Prints
the CPU time of a step and the ratio, which holds on a busy machine too, and the wall-clock ratio,
which does not.
"""

import argparse
import dataclasses
import time

import jax
import numpy as np
import torch
import transformers

from bert_jax.config.finetuning import default_config
from bert_jax.config.finetuning import parse as parse_finetuning
from bert_jax.run.starting import load_start
from bert_jax.tasks.base import TRAIN
from bert_jax.tasks.batches import RowBatches
from bert_jax.tasks.data import splits
from bert_jax.tasks.evaluation import place
from bert_jax.training import sharding
from bert_jax.training.settings import MeshSettings, TrainingSettings
from bert_jax.training.step import compile_steps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", required=True)
    parser.add_argument("--encoder", default="configs/bert.py:mini")
    parser.add_argument("--steps", type=int, default=8, help="of a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--shapes", type=int, default=4, help="lengths that ours are padded to")
    arguments = parser.parse_args()
    config = default_config()
    config.init = f"random:{arguments.encoder}"
    config.data.train, config.data.text = arguments.train, "sentence"
    config.data.limit, config.max_length = 2000, arguments.max_length
    settings = parse_finetuning(config)
    task = settings.tasks[0]
    records = splits(task.settings.data)["train"]
    task.learn(records)
    start = load_start(config.init, lambda: (r.values["sentence"] for r in records))
    batches = RowBatches(
        task.features(records, start.tokenizer, TRAIN),
        start.tokenizer.vocabulary,
        settings.batch_size,
        seed=0,
        shapes=arguments.shapes,
    )
    host = [batches.at(step) for step in range(arguments.steps)]
    ours = our_turn(settings, start.model, host)
    theirs = torch_turn(start.model, host, settings.learning_rate)
    ours(), theirs()  # compile, warm up
    times = {name: np.zeros(2) for name in ("ours", "theirs")}
    for _ in range(arguments.turns):
        for name, turn in (("ours", ours), ("theirs", theirs)):
            began = np.array([time.process_time(), time.monotonic()])
            turn()
            times[name] += np.array([time.process_time(), time.monotonic()]) - began
    steps = arguments.turns * arguments.steps
    for name, (cpu, wall) in times.items():
        print(f"{name}: {1000 * cpu / steps:.0f} ms CPU, {1000 * wall / steps:.0f} ms wall a step")
    cpu, wall = times["theirs"] / times["ours"]
    lengths = [batch["input_ids"].shape[1] for batch in host]
    print(f"rows of {sorted(set(lengths))} tokens; ratio {cpu:.2f} (CPU), {wall:.2f} (wall)")


def our_turn(settings, model, host):
    """A function that makes a step on each batch."""
    mesh = sharding.make_mesh(MeshSettings())
    model = dataclasses.replace(model, rows="padded")
    optimizer = settings.optimizer_settings(1000, model)
    training = TrainingSettings(0, settings.tasks[0], optimizer, settings.mesh)
    steps = compile_steps(training, model, mesh)
    holder = [steps.init()]

    def turn() -> None:
        for batch in host:
            holder[0], figures = steps.train(holder[0], place(mesh, batch))
        jax.block_until_ready(figures)

    return turn


def torch_turn(model, host, learning_rate):
    """The same with `transformers`, as its examples write it."""
    config = transformers.BertConfig(
        vocab_size=model.vocab_size,
        hidden_size=model.hidden_size,
        num_hidden_layers=model.num_hidden_layers,
        num_attention_heads=model.num_attention_heads,
        intermediate_size=model.intermediate_size,
        num_labels=2,
    )
    network = transformers.BertForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate)
    inputs = []
    for batch in host:
        count = int(batch["weight"].sum())
        longest = int((batch["segment_ids"] > 0).sum(axis=1).max())
        names = {"input_ids": "input_ids", "segment_ids": "attention_mask"}
        tensors = {
            theirs: torch.tensor(batch[ours][:count, :longest].astype(np.int64))
            for ours, theirs in names.items()
        }
        tensors["labels"] = torch.tensor(batch["labels"][:count].astype(np.int64))
        inputs.append(tensors)

    def turn() -> None:
        for tensors in inputs:
            optimizer.zero_grad()
            network(**tensors).loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

    return turn


if __name__ == "__main__":
    main()
