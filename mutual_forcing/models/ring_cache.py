"""The past of one stream where nothing of it is moved, joined or rotated again.

Keys are rotated by the stream's own clock when they are made: only differences of angles count in attention,
and angles are computed in float64, so the clock may run for as long as it likes. Every layer has one buffer
of window + 1 slots. A chunk writes its keys and values into the slot of the oldest chunk, which it no longer
sees, over and over while it is denoised, and once more when it is clean. Attention does not ask for an order,
so what a chunk sees is always the first slots of the buffer: a slice.
"""

from __future__ import annotations

from torch import Tensor

from ..types import AVLatents
from .kv_cache import ChunkKeys, LayerKeyValues, bytes_of, rows_of


class RingCache:
    """The last `window` clean chunks of one stream, owned by its session, and the slot of the next."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.first = 0
        """Chunks appended so far: the number of the next one."""
        self._layers: list[LayerKeyValues] = []

    @property
    def length(self) -> int:
        """Chunks that the next chunk sees."""
        return min(self.first, self.window)

    @property
    def nbytes(self) -> int:
        """Memory of its buffers."""
        return bytes_of(self._layers)

    @property
    def layers(self) -> list[LayerKeyValues]:
        """Every layer's buffers: keys and values [B, window + 1, N, H, D] by branch."""
        return self._layers

    def write(self, layer: int, own: LayerKeyValues) -> LayerKeyValues:
        """Put this pass's rotated keys and values [B, 1, N, H, D] into the chunk's slot; return the slot.

        Raises ValueError where they carry a gradient, and for a branch that a stream began without.
        """
        if any(x.requires_grad for pair in own.values() for x in pair):
            raise ValueError(
                "A stream keeps no gradient: use torch.no_grad() or a ParallelHistory."
            )
        while len(self._layers) <= layer:
            self._layers.append({})
        buffers = self._layers[layer]
        for name, pair in own.items():
            if name not in buffers:
                if self.first:
                    raise ValueError(f"This stream began without {name} and must go on without it.")
                buffers[name] = self._buffer(pair[0]), self._buffer(pair[1])
            for slot, new in zip(self._slot(layer, name), pair, strict=True):
                slot.copy_(new)
        return {name: self._slot(layer, name) for name in own}

    def slices(self, layer: int, own: LayerKeyValues) -> list[ChunkKeys]:
        """What the chunk sees of the branches in `own`, itself included."""
        count = self.length + 1
        buffers = self._layers[layer]
        return [{name: [_first(buffers[name], count)] for name in own}]

    def append(self, chunk: list[LayerKeyValues], latents: AVLatents) -> None:
        """Add one clean chunk and what `prefill` made of it. Where that was made on this cache it lies in its
        slot already.
        """
        for layer, own in enumerate(chunk):
            for name, pair in own.items():
                for slot, new in zip(self._slot(layer, name), pair, strict=True):
                    if slot.data_ptr() != new.data_ptr():
                        slot.copy_(new)
        self.first += 1

    def set_rows(self, rows: int) -> None:
        """Go on with `rows` rows, all of them the first one."""
        self._layers = [
            {
                name: (rows_of(k, rows).clone(), rows_of(v, rows).clone())
                for name, (k, v) in layer.items()
            }
            for layer in self._layers
        ]

    def _buffer(self, like: Tensor) -> Tensor:
        rows, _, *shape = like.shape
        return like.new_empty(rows, self.window + 1, *shape)

    def _slot(self, layer: int, name: str) -> tuple[Tensor, Tensor]:
        slot = self.first % (self.window + 1)
        key, value = self._layers[layer][name]
        return key[:, slot : slot + 1], value[:, slot : slot + 1]


def _first(pair: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    key, value = pair
    return key[:, :count].flatten(1, 2), value[:, :count].flatten(1, 2)
