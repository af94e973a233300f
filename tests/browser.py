"""Pages in a real browser: what it drew, complained about and tried to load."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1200, "height": 900}


@contextlib.contextmanager
def started() -> Iterator:
    """A browser, whose start takes seconds; skips the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium (apt install chromium)")
    from playwright import sync_api

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(
    chromium, path: Path, scheme: str = "light", viewport: dict[str, int] = DESKTOP
) -> Iterator:
    """A page opened from disk; fails if it complains or asks for anything but itself."""
    complaints: list[str] = []
    asked: list[str] = []
    page = chromium.new_page(color_scheme=scheme, viewport=viewport)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.resolve().as_uri())
    yield page
    page.close()
    assert not complaints, complaints
    assert asked == [path.resolve().as_uri()], asked


def scrolls_sideways(page) -> bool:
    """Whether the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth > window.innerWidth")


def drawn_pixels(page) -> list[int]:
    """Of each chart, how many of its pixels are not empty."""
    return page.evaluate(
        """() => [...document.querySelectorAll("canvas")].map((canvas) => {
          const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
          copy.drawImage(canvas, 0, 0);
          const all = copy.getImageData(0, 0, canvas.width, canvas.height).data;
          let drawn = 0;
          for (let i = 3; i < all.length; i += 4) drawn += all[i] > 0;
          return drawn;
        })"""
    )
