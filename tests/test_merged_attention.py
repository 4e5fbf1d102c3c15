"""Attention to several sets of keys equals one softmax over all of them, forwards and backwards."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from mutual_forcing.models.merged_attention import KeySet, attend_sets

ROWS, QUERIES, HEADS, WIDTH = 2, 5, 3, 32
KEYS = (7, 2, 40)


def sets_of(device: str, dtype: torch.dtype) -> tuple[list[KeySet], list[torch.Tensor]]:
    """Three sets, two of them biased, one asked by other queries; and all that can have a gradient."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        drawn = torch.randn(*shape, generator=generator).to(device, dtype)
        return drawn.requires_grad_()

    one, two = (draw(ROWS, QUERIES, HEADS, WIDTH) for _ in range(2))
    pairs = [[draw(ROWS, count, HEADS, WIDTH) for _ in range(2)] for count in KEYS]
    bias = draw(HEADS, QUERIES)
    sets = [KeySet(one, *pairs[0]), KeySet(two, *pairs[1], bias), KeySet(one, *pairs[2], bias)]
    return sets, [one, two, *pairs[0], *pairs[1], *pairs[2], bias]


def dense(sets: list[KeySet]) -> torch.Tensor:
    logits = [
        torch.einsum("bnhd,bmhd->bhnm", s.query, s.key) / WIDTH**0.5
        + (0 if s.bias is None else s.bias[:, :, None])
        for s in sets
    ]
    weights = torch.cat(logits, -1).softmax(-1)
    return torch.einsum("bhnm,bmhd->bnhd", weights, torch.cat([s.value for s in sets], 1))


def compare(device: str, dtype: torch.dtype, tolerance: float) -> None:
    sets, leaves = sets_of(device, dtype)
    exact, exact_leaves = sets_of(device, torch.float32)
    weight = torch.randn(ROWS, QUERIES, HEADS, WIDTH, generator=torch.Generator().manual_seed(1))
    ours, wanted = attend_sets(sets), dense(exact)
    assert ours.dtype == dtype
    assert (ours.float() - wanted).abs().max() < tolerance
    grads = torch.autograd.grad((ours.float() * weight.to(device)).sum(), leaves)
    wanted_grads = torch.autograd.grad((wanted * weight.to(device)).sum(), exact_leaves)
    for grad, other in zip(grads, wanted_grads, strict=True):
        assert other.abs().max() > 0.01
        assert (grad.float() - other).abs().max() < 5 * tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 0.03)])
def test_it_is_one_softmax(dtype: torch.dtype, tolerance: float) -> None:
    compare("cpu", dtype, tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.03)])
def test_it_is_one_softmax_on_cuda(dtype: torch.dtype, tolerance: float) -> None:
    compare("cuda", dtype, tolerance)


def test_a_bias_of_minus_infinity_leaves_a_set_out() -> None:
    sets, leaves = sets_of("cpu", torch.float32)
    never = torch.full((HEADS, QUERIES), -torch.inf)
    ours = attend_sets([sets[0], KeySet(sets[1].query, sets[1].key, sets[1].value, never)])
    query, key, value = (x.transpose(1, 2) for x in (sets[0].query, sets[0].key, sets[0].value))
    assert torch.equal(ours, scaled_dot_product_attention(query, key, value).transpose(1, 2))
    grads = torch.autograd.grad(ours.square().sum(), leaves, allow_unused=True)
    assert all(grad is None or grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_s_kernels_take_what_they_are_given(dtype: torch.dtype) -> None:
    """Shapes only, on the meta device, where the kernels are CUDA's: forwards and backwards."""
    sets, leaves = sets_of("meta", dtype)
    out = attend_sets(sets)
    assert out.shape == (ROWS, QUERIES, HEADS, WIDTH)
    grads = torch.autograd.grad(out.sum(), leaves)
    assert [g.shape for g in grads] == [x.shape for x in leaves]
