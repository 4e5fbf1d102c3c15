"""STFT codec: 640 samples to one latent, and back through a causal inverse-STFT head.

The decoder is a causal ConvNeXt with the head of Vocos (Siuzdak 2023): it predicts magnitude and phase
of short frames, which are overlapped and added. Frame i covers samples i * hop .. i * hop + window, so
the samples before (i + 1) * hop are final after frame i: streaming needs only the pending overlap.
Shape letters: B batch, N samples, T latents (N / 640), C latent channels, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio import mel_filters, mel_spectrogram
from ..chunks import SAMPLES_PER_CHUNK
from ..config import StftCodecConfig, TokenGrid

HOP = 160
FRAME = 640
SAMPLES_PER_LATENT = 640
FRAMES_PER_LATENT = SAMPLES_PER_LATENT // HOP
MEL_WINDOW = 1024
MAX_LOG_MAGNITUDE = 6.0


@dataclass(frozen=True)
class AudioDecoderState:
    """Past inputs of each causal convolution and the samples still to be overlapped."""

    convolutions: tuple[Tensor, ...]
    overlap: Tensor


class LogMel(nn.Module):
    """Waveform [B, N] to log-mel [B, bins, N / hop], frames centred on multiples of the hop."""

    window: Tensor
    filters: Tensor

    def __init__(self, bins: int, window: int = MEL_WINDOW, hop: int = HOP) -> None:
        super().__init__()
        self.hop = hop
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.register_buffer("filters", mel_filters(bins, window), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        with torch.autocast(audio.device.type, enabled=False):  # a logarithm needs fp32
            mel = mel_spectrogram(audio.float(), self.filters, self.window, self.hop)
            return torch.log(mel + 1e-3)


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


class AudioEncoder(nn.Module):
    """Waveform [B, N] to latents [B, C, N / 640]."""

    def __init__(self, config: StftCodecConfig) -> None:
        super().__init__()
        width = config.encoder_width
        self.mel = LogMel(config.mel_bins)
        self.input = nn.Conv1d(config.mel_bins, width, 3, padding=1)
        self.fine = nn.ModuleList(ConvNeXtBlock(width, causal=False) for _ in range(2))
        self.down = nn.Conv1d(width, width, FRAMES_PER_LATENT, stride=FRAMES_PER_LATENT)
        count = config.encoder_blocks - 2
        self.coarse = nn.ModuleList(ConvNeXtBlock(width, causal=False) for _ in range(count))
        self.out = nn.Conv1d(width, config.latent_channels, 1)

    def forward(self, audio: Tensor) -> Tensor:
        hidden = self.input(self.mel(audio))
        for block in self.fine:
            hidden, _ = block(hidden)
        hidden = self.down(hidden)
        for block in self.coarse:
            hidden, _ = block(hidden)
        return self.out(hidden)


class AudioDecoder(nn.Module):
    """Latents [B, C, T] to waveform [B, 640 T], causal."""

    window: Tensor

    def __init__(self, config: StftCodecConfig) -> None:
        super().__init__()
        width = config.decoder_width
        self.input = nn.Conv1d(config.latent_channels, width, 1)
        count = config.decoder_blocks
        self.coarse = nn.ModuleList(ConvNeXtBlock(width, causal=True) for _ in range(2))
        self.up = nn.Conv1d(width, width * FRAMES_PER_LATENT, 1)
        self.fine = nn.ModuleList(ConvNeXtBlock(width, causal=True) for _ in range(count - 2))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, FRAME + 2)
        window = torch.hann_window(FRAME)
        self.register_buffer("window", window, persistent=False)
        self.overlap_gain = float((window**2).sum() / HOP)

    def forward(
        self, latents: Tensor, state: AudioDecoderState | None
    ) -> tuple[Tensor, AudioDecoderState]:
        nothing = [None] * (len(self.coarse) + len(self.fine))
        before = iter(state.convolutions if state else nothing)
        kept: list[Tensor] = []
        hidden = self.input(latents)
        for block in self.coarse:
            hidden, last = block(hidden, next(before))
            kept.append(last)
        hidden = self.up(hidden).unflatten(1, (-1, FRAMES_PER_LATENT)).transpose(2, 3).flatten(2)
        for block in self.fine:
            hidden, last = block(hidden, next(before))
            kept.append(last)
        frames = self._frames(self.out(self.norm(hidden.transpose(1, 2))))
        audio, overlap = self._overlap_add(frames, state.overlap if state else None)
        return audio, AudioDecoderState(tuple(kept), overlap)

    def _frames(self, spectrum: Tensor) -> Tensor:
        """[B, T, FRAME + 2] log-magnitude and phase to windowed frames [B, T, FRAME]."""
        magnitude, phase = spectrum.float().chunk(2, -1)
        magnitude = torch.exp(magnitude.clamp_max(MAX_LOG_MAGNITUDE))
        complex_spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())
        return torch.fft.irfft(complex_spectrum, n=FRAME) * self.window / self.overlap_gain

    def _overlap_add(self, frames: Tensor, overlap: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sum overlapping frames: the finished samples [B, T * HOP] and the tail [B, FRAME - HOP]."""
        count = frames.shape[1]
        length = (count - 1) * HOP + FRAME
        summed = F.fold(
            frames.transpose(1, 2), (1, length), kernel_size=(1, FRAME), stride=(1, HOP)
        )[:, 0, 0]
        if overlap is not None:
            summed = summed + F.pad(overlap, (0, length - overlap.shape[-1]))
        return summed[:, : count * HOP], summed[:, count * HOP :]


class StftCodec(nn.Module):
    """Encoder, decoder and the per-channel statistics that standardise the latents: a protocol.AudioCodec."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: StftCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = AudioEncoder(config)
        self.decoder = AudioDecoder(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels, 1))
        self.register_buffer("latent_std", torch.ones(config.latent_channels, 1))

    def encode(self, audio: Tensor) -> Tensor:
        """Waveform [B, N] at 16 kHz, N a multiple of 640, to standardised latents [B, C, N / 640]."""
        if audio.shape[-1] % SAMPLES_PER_LATENT:
            raise ValueError(f"{audio.shape[-1]} samples are no whole number of latents (640).")
        return (self.encoder(audio) - self.latent_mean) / self.latent_std

    def decode(
        self, latents: Tensor, state: AudioDecoderState | None = None
    ) -> tuple[Tensor, AudioDecoderState]:
        """Standardised latents [B, C, T] to waveform [B, 640 T] and the state to go on."""
        return self.decoder(latents * self.latent_std + self.latent_mean, state)

    @property
    def grid(self) -> TokenGrid:
        """One latent for every 640 samples."""
        return TokenGrid(SAMPLES_PER_CHUNK // SAMPLES_PER_LATENT)

    @property
    def channels(self) -> int:
        """Numbers of a latent."""
        return self.config.latent_channels

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the raw latents' per-channel mean and deviation [C]; reconstructions do not change."""
        self.latent_mean.copy_(mean.view_as(self.latent_mean))
        self.latent_std.copy_(std.clamp_min(1e-4).view_as(self.latent_std))
