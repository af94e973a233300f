import os
import time

import pytest

from bert_jax.corpus import progress as module
from bert_jax.corpus.progress import progress
from bert_jax.corpus.workers import cores


@pytest.mark.parametrize(
    ("total", "first", "last"),
    [
        (3_000_000, "reading: 1.0 of 3.0 MB\n", "reading: 3.0 MB in "),
        (0, "reading ...\n", "reading: 0."),
    ],
)
def test_long_work_shows_a_line_although_no_part_is_finished(
    monkeypatch, capsys, total, first, last
):
    monkeypatch.setattr(module, "FIRST_LINE", 0.2)
    shown, deadline = "", time.monotonic() + 10
    with progress("reading", total) as advance:
        advance(1_000_000)
        while not shown and time.monotonic() < deadline:
            time.sleep(0.01)
            shown = capsys.readouterr().err
    assert shown == first
    assert capsys.readouterr().err.startswith(last)


def test_short_work_is_silent(monkeypatch, capsys):
    monkeypatch.setattr(module, "FIRST_LINE", 60)
    with progress("reading", 100) as advance:
        advance(100)
    assert capsys.readouterr().err == ""


def test_cores_are_counted_where_no_affinity_is_known(monkeypatch):
    assert cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS
    assert cores() == os.cpu_count()
