"""Writes the figures as JSON and Markdown. Timings, which differ from run to run, have files of their own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mutual_forcing.chunks import CHUNK_SECONDS
from mutual_forcing.metrics import frechet, report
from mutual_forcing.types import Mode

from .judge import ENDS, Features, Row
from .systems import MeasuredSystem

Measured = list[tuple[Row, Features]]
_STREAM = (
    "wer",
    "mouth",
    "sync",
    "similarity",
    "colour",
    "contrast",
    "sharpness",
    "motion",
    "jump",
    "loudness",
    "silence",
    "video_shift",
    "video_spread",
    "audio_shift",
    "audio_spread",
)


_STEADY = ("similarity", "colour", "mouth", "sync", "loudness")


@dataclass
class Results:
    """All that a run has measured so far. `rows` by system, `streams` by name and stretch."""

    systems: list[MeasuredSystem]
    notes: str
    rows: dict[str, Measured] = field(default_factory=dict)
    reference: list[Features] = field(default_factory=list)
    streams: dict[str, dict[str, Row]] = field(default_factory=dict)
    stream_timings: dict[str, Row] = field(default_factory=dict)
    diversity: Row = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    """GiB at most while streaming, by mode."""
    known: dict[str, Row] = field(default_factory=dict)
    """Distances of the systems in `rows`, by name: they are written again with every system."""

    def figures(self) -> dict[str, Row]:
        """The figures of every measured system."""
        nfe = {system.name: system.nfe for system in self.systems}
        return {
            name: {"nfe_per_chunk": nfe[name], **report.summarise([row for row, _ in measured])}
            for name, measured in self.rows.items()
        }

    def differences(self) -> dict[str, Row]:
        """Paired: Few mode against Multi mode with the most steps, each mode against the same before, each
        control against what it controls.
        """
        nfe = {system.name: system.nfe for system in self.systems if system.name in self.rows}
        slowest = max((name for name in nfe if _is_mode(name, "multi")), key=nfe.get, default="")
        pairs = [(name, slowest) for name in nfe if _is_mode(name, "few")]
        pairs += [(name, f"{name} before") for name in self.rows]
        controls = ("predicted times", "wrong ")
        pairs += [(name, name.split(", ")[-1]) for name in self.rows if name.startswith(controls)]
        return {
            f"{name} minus {other}": report.compare(self._plain(name), self._plain(other))
            for name, other in pairs
            if other in self.rows
        }

    def distances(self) -> dict[str, Row]:
        """Frechet distances by system and features: figure, interval, and the truth's on the same clips."""
        if not self.reference or "ground truth" not in self.rows:
            return {}
        real = {
            name: np.concatenate([part[name] for part in self.reference])
            for name in self.reference[0]
        }
        truth = {row["index"]: found for row, found in self.rows["ground truth"]}
        for system, measured in self.rows.items():
            if system in self.known:
                continue
            result: Row = {"windows": sum(len(f["video_random"]) for _, f in measured)}
            for name, reference in real.items():
                value = frechet.interval([found[name] for _, found in measured], reference)
                same = np.concatenate([truth[row["index"]][name] for row, _ in measured])
                floor = frechet.distance(same, reference)
                rounded = [round(v, 4) for v in value]
                result[name] = {"distance": rounded, "floor": round(floor, 4)}
            self.known[system] = result
        return {system: self.known[system] for system in self.rows}

    def steadiness(self) -> dict[str, Row]:
        """How far the end of every long stream lies from its beginning, where it says the same, as a share.

        None where there is nothing to share.
        """
        ends = {
            name: [parts[end] for end in ENDS]
            for name, parts in self.streams.items()
            if all(end in parts for end in ENDS)
        }
        return {
            name: {figure: _change(first[figure], last[figure]) for figure in _STEADY}
            for name, (first, last) in ends.items()
        }

    def _plain(self, name: str) -> list[Row]:
        return [row for row, _ in self.rows[name]]


def _is_mode(name: str, mode: Mode) -> bool:
    """Whether this is a mode of the checkpoint that is measured, such as "few 4"."""
    return name.removeprefix(f"{mode} ").isdecimal()


def write(results: Results, out: Path) -> str:
    """Write results.json and results.md, the same for the same seed; return the Markdown."""
    figures, differences = results.figures(), results.differences()
    distances, steadiness = results.distances(), results.steadiness()
    values = {
        "systems": figures,
        "differences": differences,
        "distances": distances,
        "streams": results.streams,
        "steadiness": steadiness,
        "diversity": results.diversity,
        "notes": results.notes,
    }
    _dump(out / "results.json", values)
    text = report.table(figures) + report.comparisons(differences)
    text += _distances(distances) + _streams(results.streams) + _steadiness(steadiness)
    text += _diversity(results.diversity)
    text += f"\n{results.notes}\n"
    (out / "results.md").write_text(text, encoding="utf-8")
    return text


