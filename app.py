"""The web page: run `python app.py` and open the address that it prints."""

import sys

from mutual_forcing.demo.server import build_demo, main, serve

__all__ = ["build_demo", "main", "serve"]

if __name__ == "__main__":
    sys.exit(main())
