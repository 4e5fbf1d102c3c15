"""Trainings of seconds, alone and in two processes, for the tests of many devices."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import torch

from mutual_forcing.checkpoint import System
from mutual_forcing.config import SystemConfig, preset
from mutual_forcing.models.joint_model import JointModel
from mutual_forcing.types import TimedPhoneme, TimedWord, Transcript
from training.data.latents import LatentBatch, join_batches
from training.distributed import Strategy, joined
from training.objectives.base import VALIDATION_CLIPS
from training.stages import Workspace
from training.trainer import Trainer

CPU = torch.device("cpu")
ALONE = Strategy(CPU, bfloat16=False)
"""What others are compared with, in fp32: bf16 would round parts of a batch in other ways than the whole."""
RANKS = 2
WORDS = ("says", "you", "men", "goes", "line")


class NoiseClips:
    """A corpus of noise that a model reads, of rows that differ in text, references and beginning."""

    class corpus:  # noqa: N801 - stands for one
        @staticmethod
        def split(name: str) -> list:
            return []

    def __init__(self, model: JointModel) -> None:
        self.model, self.config = model, model.config

    def memory(self) -> torch.Tensor:
        grid = self.config.video.grid
        return torch.linspace(1, 0, grid.frames)[:, None].expand(-1, self.config.video.token_dim)

    def batch(self, rng, split: str, size: int, chunks: int, dropout) -> LatentBatch:
        noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
        rows = 1 if size == VALIDATION_CLIPS else size  # a held-out figure of one clip will do
        return join_batches([self._row(row, chunks, noise) for row in range(rows)])

    def _row(self, row: int, chunks: int, noise: torch.Generator) -> LatentBatch:
        video, audio = self.config.video, self.config.audio

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(1, *shape, generator=noise)

        words = tuple(
            TimedWord(WORDS[(row + i) % len(WORDS)], 0.3 * i, 0.3 * i + 0.3)
            for i in range(2 * chunks)
        )
        said = tuple(TimedPhoneme(w.word[1], w.start, w.end) for w in words)
        return LatentBatch(
            normal(chunks, video.grid.tokens, video.token_dim),
            normal(chunks, audio.grid.tokens, audio.token_dim),
            self.model.tokens(Transcript(said, words), "happy man", 0, chunks),
            normal(video.grid.frame_tokens, video.token_dim),
            normal(self.config.voice_latents, audio.token_dim),
            *(torch.tensor([row != other]) for other in (1, 2, 3)),
        )


@dataclass(frozen=True)
class Sources:
    """What objectives are built from: random weights and noise."""

    system_config: SystemConfig = field(default_factory=lambda: preset("smoke"))

    def system(self, model_stage: str | None = None) -> System:
        torch.manual_seed(0)
        system = System.build(self.system_config)
        for parameter in system.model.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
        return system

    def latents(self, system: System, branches: tuple[str, ...]) -> NoiseClips:
        return NoiseClips(system.model)


def trainer(
    method: str,
    folder: Path,
    strategy: Strategy = ALONE,
    steps: int = 4,
    batch: int = 5,
    sources: Sources | None = None,
    **changes: Any,
) -> Trainer:
    """A stage of the smoke scale on noise, which writes no films to look at."""
    plan = Workspace(folder, "smoke", CPU).plan(method, steps)
    plan = replace(plan, batch=batch, save_every=100, **changes)
    objective = plan.objective.build(sources or Sources(), plan)
    objective.streams = False
    made = Trainer(plan, objective, folder, CPU, strategy)
    for optimizers in made.optimizers.values():
        for group in optimizers.parts["adamw"].param_groups:
            # Otherwise a weight whose gradient is nothing but rounding moves as far as any other.
            group["eps"] = 1e-5
    return made


def in_two_processes(job: Callable[..., None], *args: Any) -> None:
    """Call job(strategy, *args) in each of two processes, as torchrun starts them."""
    with closing(socket.socket()) as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    start_processes(_joined, port, job, args)


def start_processes(job: Callable[..., None], *args: Any) -> None:
    """Call job(rank, *args) in each of RANKS processes. What one raises is raised here.

    They are forks of one server that has read the modules, which would take each of them five seconds.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # of the server, which begins once
        multiprocessing.set_forkserver_preload([__name__])
        forkserver.ensure_running()
    torch.multiprocessing.start_processes(job, args, RANKS, start_method="forkserver")


def _joined(rank: int, port: int, job: Callable[..., None], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    with joined(CPU) as strategy:
        job(replace(strategy, bfloat16=False), *args)
