"""What a training stage is: a frozen, nested recipe that names everything that decides its weights.

recipes.py builds recipes. The configuration of an objective stands beside it in objectives/ and builds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Generator, Tensor, nn

if TYPE_CHECKING:
    from mutual_forcing.checkpoint import System
    from mutual_forcing.config import SystemConfig

    from .data.dataset import Corpus
    from .data.latents import LatentDataset
    from .data.portraits import Portraits

Turns = Iterator[tuple[str, dict[str, Tensor]]]
"""What a step yields: a network's name and its losses, of which "loss" is minimised before the next turn."""


@dataclass(frozen=True)
class Share:
    """A part of the rows of every batch: every `of`-th from number `index` on, so that the first rows, which
    some losses are made of, are spread over all parts.
    """

    index: int = 0
    of: int = 1

    @property
    def rows(self) -> slice:
        """Where they are in a batch."""
        return slice(self.index, None, self.of)


WHOLE = Share()


class Objective(Protocol):
    """What a stage optimises. `networks` are trained within a step; the first one is exported.

    splits: whether `step` takes a Share of the batch as its last argument (WHOLE by default) and yields what
    those rows add to the losses of the whole batch. Objectives without it are trained by one process.
    """

    networks: dict[str, nn.Module]
    splits: bool

    def batch(self, step: int) -> Any:
        """Return the batch of `step`; a pure function of the step, so that resuming is exact."""
        ...

    def step(self, batch: Any, ema: nn.Module, generator: Generator, step: int) -> Turns:
        """Yield the losses of one network after the other. The trainer updates each before it asks for the
        next. All random numbers come from `generator`.
        """
        ...

    def write_samples(self, ema: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Write pictures or sounds to look at, and return validation figures."""
        ...

    def finish(self, ema: nn.Module) -> None:
        """Last touches to the exported module, such as latent statistics."""
        ...


class Sources(Protocol):
    """What objectives are built from: the run's data, and networks with the weights of finished stages."""

    system_config: SystemConfig

    def corpus(self) -> Corpus:
        """The corpus."""
        ...

    def portraits(self) -> Portraits:
        """Pictures for the motion codec."""
        ...

    def latents(self, system: System, branches: tuple[str, ...]) -> LatentDataset:
        """The encoded corpus."""
        ...

    def system(self, model_stage: str | None = None) -> System:
        """Networks with the weights of every finished stage, the transformer's of `model_stage`."""
        ...


class ObjectiveConfig(Protocol):
    """A frozen dataclass of numbers, strings, tuples and dataclasses of them."""

    kind: ClassVar[str]
    """What records call it."""

    def build(self, sources: Sources, recipe: Recipe) -> Objective:
        """The objective, with the recipe's batch size and seed."""
        ...


@dataclass(frozen=True)
class OptimizerConfig:
    """Linear warm-up, then cosine decay from `lr` to `final_lr` (docs/method.md, Optimiser).

    Hidden matrices are updated by Muon with `muon` times the learning rate, everything else by AdamW;
    at 0 AdamW does it all. Networks of a stage besides the exported one learn at `others` times these rates.
    """

    lr: float = 8e-4
    final_lr: float = 1e-4
    warmup: int = 200
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.02
    clip: float = 0.5
    muon: float = 4.0
    others: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """One stage.

    `init` lists earlier stages whose exported modules this stage starts from or uses frozen. Stages of one
    `stream` of random numbers see the same clips, others never do.
    """

    name: str
    objective: ObjectiveConfig
    steps: int
    batch: int
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: float = 0.999
    seed: int = 0
    save_every: int = 200
    sample_every: int = 500
    init: tuple[str, ...] = ()
    stream: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As records keep it: everything above, JSON-friendly, the objective with its `kind`."""
        objective = {"kind": self.objective.kind, **asdict(self.objective)}  # type: ignore[call-overload]
        return {**asdict(self), "objective": objective}  # type: ignore[call-overload]
