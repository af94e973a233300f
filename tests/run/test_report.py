"""The report of a run: what it shows, and that a real browser draws it."""

import json
import shutil

import pytest

from bert_jax import report as command
from bert_jax.config import load_config
from bert_jax.corpus.store import TokenStore
from bert_jax.run import metrics, preset, report, samples
from bert_jax.run.report import comparison, document, terminal
from bert_jax.run.report.curves import curves
from bert_jax.run.report.history import read
from bert_jax.run.report.live import LiveReport
from bert_jax.run.workdir import load_run
from tests import browser, commands
from tests.runs import ROOT, tiny

START = {"versions": {}, "devices": "1 x cpu", "processes": 1, "config_hash": "a", "started": 0.0}


def eventful(workdir, corpus, **fields):
    """A run of 200 steps that was restarted, had a spike and is not finished, as its files say."""
    workdir.mkdir(parents=True)
    config = tiny(corpus, total_steps=400, **fields)
    (workdir / "config.json").write_text(json.dumps(config.to_dict()))
    preset.write(
        workdir,
        preset.Preset("configs/bert.py:tiny", load_config(f"{ROOT}/configs/bert.py", "tiny")),
    )
    writers = metrics.Writers(workdir, total_steps=400, first_step=0)
    writers.event(0, "start", START)
    for step in range(1, 201):
        loss = float("nan") if step == 60 else 6 - step / 100
        figures = {"loss": loss, "mlm_loss": loss, "mlm_accuracy": step / 400, "grad_norm": 1.0}
        figures |= {"learning_rate": 1e-4, "tokens_per_second": 1000.0, "mfu": 0.4}
        writers.write(step, "train", figures | {"skipped_updates": float(step == 60)})
        if step % 50 == 0:
            held_out = {"loss": loss + 0.1, "mlm_loss": loss + 0.1, "mlm_accuracy": 0.1}
            writers.write(step, "heldout", held_out)
            writers.event(step, "checkpoint", {"seconds": 0.1})
            writers.event(step, "goodput", {"starting": 5.0, "steps": step / 2})
    writers.event(100, "resume", {"lost_steps": 7, "lost_seconds": 3.0, "down_seconds": 2.0})
    writers.event(150, "rollback", {"to": 100, "loss": 50.0, "median": 4.0})
    writers.event(150, "warning", {"name": "plateau", "text": "the loss <stands> still: warm up"})
    writers.close()
    sentences = [
        {"text": "a [MASK] <b> c", "word": "dog", "guesses": [["cat", 0.5], ["dog", 0.25]]}
    ]
    (workdir / samples.FILE).write_text(
        "".join(json.dumps({"step": step, "sentences": sentences}) + "\n" for step in (50, 100))
    )
    return workdir


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    return eventful(tmp_path_factory.mktemp("eventful") / "run", corpus)


def test_a_page_says_where_the_run_is_and_what_happened(run):
    page = report.write(run).read_text()
    for text in (
        "At step 200 of 400",
        'http-equiv="refresh"',
        "restarted at step 100, 7 steps made again",
        "back to step 100 after a spike",
        "Warning: the loss &lt;stands&gt; still: warm up",
        "1 updates up to step 60 were not finite",
        "a [MASK] &lt;b&gt; c   (it was: dog)",
        "<td>cat 50%</td><td>dog 25%</td>",
        "Config, as its difference from configs/bert.py:tiny",
        "<td>global_batch_size</td><td>256</td><td>8</td>",
        "python -m bert_jax.fill_mask --workdir=",
    ):
        assert text in page, text
    fields = page.partition("as its difference from")[2].partition("<details>")[0]
    assert "model.norm" not in fields  # as in the preset


def test_curves_have_entropy_masking_note_marks_and_goodput(run, finished):
    charts = {chart.title: chart for chart in curves([read(finished.workdir)])}
    loss = charts["Loss of the masked tokens (nats)"]
    assert [line.name for line in loss.lines] == ["train", "heldout"]
    ((name, entropy),) = loss.levels
    facts = json.loads((finished.workdir / "corpus" / "report.json").read_text())
    assert name == "unigram entropy"
    assert entropy == pytest.approx(facts["unigram_entropy"], abs=1e-3)
    assert loss.note == ""  # BERT masks 15 %, as the evaluation does
    assert [mark.kind for mark in loss.marks if mark.kind != "checkpoint"] == ["phase"]
    assert charts["Accuracy: nsp"].levels == [("chance", 0.5)]
    goodput = next(chart for chart in curves([read(run)]) if chart.title == "Goodput")
    # 25 steps' seconds at step 50, of which 5 were spent on the start.
    assert goodput.lines[0].y[0] == pytest.approx(25 / 30)


