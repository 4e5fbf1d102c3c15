"""Several streams advanced together: one pass of the network for all of them, each at its own chunk, step and
noise level.

Rows of the pass are its chunks (B = 1, K rows): every chunk has its own text, noise level, reference and
past anyway, so that streams of unequal length need nothing of the network that a clip in training does not.
A guided stream has two rows. Decoders, which have their streams' state, still run one stream after the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from .flow import euler_step, guide, sigma_schedule
from .models.branch import EmbeddedContext
from .models.joint_model import Conditions, EncodedReferences
from .models.kv_cache import KVCache, StackedCaches
from .models.text_encoder import EncodedText
from .sampling import Sampler
from .streaming import BegunChunk, StreamingGenerator, StreamState
from .types import AVChunk, AVLatents, GenerationRequest


@dataclass(eq=False)
class _Denoising:
    """A stream's chunk in progress."""

    state: StreamState
    begun: BegunChunk
    sampler: Sampler
    x: dict[str, Tensor]
    levels: list[float]
    step: int = 0
    began: float = field(default_factory=time.perf_counter)

    @property
    def rows(self) -> int:
        """How many of a pass it takes."""
        return 2 if self.sampler.guided else 1

    @property
    def past(self) -> KVCache:
        """The stream's, see `StreamBatch.add`."""
        assert isinstance(self.state.cache, KVCache)
        return self.state.cache

    @property
    def latents(self) -> AVLatents:
        """Its tokens as they are now, [1, 1, N, D]."""
        return AVLatents.of({**self.begun.fixed, **self.x})

    @property
    def done(self) -> bool:
        """Whether it is clean."""
        return self.step == self.sampler.steps


@dataclass(frozen=True)
class _Stacked:
    """What the rows of a pass are conditioned on and what they may see, [1, K, ...]."""

    conditions: Conditions
    history: StackedCaches


class StreamBatch:
    """Streams that share the passes of one generator. They may join and leave at any time; `steer`, `extend`
    and `rest` may change one between its chunks, right after `advance` has returned one.
    """

    def __init__(self, generator: StreamingGenerator) -> None:
        """Begin without streams."""
        self.generator = generator
        self._chunks: dict[int, _Denoising | None] = {}
        self._states: dict[int, StreamState] = {}
        self._stacked: tuple[tuple[_Denoising, ...], _Stacked] | None = None

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, state: StreamState) -> bool:
        return id(state) in self._states

    @staticmethod
    def takes(state: StreamState) -> bool:
        """Whether a stream can share passes: its model keeps its past as an AVTransformer does."""
        return isinstance(state.cache, KVCache)

    def add(self, state: StreamState) -> None:
        """Take part from the next pass on; a stream that has come to its end leaves by itself.

        Raises ValueError for one of a model that keeps its past otherwise than an AVTransformer.
        """
        if not self.takes(state):
            raise ValueError(
                f"Streams of a {type(self.generator.system.model).__name__} cannot share a pass yet: go on "
                "with each by itself."
            )
        state.halves = False  # what shares passes has its chunks whole
        self._states[id(state)], self._chunks[id(state)] = state, None

    def remove(self, state: StreamState) -> None:
        """Leave; the chunk in progress is given up, and the stream may be gone on with elsewhere."""
        self._states.pop(id(state), None)
        self._chunks.pop(id(state), None)

    @torch.inference_mode()
    def advance(self) -> list[tuple[StreamState, AVChunk]]:
        """Take one denoising step of every stream, and return the chunks that are finished by it.

        A stream that was abandoned leaves.
        """
        made = []
        for key, state in list(self._states.items()):
            if state.abandoned and state.abandoned():
                self.remove(state)
            elif state.index >= state.total:
                made += [(state, ready) for ready in self.generator.ready(state)]
                self.remove(state)
            elif self._chunks[key] is None:
                self._chunks[key] = self._begin(state)
        active = [chunk for chunk in self._chunks.values() if chunk is not None]
        if not active:
            return made
        self._denoise(active)
        finished = [chunk for chunk in active if chunk.done]
        if not finished:
            return made
        self._write_caches(finished)
        for chunk in finished:
            self.generator.decode_chunk(chunk.state, chunk.latents, chunk.began)
            made += [(chunk.state, ready) for ready in self.generator.ready(chunk.state)]
            self._chunks[id(chunk.state)] = None
        return made

    def _begin(self, state: StreamState) -> _Denoising:
        begun, sampler = self.generator.begin_chunk(state), state.sampler
        levels = sigma_schedule(sampler.steps, self.generator.system.model.config.sigma_shift)
        return _Denoising(state, begun, sampler, dict(begun.noise), levels)

    def _denoise(self, chunks: Sequence[_Denoising]) -> None:
        """One step of each: sampling.predict_velocity with a noise level for every row."""
        sigma = [chunk.levels[chunk.step] for chunk in chunks]
        delta = [chunk.levels[chunk.step] - chunk.levels[chunk.step + 1] for chunk in chunks]
        intervals = [
            width if chunk.sampler.mode == "few" else 0.0
            for chunk, width in zip(chunks, delta, strict=True)
        ]
        stacked, latents = self._stack(chunks), _rows_of(chunks)
        velocity = self.generator.system.model(
            latents,
            _levels(chunks, latents, sigma),
            _levels(chunks, latents, intervals),
            stacked.conditions,
            stacked.history,
        )
        row = 0
        for chunk, width in zip(chunks, delta, strict=True):
            own = velocity.map(lambda v, a=row, b=row + chunk.rows: v[:, a:b].float()).modalities
            for name, x in chunk.x.items():
                mean = own[name][:, :1]
                if chunk.sampler.guided:
                    mean = guide(mean, own[name][:, 1:], chunk.sampler.guidance_scale)
                chunk.x[name] = euler_step(x, mean, width)
            chunk.step += 1
            row += chunk.rows

    def _write_caches(self, chunks: Sequence[_Denoising]) -> None:
        """The clean pass over finished chunks: sampling.write_cache for all of them."""
        stacked, latents = self._stack(chunks), _rows_of(chunks)
        layers = self.generator.system.model.prefill(latents, stacked.conditions, stacked.history)
        self._stacked = None  # their pasts have changed
        row = 0
        for chunk in chunks:
            rows = slice(row, row + chunk.rows)
            own = [
                {n: (_apart(k, rows), _apart(v, rows)) for n, (k, v) in x.items()} for x in layers
            ]
            clean = latents.map(lambda x, rows=rows: _apart(x, rows))
            chunk.state.cache.append(own, clean)
            row += chunk.rows

    def _stack(self, chunks: Sequence[_Denoising]) -> _Stacked:
        """Conditions and pasts of these chunks; the same as long as they are the same chunks."""
        if self._stacked is None or self._stacked[0] != tuple(chunks):
            conditions = [chunk.begun.conditions for chunk in chunks]
            caches = [(chunk.past, row) for chunk in chunks for row in range(chunk.rows)]
            stacked = _Stacked(_side_by_side(conditions), StackedCaches(caches))
            self._stacked = tuple(chunks), stacked
        return self._stacked[1]


