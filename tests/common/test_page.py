"""Pages: escaped, self-contained, and drawn by a real browser."""

import json
import re

import numpy as np
import pytest

from bert_jax.common import page
from bert_jax.common.page.charts import MOST_POINTS, thinned
from tests import browser

STEPS = list(range(1, 201))
LOSSES = [9 - 3 * (1 - 0.98**step) for step in STEPS]
CHARTS = [
    page.Chart(
        "Loss <b>",
        "step",
        [
            page.Line("train", STEPS, LOSSES),
            page.Line("held-out", [50, 100, 200], [8.0, float("nan"), 6.5], has_points=True),
            page.Line("never logged", [], []),
        ],
        levels=[("unigram entropy", 6.4)],
        marks=[
            page.Mark(100, "phase 2 </script>", "phase"),
            page.Mark(150, "checkpoint at 150", "checkpoint"),
        ],
        note="A note.",
    ),
    page.Chart("Lengths", "tokens", [page.Line("a", [1, 8, 64], [0.1, 0.5, 0.4])], is_log_x=True),
    page.Chart("Ranks", "rank", [page.Line("a", [1, 9], [99, 0])], is_log_x=True, is_log_y=True),
    page.Chart("One point", "step", [page.Line("a", [3], [0.5])], percent=True),
    page.Chart("Nothing yet", "step", [page.Line("a", [], [])]),
]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A page with every block."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    wide = [[f"column {i} <script>alert(1)</script>" for i in range(30)]]
    path.write_text(
        page.page(
            "A <run>",
            page.warnings(["the loss is & stays high"]),
            page.tiles([("46.4 %", "accuracy"), ("3.2", "loss")]),
            page.section("Charts", page.charts(CHARTS)),
            page.section("Table", page.table(["", "tokens"], [["x", 1234567], ["y", 0.123456]])),
            page.details("More", page.table([""] * 30, wide), page.code("rm -rf <dir>" * 40)),
            page.paragraph("word" * 200),
            subtitle="below",
        )
    )
    return path


def test_texts_are_escaped_and_nothing_is_loaded(shown):
    text = shown.read_text()
    assert "<run>" not in text
    assert "<script>alert" not in text
    assert "phase 2 </script>" not in text
    assert re.findall(r"""(?:src|href)=["'][^"'#]""", text) == []
    assert "default-src 'none'" in text
    assert len(text) < 80_000


def test_numbers_are_readable(shown):
    assert '<td class="number">1,234,567</td>' in shown.read_text()
    assert '<td class="number">0.1235</td>' in shown.read_text()


def test_a_chart_without_a_point_is_left_out(shown):
    assert shown.read_text().count('<figure class="chart"') == 4
    assert page.charts([CHARTS[-1]]) == ""


def test_a_page_without_charts_has_no_script():
    assert "<script" not in page.page("Plain", page.paragraph("text"))


def test_good_news_is_not_in_the_colour_of_warnings():
    assert page.warnings([]) == '<p class="fine">No warnings.</p>\n'
    assert 'class="warning"' in page.warnings(["careful"])


def test_values_that_are_not_finite_leave_a_gap():
    text = page.charts([page.Chart("", "", [page.Line("", [1, 2, 3], [1, np.inf, 2])])])
    values = json.loads(re.search(r"json\">(.*?)</script>", text)[1])
    assert values["lines"][0]["y"] == [1.0, None, 2.0]


def test_long_lines_are_thinned_and_keep_their_spikes():
    values = np.sin(np.arange(100_000) / 3000)
    values[12_345], values[70_001] = 50, np.nan
    kept = thinned(values, MOST_POINTS)
    assert len(kept) <= MOST_POINTS
    assert {0, 12_345, 70_001, 99_999} <= set(kept)
    assert thinned(values[:7], MOST_POINTS).tolist() == list(range(7))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [browser.PHONE, browser.DESKTOP], ids=["phone", "desktop"])
def test_a_browser_draws_every_chart(chromium, shown, scheme, viewport):
    with browser.opened(chromium, shown, scheme, viewport) as opened:
        assert len(browser.drawn_pixels(opened)) == 4
        assert min(browser.drawn_pixels(opened)) > 500
        assert not browser.scrolls_sideways(opened)
        opened.click("summary")
        assert not browser.scrolls_sideways(opened)
        back = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        assert back == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]


@pytest.mark.slow
def test_the_pointer_shows_values_and_marks(chromium, shown):
    with browser.opened(chromium, shown) as opened:
        chart = opened.locator("figure.chart").first
        assert "last" in chart.locator(".u-legend").inner_text()
        area = chart.locator(".u-over").bounding_box()
        opened.mouse.move(area["x"] + area["width"] * 99 / 199, area["y"] + 50)
        assert "100" in chart.locator(".u-legend").inner_text()
        assert f"{LOSSES[99]:.3f}" in chart.locator(".u-legend").inner_text()
        assert chart.locator(".pointed").inner_text() == "phase 2 </script>"


@pytest.mark.slow
def test_the_colour_scheme_may_change_while_the_page_is_open(chromium, shown):
    with browser.opened(chromium, shown) as opened:
        opened.emulate_media(color_scheme="dark")
        assert min(browser.drawn_pixels(opened)) > 500
        assert len(browser.drawn_pixels(opened)) == 4


RECORD_TEXTS = """
  const draw = CanvasRenderingContext2D.prototype.fillText;
  window.drawn = [];
  CanvasRenderingContext2D.prototype.fillText = function (text, x, ...rest) {
    const width = this.measureText(text).width;
    const left = x - ({right: width, end: width, center: width / 2}[this.textAlign] ?? 0);
    window.drawn.push([text, left, left + width, this.canvas.width]);
    return draw.call(this, text, x, ...rest);
  };
"""


@pytest.mark.slow
def test_the_name_of_a_level_is_not_cut_off(chromium, shown):
    page = chromium.new_page(viewport=browser.PHONE)
    page.add_init_script(RECORD_TEXTS)
    page.goto(shown.resolve().as_uri())
    drawn = [
        (left, right, width)
        for text, left, right, width in page.evaluate("window.drawn")
        if text == "unigram entropy"
    ]
    page.close()
    assert drawn
    assert all(0 <= left < right <= width for left, right, width in drawn)
