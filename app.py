"""The web page: run `python app.py` and open the address that it prints."""

import contextlib
import sys

with contextlib.suppress(ImportError):
    import spaces  # noqa: F401  ZeroGPU wants it before anything that may use CUDA.

from mutual_forcing.demo.server import build_app, build_demo, main, serve, serving

__all__ = ["build_app", "build_demo", "main", "serve", "serving"]

if __name__ == "__main__":
    sys.exit(main())
