"""The web page: `python app.py`, then open the address it prints."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from demo.compare_grid import film_maker_problem
from demo.gpu import leased
from demo.limits import Limits
from demo.page import build_demo, launch_options
from demo.studio import Studio

if TYPE_CHECKING:
    import gradio as gr

    from mutual_forcing import StreamingGenerator

__all__ = ["build_demo", "main", "serve"]


def serve(
    generator: StreamingGenerator,
    *,
    host: str | None = None,
    port: int | None = None,
    share: bool | None = None,
    block: bool = True,
    limits: Limits | None = None,
) -> str:
    """Serve the page and return its local address; None leaves a choice to Gradio's environment.

    limits: what visitors may do; None reads the MF_* environment variables (see demo/limits.py).
    With block=False `gr.close_all()` ends it. Raises OSError for a port that is taken.
    """
    limits = limits or Limits.from_environment()
    studio = Studio(generator, limits)
    demo = build_demo(generator, studio)
    _close_together(demo, studio)
    studio.measure_in_background()
    try:
        _, address, _ = demo.launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=not block,
            **launch_options(studio),
        )
    except BaseException:
        studio.close()
        raise
    if block:
        studio.close()
    return address


def _close_together(demo: gr.Blocks, studio: Studio) -> None:
    """Let closing the page also end the studio: its threads and its files."""
    close_page = demo.close

    def close(*arguments: Any, **options: Any) -> None:
        close_page(*arguments, **options)
        studio.close()

    demo.close = close  # type: ignore[method-assign]


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the checkpoint and serve until interrupted; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="tiny", help="a name or a folder (default: tiny)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: CUDA when there is one)")
    parser.add_argument("--host", help="address to listen on (default: GRADIO_SERVER_NAME)")
    parser.add_argument("--port", type=int, help="port (default: GRADIO_SERVER_PORT, else 7860)")
    parser.add_argument("--share", action="store_true", default=None, help="make a public link")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    from mutual_forcing import (
        StreamingGenerator,
    )  # heavy: after the arguments are known to be right

    try:
        limits = Limits.from_environment()
        # A borrowed GPU is only there inside a lease: the page itself stays on the CPU.
        device = options.device or ("cpu" if leased() else None)
        generator = StreamingGenerator.from_pretrained(options.checkpoint, device=device)
    except (ValueError, OSError) as error:
        return _refuse(error)
    except (KeyError, TypeError, AttributeError) as error:  # a config.json of something else
        return _refuse(error, f"{options.checkpoint} is no checkpoint of this project: ")
    except (RuntimeError, ArithmeticError, AssertionError, MemoryError) as error:
        # Sizes that no network can have or no memory holds, a device that is not there.
        return _refuse(error, f"{options.checkpoint} cannot be loaded here: ")
    problem = film_maker_problem()
    if problem:
        sys.stderr.write(f"app.py: {problem}\n")
    # A host ends a program with SIGTERM: as tidily as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve(generator, host=options.host, port=options.port, share=options.share, limits=limits)
    except OSError as error:  # such as a port that is taken
        return _refuse(error)
    except KeyboardInterrupt:  # before the page was up; later Gradio takes care of it
        pass
    return 0


def _refuse(error: Exception, said: str = "") -> int:
    """Write what stands in the way as one line; return the exit status."""
    reason = " ".join(str(error).split()) or type(error).__name__
    sys.stderr.write(f"app.py: {said}{reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
