"""Video autoencoder: a frame becomes one small latent of its motion; the reference picture brings the looks.

The encoder looks at each frame alone. The decoder animates the reference: from coarse to fine it predicts
where every pixel of the frame lies in the reference, warps the reference's features and pixels there, and
paints what the reference does not show (the inside of a mouth, closed lids). It carries no state, so
decoding chunk by chunk equals decoding at once. The idea is that of first-order motion models and latent
image animators (arXiv 2003.00196, 2203.09043).

Shape letters: B batch, T frames (one latent each), S picture size, C latent channels, K code width.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import VideoAutoencoderConfig
from ..motion import MOTION

STEM = 4
"""Pictures enter the encoder at 1/4 of their size, the reference's encoder at 1/2."""
LATENT_CHANNELS = len(MOTION)
POINTS, LOOKS = 64, 8
"""Points of a face that the encoder looks for, and numbers that it reads at each."""
SHARPNESS = 8.0
"""Of the maps that find the points: they are to be narrow from the start."""
FLOW_SCALE = 0.1
"""Unit of the predicted flow, in halves of the picture."""
BASIS = 16
"""Flows of the reference that a latent mixes: nearly what moving a face is, as a sum of its units."""


@dataclass(frozen=True)
class ReferenceFeatures:
    """The reference picture as the decoder sees it, computed once per stream.

    pixels [B, 3, S, S] within -1..1, levels of features [B, W, S/2, S/2], [B, W', S/4, S/4] and so on,
    latent [B, C].
    """

    pixels: Tensor
    levels: tuple[Tensor, ...]
    latent: Tensor

    def repeated(self, count: int) -> ReferenceFeatures:
        """Every row `count` times."""
        return ReferenceFeatures(
            self.pixels.repeat_interleave(count, 0),
            tuple(level.repeat_interleave(count, 0) for level in self.levels),
            self.latent.repeat_interleave(count, 0),
        )


@dataclass(frozen=True)
class Animated:
    """Decoded frames and `painted`, what they show before the reference's pixels are let through, both
    [B, 3, T, S, S]; `places` [B, T, S/2, S/2, 2]: where each pixel lies in the reference (x, y in -1..1).
    """

    frames: Tensor
    painted: Tensor
    places: Tensor


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, modulated by a code where there is one; starts as the identity."""

    def __init__(self, width: int, code_width: int = 0) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.modulate = nn.Linear(code_width, 2 * width) if code_width else None
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, code: Tensor | None = None) -> Tensor:
        """x [B, W, H, H], code [B, K]."""
        hidden = self.conv1(F.silu(self.norm(x)))
        if self.modulate is not None:
            shift, scale = self.modulate(code)[:, :, None, None].chunk(2, 1)
            hidden = hidden * (1 + scale) + shift
        return x + self.conv2(F.silu(hidden))


class Downsample(nn.Module):
    """Halve the picture; the shortcut averages channels of the unshuffled input (DC-AE)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, 3, stride=2, padding=1)
        self.groups, self.width_out = width_in * 4 // width_out, width_out

    def forward(self, x: Tensor) -> Tensor:
        """x [B, W, H, H] to [B, W', H / 2, H / 2]."""
        shortcut = F.pixel_unshuffle(x, 2)[:, : self.groups * self.width_out]
        return self.conv(x) + shortcut.unflatten(1, (self.width_out, self.groups)).mean(2)


