"""Parts of a long run that do not wait for each other, each in a process of its own.

On a CPU two processes of one thread do nearly twice the work of one process of two.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .command import INTERRUPTED

log = logging.getLogger(__name__)
LANES = 2
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Part:
    """One part of a whole.

    done: whether it is. share: of the whole, roughly. after: what must be done before. run: do it in this
    process; None if it needs one of its own. command: arguments of python that do it in another process,
    resumably; empty if that cannot be.
    """

    name: str
    done: Callable[[], bool]
    share: float
    after: tuple[str, ...] = ()
    run: Callable[[], None] | None = None
    command: tuple[str, ...] = ()


def lanes_of(device: torch.device) -> int:
    """How many parts may run beside each other: on a GPU one has it all."""
    return min(LANES, os.cpu_count() or 1) if device.type == "cpu" else 1


def run_parts(parts: Sequence[Part], lanes: int) -> None:
    """Do every part that is not done, at most `lanes` at a time; tell how much of the whole is left.

    What is ready alone is done in this process with all its threads. Ctrl-C reaches every process, which
    are given the time to save. Raises ValueError if one fails, after the others have stopped.
    """
    finished = {part.name for part in parts if part.done()}
    progress = _Progress(parts, finished)
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while len(finished) < len(parts):
            ready = _ready(parts, finished, running)
            alone = not running and (lanes == 1 or len(ready) == 1 or not ready[0].command)
            if alone and ready[0].run:
                progress.begin(ready[0])
                ready[0].run()
                progress.end(ready[0])
                finished.add(ready[0].name)
                continue
            room = 1 if alone else lanes
            for part in [part for part in ready if part.command][: room - len(running)]:
                progress.begin(part)
                running[part.name] = _start(part, max(1, (os.cpu_count() or 1) // room))
            for part in _ended(parts, running):
                _check(part, running.pop(part.name).returncode)
                progress.end(part)
                finished.add(part.name)
            time.sleep(POLL_SECONDS)
    finally:
        _stop(list(running.values()))


def _ready(parts: Sequence[Part], finished: set[str], running: dict[str, object]) -> list[Part]:
    return [
        part
        for part in parts
        if part.name not in finished
        and part.name not in running
        and finished.issuperset(part.after)
    ]


def _ended(parts: Sequence[Part], running: dict[str, subprocess.Popen[bytes]]) -> list[Part]:
    return [p for p in parts if p.name in running and running[p.name].poll() is not None]


def _start(part: Part, threads: int) -> subprocess.Popen[bytes]:
    """In a session of its own: only `_stop` tells it of a Ctrl-C, so that it hears of it once.

    stdout stays that of the command which runs the parts.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, *part.command]
    return subprocess.Popen(command, env=environment, stdout=sys.stderr, start_new_session=True)


def _check(part: Part, status: int) -> None:
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        raise ValueError(f"{part.name} failed; its message is above.")


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let every process save and end, by SIGTERM: in the background they are deaf to Ctrl-C. A second one is
    passed on too: they end without saving, and none is left behind.
    """
    for process in processes:
        process.terminate()
    try:
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait()
        raise


class _Progress:
    """Says what begins, and how long the rest will take at the pace so far."""

    def __init__(self, parts: Sequence[Part], finished: set[str]) -> None:
        self.total = sum(part.share for part in parts)
        self.before = sum(part.share for part in parts if part.name in finished)
        self.since = 0.0
        self.count = len(parts)
        self.numbers = {part.name: number for number, part in enumerate(parts, start=1)}
        self.began = time.monotonic()

    def begin(self, part: Part) -> None:
        """Log a line."""
        done = self.before + self.since
        left = ""
        if self.since:
            seconds = (time.monotonic() - self.began) / self.since * (self.total - done)
            left = f", about {seconds / 60:.0f} min left"
        share = 100 * done / self.total
        log.info(
            "[%d/%d] %s (%.0f %% done%s)",
            self.numbers[part.name],
            self.count,
            part.name,
            share,
            left,
        )

    def end(self, part: Part) -> None:
        """Count it."""
        self.since += part.share
