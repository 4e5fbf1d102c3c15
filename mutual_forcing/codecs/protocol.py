"""What model, sampling, streaming and training know of a codec. What a channel means, only the codec knows.

Every video codec makes latents of films and films of latents. A motion codec (`FaceCodec`) animates the face
of a picture of any size and can be steered by names; a pixel codec (`PixelCodec`) makes whole frames of one
size, and what happens in them only the transformer says. Shape letters: B batch, C channels of a latent, T
latent frames in time, P tokens of a latent frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ..config import TokenGrid

if TYPE_CHECKING:
    from ..types import Steering


class EncodedPicture(Protocol):
    """The reference picture of a stream."""

    @property
    def tokens(self) -> Tensor:
        """What the transformer sees of it, a latent frame [B, P, C]."""
        ...


class FilmLayout(Protocol):
    """What of a picture a film shows: canvas.Canvas or picture_window.PictureWindow."""

    @property
    def reference_frame(self) -> np.ndarray:
        """The film's picture at rest, uint8 [H, W, 3]."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the film, both even."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        ...

    def reference(self, device: torch.device) -> Tensor:
        """The picture that `encode_reference` takes."""
        ...


class VideoCodec(Protocol):
    """Film to latents and back."""

    @property
    def grid(self) -> TokenGrid:
        """The tokens of a chunk."""
        ...

    @property
    def channels(self) -> int:
        """Numbers of a latent at one place."""
        ...

    @property
    def has_statistics(self) -> bool:
        """Whether there are statistics that standardise latents; a codec that was never trained has none."""
        ...

    def encode(self, frames: Tensor) -> Tensor:
        """Frames [B, 3, T', H, W] within -1..1 to standardised latents [B, C, T] or [B, C, T, H', W']."""
        ...

    def encode_reference(self, picture: Tensor) -> EncodedPicture:
        """A picture [B, 3, H, W] within -1..1 (FilmLayout.reference), computed once per stream."""
        ...

    def begin(self, seed: int) -> Any:
        """The state of a stream before its first latent."""
        ...

    def animate(
        self, latents: Tensor, canvas: Any, reference: Any, state: Any
    ) -> tuple[np.ndarray, Any]:
        """Frames uint8 [T', H, W, 3] of the film of one stream's next latents (B = 1), and the state after
        them; canvas: its layout. Latents chunk by chunk give the same film as all at once.
        """
        ...


@runtime_checkable
class FaceCodec(VideoCodec, Protocol):
    """A codec whose latents move the face of a picture; its layout is a canvas.Canvas."""

    @property
    def square_size(self) -> int:
        """Pixels on each side of the square around the face that `encode_reference` takes."""
        ...

    def steer(self, state: Any, steering: Steering) -> Any:
        """The state of a stream that is asked for this from its next latents on."""
        ...


@runtime_checkable
class PixelCodec(VideoCodec, Protocol):
    """A codec whose latents are all that a frame shows; its layout is a picture_window.PictureWindow."""

    @property
    def film_size(self) -> tuple[int, int]:
        """Width and height of its films."""
        ...

    def decode(self, latents: Tensor, reference: Any, state: Any = None) -> tuple[Tensor, Any]:
        """Standardised latents [B, C, T, H', W'] to the frames [B, 3, T', H, W] within -1..1 that follow on
        the reference, or on `state`, and the state after them.
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

    @property
    def look_ahead(self) -> int:
        """Latents that must follow before the sound of a latent is made; 0 for a causal codec, whose sound
        comes with its latents.
        """
        ...

    def encode(self, audio: Tensor) -> Tensor:
        """Mono sound [B, N] at 24 kHz within -1..1 to latents [B, C, T]."""
        ...

    def decode(self, latents: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Latents [B, C, T] to the sound [B, N] that is known with them, and the state after them (None
        before the first). It is all of their sound where `look_ahead` is 0, else some of it comes with later
        latents. Latents chunk by chunk give the same sound as all at once.
        """
        ...

    def finish(self, state: Any) -> tuple[Tensor, Any]:
        """The sound [B, N] that is still to come when no latents follow, and the state after it."""
        ...


def decode_whole(codec: AudioCodec, latents: Tensor) -> Tensor:
    """All of the sound [B, N] of latents [B, C, T] that are a whole clip."""
    sound, state = codec.decode(latents)
    if not codec.look_ahead:
        return sound
    return torch.cat([sound, codec.finish(state)[0]], 1)
