"""The measured systems: the truth, a static reference, the autoencoders, and each mode of a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.canvas import cut_square
from mutual_forcing.codecs.motion_codec import MotionCodec
from mutual_forcing.codecs.protocol import decode_whole
from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.faces import place
from mutual_forcing.media import StreamMuxer
from mutual_forcing.motion import MOTION
from mutual_forcing.picture_window import cut_window
from mutual_forcing.pixels import to_signal
from mutual_forcing.sampling import Sampler
from mutual_forcing.types import FEW_MODE_MAX_STEPS, MAX_STEPS, MIN_SIZE, Mode, Transcript

from ..data.dataset import Clip, Corpus
from ..data.free_motion import with_free

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Timing:
    """Seconds from the start to the first muxed chunk, and seconds that each later chunk took."""

    first: float
    chunks: tuple[float, ...]


@dataclass(frozen=True)
class ClipSample:
    """A system's clip: frames uint8 [T, S, S, 3], sound float [N] at 24 kHz, timing if it was generated.

    said: what was asked for, where its times are not the clip's own.
    """

    frames: np.ndarray
    audio: np.ndarray
    timing: Timing | None = None
    said: Transcript | None = None


@dataclass(frozen=True)
class MeasuredSystem:
    """A system that is measured: its name, how to make a clip, its network evaluations per chunk.

    made_by: what a kept row must have been made by to be used again. clips: which ones are made.
    """

    name: str
    make: Callable[[Clip], ClipSample]
    nfe: int
    made_by: str
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Setting:
    """A mode and its number of steps."""

    steps: int
    mode: Mode

    @staticmethod
    def parse(text: str) -> Setting:
        """Read "4" (up to 8 is Few mode, above is Multi mode) or "m8" (Multi mode with few steps).

        Raises ValueError for anything else.
        """
        digits = text.removeprefix("m")
        if not digits.isdecimal() or not 1 <= int(digits) <= MAX_STEPS:
            raise ValueError(f"{text!r} is no number of steps: write 1 to {MAX_STEPS}, or m8.")
        few = text == digits and int(digits) <= FEW_MODE_MAX_STEPS
        return Setting(int(digits), "few" if few else "multi")

    @property
    def name(self) -> str:
        """Its name in the tables."""
        return f"{self.mode} {self.steps}"

    @property
    def asked(self) -> int:
        """The steps of the request, which decide its mode."""
        few = self.mode == "few"
        return self.steps if few else max(self.steps, FEW_MODE_MAX_STEPS + 1)

    @property
    def sampler(self) -> Sampler:
        """The sampler that makes a chunk."""
        return replace(Sampler.of(self.asked), steps=self.steps)


def evenly(items: list[Clip], count: int) -> tuple[Clip, ...]:
    """`count` of `items` (or all), spread evenly."""
    picks = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return tuple(items[pick] for pick in picks)


def sibling(corpus: Corpus, clip: Clip) -> Clip:
    """The next clip of the same identity."""
    group = corpus.siblings[clip.identity]
    return group[(group.index(clip) + 1) % len(group)]


def reference_picture(corpus: Corpus, clip: Clip) -> np.ndarray:
    """The first frame of the next sibling: uint8 [S, S, 3]."""
    return sibling(corpus, clip).read_frames(0, 1)[0]


def request_for(corpus: Corpus, clip: Clip, setting: Setting, seed: int) -> GenerationRequest:
    """Request the clip's sentence with its own timing, with the picture and voice of a sibling clip."""
    picture = reference_picture(corpus, clip)
    return GenerationRequest(
        image=picture,
        transcript=clip.transcript,
        caption=clip.row["caption"],
        voice=sibling(corpus, clip).read_audio(),
        steps=setting.asked,
        seed=seed + clip.index,
        seconds=clip.row["seconds"],
        size=film_side(picture),
    )


def truth(clip: Clip) -> ClipSample:
    """The clip itself."""
    return ClipSample(clip.read_frames(0, clip.frames), clip.read_audio())


