"""What a host relies on: limits, the password, failures in the middle of a film, a tidy end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from serving import wait_for

import app
from mutual_forcing import AVChunk, GenerationRequest, StreamingGenerator
from mutual_forcing.checkpoint import save_checkpoint
from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.demo import model
from mutual_forcing.demo.inputs import DRIVES
from mutual_forcing.demo.latency import LatencyModel
from mutual_forcing.demo.limits import Limits
from mutual_forcing.demo.model import ClosedError
from mutual_forcing.demo.progress import failure
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.demo.video_store import ROUTE

ROOT = Path(__file__).parents[1]
PICTURE = np.full((64, 48, 3), 128, np.uint8)
FAILS = 666
"""The seed at which a Failing generator fails."""


class FailsForOneSeed(StreamingGenerator):
    """A generator that really runs out of memory at its third chunk, for one seed."""

    def stream(self, request=None, state=None) -> Iterator[AVChunk]:
        for chunk in super().stream(request, state):
            if chunk.index == 2 and state and state.request.seed == FAILS:
                np.empty(2**62, np.uint8)
            yield chunk


@pytest.fixture(scope="module")
def generator(random_generator: StreamingGenerator) -> FailsForOneSeed:
    return FailsForOneSeed(random_generator.system, random_generator.device)


@pytest.fixture(scope="module")
def address(generator):
    limits = Limits(seconds=10, text=80, upload_mb=1, queue=3, user="me", password="secret")
    with app.serving(generator, host="127.0.0.1", limits=limits) as address:
        yield address


@pytest.fixture(scope="module")
def client(address, tmp_path_factory) -> Client:
    downloads = tmp_path_factory.mktemp("downloads")
    return Client(address, auth=("me", "secret"), verbose=False, download_files=downloads)


@pytest.fixture(scope="module")
def face(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "face.png"
    Image.fromarray(PICTURE).save(path)
    return path


def generate(client: Client, face: Path, **changes) -> Path:
    values = {
        "picture": handle_file(str(face)), "text": "Hello.", "sound": None, "sound_use": DRIVES,
        "emotion": "happy", "motion": "calm", "steps": 1, "seed": 0, "guidance": 0, "seconds": 0,
        "window": 0,
    }  # fmt: skip
    result = client.predict(**{**values, **changes}, api_name="/generate")
    return Path(result["video"] if isinstance(result, dict) else result)


def test_limits_are_read_from_the_environment():
    assert Limits.from_environment({}) == Limits()
    limits = Limits.from_environment(
        {"MF_MAX_SECONDS": "30", "MF_MAX_QUEUE": "5", "MF_USER": "me", "MF_PASSWORD": "x"}
    )
    assert Limits.from_environment({"MF_MAX_WAITING": "2"}).waiting == 2
    assert Limits.from_environment({"MF_MAX_MINUTES": "2.5"}).minutes == 2.5
    assert (limits.seconds, limits.queue, limits.auth) == (30, 5, ("me", "x"))
    assert "'x'" not in repr(limits), "the password is not shown in logs"
    assert Limits.from_environment({"MF_USER": "me"}).auth is None
    for value in ("0", "601", "ten", "nan", "-1", "inf"):
        with pytest.raises(ValueError, match="MF_MAX_SECONDS must be a number from 1 to 600"):
            Limits.from_environment({"MF_MAX_SECONDS": value})


def test_a_wrong_limit_ends_the_program_with_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("MF_MAX_QUEUE", "lots")
    assert app.main([]) == 1
    assert capsys.readouterr().err.startswith("app.py: MF_MAX_QUEUE must be a number")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "word " * 20}, "longer than 80 characters"),
        ({"seconds": 12}, "longer than 10 seconds"),
        (
            {"text": "9999999 8888888 7777777 6666666 5555555 4444444 3333333 2222222"},
            "longer than 10 seconds",
        ),
    ],
)
def test_the_hosts_limits_hold(client, face, changes, message):
    with pytest.raises(AppError, match=message):
        generate(client, face, **changes)


def test_nothing_is_served_without_the_password(address):
    with httpx.Client(base_url=address, timeout=30) as web:
        assert web.get(ROUTE + "guess").status_code == 401
        assert web.get("/config").status_code == 401
        assert web.post("/gradio_api/call/generate", json={"data": []}).status_code == 401
        upload = {"files": ("a.png", b"x")}
        assert web.post("/gradio_api/upload", files=upload).status_code == 401
        assert web.post("/login", data={"username": "me", "password": "guess"}).status_code == 400
        assert web.post("/login", data={"username": "me", "password": "secret"}).is_success
        assert web.get(ROUTE + "guess").status_code == 404
        assert web.get("/config").status_code == 200
        big = {"files": ("big.png", bytes(2**20 + 1))}
        assert web.post("/gradio_api/upload", files=big).status_code == 413


def test_what_was_made_before_a_failure_is_returned_and_says_so(client, face):
    path = generate(client, face, seed=FAILS, seconds=5)
    with av.open(str(path)) as film:
        settings = json.loads(film.metadata["comment"])
        frames = sum(1 for _ in film.decode(video=0))
    assert settings["ended_early"] == "The machine ran out of memory."
    assert frames == 2 * round(25 * CHUNK_SECONDS)
    assert "ended_early" not in _settings(generate(client, face, seed=1, seconds=1))


def _settings(path: Path) -> dict:
    with av.open(str(path)) as film:
        return json.loads(film.metadata["comment"])


@pytest.mark.slow
def test_a_refused_request_leaves_the_last_talk_alone(generator):
    sessions = SessionManager(generator, Limits(seconds=5))
    list(sessions.begin("visitor", GenerationRequest(PICTURE, "Hello.", steps=1, seconds=1.28)))
    session = sessions.session_of("visitor")
    with pytest.raises(ValueError, match="longer than 5 seconds"):
        list(sessions.begin("visitor", GenerationRequest(PICTURE, "Hello.", steps=1, seconds=9)))
    with pytest.raises(ValueError, match="longer than 5 seconds"):
        list(sessions.proceed("visitor", "One two three four five six seven eight nine ten. " * 5))
    assert sessions.session_of("visitor") is session and session.state.total == 2
    assert session.said == ["Hello."]
    list(sessions.proceed("visitor", "More."))
    assert session.said == ["Hello.", "More."]


@pytest.mark.slow
def test_clips_are_removed(generator):
    sessions = SessionManager(generator)
    paths = []
    for number in range(18):
        request = GenerationRequest(PICTURE, "Hello.", steps=1, seconds=0.64)
        list(sessions.begin(f"api-{number}", request))
        paths.append(sessions.save(sessions.session_of(f"api-{number}")))
        sessions.release(f"api-{number}")
        assert sessions.session_of(f"api-{number}") is None
    assert [path.exists() for path in paths] == [False] * 2 + [True] * 16
    list(sessions.begin("visitor", request))
    path = sessions.save(sessions.session_of("visitor"))
    sessions.forget("visitor")
    assert not path.exists()
    sessions.close()
    assert not paths[-1].parent.exists()


@pytest.mark.slow
def test_work_is_bounded_and_what_was_made_is_kept(generator):
    sessions = SessionManager(generator, Limits(minutes=1e-6))
    request = GenerationRequest(PICTURE, "Hello.", steps=1, seconds=6.4)
    last = list(sessions.begin("visitor", request))[-1]
    assert last.done and CHUNK_SECONDS <= last.made <= 5 * CHUNK_SECONDS
    assert "minutes of work for one request" in last.status
    session = sessions.session_of("visitor")
    assert "minutes of work" in _settings(sessions.save(session))["ended_early"]
    sessions.limits = Limits()
    again = list(sessions.proceed("visitor", ""))[-1]
    assert again.made == pytest.approx(6.4) and "ended_early" not in _settings(
        sessions.save(session)
    )
    sessions.close()


def test_what_would_take_too_long_is_refused_before_it_starts(generator):
    sessions = SessionManager(generator, Limits(minutes=2))
    sessions.latency = LatencyModel(base=1.0, few_step=1.0, guided_step=2.0, overhead=0.0)
    request = GenerationRequest(PICTURE, "Hello.", steps=1, seconds=64)
    for refused in (lambda: sessions.plan(request), lambda: list(sessions.begin("x", request))):
        with pytest.raises(ValueError, match=r"^This would take about 3 minutes here.*2: choose"):
            refused()
    assert sessions.plan(GenerationRequest(PICTURE, "Hello.", steps=1, seconds=6.4)).chunks == 10


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_a_lack_of_memory_is_called_by_its_name(error):
    assert failure(error) == "The machine ran out of memory."
    assert failure(KeyError("secret/path")) == "The generation failed (KeyError)."


def test_closing_does_not_wait_for_ever_for_a_chunk(generator, monkeypatch):
    monkeypatch.setattr(model, "_CLOSE_TIMEOUT", 0.05)
    sessions = SessionManager(generator)
    folder = sessions._sessions.new_clip("talk").parent
    with sessions.model.place():
        sessions.close()
    assert not folder.exists()
    with pytest.raises(ClosedError), sessions.model.place():
        pass


def test_closing_ends_who_measures_and_who_streams(generator):
    sessions = SessionManager(generator)
    sessions.measure_in_background()
    stream = sessions.begin("visitor", GenerationRequest(PICTURE, "Hello.", steps=1, seconds=60))
    next(stream), next(stream)  # nobody reads on: the producer waits for room
    session = sessions.session_of("visitor")
    sessions.close()
    assert not sessions._measuring.is_alive() and not sessions._sessions.items()
    with pytest.raises(ClosedError), sessions.model.place():
        pass
    assert sum(1 for _ in stream) < 10, "what was waiting, and the end"
    assert session.state.index < session.state.total
    sessions.close()  # a second time does no harm


@pytest.mark.slow
def test_a_program_that_ends_while_it_measures_ends_quietly():
    """A thread inside torch would abort: "terminate called without an active exception"."""
    code = (
        "import time; from mutual_forcing import StreamingGenerator;"
        "from mutual_forcing.demo.sessions import SessionManager;"
        "SessionManager(StreamingGenerator.random('tiny')).measure_in_background(); time.sleep(0.5)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "terminate" not in done.stderr, done.stderr


@pytest.mark.slow
def test_a_host_ends_the_program_tidily(generator, tmp_path):
    save_checkpoint(generator.system, tmp_path / "checkpoint", {})
    (tmp_path / "temporary").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "--checkpoint", str(tmp_path / "checkpoint")]
    process = subprocess.Popen(
        [*command, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)], cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/", process, lambda: process.communicate()[0])
        assert list((tmp_path / "temporary").glob("mutual-forcing-*"))
        process.terminate()
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert "terminate called" not in output
    assert not list((tmp_path / "temporary").glob("mutual-forcing-*"))
