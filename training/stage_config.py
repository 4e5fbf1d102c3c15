"""What a training stage is: frozen recipes, built by the functions in recipes.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class OptimizerConfig:
    """Linear warm-up, then cosine decay from `lr` to `final_lr` (docs/method.md, Optimiser).

    Hidden matrices are updated by Muon with `muon` times the learning rate, everything else by AdamW;
    at 0 AdamW does it all.
    """

    lr: float = 8e-4
    final_lr: float = 1e-4
    warmup: int = 200
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.02
    clip: float = 0.5
    muon: float = 4.0


@dataclass(frozen=True)
class Recipe:
    """One stage. `objective` names a class in objectives/, `options` are its arguments.

    `init` lists earlier stages whose exported modules this stage starts from or uses frozen. Stages of one
    `stream` of random numbers see the same clips, others never do.
    """

    name: str
    objective: str
    steps: int
    batch: int
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema: float = 0.999
    seed: int = 0
    save_every: int = 200
    sample_every: int = 500
    init: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    stream: str = ""
