"""The streaming generator as its users call it; weights are random, the code is real."""

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from mutual_forcing import AVChunk, GenerationRequest, StreamingGenerator, characters
from mutual_forcing.chunks import SAMPLES_PER_CHUNK
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.types import FaceCrop, TimedPhoneme, Transcript


def collect(chunks: list[AVChunk]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([c.frames for c in chunks]), np.concatenate([c.audio for c in chunks])


def test_text_becomes_frames_and_sound(random_generator, picture) -> None:
    request = GenerationRequest(picture, text="Hello there, my friend.", steps=2)
    plan = random_generator.plan(request)
    chunks = list(random_generator.stream(request))
    frames, audio = collect(chunks)
    assert len(chunks) == plan.chunks and plan.mode == "few" and plan.nfe_per_chunk == 2
    assert frames.shape == (16 * plan.chunks, 256, 342, 3) and frames.dtype == np.uint8
    assert audio.shape == (SAMPLES_PER_CHUNK * plan.chunks,) and audio.dtype == np.float32
    assert frames.shape[0] / 25 == audio.shape[0] / SAMPLE_RATE == pytest.approx(plan.seconds)
    assert [c.index for c in chunks] == list(range(plan.chunks))
    assert np.abs(audio).max() <= 1 and frames.std() > 1


def test_same_seed_same_result_and_other_seed_other(random_generator, picture) -> None:
    def make(seed: int) -> np.ndarray:
        request = GenerationRequest(picture, text="Hi.", seconds=0.64, steps=1, seed=seed)
        return collect(list(random_generator.stream(request)))[1]

    assert np.array_equal(make(3), make(3))
    assert not np.array_equal(make(3), make(4))


@pytest.mark.parametrize("given", [False, True])
def test_the_first_chunk_in_halves_is_the_same_film(random_generator, picture, given) -> None:
    """Sooner seen, and nothing else: not even where it is stopped between the two and gone on with."""
    heard = np.arange(2 * 30720, dtype=np.int16)[:, None]
    sound = np.linspace(-0.1, 0.1, 2 * SAMPLES_PER_CHUNK, dtype=np.float32)
    what = {"audio": sound, "heard": heard} if given else {"text": "Hello there."}
    request = GenerationRequest(picture, seconds=1.28, steps=1, **what)
    whole = list(random_generator.stream(request))
    state = random_generator.start(request)
    state.halves = True
    halves = [next(random_generator.stream(state=state))]
    assert not state.ended
    halves += random_generator.stream(state=state)
    assert [len(chunk.frames) for chunk in halves] == [8, 8, 16] and state.ended
    assert [chunk.index for chunk in halves] == [0, 0, 1] and halves[1].start == 0.32
    for ours, theirs in zip(collect(halves), collect(whole), strict=True):
        assert np.abs(ours.astype(np.float32) - theirs).max() <= 1  # of 255, where rounding differs
        assert (ours == theirs).mean() > 0.999
    assert all(len(chunk.audio) == 960 * len(chunk.frames) for chunk in halves)
    if given:
        assert np.array_equal(np.concatenate([chunk.heard for chunk in halves]), heard)


@pytest.mark.slow
def test_a_picture_is_prepared_once_and_the_last_few_are_kept(random_generator, picture) -> None:
    request = GenerationRequest(picture, text="Hi.", seconds=0.64, steps=1)
    ready = random_generator.character(request)
    assert random_generator.character(replace(request, text="Other words.")) is ready
    assert random_generator.start(replace(request, image=picture.copy())).canvas is ready.canvas
    others = [replace(request, image=picture // k) for k in (2, 3, 4)]
    for other in (replace(request, size=256 + 64), *others):
        assert random_generator.character(other) is not ready
    assert random_generator.character(request) is not ready, "three others came after it"
    kept = random_generator.character(request)
    twin = deepcopy(random_generator)
    assert twin.character(request) is not kept, "what a decoder knows belongs to its weights"
    device, random_generator.device = random_generator.device, torch.device("meta")
    try:
        with pytest.raises((NotImplementedError, RuntimeError)):
            random_generator.character(request)  # anew, for the other device: a GPU may be lent
    finally:
        random_generator.device = device


def test_large_films_leave_less_room_for_others(random_generator, picture, monkeypatch) -> None:
    requests = [
        GenerationRequest(
            picture // k, text="Hi.", seconds=0.64, steps=1, crop=FaceCrop(60, 45, 60)
        )
        for k in (1, 2, 3)
    ]
    one = random_generator.character(requests[0]).canvas.nbytes
    monkeypatch.setattr(characters, "KEPT_BYTES", int(1.5 * one))
    for request in requests:
        random_generator.character(request)
    kept = random_generator._characters._kept
    assert len(kept) == 2 and kept[0][1] is random_generator.character(requests[-1])


@pytest.mark.slow
def test_stop_and_go_on_equals_never_stopping(random_generator, picture) -> None:
    request = GenerationRequest(picture, text="One two three four five six.", steps=1)
    whole = collect(list(random_generator.stream(request)))
    state = random_generator.start(request)
    stream = random_generator.stream(state=state)
    first = [next(stream)]
    stream.close()
    rest = list(random_generator.stream(state=state))
    again = collect(first + rest)
    assert np.array_equal(whole[0], again[0]) and np.array_equal(whole[1], again[1])


@pytest.mark.slow
def test_films_have_the_size_that_was_asked_for(random_generator) -> None:
    wide = np.random.default_rng(1).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    crop = FaceCrop(300, 150, 200)

    def shape(**asked) -> tuple[int, ...]:
        request = GenerationRequest(wide, text="Hi.", seconds=0.64, steps=1, crop=crop, **asked)
        state = random_generator.start(request)
        frames = next(random_generator.stream(state=state)).frames
        assert frames.shape[2:0:-1] == state.film_size
        return frames.shape[1:3]

    assert shape() == (360, 640), "never enlarged"
    assert shape(size=180) == (180, 320)
    assert shape(framing="face") == (256, 256)
    assert shape(framing="face", size=200) == (200, 200)


def test_outside_of_the_square_the_upload_stays(random_generator) -> None:
    wide = np.random.default_rng(1).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    crop = FaceCrop(150, 150, 200)
    request = GenerationRequest(wide, text="Hi.", seconds=0.64, steps=1, crop=crop)
    frames = next(random_generator.stream(request)).frames
    assert np.array_equal(frames[:, :, 260:], np.broadcast_to(wide[:, 260:], (16, 300, 340, 3)))
    assert np.abs(frames[3].astype(int) - wide)[100:200, 100:200].mean() > 1


def test_blinks_are_a_stream_s_own_and_go_on_where_it_stopped(random_generator, picture) -> None:
    request = GenerationRequest(picture, text="One two three four five six.", steps=1)
    state = random_generator.start(request)
    before = state.video_decoder.blinks
    next(random_generator.stream(state=state))
    assert state.video_decoder.blinks.frame == before.frame + 16


def test_extend_appends_words(random_generator, picture) -> None:
    request = GenerationRequest(picture, text="Good morning.", steps=1)
    state = random_generator.start(request)
    first = list(random_generator.stream(state=state))
    random_generator.extend(state, "And good night.")
    more = list(random_generator.stream(state=state))
    assert more and more[0].index == len(first)
    assert state.transcript.words[-1].word == "night"
    assert state.transcript.words[-1].start > len(first) * 0.64


def test_driving_audio_is_heard_unchanged(random_generator, picture) -> None:
    audio = np.sin(np.arange(20_000) / 20).astype(np.float32) * 0.3
    request = GenerationRequest(picture, audio=audio, steps=1)
    frames, heard = collect(list(random_generator.stream(request)))
    assert np.array_equal(heard[: len(audio)], audio) and not heard[len(audio) :].any()
    assert len(frames) == 32
    state = random_generator.start(request)
    with pytest.raises(ValueError, match="driven by audio"):
        random_generator.extend(state, "More.")


def test_a_voice_sample_changes_the_sound(random_generator, picture) -> None:
    voice = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)

    def make(**extra: np.ndarray) -> np.ndarray:
        request = GenerationRequest(picture, text="Hi.", seconds=0.64, steps=1, **extra)
        return random_generator.start(request).references.layers

    with_voice, without = make(voice=voice), make()
    assert not np.allclose(with_voice[0]["audio"][0], without[0]["audio"][0])


def test_guided_multi_mode_counts_two_evaluations_a_step(random_generator, picture) -> None:
    request = GenerationRequest(picture, text="Hi.", seconds=0.64, steps=9)
    assert random_generator.plan(request).mode == "multi"
    assert next(random_generator.stream(request)).nfe == 18
    free = GenerationRequest(picture, text="Hi.", seconds=0.64, steps=9, guidance_scale=1.0)
    assert random_generator.plan(free).nfe_per_chunk == 9


@pytest.mark.slow
def test_long_streams_do_not_grow(random_generator, picture) -> None:
    """The cache keeps its window; two minutes are planned without computing them."""
    request = GenerationRequest(picture, text="Hi.", seconds=6.4, steps=1, window=2)
    state = random_generator.start(request)
    sizes = []
    for _ in random_generator.stream(state=state):
        sizes.append(state.cache.length)
    assert sizes[-1] == 2 and max(sizes) == 2
    long = GenerationRequest(picture, text="Hi.", seconds=120)
    assert random_generator.plan(long).chunks == 188


def test_own_timing_is_obeyed(random_generator, picture) -> None:
    transcript = Transcript((TimedPhoneme("h", 0.0, 0.3), TimedPhoneme("i", 0.3, 1.5)))
    request = GenerationRequest(picture, transcript=transcript, steps=1)
    assert random_generator.plan(request).chunks == 3


def test_what_cannot_be_spoken_is_named(random_generator, picture) -> None:
    request = GenerationRequest(picture, text="Hello 😀 there", steps=1)
    assert random_generator.plan(request).unspoken == ("😀",)
    state = random_generator.start(request)
    random_generator.extend(state, "More 🎈.")
    assert state.transcript.unspoken == ("😀", "🎈")
    assert random_generator.plan(replace(request, text="Hello")).unspoken == ()


def test_the_preview_is_what_is_said(random_generator, picture) -> None:
    reading = random_generator.preview("Dr. Who has $5 😀")
    assert reading.text == "Doctor Who has five dollars" and reading.unspoken == ("😀",)
    state = random_generator.start(GenerationRequest(picture, text="Dr. Who has $5 😀", steps=1))
    assert [w.word for w in state.transcript.words] == [w.text for w in reading.words]


def test_only_what_the_voices_speak_is_warmed_up(english_generator, monkeypatch) -> None:
    warmed = []
    monkeypatch.setattr("mutual_forcing.streaming.warm_up", warmed.append)
    english_generator.warm_up()
    assert warmed == ["en"]


@pytest.mark.parametrize("change", [{"text": "こんにちは"}, {"text": "12", "language": "ja"}])
def test_a_language_that_the_voices_do_not_speak_is_refused(
    english_generator, picture, change
) -> None:
    request = GenerationRequest(picture, **change)
    for refuse in (english_generator.plan, english_generator.start):
        with pytest.raises(ValueError, match="voices speak English only: write it in English, or"):
            refuse(request)
    state = english_generator.start(replace(request, text="Hello.", language="auto"))
    with pytest.raises(ValueError, match="voices speak English only"):
        english_generator.extend(state, "こんにちは")


def test_phonemes_that_the_model_does_not_know_are_refused(english_generator, picture) -> None:
    transcript = Transcript((TimedPhoneme("ɾ", 0.0, 0.3),))
    with pytest.raises(ValueError, match="does not know the phonemes ɾ"):
        english_generator.start(GenerationRequest(picture, transcript=transcript))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": ""}, "Nothing to say"),
        ({"text": "Hi", "language": "fr"}, "language must be one of auto, en, ja"),
        ({"text": "Hi", "steps": 0}, "between 1 and 50"),
        ({"text": "Hi", "steps": 51}, "between 1 and 50"),
        ({"text": "Hi", "steps": 2.5}, "whole number"),
        ({"text": "Hi", "guidance_scale": 0.5}, "guidance"),
        ({"text": "Hi", "seconds": float("nan")}, "length"),
        ({"text": "Hi", "seed": -1}, "seed"),
        ({"text": "Hi", "window": 0}, "window"),
        ({"text": "Hi", "size": 100}, "size must be"),
        ({"text": "Hi", "size": 2000}, "size must be"),
        ({"text": "Hi", "size": 512.0}, "size must be"),
        ({"text": "Hi", "framing": "square"}, "framing must be"),
        ({"text": "Hi", "crop": (1, 2, 3)}, "must be a FaceCrop"),
        ({"text": "Hi", "voice": np.full(SAMPLE_RATE, np.nan, np.float32)}, "not numbers"),
        ({"audio": np.zeros(10, np.float32)}, "shorter"),
        ({"audio": np.zeros((2, SAMPLE_RATE), np.float32)}, "one channel"),
    ],
)
def test_bad_requests_get_one_clear_sentence(picture, change, message) -> None:
    with pytest.raises(ValueError, match=message):
        GenerationRequest(picture, **change)


