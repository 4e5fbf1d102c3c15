"""Causal video autoencoder: four frames to one 8 x 8 latent; the decoder may see the reference.

The encoder looks at each group of four frames alone. The decoder carries two small feature maps from
the previous latent and the previous frame, so decoding chunk by chunk equals decoding at once.

With `use_reference` the decoder reads features of the reference picture and predicts, per frame, a
mask that lets the picture's own pixels through where nothing moved. Shape letters: B batch, F frames,
T latents (F / 4), S picture size, C channels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..chunks import FRAMES_PER_LATENT, LATENT_GRID
from ..config import VideoAutoencoderConfig

STEM = 4
"""The pictures enter and leave the convolutions at 1/4 of their size."""


@dataclass(frozen=True)
class ReferenceFeatures:
    """The reference picture as the decoder sees it, computed once per stream.

    pixels [B, 3, S, S] within -1..1, features [B, R, S/4, S/4], latent [B, C, 8, 8].
    """

    pixels: Tensor
    features: Tensor
    latent: Tensor


@dataclass(frozen=True)
class VideoDecoderState:
    """What decoding carries over: features of the last latent and of the last frame."""

    latent: Tensor
    frame: Tensor


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with group norm; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(hidden)))


class Downsample(nn.Module):
    """Halve the picture; the shortcut averages channels of the unshuffled input (DC-AE)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, 3, stride=2, padding=1)
        self.groups = width_in * 4 // width_out
        self.width_out = width_out

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pixel_unshuffle(x, 2)
        shortcut = shortcut[:, : self.groups * self.width_out]
        shortcut = shortcut.unflatten(1, (self.width_out, self.groups)).mean(2)
        return self.conv(x) + shortcut


