"""How a stage uses its devices: one process of torchrun for each, with every network sharded over them
(FSDP2) and the rows of each batch shared out. And what saves memory on a single one: micro batches and
activation checkpointing.

The result is that of one process with the whole batch, up to rounding.
"""

from __future__ import annotations

import copy
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from mutual_forcing.models.block import JointBlock
from mutual_forcing.models.sequence_parallel import SequenceParallel
from mutual_forcing.models.transformer import AVTransformer
from mutual_forcing.models.wan_transformer import JointLayer, WanAVTransformer
from mutual_forcing.precision import computes_bfloat16

from .stage_config import Share

UNITS = (JointBlock, JointLayer)
"""Layers whose weights are gathered, and whose activations are computed again, together. A unit is met by
calling it: what holds its weights within has no forward of its own.
"""
ENTRIES = ("prefill", "encode_text", "encode_references")
"""What is called on a transformer besides `forward`."""


@dataclass(frozen=True)
class Strategy:
    """rank and ranks: which of how many processes this is. accumulate: micro batches of a step, one after the
    other. checkpoint_activations: keep no activations within a layer, but compute them again for the
    gradient. bfloat16: compute in it, with weights, gradients and their sums over processes in fp32; None for
    where it is fast. flex: attend to whole clips by flex_attention, where a network can. sequence: so many
    processes share the chunks of each clip (models/sequence_parallel.py) and have the same rows.
    """

    device: torch.device
    rank: int = 0
    ranks: int = 1
    accumulate: int = 1
    checkpoint_activations: bool = False
    bfloat16: bool | None = None
    flex: bool = False
    sequence: int = 1

    def __post_init__(self) -> None:
        if self.sequence < 1 or self.ranks % self.sequence:
            raise ValueError(
                f"{self.ranks} processes are no whole number of groups of {self.sequence}: choose another "
                "--sequence-parallel."
            )
        if self.flex and self.device.type != "cuda":
            raise ValueError("flex_attention learns on CUDA alone: leave --flex-attention out.")
        if self.accumulate < 1:
            raise ValueError("A step has at least one micro batch: accumulate 1 or more.")

    @property
    def leads(self) -> bool:
        """Whether this process writes logs, samples and records."""
        return self.rank == 0

    @property
    def shares(self) -> list[Share]:
        """The rows of each micro batch of this process."""
        groups = self.ranks // self.sequence
        parts = groups * self.accumulate
        return [Share(index, parts) for index in range(self.rank // self.sequence, parts, groups)]

    @property
    def computes_bfloat16(self) -> bool:
        """Whether networks compute in bf16."""
        return computes_bfloat16(self.device) if self.bfloat16 is None else self.bfloat16

    def autocast(self) -> torch.autocast:
        """The precision of a step."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.computes_bfloat16)

    def prepare(self, module: nn.Module, learns: bool = True) -> None:
        """Move a network to the device, or the own part of its weights; in place, before it has an optimiser.

        What does not learn is sampled from too, outside of autocast, and keeps fp32.
        """
        units = [part for part in module.modules() if isinstance(part, UNITS)]
        if self.checkpoint_activations and learns:
            for unit in units:
                again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
                unit.forward = partial(again, unit.forward)
        if isinstance(module, AVTransformer):
            module.flex = self.flex
        if self.sequence > 1:
            if not isinstance(module, WanAVTransformer) or module.config.heads % self.sequence:
                raise ValueError(
                    f"--sequence-parallel {self.sequence} is for transformers of Wan's shape whose heads it "
                    "divides."
                )
            module.sequence = sequence_group(self)
        module.to(self.device)
        if self.ranks == 1:
            return
        mixed = MixedPrecisionPolicy(
            torch.bfloat16 if learns and self.computes_bfloat16 else None,
            reduce_dtype=torch.float32,
            # Residual streams and what norms return may be fp32 in a pass of bf16 weights.
            cast_forward_inputs=False,
        )
        mesh = init_device_mesh(self.device.type, (self.ranks,))
        for part in (*units, module):
            # The outermost too: what is gathered of an average, which has no backward pass, would otherwise
            # stay as it was before the next update.
            fully_shard(part, mesh=mesh, mp_policy=mixed, reshard_after_forward=True)
        for name in ENTRIES:
            if hasattr(module, name):
                register_fsdp_forward_method(module, name)

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process. All have to ask."""
        return self.sum({"": float(flag)})[""] > 0

    def sum(self, values: dict[str, float]) -> dict[str, float]:
        """Sums over the processes, which all know the same names; those that share clips count once."""
        if self.ranks == 1:
            return values
        total = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(total)
        return dict(zip(values, (total / self.sequence).tolist(), strict=True))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.ranks > 1:
            dist.barrier()


@cache
def sequence_group(strategy: Strategy) -> SequenceParallel:
    """The processes that share clips with this one. All have to ask."""
    shape = strategy.ranks // strategy.sequence, strategy.sequence
    groups = init_device_mesh(strategy.device.type, shape, mesh_dim_names=("rows", "chunks"))
    rank = strategy.rank % strategy.sequence
    return SequenceParallel(groups.get_group("chunks"), rank, strategy.sequence)


@contextmanager
def joined(device: torch.device) -> Iterator[Strategy]:
    """The strategy of this process, alone or as torchrun started it: a device for each, NCCL between GPUs and
    Gloo between CPUs.
    """
    ranks, local = (int(os.environ.get(name, "0")) for name in ("WORLD_SIZE", "LOCAL_RANK"))
    if ranks < 2:
        yield Strategy(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # What processes agree on in between lies on the CPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    strategy = Strategy(device, dist.get_rank(), ranks)
    if not strategy.leads:
        logging.disable(logging.WARNING)
    # Keys and values are views, and nobody changes them in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
    yield strategy
    # Not after an error: other processes may be waiting for this one, and torchrun ends them.
    dist.destroy_process_group()
    # Caches of DTensor keep the group, and with it Gloo's threads. One that still lets go of its last tensor
    # needs the interpreter for that, and where this one is at its end, the process aborts.
    time.sleep(0.5)


def copied(module: nn.Module) -> nn.Module:
    """A copy that learns for itself. Of several processes each shares the weights until `Strategy.prepare`,
    which leaves it a part of its own: a large network is in memory once.
    """
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return copy.deepcopy(module)
    same: dict[int, Any] = {id(b): b for b in module.buffers()}
    for parameter in module.parameters():
        same[id(parameter)] = nn.Parameter(parameter.detach(), parameter.requires_grad)
    return copy.deepcopy(module, same)


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: all, where it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, in every process. All have to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def fill(tensor: Tensor, values: Tensor) -> None:
    """Copy the whole tensor's values into what this process holds of it."""
    if isinstance(tensor, DTensor):
        # Every process has them all and takes its part: nothing is sent.
        values = values.to(tensor.device, tensor.dtype)
        values = distribute_tensor(
            values, tensor.device_mesh, tensor.placements, src_data_rank=None
        ).to_local()
    own_part(tensor).copy_(values)
