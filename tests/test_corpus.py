"""Voices, motion and the synthesis of a corpus."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from mutual_forcing.blinks import SHORTEST_GAP, find_blinks
from mutual_forcing.chunks import SAMPLES_PER_CHUNK
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.types import TimedPhoneme, TimedWord

pytest.importorskip("moderngl", reason="pip install -r training/requirements.txt")
pytest.importorskip("onnxruntime", reason="pip install -r training/requirements.txt")

from training.data.clip_maker import MOTION_STREAM, Spoken, _silence, spoken_before
from training.data.corpus_writer import write_sound
from training.data.dataset import Corpus
from training.data.head_model import UNIT_NAMES
from training.data.sentences import SentenceMaker
from training.data.speech_motion import animate
from training.data.synthesize import (
    CorpusOptions,
    make_identities,
    single_threaded,
    synthesize,
    write_manifest,
)
from training.recipes import SCALES


def test_lips_close_for_bilabials_and_open_for_vowels() -> None:
    phonemes = [TimedPhoneme(p, 0.2 * k, 0.2 * (k + 1)) for k, p in enumerate("_ɑmɑbu_")]
    motion = animate(phonemes, 35, "happy", True, np.random.default_rng(0))
    openness = motion.viseme_openness
    frame = {k: int((0.2 * k + 0.1) * 25) for k in range(7)}
    assert min(openness[frame[1]], openness[frame[3]]) > 0.5
    assert max(openness[frame[2]], openness[frame[4]]) < 0.01
    assert openness[0] < 0.06  # the pause, well before the lips get ready for the vowel
    units = motion.performance.units
    assert units.shape == (35, 52) and units.min() >= 0 and units.max() <= 1
    pucker = units[:, UNIT_NAMES.index("mouthPucker")]
    assert pucker[frame[5]] > 0.4 > pucker[frame[1]]


@pytest.mark.slow
def test_clips_blink_as_people_do_in_every_second() -> None:
    """A clip is a window into blinking that never stops: no second of it has a rate of its own."""
    seconds, clips = 4, 500
    column = UNIT_NAMES.index("eyeBlinkLeft")
    starts, gaps = [], []
    for number in range(clips):
        rng = np.random.default_rng([11, number])
        motion = animate([TimedPhoneme("_", 0, seconds)], seconds * 25, "neutral", False, rng)
        track = motion.performance.units[:, column]
        blinks = find_blinks(track)
        # One that is under way when the clip begins or ends is not seen whole.
        whole = [b for b in blinks if 3 <= b.first < seconds * 25 - 10]
        starts += [b.first / 25 for b in blinks if b.first > 0]
        gaps += list(np.diff([b.first for b in blinks if b.first > 0]) / 25)
        for blink in whole:
            assert blink.peak == 1 and 3 <= blink.frames <= 6
            lid = track[blink.first - 3 : blink.first + 10]
            shut = np.flatnonzero(lid == 1)
            falling, rising = (lid[: shut[0]] > 0.02).sum(), (lid[shut[-1] + 1 :] > 0.02).sum()
            assert falling <= 3 and falling <= rising + 1
    rates = np.histogram(starts, seconds, (0, seconds))[0] * 60 / clips
    assert np.all((rates > 13) & (rates < 22)), rates
    assert 15 < rates.mean() < 20
    assert min(gaps) >= SHORTEST_GAP - 0.08


def test_unknown_emotion_is_refused() -> None:
    with pytest.raises(ValueError, match="Unknown emotion"):
        animate([TimedPhoneme("_", 0, 1)], 25, "bored", False, np.random.default_rng(0))


@pytest.mark.parametrize(
    "change",
    [
        {"hours": 0},
        {"seed": -1},
        {"size": 65},
        {"heldout": 1.5},
        {"clips_per_identity": 0},
        {"filmed": -0.1},
    ],
)
def test_senseless_options_are_refused(change: dict) -> None:
    good = {"hours": 1, "seed": 0, "size": 64, "heldout": 0.1, "clips_per_identity": 3}
    with pytest.raises(ValueError, match=r"\.$"):
        CorpusOptions(**{**good, **change})


def test_worker_settings_do_not_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    with single_threaded():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in os.environ and os.environ["OPENBLAS_NUM_THREADS"] == "3"


def test_corpus_says_where_it_comes_from(corpus_folder: Path) -> None:
    origin = json.loads((corpus_folder / "corpus.json").read_text(encoding="utf-8"))
    assert len(origin["options_hash"]) == 12 and "gruut" in origin["versions"]
    assert origin["statistics"]["clips"] == 4
    maker = SentenceMaker(origin["options"]["seed"])
    for line in (corpus_folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        assert row["emotion"] in row["caption"] and row["language"] == "en"
        words = {word.lower() for word, *_ in row["words"]}
        assert bool(words & maker.heldout_words) == (row["split"] != "train")


@pytest.mark.slow
def test_most_of_a_corpus_needs_no_pictures(tmp_path: Path) -> None:
    """Sound, words and motion of all; pictures of what is held out. A share speaks Japanese."""
    options = CorpusOptions(0.001, 6, 64, heldout=0.5, clips_per_identity=1, japanese=0.4, filmed=0)
    (tmp_path / "parts").mkdir()
    # By a worker, as always: what breaks in its drivers ends its process and no other.
    assert sorted(make_identities(options, (1, 2), tmp_path, 1)) == [1, 2]
    write_manifest(tmp_path)
    film, speech = Corpus(tmp_path).clips
    assert film.filmed and not speech.filmed and speech.path.suffix == ".flac"
    assert Corpus(tmp_path).films("test") == [film] and not Corpus(tmp_path).films("train")
    assert film.language == "en" and speech.language == "ja" and speech.row["split"] == "train"
    assert {name: part.shape for name, part in speech.read_motion().items()} == {
        "motion": (speech.frames, 28),
        "units": (speech.frames, 52),
    }
    assert len(speech.read_audio()) == speech.frames * SAMPLE_RATE // 25
    assert speech.transcript.phonemes[-1].end == pytest.approx(speech.row["seconds"])
    assert speech.transcript.words and np.abs(speech.read_audio()).max() > 0.1


def test_an_interrupted_corpus_goes_on(corpus_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    shutil.copytree(corpus_folder, folder)
    (folder / "parts" / "000001.json").unlink()
    for name in ("000002", "000003"):
        (folder / "clips" / "00000" / f"{name}.mp4").unlink()
    options = CorpusOptions(**json.loads((folder / "corpus.json").read_text())["options"])
    kept = (folder / "clips" / "00000" / "000000.mp4").stat().st_mtime_ns
    synthesize(options, folder, 1)
    assert (folder / "clips" / "00000" / "000000.mp4").stat().st_mtime_ns == kept
    for path in corpus_folder.rglob("*.mp4"):
        assert (folder / path.relative_to(corpus_folder)).read_bytes() == path.read_bytes()
    manifest = "manifest.jsonl"
    assert (folder / manifest).read_bytes() == (corpus_folder / manifest).read_bytes()


@pytest.mark.slow
def test_motion_of_an_older_recipe_is_made_anew_and_sound_is_kept(
    corpus_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "corpus"
    shutil.copytree(corpus_folder, folder)
    part = folder / "parts" / "000000.json"
    rows = json.loads(part.read_text(encoding="utf-8"))
    for row in rows:
        del row["motion_version"]
        row["emotion"] = "old"
    part.write_text(json.dumps(rows), encoding="utf-8")
    options = CorpusOptions(**json.loads((folder / "corpus.json").read_text())["options"])
    assert list(make_identities(options, [0], folder, 1)) == [0]
    write_manifest(folder)
    for made, first in zip(Corpus(folder).clips, Corpus(corpus_folder).clips, strict=True):
        assert made.row["emotion"] == first.row["emotion"] and made.frames == first.frames
        assert made.row["silent_chunks"] == first.row["silent_chunks"]
        assert np.abs(made.read_audio() - first.read_audio()).max() < 1e-4
        moved, wanted = made.read_motion()["motion"], first.read_motion()["motion"]
        assert np.abs(moved - wanted).max() < 0.02, (
            "times and sound are rounded where they are kept"
        )
        for old, new in zip(first.row["phonemes"], made.row["phonemes"], strict=True):
            assert new == [old[0], pytest.approx(old[1], abs=2e-3), pytest.approx(old[2], abs=2e-3)]


def test_a_remake_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    """The file has today's silence, its row yesterday's none: what is said is found where it lies now."""
    number = next(n for n in range(99) if _silence(21, _rng(n))[0] > 0)
    silent, sound = _silence(21, _rng(number)), np.zeros(2 * SAMPLES_PER_CHUNK)
    sound[4800:24_000] = 0.5 * np.sin(np.arange(19_200) / 20)
    phonemes = (
        TimedPhoneme("_", 0, 0.2),
        TimedPhoneme("ɑ", 0.2, 1.0),
        TimedPhoneme("_", 1.0, 1.28),
    )
    spoken = Spoken(sound, phonemes, (TimedWord("a", 0.2, 1.0),), "a")
    row = {
        "index": number, "seed": 4, "path": "a.flac", "frames": 32, "text": "a",
        "phonemes": [[p.phoneme, p.start, p.end] for p in phonemes], "words": [["a", 0.2, 1.0]],
    }  # fmt: skip
    for written in (spoken, spoken.padded(*silent)):
        write_sound(tmp_path / "a.flac", written.audio)
        again = spoken_before(row, tmp_path)
        assert again.chunks == 2 and np.abs(again.audio - sound).max() < 1e-3
        assert [p.phoneme for p in again.phonemes] == ["_", "ɑ", "_"]
        assert again.phonemes[1].end == pytest.approx(1.0, abs=0.03)
    write_sound(tmp_path / "a.flac", spoken.padded(9, 9).audio)
    with pytest.raises(ValueError, match="not as its row has it"):
        spoken_before(row, tmp_path)


def _rng(number: int) -> np.random.Generator:
    return np.random.default_rng([4, MOTION_STREAM, number])


def test_silence_around_what_is_said_can_be_taken_away_again() -> None:
    audio = np.arange(2 * SAMPLES_PER_CHUNK, dtype=np.float64)
    phonemes = (TimedPhoneme("h", 0.1, 0.4), TimedPhoneme("_", 0.4, 1.28))
    spoken = Spoken(audio, phonemes, (TimedWord("a", 0.1, 0.4),), "a")
    longer = spoken.padded(2, 1)
    assert longer.chunks == 5 and not longer.audio[: 2 * SAMPLES_PER_CHUNK].any()
    assert longer.phonemes[0] == TimedPhoneme("_", 0, pytest.approx(1.28))
    assert longer.phonemes[-1].end == pytest.approx(3.2)
    assert longer.words[0].start == pytest.approx(1.38)
    again = longer.padded(-2, -1)
    assert np.array_equal(again.audio, audio) and again.words[0].start == pytest.approx(0.1)
    assert [(p.phoneme, round(p.end, 6)) for p in again.phonemes] == [("h", 0.4), ("_", 1.28)]


def test_preview_shows_and_plays_the_corpus(corpus_folder: Path, tmp_path: Path) -> None:
    import shutil

    from training.data.preview import write_preview

    folder = tmp_path / "corpus"
    shutil.copytree(corpus_folder, folder)
    write_preview(folder)
    assert (folder / "preview.png").stat().st_size > 10_000
    firsts = [clips[0] for clips in Corpus(folder).siblings.values()]
    with av.open(str(folder / "preview.mp4")) as film:
        frames = sum(1 for _ in film.decode(video=0))
    assert frames == sum(clip.frames for clip in firsts)


@pytest.mark.parametrize("scale", ["tiny", "small"])
def test_a_share_of_those_who_train_has_pictures(scale: str) -> None:
    """Whoever looks at training clips finds some: as many as the scale asks for, and all that is held out."""
    plan = SCALES[scale]
    options = CorpusOptions(plan.hours, 0, 64, 0.08, 3, filmed=plan.filmed)
    training = [n for n in range(options.identities) if options.split(n) == "train"]
    drawn = sum(map(options.draws, training))
    assert drawn == pytest.approx(plan.filmed * len(training), abs=2)
    assert all(options.draws(n) for n in range(options.identities) if n not in training)
