"""Reading safetensors files, whosever weights they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor


def read_tensors(paths: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the files and its name, one after the other: the whole may be larger than the memory
    left. Raises ValueError for a file that cannot be read.
    """
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118
                    yield key, file.get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a readable safetensors file.") from error
