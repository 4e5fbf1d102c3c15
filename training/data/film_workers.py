"""Work on films in processes of their own: whatever a decoder does to its process, the run goes on."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

from .synthesize import single_threaded

JobT = TypeVar("JobT")
Task = Callable[[JobT, Callable[[float], None]], None]
"""Does a job and tells, as it goes on, how many seconds of film it has been through since it last told."""
DIED = "The process that read it ended: it takes too much memory, or breaks its decoder."
STUCK = "It takes too long to be read."
SILENT = 900.0
"""Seconds without a word after which a process is ended."""


class _OrphanedError(BaseException):
    """Whoever wanted a job has ended: nothing of it may be written. No task takes this for an error of its
    own.
    """


@dataclass
class _Worker(Generic[JobT]):
    process: BaseProcess
    pipe: Connection
    job: JobT | None = None
    heard: float = field(default_factory=time.monotonic)


def run_apart(
    task: Task[JobT], jobs: Sequence[JobT], workers: int, silent: float = SILENT
) -> Iterator[tuple[JobT, float | str | None]]:
    """Do jobs in `workers` processes of one thread each.

    Yields a job with how many seconds it went on, with None when it is done, and with a sentence when its
    process ended or said nothing for `silent` seconds. An error of the task is raised here, after the
    others have been stopped, as at Ctrl-C.
    """
    context = multiprocessing.get_context("spawn")
    waiting, crew = list(reversed(jobs)), []

    def hire() -> _Worker[JobT]:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(task, theirs), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def employ(worker: _Worker[JobT]) -> None:
        worker.job = waiting.pop() if waiting else None
        worker.heard = time.monotonic()
        if worker.job is not None:
            # One that has died since is found out when its news are asked for.
            with contextlib.suppress(OSError):
                worker.pipe.send(worker.job)

    try:
        with single_threaded():
            crew = [hire() for _ in range(min(workers, len(jobs)))]
            for worker in crew:
                employ(worker)
            while busy := [worker for worker in crew if worker.job is not None]:
                wait([worker.pipe for worker in busy], timeout=1.0)
                for worker in busy:
                    for job, said in _news(worker, silent):
                        if isinstance(said, Exception):
                            raise said
                        yield job, said
                        if isinstance(said, str):
                            crew.remove(worker)
                            _end(worker)
                            worker = hire()
                            crew.append(worker)
                        if not isinstance(said, float):
                            employ(worker)
    finally:
        for worker in crew:
            _end(worker)


def _news(
    worker: _Worker[JobT], silent: float
) -> list[tuple[JobT, float | str | Exception | None]]:
    """What a worker has told since."""
    job, news = worker.job, []
    assert job is not None
    try:
        while worker.pipe.poll():
            said = worker.pipe.recv()
            worker.heard = time.monotonic()
            news.append((job, said))
            if not isinstance(said, float):
                return news
    except (EOFError, OSError):
        return [*news, (job, DIED)]
    if time.monotonic() - worker.heard > silent:
        news.append((job, STUCK))
    return news


def _end(worker: _Worker[JobT]) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def _serve(task: Task[JobT], pipe: Connection) -> None:
    """A worker's life: one job after the other, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which is left to the parent

    def tell(seconds: float) -> None:
        try:
            pipe.send(float(seconds))
        except OSError:
            raise _OrphanedError from None

    with contextlib.suppress(EOFError, OSError, _OrphanedError):
        while True:
            job = pipe.recv()
            try:
                task(job, tell)
            except MemoryError:
                pipe.send(DIED)
                return
            except Exception as error:
                pipe.send(error)
                return
            pipe.send(None)
