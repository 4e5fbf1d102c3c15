"""Configuration: frozen dataclasses that travel inside a checkpoint, and the named presets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import isfinite, sqrt
from typing import Any, Literal

from .codec_config import (
    AUDIO_CODECS,
    VIDEO_CODECS,
    AnyAudioConfig,
    AnyVideoConfig,
    MotionCodecConfig,
    OobleckConfig,
    PublicWeights,
    SourceFilterConfig,
    StackCodecConfig,
    WanCodecConfig,
    codec_from_dict,
    codec_to_dict,
)
from .motion import MOTION
from .text.inventory import PHONEMES

SAMPLE_RATE = 24_000
"""Audio samples per second of all that is generated, and of what the model hears; mono."""
FILM_RATE = 48_000
"""Those of a film's sound: a user's own keeps all that can be heard of it."""
FPS = 25
"""Video frames per second."""


@dataclass(frozen=True)
class TokenGrid:
    """The tokens of one branch in a chunk: latent frames x height x width, `rate` latent frames a second.

    Tokens are in this order, the last index fastest. A sound's grid, and that of video whose latent is one
    vector a frame, is 1 x 1. Raises ValueError for a grid without tokens.
    """

    frames: int
    height: int = 1
    width: int = 1
    rate: float = float(FPS)

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width) < 1 or self.rate <= 0:
            raise ValueError(f"A grid needs tokens and a rate above 0: {self}.")

    @property
    def tokens(self) -> int:
        """Tokens of a chunk."""
        return self.frames * self.frame_tokens

    @property
    def frame_tokens(self) -> int:
        """Tokens of a latent frame."""
        return self.height * self.width

    @property
    def seconds(self) -> float:
        """Length of a chunk."""
        return self.frames / self.rate


@dataclass(frozen=True)
class BranchConfig:
    """One modality's half of the transformer. `token_dim`: numbers a token carries. `ffn_multiple`: of the
    width, in AVTransformer.
    """

    width: int
    token_dim: int
    ffn_multiple: int = 4
    grid: TokenGrid = TokenGrid(16)


@dataclass(frozen=True)
class JointConfig:
    """What sampling, streaming and training know of an audio-video transformer, of whichever kind.

    Inner width of the attention is `heads * head_dim`. `window` is the number of past chunks a chunk may see;
    the references are seen always. `coupling_bias` is the logit with which the other branch's tokens begin,
    were there as many as own ones. `phonemes` is how many of text.inventory.PHONEMES the duration predictor
    beside it knows. `sigma_shift`: of the levels at which it is sampled (flow.sigma_schedule). Raises
    ValueError for branches whose chunks are not equally long.
    """

    video: BranchConfig
    audio: BranchConfig
    layers: int = 6
    heads: int = 3
    head_dim: int = 64
    window: int = 3
    voice_latents: int = 64
    coupling_bias: float = -4.0
    phonemes: int = len(PHONEMES)
    sigma_shift: float = 1.0

    def __post_init__(self) -> None:
        lengths = [branch.grid.seconds for branch in self.branches.values()]
        if max(lengths) - min(lengths) > 1e-6:
            raise ValueError(f"The branches' chunks must last equally long, not {lengths} seconds.")

    @property
    def branches(self) -> dict[str, BranchConfig]:
        """Both branches by name, video first."""
        return {"video": self.video, "audio": self.audio}

    @property
    def grids(self) -> dict[str, TokenGrid]:
        """The branches' grids by name."""
        return {name: branch.grid for name, branch in self.branches.items()}

    @property
    def least_parameters(self) -> int:
        """Numbers in the feed-forward matrices alone: any checkpoint of it has more."""
        raise NotImplementedError


@dataclass(frozen=True)
class ModelConfig(JointConfig):
    """AVTransformer, which reads phonemes; it knows as many as `phonemes` says."""

    text_width: int = 128
    text_layers: int = 2

    @property
    def least_parameters(self) -> int:
        """See JointConfig."""
        return self.layers * sum(2 * b.ffn_multiple * b.width**2 for b in self.branches.values())


