"""Requests and chunks as bytes: safetensors, in which nothing is a program, with the rest of it as JSON.

Whoever reads gets what was written, bit for bit, or a ValueError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..chunks import chunks_for_seconds
from ..types import (
    MAX_SECONDS,
    AVChunk,
    FaceCrop,
    GenerationRequest,
    Steering,
    TimedPhoneme,
    TimedWord,
    Transcript,
)

_JSON = "json"
"""The tensor that is text."""
_REQUEST_ARRAYS, _CHUNK_ARRAYS = ("image", "audio", "heard", "voice"), ("frames", "audio", "heard")


@dataclass(frozen=True)
class Wishes:
    """What the rest of a stream shall be, from chunk `index` on: how many chunks there are in all, what is
    said (None for nothing new), and how. Raises ValueError for what no stream can be.
    """

    index: int
    total: int
    caption: str
    steps: int
    steering: Steering
    transcript: Transcript | None = None

    def __post_init__(self) -> None:
        for name in ("index", "total", "steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
                raise ValueError(f"{name} must be a whole number.")
        if self.total > chunks_for_seconds(MAX_SECONDS):
            raise ValueError(f"The stream would be longer than {MAX_SECONDS:.0f} seconds.")
        if not isinstance(self.caption, str):
            raise ValueError("The caption must be text.")


def pack_request(request: GenerationRequest) -> bytes:
    """A request as bytes."""
    return _pack(vars(request), _REQUEST_ARRAYS)


def unpack_request(data: bytes) -> GenerationRequest:
    """The request of these bytes; raises ValueError, in one sentence, if they are none."""
    return _built(_request, _unpack(data, _REQUEST_ARRAYS))


def pack_chunk(chunk: AVChunk) -> bytes:
    """A chunk as bytes: 12 MB for 512 x 512."""
    return _pack(vars(chunk), _CHUNK_ARRAYS)


def unpack_chunk(data: bytes) -> AVChunk:
    """The chunk of these bytes; raises ValueError, in one sentence, if they are none."""
    return _built(lambda values: AVChunk(**values), _unpack(data, _CHUNK_ARRAYS))


def pack_wishes(wishes: Wishes) -> bytes:
    """Wishes as JSON."""
    return json.dumps(asdict(wishes)).encode()


def unpack_wishes(data: bytes) -> Wishes:
    """The wishes of these bytes; raises ValueError, in one sentence, if they are none."""

    def build(values: dict[str, Any]) -> Wishes:
        steering = Steering(**values.pop("steering"))
        return Wishes(**values | {"steering": steering, "transcript": _transcript(values)})

    return _built(build, _json(data))


def _request(values: dict[str, Any]) -> GenerationRequest:
    crop = values["crop"]
    values["crop"] = None if crop is None else FaceCrop(**crop)
    values["steering"] = Steering(**values["steering"])
    values["transcript"] = _transcript(values)
    return GenerationRequest(**values)


def _transcript(values: Mapping[str, Any]) -> Transcript | None:
    given = values["transcript"]
    if given is None:
        return None
    phonemes = tuple(TimedPhoneme(**phoneme) for phoneme in given["phonemes"])
    words = tuple(TimedWord(**word) for word in given["words"])
    times = [t for part in (*phonemes, *words) for t in (part.start, part.end)]
    if not all(type(t) in (int, float) and 0 <= t <= 2 * MAX_SECONDS for t in times):
        raise ValueError("Times of a transcript must be seconds.")
    return Transcript(phonemes, words, tuple(map(str, given["unspoken"])))


def _pack(values: Mapping[str, Any], names: tuple[str, ...]) -> bytes:
    """The arrays of these `names`, those that there are, and the rest as JSON."""
    arrays = {
        name: np.ascontiguousarray(values[name]) for name in names if values[name] is not None
    }
    rest = {name: value for name, value in values.items() if name not in names}
    text = json.dumps(rest, default=_plain).encode()
    return save(arrays | {_JSON: np.frombuffer(text, np.uint8)})


def _plain(value: Any) -> Any:
    """What JSON has no words for: our dataclasses, and numbers that numpy made."""
    return value.item() if isinstance(value, np.generic) else asdict(value)


def _unpack(data: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    try:
        arrays = load(data)
    except (SafetensorError, KeyError, ValueError, OverflowError) as error:
        raise ValueError("These bytes are neither a request nor a chunk.") from error
    text = arrays.pop(_JSON, np.zeros(0, np.uint8)).tobytes()
    own = {name: arrays.pop(name, None) for name in names}
    if arrays:
        raise ValueError(f"These bytes hold more than they should: {', '.join(sorted(arrays))}.")
    return {**_json(text), **own}


def _json(data: bytes) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("These bytes are no JSON.") from error
    if not isinstance(values, dict):
        raise ValueError("These bytes are not what was asked for.")
    return values


def _built(build: Any, values: dict[str, Any]) -> Any:
    """What `build` makes of `values`; a missing, unknown or odd one is a ValueError."""
    try:
        return build(values)
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError("These bytes are not what was asked for.") from error
