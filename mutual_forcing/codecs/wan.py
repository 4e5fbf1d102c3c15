"""Films to the latents of Wan2.2's autoencoder and back, chunk by chunk: 16 x 16 pixels and 4 frames each.

The autoencoder is causal: its first latent is one frame, every other one four. Here the first latent is the
reference picture, which stands before every film and stream, so a chunk is four latents and sixteen frames.
What its convolutions remember between latents belongs to the stream (`WanState`), not to the network, so
many streams share one. That uses diffusers' private interface, and its version is pinned.

Shape letters: B batch, Z numbers of a latent, T latent frames, h and w a latent frame's height and width, p
latents on each side of a token, C = Z p p numbers of a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..chunks import FRAMES_PER_CHUNK
from ..codec_config import WAN_SPATIAL, WAN_TEMPORAL, PublicWeights, WanCodecConfig
from ..config import FPS, TokenGrid
from .public_weights import load_network, network_class
from .whole_frames import LatentPicture, WholeFrameCodec

NETWORK = "AutoencoderKLWan"
GEOMETRY = {"is_residual": True, "patch_size": 2, "scale_factor_spatial": WAN_SPATIAL}
"""What tells Wan2.2's autoencoder from that of Wan2.1."""
PIXEL_PATCH = 2
"""Pixels on each side that the autoencoder folds into channels before its first convolution."""


