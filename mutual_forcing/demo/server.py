"""The page as a web application, and serving it: `python app.py`, or `mutual-forcing serve`."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from gradio import networking
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware

from . import cage
from .comparison_grid import ffmpeg_problem
from .event_stream import EventStreamEnds
from .gpu import leased, report_startup
from .limits import Limits
from .middleware import (
    BodyLimit,
    DiskQuota,
    EndOpenResponses,
    LoginThrottle,
    OneSentence,
    OpenResponses,
    OwnLogout,
    SafeHeaders,
    SameOrigin,
)
from .page import build_demo, mount_options
from .rate_limit import RateLimit
from .sessions import SessionManager

if TYPE_CHECKING:
    from mutual_forcing import StreamingGenerator

    from .blocks import Page

__all__ = ["build_app", "build_demo", "main", "serve", "serving"]
log = logging.getLogger(__name__)
_GRACE_SECONDS = 5
"""How long a server that ends waits for its responses."""


def build_app(generator: StreamingGenerator, limits: Limits | None = None) -> FastAPI:
    """Return the web application: the page at "/", its API at "/gradio_api" and the films.

    Any ASGI server can run it; sessions and background work start and end with it. Its state holds `page`
    and `responses` (middleware.OpenResponses), which a server should end before it waits for them.

    Args:
        generator: makes the videos.
        limits: what visitors may do; None reads the MF_* environment variables (limits.py).
    """
    limits = limits or Limits.from_environment()
    sessions = SessionManager(generator, limits)
    page = build_demo(generator, sessions)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        cage.start()
        sessions.measure_in_background()
        try:
            yield
        finally:
            page.close(verbose=False)
            await run_in_threadpool(sessions.close)
            await run_in_threadpool(cage.stop)

    app = page_app(page, limits, lifespan=lifespan, routes=[sessions.videos.route()])
    return gr.mount_gradio_app(app, page, path="/", **mount_options(sessions))


def page_app(page: Page, limits: Limits, **options: Any) -> FastAPI:
    """Return an application with the middleware of `page`, which is to be mounted at "/".

    Args:
        page: made with the same limits.
        limits: what visitors may do.
        options: more options of FastAPI.
    """
    responses = OpenResponses()
    middleware = [
        Middleware(EndOpenResponses, responses=responses),
        Middleware(SafeHeaders, private=bool(limits.password), replica=str(page.app_id)),
        Middleware(OneSentence),
        Middleware(BodyLimit, upload=limits.upload_mb * 2**20),
        Middleware(DiskQuota, folder=Path(page.GRADIO_CACHE), most=limits.disk_mb * 2**20),
        Middleware(EventStreamEnds),
        Middleware(RateLimit, page=page),
    ]
    if limits.password:
        middleware[2:2] = [Middleware(SameOrigin), Middleware(LoginThrottle), Middleware(OwnLogout)]
    app = FastAPI(openapi_url=None, middleware=middleware, **options)
    app.state.page, app.state.responses = page, responses

    @app.get("/gradio_api/startup-events")
    def startup_events() -> bool:
        """Say that the queue runs. Gradio's own route would start a mounted page's queue once more."""
        return False

    @app.get("/gradio_api/health")
    def health() -> dict[str, str]:
        """Say that this process answers, without a password: for what watches over it."""
        return {"status": "ok", "replica": str(page.app_id)}

    return app


class _Server(uvicorn.Server):
    """A server that first ends the responses that would not end by themselves."""

    def __init__(self, config: uvicorn.Config, responses: OpenResponses) -> None:
        super().__init__(config)
        self._responses = responses

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._responses.end()
        await super().shutdown(sockets)

    def close(self) -> None:
        """Begin to end; `gr.close_all` calls it."""
        self.should_exit = True


@contextlib.contextmanager
def listening(app: FastAPI, host: str | None = None, port: int | None = None) -> Iterator[str]:
    """Run `app`, made by `build_app` or `page_app`, while the block lasts; yield its local address.

    Args:
        app: the application.
        host: address to listen on; None uses GRADIO_SERVER_NAME, else 127.0.0.1.
        port: port to listen on; None uses the first free one from GRADIO_SERVER_PORT, else 7860.

    Raises:
        OSError: the port is taken, or it is not possible to listen on the address.
    """
    host = (host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1").strip("[]")
    page: Page = app.state.page
    with _bound(host, port) as sock:
        bound: int = sock.getsockname()[1]
        config = uvicorn.Config(
            app, host, bound, log_level="warning", timeout_graceful_shutdown=_GRACE_SECONDS
        )
        server = _Server(config, app.state.responses)
        page.server = server
        named = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        address = f"http://{named}:{bound}/"
        if page.mcp_server_obj:
            # Private, and only `Blocks.launch` sets it: without it Gradio's MCP server would call back
            # whichever host its first caller named.
            page.mcp_server_obj._local_url = address
        thread = threading.Thread(target=server.run, args=([sock],), name="server", daemon=True)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise RuntimeError("The server did not start.")
                thread.join(0.01)
            yield address
        finally:
            server.should_exit = True
            thread.join()


def _bound(host: str, port: int | None) -> socket.socket:
    """Return a listening socket; raises OSError with one sentence if there is none."""
    first = int(os.environ.get("GRADIO_SERVER_PORT") or 7860)
    count = int(os.environ.get("GRADIO_NUM_PORTS") or 100)
    ports = range(first, first + count) if port is None else [port]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in ports:
        try:
            return socket.create_server((host, number), family=family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                reason = error.strerror or str(error)
                raise OSError(f"Cannot listen on {host}, port {number}: {reason}.") from error
    tried = f"port {ports[0]} is" if len(ports) == 1 else f"ports {ports[0]} to {ports[-1]} are"
    raise OSError(f"On {host} {tried} taken: choose another with --port or GRADIO_SERVER_PORT.")


@contextlib.contextmanager
def serving(
    generator: StreamingGenerator,
    *,
    host: str | None = None,
    port: int | None = None,
    share: bool | None = None,
    limits: Limits | None = None,
) -> Iterator[str]:
    """Serve the page while the block lasts; yield its local address.

    Args:
        generator: makes the videos.
        host: address to listen on; None uses GRADIO_SERVER_NAME, else 127.0.0.1.
        port: port to listen on; None uses the first free one from GRADIO_SERVER_PORT, else 7860.
        share: whether to make a public link; None asks GRADIO_SHARE.
        limits: what visitors may do; None reads the MF_* environment variables (limits.py).

    Raises:
        OSError: the port is taken, or it is not possible to listen on the address.
    """
    app = build_app(generator, limits)
    report_startup()
    with listening(app, host, port) as address:
        if share or (share is None and os.environ.get("GRADIO_SHARE", "").lower() == "true"):
            _share(address)
        yield address


def _share(address: str) -> None:
    """Write a public link to the page at `address`, which ends with the program; or why there is none."""
    host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    try:
        link = networking.setup_tunnel(host, int(port), secrets.token_urlsafe(32), None, None)
    except Exception as error:  # No network, no program for the tunnel, no server of Gradio.
        log.warning("There is no public link: %s", error)
    else:
        link = link.replace("http://", "https://", 1)
        sys.stdout.write(f"* Running on public URL: {link}\n")


def serve(
    generator: StreamingGenerator,
    *,
    host: str | None = None,
    port: int | None = None,
    share: bool | None = None,
    limits: Limits | None = None,
) -> None:
    """Serve the page until interrupted. Arguments and errors are those of `serving`."""
    with serving(generator, host=host, port=port, share=share, limits=limits) as address:
        sys.stdout.write(f"* Running on local URL:  {address}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


_M_ARENA_MAX = -8
"""glibc's name for it (malloc.h)."""


