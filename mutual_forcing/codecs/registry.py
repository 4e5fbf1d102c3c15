"""Codecs by their configurations (codec_config.py has the list); what one needs is imported with it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from ..codec_config import AUDIO_CODECS, VIDEO_CODECS, AnyAudioConfig, AnyVideoConfig, codec_kind
from .protocol import AudioCodec, VideoCodec


def build_video_codec(config: AnyVideoConfig, folder: Path | None = None) -> VideoCodec:
    """The codec of `config`: with its public weights if it names some, else with random ones.

    folder: the checkpoint's, from which a relative source of weights is looked for. Raises ValueError when
    these cannot be loaded, or the package that the codec needs is not installed.
    """
    return cast("VideoCodec", _build(config, folder))


def build_audio_codec(config: AnyAudioConfig, folder: Path | None = None) -> AudioCodec:
    """As `build_video_codec`."""
    return cast("AudioCodec", _build(config, folder))


def public_weights(config: AnyVideoConfig | AnyAudioConfig) -> bool:
    """Whether the codec's weights are public ones, which no checkpoint holds."""
    return getattr(config, "weights", None) is not None


def _build(config: AnyVideoConfig | AnyAudioConfig, folder: Path | None) -> object:
    entry = (VIDEO_CODECS | AUDIO_CODECS)[codec_kind(config)]
    codec = getattr(importlib.import_module(f".{entry.module}", __package__), entry.name)
    return codec.load(config, folder) if public_weights(config) else codec(config)
