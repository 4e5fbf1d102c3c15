"""The Talk tab used as a person would, in headless Chromium."""

from __future__ import annotations

import json
import re

import av
import pytest

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.browser

LONG = "This sentence is long enough to be stopped in the middle, because it goes on and on. " * 3
STATE = """() => { const v = document.querySelector('.mf-video'); return {
  time: v.currentTime, frames: v.getVideoPlaybackQuality().totalVideoFrames,
  sound: v.webkitAudioDecodedByteCount, paused: v.paused, ended: v.ended, duration: v.duration,
  buffered: v.buffered.length ? v.buffered.end(v.buffered.length - 1) : 0,
  ranges: v.buffered.length, error: v.error && v.error.message }; }"""
# How far two presented pictures differ on average: stills repeat, films do not.
MOTION = """() => new Promise((done) => {
  const video = document.querySelector('.mf-video'), canvas = document.createElement('canvas');
  canvas.width = canvas.height = 64; const pen = canvas.getContext('2d'); let last = null, sum = 0;
  let count = 0; const step = () => { pen.drawImage(video, 0, 0, 64, 64);
    const now = pen.getImageData(0, 0, 64, 64).data;
    if (last) { let d = 0; for (let i = 0; i < now.length; i++) d += Math.abs(now[i] - last[i]);
      sum += d / now.length; count += 1; }
    last = now; if (count < 15) video.requestVideoFrameCallback(step); else done(sum / count); };
  video.requestVideoFrameCallback(step); })"""


def state(page) -> dict:
    return page.evaluate(STATE)


def talk(page, picture, text: str) -> None:
    page.set_input_files("#character input[type=file]", str(picture))
    page.wait_for_selector(".mf-poster:not([hidden])")
    page.fill("#text textarea", text)
    page.click("#talk-button")


def wait(page, condition: str, seconds: float = 60) -> None:
    script = f"() => {{ const s = ({STATE})(); return {condition}; }}"
    page.wait_for_function(script, timeout=1000 * seconds)


def download(page, folder) -> str:
    page.wait_for_selector("#clip video", timeout=60_000)
    with page.expect_download() as caught:
        page.click("#clip a[download]")
    path = folder / "clip.mp4"
    caught.value.save_as(path)
    return str(path)


def test_a_picture_and_a_sentence_become_moving_pictures_with_sound(page, picture, tmp_path):
    talk(page, picture, "Hello there! This is a short test of the page.")
    wait(page, "s.time > 0.2")
    assert page.evaluate(MOTION) > 0.01, "the pictures move"
    wait(page, "s.ended")
    after = state(page)
    assert after["error"] is None and after["ranges"] == 1
    assert after["frames"] >= 25 * after["duration"] - 3
    assert after["sound"] > 2000 * after["duration"], "sound was decoded"
    first = page.inner_text('[data-figure="first"]')
    assert first.endswith(" ms") and 0 < int(first.split()[0]) < 10_000
    path = download(page, tmp_path)
    with av.open(path) as container:
        assert json.loads(container.metadata["comment"])["ai_generated"]
        frames = sum(1 for _ in container.decode(video=0))
    assert frames / 25 == pytest.approx(after["duration"], abs=0.05)


def test_stop_keeps_the_clip_and_continue_goes_on(page, picture, tmp_path):
    talk(page, picture, LONG)
    wait(page, "s.time > 0.5")
    page.click("#stop-button")
    wait(page, "s.paused", 3)
    path = download(page, tmp_path)
    stopped = state(page)
    assert stopped["buffered"] > 0.6
    with av.open(path) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert frames / 25 == pytest.approx(stopped["buffered"], abs=0.1)
    page.click("#continue-button")
    wait(page, f"!s.paused && s.time > {stopped['buffered'] + 0.5}")
    after = state(page)
    assert after["ranges"] == 1 and after["error"] is None, "one unbroken film"


WATCH = """() => { const v = document.querySelector('.mf-video');
  const end = () => v.buffered.length ? v.buffered.end(v.buffered.length - 1) : 0;
  const log = window.watched = { stalls: [], grown: [], played: null };
  v.onwaiting = () => { log.stalls.push(v.currentTime); };
  v.onplaying = () => { log.played ??= log.grown.length; };
  const last = () => log.grown.length ? log.grown.at(-1)[1] : 0;
  v.onprogress = () => { if (end() > last()) log.grown.push([performance.now(), end()]); };
}"""
"""When more film arrived, and at which of those moments it began to play."""


def pace(grown: list[list[float]]) -> float:
    """Seconds of film that arrived in a second."""
    (began, first), (ended, last) = grown[0], grown[-1]
    return 1000 * (last - first) / max(1.0, ended - began)


def test_slower_than_real_time_waits_first_and_never_freezes(page, picture):
    page.fill("#steps input[type=number]", "50")
    page.keyboard.press("Tab")
    for _ in range(3):
        page.evaluate(WATCH)
        talk(page, picture, "Fifty guided steps for every chunk take their time.")
        wait(page, "!s.ended")
        wait(page, "s.ended", 400)
        expect(page.locator('[data-figure="nfe"]')).to_have_text("100")
        seen, length = page.evaluate("() => window.watched"), state(page)["duration"]
        # That a film ends is no freeze, though its length is not known before.
        if not any(0.1 < time < length - 0.1 for time in seen["stalls"]):
            return
        before, after = seen["grown"][: seen["played"]], seen["grown"][seen["played"] - 1 :]
        slower = len(before) < 2 or pace(after) < pace(before) / 1.25
        assert slower, f"it froze though the machine kept its pace: {seen}"
    pytest.skip("this machine slowed down by more than a quarter in three films")


