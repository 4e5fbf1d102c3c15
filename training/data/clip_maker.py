"""One clip of the corpus: what is said, in which voice, how the face moves to it, and where it is written.

A clip's sound depends on (seed, number) and its voice alone, its motion on (seed, number), the sound and its
person's manner. Sound takes nearly all of the time: where only the motion's recipe has changed
(MOTION_VERSION), it stays and the motion is made anew.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mutual_forcing.chunks import (
    CHUNK_SECONDS,
    FRAMES_PER_CHUNK,
    SAMPLES_PER_CHUNK,
    chunks_for_samples,
)
from mutual_forcing.text.captions import EMOTIONS
from mutual_forcing.text.inventory import PAUSE, Language, is_pause
from mutual_forcing.types import TimedPhoneme, TimedWord

from .corpus_writer import write_film, write_motion, write_sound
from .dataset import Clip
from .japanese_sentences import JapaneseSentenceMaker
from .sentences import SentenceMaker, Split
from .voices import Speech, Voice, end_with_sound, say

if TYPE_CHECKING:
    from .appearance import Appearance
    from .head_motion import Manner

MOTION_VERSION = 3
"""Counts the recipes of motion; rows without one have the first."""
CLIPS_PER_FOLDER = 64
MIN_CHUNKS, MAX_CHUNKS = 4, 23
SENTENCES = {1: 0.5, 2: 0.35, 3: 0.15}
"""How often a clip has so many."""
SILENT_BEFORE, SILENT_AFTER = (0.1, 3), (0.2, 4)
"""How often a clip has silent chunks before or after what is said, and how many at most: somebody waits."""
CLIP_STREAM, MOTION_STREAM = 10_000_000, 20_000_000
"""Keep the random numbers of clips and of their motion apart from those of identities."""


@dataclass(frozen=True)
class Spoken:
    """What is heard: audio float [N], a whole number of chunks, and what is said when, to the audio's end."""

    audio: np.ndarray
    phonemes: tuple[TimedPhoneme, ...]
    words: tuple[TimedWord, ...]
    text: str

    @property
    def chunks(self) -> int:
        """How many the audio lasts."""
        return len(self.audio) // SAMPLES_PER_CHUNK

    def padded(self, before: int, after: int) -> Spoken:
        """The same with silent chunks before and after it; negative numbers take such away again."""
        cut = slice(max(-before, 0), self.chunks + min(after, 0))
        chunks = self.audio.reshape(-1, SAMPLES_PER_CHUNK)[cut]
        chunks = np.pad(chunks, ((max(before, 0), max(after, 0)), (0, 0)))
        shift, seconds = before * CHUNK_SECONDS, len(chunks) * CHUNK_SECONDS
        moved = [
            TimedPhoneme(p.phoneme, max(p.start + shift, 0.0), p.end + shift) for p in self.phonemes
        ]
        if before > 0 and is_pause(moved[0].phoneme):
            moved[0] = replace(moved[0], start=0.0)
        elif before > 0:
            moved.insert(0, TimedPhoneme(PAUSE, 0.0, shift))
        kept = [p for p in moved if p.end > 0 and p.start < seconds]
        words = (TimedWord(w.word, w.start + shift, w.end + shift) for w in self.words)
        return Spoken(chunks.reshape(-1), to_end(kept, seconds), tuple(words), self.text)


def speak(seed: int, number: int, voice: Voice, split: Split) -> Spoken:
    """One to three sentences that last MIN_CHUNKS to MAX_CHUNKS in all; RuntimeError after 20 tries."""
    rng = np.random.default_rng([seed, CLIP_STREAM, number])
    maker, gap = _maker(seed, voice.language), " " if voice.language == "en" else ""
    for _ in range(20):
        count = int(rng.choice(list(SENTENCES), p=list(SENTENCES.values())))
        text = gap.join(maker.sentence(rng, split) for _ in range(count))
        speech = say(text, voice, rng)
        if MIN_CHUNKS <= chunks_for_samples(len(speech.audio)) <= MAX_CHUNKS:
            return _whole(speech, text)
    raise RuntimeError(f"No {split} text of the right length for voice {voice.name} in 20 tries.")


