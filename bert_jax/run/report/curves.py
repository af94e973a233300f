"""The charts of a run, or of several runs over one another."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bert_jax.common.page import Chart, Line, Mark
from bert_jax.run.report.history import History
from bert_jax.stream.evaluation import MASK_RATE

GROUP = "steps"  # the pointer of all charts is at the same step


def curves(runs: Sequence[History]) -> list[Chart]:
    """Charts of everything that the runs recorded, against the step."""
    losses = _figures(runs, lambda name: name.endswith("_loss") and name != "mlm_loss")
    accuracies = _figures(runs, lambda name: name.endswith("_accuracy") and name != "mlm_accuracy")
    rates = _figures(runs, lambda name: name.endswith("learning_rate"))
    return [
        _chart(
            runs,
            "Loss of the masked tokens (nats)",
            ["mlm_loss"],
            levels=_entropies(runs),
            note=masking_note(runs),
        ),
        _chart(runs, "Accuracy of the masked tokens", ["mlm_accuracy"], percent=True),
        *(_chart(runs, f"Loss: {name.removesuffix('_loss')}", [name]) for name in losses),
        *(
            _chart(
                runs,
                f"Accuracy: {name.removesuffix('_accuracy')}",
                [name],
                percent=True,
                levels=[("chance", 0.5)] if name in ("nsp_accuracy", "sop_accuracy") else [],
            )
            for name in accuracies
        ),
        _chart(runs, "Learning rate", rates),
        _chart(runs, "Gradient norm, before clipping", ["grad_norm"], is_log_y=True),
        _chart(runs, "Tokens per second", ["tokens_per_second"]),
        _chart(runs, "MFU", ["mfu"], percent=True, note="Share of the devices' peak that is used."),
        _chart(
            runs,
            "Waiting for data",
            ["data_wait_fraction"],
            percent=True,
            note="Share of the time. More than a few percent: the input is too slow.",
        ),
        _goodput(runs),
    ]


def masking_note(runs: Sequence[History]) -> str:
    """How training and held-out figures compare where they mask different shares of the tokens."""
    rates = {
        round(rate, 4)
        for run in runs
        for phase in run.settings.stream.phases
        for rate in (phase.mask_rate, phase.final_mask_rate)
    }
    if rates == {MASK_RATE}:
        return ""
    shown = " to ".join(f"{rate:.0%}" for rate in sorted({min(rates), max(rates)}))
    easier = "easier" if min(rates) >= MASK_RATE else "another task"
    return (
        f"Training masks {shown} of the tokens, evaluation always {MASK_RATE:.0%} (80/10/10) so "
        f"that runs can be compared, which is {easier}: the two curves do not lie on one another "
        "even where nothing is learned by heart."
    )


def marks(run: History) -> list[Mark]:
    """What happened to a run, as marks of its charts."""
    found = [
        Mark(event["step"], text, kind)
        for event in run.events
        if (described := _described(event))
        for kind, text in [described]
    ]
    skipped = [record for record in run.records if record.get("skipped_updates")]
    return found + [
        Mark(
            record["step"],
            f"{record['skipped_updates']:.0f} updates up to step {record['step']:,} were not "
            "finite and left out",
            "warning",
        )
        for record in skipped
    ]


def _described(event: dict[str, Any]) -> tuple[str, str] | None:
    """Kind and text of the mark for an event; None: it has none."""
    step = f"step {event['step']:,}"
    match event["event"]:
        case "phase" if event["step"] > 1:
            length, rows = event.get("sequence_length"), event.get("global_batch_size")
            return (
                "phase",
                f"phase {event.get('index', 0) + 1} from {step}: {rows} rows of {length}",
            )
        case "resume":
            lost = event.get("lost_steps", 0)
            again = f", {lost:,} steps made again" if lost else ""
            return "restart", f"restarted at {step}{again}"
        case "rollback":
            return "warning", f"{step}: back to step {event.get('to')} after a spike of the loss"
        case "skipped":
            return (
                "warning",
                f"batches of steps {event.get('first')} to {event.get('stop')} left out",
            )
        case "warning":
            return "warning", f"{step}: {event.get('name', 'warning')}"
        case "config_change":
            return "phase", f"{step}: config.{event.get('field')} is now {event.get('new')}"
        case "checkpoint":
            return "checkpoint", f"checkpoint at {step}"
    return None


def _figures(runs: Sequence[History], is_wanted: Callable[[str], bool]) -> list[str]:
    names = (name for run in runs for record in run.records for name in record)
    return [name for name in dict.fromkeys(names) if is_wanted(name)]


def _chart(runs: Sequence[History], title: str, figures: Sequence[str], **fields: Any) -> Chart:
    lines = list(_lines(runs, figures))
    at = marks(runs[0]) if len(runs) == 1 else []
    return Chart(title, "step", lines, marks=at, group=GROUP, **fields)


def _lines(runs: Sequence[History], figures: Sequence[str]) -> Iterator[Line]:
    color = -1
    for number, run in enumerate(runs):
        for split in run.splits:
            for figure in figures:
                steps, values = run.series(split, figure)
                if not steps:
                    continue
                color += 1
                is_train = split == "train"
                parts = [run.name] if len(runs) > 1 else []
                parts += [figure.replace("_", " ")] if len(figures) > 1 else [split]
                yield Line(
                    ": ".join(parts),
                    steps,
                    values,
                    color=number if len(runs) > 1 else color,
                    is_dashed=is_train and len(runs) > 1 and len(run.splits) > 1,
                    has_points=not is_train,
                )


def _entropies(runs: Sequence[History]) -> list[tuple[str, float]]:
    """The loss of a model that knows only how frequent each token is, by corpus."""
    found = {
        round(run.corpus["unigram_entropy"], 3): run
        for run in runs
        if run.corpus and "unigram_entropy" in run.corpus
    }
    name = "unigram entropy"
    return [(name if len(found) == 1 else f"{name}: {run.name}", h) for h, run in found.items()]


def _goodput(runs: Sequence[History]) -> Chart:
    """The share of training in all time so far, at each record of it."""
    lines = []
    for run in runs:
        steps, shares = [], []
        for end, event in enumerate(run.events, start=1):
            if event["event"] == "goodput":
                seconds = run.seconds_until(end)
                steps.append(event["step"])
                shares.append(seconds.get("steps", 0.0) / max(sum(seconds.values()), 1e-9))
        order = sorted(range(len(steps)), key=steps.__getitem__)
        x, y = [steps[i] for i in order], [shares[i] for i in order]
        lines.append(Line(run.name if len(runs) > 1 else "goodput", x, y, has_points=True))
    return Chart(
        "Goodput",
        "step",
        lines,
        marks=marks(runs[0]) if len(runs) == 1 else [],
        percent=True,
        group=GROUP,
        note="Share of all time so far, restarts included, in which steps were made that count.",
    )
