"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; the file there takes the place of `path` when the block ends.

    After an error or a crash within the block `path` is as it was before.
    """
    partial = path.with_name(f"{path.name}.partial")
    yield partial
    partial.replace(path)
