"""Four browsers, twenty in the queue and five attackers for a while: nobody's stream breaks, memory stays.

By hand: `MF_LOAD_MINUTES=20 python -m pytest tests/load/test_endurance.py -s`; not at all without. The
page is a process of its own, so that its memory is measured alone.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from hostile import cases, giant_tile, large_png
from serving import wait_for

from mutual_forcing.demo.inputs import DRIVES

MINUTES = float(os.environ.get("MF_LOAD_MINUTES", "0"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(not MINUTES, reason="by hand: set MF_LOAD_MINUTES"),
]
ROOT = Path(__file__).resolve().parents[2]
FACE = ROOT / "examples" / "characters" / "01-blond-bob.png"
BROWSERS, QUEUED, ATTACKERS = 4, 20, 5
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip
STREAM = """() => { const v = document.querySelector('#player .mf-video');
  return { source: v.currentSrc, error: v.error && v.error.message, ended: v.ended, time: v.currentTime,
    ranges: v.buffered.length, clip: !!document.querySelector('#clip video'),
    told: document.querySelector('#player .mf-status').innerText }; }"""


class Load:
    """What all who take part share: the address, the end, and what happened."""

    def __init__(self, address: str) -> None:
        self.address, self.seen = address, Counter()
        self.problems: list[str] = []
        self.end = time.monotonic() + 60 * MINUTES
        self._lock = threading.Lock()

    @property
    def over(self) -> bool:
        return time.monotonic() > self.end

    def count(self, what: str) -> None:
        with self._lock:
            self.seen[what] += 1

    def web(self) -> httpx.Client:
        # Each is another visitor, as behind a proxy.
        visitor = f"8.8.{random.randrange(256)}.{random.randrange(256)}"
        headers = {"X-Forwarded-For": visitor}
        return httpx.Client(base_url=f"{self.address}gradio_api", timeout=600, headers=headers)


def upload(web: httpx.Client, data: bytes, name: str) -> dict:
    answer = web.post("/upload", files={"files": (name, data)})
    return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}


def ask(web: httpx.Client, picture: object, text: str = "Hello.") -> str:
    """Ask for a short film; return the event that answers, "refused" where the queue is full."""
    look = [256, "face", 1]
    data = [picture, text, None, DRIVES, "happy", "calm", 1, 0, 0, 0.64, 0, *look]
    answer = web.post("/call/generate", json={"data": data})
    if answer.status_code == 503:
        return "refused"
    event = answer.raise_for_status().json()["event_id"]
    with web.stream("GET", f"/call/generate/{event}") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: ") and line[7:] in ("complete", "error"):
                return line[7:]
    return "broken off"


def waits(load: Load) -> None:
    """A visitor of the API who asks again and again, and must be served or told that the queue is full."""
    try:
        with load.web() as web:
            picture = upload(web, FACE.read_bytes(), "face.png")
            while not load.over:
                answer = ask(web, picture)
                load.count(f"queued: {answer}")
                if answer not in ("complete", "refused"):
                    load.problems.append(f"queued: {answer}")
                time.sleep(1 if answer == "refused" else 0)
    except Exception as error:  # A thread's own would be lost.
        load.problems.append(f"queued: {error!r}")


def attacks(load: Load, number: int) -> None:
    """Hostile files, wrong values, endless bodies, and requests whose answers nobody hears."""
    chance = random.Random(number)
    hostile = [case for case in cases(number) if case.kind in ("picture", "sound")]
    bombs = [giant_tile(), large_png(6000)]
    while not load.over:
        try:
            with load.web() as web:
                kind = chance.randrange(5)
                if kind == 0:
                    ask(web, upload(web, chance.choice(hostile).value.data, "face.png"))
                elif kind == 1:
                    ask(web, upload(web, chance.choice(bombs), "face.png"))
                elif kind == 2:
                    web.post("/run/predict", content=b"[" * 100_000)
                    web.post("/queue/join", content=bytes(3 * 2**20))
                elif kind == 3:
                    body = {"data": [chance.choice([None, 7, "x" * 5000, {}]) for _ in range(14)]}
                    web.post("/call/generate", json=body)
                else:
                    picture = upload(web, FACE.read_bytes(), "face.png")
                    data = [picture, "Long. " * 300, None, DRIVES, "sad", "calm", 50, 0, 0, 0, 0]
                    event = web.post("/call/generate", json={"data": data}).json()["event_id"]
                    with web.stream("GET", f"/call/generate/{event}"):
                        pass
            load.count(f"attack {kind}")
        except (httpx.HTTPError, KeyError, ValueError):
            load.count("attack refused")


def watches(load: Load, picture: Path) -> None:
    """Four browsers that take turns with the model, each film to its end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        start = playwright.chromium.launch
        browsers = [
            start(executable_path=shutil.which("chromium"), args=FLAGS) for _ in range(BROWSERS)
        ]
        pages = [
            browser.new_page(extra_http_headers={"X-Forwarded-For": f"1.1.1.{n}"})
            for n, browser in enumerate(browsers, start=1)
        ]
        for page in pages:
            page.set_default_timeout(300_000)
            page.goto(f"{load.address}?text=Good+evening,+everyone.&steps=1")
            page.wait_for_selector("#talk-button")
            page.set_input_files("#character input[type=file]", str(picture))
            page.wait_for_selector("#player .mf-poster:not([hidden])")
        while not load.over:
            # The film before is still there, at its end, until the next one begins.
            before = [page.evaluate(STREAM)["source"] for page in pages]
            for page in pages:
                page.click("#talk-button")
            for page, source in zip(pages, before, strict=True):
                done = f"(before) => {{ const s = ({STREAM})(); return s.ended && s.source !== before; }}"
                page.wait_for_function(done, arg=source, timeout=600_000)
                after = page.evaluate(STREAM)
                load.count("watched")
                if after["error"] or after["ranges"] != 1 or after["time"] < 1:
                    load.problems.append(f"watched: {after}")
        for browser in browsers:
            browser.close()


