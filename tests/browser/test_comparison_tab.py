"""The Compare tab used as a person would, in headless Chromium."""

from __future__ import annotations

import csv
import time

import av
import pytest
from PIL import Image

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.browser

VIDEOS = """() => [...document.querySelectorAll('#compare-player video')].map((v) => ({
  time: v.currentTime, muted: v.muted, paused: v.paused, length: v.duration,
  frames: v.getVideoPlaybackQuality().totalVideoFrames, sound: v.webkitAudioDecodedByteCount }))"""
# The share of each variant's pixels that is not black where the difference is shown; null where it is not.
DIFFERENT = """() => { const shares = [...document.querySelectorAll('#compare-player canvas')].map((c) => {
  if (c.hidden || !c.width) return null;
  const pixels = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let count = 0;
  for (let i = 0; i < pixels.length; i += 4) count += pixels[i] + pixels[i + 1] + pixels[i + 2] > 24;
  return 4 * count / pixels.length; }); return shares.some((share) => share) ? shares : null; }"""
STATUS = "document.querySelector('#compare-player .mf-status').innerText"


def open_tab(page, picture) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_selector("#compare-button")
    page.set_input_files("#compare-character input[type=file]", str(picture))
    page.wait_for_selector("#compare-character img")


def choose(page, *steps: int) -> None:
    for box in page.locator("#compare-steps input[type=checkbox]").all():
        label = int(box.locator("xpath=ancestor::label[1]").inner_text())
        box.set_checked(label in steps)


def download(page, button: str, path):
    page.wait_for_selector(button)
    with page.expect_download() as caught:
        page.click(button)
    caught.value.save_as(path)
    return path


def test_three_variants_play_in_sync(page, picture, tmp_path):
    open_tab(page, picture)
    choose(page, 1, 2, 4)
    page.fill("#compare-text textarea", "Three variants should speak together.")
    page.click("#compare-button")
    page.wait_for_function(f"() => {STATUS}.startsWith('3 variants')", timeout=300_000)
    page.wait_for_function(f"() => ({VIDEOS})().every((v) => v.length > 1)")
    assert [variant["muted"] for variant in page.evaluate(VIDEOS)] == [False, True, True]

    page.click("#compare-player .mf-play")
    page.wait_for_function(f"() => ({VIDEOS})().every((v) => v.time > 0.4)", timeout=20_000)
    apart = []
    for _ in range(8):
        times = [variant["time"] for variant in page.evaluate(VIDEOS)]
        apart.append(max(times) - min(times))
        time.sleep(0.15)
    # A busy machine may hold one of them up for a moment: it must catch up.
    assert sorted(apart)[4] < 0.1 and apart[-1] < 0.1, f"variants apart by {apart}"
    variants = page.evaluate(VIDEOS)
    assert not any(variant["paused"] for variant in variants)
    assert all(variant["frames"] >= 10 for variant in variants), (
        "pictures were decoded in every variant"
    )
    assert variants[0]["sound"] > 0, "sound was decoded"

    page.click("#compare-player .mf-play")
    page.evaluate("""() => { const s = document.querySelector('#compare-player .mf-scrub');
      s.value = 0.5; s.dispatchEvent(new Event('input')); s.dispatchEvent(new Event('change')); }""")
    page.wait_for_function(f"() => ({VIDEOS})().every((v) => Math.abs(v.time - 0.5) < 0.02)")
    page.click("#compare-player .mf-differ")
    page.wait_for_function(f"() => ({DIFFERENT})() !== null")
    shown = page.evaluate(DIFFERENT)
    assert shown[2] is None, "the one with the most steps is shown as it is"
    assert all(0 < part < 0.5 for part in shown[:2]), (
        f"the face differs, the rest does not: {shown}"
    )
    page.click("#compare-player .mf-differ")
    page.wait_for_function("() => !document.querySelector('#compare-player canvas:not([hidden])')")
    expect(page.locator("#compare-tracks svg")).to_have_count(4)
    now = page.evaluate(
        "() => document.querySelector('.mf-tracks').style.getPropertyValue('--now')"
    )
    length = page.evaluate("() => +document.querySelector('.mf-tracks').dataset.seconds")
    assert float(now) == pytest.approx(0.5 / length, abs=0.02)
    page.click("#compare-player .mf-variant:nth-child(3) .mf-ear")
    assert [variant["muted"] for variant in page.evaluate(VIDEOS)] == [False, True, False]

    expect(page.locator("#compare-table tbody tr")).to_have_count(3)
    rows = list(csv.DictReader(download(page, "#compare-csv", tmp_path / "n.csv").open()))
    assert [row["steps"] for row in rows] == ["1", "2", "4"]
    with av.open(str(download(page, "#compare-grid", tmp_path / "g.mp4"))) as film:
        grid = film.streams.video[0]
        width, height = Image.open(picture).size
        assert grid.width / 3 / grid.height == pytest.approx(width / height, rel=0.02)
        seconds = sum(1 for _ in film.decode(video=0)) / 25
    assert seconds == pytest.approx(variants[0]["length"], abs=0.1)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("() => document.documentElement.scrollWidth <= 390")


def test_a_comparison_waits_its_turn_and_says_so(browser, address, page, picture):
    other = browser.new_page()
    other.goto(address)
    other.set_input_files("#character input[type=file]", str(picture))
    other.wait_for_selector("#player .mf-poster:not([hidden])")
    other.fill("#text textarea", "A very long stream. " * 90)
    other.click("#talk-button")
    other.wait_for_function("() => document.querySelector('.mf-video').buffered.length > 0")
    open_tab(page, picture)
    choose(page, 1)
    page.click("#compare-button")
    page.wait_for_function(f"() => {STATUS} === 'In the queue: place 1 of 1'", timeout=20_000)
    other.click("#stop-button")
    page.wait_for_function(f"() => {STATUS}.startsWith('1 variant,')", timeout=120_000)
    other.close()


def test_the_table_has_no_outline_but_its_frame(page, picture):
    """Gradio draws a dark line about every table and row."""
    open_tab(page, picture)
    choose(page, 1, 2)
    page.fill("#compare-text textarea", "Hello.")
    page.click("#compare-button")
    page.wait_for_selector("#compare-table tbody tr:nth-child(2)", timeout=180_000)
    sides = page.evaluate("""() => [...document.querySelectorAll('#compare-table table, '
      + '#compare-table tr')].flatMap((e) => ['Top', 'Right', 'Bottom', 'Left'].map(
        (side) => getComputedStyle(e)[`border${side}Width`]))""")
    assert sides and set(sides) == {"0px"}
    page.wait_for_function(f"() => {STATUS}.startsWith('2 variants')", timeout=120_000)


def test_stop_keeps_the_finished_variants(page, picture):
    open_tab(page, picture)
    choose(page, 1, 50)
    page.click("#compare-button")
    page.wait_for_selector("#compare-table tbody tr", timeout=180_000)
    page.click("#compare-stop")
    page.wait_for_function(f"() => {STATUS}.startsWith('1 variant,')", timeout=30_000)
    expect(page.locator("#compare-player .mf-variant:nth-child(2)")).to_contain_text("Stopped")
    expect(page.locator("#compare-button")).to_be_enabled()