def test_other_masking_in_training_is_explained(corpus, tmp_path):
    phases = [{"until": 1.0, "mask_rate": 0.3, "final_mask_rate": 0.1, "sequence_length": 32}]
    config = load_config(f"{ROOT}/configs/quickstart.py").unlock()
    config.stream.phases = tuple(phases)
    config.corpus.source = corpus
    tmp_path.joinpath("config.json").write_text(json.dumps(config.to_dict()))
    note = curves([read(tmp_path)])[0].note
    assert note.startswith("Training masks 10% to 30% of the tokens, evaluation always 15%")
    report.write(tmp_path)  # of a run that has no records yet


def test_a_finished_run_shows_its_corpus_and_what_it_learned(finished):
    page = (finished.workdir / "report.html").read_text()
    assert "Finished." in page
    assert 'http-equiv="refresh"' not in page
    assert "All figures of the corpus" in page
    assert "AutoModelForMaskedLM" in page
    # No word of its tiny vocabulary is whole in a sentence that is short enough to be shown.
    assert "Shown after the first evaluation" in page


def test_samples_that_were_cut_short_are_left_out(tmp_path):
    lines = [{"step": step, "sentences": []} for step in (10, 30)]
    path = tmp_path / samples.FILE
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4')
    assert [line["step"] for line in samples.read(tmp_path)] == [10, 30]


def test_samples_of_steps_that_are_made_again_are_replaced(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "LENGTHS", range(5, 60))
    monkeypatch.setattr(samples, "EVERY", 1)
    run, store = load_run(finished.workdir), TokenStore.open(finished.workdir / "corpus")
    for step in (10, 30, 20):
        samples.record(tmp_path, step, store, run.model, run.params)
    first, second = samples.read(tmp_path)
    assert (first["step"], second["step"]) == (10, 20)
    assert first["sentences"] == second["sentences"]  # of the same parameters
    for sentence in first["sentences"]:
        assert "[MASK]" in sentence["text"]
        assert len(sentence["guesses"]) == samples.TOP


def test_a_report_that_fails_does_not_stop_the_run(finished, tmp_path, capsys):
    run, store = load_run(finished.workdir), TokenStore.open(finished.workdir / "corpus")
    (tmp_path / "config.json").write_text("no JSON")
    LiveReport(tmp_path, store, fills_masks=False).renew(1, run.model, run.params)
    assert "Note: the report was not written" in capsys.readouterr().out


def test_runs_are_laid_over_one_another_and_their_configs_compared(run, corpus, tmp_path):
    other = eventful(tmp_path / "other", corpus, seed=7)
    done = commands.run(
        command.define_flags,
        lambda: command.main([str(run), str(other)]),
        f"--out={tmp_path}/c.html",
    )
    assert done.status == 0, done.err
    page = (tmp_path / "c.html").read_text()
    assert f"<th>{run}</th><th>{other}</th>" in page
    assert "<td>seed</td><td>0</td><td>7</td>" in page
    runs = [read(run), read(other)]
    assert comparison.config_differences(runs) == [["seed", "0", "7"]]
    assert comparison.default_path([runs[0], runs[0]]) == run.parent / "comparison.html"
    lines = curves(runs)[0].lines
    assert [line.name for line in lines] == [
        f"{workdir}: {split}" for workdir in (run, other) for split in ("train", "heldout")
    ]
    assert [line.color for line in lines] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("directories", "message"),
    [
        ([], "name at least one run"),
        (["nowhere"], "--workdir=nowhere: nowhere/config.json is missing"),
    ],
)
def test_without_a_run_the_command_says_so(directories, message):
    done = commands.run(command.define_flags, lambda: command.main(directories))
    assert message in done.error()


def test_the_terminal_shows_curves_and_figures(run):
    done = commands.run(command.define_flags, lambda: command.main([str(run)]), "--watch")
    assert done.status == 0, done.err
    assert "step 200/400" in done.out
    assert "Loss of the masked tokens" in done.out
    assert "heldout" in done.out
    picture = terminal.draw(read(run), width=80, height=30)
    assert len(picture.splitlines()) <= 30


def test_figures_are_short():
    assert document.short(3_072_000) == "3.07 M"
    assert document.duration(93_784) == "1 d 2 h"
    assert document.duration(252.4) == "4 min 12 s"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [browser.PHONE, browser.DESKTOP], ids=["phone", "desktop"])
def test_a_browser_draws_the_report(run, finished, chromium, tmp_path, scheme, viewport):
    for workdir in (run, finished.workdir):
        shutil.copy(report.write(workdir), tmp_path / "page.html")
        with browser.opened(chromium, tmp_path / "page.html", scheme, viewport) as opened:
            assert len(browser.drawn_pixels(opened)) >= 6
            assert min(browser.drawn_pixels(opened)) > 500
            assert not browser.scrolls_sideways(opened)
            opened.click("summary")
            assert not browser.scrolls_sideways(opened)
