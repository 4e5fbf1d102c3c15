"""Comparing what two streams showed and said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mutual_forcing.types import AVChunk


def assert_same(ours: Sequence[AVChunk], theirs: Sequence[AVChunk], exactly: bool = True) -> None:
    """The same chunks, bit for bit, or as alike as sums in another order leave them.

    Such sums differ by about 1e-5; the phases of the sound's oscillators add it up, and at an edge that moves
    by so little a colour may round otherwise or be a few steps off. Another seed's film is 0.1 away on
    average and 100 at most (test_batching.py), and its sound 1.
    """
    assert [(c.index, c.total, c.nfe) for c in ours] == [(c.index, c.total, c.nfe) for c in theirs]
    for chunk, expected in zip(ours, theirs, strict=True):
        sound = np.abs(chunk.audio - expected.audio).max()
        picture = np.abs(chunk.frames.astype(int) - expected.frames)
        assert sound <= (0 if exactly else 5e-3)
        assert picture.max() <= (0 if exactly else 4) and picture.mean() < 1e-2
        assert (chunk.heard is None) == (expected.heard is None)
        if chunk.heard is not None:
            assert np.array_equal(chunk.heard, expected.heard)
