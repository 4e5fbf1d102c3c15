"""Shows how the variants of a comparison go: pitch, mouth and head over time, and which words were heard."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from mutual_forcing.metrics.tracks import SECONDS

from .comparison import Variant
from .texts import say

_WIDTH, _HEIGHT = 900, 70
"""Of a track in units of its own; the page stretches it."""
_TRACKS = (
    ("pitch", "tracks.pitch", "{:.0f} Hz"),
    ("mouth", "tracks.mouth", "{:.0%}"),
    ("turn", "tracks.turn", "{:+.0%}"),
    ("nod", "tracks.nod", "{:+.0%}"),
)
"""Fields of metrics.tracks.Tracks, their names for readers, and how the ends of their axes are written."""
_SMALLEST = {"pitch": 20.0, "mouth": 0.05, "turn": 0.05, "nod": 0.05}
"""What an axis spans at least, so that noise does not look like a difference."""


def tracks_html(variants: Sequence[Variant]) -> str:
    """Return the tracks of finished variants, one line a variant, and their words as HTML."""
    shown = [variant for variant in variants if variant.tracks is not None]
    if not shown:
        return ""
    seconds = max(len(variant.tracks.pitch) for variant in shown if variant.tracks) * SECONDS
    lines = [_track(*track, shown, seconds) for track in _TRACKS]
    key = "".join(
        f'<span class="v{index}"><i></i>{say("variant.steps", count=variant.steps).html()}</span>'
        for index, variant in enumerate(shown)
    )
    return (
        f'<figure class="mf-tracks" data-seconds="{seconds:.2f}"><figcaption>{say("tracks.title").html()}'
        f"<small>{say('tracks.info').html()}</small></figcaption>"
        f'<p class="mf-key">{key}</p>{"".join(lines)}</figure>{_words(shown)}'
    )


def _track(name: str, key: str, axis: str, variants: Sequence[Variant], seconds: float) -> str:
    """One track as an SVG with its name; empty where no variant has a value, as in a film without a face."""
    values = [getattr(variant.tracks, name) for variant in variants]
    known = np.concatenate([v[~np.isnan(v)] for v in values])
    if not len(known):
        return ""
    low, high = float(known.min()), float(known.max())
    widen = max(0.0, _SMALLEST[name] - (high - low)) / 2
    low, high = low - widen, high + widen

    def path(track: np.ndarray) -> str:
        """Broken where there is no voice; a value between two breaks is a dot."""
        parts, drawing = [], False
        for index, value in enumerate(track):
            if not np.isnan(value):
                x, y = index * SECONDS / seconds, (high - value) / (high - low)
                place = f"{_WIDTH * x:.1f} {_HEIGHT * y:.1f}"
                parts.append(f"L{place}" if drawing else f"M{place}h0")
            drawing = not np.isnan(value)
        return "".join(parts)

    lines = "".join(f'<path class="v{i}" d="{path(v)}"/>' for i, v in enumerate(values))
    label = say(key)
    return (
        f'<div class="mf-track-of"><b>{label.html()}</b><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'preserveAspectRatio="none" {label.attribute("aria-label")}>{lines}</svg><i class="mf-now"></i>'
        f'<span class="mf-high">{axis.format(high)}</span><span>{axis.format(low)}</span></div>'
    )


def _words(variants: Sequence[Variant]) -> str:
    """The words of every variant, those that were not recognised marked."""
    rows = [
        f"<p><b>{variant.steps}</b> {' '.join(_word(*w) for w in variant.heard)}</p>"
        for variant in variants
        if variant.heard
    ]
    if not rows:
        return ""
    return (
        f'<figure class="mf-heard"><figcaption>{say("tracks.heard").html()}'
        f"<small>{say('tracks.heard-info').html()}</small></figcaption>"
        f"{''.join(rows)}</figure>"
    )


def _word(word: str, heard: bool) -> str:
    return escape(word) if heard else f"<s>{escape(word)}</s>"
