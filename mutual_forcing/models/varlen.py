"""Attention of rows that see unequal numbers of keys: chunks with more or fewer phonemes, or chunks before.

Shape letters: R rows (of batch and chunks), N queries of a row, M keys of a row, padding included, H heads,
C width of queries and keys, D width of values.
"""

from __future__ import annotations

import logging
from functools import cached_property, lru_cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PACKED_ROWS = 3
"""Fewer rows stay with their mask: a stream has one, or two when guided, and would only wait for xformers'
dispatch.
"""


class ValidKeys:
    """Which keys each row may see: `valid` bool [R, M] on any device, at least one in every row."""

    def __init__(self, valid: Tensor) -> None:
        self.valid = valid

    @cached_property
    def _counted(self) -> Tensor:
        return self.valid.cpu()  # one wait for the device, at most, for all layers

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """How many keys each row sees."""
        return tuple(self._counted.sum(1).tolist())

    @cached_property
    def places(self) -> Tensor:
        """Where the seen keys lie among all R * M, row by row: long [sum(lengths)]."""
        return self._counted.flatten().nonzero()[:, 0].to(self.valid.device)


def attend_rows(query: Tensor, key: Tensor, value: Tensor, keys: ValidKeys | None) -> Tensor:
    """Scaled dot-product attention of each row's queries and the keys it may see; None: all of them.

    query [R, N, H, C], key [R, M, H, C], value [R, M, H, D] to [R, N, H, D]. On CUDA xformers skips the
    padding: the seen keys of all rows lie one after the other, under a block-diagonal mask. Everywhere else
    the padding is masked.
    """
    if keys is not None and _packs(query, value, keys):
        return _attend_packed(query, key, value, keys)
    mask = None if keys is None else keys.valid.to(query.device)[:, None, None]
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)


def _packs(query: Tensor, value: Tensor, keys: ValidKeys) -> bool:
    if not query.is_cuda or len(keys.valid) < PACKED_ROWS:
        return False
    return _has_kernel(query.device, _precision(query), query.shape[-1], value.shape[-1])


def _attend_packed(query: Tensor, key: Tensor, value: Tensor, keys: ValidKeys) -> Tensor:
    rows, count = query.shape[:2]
    dtype, places = _precision(query), keys.places.to(query.device)
    bias = _block_diagonal((count,) * rows, keys.lengths, query.device)
    query = query.flatten(0, 1).to(dtype)
    key, value = (x.flatten(0, 1).index_select(0, places).to(dtype) for x in (key, value))
    mixed = _xformers().memory_efficient_attention(query[None], key[None], value[None], bias)
    return mixed[0].unflatten(0, (rows, count))


def _precision(query: Tensor) -> torch.dtype:
    """What SDPA would compute in: xformers does not know autocast."""
    kind = query.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype


@lru_cache(maxsize=64)
def _block_diagonal(queries: tuple[int, ...], keys: tuple[int, ...], device: torch.device) -> Any:
    """xformers' mask for rows of so many queries and keys; the same for all layers and steps of a chunk."""
    with torch.inference_mode(False):  # training may meet it again, and needs its tensors
        mask = _xformers().attn_bias.BlockDiagonalMask
        return mask.from_seqlens(list(queries), list(keys), device=device)


@lru_cache
def _has_kernel(device: torch.device, dtype: torch.dtype, width: int, value_width: int) -> bool:
    """Whether xformers is there and works on this device, forwards and backwards: tried once."""
    try:
        fmha = _xformers()
        with torch.inference_mode(False), torch.enable_grad():
            shape = {"device": device, "dtype": dtype, "requires_grad": True}
            query, key = (torch.ones(1, 4, 1, width, **shape) for _ in range(2))
            value = torch.ones(1, 4, 1, value_width, **shape)
            bias = _block_diagonal((2, 2), (1, 3), device)
            fmha.memory_efficient_attention(query, key, value, bias).sum().backward()
    except (ImportError, OSError, NotImplementedError, RuntimeError, ValueError):
        return False
    return True


@lru_cache(maxsize=1)
def _xformers() -> ModuleType:
    """xformers' attention, imported at first use: it takes 2 s, and only CUDA has kernels."""
    # Its own library is built for one version of torch and CUDA, and it warns beside others; the kernels
    # that are called here are torch's.
    logging.getLogger("xformers").setLevel(logging.ERROR)
    from xformers.ops import fmha

    return fmha
