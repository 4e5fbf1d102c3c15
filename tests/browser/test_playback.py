"""Playback in browsers that are not the one at hand, made of Chromium by taking things from it, and on
networks and machines that stall.
"""

from __future__ import annotations

import socket
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import av
import numpy as np
import pytest
from test_talk import STATE, download, state, talk, wait

from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.demo.limits import Limits
from mutual_forcing.demo.server import build_app, listening
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.media import read_audio

pytestmark = pytest.mark.browser
TEXT = "A sentence of some length, so that it takes several chunks to say."
SECONDS = 25
"""Of the longest film."""
WAITS = "#player .mf-wait:not([hidden])"

NO_SOURCE = "delete window.MediaSource; delete window.ManagedMediaSource;"
NO_H264 = "MediaSource.isTypeSupported = () => false;"
THROWS = """MediaSource.prototype.addSourceBuffer = function () {
  throw new DOMException("no such codec here", "NotSupportedError"); };"""
REFUSES = """let appended = 0; const append = SourceBuffer.prototype.appendBuffer;
SourceBuffer.prototype.appendBuffer = function (data) {
  if (++appended > 2) throw new DOMException("the third is refused", "InvalidStateError");
  return append.call(this, data); };"""
SAFARI = """{
const log = window.managed = { early: 0, asked: 0, evicted: 0 };
// Wants data until 2 s lie ahead, and drops what was played a second ago.
window.ManagedMediaSource = class extends MediaSource {
  constructor() {
    super();
    this.streaming = false;
    this.addEventListener("sourceopen", () => this.want(true), { once: true });
    setInterval(() => {
      const buffer = this.sourceBuffers[0], video = document.querySelector("#player .mf-video");
      if (!buffer || this.readyState === "closed") return;
      const held = video.buffered, at = video.currentTime;
      let ahead = 0;
      for (let i = 0; i < held.length; i++)
        if (held.start(i) <= at && at < held.end(i)) ahead = held.end(i) - at;
      this.want(ahead < 2);
      if (buffer.updating || !held.length || held.start(0) > Math.max(0.1, video.currentTime - 1.2)) return;
      if (video.currentTime < 1.5) return;
      log.evicted += 1;
      buffer.remove(0, video.currentTime - 1);
    }, 50);
  }
  want(streaming) {
    if (streaming === this.streaming) return;
    this.streaming = streaming;
    log.asked += streaming;
    this.dispatchEvent(new Event(streaming ? "startstreaming" : "endstreaming"));
  }
  addSourceBuffer(type) {
    const buffer = super.addSourceBuffer(type), append = buffer.appendBuffer;
    buffer.appendBuffer = (data) => { log.early += !this.streaming; return append.call(buffer, data); };
    return buffer;
  }
};
}"""