def _share_heaps() -> None:
    """Let all threads take memory from two of glibc's heaps, before there are threads.

    Each of the page's threads has one of its own otherwise, and keeps in it what its largest chunk took: with
    24 visitors at once a page grew from 0.4 to 1.0 GB in two minutes, and stays at 0.7 GB so.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the checkpoint and serve until interrupted; return the exit status."""
    parser = argparse.ArgumentParser(prog="app.py", description=__doc__)
    parser.add_argument(
        "--checkpoint", default="tiny",
        help="a name, a folder, or OWNER/NAME[@REVISION] on the Hub (default: tiny)",
    )  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda, ... (default: CUDA when there is one)")
    parser.add_argument(
        "--engine", metavar="URL",
        help="let an engine make the films that has the same checkpoint (mutual-forcing engine)",
    )  # fmt: skip
    parser.add_argument(
        "--streams", type=int, default=4, help="films that an engine makes at a time (default: 4)"
    )
    parser.add_argument("--host", help="address to listen on (default: GRADIO_SERVER_NAME)")
    parser.add_argument("--port", type=int, help="port (default: GRADIO_SERVER_PORT, else 7860)")
    parser.add_argument("--share", action="store_true", default=None, help="make a public link")
    options = parser.parse_args(arguments)
    _share_heaps()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Imported late, because it is slow; wrong arguments are reported first.
    from mutual_forcing import StreamingGenerator, provenance
    from mutual_forcing.engine import EngineError
    from mutual_forcing.engine.remote import RemoteGenerator

    try:
        limits = Limits.from_environment()
        provenance.check()
        # On ZeroGPU only leases have a GPU, so the page itself runs on the CPU.
        device = options.device or ("cpu" if leased() else None)
        if options.engine and (leased() or options.device):
            raise ValueError(
                "With --engine the page computes nothing itself: no --device, no ZeroGPU."
            )
        if options.engine:
            generator = RemoteGenerator(options.engine, options.checkpoint, options.streams)
        else:
            generator = StreamingGenerator.from_pretrained(options.checkpoint, device=device)
    except (ValueError, OSError, EngineError) as error:
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
    except KeyboardInterrupt:  # Before the page was up, or once more while it ends.
        pass
    return 0


def _refuse(error: Exception, context: str = "") -> int:
    """Write the error as one line and return the exit status."""
    reason = " ".join(str(error).split()) or type(error).__name__
    sys.stderr.write(f"app.py: {context}{reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
