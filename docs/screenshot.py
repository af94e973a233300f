"""The pictures of the run report in the README: `python docs/screenshot.py WORKDIR`.

Writes docs/report-light.webp and docs/report-dark.webp, the top of the run's report in Chromium.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright import sync_api

from bert_jax.run import report

WINDOW = {"width": 1100, "height": 1000}


def main(workdir: str) -> None:
    """Write the report again and photograph it in both colour schemes."""
    page_path = report.write(Path(workdir)).resolve()
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        for scheme in ("light", "dark"):
            page = chromium.new_page(color_scheme=scheme, viewport=WINDOW)
            page.goto(page_path.as_uri())
            picture = Image.open(io.BytesIO(page.screenshot()))
            out = Path(__file__).parent / f"report-{scheme}.webp"
            picture.save(out, quality=80, method=6)
            print(f"Wrote {out}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
