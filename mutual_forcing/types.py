"""What travels between the parts: requests, transcripts, latents, chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .config import FILM_RATE, SAMPLE_RATE
from .text.inventory import LANGUAGE_CHOICES, LanguageChoice

MAX_STEPS = 50
FEW_MODE_MAX_STEPS = 8
MAX_SECONDS = 600.0
MIN_SIZE, MAX_SIZE = 128, 1080
"""Pixels on a film's shorter side that may be asked for; the longer side has at most 1920."""
Mode = Literal["few", "multi"]
Framing = Literal["whole", "face"]
"""The whole picture, or the square around the face alone."""
FRAMINGS: tuple[Framing, ...] = ("whole", "face")


@dataclass(frozen=True)
class TimedPhoneme:
    """One phoneme of text.inventory.PHONEMES, "_" for a pause, seconds from the start of the stream."""

    phoneme: str
    start: float
    end: float


@dataclass(frozen=True)
class TimedWord:
    """One word, seconds from the start of the stream."""

    word: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """What is said, and when; `unspoken` are the parts of the text that cannot be said, as typed."""

    phonemes: tuple[TimedPhoneme, ...] = ()
    words: tuple[TimedWord, ...] = ()
    unspoken: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """The end of the last phoneme; 0 for an empty transcript."""
        return max((p.end for p in self.phonemes), default=0.0)

    def shifted(self, seconds: float) -> Transcript:
        """Return the same transcript, `seconds` later."""
        return Transcript(
            tuple(replace(p, start=p.start + seconds, end=p.end + seconds) for p in self.phonemes),
            tuple(replace(w, start=w.start + seconds, end=w.end + seconds) for w in self.words),
            self.unspoken,
        )

    def then(self, other: Transcript) -> Transcript:
        """Return this transcript followed by `other` (whose times are already those of the stream)."""
        unspoken = tuple(dict.fromkeys(self.unspoken + other.unspoken))
        return Transcript(self.phonemes + other.phonemes, self.words + other.words, unspoken)


@dataclass(frozen=True)
class AVLatents:
    """Tokens of whole chunks: video [B, K, Nv, Dv] and audio [B, K, Na, Da]; None = branch absent."""

    video: Tensor | None
    audio: Tensor | None

    def __post_init__(self) -> None:
        if self.video is None and self.audio is None:
            raise ValueError("Latents need video, audio or both.")

    @property
    def modalities(self) -> dict[str, Tensor]:
        """The branches that are present, video first."""
        both = {"video": self.video, "audio": self.audio}
        return {name: tokens for name, tokens in both.items() if tokens is not None}

    @property
    def shape(self) -> tuple[int, int]:
        """Batch and chunks, [B, K]."""
        tokens = self.audio if self.video is None else self.video
        assert tokens is not None, "checked when made"
        return tokens.shape[0], tokens.shape[1]

    def map(self, change: Callable[[Tensor], Tensor]) -> AVLatents:
        """The same branches, each changed."""
        return AVLatents.of({name: change(x) for name, x in self.modalities.items()})

    def zip(self, other: AVLatents, join: Callable[[Tensor, Tensor], Tensor]) -> AVLatents:
        """These branches, each joined with that of `other`."""
        both = other.modalities
        return AVLatents.of({name: join(x, both[name]) for name, x in self.modalities.items()})

    @staticmethod
    def of(modalities: Mapping[str, Tensor]) -> AVLatents:
        """Build from a mapping of branch name to tensor."""
        return AVLatents(modalities.get("video"), modalities.get("audio"))