def _rows_of(chunks: Sequence[_Denoising]) -> AVLatents:
    """The latents of all chunks as the rows of a pass, [1, K, N, D]."""
    rows = [chunk.latents for chunk in chunks for _ in range(chunk.rows)]
    names = rows[0].modalities
    return AVLatents.of({n: torch.cat([row.modalities[n] for row in rows], 1) for n in names})


def _levels(
    chunks: Sequence[_Denoising], latents: AVLatents, values: Sequence[float]
) -> dict[str, Tensor]:
    """A noise level or interval for every row, [1, K]; 0 where a branch is given."""
    return {
        name: tokens.new_tensor(
            [
                [
                    value if name in chunk.x else 0.0
                    for chunk, value in zip(chunks, values, strict=True)
                    for _ in range(chunk.rows)
                ]
            ]
        )
        for name, tokens in latents.modalities.items()
    }


def _apart(x: Tensor, rows: slice) -> Tensor:
    """One stream's rows [1, K, ...] as its cache has them, [rows, 1, ...]."""
    return x[:, rows].transpose(0, 1)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """Each stream's [rows, 1, ...] as rows of a pass, [1, K, ...]."""
    return torch.cat([x.transpose(0, 1) for x in tensors], 1)


def _side_by_side(conditions: Sequence[Conditions]) -> Conditions:
    """What each stream's chunk is conditioned on, one after the other."""
    texts = [condition.text for condition in conditions]
    names = [entry.name for entry in fields(EncodedText)]
    text = EncodedText(*(_joined([getattr(x, name) for x in texts]) for name in names))
    references = [condition.references for condition in conditions]
    layers = [
        {
            branch: (_joined([x[branch][0] for x in each]), _joined([x[branch][1] for x in each]))
            for branch in each[0]
        }
        for each in zip(*(reference.layers for reference in references), strict=True)
    ]
    pictures = [r.picture for r in references if r.picture is not None]
    picture = None
    if pictures:
        hidden, trend = [p.hidden for p in pictures], [p.trend for p in pictures]
        picture = EmbeddedContext(_joined(hidden), _joined(trend))
    return Conditions(text, EncodedReferences(layers, picture))


def stream_together(
    generator: StreamingGenerator, requests: Sequence[GenerationRequest]
) -> Iterator[tuple[int, AVChunk]]:
    """Yield the chunks of several requests as they are made, each with the number of its request.

    Raises ValueError as `StreamingGenerator.start` does.
    """
    batch = StreamBatch(generator)
    states = [generator.start(request) for request in requests]
    numbers = {id(state): number for number, state in enumerate(states)}
    for state in states:
        batch.add(state)
    while len(batch):
        for state, chunk in batch.advance():
            yield numbers[id(state)], chunk
