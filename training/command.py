"""How every command of this package ends: by saying in one sentence what went wrong, if anything did."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable

INTERRUPTED = 130
"""Exit status after a Ctrl-C, as shells have it."""
OURS = ("training", "mutual_forcing", "__main__")
"""Whose progress is told; of other libraries only warnings are. (The exporting one names its logger after
its file, so that it cannot be told by its own name.)
"""


class Interrupted(Exception):  # noqa: N818 - not an error: the user's Ctrl-C, with everything saved
    """Training was stopped by the user after saving its state."""


def run(action: Callable[[], object]) -> int:
    """Run `action` with progress on the log; returns the exit status. SIGTERM ends it as Ctrl-C does."""
    logging.basicConfig(format="%(message)s")
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        action()
    except (KeyboardInterrupt, Interrupted):
        sys.stderr.write("Stopped; run the same command again to go on.\n")
        return INTERRUPTED
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
