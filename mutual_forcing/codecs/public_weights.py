"""Public autoencoders by diffusers, from a folder that it wrote or from the Hub: JSON and safetensors alone.

Nothing else imports diffusers. What it does here is define the networks; how they are streamed uses some of
its private parts, so the extra [large] pins its version exactly.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..codec_config import PublicWeights
from ..hub import HubName, download
from ..shards import read_tensors

WEIGHTS = "diffusion_pytorch_model.safetensors"
"""As diffusers names them; of several files there is an index."""
INDEX = f"{WEIGHTS}.index.json"
NETWORK_FILES = ("config.json", "diffusion_pytorch_model*.safetensors", INDEX)


def network_class(name: str) -> Any:
    """The class of this name in diffusers; raises ValueError where that is not installed."""
    # Where transformers is installed, diffusers imports it, and it imports torchaudio, which not every
    # machine can load; whoever imports ours first can.
    from .. import audio  # noqa: F401

    try:
        return getattr(importlib.import_module("diffusers"), name)
    except ImportError as error:
        raise ValueError(
            f"{name} needs diffusers (Python 3.11 and later): pip install 'mutual-forcing[large]', in a "
            "checkout -e '.[large]'."
        ) from error


def load_network(name: str, weights: PublicWeights | None, base: Path | None = None) -> nn.Module:
    """A network of diffusers' class `name` with public weights, fp32, for inference.

    base: the folder from which a relative source is looked for first. Raises ValueError, in one sentence,
    when there is none, when it is another network's, or when its weights do not fit.
    """
    if weights is None:
        raise ValueError("The codec's configuration names no public weights.")
    folder = find_folder(weights, base)
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = values["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no config.json of diffusers.") from error
    if found != name:
        raise ValueError(f"{folder} holds the network {found}, not {name}.")
    try:
        # Without memory: what a config asks for is not made before weights of this size are there.
        with torch.device("meta"):
            network = network_class(name)(**{k: v for k, v in values.items() if k[:1] != "_"})
    except (TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"The config.json in {folder} is not one of {name}.") from error
    tensors = dict(read_tensors(weight_files(folder)))
    for key, value in tensors.items():
        if not value.isfinite().all():
            raise ValueError(f"The weights in {folder} are not all finite ({key}).")
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ValueError(f"The weights in {folder} do not fit its config.json.") from error
    return network.float().eval().requires_grad_(False)


def find_folder(
    weights: PublicWeights, base: Path | None = None, files: Sequence[str] = NETWORK_FILES
) -> Path:
    """The folder that holds the weights; of a Hub repository `files` (names, with stars) are downloaded."""
    for path in ((base or Path()) / weights.source, Path(weights.source)):
        if path.is_dir():
            return path / weights.subfolder
    parts = weights.source.split("/")
    if len(parts) != 2 or not all(parts) or parts[0] in (".", ".."):
        raise ValueError(f"No weights at {weights.source!r}: give a folder or a Hub repository.")
    inside = f"{weights.subfolder}/" if weights.subfolder else ""
    name = HubName.parse(weights.source, weights.revision or None)
    return download(name, [inside + file for file in files]) / weights.subfolder


def weight_files(folder: Path) -> list[Path]:
    """The files of the weights in a folder; raises ValueError when there are none."""
    if (folder / INDEX).is_file():
        try:
            names = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
            # Names alone: an index must not lead out of its folder.
            return [folder / name for name in sorted({Path(name).name for name in names})]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder / INDEX} is no index of weights.") from error
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} holds no {WEIGHTS}; pickled weights are never loaded.")
    return [folder / WEIGHTS]