def static_reference(corpus: Corpus, clip: Clip) -> ClipSample:
    """The reference picture without motion, in silence. No figure may reward it."""
    frames = reference_picture(corpus, clip)[None].repeat(clip.frames, 0)
    return ClipSample(frames, np.zeros(clip.frames * SAMPLE_RATE // FPS, np.float32))


Latents = tuple[np.ndarray, np.ndarray]
"""Standardised latents of video, [C, T] or [C, T, H', W'], and of audio, [C, T]."""


@torch.inference_mode()
def encode(generator: StreamingGenerator, sample: ClipSample) -> Latents:
    """The latents of a sample's frames and sound, by the encoders of the checkpoint."""
    sound = torch.from_numpy(sample.audio[: len(sample.frames) * SAMPLE_RATE // FPS])[None]
    video = _seen(generator, sample.frames)
    return video[0].numpy(), generator.system.audio_codec.encode(sound)[0].numpy()


def _seen(generator: StreamingGenerator, frames: np.ndarray) -> torch.Tensor:
    """The latents [1, C, T] of frames uint8 [T, S, S, 3] around the face of the first; of a codec that makes
    whole frames those of the film that it makes of them, [1, C, T, H', W'], but for what is no whole latent.
    """
    codec = generator.system.video_codec
    if isinstance(codec, MotionCodec):
        crop = place(frames[0]).crop
        shown = [cut_square(frame, crop, codec.config.size) for frame in frames]
    else:
        whole = round(FPS / codec.grid.rate)
        frames = frames[: len(frames) // whole * whole]
        shown = [cut_window(frame, codec.film_size).reference_frame for frame in frames]
    return codec.encode(to_signal(torch.from_numpy(np.stack(shown)).permute(3, 0, 1, 2)[None]))


@torch.inference_mode()
def reconstruction(generator: StreamingGenerator, corpus: Corpus, clip: Clip) -> ClipSample:
    """The truth, encoded and decoded by both autoencoders."""
    latents = _seen(generator, clip.read_frames(0, clip.frames))
    request = _of_sibling(corpus, clip)
    return _with_sound(generator, clip, request.image, _shown(generator, request, latents))


@torch.inference_mode()
def true_motion(generator: StreamingGenerator, corpus: Corpus, clip: Clip) -> ClipSample:
    """The ceiling of every mode: the corpus's own motion, whose latents the transformer learns, animates
    the reference. The sound is that of `reconstruction`.
    """
    request = _of_sibling(corpus, clip)
    return _with_sound(generator, clip, request.image, moved(generator, request, clip))


@torch.inference_mode()
def moved(generator: StreamingGenerator, request: GenerationRequest, clip: Clip) -> np.ndarray:
    """Frames of the request's picture moved by a clip's own motion, which says all that the face does,
    whatever it does in the picture.
    """
    codec = generator.system.video_codec
    motion = torch.from_numpy(with_free(clip.read_motion(), codec.channels - len(MOTION)))
    return _shown(generator, request, codec.encode_motion(motion[None]), at_rest=True)


def _shown(
    generator: StreamingGenerator,
    request: GenerationRequest,
    latents: torch.Tensor,
    at_rest: bool = False,
) -> np.ndarray:
    """Frames of video latents [1, C, T] with the request's picture."""
    codec, canvas = generator.system.video_codec, generator.canvas(request)
    reference = codec.encode_reference(canvas.reference(CPU))
    return codec.animate(latents, canvas, reference.at_rest() if at_rest else reference)[0]


def _of_sibling(corpus: Corpus, clip: Clip) -> GenerationRequest:
    picture = reference_picture(corpus, clip)
    return GenerationRequest(picture, text="-", size=film_side(picture))


def _with_sound(
    generator: StreamingGenerator, clip: Clip, picture: np.ndarray, frames: np.ndarray
) -> ClipSample:
    """Frames as large as a picture, and the clip's sound after its autoencoder."""
    codec = generator.system.audio_codec
    heard = decode_whole(codec, codec.encode(torch.from_numpy(clip.read_audio())[None]))
    return ClipSample(as_large_as(picture, frames), heard[0].clamp(-1, 1).numpy())


def film_side(picture: np.ndarray) -> int:
    """The size to ask for, so that films are as large as a picture [S, S, 3]."""
    return max(MIN_SIZE, min(picture.shape[:2]))


def as_large_as(picture: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Frames [T, H, W, 3] reduced to the size of a picture [S, S, 3]: those of tiny ones are larger."""
    size = picture.shape[1::-1]
    if frames.shape[2:0:-1] == size:
        return frames
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def generate(
    generator: StreamingGenerator, request: GenerationRequest, setting: Setting
) -> ClipSample:
    """Stream `request` and mux it as the page does, with the time of each chunk."""
    last = time.perf_counter()
    state = generator.start(request)
    state.sampler = setting.sampler
    muxer = StreamMuxer(*state.film_size)
    chunks, spent = [], []
    for chunk in generator.stream(state=state):
        muxer.add(chunk.frames, chunk.audio)
        chunks.append(chunk)
        now = time.perf_counter()
        spent.append(now - last)
        last = now
    timing = Timing(spent[0], tuple(spent[1:]))
    return ClipSample(
        as_large_as(request.image, np.concatenate([c.frames for c in chunks])),
        np.concatenate([c.audio for c in chunks]),
        timing,
        None if request.transcript else state.transcript,
    )


def generation(
    generator: StreamingGenerator, corpus: Corpus, setting: Setting, seed: int
) -> Callable[[Clip], ClipSample]:
    """One mode of one checkpoint."""
    return lambda clip: generate(generator, request_for(corpus, clip, setting, seed), setting)


def wrong_words(
    generator: StreamingGenerator, corpus: Corpus, setting: Setting, seed: int
) -> Callable[[Clip], ClipSample]:
    """A control: asked to say another held-out clip's sentence. Words and lips must be worse."""

    def make(clip: Clip) -> ClipSample:
        said = _stranger(corpus, clip).transcript
        seconds = clip.row["seconds"]
        fitting = Transcript(
            tuple(p for p in said.phonemes if p.end <= seconds),
            tuple(w for w in said.words if w.end <= seconds),
        )
        request = replace(request_for(corpus, clip, setting, seed), transcript=fitting)
        return generate(generator, request, setting)

    return make


def wrong_picture(
    generator: StreamingGenerator, corpus: Corpus, setting: Setting, seed: int
) -> Callable[[Clip], ClipSample]:
    """A control: shown another identity's picture. Identity must be worse."""

    def make(clip: Clip) -> ClipSample:
        picture = _stranger(corpus, clip).read_frames(0, 1)[0]
        request = replace(request_for(corpus, clip, setting, seed), image=picture)
        return generate(generator, request, setting)

    return make


def predicted_times(
    generator: StreamingGenerator, corpus: Corpus, setting: Setting, seed: int
) -> Callable[[Clip], ClipSample]:
    """The sentence as a user types it: every phoneme's time is predicted, and none is the clip's own."""

    def make(clip: Clip) -> ClipSample:
        asked = request_for(corpus, clip, setting, seed)
        request = replace(asked, transcript=None, text=clip.row["text"], seconds=None)
        return generate(generator, request, setting)

    return make


def driven(
    generator: StreamingGenerator, corpus: Corpus, setting: Setting, seed: int
) -> Callable[[Clip], ClipSample]:
    """Driven by the clip's own sound instead of its words: only the lips can be good or bad."""

    def make(clip: Clip) -> ClipSample:
        asked = request_for(corpus, clip, setting, seed)
        request = replace(asked, transcript=None, voice=None, audio=clip.read_audio())
        return generate(generator, request, setting)

    return make


def _stranger(corpus: Corpus, clip: Clip) -> Clip:
    """The next clip by another identity, of the same split if it has one. Raises ValueError if none has."""
    for clips in (corpus.films(clip.row["split"]), [c for c in corpus.clips if c.filmed]):
        place = clips.index(clip)
        for other in clips[place:] + clips[:place]:
            if other.identity != clip.identity:
                return other
    raise ValueError("The controls need a second identity.")
