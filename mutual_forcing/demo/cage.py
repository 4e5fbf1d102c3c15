"""The one place where the page opens strangers' pictures, sounds and films: a process of its own.

`cage_worker` runs in it, under limits of memory, time and files that hold before anything is decoded. It
opens one file at a time, which it is handed open, and answers with plain numbers that are checked here; a
process that dies, hangs or answers nonsense is replaced, and its file refused with one sentence. Windows
has no such limits (no `resource`): there the files are opened one by one in the page's own process. macOS
does not obey the limit of memory.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mutual_forcing import media
from mutual_forcing.config import FILM_RATE, SAMPLE_RATE
from mutual_forcing.media import MediaError

from . import cage_worker

HELD = sys.platform != "win32"
"""Whether files are opened in a process of their own."""
log = logging.getLogger(__name__)
SECONDS = 20.0
"""How long one file may take; the worker's limit of CPU time is lower."""
_WAIT_SECONDS = 60.0
"""How long a file waits for those before it."""
_START_SECONDS = 60.0
_MAX_HEADER = 4096
_MAX_COMMENT = 2**20
_BUSY = "The page is busy with other files; try again in a minute."
_CLOSED = "The page cannot open files at the moment; try again in a minute."
_TYPES = {"audio": np.float32, "heard": np.int16}
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
"""Environment variables that the worker may see: the page's password and tokens are in others."""


def read_image(path: str | Path) -> np.ndarray:
    """Return `media.read_image(path)`, read in the cage; raises ValueError with one sentence."""
    return _CAGE.ask(_Job("picture", media.MAX_IMAGE_BYTES), path)


def read_audio(path: str | Path, *, max_seconds: float = media.MAX_AUDIO_SECONDS) -> np.ndarray:
    """Return `media.read_audio(path)`, read in the cage; raises ValueError with one sentence."""
    return _CAGE.ask(_Job("audio", media.MAX_AUDIO_BYTES, max_seconds), path)


def read_heard(path: str | Path, *, max_seconds: float = media.MAX_AUDIO_SECONDS) -> np.ndarray:
    """Return `media.read_heard(path)`, read in the cage; raises ValueError with one sentence."""
    return _CAGE.ask(_Job("heard", media.MAX_AUDIO_BYTES, max_seconds), path)


def read_comment(path: str | Path) -> str:
    """Return `media.read_comment(path)`, read in the cage; raises ValueError with one sentence."""
    return _CAGE.ask(_Job("film", media.MAX_AUDIO_BYTES), path).tobytes().decode()


def start() -> None:
    """Start the worker before there is a file, so that the first visitor does not wait for it."""
    _CAGE.start()


def stop() -> None:
    """End the worker; the next file starts another one."""
    _CAGE.stop()


class _Job(NamedTuple):
    """What is read from a file; see cage_worker.read."""

    kind: str
    most_bytes: int
    max_seconds: float = 0.0

    @property
    def name(self) -> str:
        """What sentences call the file."""
        return "audio file" if self.kind in ("audio", "heard") else self.kind

    def room(self, shape: Any) -> np.ndarray:
        """Return an empty array for an answer of that shape; raises ValueError if it cannot be right."""
        if not isinstance(shape, list) or not all(type(side) is int for side in shape):
            raise ValueError(f"{shape!r} is no shape")
        most = {
            "picture": (media.MAX_IMAGE_SIDE, media.MAX_IMAGE_SIDE, 3),
            # A second more, because the limit is one of whole frames.
            "audio": (math.ceil((self.max_seconds + 1) * SAMPLE_RATE),),
            "heard": (math.ceil((self.max_seconds + 1) * FILM_RATE), 2),
            "film": (_MAX_COMMENT,),
        }[self.kind]
        least = {"picture": (1, 1, 3), "audio": (1,), "heard": (1, 1), "film": (0,)}[self.kind]
        if len(shape) != len(most) or not all(
            low <= side <= high for low, side, high in zip(least, shape, most, strict=True)
        ):
            raise ValueError(f"{shape} is no shape of a {self.name}")
        return np.empty(shape, _TYPES.get(self.kind, np.uint8))

    def check(self, answer: np.ndarray) -> None:
        """Raise ValueError for values that the reader never returns."""
        if self.kind == "audio" and not (answer.min() >= -1 and answer.max() <= 1):
            raise ValueError("samples beyond -1..1, or that are no numbers")