@pytest.mark.parametrize("values", [(float("nan"), 1, 100), (1, 1, 8), (1, 1, 100, float("inf"))])
def test_impossible_squares_are_refused(values) -> None:
    with pytest.raises(ValueError, match=r"finite numbers|at least 16"):
        FaceCrop(*values)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
    ],
)
def test_bad_pictures_are_refused(image) -> None:
    with pytest.raises(ValueError, match="picture"):
        GenerationRequest(image, text="Hi")


def test_unspeakable_text_is_refused(random_generator, picture) -> None:
    for text in ("😀😀", "Привет", "..."):
        with pytest.raises(ValueError, match="spoken"):
            random_generator.plan(GenerationRequest(picture, text=text))


def test_missing_and_foreign_checkpoints_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="No checkpoint"):
        StreamingGenerator.from_pretrained(str(tmp_path / "nothing"))
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="config"):
        StreamingGenerator.from_pretrained(tmp_path)


@pytest.mark.slow
def test_checkpoint_round_trip(picture, tmp_path) -> None:
    from mutual_forcing.checkpoint import save_checkpoint

    generator = StreamingGenerator.random("tiny")  # large enough for several files
    save_checkpoint(generator.system, tmp_path, {"note": "test"}, half=False)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1 and all(path.stat().st_size < 10_000_000 for path in shards)
    index = json.loads((tmp_path / "weights.safetensors.index.json").read_text(encoding="utf-8"))
    assert set(index["weight_map"].values()) == {path.name for path in shards}
    again = StreamingGenerator.from_pretrained(tmp_path)
    request = GenerationRequest(picture, text="Hi.", seconds=0.64, steps=1)
    first, second = (next(g.stream(request)) for g in (generator, again))
    assert np.array_equal(first.frames, second.frames)


def test_a_checkpoint_is_replaced_only_by_a_whole_one(
    random_generator, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mutual_forcing import checkpoint

    checkpoint.save_checkpoint(random_generator.system, tmp_path, {})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_, **__) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("safetensors.torch.save_file", full)
        checkpoint.save_checkpoint(random_generator.system, tmp_path, {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "weights-099.safetensors").write_bytes(b"of a larger one")
    checkpoint.save_checkpoint(random_generator.system, tmp_path, {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
