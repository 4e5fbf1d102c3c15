"""From rows of clips to figures with intervals, and to the tables that are published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]
Figures = dict[str, Any]
RESAMPLES = 2000
_MEANS = (
    "sync_confidence",
    "identity",
    "identity_face",
    "similarity",
    "loudness",
    "silence",
    "motion",
    "jump",
    "colour",
    "contrast",
    "sharpness",
)


def summarise(rows: Sequence[Row]) -> Figures:
    """Figures of one system; WER, mouth and sync as [mean, low, high] of a bootstrapped 95 % interval.

    The word error rates are over all words of all clips. onset: median distance in ms of the words that were
    recognised from where they were asked for, onset_bias: its median with sign (late is
    positive), both None when no word was. Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("There are no clips to summarise.")
    picks = _picks(len(rows))
    onsets = np.array([ms for row in rows for ms in row["onsets"]])
    return {
        "clips": len(rows),
        "wer": _interval(*_wer(rows, picks)),
        "wer_closed": _interval(*_wer(rows, picks, "closed_errors")),
        "unseen_missed": _ratio(rows, "unseen_missed", "unseen"),
        "onset": round(float(np.median(np.abs(onsets))), 1) if len(onsets) else None,
        "onset_bias": round(float(np.median(onsets)), 1) if len(onsets) else None,
        "onset_words": len(onsets),
        "mouth": _interval(*_mean(rows, "mouth", picks)),
        "lag": float(np.median([row["lag"] for row in rows])),
        "sync": _interval(*_mean(rows, "sync", picks)),
        "sync_lag": float(np.median([row["sync_lag"] for row in rows])),
        **{name: round(float(np.mean([row[name] for row in rows])), 4) for name in _MEANS},
    }


def speed(rows: Sequence[Row], chunk_seconds: float) -> Figures | None:
    """Time to the first chunk (median, s), and chunk time over its duration; None if nothing was timed."""
    timings = [row["timing"] for row in rows if row["timing"]]
    spent = [seconds for timing in timings for seconds in timing["chunks"]]
    if not spent:
        return None
    middle, slow = np.quantile(spent, [0.5, 0.95]) / chunk_seconds
    return {
        "first_chunk": round(float(np.median([timing["first"] for timing in timings])), 3),
        "load_median": round(float(middle), 3),
        "load_95": round(float(slow), 3),
        "real_time": round(float(1 / middle), 3),
    }


def compare(rows: Sequence[Row], others: Sequence[Row]) -> Figures:
    """`rows` minus `others` on the clips that both have, with bootstrapped 95 % intervals.

    Raises ValueError if they share no clip.
    """
    theirs = {row["index"]: row for row in others}
    pairs = [(row, theirs[row["index"]]) for row in rows if row["index"] in theirs]
    if not pairs:
        raise ValueError("The two systems share no clip.")
    mine, yours = ([pair[side] for pair in pairs] for side in (0, 1))
    picks = _picks(len(pairs))
    result: Figures = {"clips": len(pairs)}
    for name, key in (("wer", "errors"), ("wer_closed", "closed_errors")):
        (mean, samples), (less, fewer) = (_wer(rows, picks, key) for rows in (mine, yours))
        result[name] = _interval(mean - less, samples - fewer)
    for name in ("mouth", "sync", "similarity"):
        (mean, samples), (less, fewer) = (_mean(rows, name, picks) for rows in (mine, yours))
        result[name] = _interval(mean - less, samples - fewer)
    return result


def table(results: dict[str, Figures]) -> str:
    """Markdown of words, lips and pictures: one row per system."""
    return markdown(
        results,
        {
            "clips": lambda r: str(r["clips"]),
            "NFE a chunk": lambda r: str(r["nfe_per_chunk"] or ""),
            "WER": lambda r: written(r["wer"]),
            "WER, closed": lambda r: written(r["wer_closed"]),
            "unseen words missed": lambda r: f"{r['unseen_missed']:.2f}",
            "word onset (ms)": lambda r: _onset(r),
            "mouth correlation": lambda r: written(r["mouth"]),
            "lag (frames)": lambda r: f"{r['lag']:+.0f}",
            "sync pair": lambda r: written(r["sync"]),
            "its lag": lambda r: f"{r['sync_lag']:+.0f}",
        },
    ) + markdown(
        results,
        {
            "identity": lambda r: f"{r['identity']:.2f}",
            "identity, face": lambda r: f"{r['identity_face']:.2f}",
            "similarity, face": lambda r: f"{r['similarity']:.3f}",
            "sharpness": lambda r: f"{r['sharpness']:.2f}",
            "motion": lambda r: f"{r['motion']:.2f}",
            "border over inner motion": lambda r: f"{r['jump']:.2f}",
            "loudness": lambda r: f"{r['loudness']:.3f}",
            "silence": lambda r: f"{r['silence']:.2f}",
        },
        before="\n",
    )


def markdown(
    results: dict[str, Figures],
    columns: dict[str, Callable[[Figures], str]],
    first: str = "system",
    before: str = "",
) -> str:
    """A Markdown table: a row per name, a column per heading."""
    lines = [f"| {' | '.join([first, *columns])} |", "|" + "---|" * (len(columns) + 1)]
    for name, figures in results.items():
        cells = [name, *(write(figures) for write in columns.values())]
        lines.append(f"| {' | '.join(cells)} |")
    return before + "\n".join(lines) + "\n"


def comparisons(differences: dict[str, Figures]) -> str:
    """Markdown list of paired differences; nothing when there are none."""
    lines = [
        f"- {name}: WER {written(d['wer'], '+')}, closed {written(d['wer_closed'], '+')}, "
        f"mouth correlation {written(d['mouth'], '+')}, sync pair {written(d['sync'], '+')}, "
        f"similarity of the face {written(d['similarity'], '+')} on {d['clips']} clips"
        for name, d in differences.items()
    ]
    return "\n".join(["\nPaired differences, 95 % intervals:\n", *lines, ""]) if lines else ""


def written(interval: Sequence[float], sign: str = "") -> str:
    """A figure and its interval."""
    mean, low, high = (f"{value:{sign}.2f}" for value in interval)
    return f"{mean} ({low} to {high})"


def mean_interval(values: Sequence[float]) -> list[float]:
    """[mean, low, high] of a bootstrapped 95 % interval. Raises ValueError without values."""
    if not values:
        raise ValueError("There is nothing to take the mean of.")
    array = np.array(values, float)
    return _interval(array.mean(), array[_picks(len(array))].mean(1))


def _onset(r: Figures) -> str:
    return "" if r["onset"] is None else f"{r['onset']:.0f} (of {r['onset_words']})"


def _picks(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(count, size=(RESAMPLES, count))


def _wer(rows: Sequence[Row], picks: np.ndarray, key: str = "errors") -> tuple[float, np.ndarray]:
    errors, words = (np.array([row[name] for row in rows], float) for name in (key, "words"))
    return errors.sum() / words.sum(), errors[picks].sum(1) / words[picks].sum(1)


def _mean(rows: Sequence[Row], key: str, picks: np.ndarray) -> tuple[float, np.ndarray]:
    values = np.array([row[key] for row in rows], float)
    return values.mean(), values[picks].mean(1)


def _ratio(rows: Sequence[Row], part: str, whole: str) -> float:
    return round(sum(row[part] for row in rows) / max(1, sum(row[whole] for row in rows)), 4)


def _interval(mean: float, samples: np.ndarray) -> list[float]:
    low, high = np.quantile(samples, [0.025, 0.975])
    return [round(float(value), 4) for value in (mean, low, high)]
