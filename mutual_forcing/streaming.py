"""The only inference loop over chunks: a request in, finished audio-video chunks out."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .audio import excerpt, to_speech_loudness
from .canvas import prepare
from .characters import Character, Characters
from .checkpoint import System, load_checkpoint
from .chunks import (
    CHUNK_SECONDS,
    FRAMES_PER_CHUNK,
    SAMPLES_PER_CHUNK,
    chunks_for_samples,
    chunks_for_seconds,
    latents_to_tokens,
    tokens_to_latents,
)
from .codecs.protocol import FaceCodec, FilmLayout, PixelCodec
from .config import FILM_RATE, FPS, SAMPLE_RATE, SystemConfig, preset
from .faces import place
from .models.joint_model import Conditions, EncodedReferences, StreamCache
from .models.sound_reader import HeardSound
from .picture_window import cut_window
from .precision import mixed_precision
from .sampling import Sampler, prefill_static, sample_chunk, write_cache
from .text.inventory import Language, LanguageChoice, spoken_languages
from .text.phonemes import Reading, warm_up
from .text.timing import check_transcript, read_text, time_text
from .types import (
    MAX_SECONDS,
    MAX_STEPS,
    AVChunk,
    AVLatents,
    GenerationRequest,
    References,
    Steering,
    StreamPlan,
    TimedPhoneme,
    Transcript,
    stack_conditions,
)

BRANCHES = ("video", "audio")
VOICE_TOLERANCE = 3.0
"""LU by which a voice sample may be quieter or louder than the corpus. One that is 20 LU quieter was given
another voice by the model.
"""


class AbandonedError(RuntimeError):
    """The chunk in progress was given up, because its stream was abandoned."""


@dataclass
class StreamState:
    """One stream, owned by its session: everything needed to go on after a stop."""

    request: GenerationRequest
    sampler: Sampler
    transcript: Transcript | None
    references: EncodedReferences
    canvas: FilmLayout
    reference: Any  # the codec's own protocol.EncodedPicture
    driving: Tensor | None
    cache: StreamCache
    video_decoder: Any
    total: int
    heard: HeardSound | None = None
    """What the driving audio says, where the checkpoint can read it."""
    index: int = 0
    audio_decoder: Any = None
    abandoned: Callable[[], bool] | None = None
    """Asked before each denoising step; once it says yes, the chunk in progress raises AbandonedError."""
    waiting: list[AVChunk] = field(default_factory=list)
    """Chunks that were generated and whose sound is not all there yet (AudioCodec.look_ahead)."""
    sound: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    """What there is of it."""
    halves: bool = False
    """Whether the stream's first chunk comes as two, so that its first picture comes sooner (where sound need
    not wait for the next chunk).
    """
    unpainted: Tensor | None = None
    """The video codec's latents of a half that is still to come."""

    @property
    def seconds(self) -> float:
        """Length of what has been generated."""
        return self.index * CHUNK_SECONDS

    @property
    def ended(self) -> bool:
        """Whether nothing is to come but what `extend` adds."""
        return self.index >= self.total and not self.waiting and self.unpainted is None

    @property
    def nbytes(self) -> int:
        """Memory of its layout, of what its video decoder remembers and of chunks that wait for sound."""
        decoder = getattr(self.video_decoder, "nbytes", 0)
        return self.canvas.nbytes + decoder + sum(chunk.frames.nbytes for chunk in self.waiting)

    @property
    def film_size(self) -> tuple[int, int]:
        """Width and height of the frames, both even."""
        return self.canvas.size


@dataclass(frozen=True)
class BegunChunk:
    """Noise and given latents by branch, each [1, 1, N, D], and what they are denoised under (two rows when
    guided).
    """

    noise: dict[str, Tensor]
    fixed: dict[str, Tensor]
    conditions: Conditions