@dataclass(frozen=True)
class WanConfig(JointConfig):
    """WanAVTransformer: two branches of the shape of Wan2.2-TI2V-5B or larger, which read UMT5.

    Both widths are `heads * head_dim`. A token of video holds `patch` x `patch` latents, in the order
    (channels, rows, columns). `ffn_width`: of the feed-forward. `text_dim`: of the text encoder, whose texts
    are padded with zeros to `text_tokens`. `frequencies`: sinusoidal features of a noise level. `eps`: of all
    norms. `text`: where the text encoder and its tokenizer lie, in subfolders of these names; None for a
    model that reads encoded texts only. `kind` tells the configurations of a checkpoint apart. Raises
    ValueError for widths and tokens that do not go together.
    """

    patch: int = 2

    ffn_width: int = 14_336
    text_dim: int = 4096
    text_tokens: int = 512
    frequencies: int = 256
    eps: float = 1e-6
    text: PublicWeights | None = None
    kind: Literal["wan"] = "wan"

    def __post_init__(self) -> None:
        super().__post_init__()
        widths = {branch.width for branch in self.branches.values()}
        if widths != {self.heads * self.head_dim}:
            raise ValueError(
                f"Both branches must be {self.heads * self.head_dim} wide (heads * head_dim), not {widths}."
            )
        if self.patch < 1 or self.video.token_dim % self.patch**2:
            raise ValueError(
                f"Tokens of {self.video.token_dim} numbers hold no {self.patch} x {self.patch} latents."
            )

    @property
    def least_parameters(self) -> int:
        """See JointConfig."""
        return self.layers * sum(2 * self.ffn_width * b.width for b in self.branches.values())


@dataclass(frozen=True)
class DurationConfig:
    """Predicts how long each phoneme lasts, of the `phonemes` that it knows."""

    width: int = 128
    layers: int = 4
    phonemes: int = len(PHONEMES)


@dataclass(frozen=True)
class SoundReaderConfig:
    """Reads what is said in given sound (models/sound_reader.py).

    Raises ValueError for numbers that are no network's.
    """

    width: int = 192
    mel_bins: int = 80

    def __post_init__(self) -> None:
        if not all(type(number) is int and number > 0 for number in (self.width, self.mel_bins)):
            raise ValueError("A sound reader's width and bins must be whole numbers from 1 on.")


LARGEST = 16_384
"""Of any number in a configuration; the paper's widest layer has 14,336."""


