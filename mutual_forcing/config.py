"""Configuration: frozen dataclasses that travel inside a checkpoint, and the named presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .motion import MOTION

SAMPLE_RATE = 16_000
"""Audio samples per second; mono everywhere."""
FPS = 25
"""Video frames per second."""


@dataclass(frozen=True)
class VideoAutoencoderConfig:
    """Faces seen in `size` x `size` pixels; every frame becomes one latent, its motion (motion.MOTION).

    `encoder_widths` are the channels at size/8, size/16 and so on; `animator_widths` those of the
    reference's features, and of what is painted, at size/4, size/8 and so on; `detail_width` those of eyes
    and mouth at the picture's own size. `code_width` is that of the code that modulates them.
    """

    size: int = 256
    encoder_widths: tuple[int, ...] = (48, 96, 128)
    animator_widths: tuple[int, ...] = (32, 64, 96)
    detail_width: int = 16
    code_width: int = 128


@dataclass(frozen=True)
class AudioAutoencoderConfig:
    """16 kHz audio; 640 samples become one latent of `latent_channels` (25 a second)."""

    latent_channels: int = 32
    mel_bins: int = 80
    encoder_width: int = 192
    encoder_blocks: int = 4
    decoder_width: int = 256
    decoder_blocks: int = 6


@dataclass(frozen=True)
class BranchConfig:
    """One modality's half of the transformer. `token_dim`: numbers a token carries."""

    width: int
    token_dim: int
    ffn_multiple: int = 4


@dataclass(frozen=True)
class ModelConfig:
    """The audio-video transformer. Inner width of the attention is `heads * head_dim`.

    `window` is the number of past chunks a chunk may see; the references are seen always.
    """

    video: BranchConfig
    audio: BranchConfig
    layers: int = 6
    heads: int = 3
    head_dim: int = 64
    text_width: int = 128
    text_layers: int = 2
    window: int = 3
    voice_latents: int = 64
    coupling_bias: float = -4.0


@dataclass(frozen=True)
class DurationConfig:
    """Predicts how long each phoneme lasts."""

    width: int = 128
    layers: int = 4


@dataclass(frozen=True)
class SystemConfig:
    """Everything that a checkpoint needs to be rebuilt."""

    name: str
    video_autoencoder: VideoAutoencoderConfig
    audio_autoencoder: AudioAutoencoderConfig
    model: ModelConfig
    duration: DurationConfig = field(default_factory=DurationConfig)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-serialisable dictionaries."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> SystemConfig:
        """Rebuild from `to_dict` output; raises ValueError when a key is missing or unknown."""
        try:
            model = dict(values["model"])
            model["video"] = BranchConfig(**model["video"])
            model["audio"] = BranchConfig(**model["audio"])
            video = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in values["video_autoencoder"].items()
            }
            return SystemConfig(
                name=values["name"],
                video_autoencoder=VideoAutoencoderConfig(**video),
                audio_autoencoder=AudioAutoencoderConfig(**values["audio_autoencoder"]),
                model=ModelConfig(**model),
                duration=DurationConfig(**values["duration"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"The checkpoint's config does not fit this version: {error}."
            ) from error


def _tiny() -> SystemConfig:
    return SystemConfig(
        name="tiny",
        video_autoencoder=VideoAutoencoderConfig(),
        audio_autoencoder=AudioAutoencoderConfig(),
        model=ModelConfig(
            video=BranchConfig(width=192, token_dim=len(MOTION)),
            audio=BranchConfig(width=128, token_dim=32),
        ),
    )


def _small() -> SystemConfig:
    return SystemConfig(
        name="small",
        video_autoencoder=VideoAutoencoderConfig(
            size=512, encoder_widths=(48, 96, 128, 160), animator_widths=(32, 64, 96, 128)
        ),
        audio_autoencoder=AudioAutoencoderConfig(decoder_width=384, decoder_blocks=8),
        model=ModelConfig(
            video=BranchConfig(width=384, token_dim=len(MOTION)),
            audio=BranchConfig(width=256, token_dim=32),
            layers=8,
            heads=6,
            text_width=192,
        ),
    )


def _paper_14b() -> SystemConfig:
    """The paper's scale (2 x 7B, section Model), for planning: no such checkpoint is trained here."""
    return SystemConfig(
        name="paper_14b",
        video_autoencoder=VideoAutoencoderConfig(
            size=512,
            encoder_widths=(64, 128, 256, 512),
            animator_widths=(64, 128, 256, 384),
            detail_width=32,
        ),
        audio_autoencoder=AudioAutoencoderConfig(decoder_width=512, decoder_blocks=8),
        model=ModelConfig(
            video=BranchConfig(width=3584, token_dim=len(MOTION)),
            audio=BranchConfig(width=3584, token_dim=32),
            layers=40,
            heads=56,
            text_width=1024,
            text_layers=4,
            window=16,
        ),
    )


def _smoke() -> SystemConfig:
    """As small as it gets, for tests: it learns nothing worth seeing."""
    return SystemConfig(
        name="smoke",
        video_autoencoder=VideoAutoencoderConfig(
            size=64,
            encoder_widths=(16, 24),
            animator_widths=(16, 24),
            detail_width=8,
            code_width=32,
        ),
        audio_autoencoder=AudioAutoencoderConfig(
            encoder_width=48, encoder_blocks=1, decoder_width=64, decoder_blocks=1
        ),
        model=ModelConfig(
            video=BranchConfig(width=48, token_dim=len(MOTION)),
            audio=BranchConfig(width=32, token_dim=32),
            layers=2,
            heads=2,
            head_dim=32,
            text_width=32,
        ),
        duration=DurationConfig(width=32, layers=1),
    )


PRESETS = {"smoke": _smoke, "tiny": _tiny, "small": _small, "paper_14b": _paper_14b}


def preset(name: str) -> SystemConfig:
    """Return the named preset; raises ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]()