def write_timings(results: Results, out: Path, machine: str, peak_bytes: int) -> str:
    """Write timings.json and timings.md, which differ from run to run; return the Markdown."""
    spent = {
        name: report.speed([row for row, _ in measured], CHUNK_SECONDS)
        for name, measured in results.rows.items()
    }
    spent |= {f"long {n}": t for n, t in results.stream_timings.items()}
    spent = {name: figures for name, figures in spent.items() if figures}
    for name in results.memory.keys() & spent.keys():
        spent[name]["peak_memory_gib"] = results.memory[name]
    peak = round(peak_bytes / 2**30, 3)
    _dump(out / "timings.json", {"systems": spent, "peak_memory_gib": peak, "machine": machine})
    columns = {
        "first chunk (s)": lambda r: f"{r['first_chunk']:.2f}",
        "chunk time over chunk, median": lambda r: f"{r['load_median']:.2f}",
        "95th percentile": lambda r: f"{r['load_95']:.2f}",
        "x real time": lambda r: f"{r['real_time']:.2f}",
        "growth": lambda r: f"{r['growth']:.2f}" if "growth" in r else "",
        "peak memory (GiB)": lambda r: (
            f"{r['peak_memory_gib']:.2f}" if "peak_memory_gib" in r else ""
        ),
    }
    text = report.markdown(spent, columns)
    text += (
        f"\nDecoding and muxing included; {machine}. Peak memory: of a process that streams and does nothing "
        f"else, in that mode; {peak} GiB of this one, with the judges. Growth: chunk time in the last "
        "quarter of a long stream over that in the first.\n"
    )
    (out / "timings.md").write_text(text, encoding="utf-8")
    return text


def read_timings(out: Path) -> dict[str, Row]:
    """Timings by system, as `write_timings` wrote them."""
    return json.loads((out / "timings.json").read_text(encoding="utf-8"))["systems"]


def stream_timing(spent: tuple[float, ...], first: float) -> Row:
    """Figures of one long stream's chunks, with how much slower its last quarter is than its first."""
    timing = {"timing": {"first": first, "chunks": list(spent)}}
    figures = report.speed([timing], CHUNK_SECONDS) or {}
    quarter = max(1, len(spent) // 4)
    growth = float(np.median(spent[-quarter:]) / np.median(spent[:quarter]))
    return {**figures, "growth": round(growth, 3)}


def _distances(distances: dict[str, Row]) -> str:
    if not distances:
        return ""

    def cell(name: str):  # noqa: ANN202
        return lambda r: f"{report.written(r[name]['distance'])}, floor {r[name]['floor']:.2f}"

    names = [name for name in next(iter(distances.values())) if name != "windows"]
    columns = {"windows": lambda r: f"{r['windows']}{' ~' * (r['windows'] < frechet.ENOUGH)}"}
    columns |= {name.replace("_", ", "): cell(name) for name in names}
    return "\nFrechet distances, per feature:\n" + report.markdown(distances, columns, before="\n")


def _streams(streams: dict[str, dict[str, Row]]) -> str:
    if not streams:
        return ""

    def cell(name: str):  # noqa: ANN202
        return lambda r: "" if r[name] is None else f"{r[name]:.3g}"

    flat = {
        f"{name}, {part}": row for name, parts in streams.items() for part, row in parts.items()
    }
    columns = {name.replace("_", " "): cell(name) for name in _STREAM}
    note = (
        "\nShift and spread: of the stream's latents, standardised by the checkpoint's statistics, the root "
        "mean square of the channels' means (0 over the training corpus; one character alone has its own "
        "look and voice, so compare with its first stretch) and the mean of their deviations (1 over the "
        "corpus). results.json has every channel's.\n"
    )
    return "\nLong streams by stretch:\n" + report.markdown(flat, columns, before="\n") + note


def _change(first: float | None, last: float | None) -> float | None:
    if first is None or last is None or first <= 0:
        return None
    return round(last / first - 1, 4)


def _steadiness(found: dict[str, Row]) -> str:
    if not found:
        return ""

    def cell(name: str):  # noqa: ANN202
        return lambda r: "" if r[name] is None else f"{100 * r[name]:+.0f} %"

    columns = {name: cell(name) for name in _STEADY}
    title = (
        "\nThe end of a long stream beside its beginning, where it says the same (the goal: within 10 %):"
        "\n"
    )
    return title + report.markdown(found, columns, before="\n")


def _diversity(found: Row) -> str:
    if not found:
        return ""
    return (
        f"\nDiversity ({found['mode']}, {found['clips']} clips, {found['seeds']} seeds): two seeds differ by "
        f"{found['video']:.2f} of 255 in the picture and {found['audio']:.2f} in log-mel; two real takes "
        f"(of other sentences) by {found['video_truth']:.2f} and {found['audio_truth']:.2f}.\n"
    )


def _dump(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
