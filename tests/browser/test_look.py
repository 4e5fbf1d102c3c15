"""Pictures of any shape on the page, in headless Chromium: which face, how large, nothing cut."""

from __future__ import annotations

import portraits
import pytest

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.browser

POSTER = """() => { const p = document.querySelector('#player .mf-poster'); return p.hidden ? null
  : [p.naturalWidth, p.naturalHeight]; }"""
STAGE = """() => { const b = document.querySelector('#player .mf-stage').getBoundingClientRect();
  return [b.width, b.height]; }"""


def poster_is(page, width: int, height: int) -> None:
    script = f"() => {{ const p = ({POSTER})(); return p && p[0] == {width} && p[1] == {height}; }}"
    page.wait_for_function(script, timeout=30_000)


def choose(page, kind: str, value: str) -> None:
    page.locator(f"#talk-{kind} label", has_text=value).click()


def test_the_poster_follows_size_and_framing_and_is_not_cut(page, tmp_path):
    path = portraits.save(portraits.landscape(), tmp_path / "landscape.png")
    page.set_input_files("#character input[type=file]", path)
    poster_is(page, 910, 512)
    width, height = page.evaluate(STAGE)
    assert width / height == pytest.approx(910 / 512, abs=0.02)
    page.wait_for_selector("#preflight :text-matches('910 × 512 pixels')")
    choose(page, "size", "256")
    poster_is(page, 456, 256)
    page.wait_for_selector("#preflight :text-matches('456 × 256 pixels')")
    choose(page, "framing", "face only")
    poster_is(page, 256, 256)
    width, height = page.evaluate(STAGE)
    assert width == pytest.approx(height, abs=2)
    expect(page.locator("#talk-which")).to_be_hidden()


def test_a_click_on_a_face_chooses_it_and_so_does_the_number(page, tmp_path):
    path = portraits.save(portraits.two(), tmp_path / "two.png")
    page.set_input_files("#character input[type=file]", path)
    page.wait_for_selector("#talk-shown img")
    chosen = page.locator("#talk-which input:checked")
    expect(page.locator("#talk-which label")).to_have_count(2)
    expect(chosen).to_have_value("1")
    image = page.locator("#talk-shown img")
    before = image.get_attribute("src")
    box = image.bounding_box()
    image.click(position={"x": box["width"] * 0.75, "y": box["height"] / 2})
    expect(chosen).to_have_value("2")
    expect(image).not_to_have_attribute("src", before)
    expect(page.locator("#talk-face input")).to_have_value("2")
    page.locator("#talk-which label", has_text="1").click()
    expect(page.locator("#talk-face input")).to_have_value("1")


def test_a_portrait_fits_a_phone_and_its_film_plays_whole(browser, address, picture):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(address)
    page.wait_for_selector("#talk-button")
    page.set_input_files("#character input[type=file]", str(picture))
    choose(page, "size", "256")
    poster_is(page, 256, 456)
    width, height = page.evaluate(STAGE)
    assert width <= 390 and 260 < height <= 0.65 * 844
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    page.fill("#text textarea", "Hello.")
    page.locator("#steps input[type=number]").fill("1")
    page.click("#talk-button")
    page.wait_for_function(
        "() => document.querySelector('#player video').currentTime > 0.1", timeout=120_000
    )
    shape = page.evaluate(
        "() => { const v = document.querySelector('#player video');"
        "return [v.videoWidth, v.videoHeight, getComputedStyle(v).objectFit]; }"
    )
    assert shape == [256, 456, "contain"]
    page.close()
