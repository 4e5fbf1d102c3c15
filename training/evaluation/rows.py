"""One row and one file of features per clip, kept so that an interrupted evaluation goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mutual_forcing.metrics import sync

from ..data.dataset import Clip
from .judge import Features, Judge, Row, features
from .systems import MeasuredSystem

_FIRST = "first_clip.npz"


def measure(system: MeasuredSystem, judge: Judge, out: Path) -> list[tuple[Row, Features]]:
    """The row and the features of every clip of a system.

    Those in `out` that were made by the same system are not made again.
    """
    return list(_measure(system, judge, out / "rows"))


def _measure(system: MeasuredSystem, judge: Judge, out: Path) -> Iterator[tuple[Row, Features]]:
    path = out / f"{file_name(system.name)}.jsonl"
    folder = out / file_name(system.name)
    folder.mkdir(parents=True, exist_ok=True)
    done = _kept(path, system.made_by)
    with path.open("a", encoding="utf-8") as file:
        for clip in tqdm(system.clips, desc=system.name):
            windows = folder / f"{clip.index}.npz"
            if clip.index not in done or not windows.exists():
                sample = system.make(clip)
                row, found = judge.measure(clip, sample)
                if clip is system.clips[0]:
                    first = {"frames": sample.frames, "audio": sample.audio}
                    np.savez_compressed(folder / _FIRST, **first)
                done[clip.index] = {**row, "made_by": system.made_by}
                np.savez(windows, **found)
                file.write(json.dumps(done[clip.index]) + "\n")
                file.flush()
            yield done[clip.index], dict(np.load(windows))


def reference_features(judge: Judge, clips: tuple[Clip, ...]) -> list[Features]:
    """Features of real clips, which every Frechet distance is measured from."""
    found = []
    for clip in tqdm(clips, desc="reference"):
        frames, audio = clip.read_frames(0, clip.frames), clip.read_audio()
        seen, heard = sync.embed(judge.pair, judge.reader, frames, audio)
        found.append(features(frames, audio, seen.numpy(), heard.numpy()))
    return found


def first_clips(
    systems: list[MeasuredSystem], out: Path
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Frames and sound of the first clip, which all systems share, by system."""
    paths = {s.name: out / "rows" / file_name(s.name) / _FIRST for s in systems}
    found = {name: np.load(path) for name, path in paths.items() if path.exists()}
    return {name: (part["frames"], part["audio"]) for name, part in found.items()}


def read_rows(out: Path, name: str) -> list[Row]:
    """The rows of a system in a finished evaluation."""
    text = (out / "rows" / f"{file_name(name)}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def whole_rows(path: Path) -> list[Row]:
    """The rows of a file, none without one; a line that an interruption cut off is taken out of it."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    rows, lines = [], []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
        lines.append(f"{line}\n")
    if (whole := "".join(lines)) != text:
        path.write_text(whole, encoding="utf-8")
    return rows


def file_name(name: str) -> str:
    """A system's name as part of a path."""
    return name.replace(",", "").replace(" ", "_")


def _kept(path: Path, made_by: str) -> dict[int, Row]:
    """The rows that this system made, by clip; the others are dropped."""
    rows = [row for row in whole_rows(path) if row.get("made_by") == made_by]
    if path.exists():
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {row["index"]: row for row in rows}
