"""A served page with the embedded checkpoint, and a headless Chromium to visit it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import portraits
import pytest
from serving import wait_for

ROOT = Path(__file__).resolve().parents[2]
APP = pytest.StashKey[subprocess.Popen[bytes]]()
"""The page that is served."""
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> str:
    """The embedded checkpoint; random weights while a checkout has none."""
    from mutual_forcing import StreamingGenerator
    from mutual_forcing.checkpoint import PRETRAINED, save_checkpoint

    if (PRETRAINED / "tiny" / "config.json").is_file():
        return "tiny"
    folder = tmp_path_factory.mktemp("random-tiny")
    save_checkpoint(StreamingGenerator.random("tiny").system, folder, {})
    return str(folder)


@pytest.fixture(scope="session")
def address(checkpoint, tmp_path_factory, pytestconfig):
    """The address of `python app.py`, running as a user would start it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("app") / "log.txt"
    command = [sys.executable, "app.py", "--checkpoint", checkpoint, "--host", "127.0.0.1"]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port)], cwd=ROOT, stdout=out, stderr=out, env=dict(os.environ)
        )
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_for(url, process, log.read_text)
        pytestconfig.stash[APP] = process
        yield url
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def pytest_runtest_teardown(item, nextitem):
    """The page ends with the tests of this folder: all others would run beside it."""
    process = item.config.stash.get(APP, None)
    if process and nextitem and Path(__file__).parent not in nextitem.path.parents:
        _end(process)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("no chromium here: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    page.wait_for_selector("#talk-button")
    yield page
    page.close()


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    """A face in a portrait picture that is larger than it."""
    path = tmp_path_factory.mktemp("picture") / "face.png"
    portraits.save(portraits.portrait(), path)
    return path
