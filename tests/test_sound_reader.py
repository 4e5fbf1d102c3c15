"""Driving sound moves the lips: what it says is read from it, and the mouth follows."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import portraits
import pytest
import torch
from films import assert_same

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.checkpoint import load_checkpoint, save_checkpoint
from mutual_forcing.chunks import FRAMES_PER_CHUNK, SAMPLES_PER_CHUNK
from mutual_forcing.config import SAMPLE_RATE, SoundReaderConfig, SystemConfig, preset
from mutual_forcing.metrics import mouth
from mutual_forcing.models.sound_reader import (
    AROUND,
    MARGIN,
    SAMPLES,
    STRETCH,
    HeardSound,
    SoundReader,
)
from mutual_forcing.models.text_encoder import TextEncoder
from mutual_forcing.text.inventory import is_pause
from mutual_forcing.text.timing import MAX_PHONEMES, text_tokens
from mutual_forcing.types import TimedPhoneme, Transcript
from training.data.dataset import Clip, Corpus
from training.data.sound_augment import Surroundings, nobody, played_faster, surround
from training.export import export
from training.import_checkpoint import import_checkpoint
from training.objectives.sound_reading import CHUNKS
from training.stages import Workspace

HELLO = GenerationRequest(portraits.portrait(), audio=np.zeros(SAMPLE_RATE, np.float32))


@pytest.fixture(scope="module")
def reader() -> SoundReader:
    torch.manual_seed(0)
    return SoundReader(SoundReaderConfig(width=16, mel_bins=20), 12).eval().requires_grad_(False)


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(seed).normal(0, 0.1, len(time))
    return (noise * (1 + np.sin(7 * time))).astype(np.float32)


def test_what_is_read_bit_by_bit_is_what_is_read_at_once(reader: SoundReader) -> None:
    audio = sound(2.3 * STRETCH / 25)
    heard, encoder = HeardSound(reader, audio), TextEncoder(12, 1, 93)
    tokens = -(-len(audio) // SAMPLES)
    padded = np.zeros((tokens + 2 * MARGIN + 2 * AROUND) * SAMPLES, np.float32)
    padded[(MARGIN + AROUND) * SAMPLES :][: len(audio)] = audio
    whole = reader(torch.from_numpy(padded)[None])[0, MARGIN:]
    for chunk in (0, 3, 7, 8, 15, tokens // FRAMES_PER_CHUNK - 1):
        text = encoder(text_tokens(None, "", chunk, 1))
        read = heard.under(text, chunk).phonemes[0, 0]
        expected = whole[chunk * FRAMES_PER_CHUNK :][:MAX_PHONEMES]
        assert (read - expected).abs().max() < 1e-4


def test_what_is_far_away_changes_nothing(reader: SoundReader) -> None:
    audio = torch.from_numpy(sound(6))[None]
    changed = audio.clone()
    changed[:, 75 * SAMPLES :] = 0
    difference = (reader(audio) - reader(changed)).abs().amax((0, 2))
    assert difference[: 75 - MARGIN].max() < 1e-5 < difference[75:].min()


def test_a_sound_takes_the_place_of_phonemes_in_the_first_row_alone(reader: SoundReader) -> None:
    encoder = TextEncoder(12, 1, 93)
    said = Transcript((TimedPhoneme("m", 0.1, 0.4),))
    both = [text_tokens(t, "happy", 0, 1) for t in (said, None)]
    stacked = type(both[0])(
        *(torch.cat([getattr(t, n) for t in both]) for n in ("ids", "start", "end", "caption"))
    )
    text = encoder(stacked)
    read = HeardSound(reader, sound(1)).under(text, 0)
    assert read.tokens.shape == text.tokens.shape and read.valid.shape == text.valid.shape
    caption = text.tokens.shape[2] - MAX_PHONEMES
    assert torch.equal(read.tokens[:, :, :caption], text.tokens[:, :, :caption])
    assert read.valid[0, 0, caption:].all() and not read.valid[1, 0, caption:].any()
    start = torch.arange(FRAMES_PER_CHUNK) / 25
    aligned = read.aligned(start, start + 0.04)
    assert torch.allclose(aligned[0, 0], read.phonemes[0, 0, AROUND:-AROUND], atol=1e-4)
    assert not aligned[1].any()


def test_a_checkpoint_without_a_reader_still_streams(lively_generator, tmp_path: Path) -> None:
    system = replace(
        lively_generator.system,
        sound_reader=None,
        config=replace(lively_generator.config, sound_reader=None),
    )
    save_checkpoint(system, tmp_path, {})
    assert load_checkpoint(tmp_path).sound_reader is None
    generator = StreamingGenerator.from_pretrained(tmp_path, device="cpu")
    driven = GenerationRequest(portraits.portrait(), audio=sound(1), steps=1, size=128)
    state = generator.start(driven)
    assert state.heard is None and len(list(generator.stream(state=state))) == 2


def test_a_transformer_that_reads_no_phonemes_has_no_reader() -> None:
    with pytest.raises(ValueError, match="does not read"):
        replace(preset("wan_smoke"), sound_reader=SoundReaderConfig())


@pytest.mark.slow
def test_the_sound_alone_decides_and_the_transcript_where_there_is_one(lively_generator) -> None:
    def film(**changes: object) -> np.ndarray:
        request = GenerationRequest(
            portraits.portrait(), audio=sound(1.28), steps=1, size=128, framing="face"
        )
        chunks = lively_generator.stream(replace(request, **changes))
        return np.concatenate([chunk.frames for chunk in chunks])

    heard = film()
    assert np.array_equal(heard, film())
    assert not np.array_equal(heard, film(audio=sound(1.28, seed=1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lively_generator, "_listen", lambda _: None)
        deaf = film()
    assert not np.array_equal(heard, deaf), "by what the reader says, not by the latents alone"
    said = Transcript((TimedPhoneme("m", 0, 1.2),))
    assert lively_generator._listen(replace(HELLO, transcript=said)) is None
    assert not np.array_equal(heard, film(transcript=said))


@pytest.mark.slow
@pytest.mark.parametrize("steps", [2, 12])
def test_driven_streams_are_batched_with_others(lively_generator, steps: int) -> None:
    from mutual_forcing.batching import StreamBatch

    picture = portraits.portrait()
    asked = [
        GenerationRequest(picture, audio=sound(1.28), steps=steps, size=128),
        GenerationRequest(picture, "Hello.", steps=steps, size=128, seconds=1.28),
    ]
    alone = [list(lively_generator.stream(request)) for request in asked]
    states = [lively_generator.start(request) for request in asked]
    batch, together = StreamBatch(lively_generator), ([], [])
    for state in states:
        batch.add(state)
    while len(batch):
        for state, chunk in batch.advance():
            together[states.index(state)].append(chunk)
    for one, other in zip(alone, together, strict=True):
        assert_same(other, one, exactly=False)


def test_surroundings_leave_speech_in_its_place() -> None:
    rng = np.random.default_rng(0)
    speech = sound(2) * (np.arange(2 * SAMPLE_RATE) > SAMPLE_RATE)
    every = Surroundings(room=1, noise=1, music=1, hum=1, filtered=1)
    for settings in (every, Surroundings(0, 0, 0, 0, 0)):
        for _ in range(5):
            heard = surround(speech, sound(2, 1), settings, rng)
            assert heard.shape == speech.shape and heard.dtype == np.float32
            assert np.isfinite(heard).all() and np.abs(heard).max() <= 1
            halves = np.square(heard.reshape(2, -1)).mean(1)
            assert halves[1] > 1.2 * halves[0], "the speech stands out"
    for _ in range(8):
        assert np.abs(nobody(SAMPLES_PER_CHUNK, rng)).max() <= 1
    faster = played_faster(np.sin(np.arange(SAMPLE_RATE) / 10).astype(np.float32), 1.1)
    crossings = (np.diff(np.sign(faster)) != 0).sum() / len(faster)
    assert crossings == pytest.approx(1.1 / 10 / np.pi, rel=0.01)


def test_the_stage_hears_the_corpus_and_its_silence(trained: Workspace) -> None:
    plan = trained.plan("sound_reader")
    objective = plan.objective.build(trained, plan)
    one, same, other = (objective.batch(step) for step in (3, 3, 4))
    assert torch.equal(one.audio, same.audio) and not torch.equal(one.audio, other.audio)
    around = MARGIN * SAMPLES
    assert one.audio.shape == (plan.batch, CHUNKS * SAMPLES_PER_CHUNK + 2 * around)
    clip = objective.clips[0]
    audio, transcript = objective._cut(clip.read_file(), clip, 1.0, SAMPLE_RATE)
    assert np.array_equal(audio[around:][:1000], clip.read_file()[SAMPLE_RATE:][:1000])
    said = {round(p.start + 1, 4): p for p in transcript.phonemes}
    for phoneme in clip.transcript.phonemes[1:-1]:
        found = said[round(phoneme.start, 4)]
        assert found.phoneme == phoneme.phoneme
        assert found.end + 1 == pytest.approx(phoneme.end)
    for a, b in itertools.pairwise(transcript.phonemes):
        assert a.end == pytest.approx(b.start)
    pauses = [p.end - p.start for p in transcript.phonemes if is_pause(p.phoneme)]
    longest = max(p.end - p.start for p in clip.transcript.phonemes) + 1.1
    assert max(pauses) < max(longest, 2.1), "no silence is longer than the transformer knows"


def test_a_reader_goes_with_the_model_that_it_learnt_from(trained: Workspace) -> None:
    assert trained.system("mutual_forcing").sound_reader is not None
    joint = trained.system("joint")
    assert joint.sound_reader is None and joint.config.sound_reader is None


def test_an_imported_reader_ends_with_its_model(trained: Workspace, tmp_path: Path) -> None:
    export(trained, tmp_path / "checkpoint")
    run = Workspace(tmp_path / "run", "smoke", torch.device("cpu"))
    import_checkpoint(tmp_path / "checkpoint", run)
    assert run.reads("joint") and not run.complete("sound_reader")
    for name in ("corpus", "latents"):
        (run.root / name).symlink_to(trained.root / name)
    run.train("mutual_forcing")
    assert run.reads("joint") and run.system("mutual_forcing").sound_reader is None
    run.train("sound_reader")
    assert run.complete("sound_reader") and run.system("mutual_forcing").sound_reader is not None
    assert not run.reads("joint")


@pytest.mark.parametrize("settings", [{"width": 0}, {"mel_bins": 19.5}, {"depth": 3}, False, []])
def test_strange_readers_are_refused(settings: object) -> None:
    values = preset("smoke").to_dict() | {"sound_reader": settings}
    with pytest.raises(ValueError, match=r"sound reader|does not fit"):
        SystemConfig.from_dict(values)


@pytest.fixture(scope="module")
def clip(corpus_folder: Path) -> Clip:
    """The longest one."""
    return max(Corpus(corpus_folder).clips, key=lambda clip: clip.frames)


def test_lips_follow_driving_sound(clip: Clip, served_generator: StreamingGenerator) -> None:
    request = GenerationRequest(clip.read_frames(0, 1)[0], audio=clip.read_audio(), steps=2)
    frames = np.concatenate([chunk.frames for chunk in served_generator.stream(request)])
    read = mouth.read_openness(mouth.load_reader(), frames)
    wanted = np.asarray(clip.row["viseme_openness"])
    correlation, _, _ = mouth.sync(read[: len(wanted)], wanted)
    assert correlation > 0.7