def spoken_before(row: dict[str, Any], out: Path) -> Spoken:
    """What was said in a clip that is written, without the silence around it.

    Where a remake was interrupted the file has today's silence already and the row does not say so. Raises
    ValueError for a file that is neither as its row has it nor as it would be made anew.
    """
    from .world import frames_path  # which needs this module

    clip = Clip(row, out)
    said, audio = clip.transcript, clip.read_file()
    before, after = row.get("silent_chunks", (0, 0))
    chunks = round(len(audio) / SAMPLES_PER_CHUNK)
    if chunks != clip.chunks:
        rng = np.random.default_rng([row["seed"], MOTION_STREAM, clip.index])
        bare = clip.chunks - before - after
        silent = _silence(MAX_CHUNKS - bare, rng)
        if chunks != bare + sum(silent):
            raise ValueError(f"{clip.path} is not as its row has it: delete its identity's part.")
        audio = audio[(silent[0] - before) * SAMPLES_PER_CHUNK :]
    audio = np.pad(audio, (0, clip.chunks * SAMPLES_PER_CHUNK))[: clip.chunks * SAMPLES_PER_CHUNK]
    # Clips of before 2026-11-29 count silence as their last phonemes'.
    phonemes = end_with_sound(said.phonemes, audio)
    ends = {old.end: new.end for old, new in zip(said.phonemes, phonemes, strict=False)}
    words = tuple(replace(word, end=ends.get(word.end, word.end)) for word in said.words)
    # What was analysed of it does not hold where the silence around it changes.
    frames_path(clip).unlink(missing_ok=True)
    return Spoken(audio, tuple(phonemes), words, row["text"]).padded(-before, -after)


def make_clip(
    seed: int,
    number: int,
    spoken: Spoken,
    appearance: Appearance,
    manner: Manner,
    size: int | None,
    out: Path,
) -> dict[str, Any]:
    """Move a face to it, write the clip, drawn if there is a size in pixels, and return its row."""
    from .speech_motion import animate, listen
    from .tracked_points import motion as true_motion

    rng = np.random.default_rng([seed, MOTION_STREAM, number])
    silent = _silence(MAX_CHUNKS - spoken.chunks, rng)
    spoken = spoken.padded(*silent)
    emotion = str(rng.choice(EMOTIONS, p=[0.32, 0.2, 0.16, 0.16, 0.16]))
    lively = bool(rng.random() < 0.5)
    frames = spoken.chunks * FRAMES_PER_CHUNK
    prosody = listen(spoken.audio, spoken.phonemes, frames)
    motion = animate(spoken.phonemes, frames, emotion, lively, rng, manner, prosody)
    performance = motion.performance
    stem = Path("clips") / f"{number // CLIPS_PER_FOLDER:05d}" / f"{number:06d}"
    path, seen, landmarks = stem.with_suffix(".mp4" if size else ".flac"), {}, None
    if size:
        rendered = _renderer(size).render(appearance, performance)
        write_film(out / path, rendered.frames, spoken.audio)
        landmarks = rendered.landmarks
        seen = {
            "mouth_openness": np.round(rendered.mouth_openness, 3).tolist(),
            "mouth_box": np.round(rendered.mouth_box, 4).tolist(),
        }
    else:
        write_sound(out / path, spoken.audio)
    write_motion(out / path, true_motion(performance), units=performance.units, landmarks=landmarks)
    return {
        "index": number,
        "path": path.as_posix(),
        "seconds": round(spoken.chunks * CHUNK_SECONDS, 3),
        "frames": frames,
        "silent_chunks": silent,
        "seed": seed,
        "motion_version": MOTION_VERSION,
        "emotion": emotion,
        "liveliness": "lively" if lively else "calm",
        "text": spoken.text,
        "words": [[w.word, round(w.start, 4), round(w.end, 4)] for w in spoken.words],
        "phonemes": [[p.phoneme, round(p.start, 4), round(p.end, 4)] for p in spoken.phonemes],
        "viseme_openness": np.round(motion.viseme_openness, 3).tolist(),
        **seen,
    }


def outdated(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether the motion of clips is by an older recipe than today's."""
    return any(row.get("motion_version", 1) < MOTION_VERSION for row in rows)


def to_end(phonemes: Sequence[TimedPhoneme], seconds: float) -> tuple[TimedPhoneme, ...]:
    """Let the last pause last until the clip's end, and nothing longer."""
    last = phonemes[-1]
    if is_pause(last.phoneme):
        return (*phonemes[:-1], replace(last, end=seconds))
    return (
        (*phonemes, TimedPhoneme(PAUSE, last.end, seconds)) if last.end < seconds else (*phonemes,)
    )


def _whole(speech: Speech, text: str) -> Spoken:
    chunks = chunks_for_samples(len(speech.audio))
    audio = np.pad(speech.audio, (0, chunks * SAMPLES_PER_CHUNK - len(speech.audio)))
    return Spoken(audio, to_end(speech.phonemes, chunks * CHUNK_SECONDS), speech.words, text)


def _silence(room: int, rng: np.random.Generator) -> tuple[int, int]:
    """How many silent chunks a clip has before and after what is said, `room` at most in all."""
    counts = []
    for chance, most in (SILENT_BEFORE, SILENT_AFTER):
        wish = int(rng.integers(1, most + 1)) if rng.random() < chance else 0
        counts.append(min(wish, room - sum(counts)))
    return counts[0], counts[1]


@functools.cache
def _renderer(size: int) -> Any:
    """One of each worker process."""
    from .renderer import Renderer

    return Renderer(size)


@functools.cache
def _maker(seed: int, language: Language) -> SentenceMaker | JapaneseSentenceMaker:
    return JapaneseSentenceMaker(seed) if language == "ja" else SentenceMaker(seed)
