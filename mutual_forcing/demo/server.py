"""Loading a checkpoint and serving the page: `python app.py`, or `mutual-forcing serve`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .comparison_grid import ffmpeg_problem
from .gpu import leased
from .limits import Limits
from .page import build_demo, launch_options
from .sessions import SessionManager

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
    """Serve the page and return its local address.

    Args:
        generator: makes the videos.
        host: address to listen on; None uses Gradio's environment variables, also below.
        port: port to listen on.
        share: whether to make a public link.
        block: whether to serve until interrupted; otherwise `gr.close_all()` ends it.
        limits: what visitors may do; None reads the MF_* environment variables (limits.py).

    Raises:
        OSError: the port is taken.
    """
    limits = limits or Limits.from_environment()
    sessions = SessionManager(generator, limits)
    demo = build_demo(generator, sessions)
    _close_together(demo, sessions)
    sessions.measure_in_background()
    try:
        _, address, _ = demo.launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=not block,
            **launch_options(sessions),
        )
    except BaseException:
        sessions.close()
        raise
    if block:
        sessions.close()
    return address


def _close_together(demo: gr.Blocks, sessions: SessionManager) -> None:
    """Let closing the page also close the session manager with its threads and files."""
    close_page = demo.close

    def close(*arguments: Any, **options: Any) -> None:
        close_page(*arguments, **options)
        sessions.close()

    demo.close = close  # type: ignore[method-assign]


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the checkpoint and serve until interrupted; return the exit status."""
    parser = argparse.ArgumentParser(prog="app.py", description=__doc__)
    parser.add_argument("--checkpoint", default="tiny", help="a name or a folder (default: tiny)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: CUDA when there is one)")
    parser.add_argument("--host", help="address to listen on (default: GRADIO_SERVER_NAME)")
    parser.add_argument("--port", type=int, help="port (default: GRADIO_SERVER_PORT, else 7860)")
    parser.add_argument("--share", action="store_true", default=None, help="make a public link")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Imported late, because it is slow; wrong arguments are reported first.
    from mutual_forcing import StreamingGenerator

    try:
        limits = Limits.from_environment()
        # On ZeroGPU only leases have a GPU, so the page itself runs on the CPU.
        device = options.device or ("cpu" if leased() else None)
        generator = StreamingGenerator.from_pretrained(options.checkpoint, device=device)
    except (ValueError, OSError) as error:
        return _refuse(error)
    except (KeyError, TypeError, AttributeError) as error:  # A config.json of another project.
        return _refuse(error, f"{options.checkpoint} is no checkpoint of this project: ")
    except (RuntimeError, ArithmeticError, AssertionError, MemoryError) as error:
        # Impossible or too large sizes, or a missing device.
        return _refuse(error, f"{options.checkpoint} cannot be loaded here: ")
    problem = ffmpeg_problem()
    if problem:
        sys.stderr.write(f"app.py: {problem}\n")
    # Hosts end programs with SIGTERM, which is handled like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve(generator, host=options.host, port=options.port, share=options.share, limits=limits)
    except OSError as error:  # For example, the port is taken.
        return _refuse(error)
    except KeyboardInterrupt:  # Before the page was up; later Gradio handles it.
        pass
    return 0


def _refuse(error: Exception, context: str = "") -> int:
    """Write the error as one line and return the exit status."""
    reason = " ".join(str(error).split()) or type(error).__name__
    sys.stderr.write(f"app.py: {context}{reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
