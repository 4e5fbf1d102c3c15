"""What codecs that make whole frames have in common (protocol.PixelCodec): the film's size, statistics of
latents, pictures as latents.

Shape letters: B batch, Z numbers of a latent, C of a token, T latent frames, h and w their height and width.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from ..pixels import frame_array, to_pixels


class FilmConfig(Protocol):
    """Height and width of the films that a codec is for, in pixels."""

    height: int
    width: int


@dataclass(frozen=True)
class LatentPicture:
    """The reference picture as a standardised latent frame, [B, C, h, w]."""

    latent: Tensor

    @property
    def tokens(self) -> Tensor:
        """The latent as a latent frame of tokens, [B, h w, C]."""
        return self.latent.flatten(2).transpose(1, 2)


class WholeFrameCodec(nn.Module):
    """Films of one size; latents are standardised by the statistics of each channel."""

    config: FilmConfig
    latent_mean: Tensor
    latent_std: Tensor

    def register_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Begin with these, [Z] each; ones and zeros are none."""
        self.register_buffer("latent_mean", mean.view(-1, 1, 1, 1))
        self.register_buffer("latent_std", std.view(-1, 1, 1, 1))

    @property
    def film_size(self) -> tuple[int, int]:
        """Width and height of the film in pixels."""
        return self.config.width, self.config.height

    @property
    def has_statistics(self) -> bool:
        """Whether there are statistics of latents; one that was never trained has none."""
        return bool((self.latent_std != 1).any())

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the raw latents' mean and deviation [Z] for each channel; films do not change by it."""
        self.latent_mean.copy_(mean.view_as(self.latent_mean))
        self.latent_std.copy_(std.clamp_min(1e-4).view_as(self.latent_std))

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError for frames of another size."""
        if (width, height) != self.film_size:
            own = f"{self.config.height} x {self.config.width}"
            raise ValueError(f"The codec is for frames of {own}, not {height} x {width}.")

    @abstractmethod
    def decode(self, latents: Tensor, reference: Any, state: Any = None) -> tuple[Tensor, Any]:
        """See protocol.PixelCodec."""

    def animate(
        self, latents: Tensor, canvas: Any, reference: Any, state: Any = None
    ) -> tuple[np.ndarray, Any]:
        """Frames uint8 [4 T, H, W, 3] of one stream's next latents [1, C, T, h, w], and the state after them;
        `canvas` is not needed: latents hold all that is known of the picture.
        """
        if len(latents) != 1:
            raise ValueError(f"A film belongs to one stream, not to {len(latents)}.")
        made, state = self.decode(latents, reference, state)
        frames = frame_array((made.shape[2], *made.shape[3:], 3))
        frames[:] = to_pixels(made[0]).permute(1, 2, 3, 0).cpu().numpy()
        return frames, state
