"""Worker processes: the jobs of a long run that do not wait for each other, each in a process of its own.

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
WORKERS = 2
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """One job of a long run.

    done: whether it has been done. share: its share of the whole run, roughly. after: the names of the jobs
    that must be done first. run: does the job in this process; None if it needs a process of its own.
    command: arguments of python that do the job in another process and can be resumed; empty if that is not
    possible.
    """

    name: str
    done: Callable[[], bool]
    share: float
    after: tuple[str, ...] = ()
    run: Callable[[], None] | None = None
    command: tuple[str, ...] = ()


def workers_for(device: torch.device) -> int:
    """How many jobs may run at the same time: several on a CPU, one on a GPU, which it has to itself."""
    return min(WORKERS, os.cpu_count() or 1) if device.type == "cpu" else 1


def run_jobs(jobs: Sequence[Job], workers: int) -> None:
    """Do every job that is not done, at most `workers` at a time, and log how much of the run is left.

    A job that is the only one ready is done in this process with all its threads. Ctrl-C reaches every
    process and leaves it the time to save. Raises ValueError if one fails, after the others have stopped.
    """
    finished = {job.name for job in jobs if job.done()}
    progress = _Progress(jobs, finished)
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while len(finished) < len(jobs):
            ready = _ready(jobs, finished, running)
            alone = not running and (workers == 1 or len(ready) == 1 or not ready[0].command)
            if alone and ready[0].run:
                progress.begin(ready[0])
                ready[0].run()
                progress.end(ready[0])
                finished.add(ready[0].name)
                continue
            room = 1 if alone else workers
            for job in [job for job in ready if job.command][: room - len(running)]:
                progress.begin(job)
                running[job.name] = _start(job, max(1, (os.cpu_count() or 1) // room))
            for job in _ended(jobs, running):
                _check(job, running.pop(job.name).returncode)
                progress.end(job)
                finished.add(job.name)
            time.sleep(POLL_SECONDS)
    finally:
        _stop(list(running.values()))


def _ready(jobs: Sequence[Job], finished: set[str], running: dict[str, object]) -> list[Job]:
    return [
        job
        for job in jobs
        if job.name not in finished and job.name not in running and finished.issuperset(job.after)
    ]


def _ended(jobs: Sequence[Job], running: dict[str, subprocess.Popen[bytes]]) -> list[Job]:
    return [p for p in jobs if p.name in running and running[p.name].poll() is not None]


def _start(job: Job, threads: int) -> subprocess.Popen[bytes]:
    """In a session of its own: only `_stop` tells it of a Ctrl-C, so that it hears of it once.

    stdout stays that of the command which runs the jobs.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, *job.command]
    return subprocess.Popen(command, env=environment, stdout=sys.stderr, start_new_session=True)


def _check(job: Job, status: int) -> None:
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        raise ValueError(f"{job.name} failed; its message is above.")


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

    def __init__(self, jobs: Sequence[Job], finished: set[str]) -> None:
        self.total = sum(job.share for job in jobs)
        self.before = sum(job.share for job in jobs if job.name in finished)
        self.since = 0.0
        self.count = len(jobs)
        self.numbers = {job.name: number for number, job in enumerate(jobs, start=1)}
        self.began = time.monotonic()

    def begin(self, job: Job) -> None:
        """Log a line."""
        done = self.before + self.since
        left = ""
        if self.since:
            seconds = (time.monotonic() - self.began) / self.since * (self.total - done)
            left = f", about {seconds / 60:.0f} min left"
        share = 100 * done / self.total
        log.info(
            "[%d/%d] %s (%.0f %% done%s)",
            self.numbers[job.name],
            self.count,
            job.name,
            share,
            left,
        )

    def end(self, job: Job) -> None:
        """Count it."""
        self.since += job.share
