"""Source-filter codec: 960 samples at 24 kHz to one latent, and back as voiced and unvoiced sound, filtered.

The decoder is a causal ConvNeXt that predicts, 200 times a second, a pitch and two spectral envelopes.
A train of pulses at that pitch through the first and white noise through the second are overlapped and
added. A voice so needs no critics to sound clear: its harmonics are exact whatever the envelopes are (as in
WORLD, Morise 2016; DDSP, Engel 2020; NSF, Wang 2019).

Frame i covers samples i * HOP .. i * HOP + FRAME, and all that its source needs is the phase of the pitch in
its middle: streaming carries one phase, the samples still to be overlapped, and how much noise was used.
Shape letters: B batch, N samples, T latents, F frames (8 T), K bins (FRAME / 2 + 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio import mel_filters
from ..chunks import SAMPLES_PER_CHUNK
from ..config import SAMPLE_RATE, SourceFilterConfig, TokenGrid

HOP = 120
FRAME = 480
SAMPLES_PER_LATENT = 960
FRAMES_PER_LATENT = SAMPLES_PER_LATENT // HOP
STEPS_PER_LATENT = 4
"""In which both networks compute within a latent: each step of the decoder makes two frames."""
STEP = SAMPLES_PER_LATENT // STEPS_PER_LATENT
BINS = FRAME // 2 + 1
LOWEST_PITCH, HIGHEST_PITCH = 50.0, 600.0
HIGHEST_HARMONIC = 11_500.0
NOISE_SAMPLES = 2**18
MAX_LOG_GAIN = 5.0
PITCH_BINS = 128
"""Of the long spectrum that shows the encoder low harmonics apart: up to 1.5 kHz."""


@dataclass(frozen=True)
class SourceFilterState:
    """Past inputs of each causal convolution; pitch [B] and phase [B] (in turns) of the last frame; the
    samples still to be overlapped [B, FRAME - HOP]; and the number of frames so far.
    """

    convolutions: tuple[Tensor, ...]
    pitch: Tensor
    phase: Tensor
    overlap: Tensor
    frames: int


@dataclass(frozen=True)
class Frames:
    """What the decoder predicts: pitch in hertz [B, F], and the logarithms of the envelopes [B, F, K] of
    voiced and unvoiced sound.
    """

    pitch: Tensor
    voiced: Tensor
    unvoiced: Tensor


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a pointwise MLP; causal on request."""

    KERNEL = 7

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.depthwise = nn.Conv1d(width, width, self.KERNEL, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, width * 3)
        self.down = nn.Linear(width * 3, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[B, W, T] and the last 6 inputs (zeros if None) to [B, W, T] and the new last 6."""
        reach = self.KERNEL - 1
        if self.causal:
            past = x.new_zeros(*x.shape[:2], reach) if past is None else past
            padded = torch.cat([past, x], -1)
        else:
            padded = F.pad(x, (reach // 2, reach // 2))
        hidden = self.norm(self.depthwise(padded).transpose(1, 2))
        hidden = self.down(F.gelu(self.up(hidden))) * self.scale
        return x + hidden.transpose(1, 2), padded[..., -reach:]


class Analysis(nn.Module):
    """Waveform [B, N] to what the encoder sees [B, features, N / STEP], centred on multiples of STEP."""

    short: Tensor
    long: Tensor
    filters: Tensor

    def __init__(self, mel_bins: int) -> None:
        super().__init__()
        self.features = mel_bins + PITCH_BINS
        self.register_buffer("short", torch.hann_window(1024), persistent=False)
        self.register_buffer("long", torch.hann_window(2048), persistent=False)
        self.register_buffer("filters", mel_filters(mel_bins, 1024), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        with torch.autocast(audio.device.type, enabled=False):  # logarithms need fp32
            short, long = (
                torch.stft(audio.float(), len(w), STEP, window=w, return_complex=True).abs()
                for w in (self.short, self.long)
            )
            count = audio.shape[-1] // STEP
            seen = self.filters @ short[..., :count], long[:, :PITCH_BINS, :count] / 2
            return torch.log(torch.cat(seen, 1) + 1e-3)


class SourceFilterEncoder(nn.Module):
    """Waveform [B, N] to latents [B, C, N / 960]."""

    def __init__(self, config: SourceFilterConfig) -> None:
        super().__init__()
        width = config.encoder_width
        self.analysis = Analysis(config.mel_bins)
        self.input = nn.Conv1d(self.analysis.features, width, 3, padding=1)
        self.fine = nn.ModuleList(ConvNeXtBlock(width, causal=False) for _ in range(2))
        self.down = nn.Conv1d(width, width, STEPS_PER_LATENT, stride=STEPS_PER_LATENT)
        count = config.encoder_blocks - 2
        self.coarse = nn.ModuleList(ConvNeXtBlock(width, causal=False) for _ in range(count))
        self.out = nn.Conv1d(width, config.latent_channels, 1)

    def forward(self, audio: Tensor) -> Tensor:
        hidden = self.input(self.analysis(audio))
        for block in self.fine:
            hidden, _ = block(hidden)
        hidden = self.down(hidden)
        for block in self.coarse:
            hidden, _ = block(hidden)
        return self.out(hidden)


class SourceFilterDecoder(nn.Module):
    """Latents [B, C, T] to Frames, causal, and these to waveform [B, 960 T]."""

    window: Tensor
    noise: Tensor

    def __init__(self, config: SourceFilterConfig) -> None:
        super().__init__()
        width = config.decoder_width
        self.input = nn.Conv1d(config.latent_channels, width, 1)
        self.coarse = nn.ModuleList(ConvNeXtBlock(width, causal=True) for _ in range(3))
        self.up = nn.Conv1d(width, width * STEPS_PER_LATENT, 1)
        count = config.decoder_blocks - 3
        self.fine = nn.ModuleList(ConvNeXtBlock(width, causal=True) for _ in range(count))
        self.norm = nn.LayerNorm(width)
        frames = FRAMES_PER_LATENT // STEPS_PER_LATENT
        self.out = nn.Linear(width, frames * (2 * BINS + 1))
        with torch.no_grad():
            self.out.weight.mul_(0.3)
            voiced, unvoiced, pitch = self.out.bias.view(frames, -1).split((BINS, BINS, 1), 1)
            voiced.fill_(-4.0)
            unvoiced.fill_(-7.0)
            pitch.zero_()
        self.register_buffer("window", torch.hann_window(FRAME), persistent=False)
        noise = torch.randn(NOISE_SAMPLES, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", noise, persistent=False)

    def predict(
        self, latents: Tensor, past: tuple[Tensor, ...] | None = None
    ) -> tuple[Frames, tuple[Tensor, ...]]:
        """Frames of latents, and the past inputs of each convolution."""
        before = iter(past or [None] * (len(self.coarse) + len(self.fine)))
        kept: list[Tensor] = []
        hidden = self.input(latents)
        for block in self.coarse:
            hidden, last = block(hidden, next(before))
            kept.append(last)
        hidden = self.up(hidden).unflatten(1, (-1, STEPS_PER_LATENT)).transpose(2, 3).flatten(2)
        for block in self.fine:
            hidden, last = block(hidden, next(before))
            kept.append(last)
        out = self.out(self.norm(hidden.transpose(1, 2))).float()
        out = out.unflatten(-1, (-1, 2 * BINS + 1)).flatten(1, 2)
        voiced, unvoiced, pitch = out.split((BINS, BINS, 1), -1)
        low, high = math.log(LOWEST_PITCH), math.log(HIGHEST_PITCH)
        hertz = torch.exp(low + (high - low) * torch.sigmoid(pitch[..., 0]))
        return Frames(hertz, voiced, unvoiced), tuple(kept)

    @torch.no_grad()
    def sharpen(self, strength: float, width: int) -> None:
        """Let the last layer predict voiced envelopes further from their mean over `width` bins (odd), times
        1 + strength, as a formant postfilter does. Exact: they are linear in what it sees.
        """
        eye = torch.eye(BINS, device=self.out.weight.device)
        padded = F.pad(eye, (width // 2, width // 2), mode="replicate")
        mean = F.avg_pool1d(padded, width, 1).T
        sharper = (1 + strength) * eye - strength * mean
        for values in (
            self.out.weight.unflatten(0, (-1, 2 * BINS + 1)),
            self.out.bias.view(-1, 2 * BINS + 1),
        ):
            voiced = values[:, :BINS]
            voiced.copy_(torch.einsum("kj,fj...->fk...", sharper, voiced))

    def synthesize(
        self, frames: Frames, state: SourceFilterState | None, start: int = 0
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Sound [B, 120 F] of frames; then phase, overlap and number of frames as the state keeps them.

        start: where in the noise a stream begins.
        """
        before = state.pitch if state else frames.pitch[:, 0]
        pitch = torch.cat([before[:, None], frames.pitch], 1)
        # The phase in the middle of every frame, in turns; fp64, so that no stream is too long.
        turns = (pitch[:, 1:] + pitch[:, :-1]).double() * (HOP / 2 / SAMPLE_RATE)
        first = state.phase if state else torch.zeros_like(turns[:, 0])
        phase = torch.remainder(first[:, None] + turns.cumsum(1), 1.0)
        voiced = pulses(phase, frames.pitch, (pitch[:, 1:] - pitch[:, :-1]) / HOP)
        number = state.frames if state else start
        unvoiced = self._noise(number, frames.pitch.shape[1])
        # A harmonic of amplitude 1, and white noise of deviation 1, have height 1.
        voiced, unvoiced = (
            torch.fft.rfft(part * self.window) * scale
            for part, scale in ((voiced, 4 / FRAME), (unvoiced, (3 / 8 * FRAME) ** -0.5))
        )
        gains = (torch.exp(x.clamp_max(MAX_LOG_GAIN)) for x in (frames.voiced, frames.unvoiced))
        spectrum = voiced * next(gains) + unvoiced * next(gains)
        made = torch.fft.irfft(spectrum, n=FRAME) * self.window * (FRAME / 4 / 1.5)
        audio, overlap = self._overlap_add(made, state.overlap if state else None)
        return audio, phase[:, -1], overlap, number + frames.pitch.shape[1]

    def _noise(self, number: int, count: int) -> Tensor:
        """White noise of `count` frames from the `number`-th on [count, FRAME], the same for every stream."""
        starts = (torch.arange(number, number + count, device=self.noise.device) * HOP)[:, None]
        places = starts + torch.arange(FRAME, device=self.noise.device)
        return self.noise[places % NOISE_SAMPLES]

    def _overlap_add(self, frames: Tensor, overlap: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sum overlapping frames [B, F, FRAME]: the finished samples [B, F * HOP] and the tail."""
        count = frames.shape[1]
        length = (count - 1) * HOP + FRAME
        summed = F.fold(
            frames.transpose(1, 2), (1, length), kernel_size=(1, FRAME), stride=(1, HOP)
        )[:, 0, 0]
        if overlap is not None:
            summed = summed + F.pad(overlap, (0, length - overlap.shape[-1]))
        return summed[:, : count * HOP], summed[:, count * HOP :]


def pulses(phase: Tensor, pitch: Tensor, slope: Tensor) -> Tensor:
    """Trains of pulses [B, F, FRAME]: all harmonics below 11.5 kHz with amplitude 1.

    phase [B, F]: turns in the middle of each frame. pitch [B, F] in hertz there; slope: how it changes, in
    hertz per sample.
    """
    place = torch.arange(FRAME, device=pitch.device) - (FRAME - 1) / 2
    glide = pitch[..., None] * place + slope[..., None] * place.square() / 2
    turn = torch.remainder(phase[..., None].float() + glide / SAMPLE_RATE, 1.0)
    half = math.pi * turn
    count = (HIGHEST_HARMONIC / pitch).floor()[..., None]
    # sum of cos(h t) for h = 1..H is sin((H + 1/2) t) / (2 sin(t / 2)) - 1/2, and H where sin is 0.
    sine = torch.sin(half)
    small = sine.abs() < 1e-3
    ratio = torch.sin((2 * count + 1) * half) / (2 * torch.where(small, 1.0, sine))
    return torch.where(small, count + 0.5, ratio) - 0.5


class SourceFilterCodec(nn.Module):
    """Encoder, decoder and the per-channel statistics that standardise the latents: a protocol.AudioCodec."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: SourceFilterConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SourceFilterEncoder(config)
        self.decoder = SourceFilterDecoder(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels, 1))
        self.register_buffer("latent_std", torch.ones(config.latent_channels, 1))

    def encode(self, audio: Tensor) -> Tensor:
        """Waveform [B, N] at 24 kHz, N a multiple of 960, to standardised latents [B, C, N / 960]."""
        if audio.shape[-1] % SAMPLES_PER_LATENT:
            raise ValueError(f"{audio.shape[-1]} samples are no whole number of latents (960).")
        return (self.encoder(audio) - self.latent_mean) / self.latent_std

    def decode(
        self, latents: Tensor, state: SourceFilterState | None = None
    ) -> tuple[Tensor, SourceFilterState]:
        """Standardised latents [B, C, T] to waveform [B, 960 T] and the state to go on."""
        raw = latents * self.latent_std + self.latent_mean
        frames, past = self.decoder.predict(raw, state.convolutions if state else None)
        audio, phase, overlap, count = self.decoder.synthesize(frames, state)
        return audio, SourceFilterState(past, frames.pitch[:, -1], phase, overlap, count)

    def finish(self, state: SourceFilterState) -> tuple[Tensor, SourceFilterState]:
        """No sound, [B, 0]: all of it came with its latents."""
        return state.pitch.new_zeros(len(state.pitch), 0), state

    @property
    def look_ahead(self) -> int:
        """The decoder is causal."""
        return 0

    @property
    def grid(self) -> TokenGrid:
        """One latent for every 960 samples."""
        return TokenGrid(SAMPLES_PER_CHUNK // SAMPLES_PER_LATENT)

    @property
    def channels(self) -> int:
        """Numbers of a latent."""
        return self.config.latent_channels

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the raw latents' per-channel mean and deviation [C]; reconstructions do not change."""
        self.latent_mean.copy_(mean.view_as(self.latent_mean))
        self.latent_std.copy_(std.clamp_min(1e-4).view_as(self.latent_std))
