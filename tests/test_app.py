"""The page without a browser: its API, its messages for wrong inputs, its streams."""

from __future__ import annotations

import importlib.util
import json
import pickle
import socket
import urllib.error
import urllib.request
from dataclasses import astuple
from pathlib import Path

import av
import gradio as gr
import numpy as np
import portraits
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import zeros

import app
from mutual_forcing import StreamingGenerator
from mutual_forcing.checkpoint import save_checkpoint
from mutual_forcing.demo.inputs import DRIVES, LENDS, Form
from mutual_forcing.demo.video_store import ROUTE

PICTURE = np.full((64, 48, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def generator(random_generator: StreamingGenerator) -> StreamingGenerator:
    return random_generator


@pytest.fixture(scope="module")
def address(generator):
    with app.serving(generator, host="127.0.0.1") as address:
        yield address


@pytest.fixture(scope="module")
def client(address) -> Client:
    return Client(address, verbose=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploads")
    Image.fromarray(PICTURE).save(folder / "face.png")
    for name in ("landscape", "two", "cut_off"):
        portraits.save(getattr(portraits, name)(), folder / f"{name}.png")
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
    assert (settings["size"], settings["framing"], settings["face"]) == (512, "whole", 1)


def test_the_film_names_what_was_not_spoken(client, files):
    for text, unspoken in (("It costs $5M ☃", ["☃"]), ("Hello.", [])):
        with av.open(ask(client, files, text=text, seconds=0.64)) as container:
            assert json.loads(container.metadata["comment"])["unspoken"] == unspoken


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        ({}, (910, 512)),
        ({"size": 256}, (456, 256)),
        ({"size": 1080}, (960, 540)),
        ({"size": 256, "framing": "face"}, (256, 256)),
    ],
)
def test_the_film_has_the_size_and_the_shape_that_were_asked_for(client, files, look, expected):
    path = ask(
        client, files, picture=handle_file(str(files / "landscape.png")), seconds=0.64, **look
    )
    with av.open(path) as container:
        settings = json.loads(container.metadata["comment"])
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert {frame.shape for frame in frames} == {(expected[1], expected[0], 3)}
    assert (settings["size"], settings["framing"]) == (
        look.get("size", 512),
        look.get("framing", "whole"),
    )
    if look.get("framing") != "face":  # what is outside the square is the upload's own
        wall = frames[8][:, -expected[0] // 4 :].reshape(-1, 3).astype(int)
        assert np.abs(wall - portraits.WALL).mean() < 6


def test_the_face_that_is_asked_for_moves_and_is_named(client, files):
    moved = []
    for face in (1, 2):
        asked = {"picture": handle_file(str(files / "two.png")), "size": 256, "face": face}
        path = ask(client, files, seconds=0.64, **asked)
        with av.open(path) as container:
            assert json.loads(container.metadata["comment"])["face"] == face
            frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        middle = frames.shape[2] // 2
        change = np.abs(frames[8].astype(int) - inputs_still(files / "two.png", frames[8].shape))
        moved.append((change[:, :middle].mean(), change[:, middle:].mean()))
    assert moved[0][0] > moved[0][1] and moved[1][1] > moved[1][0], moved


def inputs_still(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.resize(shape[1::-1], Image.Resampling.BOX)).astype(int)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"picture": None}, "Choose a character first"),
        ({"picture": "bad.png"}, "cannot be read"),
        ({"picture": "silence.wav"}, "cannot be read"),
        ({"text": "   "}, "Nothing to say"),
        ({"text": "Привет"}, ""),
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
        ({"picture": "cut_off.png"}, "cut off by the picture's border"),
        ({"picture": "two.png", "face": 3}, "no face number 3"),
        ({"face": 0}, "minimum"),
        ({"face": 99}, "maximum"),
        ({"size": 600}, "must be one of: 256, 384"),
        ({"size": "large"}, "must be one of"),
        ({"framing": "feet"}, "must be one of: whole, face"),
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