class Upsample(nn.Module):
    """Double the picture by pixel shuffle; the shortcut repeats channels before it (DC-AE)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out * 4, 3, padding=1)
        self.repeats = -(-width_out * 4 // width_in)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv(x)
        shortcut = x.repeat_interleave(self.repeats, 1)[:, : hidden.shape[1]]
        return F.pixel_shuffle(hidden + shortcut, 2)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


class VideoEncoder(nn.Module):
    """Frames [B, 3, F, S, S] to latents [B, C, F/4, 8, 8]."""

    def __init__(self, config: VideoAutoencoderConfig) -> None:
        super().__init__()
        widths = config.encoder_widths
        self.stem = nn.Conv2d(3 * STEM**2, widths[0], 3, padding=1)
        stages: list[nn.Module] = [_blocks(widths[0], config.blocks)]
        for width_in, width_out in itertools.pairwise(widths):
            stages += [Downsample(width_in, width_out), _blocks(width_out, config.blocks)]
        self.stages = nn.Sequential(*stages)
        merged = widths[-1] * 2
        self.merge = nn.Conv2d(widths[-1] * FRAMES_PER_LATENT, merged, 3, padding=1)
        self.tail = _blocks(merged, 1)
        self.out = nn.Conv2d(merged, config.latent_channels, 1)

    def forward(self, frames: Tensor) -> Tensor:
        batch, _, count = frames.shape[:3]
        flat = frames.transpose(1, 2).flatten(0, 1)
        hidden = self.stages(self.stem(F.pixel_unshuffle(flat, STEM)))
        time = count // FRAMES_PER_LATENT
        hidden = hidden.reshape(batch * time, -1, *hidden.shape[2:])
        latents = self.out(self.tail(self.merge(hidden)))
        return latents.reshape(batch, time, *latents.shape[1:]).transpose(1, 2)


class ReferenceEncoder(nn.Module):
    """Reference picture [B, 3, S, S] to features [B, R, S/4, S/4]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3 * STEM**2, width, 3, padding=1)
        self.blocks = _blocks(width, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.blocks(self.stem(F.pixel_unshuffle(pixels, STEM)))


class VideoDecoder(nn.Module):
    """Latents [B, C, T, 8, 8] to frames [B, 3, 4 T, S, S]."""

    def __init__(self, config: VideoAutoencoderConfig) -> None:
        super().__init__()
        widths = tuple(reversed(config.decoder_widths))
        self.use_reference = config.use_reference
        inputs = config.latent_channels * (2 if config.use_reference else 1)
        self.input = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.latent_history = nn.Conv2d(widths[0] * 2, widths[0], 3, padding=1)
        self.head = _blocks(widths[0], 1)
        self.split = nn.Conv2d(widths[0], widths[0] * FRAMES_PER_LATENT, 1)
        self.coarse = _blocks(widths[0], 1)
        self.up_first = Upsample(widths[0], widths[1])
        self.frame_history = nn.Conv2d(widths[1] * 2, widths[1], 1)
        stages: list[nn.Module] = [_blocks(widths[1], config.blocks)]
        for width_in, width_out in itertools.pairwise(widths[1:]):
            stages += [Upsample(width_in, width_out), _blocks(width_out, config.blocks)]
        self.stages = nn.Sequential(*stages)
        width = widths[-1]
        if config.use_reference:
            self.absorb = nn.Conv2d(width + config.reference_width, width, 1)
        fine = max(16, width // 3 // 8 * 8)
        self.fine = nn.Sequential(_blocks(width, 1), Upsample(width, fine), _blocks(fine, 1))
        self.to_pixels = nn.Conv2d(fine, 3 * 4 + (4 if config.use_reference else 0), 3, padding=1)

    def forward(
        self, latents: Tensor, reference: ReferenceFeatures | None, state: VideoDecoderState | None
    ) -> tuple[Tensor, Tensor, VideoDecoderState]:
        """Frames, the frames before the reference's pixels are let through, and the state."""
        hidden, state = self._trunk(latents, reference, state)
        frames, painted = self._paint(hidden, reference, latents.shape[2] * FRAMES_PER_LATENT)
        frames, painted = (
            part.unflatten(0, (latents.shape[0], -1)).transpose(1, 2) for part in (frames, painted)
        )
        return frames, painted, state

    def _trunk(
        self, latents: Tensor, reference: ReferenceFeatures | None, state: VideoDecoderState | None
    ) -> tuple[Tensor, VideoDecoderState]:
        batch, _, time = latents.shape[:3]
        flat = latents.transpose(1, 2).flatten(0, 1)
        if self.use_reference:
            assert reference is not None, "this decoder needs the reference picture"
            flat = torch.cat([flat, reference.latent.repeat_interleave(time, 0)], 1)
        hidden, last_latent = _look_back(self.input(flat), batch, state.latent if state else None)
        hidden = self.head(self.latent_history(hidden))
        hidden = self.coarse(self.split(hidden).unflatten(1, (FRAMES_PER_LATENT, -1)).flatten(0, 1))
        hidden, last_frame = _look_back(
            self.up_first(hidden), batch, state.frame if state else None
        )
        hidden = self.stages(self.frame_history(hidden))
        return hidden, VideoDecoderState(last_latent, last_frame)

    def _paint(
        self, hidden: Tensor, reference: ReferenceFeatures | None, count: int
    ) -> tuple[Tensor, Tensor]:
        if reference is None or not self.use_reference:
            painted = F.pixel_shuffle(self.to_pixels(self.fine(hidden)), 2)
            return painted, painted
        features = reference.features.repeat_interleave(count, 0)
        hidden = self.absorb(torch.cat([hidden, features], 1))
        painted = F.pixel_shuffle(self.to_pixels(self.fine(hidden)), 2)
        mask = torch.sigmoid(painted[:, 3:])
        pixels = reference.pixels.repeat_interleave(count, 0)
        return painted[:, :3] * (1 - mask) + pixels * mask, painted[:, :3]


def _look_back(features: Tensor, batch: int, previous: Tensor | None) -> tuple[Tensor, Tensor]:
    """Join every item of a sequence [B * T, C, H, W] with the one before it along the channels."""
    sequence = features.unflatten(0, (batch, -1))
    if previous is None:
        previous = torch.zeros_like(sequence[:, 0])
    shifted = torch.cat([previous[:, None], sequence[:, :-1]], 1)
    return torch.cat([sequence, shifted], 2).flatten(0, 1), sequence[:, -1]


class VideoAutoencoder(nn.Module):
    """Encoder, decoder and the per-channel statistics that standardise the latents."""

    def __init__(self, config: VideoAutoencoderConfig) -> None:
        super().__init__()
        assert config.size == STEM * LATENT_GRID * 2 ** (len(config.encoder_widths) - 1)
        self.config = config
        self.encoder = VideoEncoder(config)
        self.decoder = VideoDecoder(config)
        if config.use_reference:
            self.reference_encoder = ReferenceEncoder(config.reference_width)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels, 1, 1, 1))
        self.register_buffer("latent_std", torch.ones(config.latent_channels, 1, 1, 1))

    def encode(self, frames: Tensor) -> Tensor:
        """Frames [B, 3, F, S, S] within -1..1, F a multiple of 4, to standardised latents."""
        if frames.shape[2] % FRAMES_PER_LATENT:
            raise ValueError(f"{frames.shape[2]} frames are no whole number of latents (4 frames).")
        return (self.encoder(frames) - self.latent_mean) / self.latent_std

    def encode_still(self, picture: Tensor) -> Tensor:
        """Picture [B, 3, S, S] as a still clip: one standardised latent [B, C, 8, 8]."""
        return self.encode(picture[:, :, None].expand(-1, -1, FRAMES_PER_LATENT, -1, -1))[:, :, 0]

    def encode_reference(self, picture: Tensor) -> ReferenceFeatures | None:
        """What the decoder needs of the reference picture; None if it does not look at it."""
        if not self.config.use_reference:
            return None
        features = self.reference_encoder(picture)
        return ReferenceFeatures(picture, features, self.encode_still(picture))

    def decode(
        self,
        latents: Tensor,
        reference: ReferenceFeatures | None,
        state: VideoDecoderState | None = None,
    ) -> tuple[Tensor, VideoDecoderState]:
        """Standardised latents [B, C, T, 8, 8] to frames [B, 3, 4 T, S, S] and the state to go on."""
        frames, _, state = self.decode_layers(latents, reference, state)
        return frames, state

    def decode_layers(
        self,
        latents: Tensor,
        reference: ReferenceFeatures | None,
        state: VideoDecoderState | None = None,
    ) -> tuple[Tensor, Tensor, VideoDecoderState]:
        """As `decode`, with the frames as painted without the reference's pixels in second place."""
        raw = latents * self.latent_std + self.latent_mean
        if reference is not None:
            latent = (reference.latent[:, :, None] * self.latent_std + self.latent_mean)[:, :, 0]
            reference = replace(reference, latent=latent)
        return self.decoder(raw, reference, state)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the raw latents' per-channel mean and deviation [C]; reconstructions do not change."""
        self.latent_mean.copy_(mean.view_as(self.latent_mean))
        self.latent_std.copy_(std.clamp_min(1e-4).view_as(self.latent_std))
