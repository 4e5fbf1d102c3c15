"""Take the README's screenshots and measure what it says of the page's speed, as a visitor would.

python tests/browser/screenshots.py [--checkpoint NAME] [--out examples] [--port 7870]
Starts app.py and headless Chromium; prints the median of click to first picture, and of real time.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path += map(str, Path(__file__).parents[1:3])  # a script, not a test: pytest would do so

from conftest import FLAGS, ROOT
from playwright.sync_api import Page, sync_playwright
from serving import wait_for

SENTENCE = "Hello! Nice to meet you. I was noise a moment ago, and now I am talking."
TOLD = """() => ({ first: document.querySelector('#player [data-figure="first"]'),
  status: document.querySelector('#player .mf-status') })"""
RUNS = 5
"""Films of which the median is told; one more before them warms up."""


def talk(page: Page) -> tuple[float, float]:
    """Make one film at 4 steps; return milliseconds from click to picture, and real time."""
    page.fill("#text textarea", SENTENCE)
    page.evaluate(
        f"() => {{ const {{ first, status }} = ({TOLD})(); "
        "first.textContent = status.textContent = ''; }"
    )  # those of the last film
    page.click("#talk-button")
    page.wait_for_function(
        f"() => {{ const {{ first, status }} = ({TOLD})(); return "
        "/^[0-9]+ ms$/.test(first.innerText) && /^[0-9.]+ s made.$/.test(status.innerText); }",
        timeout=180_000,
    )
    first, rate = (page.inner_text(f'#player [data-figure="{n}"]') for n in ("first", "rate"))
    return float(first.split()[0]), float(rate.rstrip("×"))


def talk_tab(page: Page, shoot: Callable[..., Any]) -> None:
    """The Talk tab with a film playing, and its figures on standard output."""
    page.locator("#characters button.thumbnail-item").nth(6).click()
    page.wait_for_selector("#player .mf-poster:not([hidden])")
    page.wait_for_function("() => !document.querySelector('#preflight').innerText.includes('…')")
    figures = [talk(page) for _ in range(RUNS + 1)][1:]
    shoot("talk")
    first, rate = (statistics.median(values) for values in zip(*figures, strict=True))
    sys.stdout.write(
        f"click to first picture {first:.0f} ms, real time {rate:.2f} ({RUNS} films)\n"
    )


def compare_tab(page: Page, shoot: Callable[..., Any]) -> None:
    """The Compare tab with four variants, their figures and plots."""
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare-characters button.thumbnail-item").first.click()
    page.wait_for_selector("#compare-character img")
    page.click("#compare-button")
    page.wait_for_function(
        "() => document.querySelector('#compare-player .mf-status').innerText.startsWith('4 variants')",
        timeout=600_000,
    )
    page.click("#compare-player .mf-play")
    page.wait_for_function("() => document.querySelector('#compare-player video').currentTime > 1")
    shoot("compare", full_page=True)


def live_tab(page: Page, shoot: Callable[..., Any]) -> None:
    """The Live tab after the steps and the text were changed."""
    page.get_by_role("tab", name="Live").click()
    page.locator("#live-characters button.thumbnail-item").nth(3).click()
    page.wait_for_selector("#live-character img")
    page.click("#live-start")
    page.wait_for_function(
        "() => document.querySelector('#live-player video').currentTime > 1", timeout=120_000
    )
    page.fill("#live-more textarea", "And now I say something else, in another mode.")
    page.keyboard.press("Enter")
    page.fill("#live-steps input[type=number]", "9")
    page.keyboard.press("Tab")
    page.wait_for_selector("#live-timeline .mf-chunks .multi", state="attached", timeout=120_000)
    page.wait_for_timeout(1500)
    shoot("live", full_page=True)
    page.click("#live-stop")


def about_tab(page: Page, shoot: Callable[..., Any]) -> None:
    """The About tab."""
    page.get_by_role("tab", name="About").click()
    page.wait_for_selector(".mf-facts")
    shoot("about")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--out", type=Path, default=ROOT / "examples")
    parser.add_argument("--port", type=int, default=7870)
    options = parser.parse_args(arguments)
    address = f"http://127.0.0.1:{options.port}/"
    command = [sys.executable, "app.py", "--checkpoint", options.checkpoint, "--host", "127.0.0.1"]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(options.port)], cwd=ROOT, stdout=log, stderr=log
        )
        try:
            wait_for(address, process, Path(log.name).read_text)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=FLAGS
                )
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.goto(address)
                page.wait_for_selector("#talk-button")

                def shoot(name: str, **how: Any) -> None:
                    page.screenshot(path=str(options.out / f"{name}.png"), **how)

                for tab in (talk_tab, compare_tab, live_tab, about_tab):
                    tab(page, shoot)
                browser.close()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    return 0


if __name__ == "__main__":
    sys.exit(main())
