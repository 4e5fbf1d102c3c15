"""Markdown tables of a comparison of methods (training.compare)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mutual_forcing.metrics import report

from .judge import ENDS

Rows = dict[str, dict[str, Any]]
"""Cost, systems and streams by label: a method, and its seed where there are several."""
Clips = dict[tuple[str, str], dict[int, list[report.Row]]]
"""The rows of clips by (method, system), and by the seed of training."""


def table(rows: Rows) -> str:
    """Markdown: truth and ceilings, then one row per method and sampling with its cost of training."""
    flat: dict[str, Any] = {k: v for row in rows.values() for k, v in ceilings(row).items()}
    for name, row in rows.items():
        for sampling, figures in (modes(row) or {"does not stream": {}}).items():
            flat[f"{name}, {sampling}"] = {**figures, **(row["cost"] or {})}

    def interval(key: str) -> Callable[[dict[str, Any]], str]:
        return lambda r: report.written(r[key]) if key in r else ""

    def number(key: str) -> Callable[[dict[str, Any]], str]:
        return lambda r: f"{r[key]:.2f}" if key in r else ""

    columns = {
        "s a step": number("seconds_per_step"),
        "peak GB": number("peak_memory_gb"),
        "WER": interval("wer"),
        "WER, closed": interval("wer_closed"),
        "mouth correlation": interval("mouth"),
        "sync pair": interval("sync"),
        "similarity, face": number("similarity"),
        "motion": number("motion"),
        "border over inner motion": number("jump"),
    }
    return report.markdown(flat, columns, "method, sampling")


def modes(row: dict[str, Any]) -> dict[str, Any]:
    """What the method generated, without the truth and the ceilings."""
    return {k: v for k, v in row["systems"].items() if k.startswith(("few", "multi"))}


def ceilings(row: dict[str, Any]) -> dict[str, Any]:
    """The truth and what no transformer has a part in, from the evaluation that has them all."""
    found = {k: v for k, v in row["systems"].items() if k not in modes(row)}
    return found if "autoencoders" in found else {}


def spread(rows: Rows) -> str:
    """Markdown: mean, lowest and highest of each method over the seeds of training."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for label, row in rows.items():
        for sampling, figures in modes(row).items():
            for key in ("wer", "mouth", "sync"):
                found[f"{label.split(', seed ')[0]}, {sampling}"][key].append(figures[key][0])
    several = {name: f for name, f in found.items() if len(f["wer"]) > 1}
    names = {"wer": "WER", "mouth": "mouth correlation", "sync": "sync pair"}

    def cell(key: str) -> Callable[[dict[str, list[float]]], str]:
        return lambda f: report.written((float(np.mean(f[key])), min(f[key]), max(f[key])))

    columns = {"seeds": lambda f: str(len(f["wer"]))} | {names[k]: cell(k) for k in names}
    title = "\nOver seeds of training, mean (lowest to highest):\n"
    return title + report.markdown(several, columns, "method, sampling", "\n")


def differences(clips: Clips, method: str, multi: Sequence[str] = ()) -> dict[str, report.Figures]:
    """`method` minus every other one, paired by clip and by seed of training.

    Those of `multi` know Multi mode alone: their "multi 4" stands beside the method's "few 4".

    The seeds of a clip are taken together, because they are not independent: intervals are over clips. What
    no training has a part in is the same for every seed: rows under the seed -1.
    """
    found = {}
    for (name, system), seeds in clips.items():
        own = system.replace("multi", "few") if name in multi else system
        mine = clips.get((method, own)) or clips.get((method, system), {})
        if name == method or not mine:
            continue
        shared = {seed: seeds[s] for seed in mine if (s := seed if seed in seeds else -1) in seeds}
        if shared:
            ours, theirs = _pooled([mine[seed] for seed in shared]), _pooled(list(shared.values()))
            beside = system if own == system else f"{own} beside {system}"
            found[f"{method} minus {name}, {beside}"] = report.compare(ours, theirs)
    return found


def _pooled(runs: list[list[report.Row]]) -> list[report.Row]:
    """One row for each clip that all runs have: sums of what is counted, means of the rest."""
    by_clip = [{row["index"]: row for row in rows} for rows in runs]
    pooled = []
    for index in by_clip[0]:
        if not all(index in rows for rows in by_clip):
            continue
        same = [rows[index] for rows in by_clip]
        counts = {n: sum(row[n] for row in same) for n in ("errors", "closed_errors", "words")}
        means = {n: np.mean([row[n] for row in same]) for n in ("mouth", "sync", "similarity")}
        pooled.append({"index": index, **counts, **means})
    return pooled


def long_table(rows: Rows) -> str:
    """Markdown: beginning and end of every method's long stream, where it says the same; else nothing."""
    flat: dict[str, Any] = {}
    for label, row in rows.items():
        for mode, stretches in row["streams"].items():
            name = mode if mode == "ground truth" else f"{label}, {mode}"
            if all(part in stretches for part in ENDS):
                flat[name] = [stretches[part] for part in ENDS]
    if not flat:
        return ""

    def cell(key: str) -> Callable[[list[dict[str, Any]]], str]:
        return lambda both: " to ".join("" if r[key] is None else f"{r[key]:.2f}" for r in both)

    columns = {
        "mouth correlation": cell("mouth"),
        "WER": cell("wer"),
        "similarity, face": cell("similarity"),
        "sharpness": cell("sharpness"),
        "motion": cell("motion"),
        "loudness": cell("loudness"),
    }
    title = "\nLong streams, the first sentences to the same at the end:\n"
    return title + report.markdown(flat, columns, "method, sampling", "\n")