class MotionEncoder(nn.Module):
    """Frames [B, 3, S, S] to standardised latents [B, C].

    Attention maps look for points of the face; where they are, and the features found there, tell the
    motion. The maps are taught the corpus's landmarks.
    """

    def __init__(self, config: VideoAutoencoderConfig) -> None:
        super().__init__()
        widths = config.encoder_widths
        self.stem = nn.Conv2d(3 * STEM**2, widths[0], 3, padding=1)
        stages: list[nn.Module] = [ResidualBlock(widths[0])]
        for width_in, width_out in itertools.pairwise(widths):
            stages += [Downsample(width_in, width_out), ResidualBlock(width_out)]
        self.down = nn.Sequential(*stages)
        self.up = nn.Conv2d(widths[-1], widths[-2] * 4, 1)
        self.side = nn.Conv2d(widths[-2], widths[-2], 1)
        self.fine = ResidualBlock(widths[-2])
        self.norm = nn.GroupNorm(8, widths[-2])
        self.where = nn.Conv2d(widths[-2], POINTS, 1)
        self.look = nn.Conv2d(widths[-2], LOOKS, 1)
        self.points = nn.Linear(POINTS * (2 + LOOKS), 2 * config.code_width)
        self.hidden = nn.Linear(2 * config.code_width, config.code_width)
        self.out = nn.Linear(config.code_width, LATENT_CHANNELS)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [B, C] and where the points are [B, 64, 2], x and y in -1..1."""
        hidden = self.down[:-2](self.stem(F.pixel_unshuffle(frames, STEM)))
        coarse = self.down[-2:](hidden)
        # Unnormalised, what is read at the points grows until the layers after it are dead.
        hidden = self.norm(self.fine(self.side(hidden) + F.pixel_shuffle(self.up(coarse), 2)))
        maps = (SHARPNESS * self.where(hidden).float()).flatten(2).softmax(2)
        places = maps @ still_places(hidden).flatten(1, 2)[0]
        looks = maps.to(hidden.dtype) @ self.look(hidden).flatten(2).transpose(1, 2)
        found = torch.cat([places.to(looks.dtype), looks], 2).flatten(1)
        return self.out(F.silu(self.hidden(F.silu(self.points(found))))), places


class ReferenceEncoder(nn.Module):
    """Pictures [B, 3, S, S] to features at S/2, S/4 and so on."""

    def __init__(self, config: VideoAutoencoderConfig) -> None:
        super().__init__()
        widths = config.animator_widths
        self.stem = nn.Conv2d(3 * 2**2, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width) for width in widths)
        self.downs = nn.ModuleList(Downsample(i, o) for i, o in itertools.pairwise(widths))

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        hidden = self.blocks[0](self.stem(F.pixel_unshuffle(picture, 2)))
        levels = [hidden]
        for down, block in zip(self.downs, self.blocks[1:], strict=True):
            hidden = block(down(hidden))
            levels.append(hidden)
        return tuple(levels)


class Level(nn.Module):
    """One resolution of the animator: refine what is painted and the flow, then warp the reference."""

    def __init__(self, width: int, code_width: int, latent_channels: int) -> None:
        super().__init__()
        self.before = ResidualBlock(width, code_width)
        self.to_flow = nn.Conv2d(width, 2 * (BASIS + 1), 1)
        self.mix = nn.Linear(latent_channels, BASIS, bias=False)
        self.merge = nn.Conv2d(2 * width, width, 1)
        self.after = ResidualBlock(width, code_width)
        nn.init.zeros_(self.to_flow.weight)
        nn.init.zeros_(self.to_flow.bias)

    def forward(
        self, hidden: Tensor, flow: Tensor, reference: Tensor, motion: Tensor, code: Tensor
    ) -> tuple[Tensor, Tensor]:
        """hidden and reference [B, W, H, H], flow [B, 2, H, H], motion [B, C], code [B, K].

        motion is the latent less the reference's: at none, the basis moves nothing.
        """
        hidden = self.before(hidden, code)
        flows = self.to_flow(hidden).unflatten(1, (BASIS + 1, 2))
        share = F.pad(self.mix(motion), (0, 1), value=1.0)
        flow = flow + FLOW_SCALE * torch.einsum("bk,bkchw->bchw", share, flows)
        hidden = self.merge(torch.cat([hidden, warp(reference, flow)], 1))
        return self.after(hidden, code), flow


class Animator(nn.Module):
    """The decoder: latents of a frame and of the reference say how the reference's features move."""

    def __init__(self, config: VideoAutoencoderConfig) -> None:
        super().__init__()
        widths, code_width = config.animator_widths, config.code_width
        self.embed = nn.Linear(2 * LATENT_CHANNELS, code_width)
        self.code = nn.Linear(code_width, code_width)
        self.enter = nn.Conv2d(widths[-1] + 2, widths[-1], 1)
        self.levels = nn.ModuleList(Level(width, code_width, LATENT_CHANNELS) for width in widths)
        self.ups = nn.ModuleList(nn.Conv2d(o, i * 4, 1) for i, o in itertools.pairwise(widths))
        self.to_pixels = nn.Conv2d(widths[0], 4 * 4, 3, padding=1)

    def forward(
        self, latents: Tensor, reference: ReferenceFeatures
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Standardised latents [B, C] to frames, what is painted [B, 3, S, S] and places [B, S/2, S/2, 2]."""
        motion = latents - reference.latent
        code = self.code(F.silu(self.embed(torch.cat([latents, motion], 1))))
        code = F.layer_norm(code, code.shape[-1:])
        coarse = reference.levels[-1]
        grid = still_places(coarse)
        hidden = self.enter(
            torch.cat([coarse, grid.movedim(3, 1).expand(len(coarse), -1, -1, -1)], 1)
        )
        flow = torch.zeros_like(hidden[:, :2])
        for index in reversed(range(len(self.levels))):
            hidden, flow = self.levels[index](hidden, flow, reference.levels[index], motion, code)
            if index:
                hidden, flow = F.pixel_shuffle(self.ups[index - 1](hidden), 2), double(flow)
        painted = F.pixel_shuffle(self.to_pixels(F.silu(hidden)), 2)
        mask = torch.sigmoid(painted[:, 3:])
        warped = warp(reference.pixels, double(flow))
        frames = painted[:, :3] * (1 - mask) + warped * mask
        return frames, painted[:, :3], still_places(flow) + flow.movedim(1, 3)


def still_places(like: Tensor) -> Tensor:
    """x and y of every pixel of [B, W, H, H], -1..1 from edge to edge: [1, H, H, 2]."""
    size = like.shape[-1]
    line = (torch.arange(size, device=like.device, dtype=torch.float32) * 2 + 1) / size - 1
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)[None]


def warp(picture: Tensor, flow: Tensor) -> Tensor:
    """`picture` [B, W, H, H] read at every pixel's own place plus flow [B, 2, H, H]; edges go on."""
    places = still_places(flow) + flow.float().movedim(1, 3)
    return F.grid_sample(
        picture, places.to(picture.dtype), padding_mode="border", align_corners=False
    )


def double(flow: Tensor) -> Tensor:
    """Twice the resolution, smoothly."""
    return F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=False)