def resident(process: int) -> int:
    """Bytes of a process and of its children, the cage."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    own = int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return own + sum(resident(int(child)) for child in children)


def test_nobodys_stream_breaks_and_memory_stays(tmp_path, random_generator):
    pytest.importorskip("playwright.sync_api")
    if not shutil.which("chromium"):
        pytest.skip("no chromium here: apt install chromium")
    from mutual_forcing.checkpoint import save_checkpoint

    save_checkpoint(random_generator.system, tmp_path / "checkpoint", {})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "--checkpoint", str(tmp_path / "checkpoint")]
    output = (tmp_path / "log.txt").open("w+")
    process = subprocess.Popen(
        [*command, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)], cwd=ROOT,
        stdout=output, stderr=output, env={**os.environ, "MF_MAX_QUEUE": "40"},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_for(url, process, (tmp_path / "log.txt").read_text)
        load, sizes = Load(url), []
        roles = [(waits, (load,))] * QUEUED + [(attacks, (load, n)) for n in range(ATTACKERS)]
        threads = [threading.Thread(target=role, args=given, daemon=True) for role, given in roles]
        threads.append(
            threading.Thread(target=_measure, args=(load, process.pid, sizes), daemon=True)
        )
        for thread in threads:
            thread.start()
        watches(load, FACE)
        for thread in threads:
            thread.join(600)
        report = {name: load.seen[name] for name in sorted(load.seen)}
        megabytes = [round(size / 2**20) for size in sizes]
        sys.stdout.write(f"{json.dumps(report)}\nmegabytes: {megabytes}\n")
        assert process.poll() is None, "the page ended"
        assert not load.problems, load.problems[:10]
        assert load.seen["watched"] >= BROWSERS and load.seen["queued: complete"]
        # What is loaded at first use counts as the beginning; in short runs there is little else.
        third = len(sizes) // 3
        early, late = max(sizes[: third + 1]), sizes[-1]
        assert late < 1.05 * early + (0 if MINUTES >= 20 else 50 * 2**20), megabytes
    finally:
        process.terminate()
        process.wait(60)
        output.close()


def _measure(load: Load, process: int, sizes: list[int]) -> None:
    while not load.over:
        sizes.append(resident(process))
        time.sleep(max(1.0, MINUTES))
    sizes.append(resident(process))
