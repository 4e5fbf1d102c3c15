"""What model, sampling, streaming and training know of a codec. What a channel means, only the codec knows.

Shape letters: B batch, C channels of a latent, T latent frames in time, P tokens of a latent frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from ..config import TokenGrid

if TYPE_CHECKING:
    from ..canvas import Canvas
    from ..types import Steering


class EncodedPicture(Protocol):
    """The reference picture of a stream."""

    @property
    def tokens(self) -> Tensor:
        """What the transformer sees of it, a latent frame [B, P, C]."""
        ...


class VideoCodec(Protocol):
    """Film to latents and back, shown on the picture of a character."""

    @property
    def grid(self) -> TokenGrid:
        """The tokens of a chunk."""
        ...

    @property
    def channels(self) -> int:
        """Numbers of a latent at one place."""
        ...

    @property
    def square_size(self) -> int:
        """Pixels on each side of the square around the face that `encode_reference` takes."""
        ...

    def encode(self, frames: Tensor) -> Tensor:
        """Frames [B, 3, T', S, S] within -1..1 to standardised latents [B, C, T] or [B, C, T, H, W]."""
        ...

    def encode_reference(self, picture: Tensor) -> EncodedPicture:
        """A picture [B, 3, S, S] within -1..1, computed once per stream."""
        ...

    def begin(self, seed: int) -> Any:
        """The state of a stream before its first latent."""
        ...

    def steer(self, state: Any, steering: Steering) -> Any:
        """The state of a stream that is asked for this from its next latents on."""
        ...

    def animate(
        self, latents: Tensor, canvas: Canvas, reference: Any, state: Any
    ) -> tuple[np.ndarray, Any]:
        """Frames uint8 [T', H, W, 3] of the film of one stream's next latents (B = 1), and the state after
        them. Latents chunk by chunk give the same film as all at once.
        """
        ...


class AudioCodec(Protocol):
    """Sound to latents and back."""

    @property
    def grid(self) -> TokenGrid:
        """The tokens of a chunk."""
        ...

    @property
    def channels(self) -> int:
        """Numbers of a latent."""
        ...

    def encode(self, audio: Tensor) -> Tensor:
        """Mono sound [B, N] at 24 kHz within -1..1 to latents [B, C, T]."""
        ...

    def decode(self, latents: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Latents [B, C, T] to sound [B, N], and the state after them (None before the first). Latents chunk
        by chunk give the same sound as all at once.
        """
        ...
