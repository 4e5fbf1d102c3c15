"""Sharded over two processes (FSDP2) a model of Wan's shape has the gradients of one process."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from test_wan import WINDOW, random_latents, random_text, references_of, wan_config
from tiny_training import RANKS, start_processes
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from mutual_forcing.models.joint_model import Conditions
from mutual_forcing.models.kv_cache import ParallelHistory
from mutual_forcing.models.wan_text import WanText
from mutual_forcing.models.wan_transformer import WanAVTransformer
from mutual_forcing.types import References

ROWS = RANKS


def loss_of_row(model: WanAVTransformer, row: int) -> torch.Tensor:
    """References, the clean pass and the noisy one, of one row of the same random batch."""
    torch.manual_seed(5)
    clean, noisy = (random_latents(model.config, 3, ROWS) for _ in range(2))
    given, text, sigma = references_of(model), random_text(3, ROWS), torch.rand(ROWS, 3)
    part = slice(row, row + 1)
    clean, noisy = (x.map(lambda t: t[part]) for x in (clean, noisy))
    references = References(*(x[part] for x in vars(given).values()))
    words = WanText(*(x[part] for x in (text.states, text.start, text.end, text.timed)))
    conditions = Conditions(words, model.encode_references(references))
    stored = model.prefill(clean, conditions, ParallelHistory(WINDOW))
    level = dict.fromkeys(("video", "audio"), sigma[part])
    out = model(noisy, level, level, conditions, ParallelHistory(WINDOW, stored, clean))
    return sum(x.square().mean() for x in out.modalities.values())


def shard_and_compare(rank: int, meeting: str) -> None:
    """What each process does."""
    torch.set_num_threads(1)
    # Of outputs that are views, which nothing here changes in place.
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ROWS)
    torch.manual_seed(0)
    whole = WanAVTransformer(wan_config())
    for parameter in whole.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    sharded = copy.deepcopy(whole)
    (sum(loss_of_row(whole, row) for row in range(ROWS)) / ROWS).backward()
    for layer in sharded.layers:
        fully_shard(layer)
    fully_shard(sharded)
    for name in ("prefill", "encode_references"):
        register_fsdp_forward_method(sharded, name)
    loss_of_row(sharded, rank).backward()
    wanted = dict(whole.named_parameters())
    for name, parameter in sharded.named_parameters():
        ours, theirs = parameter.grad, wanted[name].grad
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            assert (ours.full_tensor() - theirs).abs().max() < 1e-6, name
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    meeting = f"file://{tmp_path / 'meeting'}"
    start_processes(shard_and_compare, meeting)
