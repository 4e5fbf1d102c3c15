"""Save and restore a stage exactly: safetensors and JSON only, written whole or not at all.

One process keeps `state.safetensors`. Several keep a folder `state-STEP`, in which each writes what it holds
by torch.distributed.checkpoint. The tensors have the same names in both, and any number of processes reads
either.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .atomic import written_whole
from .distributed import Strategy, fill

RECORD = "record.json"
"""What a folder's state says of itself."""


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, numbers: Sequence[int] | None = None
) -> dict[str, Tensor]:
    """The moments and step counts of every parameter, by group, number and name.

    numbers: of the parameters of an only group, where other processes have the others; by default their
    positions.
    """
    tensors = {}
    for group_index, group in enumerate(optimizer.param_groups):
        for number, parameter in zip(
            numbers or range(len(group["params"])), group["params"], strict=True
        ):
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{group_index}.{number}.{key}"] = torch.as_tensor(value).detach()
    return tensors


def prepare_optimizer(
    optimizer: torch.optim.Optimizer, names: Iterable[str], numbers: Sequence[int] | None = None
) -> None:
    """Make room for what `optimizer_tensors` named, of an optimiser that has taken no step, as far as the
    parameters are its own.
    """
    for name in names:
        group_index, number, key = name.split(".")
        if numbers is not None and int(number) not in numbers:
            continue
        index = int(number) if numbers is None else numbers.index(int(number))
        parameter = optimizer.param_groups[int(group_index)]["params"][index]
        # AdamW keeps its step counter on the CPU whatever the parameter's device.
        empty = torch.zeros(()) if key == "step" else torch.zeros_like(parameter.detach())
        optimizer.state[parameter][key] = empty


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, Any]) -> None:
    """Write tensors with JSON metadata; a crash leaves the old file whole."""
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with written_whole(path) as partial:
        save_file(contiguous, partial, metadata={"record": json.dumps(metadata)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote."""
    return load_file(path), _record(path)


def save_state(
    tensors: dict[str, Tensor], folder: Path, record: dict[str, Any], strategy: Strategy
) -> None:
    """Write the state of step `record["step"]` in the place of an earlier one. All processes have to call it,
    each with what it holds. A crash leaves the earlier state whole.
    """
    newest = folder / "state.safetensors"
    if strategy.ranks == 1:
        save_tensors(tensors, newest, record)
    else:
        newest = folder / f"state-{record['step']:08d}"
        if not newest.exists():
            _save_sharded(tensors, newest, record, strategy)
    if strategy.leads:
        gone = folder / "state.old"
        for path in _states(folder):
            if path != newest:
                # Under another name first: half of a state is none.
                shutil.rmtree(gone, ignore_errors=True)
                path.rename(gone)
                shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    strategy.wait()


def _save_sharded(
    tensors: dict[str, Tensor], path: Path, record: dict[str, Any], strategy: Strategy
) -> None:
    import torch.distributed.checkpoint as dcp

    partial = path.with_name("state.partial")
    if strategy.leads:
        shutil.rmtree(partial, ignore_errors=True)
    strategy.wait()
    # DCP's own format unpickles its metadata when it is read; the one in safetensors has JSON headers.
    writer = dcp.HuggingFaceStorageWriter(str(partial), save_distributed=True)
    dcp.save(tensors, storage_writer=writer)
    if strategy.leads:
        (partial / RECORD).write_text(json.dumps(record), encoding="utf-8")
        partial.rename(path)
    strategy.wait()


def find_state(folder: Path) -> Path | None:
    """The state that goes furthest of those in a stage's folder, if there is any."""
    return max(_states(folder), key=lambda path: _record(path)["step"], default=None)


def read_record(state: Path) -> tuple[dict[str, Any], set[str]]:
    """What a state says of itself, and the names of its tensors."""
    names: set[str] = set()
    for path in state.glob("*.safetensors") if state.is_dir() else [state]:
        with safe_open(path, framework="pt") as file:
            names.update(file.keys())
    return _record(state), names


def load_state(tensors: dict[str, Tensor], state: Path) -> None:
    """Read the named tensors in place: of each what this process holds. All processes have to call it."""
    if state.is_dir():
        import torch.distributed.checkpoint as dcp

        reader = dcp.HuggingFaceStorageReader(str(state))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            dcp.load(tensors, storage_reader=reader, no_dist=not dist.is_initialized())
        return
    with safe_open(state, framework="pt") as file:
        for name, tensor in tensors.items():
            fill(tensor, file.get_tensor(name))


def _states(folder: Path) -> list[Path]:
    whole = folder / "state.safetensors"
    return [*sorted(folder.glob("state-*")), *([whole] if whole.exists() else [])]


def _record(state: Path) -> dict[str, Any]:
    if state.is_dir():
        return json.loads((state / RECORD).read_text(encoding="utf-8"))
    with safe_open(state, framework="pt") as file:
        return json.loads((file.metadata() or {}).get("record", "{}"))


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put `prefix/` before every name."""
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def names_under(prefix: str, names: Iterable[str]) -> list[str]:
    """Select the names that begin with `prefix/` and drop it."""
    start = f"{prefix}/"
    return [name[len(start) :] for name in names if name.startswith(start)]
