"""The codecs that a checkpoint may name: their configurations, and the classes that these are for.

This is the one list of codecs. Nothing is imported for it: codecs/registry.py builds what is asked for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .motion import MOTION


@dataclass(frozen=True)
class MotionCodecConfig:
    """Faces seen in `size` x `size` pixels; every frame becomes one latent, its motion (motion.MOTION) and
    `free` numbers more for what has no name: one side of a face alone, a jaw that goes aside, the tongue.

    `encoder_widths` are the channels at size/8, size/16 and so on; `animator_widths` those of the
    reference's features, and of what is painted, at size/4, size/8 and so on; `detail_width` those of eyes
    and mouth at the picture's own size. `code_width` is that of the code that modulates them.
    """

    size: int = 256
    encoder_widths: tuple[int, ...] = (48, 96, 128)
    animator_widths: tuple[int, ...] = (32, 64, 96)
    detail_width: int = 16
    code_width: int = 128
    free: int = 0

    @property
    def channels(self) -> int:
        """Numbers of a latent."""
        return len(MOTION) + self.free


@dataclass(frozen=True)
class SourceFilterConfig:
    """960 samples become one latent of `latent_channels` (25 a second). Two of the encoder's blocks and three
    of the decoder's compute at other rates than the rest.
    """

    latent_channels: int = 48
    mel_bins: int = 80
    encoder_width: int = 256
    encoder_blocks: int = 7
    decoder_width: int = 320
    decoder_blocks: int = 8


@dataclass(frozen=True)
class PublicWeights:
    """Where the weights of a public codec come from; a checkpoint that names it holds none of them.

    source: a folder as diffusers writes it (in a checkpoint: relative to the checkpoint's own), or a Hub
    repository, "owner/name". revision: the repository's branch, tag or commit; empty for its main branch.
    subfolder: where in it they lie, such as "vae".
    """

    source: str
    revision: str = ""
    subfolder: str = ""

    def __post_init__(self) -> None:
        if not self.source or not all(isinstance(value, str) for value in vars(self).values()):
            raise ValueError("Public weights need a source: a folder or a Hub repository.")


MAX_SIDE = 1920
MAX_WIDTH, MAX_BLOCKS = 512, 8
"""Of a public codec that a checkpoint holds: twice the real one's, for checkpoints come from strangers."""


def _check_sizes(widths: tuple[int, ...], blocks: int = 1) -> None:
    if not all(0 < width <= MAX_WIDTH for width in widths) or not 0 < blocks <= MAX_BLOCKS:
        raise ValueError(
            f"A codec's widths must be 1 to {MAX_WIDTH}, its blocks 1 to {MAX_BLOCKS}."
        )


WAN_SPATIAL, WAN_TEMPORAL = 16, 4
"""Pixels of a latent on each side, and frames of every latent but the first, which is one frame."""


@dataclass(frozen=True)
class WanCodecConfig:
    """Films of `height` x `width` pixels by Wan2.2's autoencoder (codecs/wan.py).

    `patch` x `patch` latents are one token. Without `weights` they are the checkpoint's own, of these sizes:
    numbers of a latent, widths of encoder and decoder, residual blocks at each of their four resolutions.
    Raises ValueError for a size that no whole number of tokens covers: convolutions drop the rest silently.
    """

    height: int = 480
    width: int = 768
    patch: int = 2
    weights: PublicWeights | None = None
    latent_channels: int = 48
    encoder_width: int = 160
    decoder_width: int = 256
    blocks: int = 2

    def __post_init__(self) -> None:
        _check_sizes((self.latent_channels, self.encoder_width, self.decoder_width), self.blocks)
        if self.patch < 1:
            raise ValueError(f"A token has at least one latent on each side, not {self.patch}.")
        step = WAN_SPATIAL * self.patch
        for name, side in (("height", self.height), ("width", self.width)):
            if side < step or side % step:
                low = max(step, side // step * step)
                raise ValueError(
                    f"A film's {name} must be a multiple of {step} pixels, so that whole tokens cover it: "
                    f"{low} or {low + step}, not {side}."
                )


STACK_SIDE, STACK_FRAMES = 16, 4
"""Pixels of a latent on each side, and frames of it."""


@dataclass(frozen=True)
class StackCodecConfig:
    """Films of `height` x `width` pixels by a small convolutional autoencoder (codecs/stack_codec.py).

    widths: channels at half, a quarter, an eighth and a sixteenth of the film's size. Raises ValueError for a
    size that no whole number of latents covers.
    """

    height: int = 64
    width: int = 64
    latent_channels: int = 32
    widths: tuple[int, ...] = (48, 96, 160, 256)

    def __post_init__(self) -> None:
        _check_sizes((self.latent_channels, *self.widths))
        if len(self.widths) != 4 or any(width % 8 for width in self.widths):
            raise ValueError("The codec's widths must be four multiples of 8.")
        for name, side in (("height", self.height), ("width", self.width)):
            if not 0 < side <= MAX_SIDE or side % STACK_SIDE:
                raise ValueError(
                    f"A film's {name} must be a multiple of {STACK_SIDE} pixels up to {MAX_SIDE}, not {side}."
                )


OOBLECK_REACH = 10
"""Latents to each side that sound and its resampling depend on, 9.3 of them by the decoder."""


@dataclass(frozen=True)
class OobleckConfig:
    """Sound by Stable Audio's autoencoder (codecs/oobleck.py), 2048 samples at 44,800 Hz a latent.

    Sound of a latent is made once `look_ahead` (0 to 10) more latents are there: with 10 it is exact. Without
    `weights` they are the checkpoint's own, of these sizes: numbers of a latent, widths of encoder and
    decoder where they are narrowest, channels of sound (1 or 2).
    """

    look_ahead: int = OOBLECK_REACH
    weights: PublicWeights | None = None
    latent_channels: int = 64
    encoder_width: int = 128
    decoder_width: int = 128
    audio_channels: int = 2

    def __post_init__(self) -> None:
        _check_sizes((self.latent_channels, self.encoder_width, self.decoder_width))
        if not 0 <= self.look_ahead <= OOBLECK_REACH:
            raise ValueError(f"The look-ahead must be 0 to {OOBLECK_REACH} latents.")
        if self.audio_channels not in (1, 2):
            raise ValueError("The codec's sound must have one channel or two.")


AnyVideoConfig = MotionCodecConfig | StackCodecConfig | WanCodecConfig
AnyAudioConfig = SourceFilterConfig | OobleckConfig


@dataclass(frozen=True)
class CodecEntry:
    """config: the configuration's class; module and name: those of the codec in mutual_forcing.codecs."""

    config: type
    module: str
    name: str


VIDEO_CODECS = {
    "motion": CodecEntry(MotionCodecConfig, "motion_codec", "MotionCodec"),
    "stack": CodecEntry(StackCodecConfig, "stack_codec", "StackCodec"),
    "wan": CodecEntry(WanCodecConfig, "wan", "WanCodec"),
}
AUDIO_CODECS = {
    "source_filter": CodecEntry(SourceFilterConfig, "source_filter_codec", "SourceFilterCodec"),
    "oobleck": CodecEntry(OobleckConfig, "oobleck", "OobleckCodec"),
}
"""By the name that a checkpoint's config has for it; one without a name is of the first."""


def codec_kind(config: object) -> str:
    """The name of a codec by its configuration."""
    entries = (VIDEO_CODECS | AUDIO_CODECS).items()
    return next(name for name, entry in entries if type(config) is entry.config)


def codec_to_dict(config: Any) -> dict[str, Any]:
    """A codec's configuration as plain values, its name among them as "kind"."""
    return {"kind": codec_kind(config), **asdict(config)}


def codec_from_dict(values: dict[str, Any], codecs: dict[str, CodecEntry]) -> Any:
    """Undo `codec_to_dict`; raises ValueError for a codec that is not among `codecs`."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    kind = values.pop("kind", next(iter(codecs)))
    if kind not in codecs:
        raise ValueError(f"Unknown codec {kind!r}; known here are {', '.join(codecs)}.")
    if values.get("weights") is not None:
        values["weights"] = PublicWeights(**values["weights"])
    return codecs[kind].config(**values)
