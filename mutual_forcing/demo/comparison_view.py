"""Shows a comparison: the message to the player, the table and the plots."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

from .comparison import ComparisonRun, VariantMetrics
from .texts import say, serialised

_COLUMNS: tuple[tuple[str, Callable[[VariantMetrics], float | None], str], ...] = (
    ("figure.nfe", lambda r: r.nfe_per_chunk, "{:.0f}"),
    ("figure.first", lambda r: r.first_chunk, "{:.2f} s"),
    ("figure.rate", lambda r: r.real_time, "{:.2f}×"),
    ("figure.words", lambda r: None if r.word_errors is None else 100 * r.word_errors, "{:.0f} %"),
    ("figure.sync", lambda r: r.lip_sync, "{:.2f}"),
    ("figure.natural", lambda r: r.naturalness, "{:.2f}"),
    ("figure.pitch", lambda r: r.pitch_spread, "{:.1f}"),
    ("figure.head", lambda r: r.head_motion, "{:.1f} %"),
    ("figure.motion", lambda r: r.motion, "{:.2f}"),
    ("figure.colour", lambda r: r.colour_drift, "{:.1f}"),
    ("figure.loudness", lambda r: r.loudness_drift, "{:+.1f} dB"),
)
"""Key of the text, value and format of each column. The text with "-info" explains the column."""
_WIDTH, _HEIGHT = 320, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 22, 40


def player_message(run: ComparisonRun, status: str = "") -> str:
    """Return a complete message to the player (comparison.js)."""
    names = ("steps", "mode", "made", "total", "state", "path")
    variants = [{name: getattr(variant, name) for name in names} for variant in run.variants]
    message = {"id": run.id, "variants": variants, "ratio": round(run.ratio, 4)}
    return json.dumps({**message, "status": serialised(status)})


def table_html(rows: Sequence[VariantMetrics]) -> str:
    """Return the measurements as an HTML table without the columns that have no value."""
    if not rows:
        return ""
    columns = [c for c in _COLUMNS if any(c[1](row) is not None for row in rows)]
    head = "".join(
        f'<th scope="col" {say(f"{key}-info").attribute("title")}>{say(key).html()}</th>'
        for key, _, _ in columns
    )
    body = "".join(_table_row(row, columns) for row in rows)
    return (
        f'<div class="mf-scroll" tabindex="0" role="group" {say("figure.table").attribute("aria-label")}>'
        f'<table class="mf-table"><thead><tr><th scope="col">{say("ask.steps").html()}</th>{head}'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _table_row(row: VariantMetrics, columns: Sequence[tuple]) -> str:
    kind = row.mode.lower()
    steps = f'<th scope="row">{row.steps} <span class="mf-mode {kind}">{row.mode}</span></th>'
    values = [value(row) for _, value, _ in columns]
    cells = "".join(
        f"<td>{'–' if v is None else c[2].format(v)}</td>"
        for c, v in zip(columns, values, strict=True)
    )
    return f"<tr>{steps}{cells}</tr>"


def plots_html(rows: Sequence[VariantMetrics]) -> str:
    """Return small plots of cost and quality over the number of network evaluations as HTML."""
    if len(rows) < 2:
        return ""
    cost = [(row, 1 / max(row.real_time, 1e-6)) for row in rows]
    charts = [_chart("chart.cost", cost, "{:.2f} s", real_time=True)]
    heard = [(row, 100 * row.word_errors) for row in rows if row.word_errors is not None]
    joined = [(row, max(0.0, row.lip_sync)) for row in rows if row.lip_sync is not None]
    moved = [(row, row.motion) for row in rows if row.motion is not None]
    if len(heard) > 1:
        charts.append(_chart("chart.words", heard, "{:.0f} %"))
    if len(joined) > 1:
        charts.append(_chart("chart.sync", joined, "{:.2f}"))
    if len(charts) == 1 and len(moved) > 1:
        charts.append(_chart("chart.motion", moved, "{:.1f}"))
    return f'<div class="mf-charts">{"".join(charts)}</div>'


def _chart(
    key: str, points: Sequence[tuple[VariantMetrics, float]], number: str, real_time: bool = False
) -> str:
    evaluations = [row.nfe_per_chunk for row, _ in points]
    low, high = math.log2(min(evaluations)), math.log2(max(evaluations))
    top = _nice_ceiling(max([value for _, value in points] + [1.2 if real_time else 0.1]))

    def x(nfe: float) -> float:
        span = (math.log2(nfe) - low) / max(high - low, 1e-6)
        return _LEFT + 14 + span * (_WIDTH - _LEFT - _RIGHT - 28)

    def y(value: float) -> float:
        return _TOP + (1 - value / top) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_grid_line(y(top * i / 4), f"{top * i / 4:g}") for i in range(5)]
    if real_time:
        parts.append(_limit_line(y(1)))
    line = " ".join(f"{x(row.nfe_per_chunk):.1f},{y(value):.1f}" for row, value in points)
    parts.append(f'<polyline class="line" points="{line}"/>')
    parts += [
        _dot(x(row.nfe_per_chunk), y(value), row, number.format(value)) for row, value in points
    ]
    said = "; ".join(f"{row.steps}: {number.format(value)}" for row, value in points)
    spoken = say("chart.spoken", title=say(key), points=said).attribute("aria-label")
    return (
        f'<figure class="mf-chart"><figcaption>{say(key).html()}'
        f"<small>{say(f'{key}-info').html()}</small></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" {spoken}>'
        f'{"".join(parts)}<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" '
        f'text-anchor="middle">{say("chart.axis").html("tspan")}</text></svg></figure>'
    )


def _grid_line(y: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="axis" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _limit_line(y: float) -> str:
    return f'<line class="limit" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _dot(x: float, y: float, row: VariantMetrics, value: str) -> str:
    title = say("chart.dot", count=row.steps, nfe=row.nfe_per_chunk, value=value).html("title")
    return (
        f'<g class="{row.mode.lower()}">{title}'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        f'<text x="{x:.1f}" y="{y - 10:.1f}" text-anchor="middle">{row.steps}</text>'
        f'<text class="axis" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
        f"{row.nfe_per_chunk}</text></g>"
    )


def _nice_ceiling(value: float) -> float:
    """Return a round number that is at least 10 % larger than `value`."""
    power = 10 ** math.floor(math.log10(value))
    return next((power * s for s in (1, 2, 4, 6, 8) if power * s >= value * 1.1), power * 12)