@dataclass(frozen=True)
class WanState:
    """Where a stream stands: what each causal convolution of the decoder saw last; None before the reference.

    Nothing in it changes: a stream can go on from the same state twice.
    """

    cache: tuple[Any, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Memory that it holds: half a gigabyte for 192 x 352, six for 704 x 1280 in fp32."""
        return sum(x.nbytes for x in self.cache or () if isinstance(x, Tensor))


class WanCodec(WholeFrameCodec):
    """Wan2.2's autoencoder for films of one size: a protocol.PixelCodec.

    Latents are standardised by its config's `latents_mean` and `latents_std`.
    """

    config: WanCodecConfig

    def __init__(self, config: WanCodecConfig, network: Any = None) -> None:
        """Args:
        config: size of the film, and of a network with random weights.
        network: diffusers' AutoencoderKLWan; None makes one with random weights.

        Raises ValueError for a network of another geometry than Wan2.2's.
        """
        super().__init__()
        self.config = config
        if network is None:
            network = network_class(NETWORK)(
                **GEOMETRY,
                base_dim=config.encoder_width,
                decoder_base_dim=config.decoder_width,
                z_dim=config.latent_channels,
                num_res_blocks=config.blocks,
                temperal_downsample=[False, True, True],
                in_channels=3 * PIXEL_PATCH**2,
                out_channels=3 * PIXEL_PATCH**2,
                latents_mean=[0.0] * config.latent_channels,
                latents_std=[1.0] * config.latent_channels,
            )
        self.vae = network
        own = self.vae.config
        if any(own[name] != value for name, value in GEOMETRY.items()):
            raise ValueError("This is an autoencoder of Wan, but not of Wan2.2 (16 x 16 x 4).")
        self.register_statistics(torch.tensor(own.latents_mean), torch.tensor(own.latents_std))

    @staticmethod
    def load(config: WanCodecConfig, folder: Path | None = None) -> WanCodec:
        """The codec with the public weights that `config` names, relative to `folder`.

        Raises ValueError when they cannot be loaded.
        """
        return WanCodec(config, load_network(NETWORK, config.weights, folder)).eval()

    @staticmethod
    def from_pretrained(
        source: str | Path,
        height: int = 480,
        width: int = 768,
        *,
        revision: str = "",
        subfolder: str = "",
    ) -> WanCodec:
        """The codec for films of `height` x `width` with weights from a folder or a Hub repository.

        Wan-AI/Wan2.2-TI2V-5B-Diffusers has them in the subfolder "vae". Raises ValueError as `load` does, and
        for a size that tokens do not cover.
        """
        weights = PublicWeights(str(source), revision, subfolder)
        return WanCodec.load(WanCodecConfig(height, width, weights=weights))

    @property
    def grid(self) -> TokenGrid:
        """Four latent frames a chunk, as high and as wide as the film has tokens."""
        step = WAN_SPATIAL * self.config.patch
        frames = FRAMES_PER_CHUNK // WAN_TEMPORAL
        height, width = self.config.height // step, self.config.width // step
        return TokenGrid(frames, height, width, FPS / WAN_TEMPORAL)

    @property
    def channels(self) -> int:
        """Numbers of a token: Z for each of its p x p latents, in the order (Z, row, column)."""
        return self.vae.config.z_dim * self.config.patch**2

    def encode(self, frames: Tensor, reference: Tensor | None = None) -> Tensor:
        """Frames [B, 3, 4 T, H, W] within -1..1 to standardised latents [B, C, T, h / p, w / p].

        reference [B, 3, H, W]: the picture that stands before the film; the film's first frame if None. Its
        own latent is not among these: `encode_reference` makes it. Raises ValueError for frames of another
        size, and for a number of them that is no multiple of 4.
        """
        if frames.shape[2] % WAN_TEMPORAL:
            raise ValueError(f"{frames.shape[2]} frames are no whole number of latents (4 each).")
        first = frames[:, :, 0] if reference is None else reference
        return self._encode([first[:, :, None], *frames.split(WAN_TEMPORAL, 2)])[:, :, 1:]

    def encode_reference(self, picture: Tensor) -> LatentPicture:
        """A picture [B, 3, H, W] within -1..1 as the latent that comes before a film."""
        return LatentPicture(self._encode([picture[:, :, None]])[:, :, 0])

    def begin(self, seed: int) -> WanState:
        """A stream before its reference; nothing in it is drawn, so `seed` changes nothing."""
        return WanState()

    def decode(
        self, latents: Tensor, reference: LatentPicture, state: WanState | None = None
    ) -> tuple[Tensor, WanState]:
        """Standardised latents [B, C, T, h / p, w / p] to the frames [B, 3, 4 T, H, W] within -1..1 that
        follow on the reference, or on `state`, and the state after them.

        One latent is decoded at a time, so latents chunk by chunk give bit by bit the same film as at once.
        """
        size = self.grid.height, self.grid.width
        latents = latents.reshape(*latents.shape[:3], *size)
        cache = None if state is None or state.cache is None else list(state.cache)
        if cache is None:
            cache = [None] * self.vae._cached_conv_counts["decoder"]
            self._decode(reference.latent[:, :, None], cache, first=True)
        frames = [self._decode(latent, cache) for latent in latents.split(1, 2)]
        return torch.cat(frames, 2), WanState(tuple(cache))

    def _encode(self, parts: list[Tensor]) -> Tensor:
        """Standardised latents of a picture [B, 3, 1, H, W] and what follows it, four frames at a time."""
        for part in parts:
            self.check_size(*part.shape[3:])
        cache = [None] * self.vae._cached_conv_counts["encoder"]
        hidden = [
            self.vae.encoder(
                _fold(part, PIXEL_PATCH, rows_first=False), feat_cache=cache, feat_idx=[0]
            )
            for part in parts
        ]
        # Mean and variance of a distribution: its mean is the latent.
        raw = self.vae.quant_conv(torch.cat(hidden, 2)).chunk(2, 1)[0]
        return _fold((raw - self.latent_mean) / self.latent_std, self.config.patch)

    def _decode(self, latent: Tensor, cache: list[Any], first: bool = False) -> Tensor:
        """Frames of one latent [B, C, 1, h / p, w / p]; what the cache holds is replaced, never changed."""
        raw = _unfold(latent, self.config.patch) * self.latent_std + self.latent_mean
        hidden = self.vae.decoder(
            self.vae.post_quant_conv(raw), feat_cache=cache, feat_idx=[0], first_chunk=first
        )
        return _unfold(hidden, PIXEL_PATCH, rows_first=False).clamp(-1, 1)


def _fold(x: Tensor, side: int, rows_first: bool = True) -> Tensor:
    """[B, C, T, H, W] to [B, C * side * side, T, H / side, W / side].

    Of what becomes one place rows come before columns, as in a convolution's weights; Wan's autoencoder folds
    pixels the other way round.
    """
    x = x.unflatten(4, (-1, side)).unflatten(3, (-1, side))
    within = (4, 6) if rows_first else (6, 4)
    return x.permute(0, 1, *within, 2, 3, 5).flatten(1, 3)


def _unfold(x: Tensor, side: int, rows_first: bool = True) -> Tensor:
    """Undo `_fold`."""
    x = x.unflatten(1, (-1, side, side))
    row, column = (2, 3) if rows_first else (3, 2)
    return x.permute(0, 1, 4, 5, row, 6, column).flatten(5, 6).flatten(3, 4)
