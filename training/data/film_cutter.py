"""From one film to clips: what can be used of it, as squares, sound, phonemes and motion.

Two passes over the pictures, each in little memory: the first follows the face and decides, the second cuts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mutual_forcing.audio import resample, to_speech_loudness
from mutual_forcing.canvas import cut_square
from mutual_forcing.checkpoint import load_checkpoint
from mutual_forcing.chunks import CHUNK_SECONDS, FRAMES_PER_CHUNK
from mutual_forcing.codecs.motion_codec import MotionCodec
from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.motion import MOTION, POSE, UNITS
from mutual_forcing.pixels import to_signal
from mutual_forcing.text.inventory import is_pause
from mutual_forcing.types import FaceCrop, Transcript

from .clip_maker import MAX_CHUNKS, MIN_CHUNKS, to_end
from .corpus_writer import write_film, write_motion
from .face_tracks import LOOK_SIDE, FaceWatch, Run, gaps_of, lips_in_crop, steady_crop
from .film_words import FilmWords, align, read_transcript, recognise
from .own_films import FilmError, read_pictures, read_sound
from .speech_motion import viseme_openness
from .voice_activity import RATE, WINDOW, speech_windows

if TYPE_CHECKING:
    from .clips import OwnClipOptions

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
LEAST_SPEECH = 0.64
"""Seconds of speech that a clip must have."""
LEAST_LIPS = 0.012
"""Deviation of the gap between the lips, in distances of the eyes, below which the face is not the one that
speaks. Of the 30 films of a GRID speaker the least is 0.053.
"""
MOST_UNWRITTEN, NEAR_WORDS = 0.3, 0.4
"""Share of a clip's speech that may have no words in its transcript; seconds around the middle of a phoneme
that are its own.
"""
CAPTION = "person, neutral, calm, voice"
OPEN = 0.5
"""Distances of the eyes between the lips of a mouth whose openness is 1."""
_LOUDEST = 0.99


@dataclass(frozen=True)
class LeftOut:
    """A part of a film that becomes no clip: from when to when in seconds, and why, in one sentence."""

    start: float
    end: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """As a line of left_out.jsonl."""
        return asdict(self)


@dataclass(frozen=True)
class _Plan:
    """A clip to be: so many whole chunks of frames from `first` on."""

    first: int
    chunks: int
    crop: FaceCrop
    lips: np.ndarray
    gaps: np.ndarray
    said: Transcript
    text: str
    text_from: str

    @property
    def frames(self) -> range:
        return range(self.first, self.first + self.chunks * FRAMES_PER_CHUNK)


def cut_film(
    path: Path, options: OwnClipOptions, out: Path, folder: str, tell: Callable[[float], None]
) -> Iterator[dict[str, Any] | LeftOut]:
    """Yield what was left out of a film, and the rows of its clips, which are written under out / folder.

    tell: is told how many seconds of the film have been done. Raises FilmError where nothing can be used.
    """
    sayings = read_transcript(path)
    sound = read_sound(path, options.longest)
    heard = resample(_floats(sound), SAMPLE_RATE, RATE)
    speaks = speech_windows(heard)
    if not speaks.any():
        raise FilmError("Nobody speaks in it.")
    tell(0.0)
    words = align(heard, sayings, tell) if sayings else None
    runs, scale = _look(path, options, tell)
    plans: list[_Plan] = []
    for run in runs:
        for made in _plans(run, scale, sound, speaks, words):
            if isinstance(made, LeftOut):
                yield made
            else:
                plans.append(made)
    yield from _write(path, options, plans, sound, out, folder, tell)


def _look(
    path: Path, options: OwnClipOptions, tell: Callable[[float], None]
) -> tuple[list[Run], float]:
    """The runs of a film, and how many of its pixels one of those looked at is."""
    watch, scale = None, 1.0
    for number, picture in read_pictures(path, options.longest):
        if watch is None:
            scale = max(1.0, max(picture.shape[:2]) / LOOK_SIDE)
            watch = FaceWatch(scale, options.size)
        watch.see(_reduced(picture, scale))
        _tell(number, tell)
    assert watch is not None
    return watch.runs(), scale


def _tell(number: int, tell: Callable[[float], None]) -> None:
    """Once a second, that half a second is done: each is gone through twice."""
    if number % FPS == FPS - 1:
        tell(0.5)


def _reduced(picture: np.ndarray, scale: float) -> np.ndarray:
    import cv2

    if scale == 1:
        return picture
    height, width = (round(side / scale) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _plans(
    run: Run, scale: float, sound: np.ndarray, speaks: np.ndarray, words: FilmWords | None
) -> Iterator[_Plan | LeftOut]:
    """The clips of a run, and what is left out of it."""
    end = min(run.end, len(sound) // SAMPLES_PER_FRAME)
    whole = (end - run.first) // FRAMES_PER_CHUNK
    if run.fault or whole < MIN_CHUNKS:
        reason = run.fault or (
            f"It lasts {max(0, end - run.first) / FPS:.2f} s, less than the "
            f"{MIN_CHUNKS * CHUNK_SECONDS:.2f} of a clip."
        )
        yield _left(run.first, run.end, reason)
        return
    for first, chunks in pieces(sound, run.first, end):
        frames = range(first, first + chunks * FRAMES_PER_CHUNK)
        try:
            yield _plan(run, frames, scale, sound, speaks, words)
        except ValueError as error:
            yield _left(frames.start, frames.stop, str(error))


def _left(first: int, end: int, reason: str) -> LeftOut:
    return LeftOut(round(first / FPS, 2), round(end / FPS, 2), reason)


def pieces(sound: np.ndarray, first: int, end: int) -> list[tuple[int, int]]:
    """First frame and chunks of the clips between two frames of a film: whole chunks that miss as little of
    the sound (int16 [N]) as can be, parted where it is most quiet.
    """
    chunks, spare = divmod(end - first, FRAMES_PER_CHUNK)
    energy = np.array(
        [
            np.square(_floats(sound[n * SAMPLES_PER_FRAME : (n + 1) * SAMPLES_PER_FRAME])).mean()
            for n in range(first, end)
        ]
    )
    heard = np.concatenate([[0], np.cumsum(energy)])
    kept = heard[chunks * FRAMES_PER_CHUNK :][: spare + 1] - heard[: spare + 1]
    at = first + int(kept.argmax())
    found = []
    while chunks > MAX_CHUNKS:
        most = min(MAX_CHUNKS, chunks - MIN_CHUNKS)
        counts = np.arange(MAX_CHUNKS // 2, most + 1)
        borders = at - first + counts * FRAMES_PER_CHUNK
        quiet = heard[np.minimum(borders + 2, len(energy))] - heard[borders - 2]
        count = int(counts[quiet.argmin()])
        found.append((at, count))
        at, chunks = at + count * FRAMES_PER_CHUNK, chunks - count
    return [*found, (at, chunks)]


def _plan(
    run: Run,
    frames: range,
    scale: float,
    sound: np.ndarray,
    speaks: np.ndarray,
    words: FilmWords | None,
) -> _Plan:
    """Raises ValueError, in one sentence, for a part of a film that makes no clip."""
    start, end = frames.start / FPS, frames.stop / FPS
    windows = speaks[round(start * RATE / WINDOW) : round(end * RATE / WINDOW)]
    if windows.sum() * WINDOW / RATE < LEAST_SPEECH:
        raise ValueError("Nobody speaks in it.")
    if words is not None and words.doubted(start, end):
        raise ValueError("Its transcript is not what is heard.")
    looks = [look for look in run.looks if frames.start <= look.frame < frames.stop]
    crop = steady_crop(looks, scale)
    gaps = gaps_of(looks, frames)
    if gaps.std() < LEAST_LIPS:
        raise ValueError("The lips hardly move while somebody speaks.")
    if words is None:
        said = recognise(_loud(_floats(_of_frames(sound, frames))), end - start)
        text, text_from = "", "heard"
    else:
        said, text = words.part(start, end)
        said = Transcript(to_end(said.phonemes, end - start), said.words)
        text_from = "transcript"
    if all(is_pause(phoneme.phoneme) for phoneme in said.phonemes):
        raise ValueError("No words are heard in it.")
    if words is not None and _unwritten(windows, said) > MOST_UNWRITTEN:
        raise ValueError("Much of what is said in it is not in its transcript.")
    lips = lips_in_crop(looks, crop, frames)
    chunks = len(frames) // FRAMES_PER_CHUNK
    return _Plan(frames.start, chunks, crop, lips, gaps, said, text, text_from)


def _unwritten(windows: np.ndarray, said: Transcript) -> float:
    """The share of the windows with speech (bool [N]) in which a transcript has no word."""
    middles = (np.arange(len(windows)) + 0.5) * WINDOW / RATE
    written = np.zeros(len(windows), bool)
    for phoneme in said.phonemes:
        if not is_pause(phoneme.phoneme):
            written |= np.abs(middles - (phoneme.start + phoneme.end) / 2) < NEAR_WORDS
    return float((windows & ~written).sum() / max(1, windows.sum()))


def _write(
    path: Path,
    options: OwnClipOptions,
    plans: Sequence[_Plan],
    sound: np.ndarray,
    out: Path,
    folder: str,
    tell: Callable[[float], None],
) -> Iterator[dict[str, Any]]:
    """Go through the film again and write its clips; yields their rows."""
    waiting = list(plans)
    squares: list[np.ndarray] = []
    pictures = read_pictures(path, options.longest) if waiting else ()
    for number, picture in pictures:
        _tell(number, tell)
        plan = waiting[0]
        if number in plan.frames:
            squares.append(cut_square(picture, plan.crop, options.size))
        if number == plan.frames[-1]:
            name = f"{folder}/{len(plans) - len(waiting):04d}.mp4"
            yield _clip(plan, np.stack(squares), sound, out, name, options)
            squares.clear()
            waiting.pop(0)
            if not waiting:
                return


def _clip(
    plan: _Plan,
    squares: np.ndarray,
    sound: np.ndarray,
    out: Path,
    name: str,
    options: OwnClipOptions,
) -> dict[str, Any]:
    """Write one clip, and its motion beside it; returns its row."""
    motion, free = read_motion(squares, options.checkpoint)
    write_film(out / name, squares, _loud(_floats(_of_frames(sound, plan.frames))))
    write_motion(out / name, motion, free=free)
    seconds, phonemes = plan.chunks * CHUNK_SECONDS, plan.said.phonemes
    spoken = [p for p in phonemes if not is_pause(p.phoneme)]
    silent = [spoken[0].start, seconds - spoken[-1].end]
    openness = (plan.gaps - np.quantile(plan.gaps, 0.05)) / OPEN
    return {
        "path": name,
        "language": "en",
        "seconds": round(seconds, 3),
        "frames": len(plan.frames),
        "start": round(plan.first / FPS, 2),
        "silent_chunks": [int(part // CHUNK_SECONDS) for part in silent],
        "style": "film",
        "emotion": "neutral",
        "liveliness": "calm",
        "caption": CAPTION,
        "text": plan.text,
        "text_from": plan.text_from,
        "words": [[w.word, round(w.start, 4), round(w.end, 4)] for w in plan.said.words],
        "phonemes": [[p.phoneme, round(p.start, 4), round(p.end, 4)] for p in phonemes],
        "viseme_openness": np.round(viseme_openness(phonemes, len(plan.frames)), 3).tolist(),
        "mouth_openness": np.round(openness.clip(0), 3).tolist(),
        "mouth_box": np.round(plan.lips, 4).tolist(),
    }


@torch.no_grad()
def read_motion(squares: np.ndarray, checkpoint: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The motion [T, 28] that a checkpoint's codec reads in uint8 [T, S, S, 3], and its free numbers [T, F],
    if it has such.
    """
    codec = motion_codec(checkpoint)
    side = codec.config.size
    whole = FaceCrop(squares.shape[2] / 2, squares.shape[1] / 2, squares.shape[1])
    seen = np.stack([cut_square(square, whole, side) for square in squares])
    film = to_signal(torch.from_numpy(seen).permute(3, 0, 1, 2)[None])
    motion = codec.read_motion(codec.encode(film))[0].float().numpy()
    named, free, pose = np.split(motion, [len(UNITS), motion.shape[1] - len(POSE)], axis=1)
    assert named.shape[1] + pose.shape[1] == len(MOTION)
    return np.concatenate([named, pose], 1), free if free.shape[1] else None


@functools.cache
def motion_codec(checkpoint: str) -> MotionCodec:
    """The codec of a checkpoint, loaded once. Raises ValueError for one that reads no motion."""
    codec = load_checkpoint(checkpoint).video_codec
    if not isinstance(codec, MotionCodec):
        raise ValueError(f"The codec of {checkpoint} does not read motion; choose tiny or base.")
    return codec


def _of_frames(sound: np.ndarray, frames: range) -> np.ndarray:
    return sound[frames.start * SAMPLES_PER_FRAME : frames.stop * SAMPLES_PER_FRAME]


def _floats(sound: np.ndarray) -> np.ndarray:
    return sound.astype(np.float32) / 2**15


def _loud(sound: np.ndarray) -> np.ndarray:
    """As loud as the corpus's clips; less, where its peaks would be cut off."""
    louder = to_speech_loudness(sound, 0.0)
    return louder * min(1.0, _LOUDEST / max(float(np.abs(louder).max()), 1e-9))
