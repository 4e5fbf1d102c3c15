"""Films of one's own become a corpus: what is cut, what is left out and why; a checkpoint goes on with it."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path

import av
import numpy as np
import pytest
import torch

pytest.importorskip("scenedetect", reason="pip install -r training/requirements.txt")

from portraits import cut_off, landscape, two

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.audio import loudness, resample
from mutual_forcing.checkpoint import save_checkpoint
from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.faces import crop_of, find_faces
from mutual_forcing.media import write_mp4
from mutual_forcing.motion import MOTION
from mutual_forcing.text.inventory import is_pause
from training.data.clips import OwnClipOptions, make_corpus, split_of
from training.data.corpus_writer import write_film
from training.data.dataset import Corpus
from training.data.face_tracks import FaceWatch, steady_crop
from training.data.film_cutter import pieces
from training.data.film_words import (
    FilmWords,
    Saying,
    _of_align,
    _of_subtitles,
    _readings,
    align,
    read_transcript,
)
from training.data.film_workers import DIED, _serve, run_apart
from training.data.free_motion import with_free
from training.data.own_films import FilmError, read_pictures, read_sound
from training.data.voice_activity import RATE, WINDOW, speech_windows
from training.finetune import finetune, lengths_of
from training.stages import Workspace

ROOT = Path(__file__).parents[1]
GRID = ROOT.parent / "shared" / "clips" / "grid_s1"
TEXT = "Please bring her five thick slabs of blue cheese, and maybe a snack."
"""What the face of the film says."""
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def talk(served_generator: StreamingGenerator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of two shots: a face that speaks, then a landscape."""
    folder = tmp_path_factory.mktemp("film")
    request = GenerationRequest(landscape(), TEXT, size=360, seed=3)
    spoken = [(chunk.frames, chunk.sound) for chunk in served_generator.stream(request)]
    write_mp4(folder / "spoken.mp4", spoken)
    face = np.stack([picture for _, picture in read_pictures(folder / "spoken.mp4", 60)])
    height, width = face.shape[1:3]
    hills = np.linspace((120, 160, 230), (40, 90, 30), height)[:, None].repeat(width, 1)
    noise = np.random.default_rng(0).normal(0, 6, (75, height, width, 1))
    sound = np.concatenate([sound for _, sound in spoken])
    sound = np.pad(sound, (0, len(face) * SAMPLE_RATE // 25 + 3 * SAMPLE_RATE - len(sound)))
    film = np.concatenate([face, (hills + noise).clip(0, 255).astype(np.uint8)])
    write_film(folder / "talk.mp4", film, sound)
    return folder / "talk.mp4"


def _copy(talk: Path, folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(talk.read_bytes())
    return folder


def _left(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "left_out.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def made(talk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of four copies of the film, the words of one of them given, and of hostile files."""
    root = tmp_path_factory.mktemp("own")
    source = _copy(talk, root / "in", "a.mp4", "ann/b.mp4", "c;$(touch x)\n..%2f.mp4")
    (source / "a.txt").write_text(TEXT)
    _hostile(source, talk)
    make_corpus(OwnClipOptions(heldout=0.3), source, root / "out", workers=2)
    return root / "out"


def _hostile(source: Path, talk: Path) -> None:
    (source / "broken.mkv").write_bytes(np.random.default_rng(1).bytes(20_000))
    (source / "cut.mp4").write_bytes(talk.read_bytes()[:3000])
    (source / "empty.mov").touch()
    (source / "text.mp4").write_text("I am no film.\n" * 100)
    (source / "list.webm").write_text(f"#EXTM3U\n#EXTINF:4,\nfile://{talk}\n#EXT-X-ENDLIST\n")
    (source / "link.mp4").symlink_to(talk)
    (source / "dangling.mp4").symlink_to(source / "nowhere.mp4")
    os.mkfifo(source / "pipe.mp4")
    _film(source / "silent.mp4", pictures=[0, 1, 2], sound=None)
    _film(source / "dark.mp4", pictures=[], sound=np.zeros(SAMPLE_RATE))
    _film(source / "mute.mp4", pictures=range(100), sound=np.zeros(4 * SAMPLE_RATE))
    _film(source / "long.mkv", pictures=[0, 25 * 36_000], sound=np.zeros(SAMPLE_RATE))
    _film(source / "words.mp4", pictures=range(100), sound=np.zeros(4 * SAMPLE_RATE))
    (source / "words.srt").write_bytes(b"\xff\xfe\x00\x01" * 9)


def _film(path: Path, pictures, sound: np.ndarray | None) -> None:
    """Grey pictures at these twenty-fifths of a second, and a sound."""
    with av.open(str(path), "w") as container:
        if pictures:
            video = container.add_stream("libx264", rate=25)
            video.width = video.height = 64
        if sound is not None:
            track = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
            block = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), "fltp", "mono")
            block.sample_rate, block.pts = SAMPLE_RATE, 0
            container.mux([*track.encode(block), *track.encode(None)])
        for pts in pictures:
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
            frame.pts = pts
            container.mux(video.encode(frame))
        if pictures:
            container.mux(video.encode(None))


REASONS = {
    "broken.mkv": "cannot be read as a film",
    "cut.mp4": "cannot be read as a film",
    "empty.mov": "is empty",
    "text.mp4": "cannot be read as a film",
    "list.webm": "cannot be read as a film",
    "link.mp4": "leads out of the folder",
    "dangling.mp4": "cannot be opened",
    "pipe.mp4": "no regular file",
    "silent.mp4": "has no sound",
    "dark.mp4": "has no pictures",
    "mute.mp4": "Nobody speaks",
    "long.mkv": "10.0 hours",
    "words.mp4": "cannot be read as text",
}


def test_hostile_files_are_named_with_the_reason(made: Path) -> None:
    said = {line["film"]: line["reason"] for line in _left(made)}
    for name, reason in REASONS.items():
        assert reason in said[name], (name, said[name])
    assert not (made.parent / "x").exists() and not Path("x").exists()


def test_the_shot_with_a_face_becomes_clips_and_the_other_is_left_out(made: Path) -> None:
    corpus, left = Corpus(made), _left(made)
    films = {clip.row["film"] for clip in corpus.clips}
    assert films == {"a.mp4", "ann/b.mp4", "c;$(touch x)\n..%2f.mp4"}
    for name in films:
        (shot,) = (line for line in left if line["film"] == name)
        assert shot["reason"] == "No face is seen."
        ends = [c.row["start"] + c.row["seconds"] for c in corpus.clips if c.row["film"] == name]
        assert abs(shot["end"] - shot["start"] - 3) <= 0.1 and max(ends) <= shot["start"] + 0.05


def test_the_clips_are_a_corpus(made: Path) -> None:
    corpus = Corpus(made)
    assert {c.row["split"] for c in corpus.clips} == {"train", "development", "test"}
    for clip in corpus.clips:
        assert clip.filmed and clip.frames == 16 * clip.chunks >= 64
        assert clip.path.is_relative_to(made)
        frames = clip.read_frames(0, clip.frames)
        assert frames.shape == (clip.frames, 256, 256, 3)
        assert abs(loudness(clip.read_audio()) + 22) < 1
        motion = clip.read_motion()["motion"]
        assert motion.shape == (clip.frames, len(MOTION))
        phonemes = clip.transcript.phonemes
        assert phonemes[0].start == 0 and abs(phonemes[-1].end - clip.row["seconds"]) < 1e-3
        assert all(a.end == pytest.approx(b.start) for a, b in zip(phonemes, phonemes[1:]))  # noqa: B905, RUF007
        # The mouth is where faces.crop_of puts it, and the encoder reads how it opens.
        assert np.abs(clip.mouth_boxes[:, :2].mean(0) - (0.5, 0.65)).max() < 0.06
        jaw = motion[:, MOTION.index("jawOpen")]
        assert np.corrcoef(jaw, clip.row["mouth_openness"])[0, 1] > 0.6


def test_given_words_are_aligned_and_others_heard(made: Path) -> None:
    rows = {clip.row["film"]: clip.row for clip in Corpus(made).clips}
    given, heard = rows["a.mp4"], rows["ann/b.mp4"]
    assert given["text_from"] == "transcript" and heard["text_from"] == "heard"
    assert {"five", "cheese"} & {word for word, *_ in given["words"]}
    spoken = [sum(not is_pause(p) for p, *_ in row["phonemes"]) for row in (given, heard)]
    assert min(spoken) > 10


def test_a_killed_run_goes_on_to_the_same_manifest(made: Path, tmp_path: Path) -> None:
    """Its folder moves nothing: what is killed writes to another one than `made`."""
    source, out = made.parent / "in", tmp_path / "out"
    command = [sys.executable, "-m", "training.data.clips", str(source), str(out)]
    command += ["--heldout", "0.3", "--workers", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    ready = out / "parts"
    while process.poll() is None and not any(
        json.loads(part.read_text())["rows"] for part in ready.glob("*.json")
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.jsonl").exists()
    make_corpus(OwnClipOptions(heldout=0.3), source, out, workers=2)
    for name in ("manifest.jsonl", "left_out.jsonl"):
        assert (out / name).read_text() == (made / name).read_text()
    before = {path: path.stat().st_mtime_ns for path in (out / "clips").rglob("*")}
    make_corpus(OwnClipOptions(heldout=0.3), source, out, workers=1)
    assert before == {path: path.stat().st_mtime_ns for path in (out / "clips").rglob("*")}
    with pytest.raises(ValueError, match="other options"):
        make_corpus(OwnClipOptions(heldout=0.2), source, out, workers=1)


def test_a_checkpoint_goes_on_with_the_clips(made: Path, tmp_path: Path) -> None:
    system = StreamingGenerator.random("smoke").system
    record = {"preset": "smoke", "model_stage": "mutual_forcing", "stages": {}}
    save_checkpoint(system, tmp_path / "before", record)
    workspace = Workspace(tmp_path / "run", "smoke", CPU)
    figures = finetune(tmp_path / "before", made, workspace, tmp_path / "after", steps=2)
    assert set(figures["before"]) == set(figures["after"]) == {"train", "development", "test"}
    assert figures["before"] != figures["after"]
    tuned = StreamingGenerator.from_pretrained(tmp_path / "after", device="cpu")
    chunk = next(iter(tuned.stream(GenerationRequest(landscape(), "Hello.", size=128))))
    assert chunk.frames.shape[0] == 16
    before, after = (s.model.state_dict() for s in (system, tuned.system))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    card = (tmp_path / "after" / "README.md").read_text()
    assert "clips of its maker's own" in card and "no recordings" not in card
    manifest = made / "manifest.jsonl"
    kept = manifest.read_text()
    manifest.write_text(kept + kept.splitlines()[0] + "\n")
    try:
        with pytest.raises(ValueError, match="corpus has changed"):
            finetune(tmp_path / "before", made, workspace, tmp_path / "after", steps=2)
    finally:
        manifest.write_text(kept)


def _runs(pictures: list[np.ndarray], size: int = 256) -> list[tuple[int, int, str]]:
    watch = FaceWatch(1.0, size)
    for picture in pictures:
        watch.see(picture)
    return [(run.first, run.end, run.fault) for run in watch.runs()]


@pytest.mark.slow
def test_faces_that_cannot_be_followed_are_told_why() -> None:
    assert _runs([two()] * 6) == [(0, 6, "Another face is as large.")]
    ((_, _, small),) = _runs([landscape()] * 6, size=1024)
    assert "too small" in small
    ((_, _, cut),) = _runs([cut_off()] * 6)
    assert "cut off" in cut
    still, lost = landscape(), np.full_like(landscape(), 120)
    # A glimpse of nothing is bridged, a face that comes elsewhere is another.
    assert _runs([*[still] * 8, *[lost] * 2, *[still] * 8])[-1][2] == ""
    moved = np.roll(still, 250, 1)
    runs = _runs([*[still] * 20, *[moved] * 20])
    assert next(run for run in runs if not run[2])[1] in range(19, 24)
    assert runs[-1][2] == "" and runs[-1][1] == 40 and len(runs) >= 2


@pytest.mark.slow
def test_a_steady_crop_is_the_apps_and_refuses_a_face_that_wanders() -> None:
    watch = FaceWatch(1.0, 256)
    pictures = [np.roll(landscape(), 6 * n, 1) for n in range(26)]
    for picture in pictures:
        watch.see(picture)
    (run,) = watch.runs()
    still = crop_of(find_faces(landscape())[0])
    crop = steady_crop(run.looks[:2], 2.0)
    assert abs(crop.side / 2 - still.side) < 3 and abs(crop.x / 2 - still.x) < 6
    with pytest.raises(ValueError, match="moves too far"):
        steady_crop([run.looks[0], *run.looks[-9:]], 1.0)


def test_pictures_of_telephones_come_upright(tmp_path: Path) -> None:
    """The header asks for a quarter turn clockwise: what was left is above then."""
    frames = np.full((5, 64, 96, 3), (0, 0, 255), np.uint8)
    frames[:, :, :48] = (255, 0, 0)
    write_film(tmp_path / "film.mp4", frames, np.zeros(5 * 960))
    one, turned = 1 << 16, bytearray((tmp_path / "film.mp4").read_bytes())
    straight = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    at = turned.index(straight, turned.index(b"tkhd"))
    turned[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(turned)
    numbers, pictures = zip(*read_pictures(tmp_path / "turned.mp4", 10), strict=True)
    assert numbers == tuple(range(5)) and pictures[0].shape == (96, 64, 3)
    assert pictures[0][:40, :, 0].min() > 240 and pictures[0][56:, :, 2].min() > 240


def _crashes(job: int, tell: Callable[[float], None]) -> None:
    tell(job)
    if job == 2:
        os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.slow
def test_a_decoder_that_breaks_its_process_is_outlived() -> None:
    said = list(run_apart(_crashes, [1, 2, 3], workers=1))
    assert said == [(1, 1.0), (1, None), (2, 2.0), (2, DIED), (3, 3.0), (3, None)]


def test_nothing_is_written_for_a_run_that_has_ended() -> None:
    ours, theirs = Pipe()
    ours.send("film")
    ours.close()
    written: list[str] = []

    def task(job: str, tell: Callable[[float], None]) -> None:
        try:
            tell(1.0)
        except Exception:
            written.append("left out")
        written.append(job)

    before = signal.getsignal(signal.SIGINT)
    try:
        _serve(task, theirs)
    finally:
        signal.signal(signal.SIGINT, before)
    assert written == []


@pytest.mark.slow
def test_loops_of_links_are_left_out_and_dead_processes_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    (films / "loop.mp4").symlink_to("loop.mp4")
    (films / "text.mp4").write_text("no film")

    def told(options: OwnClipOptions) -> dict[str, str]:
        with pytest.raises(ValueError, match="No clip could be made"):
            make_corpus(options, films, out, 1)
        lines = (out / "left_out.jsonl").read_text().splitlines()
        return {line["film"]: line["reason"] for line in map(json.loads, lines)}

    assert told(OwnClipOptions())["loop.mp4"] == "It cannot be opened."
    (part,) = (p for p in (out / "parts").glob("*.json") if "text.mp4" in p.read_text())
    before = part.stat().st_mtime_ns
    told(OwnClipOptions())
    assert part.stat().st_mtime_ns == before, "what a film says of itself is kept"
    told(OwnClipOptions(hours=1.0))
    assert part.stat().st_mtime_ns > before, "films that were too long may not be so now"
    part.write_text(json.dumps({**json.loads(part.read_text()), "again": True}))
    assert "again" in part.read_text()
    told(OwnClipOptions(hours=1.0))
    assert not json.loads(part.read_text())["again"]


def test_long_texts_are_read_whole_and_numbers_keep_their_points() -> None:
    words = [word.text for word in _readings("hello there my friend " * 300)]
    assert len(words) == 1200
    said = " ".join(word.text for word in _readings("It costs 3.5 dollars. See example.com now."))
    assert "point" in said and "dot" in said, said


def test_subtitles_need_no_empty_lines_between_them() -> None:
    times = "00:00:0{}.000 --> 00:00:0{}.500"
    text = f"1\n{times.format(1, 2)}\nHello you\n2\n{times.format(3, 4)}\nGood day\nagain\n"
    assert [(s.text, s.start) for s in _of_subtitles(text)] == [
        ("Hello you", 1.0), ("Good day again", 3.0)
    ]  # fmt: skip
    with pytest.raises(ValueError, match="end after it begins"):
        _of_align("0 1000 sil\n3000 2000 bin")


def test_new_speakers_move_nobody_to_another_split() -> None:
    few, many = ({f"s{n}" for n in range(count)} for count in (40, 80))
    before, after = (split_of(names, 0.2, 0) for names in (few, many))
    assert before == {name: after[name] for name in few}
    films = [f"film{n}.mp4" for n in range(12)]
    found: dict[str, str] = {}
    for count in range(1, 13):
        now = split_of(set(films[:count]), 0.1, 0, found)
        assert found.items() <= now.items() and "train" in now.values()
        found = now
    assert set(found.values()) == {"train", "development", "test"}
    assert set(before.values()) == {"train", "development", "test"}
    assert list(split_of({"a", "b", "c"}, 0.1, 0).values()).count("train") == 1
    assert set(split_of({"a", "b"}, 0.1, 0).values()) == {"train"}


def test_long_shots_are_parted_where_it_is_quiet() -> None:
    frames = 1003
    sound = np.full(frames * 960, 8000, np.int16)
    quiet = 7 + 16 * 19
    sound[(quiet - 3) * 960 : (quiet + 3) * 960] = 0
    sound[: 7 * 960] = 0  # what is spare is taken from where nothing is heard
    found = pieces(sound, 0, frames)
    assert found[0] == (7, 19) and found[1][0] == quiet
    assert all(4 <= count <= 23 for _, count in found)
    assert sum(count for _, count in found) == frames // 16


def test_subtitles_tell_when_words_are_said(tmp_path: Path) -> None:
    (tmp_path / "film.srt").write_text(
        "1\r\n00:00:01,500 --> 00:00:03,250\r\n<i>Hello there,</i>\r\n- General!\r\n\r\n"
        "2\r\n00:01:00,000 --> 00:01:01,000\r\n[music]\r\n"
    )
    film = tmp_path / "film.mp4"
    assert read_transcript(film) == [Saying("Hello there,  General!", 1.5, 3.25)]
    (tmp_path / "film.srt").unlink()
    (tmp_path / "film.vtt").write_text("WEBVTT\n\n01:01.5 --> 01:03.0\nBye.\n")
    assert read_transcript(film) == [Saying("Bye.", 61.5, 63.0)]
    (tmp_path / "film.vtt").write_text("WEBVTT\n")
    with pytest.raises(FilmError, match="no words"):
        read_transcript(film)


@pytest.fixture(scope="module")
def speech() -> tuple[np.ndarray, list]:
    """Kokoro's voice at 16 kHz, and when it says which word."""
    from training.data.voices import Voice, say, speakers

    voice: Voice = speakers("en", "train")[0]
    said = say(TEXT, voice, np.random.default_rng(0))
    return resample(said.audio, SAMPLE_RATE, RATE), list(said.words)


@pytest.mark.slow
def test_words_are_found_where_they_are_said(speech: tuple[np.ndarray, list]) -> None:
    sound, truth = speech
    found = align(sound, [Saying(TEXT)])
    assert [w.word for w in found.words] == [w.word for w in truth]
    off = [abs(a.start - b.start) for a, b in zip(found.words, truth, strict=True)]
    assert np.median(off) < 0.07 and max(off) < 0.2
    windows = speech_windows(sound)
    middle = [windows[round((w.start + w.end) / 2 * RATE / WINDOW)] for w in truth]
    assert np.mean(middle) > 0.9 and not speech_windows(np.zeros(RATE, np.float32)).any()


@pytest.mark.slow
def test_words_that_nobody_says_are_noticed(speech: tuple[np.ndarray, list]) -> None:
    sound, _ = speech
    wrong = Saying(" ".join([TEXT] * 4))
    with pytest.raises(FilmError, match="not what is heard"):
        align(sound, [wrong])
    found: FilmWords = align(sound, [Saying(wrong.text, 1.0, 2.0)])
    assert found.doubted(1.5, 3.0) and not found.doubted(2.5, 4.0)


def test_free_numbers_that_were_read_are_those_of_the_latents() -> None:
    motion = np.random.default_rng(0).normal(size=(5, len(MOTION))).astype(np.float32)
    free = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    found = with_free({"motion": motion, "free": free}, 8)
    assert np.array_equal(found[:, 20:23], free) and not found[:, 23:28].any()
    assert np.array_equal(with_free({"motion": motion, "free": free}, 2)[:, 20:22], free[:, :2])


def test_lengths_are_those_that_the_clips_have(made: Path) -> None:
    clips = Corpus(made).clips
    assert 4 in lengths_of(clips) and max(lengths_of(clips)) <= max(c.chunks for c in clips)


@pytest.mark.skipif(not GRID.is_dir(), reason="real clips lie beside the checkout on some machines")
def test_words_of_a_real_film_are_found() -> None:
    film = GRID / "bbif1a.mpg"
    sound = resample(read_sound(film, 60) / np.float32(2**15), SAMPLE_RATE, RATE)
    truth = read_transcript(film)
    assert truth is not None
    found = align(sound, [Saying(" ".join(word.text for word in truth))])
    off = [abs(a.start - b.start) for a, b in zip(found.words, truth, strict=True)]
    assert max(off) < 0.06
