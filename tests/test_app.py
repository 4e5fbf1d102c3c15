"""The page without a browser: its API, its messages for wrong inputs, its streams."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import pickle
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

import av
import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from safetensors.torch import save_file
from torch import zeros

import app
from demo import inputs
from demo.films import ROUTE, FilmShelf
from demo.inputs import DRIVES, LENDS, Form
from demo.pace import Pace
from demo.studio import Studio
from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.checkpoint import save_checkpoint
from mutual_forcing.chunks import CHUNK_SECONDS

PICTURE = np.full((64, 48, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def generator() -> StreamingGenerator:
    return StreamingGenerator.random("tiny")


@pytest.fixture(scope="module")
def address(generator):
    yield app.serve(generator, host="127.0.0.1", block=False)
    gr.close_all()


@pytest.fixture(scope="module")
def client(address) -> Client:
    return Client(address, verbose=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploads")
    Image.fromarray(PICTURE).save(folder / "face.png")
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    with av.open(str(folder / "silence.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), "s16", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
    return folder


def ask(client: Client, files, **changes) -> str:
    values = {
        "picture": handle_file(str(files / "face.png")),
        "text": "Hello.",
        "sound": None,
        "sound_use": DRIVES,
        "emotion": "happy",
        "motion": "calm",
        "steps": 1,
        "seed": 0,
        "guidance": 0,
        "seconds": 0,
        "window": None,
    }
    result = client.predict(**{**values, **changes}, api_name="/generate")
    return result["video"] if isinstance(result, dict) else result


def test_the_endpoint_returns_a_film_that_says_what_it_is(client, files):
    path = ask(client, files, seconds=2.0)
    with av.open(path) as container:
        settings = json.loads(container.metadata["comment"])
        frames = sum(1 for _ in container.decode(video=0))
    assert frames == 50
    assert settings["ai_generated"] and settings["text"] == "Hello." and settings["steps"] == 1
    assert settings["caption"] == "happy, calm"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"picture": None}, "Choose a character first"),
        ({"picture": "bad.png"}, "cannot be read"),
        ({"picture": "silence.wav"}, "cannot be read"),
        ({"text": "   "}, "Nothing to say"),
        ({"text": "こんにちは"}, ""),
        ({"text": "a" * 3000}, ""),
        ({"sound": "silence.wav"}, "silent"),
        ({"sound": "bad.png"}, "cannot be read"),
        ({"sound": "silence.wav", "sound_use": LENDS}, "silent"),
        ({"steps": 0}, ""),
        ({"steps": 51}, ""),
        ({"steps": 2.5}, "whole number"),
        ({"seed": -1}, ""),
        ({"guidance": 99}, "guidance"),
        ({"seconds": -3}, "minimum"),
        ({"seconds": 1e9}, "longer than 600 seconds"),
        ({"window": 1000}, "window"),
        ({"emotion": "bored"}, ""),
    ],
)
def test_wrong_inputs_get_one_sentence(client, files, changes, message):
    uploads = {
        name: handle_file(str(files / value)) if isinstance(value, str) and "." in value else value
        for name, value in changes.items()
    }
    with pytest.raises(AppError) as caught:
        ask(client, files, **uploads)
    text = str(caught.value)
    assert message.lower() in text.lower()
    assert "Traceback" not in text and "/tmp" not in text and len(text) < 200


def test_unknown_films_are_not_found(address):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address.rstrip("/") + ROUTE + "guess")


def test_a_film_is_read_while_it_grows():
    shelf = FilmShelf()
    film = shelf.new()
    assert len(film.id) >= 32 and film.id != shelf.new().id

    async def read() -> bytes:
        return b"".join([part async for part in film.read()])

    def write() -> None:
        film.append(b"two")
        film.close()

    film.append(b"one")
    threading.Timer(0.05, write).start()
    assert asyncio.run(read()) == asyncio.run(read()) == b"onetwo"


def test_stop_keeps_the_clip_and_continue_goes_on(generator):
    studio = Studio(generator)
    request = GenerationRequest(PICTURE, "One sentence that is stopped before its end.", steps=1)
    stream = studio.begin("visitor", request)
    messages = [next(stream) for _ in range(3)]
    studio.stop("visitor")
    messages += list(stream)
    assert messages[-1].done and 2 <= messages[-1].made / CHUNK_SECONDS <= 5
    talk = studio.talk_of("visitor")
    before = film_seconds(studio.save(talk))
    assert before == pytest.approx(messages[-1].made, abs=0.05)
    more = list(studio.proceed("visitor", "And more."))
    assert more[0].continues and not messages[0].continues
    assert film_seconds(studio.save(talk)) == pytest.approx(more[-1].made, abs=0.05)
    assert more[-1].made == pytest.approx(talk.state.total * CHUNK_SECONDS)
    with pytest.raises(ValueError, match="say next"):
        list(studio.proceed("visitor", " "))
    with pytest.raises(ValueError, match="nothing to continue"):
        list(studio.proceed("somebody else", "Hello."))


def test_a_visitor_who_leaves_ends_the_stream(generator):
    studio = Studio(generator)
    stream = studio.begin("visitor", GenerationRequest(PICTURE, "Hello.", steps=1, seconds=60))
    next(stream), next(stream)
    talk = studio.talk_of("visitor")
    stream.close()
    assert talk.abandoned.is_set() and talk.broken
    again = list(studio.begin("other", GenerationRequest(PICTURE, "Hello.", steps=1, seconds=0.6)))
    assert again[-1].done, "the model is free again"


def test_a_failure_keeps_what_was_made(generator, monkeypatch):
    real = StreamingGenerator.stream

    def failing(self, request=None, state=None):
        for index, chunk in enumerate(real(self, request, state)):
            if index == 2:
                raise MemoryError
            yield chunk

    monkeypatch.setattr(StreamingGenerator, "stream", failing)
    studio = Studio(generator)
    stream = studio.begin("visitor", GenerationRequest(PICTURE, "Hello.", steps=1, seconds=5))
    with pytest.raises(MemoryError):
        list(stream)
    talk = studio.talk_of("visitor")
    assert film_seconds(studio.save(talk)) == pytest.approx(2 * CHUNK_SECONDS, abs=0.05)
    with pytest.raises(ValueError, match="nothing to continue"):
        list(studio.proceed("visitor", "More."))


def film_seconds(path) -> float:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0)) / 25


def test_the_prediction_is_a_plain_sentence(generator):
    pace = Pace(base=0.1, few_step=0.05, guided_step=0.1, overhead=0.2)
    few = GenerationRequest(PICTURE, "Hello.", steps=4, seconds=6.4)
    text = inputs.preflight(generator.plan(few), pace, few)
    assert "Few mode" in text and "4 NFE" in text and "ahead of playback (2.1×)" in text
    many = GenerationRequest(PICTURE, "Hello.", steps=50, seconds=6.4)
    text = inputs.preflight(generator.plan(many), pace, many)
    assert "Multi mode" in text and "100 NFE" in text and "in 52 s" in text
    assert "Measuring" in inputs.preflight(generator.plan(few), Pace(), few)


def test_the_page_is_built_once_per_generator(generator):
    demo = app.build_demo(generator)
    assert isinstance(demo, gr.Blocks)
    endpoint = demo.get_api_info()["named_endpoints"]["/generate"]
    assert [p["parameter_name"] for p in endpoint["parameters"]] == list(Form.__annotations__)
    form = Form(None, "Hi.", None, DRIVES, "sad", "lively", 4, None, None, None, None)
    assert form.request(PICTURE).caption == "sad, lively"


def test_the_command_line_example(generator, files, tmp_path, capsys):
    path = Path(__file__).parents[1] / "examples" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    save_checkpoint(generator.system, tmp_path / "checkpoint", {})
    options = ["--checkpoint", str(tmp_path / "checkpoint"), "-o", str(tmp_path / "out.mp4")]
    options += ["--image", str(files / "face.png"), "--steps", "1"]
    assert example.main([*options, "--text", "Hello.", "--seconds", "1"]) == 0
    assert film_seconds(tmp_path / "out.mp4") == 1.0
    capsys.readouterr()
    assert example.main([*options, "--audio", str(files / "silence.wav")]) == 1
    assert capsys.readouterr().err == "generate.py: The audio file is silent.\n"


def test_a_missing_checkpoint_is_one_sentence(capsys):
    assert app.main(["--checkpoint", "/nowhere/at/all"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("app.py: ") and error.count("\n") == 1


def change_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values["model"] = {**values["model"], **changes}
    path.write_text(json.dumps(values))


def change_weights(folder: Path, change) -> None:
    for path in folder.glob("*.safetensors"):
        change(path)


DAMAGES = {
    "config.json": lambda folder: (folder / "config.json").unlink(),
    "no readable config.json": lambda folder: (folder / "config.json").write_text("{"),
    "does not fit this version": lambda folder: (folder / "config.json").write_text("[]"),
    "'model'": lambda folder: (folder / "config.json").write_text('{"architectures": ["Other"]}'),
    "unexpected keyword": lambda folder: change_config(folder, rotary_theta=10_000),
    "do not fit its config": lambda folder: change_config(folder, layers=1),
    "cannot be loaded here": lambda folder: change_config(folder, text_width=-128),
    "no weights": lambda folder: change_weights(folder, Path.unlink),
    "not a readable safetensors": lambda folder: change_weights(
        folder, lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ),
    "is not a readable": lambda folder: change_weights(
        folder, lambda path: path.write_bytes(pickle.dumps({"model": [1.0]}))
    ),
    "do not fit": lambda folder: change_weights(
        folder, lambda path: save_file({"unet.weight": zeros(3)}, path)
    ),
}
"""What the refusal says, and what is done to a good checkpoint's folder before."""


