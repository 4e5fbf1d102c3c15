"""What runs in the cage (cage.py): opens one file at a time and answers with plain numbers.

A request is one line of JSON with an open file beside it. An answer is the length of a header in four bytes,
the header (JSON: the shape of what follows, or an error in one sentence), and the bytes of the array.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import sys
import time
import wave
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pi_heif.options
from PIL import AvifImagePlugin, Image

from mutual_forcing import media

if sys.platform != "win32":
    import resource

MEMORY = 136 * 2**20
"""Bytes that a file may take beyond what the worker has before it: just enough for 12-megapixel pictures."""
CPU_SECONDS = 10


def read(kind: str, file: BinaryIO, max_seconds: float = 0.0) -> np.ndarray:
    """Return what a file holds; it is closed.

    A "picture" is uint8 [H, W, 3], "audio" float32 [N] and what is "heard" int16 [N, C], both of at most
    `max_seconds`, the comment of a "film" its UTF-8 bytes as uint8 [N]. Raises ValueError as the readers of
    `media` do.
    """
    if kind == "picture":
        return media.read_image(file)
    if kind == "audio":
        return media.read_audio(file, max_seconds=max_seconds)
    if kind == "heard":
        return media.read_heard(file, max_seconds=max_seconds)
    return np.frombuffer(media.read_comment(file).encode(errors="replace"), np.uint8)


def main() -> None:
    """Answer requests from the socket that is standard input, until it ends."""
    with socket.socket(fileno=0) as page:
        _warm_up()
        _lock_in()
        _send(page, {})
        enough = _size() + MEMORY // 8
        while _answer(page, enough):
            pass


def _answer(page: socket.socket, enough: int) -> bool:
    """Answer the next request; return whether there was one.

    The page is told to replace a process that has more than `enough` bytes left of a file.
    """
    request, files, _, _ = socket.recv_fds(page, 4096, 1)
    if not request:
        return False
    _set(resource.RLIMIT_CPU, int(time.process_time()) + 1 + CPU_SECONDS)
    asked = json.loads(request)
    try:
        with os.fdopen(files[0], "rb") as file:
            found = np.ascontiguousarray(read(asked["kind"], file, asked["max_seconds"]))
        header: dict[str, Any] = {"shape": found.shape}
    except ValueError as error:  # its traceback, which ends with this block, holds what was read
        found, header = np.zeros(0, np.uint8), {"error": str(error)}
    _send(page, {**header, "spent": _size() - found.nbytes > enough})
    page.sendall(found.data.cast("B") if found.size else b"")
    return True


def _size() -> int:
    """Return the bytes of addresses that this process uses; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def _send(page: socket.socket, header: dict[str, Any]) -> None:
    text = json.dumps(header).encode()
    page.sendall(len(text).to_bytes(4, "big") + text)


def _warm_up() -> None:
    """Read something of every kind, so that no module is imported and no library set up afterwards."""
    Image.init()
    AvifImagePlugin.DEFAULT_MAX_THREADS = pi_heif.options.DECODE_THREADS = 1  # each takes memory
    for kind in ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF"):
        file = io.BytesIO()
        # A large JPEG, because the first large blocks of memory take longer than those after them.
        size = (2048, 1536) if kind == "JPEG" else (32, 32)
        Image.new("RGB", size, "red").save(file, kind)
        read("picture", file)
    sound = io.BytesIO()
    with wave.open(sound, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(b"\0\x40" * 800)
    for kind in ("audio", "heard"):
        read(kind, io.BytesIO(sound.getvalue()), 1.0)
    for other in (b"\0\0\0\x18ftypheic" + bytes(64), b"no picture"):
        with contextlib.suppress(ValueError):
            read("picture", io.BytesIO(other))


def _lock_in() -> None:
    """Set the limits that hold for all files: nothing is written, no other file or address is opened."""
    _set(resource.RLIMIT_FSIZE, 0)
    _set(resource.RLIMIT_CORE, 0)
    # One for the file, one for libtiff, which duplicates it.
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    _set(resource.RLIMIT_NOFILE, free + 2)
    if size := _size():  # on Linux, which alone obeys this limit
        _set(resource.RLIMIT_AS, size + MEMORY)


def _set(limit: int, value: int) -> None:
    """Set a limit; the one of CPU time is moved with every file, the others for good."""
    hard = resource.getrlimit(limit)[1] if limit == resource.RLIMIT_CPU else value
    with contextlib.suppress(ValueError, OSError):  # a host's own limit is lower
        resource.setrlimit(limit, (value, hard))


if __name__ == "__main__":
    sys.exit(main())
