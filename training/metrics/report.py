"""From rows of clips to figures with intervals, and to the table that is published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]
RESAMPLES = 2000
_MEANS = ("identity", "identity_face", "loudness", "silence", "motion", "colour", "contrast")
_HEAD = (
    "system",
    "clips",
    "NFE a chunk",
    "WER",
    "unseen words missed",
    "mouth correlation",
    "lag (frames)",
    "identity",
    "identity, face",
    "loudness",
    "silence",
    "motion",
    "x real time",
)


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Figures of one system; WER and mouth as [mean, low, high] of a bootstrapped 95 % interval.

    The word error rate is over all words of all clips. Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("There are no clips to summarise.")
    picks = _picks(len(rows))
    speeds = [row["real_time"] for row in rows if row["real_time"]]
    return {
        "clips": len(rows),
        "wer": _interval(*_wer(rows, picks)),
        "unseen_missed": _ratio(rows, "unseen_missed", "unseen"),
        "mouth": _interval(*_mean(rows, "mouth", picks)),
        "lag": float(np.median([row["lag"] for row in rows])),
        **{name: round(float(np.mean([row[name] for row in rows])), 4) for name in _MEANS},
        "real_time": round(float(np.median(speeds)), 3) if speeds else None,
    }


def compare(rows: Sequence[Row], others: Sequence[Row]) -> dict[str, Any]:
    """`rows` minus `others` on the clips that both have, with bootstrapped 95 % intervals.

    Raises ValueError if they share no clip.
    """
    theirs = {row["index"]: row for row in others}
    pairs = [(row, theirs[row["index"]]) for row in rows if row["index"] in theirs]
    if not pairs:
        raise ValueError("The two systems share no clip.")
    mine, yours = ([pair[side] for pair in pairs] for side in (0, 1))
    picks = _picks(len(pairs))
    wer = [a - b for a, b in zip(_wer(mine, picks), _wer(yours, picks), strict=True)]
    mouth = [
        a - b
        for a, b in zip(_mean(mine, "mouth", picks), _mean(yours, "mouth", picks), strict=True)
    ]
    return {"clips": len(pairs), "wer": _interval(*wer), "mouth": _interval(*mouth)}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown, one row per system."""
    lines = [f"| {' | '.join(_HEAD)} |", "|" + "---|" * len(_HEAD)]
    for name, r in results.items():
        cells = [
            name,
            r["clips"],
            r["nfe_per_chunk"] or "",
            _written(r["wer"]),
            f"{r['unseen_missed']:.2f}",
            _written(r["mouth"]),
            f"{r['lag']:+.0f}",
            f"{r['identity']:.2f}",
            f"{r['identity_face']:.2f}",
            f"{r['loudness']:.3f}",
            f"{r['silence']:.2f}",
            f"{r['motion']:.2f}",
            f"{r['real_time']:.2f}" if r["real_time"] else "",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def comparisons(differences: dict[str, dict[str, Any]]) -> str:
    """Markdown list of paired differences; nothing when there are none."""
    lines = [
        f"- {name}: WER {_written(d['wer'], '+')}, mouth correlation {_written(d['mouth'], '+')} "
        f"on {d['clips']} clips"
        for name, d in differences.items()
    ]
    return "\n".join(["\nPaired differences, 95 % intervals:\n", *lines, ""]) if lines else ""


def _picks(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(count, size=(RESAMPLES, count))


def _wer(rows: Sequence[Row], picks: np.ndarray) -> tuple[float, np.ndarray]:
    errors, words = (np.array([row[key] for row in rows], float) for key in ("errors", "words"))
    return errors.sum() / words.sum(), errors[picks].sum(1) / words[picks].sum(1)


def _mean(rows: Sequence[Row], key: str, picks: np.ndarray) -> tuple[float, np.ndarray]:
    values = np.array([row[key] for row in rows], float)
    return values.mean(), values[picks].mean(1)


def _ratio(rows: Sequence[Row], part: str, whole: str) -> float:
    return round(sum(row[part] for row in rows) / max(1, sum(row[whole] for row in rows)), 4)


def _interval(mean: float, samples: np.ndarray) -> list[float]:
    low, high = np.quantile(samples, [0.025, 0.975])
    return [round(float(value), 4) for value in (mean, low, high)]


def _written(interval: Sequence[float], sign: str = "") -> str:
    mean, low, high = (f"{value:{sign}.2f}" for value in interval)
    return f"{mean} ({low} to {high})"
