"""Two replicas behind nginx, as a host runs them: visitors stay with theirs, and hear when it is lost."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from serving import wait_for

from mutual_forcing.checkpoint import save_checkpoint

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
FILM = """() => { const v = document.querySelector('#player .mf-video'); return { time: v.currentTime,
  ended: v.ended, error: v.error && v.error.message, ranges: v.buffered.length,
  buffered: v.buffered.length ? v.buffered.end(v.buffered.length - 1) : 0 }; }"""
LIVE = "document.querySelector('#live-player video')"
LOST = ".mf-lost"
LONG = "This sentence is long enough to be lost in the middle, because it goes on and on. " * 8


@dataclass
class Host:
    """`mutual-forcing replicas 2`, as it runs."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def pids(self) -> list[int]:
        """Of the replicas that it started first."""
        return [int(pid) for pid in re.findall(r"process (\d+)", self.log.read_text())]

    def addresses(self) -> list[str]:
        return re.findall(r"replica \d: (\S+),", self.log.read_text())


@pytest.fixture(scope="module")
def host(random_generator, tmp_path_factory) -> Iterator[Host]:
    if NGINX is None:
        pytest.skip("no nginx here: apt install nginx")
    folder = tmp_path_factory.mktemp("replicas")
    save_checkpoint(random_generator.system, folder / "checkpoint", {})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mutual_forcing.cli", "replicas", "2", "--port", str(port)]
    with (folder / "log.txt").open("wb") as out:
        process = subprocess.Popen(
            [*command, "--checkpoint", str(folder / "checkpoint"), "--device", "cpu"],
            cwd=ROOT, stdout=out, stderr=out, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    host = Host(f"http://127.0.0.1:{port}/", process, folder / "log.txt")
    try:
        wait_for(f"{host.address}gradio_api/health", process, host.log.read_text)
        yield host
        process.terminate()
        assert process.wait(60) == 0, "Ctrl-C and SIGTERM end nginx and all replicas"
        with pytest.raises(httpx.ConnectError):
            httpx.get(host.address)
    finally:
        process.terminate()
        process.wait(60)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def visit(browser, host: Host, picture: Path):
    """A visitor with cookies of their own, who has chosen a picture."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(host.address)
    page.wait_for_selector("#talk-button")
    choose(page, picture)
    return page


def choose(page, picture: Path) -> None:
    page.set_input_files("#character input[type=file]", str(picture))
    page.wait_for_selector("#player .mf-poster:not([hidden])")


def replica_of(page) -> str:
    """What the page was shown by, and what answers it now."""
    shown = page.evaluate("String(window.gradio_config.app_id)")
    asked = (
        "fetch('/gradio_api/health').then((r) => r.json()).then((h) => String(Number(h.replica)))"
    )
    return shown if shown == page.evaluate(asked) else "another"


def talk(page, text: str) -> None:
    page.fill("#text textarea", text)
    page.click("#talk-button")


def wait_for_film(page, condition: str) -> dict:
    page.wait_for_function(
        f"() => {{ const s = ({FILM})(); return {condition}; }}", timeout=120_000
    )
    return page.evaluate(FILM)


def test_visitors_stay_with_their_replica_and_hear_when_it_is_lost(browser, host, picture) -> None:
    pages = [visit(browser, host, picture) for _ in range(4)]
    served = [replica_of(page) for page in pages]
    assert len(set(served)) == 2 and "another" not in served, served
    cookies = pages[0].context.cookies()
    assert [c.get("name") for c in cookies if c.get("httpOnly")] == ["mf_replica"]

    # Talk and Continue of one visitor, Live of another of the other replica.
    first, other = pages[0], pages[next(i for i, name in enumerate(served) if name != served[0])]
    talk(first, "Hello.")
    whole = wait_for_film(first, "s.ended")
    first.fill("#next-text textarea", "And more.")
    first.click("#continue-button")
    longer = wait_for_film(first, f"s.ended && s.buffered > {whole['buffered'] + 0.5}")
    assert longer["error"] is None and longer["ranges"] == 1
    other.get_by_role("tab", name="Live").click()
    other.wait_for_selector("#live-start")
    other.set_input_files("#live-character input[type=file]", str(picture))
    other.wait_for_selector("#live-character img")
    other.fill("#live-text textarea", "Hello, my friend.")
    other.click("#live-start")
    other.wait_for_function(f"() => {LIVE}.currentTime > 0.3", timeout=120_000)
    other.fill("#live-more textarea", "Do you remember the yellow house?")
    other.keyboard.press("Enter")
    words = (
        "[...document.querySelectorAll('#live-timeline .mf-words span')].map((w) => w.innerText)"
    )
    other.wait_for_function(f"() => {words}.includes('yellow')", timeout=60_000)

    # The first visitor's replica is killed in the middle of a film.
    talk(first, LONG)
    # The film before has ended, and is there until this one begins.
    wait_for_film(first, "!s.ended && s.time > 0.3 && s.time < 30")
    place = host.addresses().index(_address_of(host, served[0]))
    _kill(host.pids()[place])
    first.wait_for_selector(LOST, timeout=30_000)
    assert "has stopped" in first.inner_text(LOST) and first.locator(LOST).count() == 1
    left = wait_for_film(first, "s.buffered > 0.3")
    assert left["error"] is None, "what had come can still be watched"
    first.wait_for_timeout(3000)
    assert first.evaluate(FILM)["buffered"] >= left["buffered"], "and the page is not loaded anew"
    assert not first.locator(".toast-body.error").count(), "one sentence, not two"

    # Whoever is with the other replica does not notice; the first visitor is served by it from now on.
    end = other.evaluate(f"{LIVE}.buffered.end(0)")
    other.wait_for_function(f"() => {LIVE}.buffered.end(0) > {end}", timeout=60_000)
    assert not other.locator(LOST).count()
    first.click(f"{LOST} button")
    first.wait_for_selector("#talk-button")
    assert replica_of(first) == replica_of(other) == served[pages.index(other)]
    choose(first, picture)
    talk(first, "Hello.")
    assert wait_for_film(first, "s.ended")["error"] is None

    # The lost one is started again, and takes nobody away from the other.
    assert "Replica" in host.log.read_text() and "started again" in host.log.read_text()
    wait_for(
        f"http://{host.addresses()[place]}/gradio_api/health", host.process, host.log.read_text
    )
    assert replica_of(first) == replica_of(other)
    for page in pages:
        page.context.close()


def _address_of(host: Host, replica: str) -> str:
    """Which replica has this name, as browsers round it."""
    for address in host.addresses():
        told = httpx.get(f"http://{address}/gradio_api/health").json()["replica"]
        if float(told) == float(replica):
            return address
    raise AssertionError(replica)