@dataclass(frozen=True)
class TextTokens:
    """What is said near each chunk: ids, start and end [B, K, P] (seconds from that chunk's start).

    `ids` are indices into text.inventory.PHONEMES plus one, or tokens of UMT5 (models/wan_text.py); 0 is
    padding. `caption` [B, Q] holds word ids, 0 is padding; the caption is timeless.
    """

    ids: Tensor
    start: Tensor
    end: Tensor
    caption: Tensor

    def to(self, device: torch.device | str) -> TextTokens:
        """Move every tensor."""
        return TextTokens(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass(frozen=True)
class References:
    """Timeless references: the picture's latent frame [B, H * W, Dv], voice tokens [B, V, Da].

    `has_picture` and `has_voice` (bool [B]) say which rows are real; the others become a learned
    null reference.
    """

    picture: Tensor | None
    voice: Tensor | None
    has_picture: Tensor | None = None
    has_voice: Tensor | None = None


@dataclass(frozen=True)
class FaceCrop:
    """The part of a picture that is animated: its middle (x, y) and its width in pixels (side), by how many
    radians it is turned clockwise as seen in the picture (the angle of the line from eye to eye), and its
    height over its width (tall).

    The side is five eye distances, the eyes lie at 0.43 of its height (faces.py). It may reach beyond the
    picture's border. The model sees it as a square, so a drawn face whose mouth lies close to its eyes
    looks to the model like any other; 1 leaves the face as it is.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0
    tall: float = 1.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in vars(self).values()):
            raise ValueError("The place of the face must be given in finite numbers.")
        if self.side < 16:
            raise ValueError("The square around the face must have at least 16 pixels.")
        if not 0.25 <= self.tall <= 4:
            raise ValueError("The square around the face must not be stretched more than fourfold.")

    @property
    def to_picture(self) -> np.ndarray:
        """From the square's coordinates, -1..1 from edge to edge, to pixels around its middle: [2, 2]."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turn = np.array([[cos, -sin], [sin, cos]])
        return self.side / 2 * turn * (1.0, self.tall)


@dataclass(frozen=True)
class Steering:
    """What a character is asked to do beside what it does by itself, each -1..1 and 0 for nothing.

    Right and left are those of who watches. nod_up: the head back and the chin up; brows_up: down, and
    together, below 0; smile: corners of the mouth down below 0; eyes_shut: 0..1. Raises ValueError for
    anything else.
    """

    look_right: float = 0.0
    look_up: float = 0.0
    turn_right: float = 0.0
    nod_up: float = 0.0
    tilt_right: float = 0.0
    brows_up: float = 0.0
    smile: float = 0.0
    eyes_shut: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name == "eyes_shut" else -1
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not least <= value <= 1:
                raise ValueError(f"{name} must be a number from {least} to 1.")


@dataclass(frozen=True)
class GenerationRequest:
    """One character, one utterance.

    image: uint8 RGB [H, W, 3], any size from 16 to 8192 pixels a side.
    crop: the square that is animated; None lets `faces.place` find the largest face.
    framing: "whole" for a film of the whole picture, "face" for one of the square around the face.
    size: pixels on the film's shorter side, 128 to 1080; a picture is never enlarged beyond its own
    pixels except to reach 256, and the longer side has at most 1920.
    text: English or Japanese to be spoken, as people write it; may be empty when `audio` is given.
    language: of `text`; "auto" finds it.
    caption: style in words (emotion, motion, voice).
    audio: float mono 24 kHz [N] within -1..1; drives the lips and is heard, unless there is `heard`.
    heard: the same sound as it was given, int16 [N, C] at 48 kHz, C 1 or 2: what the film has.
    voice: float mono 24 kHz [N]; lends its voice to `text`.
    steps: 1..50 denoising steps a chunk; up to 8 is Few mode, above is Multi mode.
    guidance_scale: Multi mode's guidance, 1..10, 1 meaning none; None for the default.
    seconds: length of the stream; None for as long as text or audio need.
    window: past chunks kept in the cache; None for the checkpoint's own.
    transcript: the user's own timing instead of `text`'s predicted one.
    steering: what the character is asked to do with head, eyes and face from the start on.

    Raises ValueError, in one sentence, for anything else.
    """

    image: np.ndarray
    text: str = ""
    language: LanguageChoice = "auto"
    caption: str = ""
    crop: FaceCrop | None = None
    framing: Framing = "whole"
    size: int = 512
    audio: np.ndarray | None = None
    heard: np.ndarray | None = None
    voice: np.ndarray | None = None
    steps: int = 4
    guidance_scale: float | None = None
    seed: int = 0
    seconds: float | None = None
    window: int | None = None
    transcript: Transcript | None = None
    steering: Steering = field(default_factory=Steering)

    def __post_init__(self) -> None:
        _check_image(self.image)
        _check_framing(self)
        _check_waveform(self.audio, "driving audio")
        _check_heard(self)
        _check_waveform(self.voice, "voice sample")
        _check_numbers(self)
        if not isinstance(self.steering, Steering):
            raise ValueError("What the face is asked for must be a Steering.")
        if self.language not in LANGUAGE_CHOICES:
            raise ValueError(f"The language must be one of {', '.join(LANGUAGE_CHOICES)}.")
        if not self.text.strip() and self.audio is None and self.transcript is None:
            raise ValueError("Nothing to say: type some text or give an audio file.")

    @property
    def mode(self) -> Mode:
        """Few mode up to 8 steps, Multi mode above."""
        return "few" if self.steps <= FEW_MODE_MAX_STEPS else "multi"


@dataclass(frozen=True)
class AVChunk:
    """0.64 s of the stream: frames uint8 [16, H, W, 3] and audio float32 [15360] within -1..1. A first chunk
    that comes in halves has half of that, twice.

    heard: int16 [30720, C] at 48 kHz where the request has it. start: seconds from the start of the stream.
    nfe: network evaluations spent on this chunk (a guided step counts two). seconds_spent: wall-clock seconds
    it took, decoding included.
    """

    index: int
    total: int
    start: float
    frames: np.ndarray
    audio: np.ndarray
    nfe: int
    seconds_spent: float
    heard: np.ndarray | None = None

    @property
    def sound(self) -> np.ndarray:
        """What the film has, as StreamMuxer.add takes it."""
        return self.audio if self.heard is None else self.heard


@dataclass(frozen=True)
class StreamPlan:
    """What a request will take, known before it starts; `unspoken` are the parts of its text that cannot be
    said, as typed.
    """

    chunks: int
    seconds: float
    mode: Mode
    nfe_per_chunk: int
    unspoken: tuple[str, ...] = ()


def _check_image(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise ValueError("The character picture must be an array of 8-bit RGB pixels.")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError("The character picture must have three colour channels (RGB).")
    if min(image.shape[:2]) < 16 or max(image.shape[:2]) > 8192:
        raise ValueError("The character picture must be between 16 and 8192 pixels on each side.")


def _check_framing(request: GenerationRequest) -> None:
    if request.framing not in FRAMINGS:
        raise ValueError("The framing must be whole or face.")
    whole = isinstance(request.size, (int, np.integer)) and not isinstance(request.size, bool)
    if not whole or not MIN_SIZE <= request.size <= MAX_SIZE:
        raise ValueError(f"The size must be a whole number of pixels, {MIN_SIZE} to {MAX_SIZE}.")
    if request.crop is not None and not isinstance(request.crop, FaceCrop):
        raise ValueError("The place of the face must be a FaceCrop.")


def _check_waveform(audio: np.ndarray | None, name: str) -> None:
    if audio is None:
        return
    if not isinstance(audio, np.ndarray) or audio.ndim != 1 or audio.dtype.kind != "f":
        raise ValueError(f"The {name} must be one channel of floating-point samples at 24 kHz.")
    if not np.isfinite(audio).all():
        raise ValueError(f"The {name} contains values that are not numbers.")
    if len(audio) < SAMPLE_RATE // 5:
        raise ValueError(f"The {name} is shorter than 0.2 seconds.")
    if len(audio) > MAX_SECONDS * SAMPLE_RATE:
        raise ValueError(f"The {name} is longer than {MAX_SECONDS:.0f} seconds.")


def _check_heard(request: GenerationRequest) -> None:
    heard, audio = request.heard, request.audio
    if heard is None:
        return
    if audio is None:
        raise ValueError("A sound that is heard needs its driving audio.")
    if not isinstance(heard, np.ndarray) or heard.dtype != np.int16 or heard.ndim != 2:
        raise ValueError("The sound that is heard must be an array of 16-bit samples, [N, C].")
    if heard.shape[1] not in (1, 2):
        raise ValueError("The sound that is heard must have one channel or two.")
    if abs(len(heard) / FILM_RATE - len(audio) / SAMPLE_RATE) > 0.1:
        raise ValueError("The sound that is heard must be as long as the driving audio.")


def _check_numbers(request: GenerationRequest) -> None:
    if isinstance(request.steps, bool) or not isinstance(request.steps, (int, np.integer)):
        raise ValueError("The number of steps must be a whole number.")
    if not 1 <= request.steps <= MAX_STEPS:
        raise ValueError(f"The number of steps must be between 1 and {MAX_STEPS}.")
    scale = request.guidance_scale
    if scale is not None and not (math.isfinite(scale) and 1 <= scale <= 10):
        raise ValueError("The guidance scale must be between 1 (none) and 10.")
    seconds = request.seconds
    if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS):
        raise ValueError(f"The length must be above 0 and at most {MAX_SECONDS:.0f} seconds.")
    if request.window is not None and not 1 <= request.window <= 64:
        raise ValueError("The window must be between 1 and 64 chunks.")
    for name in ("seed", "window"):
        value = getattr(request, name)
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole and (name == "seed" or value is not None):
            raise ValueError(f"The {name} must be a whole number.")
    if not 0 <= request.seed < 2**63:
        raise ValueError("The seed must be a whole number from 0 to 2^63 - 1.")


def stack_conditions(first: TextTokens, second: TextTokens) -> TextTokens:
    """Concatenate along the batch (conditional rows first, as guidance uses them)."""
    return TextTokens(
        *(
            torch.cat([getattr(first, f), getattr(second, f)])
            for f in ("ids", "start", "end", "caption")
        )
    )