@pytest.mark.parametrize("reason", DAMAGES)
def test_a_broken_or_foreign_checkpoint_is_refused_with_the_reason(
    generator, reason, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(app, "serve", lambda *_, **__: pytest.fail("It was served."))
    save_checkpoint(generator.system, tmp_path / "checkpoint", {})
    DAMAGES[reason](tmp_path / "checkpoint")
    assert app.main(["--checkpoint", str(tmp_path / "checkpoint"), "--device", "cpu"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("app.py: ") and reason in error
    assert error.count("\n") == 1 and "Traceback" not in error


@pytest.fixture
def start(generator, tmp_path, monkeypatch):
    """Call `app.main` with a good checkpoint and more arguments, without touching signals."""
    save_checkpoint(generator.system, tmp_path / "checkpoint", {})
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    good = ["--checkpoint", str(tmp_path / "checkpoint"), "--device", "cpu", "--host", "127.0.0.1"]
    return lambda *more: app.main([*good, *more])


def test_a_missing_ffmpeg_is_said_at_start_and_the_page_comes_up(start, monkeypatch, capsys):
    served = []
    monkeypatch.setattr(app, "serve", lambda *_, **__: served.append(True))
    monkeypatch.setenv("FFMPEG_BINARY", "/nowhere/ffmpeg")
    assert start() == 0 and len(served) == 1
    error = capsys.readouterr().err
    assert error.startswith("app.py: ffmpeg is missing (") and error.count("\n") == 1
    monkeypatch.delenv("FFMPEG_BINARY")
    assert start() == 0 and len(served) == 2
    assert capsys.readouterr().err == ""


def test_a_port_that_is_taken_is_one_sentence(start, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert start("--port", str(other.getsockname()[1])) == 1
    error = capsys.readouterr().err
    assert error.startswith("app.py: ") and "port" in error and error.count("\n") == 1
