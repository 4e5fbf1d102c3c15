"""Many visitors at once: every one gets his own film, the queue is bounded, memory does not grow.

MF_LOAD_RUNS sets the number of films for the memory test (more than 10; default 60).
"""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

import app
from mutual_forcing import AVChunk, StreamingGenerator
from mutual_forcing.demo.inputs import DRIVES
from mutual_forcing.demo.limits import Limits

pytestmark = pytest.mark.slow
QUEUE = 20
EARLY, RUNS = 10, int(os.environ.get("MF_LOAD_RUNS", "60"))
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip
# Mean red of the picture that the player shows, 0..255.
SHOWN = """() => { const pen = document.createElement('canvas').getContext('2d');
  pen.canvas.width = pen.canvas.height = 16;
  pen.drawImage(document.querySelector('#player .mf-video'), 0, 0, 16, 16);
  const data = pen.getImageData(0, 0, 16, 16).data; let sum = 0;
  for (let i = 0; i < data.length; i += 4) sum += data[i]; return 4 * sum / data.length; }"""


class Painter(StreamingGenerator):
    """The real generator, whose pictures it then paints in the brightness that the seed names."""

    def stream(self, request=None, state=None) -> Iterator[AVChunk]:
        for chunk in super().stream(request, state):
            asked = state.request if state else request
            chunk.frames[:] = _level(asked.seed)
            yield chunk


def _level(seed: int) -> int:
    return 30 + 8 * seed


@pytest.fixture(scope="module")
def generator(random_generator: StreamingGenerator) -> Painter:
    return Painter(random_generator.system, random_generator.device)


@pytest.fixture(scope="module")
def address(generator):
    # All clients are one visitor here: only the queue itself may refuse them.
    limits = Limits(queue=QUEUE, waiting=2 * QUEUE)
    with app.serving(generator, host="127.0.0.1", limits=limits) as address:
        yield address


@pytest.fixture(scope="module")
def face(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "face.png"
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(path)
    return path


def submit(client: Client, face: Path, seed: int):
    return client.submit(
        picture=handle_file(str(face)), text=f"Number {seed}.", sound=None, sound_use=DRIVES,
        emotion="happy", motion="calm", steps=1, seed=seed, guidance=0, seconds=1.28, window=0,
        api_name="/generate",
    )  # fmt: skip


def check_film(result, seed: int) -> None:
    with av.open(result["video"] if isinstance(result, dict) else result) as film:
        settings = json.loads(film.metadata["comment"])
        frames = [frame.to_ndarray(format="rgb24").mean() for frame in film.decode(video=0)]
    assert settings["seed"] == seed and settings["text"] == f"Number {seed}."
    assert len(frames) == 32
    assert np.ptp(frames) < 3, "one visitor's pictures only"
    assert abs(np.mean(frames) - _level(seed)) < 3.5, "half way to the next visitor's would be 4"


def test_four_at_once_get_their_own_films(address, face):
    clients = [Client(address, verbose=False) for _ in range(4)]
    jobs = [submit(client, face, seed) for seed, client in enumerate(clients, start=1)]
    for seed, job in enumerate(jobs, start=1):
        check_film(job.result(timeout=300), seed)


def test_the_queue_is_bounded_and_everyone_in_it_is_served(address, face):
    with ThreadPoolExecutor(8) as pool:
        clients = list(pool.map(lambda _: Client(address, verbose=False), range(QUEUE + 6)))
    jobs = [submit(client, face, seed) for seed, client in enumerate(clients, start=1)]
    served, refused = 0, 0
    for seed, job in enumerate(jobs, start=1):
        error = job.exception(timeout=600)
        if error is None:
            check_film(job.result(), seed)
            served += 1
        else:
            assert "Queue is full" in str(error), error
            refused += 1
    assert served >= QUEUE and served + refused == len(jobs)
    assert refused >= 1, "more than the queue holds were asked for at once"


def test_four_browsers_at_once_watch_and_keep_their_own_films(address, face, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("no chromium here: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        start = playwright.chromium.launch
        browsers = [start(executable_path=chromium, args=FLAGS) for _ in range(4)]
        pages = [browser.new_page() for browser in browsers]
        for seed, page in enumerate(pages, start=1):
            page.goto(f"{address}?text=Number+{seed}.&steps=1&seed={seed}&seconds=1.28")
            page.wait_for_function(
                f"() => document.querySelector('#text textarea')?.value === 'Number {seed}.'"
            )
            page.set_input_files("#character input[type=file]", str(face))
            page.wait_for_selector("#player .mf-poster:not([hidden])")
        for page in pages:
            page.click("#talk-button")
        for seed, page in enumerate(pages, start=1):
            page.wait_for_selector("#clip video", timeout=300_000)
            page.wait_for_function(
                "() => document.querySelector('#player .mf-video').ended", timeout=60_000
            )
            assert abs(page.evaluate(SHOWN) - _level(seed)) < 4, "the stream was this visitor's"
            with page.expect_download() as caught:
                page.click("#clip a[download]")
            film = tmp_path / f"{seed}.mp4"
            caught.value.save_as(film)
            check_film(str(film), seed)
        for browser in browsers:
            browser.close()


def test_memory_of_the_served_page_after_many_films(address, face):
    """Streams, saved films and what Gradio keeps of each request."""
    client = Client(address, verbose=False)
    check_memory(lambda number: check_film(submit(client, face, 1).result(timeout=300), 1))


def check_memory(make: Callable[[int], None]) -> None:
    """Call `make` RUNS times: after the last it takes at most 5 % more memory than after ten."""
    sizes = {}
    for number in range(1, RUNS + 1):
        make(number)
        if number in (EARLY, RUNS):
            gc.collect()
            sizes[number] = _resident_bytes()
    early, late = sizes[EARLY], sizes[RUNS]
    assert late < 1.05 * early, f"{early / 2**20:.0f} MB became {late / 2**20:.0f} MB"


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