class _Worker:
    """A process that runs cage_worker, and the socket to it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {
            "PYTHONPATH": paths,
            # One heap, whose large blocks go back to the system: memory then is what is in use.
            "MALLOC_ARENA_MAX": "1",
            "MALLOC_MMAP_THRESHOLD_": str(2**20),
            # In small pages, taking them anew for every picture would cost it tens of milliseconds.
            "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mutual_forcing.demo.cage_worker"],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=environment, start_new_session=True,
            )  # fmt: skip
        self.ready = self._spent = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked: it runs, and has given back what files took."""
        return not self._spent and self._process.poll() is None

    def ask(self, job: _Job, file: int, seconds: float) -> np.ndarray:
        """Return what is read from an open file.

        Raises MediaError with the reader's sentence, ValueError for a wrong answer, and OSError or EOFError
        (TimeoutError after `seconds`) for none.
        """
        if not self.ready:
            self._header(time.monotonic() + _START_SECONDS)
            self.ready = True
        until = time.monotonic() + seconds
        request = json.dumps({"kind": job.kind, "max_seconds": job.max_seconds})
        socket.send_fds(self._socket, [request.encode()], [file])
        header = self._header(until)
        self._spent = bool(header.get("spent"))
        if "error" in header:
            raise MediaError(_sentence(header["error"]))
        answer = job.room(header.get("shape"))
        self._receive(answer.data.cast("B") if answer.size else memoryview(b""), until)
        job.check(answer)
        return answer

    def _header(self, until: float) -> dict[str, Any]:
        length = bytearray(4)
        self._receive(memoryview(length), until)
        size = int.from_bytes(length, "big")
        if size > _MAX_HEADER:
            raise ValueError(f"a header of {size} bytes")
        text = bytearray(size)
        self._receive(memoryview(text), until)
        header = json.loads(text)
        if not isinstance(header, dict):
            raise ValueError("a header that is no object")
        return header

    def _receive(self, room: memoryview, until: float) -> None:
        while room:
            self._socket.settimeout(max(until - time.monotonic(), 1e-3))
            count = self._socket.recv_into(room)
            if not count:
                raise EOFError("no more answer")
            room = room[count:]

    def end(self) -> None:
        """Kill the process; whoever waits for its answer gets an EOFError or an OSError."""
        self._process.kill()
        self._process.wait()
        self._socket.close()


class _Cage:
    """The worker, which is replaced when it is lost, and whose turn it is to ask it."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._worker: _Worker | None = None

    def start(self) -> None:
        if HELD:
            with self._turn:
                self._running()

    def stop(self) -> None:
        worker = self._worker
        if worker:
            worker.end()  # before the turn comes: a file in progress does not delay the end
        with self._turn:
            if self._worker:
                self._worker.end()
            self._worker = None

    def ask(self, job: _Job, path: str | Path) -> np.ndarray:
        with media.open_limited(path, job.most_bytes, job.name) as file:
            if not self._turn.acquire(timeout=_WAIT_SECONDS):
                raise MediaError(_BUSY)
            try:
                if not HELD:
                    return cage_worker.read(job.kind, file, job.max_seconds)
                return self._ask(job, file.fileno())
            finally:
                self._turn.release()

    def _ask(self, job: _Job, file: int) -> np.ndarray:
        worker = self._running()
        try:
            return worker.ask(job, file, SECONDS)
        except MediaError:
            raise
        except (ValueError, OSError, EOFError) as error:
            log.info("The worker is replaced at a %s: %r", job.name, error)
            worker.end()
            raise MediaError(media.too_costly(job.name) if worker.ready else _CLOSED) from error
        finally:
            self._running()  # The next visitor does not wait for it.

    def _running(self) -> _Worker:
        """Return a worker that can be asked, which takes a moment to be ready if it is new."""
        if self._worker and not self._worker.alive:
            self._worker.end()
            self._worker = None
        self._worker = self._worker or _Worker()
        return self._worker


def _sentence(text: Any) -> str:
    """Return what the worker says if it can be shown; raises ValueError otherwise."""
    if not isinstance(text, str) or not text.isprintable() or not 0 < len(text) < 300:
        raise ValueError("no sentence")
    return text


_CAGE = _Cage()
atexit.register(_CAGE.stop)
