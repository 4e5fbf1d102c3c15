"""Measures one clip with networks that no training uses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np

from mutual_forcing.config import FPS
from mutual_forcing.metrics import drift, frechet, identity, mouth, sync, words
from mutual_forcing.types import TimedWord

from ..data.dataset import Clip, Corpus
from ..data.sentences import SentenceMaker
from ..data.speech_motion import viseme_openness
from .systems import ClipSample, Latents, reference_picture

ENDS = ("first sentences", "same, at the end")
"""The stretches at the beginning and at the end of a long stream in which the same sentences are said."""
Row = dict[str, Any]
Features = dict[str, np.ndarray]
"""Windows [W, 64] for the Frechet distances, by the name of their network."""
VERSION = 6
"""Raised when rows come out differently, so that rows from before are measured again."""


class Judge:
    """Measures clip samples against what was requested."""

    def __init__(self, corpus: Corpus, split: str = "test") -> None:
        """split: the clips that are measured."""
        self.corpus, self.split = corpus, split
        self.reader, self.pair = mouth.load_reader(), sync.load_pair()
        self.unseen = SentenceMaker(_seed(corpus)).heldout_words
        heldout = corpus.films(split)
        self.vocabulary = sorted({w for c in heldout for w in words.normalise(c.row["text"])})
        firsts = {clip.identity: clip for clip in reversed(heldout)}
        self.pictures = {name: clip.read_frames(0, 1) for name, clip in firsts.items()}

    @cached_property
    def digest(self) -> str:
        """A hash of what a row depends on besides the system: the corpus, the judges' weights and VERSION."""
        manifest = (self.corpus.clips[0].root / "manifest.jsonl").read_bytes()
        weights = mouth.WEIGHTS.read_bytes() + sync.WEIGHTS.read_bytes()
        told = self.split.encode() + bytes([VERSION])
        return hashlib.sha256(manifest + weights + told).hexdigest()[:8]

    def measure(self, clip: Clip, sample: ClipSample) -> tuple[Row, Features]:
        """Return the row of one clip and its windows for the Frechet distances."""
        frames, audio = sample.frames, sample.audio
        seen, heard = sync.embed(self.pair, self.reader, frames, audio)
        lips = sync.score(seen, heard)
        transcript, visemes = clip.transcript, np.asarray(clip.row["viseme_openness"])
        if sample.said:
            transcript = sample.said
            visemes = viseme_openness(transcript.phonemes, len(frames))
        row = {
            "index": clip.index,
            **self._words(clip, transcript.words, audio),
            **self.lips(frames, visemes),
            "sync": lips.margin,
            "sync_lag": lips.lag,
            "sync_confidence": lips.confidence,
            **self._identity(clip, frames),
            **drift.describe(frames, audio),
            "timing": asdict(sample.timing) if sample.timing else None,
        }
        return row, features(frames, audio, seen.numpy(), heard.numpy())

    def lips(self, frames: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
        """Primary sync: openness read from the pixels against the requested visemes [T]."""
        read = mouth.read_openness(self.reader, frames)
        correlation, lag, best = mouth.sync(read, wanted)
        return {"mouth": correlation, "lag": lag, "mouth_best": best}

    def windows(
        self,
        sample: ClipSample,
        said: Sequence[TimedWord],
        visemes: np.ndarray,
        picture: np.ndarray,
        latents: Latents,
        opening: float = 0.0,
    ) -> dict[str, Row]:
        """Figures of a long stream by stretch of time, and of its first and last `opening` seconds, if any.

        said: the requested words, timed from its start. visemes: requested openness [T]. picture: the
        reference [1, S, S, 3]. latents: of all frames and all sound.
        """
        frames, audio = sample.frames, sample.audio
        seconds = len(frames) / FPS
        last = max(drift.EDGES[-1], seconds // 10 * 10)
        parts = drift.windows(frames, audio, (*drift.EDGES[:-1], last))
        if opening:
            ends = drift.windows(frames, audio, (0.0, opening))
            ends |= drift.windows(frames, audio, (seconds - opening, seconds))
            parts |= dict(zip(ENDS, ends.values(), strict=True))
        return {
            name: {
                **self._window(first, part, heard, said, visemes, picture),
                **_latents(latents, first / len(frames), len(part) / len(frames)),
            }
            for name, (first, part, heard) in parts.items()
        }

    def _window(
        self,
        first: int,
        frames: np.ndarray,
        audio: np.ndarray,
        said: Sequence[TimedWord],
        visemes: np.ndarray,
        picture: np.ndarray,
    ) -> Row:
        start, end = first / FPS, (first + len(frames)) / FPS
        inside = [w for w in said if start <= (w.start + w.end) / 2 < end]
        asked, got = words.plain(inside), words.plain(words.recognise(audio))
        seen, heard = sync.embed(self.pair, self.reader, frames, audio)
        return {
            "wer": words.word_errors(asked, got) / max(1, len(asked)),
            "words": len(asked),
            "mouth": self.lips(frames, visemes[first : first + len(frames)])["mouth"],
            "sync": sync.score(seen, heard, min(sync.MAX_LAG, len(seen) // 2)).margin,
            "similarity": likeness(frames, picture),
            **drift.describe(frames, audio, first),
        }

    def _words(self, clip: Clip, said: Sequence[TimedWord], audio: np.ndarray) -> Row:
        heard = words.recognise(audio)
        got, closed = words.plain(heard), words.plain(words.recognise(audio, self.vocabulary))
        asked = words.normalise(clip.row["text"])
        unseen = [
            found
            for word, found in zip(asked, words.recognised(asked, got), strict=True)
            if word in self.unseen
        ]
        return {
            "errors": words.word_errors(asked, got),
            "closed_errors": words.word_errors(asked, closed),
            "words": len(asked),
            "unseen": len(unseen),
            "unseen_missed": unseen.count(False),
            "onsets": [round(ms, 1) for ms in words.onset_errors(said, heard)],
            "heard": " ".join(got),
        }

    def _identity(self, clip: Clip, frames: np.ndarray) -> Row:
        """Whether the reference that the clip was made from is the nearest of all identities'."""
        reference = reference_picture(self.corpus, clip)[None]
        pictures = {**self.pictures, clip.identity: reference}
        figures: Row = {"similarity": likeness(frames, reference)}
        views = {"identity": lambda part: part, "identity_face": identity.middle}
        for name, view in views.items():
            own = identity.signature(view(frames))
            scores = {
                who: identity.similarity(own, identity.signature(view(picture)))
                for who, picture in pictures.items()
            }
            figures[name] = float(max(scores, key=lambda who: scores[who]) == clip.identity)
        return figures


def _latents(latents: Latents, start: float, share: float) -> Row:
    """Figures of a stretch of latents, overall and for each channel: of `share` of the whole, after
    `start` of it.
    """
    figures: Row = {"channels": {}}
    for branch, whole in zip(("video", "audio"), latents, strict=True):
        count = whole.shape[1]
        part = whole[:, round(start * count) : round((start + share) * count)]
        figures |= {f"{branch}_{name}": v for name, v in drift.latent_drift(part).items()}
        figures["channels"][branch] = drift.standing(part)
    return figures


def _seed(corpus: Corpus) -> int:
    """The seed that the corpus was made with; it decides which words only held-out sentences have."""
    path = corpus.clips[0].root / "corpus.json"
    return json.loads(path.read_text(encoding="utf-8"))["options"]["seed"]


def likeness(frames: np.ndarray, picture: np.ndarray) -> float:
    """Cosine of the faces (middle halves) of frames [T, S, S, 3] and a reference [1, S, S, 3], -1..1."""
    own, other = (identity.signature(identity.middle(part)) for part in (frames, picture))
    return identity.similarity(own, other)


def features(
    frames: np.ndarray, audio: np.ndarray, seen: np.ndarray, heard: np.ndarray
) -> Features:
    """Windows of one clip for the Frechet distances: random and self-trained networks, video and audio."""
    return {
        "video_random": frechet.video_features(frames),
        "video_sync": seen[:: frechet.STRIDE],
        "audio_random": frechet.audio_features(audio),
        "audio_sync": heard[:: frechet.STRIDE],
    }
