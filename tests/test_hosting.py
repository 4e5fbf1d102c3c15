"""What a host relies on: limits, the password, and failures in the middle of a film."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import av
import gradio as gr
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from demo.films import ROUTE
from demo.inputs import DRIVES
from demo.limits import Limits
from demo.studio import Studio
from mutual_forcing import AVChunk, GenerationRequest, StreamingGenerator
from mutual_forcing.chunks import CHUNK_SECONDS

PICTURE = np.full((64, 48, 3), 128, np.uint8)
FAILS = 666
"""The seed at which a Failing generator fails."""


class Failing(StreamingGenerator):
    """A generator that really runs out of memory at its third chunk, for one seed."""

    def stream(self, request=None, state=None) -> Iterator[AVChunk]:
        for chunk in super().stream(request, state):
            if chunk.index == 2 and state and state.request.seed == FAILS:
                np.empty(2**62, np.uint8)
            yield chunk


@pytest.fixture(scope="module")
def generator() -> Failing:
    other = StreamingGenerator.random("tiny")
    return Failing(other.system, other.device)


@pytest.fixture(scope="module")
def address(generator):
    limits = Limits(seconds=10, text=80, upload_mb=1, queue=3, user="me", password="secret")
    yield app.serve(generator, host="127.0.0.1", block=False, limits=limits)
    gr.close_all()


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
        ({"text": "99999999999 88888888888 77777777777 66666666666"}, "longer than 10 seconds"),
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


def test_a_refused_request_leaves_the_last_talk_alone(generator):
    studio = Studio(generator, Limits(seconds=5))
    list(studio.begin("visitor", GenerationRequest(PICTURE, "Hello.", steps=1, seconds=1.28)))
    talk = studio.talk_of("visitor")
    with pytest.raises(ValueError, match="longer than 5 seconds"):
        list(studio.begin("visitor", GenerationRequest(PICTURE, "Hello.", steps=1, seconds=9)))
    with pytest.raises(ValueError, match="longer than 5 seconds"):
        list(studio.proceed("visitor", "One two three four five six seven eight nine ten. " * 5))
    assert studio.talk_of("visitor") is talk and talk.state.total == 2
    assert talk.said == ["Hello."]
    list(studio.proceed("visitor", "More."))
    assert talk.said == ["Hello.", "More."]


def test_clips_are_removed(generator):
    studio = Studio(generator)
    paths = []
    for number in range(18):
        request = GenerationRequest(PICTURE, "Hello.", steps=1, seconds=0.64)
        list(studio.begin(f"api-{number}", request))
        paths.append(studio.save(studio.talk_of(f"api-{number}")))
        studio.release(f"api-{number}")
        assert studio.talk_of(f"api-{number}") is None
    assert [path.exists() for path in paths] == [False] * 2 + [True] * 16
    list(studio.begin("visitor", request))
    path = studio.save(studio.talk_of("visitor"))
    studio.forget("visitor")
    assert not path.exists()
    studio.close()
    assert not paths[-1].parent.exists()
