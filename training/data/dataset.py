"""Reading the corpus: the manifest, segments of clips, and references from sibling clips."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
from safetensors.numpy import load_file

from mutual_forcing.audio import excerpt
from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.text.inventory import Language
from mutual_forcing.types import TimedPhoneme, TimedWord, Transcript

from .free_motion import with_free

SMALLEST_MOTION = 0.02
"""A few clips may hold no smile at all: its deviation must not be nothing."""


@dataclass(frozen=True)
class Clip:
    """One row of the manifest."""

    row: dict[str, Any]
    root: Path

    @property
    def index(self) -> int:
        """Number of the clip in the corpus."""
        return self.row["index"]

    @property
    def identity(self) -> str:
        """Same person, appearance, light, camera and voice."""
        return self.row["identity"]

    @property
    def frames(self) -> int:
        """Number of frames, a whole number of chunks."""
        return self.row["frames"]

    @property
    def filmed(self) -> bool:
        """Whether it has pictures."""
        return "mouth_box" in self.row

    @property
    def language(self) -> Language:
        """What is spoken."""
        return self.row.get("language", "en")

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return round(self.frames / FPS / CHUNK_SECONDS)

    @property
    def path(self) -> Path:
        """The clip's file."""
        return self.root / self.row["path"]

    @property
    def mouth_boxes(self) -> np.ndarray:
        """float32 [F, 4]: centre and size of the mouth in fractions of the picture."""
        return np.asarray(self.row["mouth_box"], np.float32)

    @property
    def transcript(self) -> Transcript:
        """Exact phoneme and word times."""
        return Transcript(
            tuple(TimedPhoneme(*p) for p in self.row["phonemes"]),
            tuple(TimedWord(*w) for w in self.row["words"]),
        )

    def read_frames(self, start: int, count: int) -> np.ndarray:
        """Decode uint8 [count, S, S, 3] from frame `start`."""
        with av.open(str(self.path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            container.seek(int(start / FPS / stream.time_base), stream=stream)
            frames = []
            for frame in container.decode(stream):
                position = round(float(frame.pts * stream.time_base) * FPS)
                if position >= start:
                    frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == count:
                    return np.stack(frames)
        raise ValueError(f"{self.path} ends before frame {start + count}.")

    def read_motion(self) -> dict[str, np.ndarray]:
        """The truth: "motion" float32 [T, 28], see mutual_forcing.motion, "units" float32 [T, 52], see
        head_model.UNIT_NAMES, and of films "landmarks" float32 [T, 64, 2] in fractions of the picture.

        Of one's own clips (clips.py) what a motion codec read: "motion", and "free" [T, F] where it has such.
        """
        parts = load_file(self.path.with_suffix(".safetensors"))
        return {name: part.astype(np.float32) for name, part in parts.items()}

    def read_audio(self, rate: int = SAMPLE_RATE) -> np.ndarray:
        """Decode the track: float32 [N] within -1..1, N = frames / 25 s."""
        samples = self.read_file(rate)
        length = self.frames * rate // FPS
        return excerpt(samples, 0, length)

    def read_file(self, rate: int = SAMPLE_RATE) -> np.ndarray:
        """The track as long as it is in the file: float32 [N] within -1..1."""
        with av.open(str(self.path)) as container:
            mono = av.AudioResampler("fltp", "mono", rate)
            frames = [*container.decode(audio=0), None]  # None: what the resampler still holds
            parts = [part.to_ndarray()[0] for f in frames for part in mono.resample(f)]
        return np.concatenate(parts).astype(np.float32)


class Corpus:
    """A corpus folder. Raises ValueError if there is none."""

    def __init__(self, root: Path) -> None:
        manifest = root / "manifest.jsonl"
        if not manifest.exists():
            raise ValueError(
                f"No corpus in {root}: run python -m training.data.synthesize, or training.data.clips, first."
            )
        with manifest.open(encoding="utf-8") as lines:
            self.clips = [Clip(json.loads(line), root) for line in lines]
        self._sounds: dict[int, np.ndarray] = {}

    def sound(self, clip: Clip) -> np.ndarray:
        """`read_audio` of a clip, float16 [N], decoded once: hours of it fit beside a model."""
        if clip.index not in self._sounds:
            self._sounds[clip.index] = clip.read_audio().astype(np.float16)
        return self._sounds[clip.index]

    def split(self, name: str) -> list[Clip]:
        """The clips of "train", "development" or "test".

        Corpora made before 2026-11-28 call all that they hold out "heldout": choices were made on it.
        """
        names = (name, "heldout") if name == "development" else (name,)
        return [clip for clip in self.clips if clip.row["split"] in names]

    def films(self, split: str, language: Language = "en") -> list[Clip]:
        """The clips of a split that have pictures and are in a language, which the judges must know."""
        return [clip for clip in self.split(split) if clip.filmed and clip.language == language]

    @cached_property
    def siblings(self) -> dict[str, list[Clip]]:
        """Clips by identity."""
        groups: dict[str, list[Clip]] = defaultdict(list)
        for clip in self.clips:
            groups[clip.identity].append(clip)
        return groups

    def motion_statistics(self, free: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of the training clips' motion with so many free numbers, float32 [28 + free]
        each; at least SMALLEST_MOTION.
        """
        motion = np.concatenate([with_free(c.read_motion(), free) for c in self.split("train")])
        return motion.mean(0), motion.std(0).clip(SMALLEST_MOTION)

    def sibling(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """Another clip of the same identity; the clip itself if it is alone."""
        others = [c for c in self.siblings[clip.identity] if c.index != clip.index]
        return others[rng.integers(len(others))] if others else clip