def test_the_badge_follows_the_slider(page):
    expect(page.locator("#mode-badge")).to_have_text("Few mode")
    page.fill("#steps input[type=number]", "50")
    page.keyboard.press("Tab")
    page.wait_for_function("() => document.querySelector('#mode-badge').innerText == 'Multi mode'")
    page.wait_for_selector("#preflight :text-matches('100 NFE.*(real time|playback)')")


def test_what_will_be_said_stands_under_the_text(page):
    line = page.locator("#text-spoken")
    expect(line).to_be_hidden()
    page.locator("#text textarea").fill("")
    page.locator("#text textarea").press_sequentially("It costs $5M ☃")
    expect(line).to_contain_text("Said as: $5M → five million dollars")
    expect(line).to_contain_text("Not spoken: ☃")
    page.evaluate("() => window.mutualForcing.speak('ja')")
    expect(line).to_contain_text("読み方：$5M → five million dollars")
    expect(line).to_contain_text("読み上げられない部分：☃")
    page.evaluate("() => window.mutualForcing.speak('en')")
    page.fill("#text textarea", "Привет")
    expect(line).to_contain_text("nothing that can be spoken")
    expect(page.locator("#preflight")).not_to_contain_text("spoken")
    page.fill("#text textarea", "こんにちは")
    expect(line).to_be_hidden()


def test_wrong_inputs_are_said_plainly(page, picture, tmp_path):
    page.click("#talk-button")
    page.wait_for_selector("text=Choose a character first")
    expect(page.locator("#player .mf-wait")).to_be_hidden()
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n not a picture")
    page.set_input_files("#character input[type=file]", str(bad))
    page.wait_for_selector("text=The picture cannot be read")
    page.reload()
    page.wait_for_selector("#talk-button")
    talk(page, picture, "  ")
    page.wait_for_selector("text=Nothing to say")


def watching(browser, address, picture):
    """A second visitor whose long stream has begun."""
    other = browser.new_page()
    other.goto(address)
    other.wait_for_selector("#talk-button")
    talk(other, picture, "A very long stream. " * 90)
    wait(other, "s.buffered > 0.5")
    return other


def test_closing_the_tab_ends_the_generation(browser, address, page, picture):
    other = watching(browser, address, picture)
    other.close()
    # One stream at a time: this one could not start while the other went on.
    talk(page, picture, "Hello.")
    wait(page, "s.frames > 5", 15)


def test_who_waits_sees_his_place_and_gets_his_turn(browser, address, page, picture):
    other = watching(browser, address, picture)
    talk(page, picture, "Hello.")
    page.wait_for_selector("#player .mf-wait :text('In the queue: place 1 of 1')", timeout=20_000)
    other.click("#stop-button")
    wait(page, "s.frames > 5", 30)
    expect(page.locator("#player")).not_to_contain_text("queue")
    other.close()


def test_one_click_fills_everything_in_and_another_surprises(page):
    shown = "() => document.querySelector('#character img')?.src || ''"
    page.get_by_role("button", name="16 steps, surprised, lively").click()
    page.wait_for_function(f"() => ({shown})().includes('09-cartoon')")
    page.wait_for_function(
        "() => document.querySelector('#text textarea').value.startsWith('Good evening')"
    )
    expect(page.locator("#steps input[type=number]")).to_have_value("16")
    page.wait_for_selector("#preflight :text-matches('32 NFE')")
    page.locator("button:visible", has_text="Surprise me").first.click()
    page.wait_for_function(f"() => ({shown})().includes('1000-')")
    page.locator("#characters button.thumbnail-item").nth(3).click()
    page.wait_for_function(f"() => ({shown})().includes('04-grandfather')")
    page.wait_for_selector("#player .mf-poster:not([hidden])")
    page.fill("#steps input[type=number]", "2")
    page.keyboard.press("Tab")
    page.fill("#text textarea", "Hello.")
    page.click("#talk-button")  # a picture of the page's own, a voice of the example's
    wait(page, "s.frames > 5")


def test_a_link_restores_the_run_and_its_character(page, address):
    page.get_by_role("button", name="8 steps, neutral, calm").click()
    page.wait_for_function(
        "() => document.querySelector('#text textarea').value.startsWith('When I was')"
    )
    page.click("text=Save or restore these settings")
    page.get_by_role("button", name="Show", exact=True).click()
    field = "#permalink textarea, #permalink input"
    page.wait_for_function(f"() => document.querySelector('{field}').value.includes('steps=8')")
    link = page.input_value(field)
    assert "character=04-grandfather.png" in link and "checkpoint=" in link
    page.goto(address)
    page.wait_for_selector("#talk-button")
    page.goto(link)
    page.wait_for_function(
        "() => document.querySelector('#text textarea')?.value.startsWith('When I was')"
    )
    page.wait_for_selector("#character img")
    shown = re.compile("04-grandfather")
    expect(page.locator("#character img")).to_have_attribute("src", shown)
    expect(page.locator("#steps input[type=number]")).to_have_value("8")


def test_the_page_fits_a_phone(browser, address):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(address)
    page.wait_for_selector("#talk-button")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    page.close()
