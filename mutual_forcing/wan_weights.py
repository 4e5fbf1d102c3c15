"""Public weights of Wan's transformer in and out of a branch, under the names that they have in diffusers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from .models.wan_transformer import WanAVTransformer
from .shards import read_tensors

ADDED = ("condition_embedder.delta_embedder", "condition_embedder.word_embedder", "null_reference")
"""What a branch has and Wan does not; public weights leave it as it is."""
ALWAYS_FP32 = ("time_embedder", "delta_embedder", "scale_shift_table", "norm2", "coupling")
"""Parts that stay in fp32 when a model is turned into half precision, as in diffusers."""


def load_branch(model: WanAVTransformer, name: str, folder: str | Path) -> None:
    """Give one branch ("video" or "audio") the weights of a folder with *.safetensors, such as `transformer`
    of Wan-AI/Wan2.2-TI2V-5B-Diffusers, in the precision that the model has.

    Raises ValueError where they are not those of a branch of this shape; the model is then in parts changed.
    """
    folder, own, found = Path(folder), model.state_dict(keep_vars=True), set()
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ValueError(f"{folder} holds no weights (*.safetensors).")
    for key, value in read_tensors(paths):
        mine = own.get(_own_key(key, name))
        if mine is None or mine.shape != value.shape:
            raise ValueError(
                f"{key} {tuple(value.shape)} in {folder} does not fit the {name} branch: choose the preset "
                "of these weights."
            )
        with torch.no_grad():
            mine.copy_(value)
        found.add(key)
    missing = sorted(branch_state(model, name, added=False).keys() - found)
    if missing:
        raise ValueError(f"{folder} lacks {len(missing)} weights of Wan, among them {missing[0]}.")


def branch_state(model: WanAVTransformer, name: str, added: bool = True) -> dict[str, Tensor]:
    """One branch's weights with the names of diffusers; without what Wan does not have unless `added`."""
    state = {}
    for key, value in model.state_dict().items():
        place = key.split(".")
        if key.startswith(f"branches.{name}."):
            state[".".join(place[2:])] = value
        elif place[0] == "layers" and place[2:4] == ["branches", name]:
            state[".".join(["blocks", place[1], *place[4:]])] = value
    return {key: value for key, value in state.items() if added or not key.startswith(ADDED)}


def to_precision(model: nn.Module, dtype: torch.dtype) -> None:
    """Turn a model's weights into `dtype`, but for those that diffusers, too, keeps in fp32."""
    for key, value in model.named_parameters():
        if not set(key.split(".")) & set(ALWAYS_FP32):
            value.data = value.data.to(dtype)


def _own_key(key: str, name: str) -> str:
    place = key.split(".")
    if place[0] == "blocks":
        return ".".join(["layers", place[1], "branches", name, *place[2:]])
    return f"branches.{name}.{key}"
