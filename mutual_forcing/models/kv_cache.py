"""Where a chunk's past comes from: a parallel pass over a whole clip, or a streaming cache.

AVTransformer keeps keys unrotated and rotates them relative to the chunk that reads them (`past`), so a
stream has no clock to overflow and references need no position of their own. WanAVTransformer keeps them
rotated and reads them where they lie (`slices`; ring_cache.py). Shapes: keys and values of one branch in one
layer are [B, K, N, H, D] (K chunks of N tokens, H heads of D).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..chunks import history_mask
from ..types import AVLatents

KeyValue = tuple[Tensor, Tensor]
LayerKeyValues = dict[str, KeyValue]
"""Branch name to keys and values."""
ChunkKeys = dict[str, list[KeyValue]]
"""What one chunk sees: branch name to sets of keys and values [B, M, H, D]."""


@dataclass(frozen=True)
class Past:
    """What the chunks of one pass may see: per branch keys and values [B, K, S, N, H, D].

    `offsets` says for each of the S slots how many chunks later than the reading chunk it lies (-1 is the
    chunk before). `valid` bool [K, S], on the CPU, says which of the slots exist; None = all.
    """

    branches: LayerKeyValues
    offsets: tuple[int, ...]
    valid: Tensor | None


@dataclass(frozen=True)
class PreviousChunks:
    """The video tokens of the chunk before each chunk of a pass: [B, K, N, D].

    `present` bool [K] says which chunks have one; the others are zero.
    """

    tokens: Tensor
    present: Tensor


class ParallelHistory:
    """The past within one parallel pass: of the pass itself, or of an earlier clean pass.

    `both_ways` shows the chunks after it as well: the bidirectional teacher of Self-Forcing, which
    cannot stream.
    """

    first = 0
    """Number of the pass's first chunk: a clip's clock begins with the clip."""

    def __init__(
        self,
        window: int,
        clean: list[LayerKeyValues] | None = None,
        latents: AVLatents | None = None,
        both_ways: bool = False,
    ) -> None:
        assert (clean is None) == (latents is None), "an earlier pass left both or neither"
        self.window, self.clean, self.latents = window, clean, latents
        past, future = tuple(range(-window, 0)), tuple(range(1, window + 1))
        self.offsets = past + future if both_ways else past

    def past(self, layer: int, own: LayerKeyValues) -> Past | None:
        """Slots k - window .. k - 1 of every chunk k, and their mirror image when `both_ways`."""
        source = own if self.clean is None else self.clean[layer]
        branches = {name: (self._unfold(k), self._unfold(v)) for name, (k, v) in source.items()}
        chunks = next(iter(source.values()))[0].shape[1]
        return Past(branches, self.offsets, history_mask(chunks, self.offsets))

    def previous(self, own: AVLatents | None) -> PreviousChunks | None:
        """See PreviousChunks; own: this pass's latents where they are clean. None without video, and where
        the past is only known noisy: its differences would drown all else.
        """
        known = self.latents or own
        if known is None or known.video is None:
            return None
        video = known.video
        shifted = F.pad(video[:, :-1], (0, 0, 0, 0, 1, 0))
        return PreviousChunks(shifted, torch.arange(video.shape[1], device=video.device) > 0)

    def slices(self, layer: int, own: LayerKeyValues) -> list[ChunkKeys]:
        """What every chunk sees, itself included, as slices of what there is."""
        chunks = next(iter(own.values()))[0].shape[1]
        after = max(0, *self.offsets)
        seen = []
        for k in range(chunks):
            low, high = max(0, k - self.window), min(chunks, k + after + 1)
            if self.clean is None:
                parts = [(own, low, high)]
            else:
                clean = self.clean[layer]
                parts = [(clean, low, k), (own, k, k + 1), (clean, k + 1, high)]
            seen.append(
                {
                    name: [_cut(source[name], a, b) for source, a, b in parts if a < b]
                    for name in own
                }
            )
        return seen

    def _unfold(self, x: Tensor) -> Tensor:
        reach, chunks = self.window, x.shape[1]
        after = max(0, *self.offsets)
        padded = F.pad(x, (0, 0, 0, 0, 0, 0, reach, after))
        slots = [padded[:, reach + offset : reach + offset + chunks] for offset in self.offsets]
        return torch.stack(slots, 2)


@dataclass
class KVCache:
    """The last `window` clean chunks of one stream, owned by its session."""

    window: int
    layers: list[LayerKeyValues] = field(default_factory=list)
    last: Tensor | None = None
    """The last chunk's video tokens [B, 1, N, D]."""

    def past(self, layer: int, own: LayerKeyValues) -> Past | None:
        """Everything cached, oldest first; None while the stream is empty."""
        if not self.layers:
            return None
        return Past(
            {name: (k[:, None], v[:, None]) for name, (k, v) in self.layers[layer].items()},
            tuple(range(-self.length, 0)),
            None,
        )

    def previous(self, own: AVLatents | None) -> PreviousChunks | None:
        """See PreviousChunks; None without video or while the stream is empty."""
        if self.last is None:
            return None
        present = torch.ones(1, dtype=torch.bool, device=self.last.device)
        return PreviousChunks(self.last, present)

    def append(self, chunk: list[LayerKeyValues], latents: AVLatents) -> None:
        """Add one chunk and its keys and values [B, 1, N, H, D] per layer and branch; evict the oldest."""
        self.last = latents.video
        if not self.layers:
            self.layers = chunk
            return
        self.layers = [
            {name: self._join(old[name], new[name]) for name in old}
            for old, new in zip(self.layers, chunk, strict=True)
        ]

    def _join(self, old: KeyValue, new: KeyValue) -> KeyValue:
        key, value = (
            torch.cat([o, n], 1)[:, -self.window :] for o, n in zip(old, new, strict=True)
        )
        return key, value

    def set_rows(self, rows: int) -> None:
        """Go on with `rows` rows, all of them the first one."""
        self.layers = [
            {name: (rows_of(k, rows), rows_of(v, rows)) for name, (k, v) in layer.items()}
            for layer in self.layers
        ]
        self.last = None if self.last is None else rows_of(self.last, rows)

    @property
    def nbytes(self) -> int:
        """Memory of its keys and values."""
        return bytes_of(self.layers)

    @property
    def length(self) -> int:
        """Chunks in the cache."""
        return next(iter(self.layers[0].values()))[0].shape[1] if self.layers else 0