class StreamingGenerator:
    """Generates talking characters chunk by chunk. Holds no stream's state, only the last few pictures."""

    max_steps = MAX_STEPS
    streams = 1
    """How many streams may be asked for at the same time, by as many threads."""

    def __init__(self, system: System, device: torch.device) -> None:
        self.system, self.device = system, device
        self._characters = Characters()
        if isinstance(system.video_codec, FaceCodec):
            # A convolution of pictures is a third faster so, on a CPU and on a GPU.
            system.modules["video_codec"].to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] # not in torch's stubs

    @staticmethod
    def from_pretrained(
        source: str | Path = "tiny",
        device: str | torch.device | None = None,
        revision: str | None = None,
    ) -> StreamingGenerator:
        """Load an embedded preset, a folder or a Hub repository ("owner/name"), on CUDA when there is one.

        `revision`, or "owner/name@revision", is the repository's branch, tag or commit.

        Raises ValueError, in one sentence, when there is none or it does not fit.
        """
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return StreamingGenerator(load_checkpoint(source, device, revision), device)

    @staticmethod
    def random(name: str = "tiny", seed: int = 0) -> StreamingGenerator:
        """Random weights of a preset, for tests and timings: its output is noise."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            system = System.build(preset(name))
        for module in system.modules.values():
            module.eval().requires_grad_(False)
        return StreamingGenerator(system, torch.device("cpu"))

    @property
    def config(self) -> SystemConfig:
        """The checkpoint's configuration."""
        return self.system.config

    @property
    def languages(self) -> tuple[Language, ...]:
        """The languages that the checkpoint speaks."""
        return spoken_languages(self.system.duration.known_phonemes)

    @property
    def square_size(self) -> int:
        """Pixels on each side of the square around the face, as the decoder sees and paints it; of a codec
        that makes whole frames, those of their shorter side.
        """
        codec = self.system.video_codec
        return codec.square_size if isinstance(codec, FaceCodec) else min(self._film_size)

    @property
    def _film_size(self) -> tuple[int, int]:
        codec = self.system.video_codec
        assert isinstance(codec, PixelCodec), "every video codec is for faces or for pixels"
        return codec.film_size

    def check_steering(self, steering: Steering) -> None:
        """Raise ValueError for steering where the video codec has no names for what a face does."""
        if steering != Steering() and not isinstance(self.system.video_codec, FaceCodec):
            raise ValueError(
                "This checkpoint's video codec has no named controls: leave head, eyes and face unsteered."
            )

    def plan(self, request: GenerationRequest) -> StreamPlan:
        """What `request` will take; raises ValueError for text that cannot be spoken."""
        sampler = Sampler.of(request.steps, request.guidance_scale)
        transcript = self._transcript(request)
        total = self._length(request, transcript)
        unspoken = transcript.unspoken if transcript else ()
        return StreamPlan(total, total * CHUNK_SECONDS, request.mode, sampler.nfe, unspoken)

    def preview(self, text: str, language: LanguageChoice = "auto") -> Reading:
        """What will be said for a text: normalised, its words with their phonemes, and what cannot be said.

        Raises ValueError, in one sentence, as `plan` does for such a text.
        """
        return read_text(text, self.system.duration.known_phonemes, language)

    def warm_up(self) -> None:
        """Load the dictionaries of the languages that the checkpoint speaks, so that no first text waits."""
        for language in self.languages:
            warm_up(language)

    def canvas(self, request: GenerationRequest) -> FilmLayout:
        """Find the face of `request`, unless it says where it is, and lay out the film.

        A codec that makes whole frames has a film of its own size, whatever size the request asks for; it
        needs no face unless the film is to be of the face alone. Raises ValueError, in one sentence, for a
        face that cannot be animated.
        """
        crop = request.crop
        if isinstance(self.system.video_codec, FaceCodec):
            crop = crop or place(request.image).crop
            return prepare(request.image, crop, self.square_size, request.framing, request.size)
        if request.framing == "face":
            crop = crop or place(request.image).crop
        return cut_window(request.image, self._film_size, crop, request.framing)

    @torch.inference_mode()
    def character(self, request: GenerationRequest) -> Character:
        """Prepare the picture of `request` as it says, or take it from the last few that were prepared.

        Whoever knows the picture before the words can let the first chunk come sooner: half of what `start`
        takes is this. Raises ValueError as `canvas` does.
        """

        def make() -> Character:
            canvas = self.canvas(request)
            picture = canvas.reference(self.device)
            return Character(canvas, self.system.video_codec.encode_reference(picture))

        return self._characters.get(request, self.device, make)

    def prepare(self, request: GenerationRequest) -> None:
        """Read the picture of `request`, so that its next stream begins sooner; raises ValueError as
        `character` does.
        """
        self.character(request)

    def forget(self, state: StreamState) -> None:
        """Nobody goes on with a stream. Here it ends with its state."""

    @torch.inference_mode()
    def start(self, request: GenerationRequest) -> StreamState:
        """Encode the character, voice, text and driving audio. Nothing is generated yet.

        Raises ValueError for text that cannot be spoken, and for a picture whose face cannot be animated.
        """
        sampler = Sampler.of(request.steps, request.guidance_scale)
        transcript = self._transcript(request)
        total = self._length(request, transcript)
        character = self.character(request)
        reference = character.reference
        static = reference.tokens
        state = StreamState(
            request=request,
            sampler=sampler,
            transcript=transcript,
            references=self._references(static, request.voice, 2 if sampler.guided else 1),
            canvas=character.canvas,
            reference=reference,
            driving=None if request.audio is None else self._driving(request.audio, total),
            cache=self.system.model.new_cache(request.window),
            video_decoder=self._steered(
                self.system.video_codec.begin(request.seed), request.steering
            ),
            total=total,
            heard=self._listen(request),
        )
        silence = torch.zeros(1, SAMPLES_PER_CHUNK, device=self.device)
        model = self.system.model
        silent = latents_to_tokens(self.system.audio_codec.encode(silence), model.config.audio.grid)
        conditions = self._conditions(state, -1)
        prefill_static(model, static, silent, BRANCHES, conditions, state.cache, sampler)
        return state

    def stream(
        self, request: GenerationRequest | None = None, state: StreamState | None = None
    ) -> Generator[AVChunk, None, None]:
        """Yield chunks of a new request, or go on with `state`. May be closed at any time.

        Where the audio codec looks ahead, a chunk comes once the next one has been generated, or nothing
        follows.
        """
        if state is None:
            if request is None:
                raise ValueError("Give a request or the state of a stream.")
            state = self.start(request)
        yield from self._rest_of(state)

    def _rest_of(self, state: StreamState) -> Iterator[AVChunk]:
        while True:
            yield from self.ready(state)
            if state.unpainted is not None:
                self._second_half(state)
            elif state.index >= state.total:
                return
            else:
                self._next_chunk(state)

    def ready(self, state: StreamState) -> Iterator[AVChunk]:
        """Take the chunks whose sound is all there out of a stream; at its end nothing more is waited for."""
        while state.waiting:
            if len(state.sound) < _samples_of(state.waiting[0]):
                if state.index < state.total:
                    return
                self._finish_sound(state)
            yield _sounding(state)

    def extend(self, state: StreamState, text: str) -> None:
        """Append text to a stream; `stream(state=state)` then goes on where it stopped.

        What was not yet generated is still generated first; the language is found as the request says.
        Raises ValueError for unspeakable text, for a stream driven by audio, and beyond 600 seconds.
        """
        if state.driving is not None:
            raise ValueError("A stream driven by audio cannot be continued with text.")
        offset = state.total * CHUNK_SECONDS
        language = state.request.language
        more = time_text(text, self.system.duration, language=language).shifted(offset)
        if more.seconds > MAX_SECONDS:
            raise ValueError(f"The stream would be longer than {MAX_SECONDS:.0f} seconds.")
        state.transcript = (state.transcript or Transcript()).then(more)
        state.total = chunks_for_seconds(more.seconds)

    def rest(self, state: StreamState) -> None:
        """Append one chunk in which nothing is said, as a stream waits for its next text.

        Raises ValueError for a stream driven by audio, and beyond 600 seconds.
        """
        if state.driving is not None:
            raise ValueError("A stream driven by audio ends with it.")
        start, end = state.total * CHUNK_SECONDS, (state.total + 1) * CHUNK_SECONDS
        if end > MAX_SECONDS:
            raise ValueError(f"The stream would be longer than {MAX_SECONDS:.0f} seconds.")
        pause = Transcript((TimedPhoneme("_", start, end),))
        state.transcript = (state.transcript or Transcript()).then(pause)
        state.total += 1

    def steer(
        self,
        state: StreamState,
        *,
        caption: str | None = None,
        steps: int | None = None,
        steering: Steering | None = None,
    ) -> None:
        """Change the style, the steps (1..50) or what the face is asked for from the next chunk on; None
        leaves them.

        Not while a chunk is being made. A change into guided Multi mode lets the unguided rows start
        from the past that exists; after `window` chunks they have one of their own. Raises ValueError
        for a wrong number of steps, and for steering where the video codec has no names for what a face does;
        the stream then goes on unchanged.
        """
        request, sampler = self._changed(state, caption, steps, steering)
        if steering is not None:
            state.video_decoder = self._steered(state.video_decoder, steering)
        if sampler.guided != state.sampler.guided:
            rows = 2 if sampler.guided else 1
            state.cache.set_rows(rows)
            state.references = state.references.with_rows(rows)
        state.request, state.sampler = request, sampler

    def _changed(
        self, state: StreamState, caption: str | None, steps: int | None, steering: Steering | None
    ) -> tuple[GenerationRequest, Sampler]:
        """The request of a stream that goes on otherwise, and its sampler; ValueError as `steer` has it."""
        request = replace(
            state.request,
            caption=state.request.caption if caption is None else caption,
            steps=state.request.steps if steps is None else steps,
            steering=state.request.steering if steering is None else steering,
        )
        self.check_steering(request.steering)
        return request, Sampler.of(request.steps, request.guidance_scale)

    def _steered(self, decoder: Any, steering: Steering) -> Any:
        """The state of a video decoder that is asked for this from its next latents on."""
        self.check_steering(steering)
        codec = self.system.video_codec
        return codec.steer(decoder, steering) if isinstance(codec, FaceCodec) else decoder

    @torch.inference_mode()
    def _next_chunk(self, state: StreamState) -> None:
        """Generate a chunk, which then waits for its sound."""
        began = time.perf_counter()
        begun = self.begin_chunk(state)

        def give_up(*_: Any) -> None:
            if state.abandoned and state.abandoned():
                raise AbandonedError

        latents = sample_chunk(
            self.system.model, begun.noise, begun.conditions, state.cache, state.sampler,
            begun.fixed, give_up,
        )  # fmt: skip
        self.decode_chunk(state, latents, began)
        write_cache(self.system.model, latents, begun.conditions, state.cache, state.sampler)

    def begin_chunk(self, state: StreamState) -> BegunChunk:
        """What the next chunk of a stream starts from."""
        fixed = {} if state.driving is None else {"audio": state.driving[:, state.index, None]}
        noise = {name: x for name, x in self._noise(state).items() if name not in fixed}
        return BegunChunk(noise, fixed, self._conditions(state, state.index))

    def decode_chunk(self, state: StreamState, latents: AVLatents, began: float) -> None:
        """Show the clean latents of a chunk that was begun at `began` of time.perf_counter: it, or its first
        half, then waits for what is still to come of its sound, and the stream is at the next.

        What the decoder mends in what it shows, the cache does not see: a model that sees few blinks wants
        more of them.
        """
        audio = self._decode_audio(state, latents)
        state.sound = np.concatenate([state.sound, audio])
        state.index += 1
        assert latents.video is not None
        video = tokens_to_latents(latents.video, self.config.model.video.grid)
        divisible = not self.system.audio_codec.look_ahead and video.shape[2] % 2 == 0
        if state.halves and state.index == 1 and divisible:
            video, state.unpainted = video.chunk(2, dim=2)
        self._paint(state, video, began)

    @torch.inference_mode()
    def _second_half(self, state: StreamState) -> None:
        video, state.unpainted = state.unpainted, None
        assert video is not None
        self._paint(state, video, time.perf_counter(), FRAMES_PER_CHUNK // 2)

    def _paint(self, state: StreamState, video: Tensor, began: float, first: int = 0) -> None:
        """Make frames of the newest chunk, of its codec's latents, from frame `first` on."""
        index, frames = state.index - 1, self._decode_video(state, video)
        state.waiting.append(
            AVChunk(
                index=index,
                total=state.total,
                start=index * CHUNK_SECONDS + first / FPS,
                frames=frames,
                audio=np.zeros(0, np.float32),
                nfe=state.sampler.nfe,
                seconds_spent=time.perf_counter() - began,
                heard=self._heard(state, index * FRAMES_PER_CHUNK + first, len(frames)),
            )
        )

    @torch.inference_mode()
    def _finish_sound(self, state: StreamState) -> None:
        """The sound of the chunks that are waiting, after which nothing is known to come."""
        audio, state.audio_decoder = self.system.audio_codec.finish(state.audio_decoder)
        state.sound = np.concatenate([state.sound, _samples(audio)])
        assert len(state.sound) >= len(state.waiting) * SAMPLES_PER_CHUNK, "a codec lost some sound"

    def _conditions(self, state: StreamState, chunk: int) -> Conditions:
        """Of one chunk; -1 is the static one before the stream."""
        caption = state.request.caption
        model = self.system.model
        text = model.tokens(state.transcript, caption, chunk, 1, self.device)
        if state.sampler.guided:
            text = stack_conditions(text, model.tokens(None, "", chunk, 1, self.device))
        encoded = model.encode_text(text)
        if state.heard is not None:
            encoded = state.heard.under(encoded, chunk)
        return Conditions(encoded, state.references)

    def _noise(self, state: StreamState) -> dict[str, Tensor]:
        """Noise of one chunk: depends on the seed and the chunk's number alone, on any device."""
        generator = torch.Generator().manual_seed(state.request.seed)
        drawn = int(torch.randint(2**62, (1,), generator=generator).item())
        generator.manual_seed(drawn ^ (state.index * 0x9E3779B9))
        return {
            name: torch.randn(1, 1, branch.grid.tokens, branch.token_dim, generator=generator).to(
                self.device
            )
            for name, branch in self.config.model.branches.items()
        }

    def _decode_video(self, state: StreamState, video: Tensor) -> np.ndarray:
        with mixed_precision(self.device):
            frames, state.video_decoder = self.system.video_codec.animate(
                video, state.canvas, state.reference, state.video_decoder
            )
        return frames

    def _decode_audio(self, state: StreamState, latents: AVLatents) -> np.ndarray:
        if state.request.audio is not None:
            begin = state.index * SAMPLES_PER_CHUNK
            return excerpt(state.request.audio, begin, SAMPLES_PER_CHUNK).astype(np.float32)
        assert latents.audio is not None
        audio, state.audio_decoder = self.system.audio_codec.decode(
            tokens_to_latents(latents.audio, self.config.model.audio.grid), state.audio_decoder
        )
        return _samples(audio)

    def _heard(self, state: StreamState, first: int, frames: int) -> np.ndarray | None:
        """The sound of these frames of the film as the user gave it."""
        if state.request.heard is None:
            return None
        return excerpt(state.request.heard, first * FILM_RATE // FPS, frames * FILM_RATE // FPS)

    def _transcript(self, request: GenerationRequest) -> Transcript | None:
        duration = self.system.duration
        if request.transcript is not None:
            check_transcript(request.transcript, duration.known_phonemes)
        if request.transcript is not None or request.audio is not None:
            return request.transcript
        return time_text(request.text, duration, language=request.language)

    def _length(self, request: GenerationRequest, transcript: Transcript | None) -> int:
        if request.seconds is not None:
            return chunks_for_seconds(request.seconds)
        if request.audio is not None:
            return chunks_for_samples(len(request.audio))
        assert transcript is not None
        return chunks_for_seconds(min(transcript.seconds, MAX_SECONDS))

    def _references(self, static: Tensor, voice: np.ndarray | None, rows: int) -> EncodedReferences:
        count = self.config.model.voice_latents
        if voice is None:
            tokens = torch.zeros(1, count, self.config.model.audio.token_dim, device=self.device)
        else:
            tokens = self._voice(voice, count)
        present = torch.full((rows,), voice is not None, device=self.device)
        references = References(
            picture=static.expand(rows, -1, -1),
            voice=tokens.expand(rows, -1, -1),
            has_picture=torch.ones_like(present),
            has_voice=present,
        )
        return self.system.model.encode_references(references)

    def _voice(self, voice: np.ndarray, latents: int) -> Tensor:
        """The first seconds of the voice sample, repeated if it is short, as loud as the voices that the
        model knows: [1, latents, C].
        """
        length = round(latents / self.config.model.audio.grid.rate * SAMPLE_RATE)
        voice = to_speech_loudness(voice[:length].astype(np.float32), VOICE_TOLERANCE)
        samples = torch.from_numpy(np.resize(voice, length)).to(self.device)
        return self.system.audio_codec.encode(samples[None]).transpose(1, 2)

    def _listen(self, request: GenerationRequest) -> HeardSound | None:
        reader = self.system.sound_reader
        # Text beside driving audio has no known times, so the audio alone moves the lips.
        if reader is None or request.audio is None or request.transcript is not None:
            return None
        return HeardSound(reader, request.audio)

    def _driving(self, audio: np.ndarray, chunks: int) -> Tensor:
        """Latents of the driving audio [1, K, N, C], padded with silence or cut to K chunks."""
        samples = torch.zeros(chunks * SAMPLES_PER_CHUNK)
        count = min(len(audio), len(samples))
        samples[:count] = torch.from_numpy(audio[:count].astype(np.float32))
        encoded = self.system.audio_codec.encode(samples[None].to(self.device))
        return latents_to_tokens(encoded, self.config.model.audio.grid)


def _samples(audio: Tensor) -> np.ndarray:
    """A codec's sound [1, N] as float32 [N] within -1..1."""
    return audio[0].clamp(-1, 1).cpu().numpy()


def _samples_of(chunk: AVChunk) -> int:
    """How many samples last as long as its frames."""
    return len(chunk.frames) * SAMPLE_RATE // FPS


def _sounding(state: StreamState) -> AVChunk:
    """Take the first chunk that waits, with its sound, out of the state."""
    chunk = state.waiting.pop(0)
    count = _samples_of(chunk)
    audio, state.sound = state.sound[:count], state.sound[count:]
    return replace(chunk, audio=audio)