@pytest.fixture(scope="module")
def address(random_generator) -> Iterator[str]:
    """A page whose films are noise, and quickly made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SessionManager, "measure_in_background", lambda _: None)
        with listening(build_app(random_generator, Limits()), "127.0.0.1") as address:
            yield address


@pytest.fixture
def visit(browser, address) -> Iterator:
    """Opens the page in a browser that is as a script makes it."""
    pages = []

    def opened(script: str = "", at: str = ""):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        pages.append(page)
        if script:
            page.add_init_script(script)
        page.goto(at or address)
        page.wait_for_selector("#talk-button")
        return page

    yield opened
    for page in pages:
        page.close()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (NO_SOURCE, "no MediaSource"),
        (NO_H264, "avc1"),
        (THROWS, "no such codec here"),
        (REFUSES, "the third is refused"),
    ],
)
def test_a_browser_that_cannot_play_the_stream_says_why_and_plays_the_film(
    visit, picture, script, reason
):
    page = visit(script)
    talk(page, picture, f"{TEXT} {TEXT} {TEXT}")  # the reason stands there while the film is made
    page.wait_for_selector(f"{WAITS} >> text={reason}", timeout=60_000)
    page.wait_for_selector("#clip video", timeout=60_000)
    wait(page, "s.time > 0.2 && s.error === null")
    assert page.is_hidden("#player .mf-wait")
    made = float(page.inner_text("#player .mf-status").split()[0])
    assert abs(page.evaluate(STATE)["duration"] - made) < 0.2, "the whole film"
    if script is not NO_SOURCE:
        return
    # Continue works here too: the film is then shown from its beginning.
    page.fill("#next-text textarea, #next-text input", "And more.")
    page.click("#continue-button")
    wait(page, f"s.duration > {made + 0.5} && s.time > 0.2")


def test_a_browser_that_cannot_play_films_at_all_says_so(visit, picture):
    page = visit(
        NO_SOURCE
        + "const real = URL.createObjectURL;"
        + "URL.createObjectURL = (b) => real.call(URL, new Blob(['no film'], { type: 'video/mp4' }));"
    )
    talk(page, picture, "Hello.")
    page.wait_for_selector(f"{WAITS} >> text=download it below", timeout=60_000)
    page.wait_for_selector("#clip a[download]")


def test_safari_is_given_data_when_it_wants_some_and_again_when_it_dropped_it(visit, picture):
    page = visit(SAFARI)
    talk(page, picture, TEXT + " " + TEXT)
    wait(page, "s.ended", 120)
    log = page.evaluate("() => window.managed")
    assert log["early"] == 0 and log["asked"] > 1 and log["evicted"] > 0, log
    after = page.evaluate(STATE)
    assert after["error"] is None and after["frames"] >= 25 * after["duration"] - 5
    # The beginning is not in the buffer any more.
    page.evaluate(
        "() => { const v = document.querySelector('#player .mf-video'); v.currentTime = 0.1; v.play(); }"
    )
    wait(page, "!s.ended && s.time > 0.8 && s.time < 3", 30)
    assert page.evaluate("() => window.managed.early") == 0


class Network:
    """A relay to the server that can hold everything back or break what is open."""

    def __init__(self, address: str) -> None:
        self.flows = threading.Event()
        self.flows.set()
        self._target = (urlsplit(address).hostname, urlsplit(address).port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._films: list[socket.socket] = []
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def break_films(self) -> int:
        """Break the connections on which films come; return how many there were."""
        films, self._films = self._films, []
        for film in films:
            with suppress(OSError):
                film.shutdown(socket.SHUT_RDWR)
        return len(films)

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if b"GET /gradio_api/film/" in data:
                    self._films.append(source)
                self.flows.wait()
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def network(address: str) -> Iterator[Network]:
    relay = Network(address)
    try:
        yield relay
    finally:
        relay.flows.set()
        relay.close()


def test_a_network_that_stalls_for_ten_seconds(visit, picture, address):
    with network(address) as relay:
        page = visit(at=relay.address)
        talk(page, picture, TEXT + " " + TEXT)
        wait(page, "s.time > 0.3")
        relay.flows.clear()
        page.wait_for_timeout(10_000)
        relay.flows.set()
        wait(page, "s.ended", 120)
        after = page.evaluate(STATE)
        assert after["error"] is None and after["ranges"] == 1 and after["duration"] > 5
        page.wait_for_selector("#clip video", timeout=60_000)


def test_a_connection_that_breaks_is_made_again(visit, picture, address):
    with network(address) as relay:
        page = visit(at=relay.address)
        talk(page, picture, TEXT + " " + TEXT)
        wait(page, "s.time > 0.3")
        assert relay.break_films() == 1
        wait(page, "s.ended", 120)
        after = page.evaluate(STATE)
        page.wait_for_selector("#clip video", timeout=60_000)
        made = float(page.inner_text("#player .mf-status").split()[0])
        assert after["error"] is None and after["ranges"] == 1
        assert abs(after["duration"] - made) < 0.2, "nothing is lost and nothing comes twice"


def test_a_tab_that_sleeps_wakes_up_with_the_whole_film(visit, picture):
    page = visit()
    talk(page, picture, TEXT)
    wait(page, "s.time > 0.3")
    session = page.context.new_cdp_session(page)
    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    threading.Event().wait(8)
    session.send("Page.setWebLifecycleState", {"state": "active"})
    page.evaluate("() => document.querySelector('#player .mf-video').play()")
    wait(page, "s.ended", 120)
    after = page.evaluate(STATE)
    page.wait_for_selector("#clip video", timeout=60_000)
    made = float(page.inner_text("#player .mf-status").split()[0])
    assert after["error"] is None and abs(after["duration"] - made) < 0.2


# How far the pictures shown are from the sound heard: the clock of the element is that of its sound.
TOGETHER = """() => { const v = document.querySelector('#player .mf-video'); window.apart = [];
  const look = (_, shown) => { if (!v.paused) window.apart.push(v.currentTime - shown.mediaTime);
    v.requestVideoFrameCallback(look); }; v.requestVideoFrameCallback(look); }"""


def test_sound_and_picture_stay_together_on_a_busy_machine(visit, picture):
    """The model takes one core; two threads of the page itself take what is left."""
    page = visit()
    page.evaluate(
        """() => { const work = new Blob(['for (;;) {}']); window.busy = [1, 2].map(
        () => new Worker(URL.createObjectURL(work))); }"""
    )
    page.evaluate(TOGETHER)
    talk(page, picture, TEXT + " " + TEXT)
    wait(page, "s.ended", 240)
    page.evaluate("() => window.busy.forEach((worker) => worker.terminate())")
    apart = sorted(page.evaluate("() => window.apart"))
    assert len(apart) > 25
    # A picture is shown for 40 ms; a few come late when nothing is left for the page.
    assert abs(apart[len(apart) // 2]) < 0.1 and apart[len(apart) * 9 // 10] < 0.25, apart[-10:]


STALLS = """() => { const video = document.querySelector('.mf-video'); window.stalled = 0; let since = null;
  video.addEventListener('waiting', () => { since ??= performance.now(); });
  video.addEventListener('playing', () => {
    if (since) window.stalled += performance.now() - since;
    since = null; }); }"""
"""How long a film that plays waits for more of it, in milliseconds."""


@pytest.mark.slow
def test_a_film_lasts_as_long_as_its_sound_and_beeps_stay_in_place(visit, picture, tmp_path):
    page = visit()
    times = np.arange(SECONDS * 16_000) / 16_000
    beeps = np.where(times % 1 < 0.04, 0.8 * np.sin(2 * np.pi * 1000 * times), 0)
    with wave.open(str(tmp_path / "beeps.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16_000)
        file.writeframes((beeps * 32_000).astype("<i2").tobytes())
    page.click("text=Your own sound")
    page.set_input_files("#sound input[type=file]", str(tmp_path / "beeps.wav"))
    page.wait_for_selector(f"text=About {SECONDS}")
    talk(page, picture, "")
    # A slow machine waits until all can be played in one go.
    wait(page, "s.time > 0.5", 400)
    page.evaluate(STALLS)
    began, start = time.monotonic(), state(page)["time"]
    wait(page, "s.ended", 600)
    after, stalled = state(page), page.evaluate("window.stalled") / 1000
    # A machine that others slow down in the middle of it may hold the film up.
    assert time.monotonic() - began - stalled == pytest.approx(after["duration"] - start, abs=1)
    assert after["duration"] == pytest.approx(SECONDS, abs=0.1)
    with av.open(download(page, tmp_path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert frames == SECONDS * FPS
    heard = read_audio(tmp_path / "clip.mp4")
    loud = np.flatnonzero(np.abs(heard) > 0.3) / SAMPLE_RATE
    onsets = loud[np.insert(np.diff(loud) > 0.5, 0, True)]
    assert len(onsets) == SECONDS
    assert np.abs(onsets - np.arange(SECONDS)).max() < 1 / FPS
