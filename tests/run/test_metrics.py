"""What a run reports: means of sums, records that survive an interruption, curves."""

import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from bert_jax.model import Totals
from bert_jax.run import metrics
from bert_jax.run.console import Console, describe


def test_means_are_sums_over_weights_and_the_loss_weighs_its_parts():
    totals = {
        "mlm": Totals(30.0, {"accuracy": 4.0, "anything": 20.0}, 10.0),
        "nsp": Totals(2.0, {"accuracy": 3.0}, 4.0),
    }
    assert metrics.summarize(totals, {"mlm": 1.0, "nsp": 0.5}) == {
        "loss": 3.25,
        "mlm_loss": 3.0,
        "mlm_accuracy": 0.4,
        "mlm_anything": 2.0,
        "nsp_loss": 0.5,
        "nsp_accuracy": 0.75,
    }


def test_a_batch_without_predictions_is_no_division_by_zero():
    found = metrics.summarize({"mlm": Totals(0.0, {}, 0.0)}, {"mlm": 1.0})
    assert found["mlm_loss"] == 0.0


def write(workdir, first_step, steps):
    writers = metrics.Writers(workdir, total_steps=10, first_step=first_step)
    for step in steps:
        writers.write(step, "train", {"loss": float(step), "mlm_loss": 1.0, "mlm_accuracy": 0.5})
    writers.close()


def test_a_resumed_run_drops_what_was_written_beyond_its_checkpoint(tmp_path, capsys):
    write(tmp_path, 0, range(1, 8))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "spl')  # cut short by a kill
    write(tmp_path, 4, range(5, 11))
    assert [record["step"] for record in metrics.read(tmp_path)] == list(range(1, 11))


def test_a_resumed_run_keeps_what_happened_to_its_processes_and_drops_what_it_makes_again(
    tmp_path, capsys
):
    writers = metrics.Writers(tmp_path, total_steps=10, first_step=0)
    for name in metrics.EVENTS:
        writers.event(6, name, {"of": 1})
    writers.event(3, "phase", {"of": 1})
    with pytest.raises(ValueError, match="is not in EVENTS"):
        writers.event(3, "else", {})
    writers.close()
    metrics.Writers(tmp_path, total_steps=10, first_step=4).close()
    names = [event["event"] for event in metrics.read_events(tmp_path)]
    assert set(names) == {*metrics.LASTING, "phase"}
    assert metrics.read(tmp_path) == []
    assert metrics.comparable(tmp_path) == [{"step": 3, "event": "phase", "of": 1}]


def test_the_documentation_describes_every_event():
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
    described = set(re.findall(r"^\| `(\w+)` \| (?:run|process) \|", page, re.MULTILINE))
    assert described == set(metrics.EVENTS)


DAMAGED = [
    b'{"step": 3, "spl\x00\x00',
    b"\xff\xfe\r",
    b"[1]",
    b'{"step": "3", "split": "train"}',
    b"",
]


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_line_is_named_and_left_out(tmp_path, capsys, damaged):
    write(tmp_path, 0, range(1, 6))
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[2] = damaged
    path.write_bytes(b"\n".join(lines))
    capsys.readouterr()
    assert [record["step"] for record in metrics.read(tmp_path)] == [1, 2, 4, 5]
    assert f"{path}, line 3 is damaged" in capsys.readouterr().out
    write(tmp_path, 4, [5])  # and a run goes on
    assert f"{path}, line 3 is damaged" in capsys.readouterr().out
    assert [record["step"] for record in metrics.read(tmp_path)] == [1, 2, 4, 5]
    assert capsys.readouterr().out == ""


def test_tensorboard_holds_every_figure(tmp_path, capsys):
    write(tmp_path, 0, [1, 2])
    (path,) = (tmp_path / "tensorboard").iterdir()
    events = [event for event in EventFileLoader(str(path)).Load() if event.HasField("summary")]
    tags = {value.tag for event in events for value in event.summary.value}
    assert [event.step for event in events] == [1, 2]
    assert tags == {"train/loss", "train/mlm_loss", "train/mlm_accuracy"}


def test_a_console_line_says_everything_in_plain_text(capsys):
    figures = {
        "loss": 3.0,
        "mlm_loss": 2.5,
        "mlm_accuracy": 0.25,
        "nsp_loss": 0.5,
        "nsp_accuracy": 0.75,
        "learning_rate": 1e-4,
        "tokens_per_second": 12345.6,
    }
    shown = Console(total_steps=100, first_step=0)
    shown.show(25, "train", figures)
    first = capsys.readouterr().out
    shown.show(50, "train", figures)
    line = capsys.readouterr().out
    for part in ("50/100", "loss 3.000", "mlm 2.500", "acc 0.250", "nsp 0.500", "lr 1.00e-04"):
        assert part in line
    assert "12,346 tok/s" in line
    assert "left" in line
    assert "left" not in first  # it took the compilation, which says nothing of the speed


def test_describe_leaves_out_what_is_not_there():
    assert describe({"loss": 1.0}) == "loss 1.000"