class StackedCaches:
    """The pasts of several streams side by side: row i of the pass is its chunk i (B = 1, K rows), whose past
    is one row of one stream's cache. Shorter ones are padded before their first chunk, with what is not seen.
    """

    def __init__(self, rows: Sequence[tuple[KVCache, int]]) -> None:
        """Copy the caches' rows, none of them empty; what is appended to a cache later is not seen."""
        assert rows and all(cache.length for cache, _ in rows), (
            "a stream begins with a static chunk"
        )
        lengths = [cache.length for cache, _ in rows]
        self.slots = max(lengths)
        self._layers = [
            {name: self._stacked(rows, layer, name) for name in branches}
            for layer, branches in enumerate(rows[0][0].layers)
        ]
        slot = torch.arange(-self.slots, 0)[None]
        valid = slot >= -torch.tensor(lengths)[:, None]
        self._valid = None if valid.all() else valid
        lasts = [cache.last[row] for cache, row in rows if cache.last is not None]
        self._last = torch.stack(lasts, 1) if lasts else None

    def past(self, layer: int, own: LayerKeyValues) -> Past | None:
        """Every row's cached chunks, the newest last."""
        return Past(self._layers[layer], tuple(range(-self.slots, 0)), self._valid)

    def previous(self, own: AVLatents | None) -> PreviousChunks | None:
        """See PreviousChunks; None without video."""
        if self._last is None:
            return None
        present = torch.ones(self._last.shape[1], dtype=torch.bool, device=self._last.device)
        return PreviousChunks(self._last, present)

    def _stacked(self, rows: Sequence[tuple[KVCache, int]], layer: int, name: str) -> KeyValue:
        """Keys and values [1, K, S, N, H, D] of one branch in one layer."""
        key, value = (
            torch.stack([self._padded(cache.layers[layer][name][part][row]) for cache, row in rows])
            for part in (0, 1)
        )
        return key[None], value[None]

    def _padded(self, chunks: Tensor) -> Tensor:
        return F.pad(chunks, (0, 0, 0, 0, 0, 0, self.slots - len(chunks), 0))


def bytes_of(layers: list[LayerKeyValues]) -> int:
    """Memory of keys and values."""
    pairs = (pair for layer in layers for pair in layer.values())
    return sum(x.nbytes for pair in pairs for x in pair)


def rows_of(x: Tensor, rows: int) -> Tensor:
    """The first row of x [B, ...], `rows` times."""
    return x[:1].expand(rows, *x.shape[1:])


def _cut(pair: KeyValue, first: int, end: int) -> KeyValue:
    """Chunks `first` .. `end - 1` of keys and values [B, K, N, H, D] as one row of tokens, without a copy."""
    key, value = (x[:, first:end].flatten(1, 2) for x in pair)
    return key, value
