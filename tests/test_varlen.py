"""Rows of unequal length: packed as xformers takes them, masked, and each row by itself are the same."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mutual_forcing.config import preset
from mutual_forcing.models import varlen
from mutual_forcing.models.kv_cache import ParallelHistory
from mutual_forcing.models.transformer import AVTransformer
from mutual_forcing.models.varlen import ValidKeys, attend_rows
from mutual_forcing.types import AVLatents, References, TextTokens

LENGTHS = (3, 1, 7, 7, 2)
HEADS, QUERIES, WIDTH, VALUES = 2, 4, 8, 16
TOLERANCE = 1e-5


def scattered(lengths: tuple[int, ...], most: int = 7) -> ValidKeys:
    """So many valid keys of each row, not only its first ones."""
    generator = torch.Generator().manual_seed(0)
    valid = torch.zeros(len(lengths), most, dtype=torch.bool)
    for row, length in zip(valid, lengths, strict=True):
        row[torch.randperm(most, generator=generator)[:length]] = True
    return ValidKeys(valid)


def inputs(rows: int, keys: int, device: str = "cpu", values: int = VALUES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((QUERIES, WIDTH), (keys, WIDTH), (keys, values))
    return [
        torch.randn(rows, count, HEADS, width, generator=generator).to(device).requires_grad_()
        for count, width in shapes
    ]


def with_gradients(attend, tensors: list[Tensor]) -> list[Tensor]:
    """The result, and the gradients of a weighted sum of it."""
    out = attend(*tensors)
    weights = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), tensors)]


def row_by_row(keys: ValidKeys):
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows = []
        for row, valid in enumerate(keys.valid):
            seen = [
                x[row : row + 1].transpose(1, 2) for x in (query, key[:, valid], value[:, valid])
            ]
            rows.append(F.scaled_dot_product_attention(*seen).transpose(1, 2))
        return torch.cat(rows)

    return attend


@pytest.fixture
def packed_on_the_cpu() -> Iterator[mock.Mock]:
    """xformers' mask is its own; its kernel, of which there is none here, is SDPA under that mask."""
    fmha = pytest.importorskip("xformers.ops.fmha")

    def kernel(query: Tensor, key: Tensor, value: Tensor, bias) -> Tensor:
        assert isinstance(bias, fmha.attn_bias.BlockDiagonalMask)
        assert query.shape[0] == key.shape[0] == value.shape[0] == 1 and query.dtype == key.dtype
        dense = bias.materialize((1, 1, query.shape[1], key.shape[1]))
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value, attn_mask=dense).transpose(1, 2)

    called = mock.Mock(side_effect=kernel)
    with (
        mock.patch.object(fmha, "memory_efficient_attention", called),
        mock.patch.object(varlen, "_packs", lambda *_: True),
    ):
        yield called


def test_what_is_packed_are_the_seen_keys_in_their_order() -> None:
    keys = ValidKeys(torch.tensor([[True, False, True], [False, True, False]]))
    assert keys.lengths == (2, 1) and keys.places.tolist() == [0, 2, 4]


@pytest.mark.parametrize("lengths", [LENGTHS, (1, 1, 1), (7, 7), (1,)])
def test_masked_is_row_by_row(lengths: tuple[int, ...]) -> None:
    keys, tensors = scattered(lengths), inputs(len(lengths), 7)
    expected = with_gradients(row_by_row(keys), tensors)
    found = with_gradients(lambda *x: attend_rows(*x, keys), tensors)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() < TOLERANCE


@pytest.mark.parametrize("lengths", [LENGTHS, (1, 1, 1), (7, 7), (1,)])
def test_packed_is_row_by_row(lengths: tuple[int, ...], packed_on_the_cpu: mock.Mock) -> None:
    keys, tensors = scattered(lengths), inputs(len(lengths), 7)
    expected = with_gradients(row_by_row(keys), tensors)
    found = with_gradients(lambda *x: attend_rows(*x, keys), tensors)
    assert packed_on_the_cpu.call_args[0][1].shape[1] == sum(lengths), "no padding"
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() < TOLERANCE


