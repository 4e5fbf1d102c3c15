"""Long streams, measured by stretches of time, and how much the results of different seeds differ."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mutual_forcing import GenerationRequest, StreamingGenerator
from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.metrics.spectrum import log_mel
from mutual_forcing.types import Transcript

from ..data.dataset import Clip, Corpus
from .judge import Judge, Row
from .rows import file_name
from .systems import (
    ClipSample,
    Latents,
    Setting,
    film_side,
    generate,
    reference_picture,
    request_for,
    sibling,
    truth,
)

OPENING_SECONDS = 10.0
"""Of the sentences with which a stream begins and ends, unless something else is asked for."""


@dataclass(frozen=True)
class Script:
    """Held-out sentences one after another: the clips, their joint transcript, visemes [T] and seconds.

    opening: seconds of the sentences that are both its first and its last; 0 if it is too short for that.
    """

    clips: tuple[Clip, ...]
    transcript: Transcript
    visemes: np.ndarray
    seconds: float
    opening: float


def write_scripts(
    clips: Sequence[Clip], seconds: float, count: int, opening: float = OPENING_SECONDS
) -> list[Script]:
    """`count` scripts, each beginning with another of `clips`, spread evenly."""
    starts = [number * len(clips) // count for number in range(count)]
    return [write_script([*clips[start:], *clips[:start]], seconds, opening) for start in starts]


def write_script(clips: Sequence[Clip], seconds: float, opening: float = OPENING_SECONDS) -> Script:
    """Repeat `clips` until `seconds` are full, and go on to the end of the last sentence.

    The sentences of the first `opening` seconds come again at the end, so that beginning and end differ in
    nothing but time. What is too short for that is cut at `seconds`.
    """
    first = _fill(clips, opening)
    length = _seconds(first)
    if seconds < 2 * opening:
        return _script(_fill(clips, seconds), seconds, 0.0)
    middle = _fill(clips[len(first) :] or clips, seconds - 2 * length)
    chosen = [*first, *middle, *first]
    return _script(chosen, _seconds(chosen), length)


def _fill(clips: Sequence[Clip], seconds: float) -> list[Clip]:
    chosen: list[Clip] = []
    for clip in itertools.cycle(clips):
        if _seconds(chosen) >= seconds:
            break
        chosen.append(clip)
    return chosen


def _seconds(clips: Sequence[Clip]) -> float:
    return sum(clip.frames for clip in clips) / FPS


def _script(clips: Sequence[Clip], seconds: float, opening: float) -> Script:
    transcript, visemes, clock = Transcript(), [], 0.0
    for clip in clips:
        transcript = transcript.then(clip.transcript.shifted(clock))
        visemes.append(np.asarray(clip.row["viseme_openness"]))
        clock += clip.frames / FPS
    return Script(tuple(clips), transcript, np.concatenate(visemes), seconds, opening)


def long_stream(
    generator: StreamingGenerator, corpus: Corpus, script: Script, setting: Setting, seed: int
) -> ClipSample:
    """The first clip's character says the whole script in one stream."""
    clip = script.clips[0]
    picture = reference_picture(corpus, clip)
    request = GenerationRequest(
        image=picture,
        transcript=script.transcript,
        caption=clip.row["caption"],
        voice=sibling(corpus, clip).read_audio(),
        steps=setting.asked,
        seed=seed,
        seconds=script.seconds,
        size=film_side(picture),
    )
    return cut(generate(generator, request, setting), script.seconds)


def long_truth(script: Script) -> ClipSample:
    """The script's own clips one after another. Words and lips can be compared; the appearance changes."""
    parts = [truth(clip) for clip in script.clips]
    frames = np.concatenate([part.frames for part in parts])
    return cut(ClipSample(frames, np.concatenate([part.audio for part in parts])), script.seconds)


def cut(sample: ClipSample, seconds: float) -> ClipSample:
    """Drop what lies beyond `seconds`."""
    frames, samples = round(seconds * FPS), round(seconds * SAMPLE_RATE)
    return replace(sample, frames=sample.frames[:frames], audio=sample.audio[:samples])


def judge_stream(
    name: str, sample: ClipSample, judge: Judge, latents: Latents, script: Script
) -> dict[str, Row]:
    """Figures by stretch. The truth shows several characters; its figures of a single character are None."""
    picture = reference_picture(judge.corpus, script.clips[0])[None]
    said = script.transcript.words
    stretches = judge.windows(
        sample, said, script.visemes, picture, latents, opening=script.opening
    )
    if name == "ground truth":
        for row in stretches.values():
            row |= {"similarity": None, "colour": None, "contrast": None, "sharpness": None}
    return stretches


def kept_stream(out: Path, name: str, made_by: str) -> Row | None:
    """The long stream that an earlier run of the same system measured, if there is one."""
    path = _path(out, name)
    if not path.exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    return kept if kept["made_by"] == made_by else None


def keep_stream(out: Path, name: str, stream: Row) -> None:
    """Write the figures of a long stream, so that a later run can use them again."""
    path = _path(out, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stream) + "\n", encoding="utf-8")


def mean(values: Sequence[Any]) -> Any:
    """The mean of numbers, element by element in lists and in dictionaries (the keys that all have).

    None where one of the values is None.
    """
    first = values[0]
    if any(value is None for value in values):
        return None
    if isinstance(first, dict):
        shared = [key for key in first if all(key in value for value in values)]
        return {key: mean([value[key] for value in values]) for key in shared}
    if isinstance(first, list):
        return [mean(part) for part in zip(*values, strict=True)]
    return float(np.mean(values))


def _path(out: Path, name: str) -> Path:
    return out / "rows" / f"long_{file_name(name)}.json"


def diversity(
    generator: StreamingGenerator,
    corpus: Corpus,
    clips: Sequence[Clip],
    setting: Setting,
    seeds: Sequence[int],
) -> Row:
    """Mean difference between seeds of one request, and between two takes of the truth.

    video: mean absolute difference of pixels at the same time, 0..255. audio: of log-mel spectra. The truth
    compares a clip with the next of the same identity, which says another sentence: its audio figure is
    an upper bound, not a target.
    """
    made, real = [], []
    for clip in tqdm(clips, desc="diversity"):
        takes = [
            generate(generator, request_for(corpus, clip, setting, seed), setting) for seed in seeds
        ]
        made += [_apart(a, b) for a, b in itertools.combinations(takes, 2)]
        real.append(_apart(truth(clip), truth(sibling(corpus, clip))))
    names = ("video", "audio")
    return {
        "clips": len(clips),
        "seeds": len(seeds),
        **{n: round(float(np.mean([d[i] for d in made])), 4) for i, n in enumerate(names)},
        **{
            f"{n}_truth": round(float(np.mean([d[i] for d in real])), 4)
            for i, n in enumerate(names)
        },
    }


def _apart(first: ClipSample, second: ClipSample) -> tuple[float, float]:
    count = min(len(first.frames), len(second.frames))
    samples = count * SAMPLE_RATE // FPS
    pictures = first.frames[:count].astype(np.int16) - second.frames[:count]
    sounds = log_mel(first.audio[:samples]) - log_mel(second.audio[:samples])
    return float(np.abs(pictures).mean()), float(sounds.abs().mean())
