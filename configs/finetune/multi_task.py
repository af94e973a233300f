"""Several tasks at once over one encoder, each with its own head.

Paper:     MT-DNN (https://arxiv.org/abs/1901.11504): the batches of the tasks alternate; tasks are
           drawn in proportion to examples ** config.task_exponent (1: by size, 0: all alike).
Command:   python -m bert_jax.finetune --config=configs/finetune/multi_task.py:GLUE
           --config.init=runs/mine --workdir=runs/several
           where the directory GLUE holds sst2/{train,dev}.tsv and rte/{train,dev}.tsv; copy this
           file for your own tasks.
Expect:    results.json has the figures of each task, and the last lines a RESULT for each.
"""

from ml_collections import ConfigDict

from bert_jax.config.finetuning import default_config


def get_config(arg: str = "glue") -> ConfigDict:
    """SST-2 and RTE; `arg` is the directory that holds them."""
    config = default_config()
    config.epochs = 2.0
    config.learning_rate = 1e-4
    config.task_exponent = 0.5
    pair = {"text": "sentence1", "text_pair": "sentence2"}
    config.tasks = (
        {
            "name": "sst2",
            "task": "classification",
            "data": {"text": "sentence", **_files(f"{arg}/sst2")},
        },
        {
            "name": "rte",
            "task": "classification",
            "data": {**pair, **_files(f"{arg}/rte")},
        },
    )
    return config


def _files(directory: str) -> dict[str, str]:
    return {"train": f"{directory}/train.tsv", "validation": f"{directory}/dev.tsv"}
