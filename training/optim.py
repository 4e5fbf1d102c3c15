"""Optimisers (Muon for hidden matrices, AdamW for the rest), learning rate, weight averaging."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from .distributed import fill, own_part, whole
from .stage_config import OptimizerConfig
from .train_state import names_under, optimizer_tensors, prefixed, prepare_optimizer

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

    Muon's update needs a whole matrix. Of a sharded network each process owns some of the matrices: it keeps
    them whole, with their momentum, and sends the others what they became.
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
        self._kernels = [_Kernel(p, owner) for p, owner in zip(hidden, owners(hidden), strict=True)]
        matrices = {i: k.matrix for i, k in enumerate(self._kernels) if k.matrix is not None}
        self._numbers = {"muon": list(matrices)}
        if matrices:
            self.parts["muon"] = torch.optim.Muon(
                matrices.values(),
                lr=config.lr * config.muon,
                weight_decay=config.weight_decay / config.muon,
                # Updates of the size AdamW would make, so that their rates can be compared.
                adjust_lr_fn="match_rms_adamw",
            )

    def step(self, lr: float) -> None:
        """Apply the gradients with AdamW's learning rate `lr`, and drop them."""
        moved = [kernel for kernel in self._kernels if kernel.take_gradient()]
        for name, part in self.parts.items():
            for group in part.param_groups:
                group["lr"] = lr * self._scale[name]
            part.step()
            part.zero_grad(set_to_none=True)
        for kernel in moved:
            kernel.share()

    def state_tensors(self) -> dict[str, Tensor]:
        """The state of all that this process holds."""
        tensors: dict[str, Tensor] = {}
        for name, part in self.parts.items():
            tensors |= prefixed(name, optimizer_tensors(part, self._numbers.get(name)))
        return tensors

    def prepare(self, names: Iterable[str]) -> None:
        """Make room in `state_tensors` for what this process holds of a saved state with these names."""
        for name, part in self.parts.items():
            prepare_optimizer(part, names_under(name, names), self._numbers.get(name))

    def follow(self) -> None:
        """Go on from the network's weights, after others were loaded. All processes have to call it."""
        for kernel in self._kernels:
            kernel.follow()


class _Kernel:
    """A parameter as Muon has it: `matrix` is the whole of it, or None where another process owns it."""

    def __init__(self, parameter: nn.Parameter, owner: int | None) -> None:
        """owner: None for a parameter that is not sharded."""
        self.parameter, self.owner, self.matrix = parameter, owner, None
        values = whole(parameter.detach())
        if owner is None or owner == dist.get_rank():
            self.matrix = nn.Parameter(as_matrix(values, parameter))

    @torch.no_grad()
    def follow(self) -> None:
        """Copy the parameter again, where the matrix does not share its memory."""
        if self.owner is None:
            return
        values = whole(self.parameter.detach())
        if self.matrix is not None:
            self.matrix.copy_(as_matrix(values, self.parameter))

    def take_gradient(self) -> bool:
        """Hand the parameter's gradient over to the matrix; whether there is one."""
        gradient, self.parameter.grad = self.parameter.grad, None
        if gradient is None:
            return False
        gradient = whole(gradient)
        if self.matrix is not None:
            self.matrix.grad = as_matrix(gradient, self.parameter)
        return True

    def share(self) -> None:
        """Every process takes its part of what the owner made of the matrix."""
        if self.owner is None:
            return
        if self.matrix is None:
            values = self.parameter.to_local().new_empty(self.parameter.shape)
        else:
            values = self.matrix.detach().view(self.parameter.shape)
        dist.broadcast(values, self.owner)
        fill(self.parameter, values)


def owners(hidden: list[nn.Parameter]) -> list[int | None]:
    """Which process makes Muon's update of each sharded matrix: about as many weights for each."""
    if not any(isinstance(p, DTensor) for p in hidden):
        return [None] * len(hidden)
    loads, chosen = [0] * dist.get_world_size(), []
    for parameter in hidden:
        chosen.append(loads.index(min(loads)))
        loads[chosen[-1]] += parameter.numel()
    return chosen


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
    targets, sources = ([own_part(p) for p in m.parameters()] for m in (ema, module))
    torch._foreach_lerp_(targets, sources, 1 - decay)
    for target, source in zip(ema.buffers(), module.buffers(), strict=True):
        target.copy_(source)
