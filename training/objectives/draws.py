"""The random numbers of a step, drawn for its whole batch wherever a part of it is computed.

So they depend on seed and step alone, and the shares of several processes, or of several micro batches, add
up to the step that one process would take with the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..stage_config import WHOLE, Share


@dataclass(frozen=True)
class Draws:
    """Random numbers from `generator` for the `share` of a batch of `total` rows that is computed here.

    Where the share holds no row at all, the first row of what is there stands in, and counts nothing: every
    process then calls the networks as often as the others do, whose weights it holds a part of.
    """

    generator: torch.Generator
    total: int
    share: Share = WHOLE

    @property
    def count(self) -> int:
        """Rows of the batch that count here."""
        return len(range(self.total)[self.share.rows])

    def __len__(self) -> int:
        """Rows that are computed here."""
        return max(1, self.count)

    def head(self, total: int) -> Draws:
        """For at most the first `total` rows of the whole batch, which are the first of the rows here too."""
        return replace(self, total=min(total, self.total))

    def own(self, whole: Tensor) -> Tensor:
        """The rows [len(self), ...] of a tensor [total, ...] that are computed here."""
        return whole[self.share.rows] if self.count else whole[:1]

    def mean(self, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """What the rows here add to the mean of values over the whole batch: values [len(self), ...] of rows
        here, weights [total, ...] of all.
        """
        if weights is None:
            weights = values.new_ones(self.total, *values.shape[1:])
        weights = weights.to(values.dtype)
        part = (values * self.own(weights)).sum() / weights.sum().clamp_min(1)
        return part if self.count else 0 * part

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers [len(self), *shape]."""
        return self.own(torch.randn((self.total, *shape), **self._source))

    def uniform(self, *shape: int) -> Tensor:
        """Numbers [len(self), *shape] within 0..1."""
        return self.own(self.uniform_of_all(*shape))

    def uniform_of_all(self, *shape: int) -> Tensor:
        """Numbers [total, *shape] within 0..1, of every row of the batch."""
        return torch.rand((self.total, *shape), **self._source)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers [len(self), *shape] within low..high, both included."""
        return self.own(torch.randint(low, high + 1, (self.total, *shape), **self._source))

    def integer(self, low: int, high: int) -> int:
        """One integer for all rows, within low..high, both included."""
        return int(torch.randint(low, high + 1, (1,), **self._source))

    @property
    def device(self) -> torch.device:
        """Where the numbers are."""
        return self.generator.device

    @property
    def _source(self) -> dict[str, torch.Generator | torch.device]:
        return {"generator": self.generator, "device": self.device}