def test_the_page_is_built_once_per_generator(generator):
    demo = app.build_demo(generator)
    assert isinstance(demo, gr.Blocks)
    endpoint = demo.get_api_info()["named_endpoints"]["/generate"]
    assert [p["parameter_name"] for p in endpoint["parameters"]] == list(Form.__annotations__)
    form = Form(None, "Hi.", None, DRIVES, "sad", "lively", 4, None, None, None, None)
    assert form.planned().caption == "sad, lively"
    assert Form(*astuple(form)[:11]) == form, "who does not know the later fields leaves them out"


@pytest.mark.slow
def test_the_command_line_example(generator, files, tmp_path, capsys):
    path = Path(__file__).parents[1] / "examples" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    save_checkpoint(generator.system, tmp_path / "checkpoint", {})
    options = ["--checkpoint", str(tmp_path / "checkpoint"), "-o", str(tmp_path / "out.mp4")]
    options += ["--image", str(files / "two.png"), "--steps", "1", "--size", "256"]
    assert example.main([*options, "--text", "Hello.", "--seconds", "1", "--face", "2"]) == 0
    with av.open(str(tmp_path / "out.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 25
        assert (film.streams.video[0].width, film.streams.video[0].height) == (460, 256)
        assert json.loads(film.metadata["comment"])["face"] == 2
    capsys.readouterr()
    assert example.main([*options, "--text", "Hello.", "--face", "3"]) == 1
    assert capsys.readouterr().err.startswith("generate: There is no face number 3")
    assert example.main([*options, "--audio", str(files / "silence.wav")]) == 1
    assert capsys.readouterr().err == "generate: The audio file is silent.\n"


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


def spoil(path: Path) -> None:
    tensors = load_file(path)
    for name in [n for n in tensors if n.startswith("model.") and tensors[n].is_floating_point()]:
        tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, path)


DAMAGES = {
    "config.json": lambda folder: (folder / "config.json").unlink(),
    "no readable config.json": lambda folder: (folder / "config.json").write_text("{"),
    "does not fit this version": lambda folder: (folder / "config.json").write_text("[]"),
    "'model'": lambda folder: (folder / "config.json").write_text('{"architectures": ["Other"]}'),
    "unexpected keyword": lambda folder: change_config(folder, rotary_theta=10_000),
    "do not fit its config": lambda folder: change_config(folder, layers=1),
    "-128 for text_width": lambda folder: change_config(folder, text_width=-128),
    "1000000000 for layers": lambda folder: change_config(folder, layers=10**9),
    "inf for coupling_bias": lambda folder: change_config(folder, coupling_bias=float("inf")),
    "far fewer than its config asks for": lambda folder: change_config(folder, layers=16_000),
    "are not all finite (model.": lambda folder: change_weights(folder, spoil),
    "no weights": lambda folder: change_weights(folder, Path.unlink),
    "not a readable safetensors": lambda folder: change_weights(
        folder, lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ),
    "is not a readable": lambda folder: change_weights(
        folder, lambda path: path.write_bytes(pickle.dumps({"model": [1.0]}))
    ),
    "are far fewer": lambda folder: change_weights(
        folder, lambda path: save_file({"unet.weight": zeros(3)}, path)
    ),
    "The weights of model in": lambda folder: change_weights(
        folder, lambda path: save_file({"unet.weight": zeros(3000, 3000)}, path)
    ),
}
"""What the refusal says, and what is done to a good checkpoint's folder before."""


@pytest.mark.slow
@pytest.mark.parametrize("reason", DAMAGES)
def test_a_broken_or_foreign_checkpoint_is_refused_with_the_reason(
    generator, reason, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        "mutual_forcing.demo.server.serve", lambda *_, **__: pytest.fail("It was served.")
    )
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
    monkeypatch.setattr("mutual_forcing.demo.server.signal.signal", lambda *_: None)
    good = ["--checkpoint", str(tmp_path / "checkpoint"), "--device", "cpu", "--host", "127.0.0.1"]
    return lambda *more: app.main([*good, *more])


def test_a_missing_ffmpeg_is_said_at_start_and_the_page_comes_up(start, monkeypatch, capsys):
    served = []
    monkeypatch.setattr("mutual_forcing.demo.server.serve", lambda *_, **__: served.append(True))
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