class VideoAutoencoder(nn.Module):
    """Encoders, animator, and the statistics that standardise motion to latents."""

    def __init__(self, config: VideoAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MotionEncoder(config)
        self.reference_encoder = ReferenceEncoder(config)
        self.animator = Animator(config)
        self.register_buffer("latent_mean", torch.zeros(LATENT_CHANNELS))
        self.register_buffer("latent_std", torch.ones(LATENT_CHANNELS))

    def encode(self, frames: Tensor) -> Tensor:
        """Frames [B, 3, T, S, S] within -1..1 to standardised latents [B, C, T]."""
        return self.observe(frames)[0]

    def observe(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """As `encode`, and where 64 points of the body are [B, T, 64, 2], x and y in -1..1."""
        latents, places = self.encoder(frames.transpose(1, 2).flatten(0, 1))
        latents, places = (part.unflatten(0, (len(frames), -1)) for part in (latents, places))
        return latents.transpose(1, 2), places

    def encode_still(self, picture: Tensor) -> Tensor:
        """The standardised latent [B, C] of a picture [B, 3, S, S] within -1..1."""
        return self.encode(picture[:, :, None])[:, :, 0]

    def encode_motion(self, motion: Tensor) -> Tensor:
        """Standardised latents [B, C, T] of motion [B, T, C] that is known (motion.MOTION)."""
        return ((motion - self.latent_mean) / self.latent_std).transpose(1, 2)

    def read_motion(self, latents: Tensor) -> Tensor:
        """Undo `encode_motion`."""
        return latents.transpose(1, 2) * self.latent_std + self.latent_mean

    def encode_reference(self, picture: Tensor) -> ReferenceFeatures:
        """What the decoder needs of a reference picture [B, 3, S, S] within -1..1."""
        return ReferenceFeatures(
            picture, self.reference_encoder(picture), self.encode_still(picture)
        )

    def decode(self, latents: Tensor, reference: ReferenceFeatures) -> Tensor:
        """Standardised latents [B, C, T] to frames [B, 3, T, S, S]."""
        return self.animate(latents, reference).frames

    def animate(self, latents: Tensor, reference: ReferenceFeatures) -> Animated:
        """As `decode`, with what lies behind the frames."""
        batch, _, count = latents.shape
        parts = self.animator(latents.transpose(1, 2).flatten(0, 1), reference.repeated(count))
        frames, painted, places = (part.unflatten(0, (batch, count)) for part in parts)
        return Animated(frames.transpose(1, 2), painted.transpose(1, 2), places)

    @property
    def has_statistics(self) -> bool:
        """Whether there are statistics of motion; one that was never trained has none."""
        return bool((self.latent_std != 1).any())

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and deviation [C] of motion; latents are then what lies between."""
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std.clamp_min(1e-4))
