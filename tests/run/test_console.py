"""The progress of a run on a terminal and elsewhere."""

import io
import sys

from bert_jax.run.console import Console

FIGURES = {
    "loss": 3.0,
    "mlm_accuracy": 0.25,
    "learning_rate": 1e-4,
    "tokens_per_second": 12345.6,
    "mfu": 0.412,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    """What stands in for a terminal on stderr; pytest puts its own there before each test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_the_bar_says_phase_smoothed_loss_accuracy_speed_mfu_and_time_left(monkeypatch):
    stream = terminal(monkeypatch)
    console = Console(total_steps=100, first_step=0)
    console.begin_phase(1)
    for step, loss in ((10, 4.0), (20, 2.0), (30, float("nan"))):
        console.show(step, "train", FIGURES | {"loss": loss})
    console.close()
    said = stream.getvalue()
    # The mean of 4 and 2, in which 4 counts 0.9 times; the step that is no number is left out.
    for part in ("phase 2", "loss 2.947", "acc 0.250", "12,346 tok/s", "mfu 41.2%", " left]"):
        assert part in said, said


def test_evaluations_are_lines_above_the_bar(monkeypatch, capsys):
    terminal(monkeypatch)
    console = Console(total_steps=100, first_step=40, phase=1)
    console.show(50, "heldout", FIGURES)
    console.close()
    assert "step 50/100  heldout  loss 3.000  acc 0.250" in capsys.readouterr().out


def test_elsewhere_there_is_a_plain_line_a_record(capsys):
    Console(total_steps=100, first_step=0).show(10, "train", FIGURES)
    assert capsys.readouterr().out.count("\n") == 1
