"""Systems with public codecs: built, saved, loaded and streamed by a tiny transformer with a spatial grid."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.checkpoint import System, load_checkpoint, save_checkpoint
from mutual_forcing.chunks import SAMPLES_PER_CHUNK
from mutual_forcing.codec_config import (
    AUDIO_CODECS,
    VIDEO_CODECS,
    PublicWeights,
    codec_to_dict,
)
from mutual_forcing.config import SystemConfig, preset
from mutual_forcing.types import FaceCrop, Steering

pytest.importorskip("diffusers", reason="Python 3.11 and later")

from tiny_codecs import (
    OOBLECK,
    WAN,
    oobleck_network,
    system_config,
    wan_network,
    with_weights,
)


def generator_of(system: System) -> StreamingGenerator:
    for module in system.modules.values():
        module.eval().requires_grad_(False)
    return StreamingGenerator(system, torch.device("cpu"))


def random_system(look_ahead: int = 10) -> System:
    config = system_config()
    audio = replace(config.audio_codec, look_ahead=look_ahead)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return System.build(replace(config, audio_codec=audio))


@pytest.fixture(scope="module")
def generator() -> StreamingGenerator:
    return generator_of(random_system())


def collect(chunks) -> tuple[np.ndarray, np.ndarray]:
    chunks = list(chunks)
    return np.concatenate([c.frames for c in chunks]), np.concatenate([c.audio for c in chunks])


def test_text_becomes_frames_and_sound(generator, picture) -> None:
    request = GenerationRequest(picture, text="Hello there, my friend.", steps=2)
    plan = generator.plan(request)
    chunks = list(generator.stream(request))
    assert [c.index for c in chunks] == list(range(plan.chunks)) and plan.chunks > 2
    assert all(c.frames.shape == (16, 64, 96, 3) for c in chunks)
    assert all(c.audio.shape == (SAMPLES_PER_CHUNK,) for c in chunks)
    frames, audio = collect(chunks)
    assert frames.dtype == np.uint8 and frames.std() > 1
    assert audio.dtype == np.float32 and 0 < np.abs(audio).max() <= 1
    assert generator.start(request).film_size == (96, 64) and generator.square_size == 64


@pytest.mark.slow
@pytest.mark.parametrize("look_ahead", [0, 10])
def test_stop_and_go_on_equals_never_stopping(look_ahead, picture) -> None:
    generator = generator_of(random_system(look_ahead))
    request = GenerationRequest(picture, text="One two three four.", steps=1)
    whole = collect(generator.stream(request))
    state = generator.start(request)
    chunks = []
    while len(chunks) < state.total:  # another generator object for every chunk
        chunks.append(next(generator.stream(state=state)))
        later = min(state.total, len(chunks) + (look_ahead > 0))
        assert state.index == later and len(state.waiting) == later - len(chunks)
        assert state.nbytes > state.video_decoder.nbytes + len(state.waiting) * 16 * 64 * 96 * 3
    assert not list(generator.stream(state=state)) and not state.waiting and not len(state.sound)
    again = collect(chunks)
    assert np.array_equal(whole[0], again[0]) and np.array_equal(whole[1], again[1])


@pytest.mark.slow
def test_two_streams_share_a_generator(generator, picture) -> None:
    requests = [
        GenerationRequest(p, text="One two three.", seconds=1.28, steps=1, seed=seed)
        for seed, p in enumerate((picture, 255 - picture))
    ]
    alone = [collect(generator.stream(request)) for request in requests]
    states = [generator.start(request) for request in requests]
    made: list[list] = [[], []]
    for _ in range(2):
        for row, state in enumerate(states):
            made[row].append(next(generator.stream(state=state)))
    for row in range(2):
        frames, audio = collect(made[row])
        assert np.array_equal(frames, alone[row][0]) and np.array_equal(audio, alone[row][1])
    assert not np.array_equal(alone[0][0], alone[1][0])


@pytest.mark.slow
def test_a_stream_that_waits_for_words_needs_no_end(generator, picture) -> None:
    """As the Live page does it: a chunk is asked for, a pause appended where nothing is left to say."""
    request = GenerationRequest(picture, text="One two three.", seconds=1.28, steps=1)
    state = generator.start(request)
    resting = []
    for _ in range(4):
        if state.index >= state.total:
            generator.rest(state)
        resting.append(next(generator.stream(state=state)))
    # The sound of a chunk after which something came is that of a stream that had known so.
    known = generator.start(request)
    for _ in range(3):
        generator.rest(known)
    at_once = list(generator.stream(state=known))
    for one, other in zip(resting, at_once, strict=False):
        assert np.array_equal(one.frames, other.frames) and np.array_equal(one.audio, other.audio)


def test_a_stream_goes_on_after_its_end(generator, picture) -> None:
    request = GenerationRequest(picture, text="Good morning.", steps=1)
    state = generator.start(request)
    first = list(generator.stream(state=state))
    generator.extend(state, "And good night.")
    more = list(generator.stream(state=state))
    assert more[0].index == len(first) and len(first) + len(more) == state.total
    assert all(len(c.audio) == SAMPLES_PER_CHUNK for c in first + more)


def test_driving_sound_waits_for_nothing(generator, picture) -> None:
    audio = np.sin(np.arange(20_000) / 20).astype(np.float32) * 0.3
    state = generator.start(GenerationRequest(picture, audio=audio, steps=1))
    chunk = next(generator.stream(state=state))
    assert state.index == 1 and np.array_equal(chunk.audio, audio[:SAMPLES_PER_CHUNK])


def test_what_has_no_names_is_not_steered(generator, picture) -> None:
    request = GenerationRequest(picture, text="Hi.", seconds=0.64, steps=1)
    with pytest.raises(ValueError, match="no named controls"):
        generator.start(replace(request, steering=Steering(smile=1.0)))
    state = generator.start(request)
    before = state.video_decoder
    with pytest.raises(ValueError, match="no named controls"):
        generator.steer(state, steering=Steering(turn_right=0.5), steps=9)
    assert state.request.steps == 1 and state.video_decoder is before
    generator.steer(state, steering=Steering(), steps=9)
    assert state.request.steps == 9


def test_the_film_is_a_window_of_the_picture_with_or_without_a_face(generator) -> None:
    wide = np.zeros((200, 800, 3), np.uint8)
    wide[:, 600:] = 255
    request = GenerationRequest(wide, text="Hi.", steps=1, size=720)
    assert generator.character(request).canvas.reference_frame.max() == 0, "the middle"
    right = replace(request, crop=FaceCrop(790, 100, 60))
    frame = generator.canvas(right).reference_frame
    assert frame.shape == (64, 96, 3) and frame[:, 40:].min() == 255
    near = generator.canvas(replace(right, framing="face")).reference_frame
    assert near.min() == 255, "beyond the picture its border goes on"


def test_a_checkpoint_holds_codecs_of_its_own(picture, tmp_path) -> None:
    system = random_system()
    save_checkpoint(system, tmp_path, {}, half=False)
    loaded = load_checkpoint(tmp_path)
    assert loaded.config == system.config
    request = GenerationRequest(picture, text="Hi.", seconds=0.64, steps=1)
    both = [collect(generator_of(s).stream(request)) for s in (system, loaded)]
    assert np.array_equal(both[0][0], both[1][0]) and np.array_equal(both[0][1], both[1][1])


@pytest.mark.slow
def test_a_checkpoint_names_where_public_weights_are(picture, tmp_path) -> None:
    checkpoint, elsewhere = tmp_path / "checkpoint", tmp_path / "elsewhere"
    wan_network().save_pretrained(checkpoint / "vae")
    oobleck_network().save_pretrained(elsewhere)
    config = with_weights("vae", elsewhere)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system = System.build(config, checkpoint)
    save_checkpoint(system, checkpoint, {}, half=False)
    with safe_open(checkpoint / "weights.safetensors", "pt") as file:
        held = {name.partition(".")[0] for name in file.keys()}  # noqa: SIM118
    assert held == {"model", "duration", "sound_reader"}
    loaded = load_checkpoint(checkpoint)
    assert loaded.config == config
    request = GenerationRequest(picture, text="Hi.", seconds=0.64, steps=1)
    both = [collect(generator_of(s).stream(request)) for s in (system, loaded)]
    assert np.array_equal(both[0][0], both[1][0]) and np.array_equal(both[0][1], both[1][1])
    # Other public weights are another checkpoint to whoever looks at the hash in a film.
    network = oobleck_network()
    network.decoder.conv1.bias.data += 1
    network.save_pretrained(elsewhere)
    assert load_checkpoint(checkpoint).digest != loaded.digest
    (elsewhere / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match="pickled weights are never loaded"):
        load_checkpoint(checkpoint)


def test_configs_of_all_codecs_survive_their_file() -> None:
    config = with_weights("owner/name", "owner/other")
    revised = PublicWeights("owner/name", "a1b2c3", "vae")
    config = replace(config, video_codec=replace(config.video_codec, weights=revised))
    for given in (config, system_config(), preset("smoke")):
        again = SystemConfig.from_dict(json.loads(json.dumps(given.to_dict())))
        assert again == given
    kinds = {
        codec_to_dict(entry.config())["kind"] for entry in (VIDEO_CODECS | AUDIO_CODECS).values()
    }
    assert kinds == {"motion", "stack", "wan", "source_filter", "oobleck"}


@pytest.mark.parametrize(
    ("codec", "change", "message"),
    [
        ("video_codec", {"width": 336}, "film's width must be a multiple of 32"),
        (
            "video_codec",
            {"kind": "pickle"},
            "Unknown codec 'pickle'; known here are motion, stack, wan",
        ),
        ("video_codec", {"kind": "oobleck"}, "Unknown codec 'oobleck'"),
        ("video_codec", {"weights": {"source": ""}}, "Public weights need a source"),
        ("video_codec", {"weights": {"source": 1}}, "Public weights need a source"),
        ("video_codec", {"weights": "here"}, "does not fit this version"),
        ("video_codec", {"height": "64"}, "does not fit this version"),
        ("video_codec", {"decoder_width": 9000}, "widths must be 1 to 512"),
        ("video_codec", {"blocks": 0}, "blocks 1 to 8"),
        ("audio_codec", {"encoder_width": 9000}, "widths must be 1 to 512"),
        ("audio_codec", {"look_ahead": 99}, "look-ahead must be 0 to 10"),
        ("audio_codec", {"unknown": 1}, "does not fit this version"),
    ],
)
def test_a_config_that_is_wrong_is_refused_in_a_sentence(codec, change, message) -> None:
    values = json.loads(json.dumps(system_config().to_dict()))
    values[codec] |= change
    with pytest.raises(ValueError, match=message):
        SystemConfig.from_dict(values)


def test_a_model_of_other_tokens_is_refused() -> None:
    config = system_config()
    with torch.device("meta"):
        wrong = replace(config, video_codec=replace(WAN, width=128))
        with pytest.raises(ValueError, match="video codec makes tokens of 32 numbers on"):
            System.build(wrong)
        wrong = replace(config, audio_codec=replace(OOBLECK, latent_channels=16, encoder_width=32))
        with pytest.raises(ValueError, match="audio codec makes tokens of 16 numbers on"):
            System.build(wrong)


@pytest.mark.slow
def test_without_diffusers_only_its_codecs_are_missing(monkeypatch) -> None:
    code = "import sys, mutual_forcing.streaming; print('diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(
        ValueError, match=r"needs diffusers .*pip install 'mutual-forcing\[large\]'"
    ):
        System.build(system_config())
