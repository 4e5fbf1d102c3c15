"""Workers of one thread each, for what does not wait for each other: on a CPU they are done sooner than one
operation after another on all threads.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch

MOST = 4
"""As many as there are parts in a chunk's frames."""


@functools.cache
def workers(threads: int) -> ThreadPoolExecutor:
    """Up to four workers that share so many threads. Two of one thread make a chunk's frames in three
    quarters of the time that two threads take for one operation after another.
    """
    count = min(threads, MOST)
    pool, all_there = ThreadPoolExecutor(count, "worker"), Barrier(count)

    def settle() -> None:
        torch.set_num_threads(threads // count)
        all_there.wait()

    for done in [pool.submit(settle) for _ in range(count)]:
        done.result()
    # What a thread sets is also what later ones begin with.
    torch.set_num_threads(threads)
    return pool