def test_all_keys_are_seen_where_nothing_says_otherwise() -> None:
    tensors = inputs(3, 7)
    full = ValidKeys(torch.ones(3, 7, dtype=torch.bool))
    assert (attend_rows(*tensors, None) - attend_rows(*tensors, full)).abs().max() < TOLERANCE


def test_without_a_kernel_the_padding_is_masked() -> None:
    """A CPU has none, whether or not xformers is installed, and is not asked to import it."""
    assert not varlen._has_kernel(torch.device("cpu"), torch.float32, WIDTH, VALUES)
    with mock.patch.object(varlen, "_xformers", side_effect=AssertionError("imported")):
        attend_rows(*inputs(len(LENGTHS), 7), scattered(LENGTHS))


def test_packed_rows_have_the_precision_of_autocast(packed_on_the_cpu: mock.Mock) -> None:
    keys, tensors = scattered(LENGTHS), inputs(len(LENGTHS), 7)
    with torch.autocast("cpu", torch.bfloat16):
        assert attend_rows(*tensors, keys).dtype == torch.bfloat16


def test_a_clip_s_pass_is_the_same_packed(packed_on_the_cpu: mock.Mock) -> None:
    """Unequal phonemes in cross-attention, and pasts of 0 to 3 chunks in self-attention."""
    torch.manual_seed(0)
    config, chunks = preset("smoke").model, 5
    model = AVTransformer(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    latents = AVLatents.of(
        {n: torch.randn(2, chunks, b.grid.tokens, b.token_dim) for n, b in config.branches.items()}
    )
    ids = torch.randint(1, 9, (2, chunks, 6)) * (torch.arange(6) < torch.arange(chunks)[:, None])
    start = torch.arange(6.0).expand(2, chunks, 6) / 10
    text = TextTokens(ids, start, start + 0.1, torch.tensor([[1, 0], [0, 0]]))
    levels = {n: torch.rand(2, chunks) for n in config.branches}
    results = []
    for packs in (False, True):
        with mock.patch.object(varlen, "_packs", lambda *_, packs=packs: packs):
            conditions = model.condition(text, References(None, None, None, None))
            out = model(latents, levels, levels, conditions, ParallelHistory(3))
        loss = sum(part.square().mean() for part in out.modalities.values())
        model.zero_grad()
        loss.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        results.append([*(part.detach() for part in out.modalities.values()), *gradients])
    assert packed_on_the_cpu.call_count == config.layers * 3, "every attention of every layer"
    for masked, packed in zip(*results, strict=True):
        assert (masked - packed).abs().max() < TOLERANCE * max(1.0, float(masked.abs().max()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)]
)
@pytest.mark.parametrize("width", [56, 64])
def test_xformers_on_cuda_is_row_by_row_on_a_cpu(dtype, tolerance: float, width: int) -> None:
    """At the widths of `tiny`: 56 in cross-attention, 64 with the dimensions of the coupling bias."""
    pytest.importorskip("xformers.ops.fmha")
    device = torch.device("cuda", torch.cuda.current_device())
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn(len(LENGTHS), n, 6, width, generator=generator) for n in (16, 7, 7)]
    keys = scattered(LENGTHS)
    expected = with_gradients(row_by_row(keys), [x.requires_grad_() for x in tensors])
    on_device = [x.detach().to(device, dtype).requires_grad_() for x in tensors]
    assert varlen._packs(on_device[0], on_device[2], keys), "xformers has a kernel"
    there = ValidKeys(keys.valid.to(device))
    for mask in (keys, there):
        found = with_gradients(lambda *x, mask=mask: attend_rows(*x, mask).float(), on_device)
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours.float().cpu() - theirs).abs().max() < tolerance * theirs.abs().max()
