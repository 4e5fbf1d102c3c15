"""Save and restore a stage exactly: safetensors and JSON only, written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .atomic import written_whole


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments and step counts of every parameter, by group, position and name."""
    tensors = {}
    for group_index, group in enumerate(optimizer.param_groups):
        for index, parameter in enumerate(group["params"]):
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{group_index}.{index}.{key}"] = torch.as_tensor(value).detach()
    return tensors


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Undo `optimizer_tensors`."""
    for name, value in tensors.items():
        group_index, index, key = name.split(".")
        parameter = optimizer.param_groups[int(group_index)]["params"][int(index)]
        # AdamW keeps its step counter on the CPU whatever the parameter's device.
        device = "cpu" if key == "step" else parameter.device
        optimizer.state[parameter][key] = value.to(device)


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, Any]) -> None:
    """Write tensors with JSON metadata; a crash leaves the old file whole."""
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with written_whole(path) as partial:
        save_file(contiguous, partial, metadata={"record": json.dumps(metadata)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = json.loads((file.metadata() or {}).get("record", "{}"))
    return load_file(path), metadata


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put `prefix/` before every name."""
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Select the names that begin with `prefix/` and drop it."""
    start = f"{prefix}/"
    return {name[len(start) :]: v for name, v in tensors.items() if name.startswith(start)}
