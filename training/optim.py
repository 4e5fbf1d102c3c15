"""Optimisers (Muon for hidden matrices, AdamW for the rest), learning rate, weight averaging."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .stage_config import OptimizerConfig
from .train_state import optimizer_tensors, prefixed, restore_optimizer, under

EDGES = frozenset(
    {
        "stem",
        "embed",
        "embed_reference",
        "embed_phonemes",
        "modulation",
        "out_modulation",
        "out",
        "leave",
        "skip",
        "gain",
        "to_pixels",
        "to_flow",
        "mix",
        "where",
        "points",
    }
)
"""Layers that meet data, conditions or outputs rather than features: Muon is not made for them."""


class Optimizers:
    """Muon and AdamW as one: Muon on the hidden matrices when the recipe asks for it.

    torch's Muon takes matrices only. A convolution's kernel is handed to it as a matrix [out, rest]
    that shares the kernel's memory.
    """

    def __init__(self, module: nn.Module, config: OptimizerConfig) -> None:
        hidden = hidden_matrices(module) if config.muon else []
        chosen = {id(p) for p in hidden}
        rest = [p for p in module.parameters() if p.requires_grad and id(p) not in chosen]
        groups = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.parts: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)
        }
        self._scale = {"adamw": 1.0, "muon": config.muon}
        self._matrices = [(p, nn.Parameter(as_matrix(p.data, p))) for p in hidden]
        if hidden:
            self.parts["muon"] = torch.optim.Muon(
                [matrix for _, matrix in self._matrices],
                lr=config.lr * config.muon,
                weight_decay=config.weight_decay / config.muon,
                # Updates of the size AdamW would make, so that their rates can be compared.
                adjust_lr_fn="match_rms_adamw",
            )

    def step(self, lr: float) -> None:
        """Apply the gradients with AdamW's learning rate `lr`, and drop them."""
        for parameter, matrix in self._matrices:
            gradient = parameter.grad
            matrix.grad = None if gradient is None else as_matrix(gradient, parameter)
            parameter.grad = None
        for name, part in self.parts.items():
            for group in part.param_groups:
                group["lr"] = lr * self._scale[name]
            part.step()
            part.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that `restore` needs."""
        tensors: dict[str, Tensor] = {}
        for name, part in self.parts.items():
            tensors |= prefixed(name, optimizer_tensors(part))
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Undo `state_tensors`."""
        for name, part in self.parts.items():
            restore_optimizer(part, under(name, tensors))


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """Weights of linear and (dense) convolution layers between features and features."""
    found = []
    for name, layer in module.named_modules():
        dense = isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)
        if not dense or getattr(layer, "groups", 1) > 1 or name.rpartition(".")[2] in EDGES:
            continue
        if layer.weight.requires_grad:
            found.append(layer.weight)
    return found


def as_matrix(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A kernel, or its gradient, as [out, rest]: a view where `tensor` lies as `parameter` does."""
    if not parameter.is_contiguous():  # channels last
        tensor = tensor.movedim(1, -1)
    return tensor.reshape(len(tensor), -1)


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine from `lr` to `final_lr` at the last step."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, steps - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.final_lr + (config.lr - config.final_lr) * cosine


@torch.no_grad()
def update_ema(ema: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    """Move `ema` towards `module`; the decay is lower in the first steps so that it forgets the start."""
    decay = min(decay, (1 + step) / (10 + step))
    targets, sources = list(ema.parameters()), list(module.parameters())
    torch._foreach_lerp_(targets, sources, 1 - decay)
    for target, source in zip(ema.buffers(), module.buffers(), strict=True):
        target.copy_(source)
