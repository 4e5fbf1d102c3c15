"""Attention of one set of queries to several sets of keys, merged by their log-sum-exps.

One softmax over all keys is a weighted sum of the softmaxes over each set: the weights are the sets' shares
of the sum of exponentials. So the sets need not lie in one tensor, a bias between a query and a whole set
costs nothing, and the fused kernels, which take no such bias, do all the work. The backward pass gives every
set's kernel the merged output and log-sum-exp, as ring attention does (arXiv 2310.01889).

Shape letters: B batch, N queries, M keys of a set, H heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ALIGNMENT = 32
"""CUDA's kernel for fp32 pads log-sum-exps to a multiple of this many queries."""


@dataclass(frozen=True)
class KeySet:
    """Keys and values [B, M, H, D], queries [B, N, H, D] as they are turned for these keys, and what is added
    to the logits of every head and query, [H, N] or None for nothing.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    bias: Tensor | None = None


def attend_sets(sets: Sequence[KeySet]) -> Tensor:
    """Scaled dot-product attention to all keys of all sets, [B, N, H, D] in the values' precision."""
    flat: list[Tensor | None] = []
    for part in sets:
        kind = part.value.dtype
        # Queries and keys come from norms, which autocast leaves in fp32.
        heads = (x.to(kind).transpose(1, 2) for x in (part.query, part.key, part.value))
        flat += [*heads, part.bias]
    return _MergedAttention.apply(*flat).transpose(1, 2)


class _MergedAttention(torch.autograd.Function):
    """Inputs are query, key, value [B, H, ., D] and bias of each set, one after the other."""

    @staticmethod
    def forward(ctx: Any, *flat: Any) -> Tensor:
        sets = _fours(flat)
        outs, sums = [], []
        for query, key, value, bias in sets:
            out, lse = _kernel(query, key, value)
            outs.append(out)
            sums.append(lse if bias is None else lse + bias.float())
        if len(sets) == 1 and sets[0][3] is None:
            merged, total = outs[0], sums[0]
        else:
            total = sums[0]
            for lse in sums[1:]:
                total = torch.logaddexp(total, lse)
            shares = [(lse - total).exp()[..., None] for lse in sums]
            merged = shares[0] * outs[0]
            for share, out in zip(shares[1:], outs[1:], strict=True):
                merged = merged.addcmul_(share, out)
            merged = merged.to(outs[0].dtype)
        # A set's own output is needed again for the gradient of its bias alone.
        ctx.biased = [bias is not None for *_, bias in sets]
        own = [
            pair
            for pair, kept in zip(zip(outs, sums, strict=True), ctx.biased, strict=True)
            if kept
        ]
        ctx.save_for_backward(merged, total, *sum(own, ()), *(x for x in flat if x is not None))
        return merged

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        merged, total, *saved = ctx.saved_tensors
        own, inputs = iter(saved[: 2 * sum(ctx.biased)]), iter(saved[2 * sum(ctx.biased) :])
        spread = (grad.float() * merged.float()).sum(-1)
        grads: list[Tensor | None] = []
        for has_bias in ctx.biased:
            query, key, value = next(inputs), next(inputs), next(inputs)
            bias = next(inputs) if has_bias else None
            lse = total if bias is None else total - bias.float()
            grads += _kernel_backward(grad, query, key, value, merged, lse.contiguous())
            if bias is None:
                grads.append(None)
                continue
            # d(bias) is the sum of d(logits) over the set's keys: each is p (dp - spread).
            out, share = next(own), (next(own) - total).exp()
            slope = share * ((grad.float() * out.float()).sum(-1) - spread)
            grads.append(slope.sum(0).to(bias.dtype))
        return tuple(grads)


def _fours(flat: Sequence[Any]) -> list[tuple[Any, Any, Any, Any]]:
    return [(flat[i], flat[i + 1], flat[i + 2], flat[i + 3]) for i in range(0, len(flat), 4)]


def _kernel(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Output [B, H, N, D] and log-sum-exp, fp32 [B, H, N], of PyTorch's fused kernel for these tensors.

    The public function keeps the log-sum-exp to itself. On the meta device the kernel is CUDA's.
    """
    aten = torch.ops.aten
    if query.device.type == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    if query.dtype == torch.float32 and query.is_cuda:
        out, lse, *_ = aten._scaled_dot_product_efficient_attention(query, key, value, None, True)
        return out, lse[:, :, : query.shape[2]]
    out, lse, *_ = aten._scaled_dot_product_flash_attention(query, key, value)
    return out, lse


def _kernel_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor
) -> list[Tensor]:
    """Gradients of query, key and value; out and lse may be those of more keys than these."""
    aten = torch.ops.aten
    if query.device.type == "cpu":
        found = aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, query, key, value, out, lse, 0.0, False
        )
        return list(found)
    seed = torch.zeros((), dtype=torch.long, device=query.device)
    if query.dtype == torch.float32 and query.is_cuda:
        lse = F.pad(lse, (0, -lse.shape[2] % ALIGNMENT), value=torch.inf)
        mask = [True, True, True, False]
        found = aten._scaled_dot_product_efficient_attention_backward(
            grad, query, key, value, None, out, lse, seed, seed, 0.0, mask
        )
        return list(found[:3])
    lengths = query.shape[2], key.shape[2]
    found = aten._scaled_dot_product_flash_attention_backward(
        grad, query, key, value, out, lse, None, None, *lengths, 0.0, False, seed, seed
    )
    return list(found)