def _numbers(values: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number in nested dictionaries and tuples, with the name it stands under."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _numbers(value, key)
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _numbers(value, name)
    elif isinstance(values, (int, float)) and not isinstance(values, bool):
        yield name, values


@dataclass(frozen=True)
class SystemConfig:
    """Everything that a checkpoint needs to be rebuilt.

    sound_reader: None where given sound moves the lips by its latents alone. Raises ValueError for a model
    and a duration predictor that do not know the same phonemes, and for numbers that no network has:
    checkpoints come from strangers.
    """

    name: str
    video_codec: AnyVideoConfig
    audio_codec: AnyAudioConfig
    model: ModelConfig | WanConfig
    duration: DurationConfig = field(default_factory=DurationConfig)
    sound_reader: SoundReaderConfig | None = None

    def __post_init__(self) -> None:
        if self.model.phonemes != self.duration.phonemes:
            raise ValueError(
                f"The model knows {self.model.phonemes} phonemes, its duration predictor "
                f"{self.duration.phonemes}."
            )
        if self.sound_reader is not None and isinstance(self.model, WanConfig):
            raise ValueError(
                "A sound reader says phonemes, which a transformer of Wan's does not read."
            )
        for name, number in _numbers(asdict(self)):
            if (
                not isfinite(number)
                or abs(number) > LARGEST
                or (type(number) is int and number < 0)
            ):
                raise ValueError(f"The checkpoint's config says {number} for {name}.")

    @property
    def least_parameters(self) -> int:
        """Numbers in the transformer's feed-forward matrices alone: any checkpoint of it has more."""
        return self.model.least_parameters

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-serialisable dictionaries."""
        codecs = {
            name: codec_to_dict(getattr(self, name)) for name in ("video_codec", "audio_codec")
        }
        return asdict(self) | codecs

    @staticmethod
    def from_dict(values: dict[str, Any]) -> SystemConfig:
        """Rebuild from `to_dict` output; raises ValueError when a key is missing or unknown."""
        try:
            model, reader = dict(values["model"]), values.get("sound_reader")
            if model.get("text") is not None:
                model["text"] = PublicWeights(**model["text"])
            for name in ("video", "audio"):
                branch = dict(model[name])
                branch["grid"] = TokenGrid(**branch["grid"])
                model[name] = BranchConfig(**branch)
            return SystemConfig(
                name=values["name"],
                video_codec=codec_from_dict(values["video_codec"], VIDEO_CODECS),
                audio_codec=codec_from_dict(values["audio_codec"], AUDIO_CODECS),
                model=WanConfig(**model) if model.get("kind") == "wan" else ModelConfig(**model),
                duration=DurationConfig(**values["duration"]),
                sound_reader=None if reader is None else SoundReaderConfig(**reader),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"The checkpoint's config does not fit this version: {error}."
            ) from error


def _tiny() -> SystemConfig:
    return SystemConfig(
        name="tiny",
        video_codec=MotionCodecConfig(),
        audio_codec=SourceFilterConfig(),
        model=ModelConfig(
            video=BranchConfig(width=256, token_dim=len(MOTION)),
            audio=BranchConfig(width=256, token_dim=48),
            heads=4,
            text_width=192,
            text_layers=3,
            window=6,
        ),
        sound_reader=SoundReaderConfig(),
    )


def _base() -> SystemConfig:
    """What 60 MB hold in half precision: `tiny` with free numbers of motion, wider for sound, and a window
    of 5 s.
    """
    tiny, video_codec = _tiny(), MotionCodecConfig(free=8)
    model = replace(
        tiny.model,
        video=BranchConfig(width=256, token_dim=video_codec.channels),
        audio=BranchConfig(width=320, token_dim=48),
        window=8,
    )
    return replace(tiny, name="base", video_codec=video_codec, model=model)


def _pixels() -> SystemConfig:
    """Films of 64 x 64 pixels that are all made by the transformer: 4 x 4 tokens a latent frame, with Wan's
    geometry, a quarter of what `paper_14b` has across. Sound, text and attention are those of `tiny`.
    """
    tiny, grid = _tiny(), TokenGrid(4, 4, 4, rate=FPS / 4)
    video_codec = StackCodecConfig()
    video = BranchConfig(width=256, token_dim=video_codec.latent_channels, grid=grid)
    model = replace(tiny.model, video=video, window=4)
    return replace(tiny, name="pixels", video_codec=video_codec, model=model)


def _small() -> SystemConfig:
    return SystemConfig(
        name="small",
        video_codec=MotionCodecConfig(
            size=512, encoder_widths=(48, 96, 128, 160), animator_widths=(32, 64, 96, 128)
        ),
        audio_codec=SourceFilterConfig(decoder_width=448),
        model=ModelConfig(
            video=BranchConfig(width=384, token_dim=len(MOTION)),
            audio=BranchConfig(width=384, token_dim=48),
            layers=8,
            heads=6,
            text_width=256,
            text_layers=3,
            window=6,
        ),
        sound_reader=SoundReaderConfig(width=256),
    )


FILM_SIZES = ((192, 352), (480, 768), (704, 1280))
"""Height and width of the films at which the presets of the paper's scale exist; the paper's 192 x 336 is
not covered by whole tokens.
"""
WAN_REPOSITORY = "Wan-AI/Wan2.2-TI2V-5B-Diffusers"
AUDIO_REPOSITORY = "stabilityai/stable-audio-open-1.0"


def _wan(name: str, size: tuple[int, int], layers: int, heads: int) -> SystemConfig:
    """Two branches of Wan's shape over public codecs: only they, and the duration predictor, are trained."""
    height, width = size
    grid = TokenGrid(4, height // 32, width // 32, rate=FPS / 4)
    return SystemConfig(
        name=name,
        video_codec=WanCodecConfig(
            height, width, weights=PublicWeights(WAN_REPOSITORY, subfolder="vae")
        ),
        audio_codec=OobleckConfig(weights=PublicWeights(AUDIO_REPOSITORY, subfolder="vae")),
        model=WanConfig(
            video=BranchConfig(width=heads * 128, token_dim=48 * 2 * 2, grid=grid),
            audio=BranchConfig(width=heads * 128, token_dim=64, grid=TokenGrid(14, rate=21.875)),
            layers=layers,
            heads=heads,
            head_dim=128,
            window=8,
            # Wan takes 5 for its own size; it goes with the length of a side.
            sigma_shift=round(5 * sqrt(grid.frame_tokens / 880), 1),
            text=PublicWeights(WAN_REPOSITORY),
        ),
    )


def _wan_smoke() -> SystemConfig:
    """As small as it gets with all that `wan_5b` has: films of 64 x 96 pixels, for tests and for trying the
    commands. Its public weights are random ones that `python -m training.random_public` writes.
    """
    heads, head_dim, latents = 2, 32, 8
    grid = TokenGrid(4, 2, 3, rate=FPS / 4)
    return SystemConfig(
        name="wan_smoke",
        video_codec=WanCodecConfig(64, 96, weights=PublicWeights("public/wan", subfolder="vae")),
        audio_codec=OobleckConfig(weights=PublicWeights("public/audio", subfolder="vae")),
        model=WanConfig(
            video=BranchConfig(width=heads * head_dim, token_dim=latents * 2 * 2, grid=grid),
            audio=BranchConfig(
                width=heads * head_dim, token_dim=8, grid=TokenGrid(14, rate=21.875)
            ),
            layers=2,
            heads=heads,
            head_dim=head_dim,
            window=2,
            voice_latents=32,
            ffn_width=96,
            text_dim=16,
            text_tokens=128,
            frequencies=32,
            sigma_shift=3.0,
            text=PublicWeights("public/wan"),
        ),
        duration=DurationConfig(width=32, layers=1),
    )


def _wan_presets() -> dict[str, Callable[[], SystemConfig]]:
    """wan_5b has branches of the shape of Wan2.2-TI2V-5B, whose weights its video branch can begin from
    (wan_weights.py); paper_14b has 7B parameters a branch as the paper says (section Model; how deep
    they are it does not say). A name without a size is for films of the first one.
    """
    found: dict[str, Callable[[], SystemConfig]] = {}
    for name, layers, heads in (("wan_5b", 30, 24), ("paper_14b", 34, 28)):
        for size in FILM_SIZES:
            whole = f"{name}_{size[0]}x{size[1]}"
            found[whole] = partial(_wan, whole, size, layers, heads)
        found[name] = partial(_wan, name, FILM_SIZES[0], layers, heads)
    return found


def _smoke() -> SystemConfig:
    """As small as it gets, for tests: it learns nothing worth seeing."""
    return SystemConfig(
        name="smoke",
        video_codec=MotionCodecConfig(
            size=64,
            encoder_widths=(16, 24),
            animator_widths=(16, 24),
            detail_width=8,
            code_width=32,
            free=8,
        ),
        audio_codec=SourceFilterConfig(
            encoder_width=48, encoder_blocks=2, decoder_width=64, decoder_blocks=3
        ),
        model=ModelConfig(
            video=BranchConfig(width=48, token_dim=len(MOTION) + 8),
            audio=BranchConfig(width=32, token_dim=48),
            layers=2,
            heads=2,
            head_dim=32,
            text_width=32,
        ),
        duration=DurationConfig(width=32, layers=1),
        sound_reader=SoundReaderConfig(width=16, mel_bins=20),
    )


PRESETS = {
    "smoke": _smoke,
    "tiny": _tiny,
    "base": _base,
    "pixels": _pixels,
    "small": _small,
    "wan_smoke": _wan_smoke,
    **_wan_presets(),
}


def preset(name: str) -> SystemConfig:
    """Return the named preset; raises ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]()
