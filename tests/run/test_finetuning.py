"""What a fine-tuning keeps of its seeds: the best evaluation, when to stop, the mean."""

import numpy as np
import pytest

from bert_jax.config.finetuning import parse
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.run import metrics
from bert_jax.run.finetune_finish import say, summary
from bert_jax.run.finetuning import Finetuning, History
from bert_jax.tasks.prepared import Prepared
from bert_jax.training import sharding
from tests.architectures import CLASSIC
from tests.tasks.examples import config


def history(tmp_path, values, patience):
    found = History(tmp_path, patience)
    for step, value in enumerate(values, start=1):
        found.add(step, value)
    return found


@pytest.mark.parametrize(
    ("values", "patience", "is_over"),
    [
        ([0.5, 0.6, 0.6], 2, False),  # as good is not better, and one is not two
        ([0.5, 0.6, 0.6, 0.4], 2, True),
        ([0.5, 0.4, 0.6], 2, False),
        ([0.5, 0.4, 0.3, 0.2], 0, False),
        ([], 1, False),
    ],
)
def test_training_stops_after_so_many_evaluations_without_a_better_one(
    values, patience, is_over, tmp_path
):
    assert history(tmp_path, values, patience).is_over == is_over


def test_the_first_of_equal_evaluations_is_the_best(tmp_path):
    found = history(tmp_path, [0.5, 0.6, 0.6], 0)
    assert (found.best, found.best_step) == (0.6, 2)


def test_an_interrupted_history_goes_on(tmp_path):
    writers = metrics.Writers(tmp_path, 4, 0)
    for step, value in ((0, 0.1), (1, 0.6), (2, 0.5)):
        figures = {"accuracy": value} | ({"selection": value} if step else {})
        writers.write(step, "validation", figures)
    writers.close()
    found = History(tmp_path, 2)
    assert (found.best_step, found.is_over) == (1, False)
    found.add(3, 0.4)
    assert found.is_over
    assert found.untrained() == {"accuracy": 0.1}


def test_several_seeds_give_the_mean_and_the_standard_deviation(
    tokenizer_directory, tmp_path, capsys
):
    values = [0.7, 0.8, 0.9]
    settings = parse(config())
    tokenizer = load_tokenizer(tokenizer_directory)
    prepared = Prepared(settings.tasks[0], {}, tokenizer, {"test": []}, {}, {}, "")
    mesh = sharding.make_mesh(settings.mesh)
    run = Finetuning(settings, tmp_path, mesh, CLASSIC, [prepared], [])
    seeds = [
        {
            "seed": seed,
            "step": 10,
            "metrics": {"classification": {"accuracy": value, "matthews": value / 2}},
            "untrained": {"accuracy": 0.4},
        }
        for seed, value in enumerate(values)
    ]
    found = summary(run, prepared, {"accuracy": 0.5}, seeds)
    assert found["value"] == pytest.approx(0.8)
    assert found["std"] == pytest.approx(np.std(values, ddof=1))
    assert found["metrics"]["matthews"] == pytest.approx(0.4)
    say(found, run)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "RESULT classification accuracy 0.8000 ± 0.1000 0.5000"
    )
