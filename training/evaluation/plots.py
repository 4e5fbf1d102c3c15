"""Plots of what was measured. matplotlib is imported only here, and only when a plot is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
_QUALITY = {"wer": "word error rate", "mouth": "mouth correlation", "sync": "sync pair"}
_DRIFT = {
    "similarity": "similarity of the face",
    "colour": "colour (mean)",
    "sharpness": "sharpness",
    "motion": "motion",
    "mouth": "mouth correlation",
    "wer": "word error rate",
    "video_shift": "video latents, shift",
    "video_spread": "video latents, spread",
    "audio_spread": "audio latents, spread",
}
_COLOURS = {"few": "#2f6fb0", "multi": "#c46b1f"}


def quality(figures: dict[str, Row], path: Path) -> None:
    """WER, mouth correlation and sync over the network evaluations of a chunk."""
    figure, axes = _panels(len(_QUALITY))
    for axis, (name, label) in zip(axes, _QUALITY.items(), strict=True):
        for mode, colour in _COLOURS.items():
            rows = [r for key, r in figures.items() if key.startswith(f"{mode} ") and _plain(key)]
            rows.sort(key=lambda r: r["nfe_per_chunk"])
            if rows:
                _line(axis, rows, name, f"{mode.capitalize()} mode", colour)
        for key, dashes in (("ground truth", ":"), ("autoencoders", "--")):
            if key in figures:
                axis.axhline(figures[key][name][0], color="0.4", ls=dashes, label=key)
        axis.set(xscale="log", xlabel="network evaluations a chunk", title=label)
    axes[0].legend(fontsize="small")
    _save(figure, path)


def drift(streams: dict[str, dict[str, Row]], path: Path) -> None:
    """How a long stream changes: one line per mode over the stretches of time."""
    figure, axes = _panels(len(_DRIFT))
    for axis, (name, label) in zip(axes, _DRIFT.items(), strict=True):
        for mode, parts in streams.items():
            plain = {part: row for part, row in parts.items() if part[0].isdigit()}
            middles = [sum(map(float, part.split(" ")[0].split("-"))) / 2 for part in plain]
            values = [row[name] for row in plain.values()]
            if None not in values:
                style = {"color": "0.4", "ls": ":"} if mode == "ground truth" else {}
                axis.plot(middles, values, marker="o", label=mode, **style)
        axis.set(xlabel="seconds of the stream", title=label)
    axes[-1].legend(fontsize="small")
    _save(figure, path)


def chunk_time(spent: dict[str, Row], path: Path) -> None:
    """Median and 95th percentile of chunk time over the chunk's duration; above 1 a stream stalls."""
    figure, (axis,) = _panels(1)
    places = range(len(spent))
    axis.barh(places, [r["load_95"] for r in spent.values()], color="0.8", label="95th percentile")
    axis.barh(places, [r["load_median"] for r in spent.values()], height=0.5, label="median")
    axis.axvline(1, color="k", lw=1)
    axis.set(yticks=list(places), yticklabels=list(spent), xlabel="chunk time over chunk duration")
    axis.invert_yaxis()
    axis.legend(fontsize="small")
    _save(figure, path)


def _plain(name: str) -> bool:
    return not name.endswith(" before")


def _line(axis: Axes, rows: list[Row], name: str, label: str, colour: str) -> None:
    steps, (middle, low, high) = (
        [r["nfe_per_chunk"] for r in rows],
        zip(*(r[name] for r in rows), strict=True),
    )
    axis.plot(steps, middle, marker="o", color=colour, label=label)
    axis.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    columns = min(3, count)
    rows = -(-count // columns)
    width = 4 * columns if count > 1 else 7
    figure = Figure((width, 3.2 * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
