"""Waiting for an app.py that a test started."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable


def wait_for(url: str, process: subprocess.Popen, output: Callable[[], str]) -> None:
    """Return once `url` answers; AssertionError with its `output` when it ends or after ten minutes."""
    for _ in range(1200):
        if process.poll() is not None:
            raise AssertionError(f"app.py ended: {output()}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    raise AssertionError("app.py did not answer.")
