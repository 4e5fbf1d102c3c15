"""The engine on several GPUs or machines, by Ray Serve.

mutual-forcing engine --replicas 2                        # on this machine
mutual-forcing engine --replicas 8 --address auto         # on a cluster that `ray start` has made
python app.py --engine http://127.0.0.1:8000 --streams 8  # a page, or several, before it
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fastapi import FastAPI

from ..checkpoint import find_checkpoint
from ..streaming import StreamingGenerator
from .service import Engine, application

NAME = "mutual-forcing"
_READY_SECONDS = 600.0
_ROUTER = "mutual_forcing.engine.router.HomeRouter"


@dataclass(frozen=True)
class EngineOptions:
    """What a replica is. Raises ValueError for numbers that make no sense.

    checkpoint: as StreamingGenerator.from_pretrained takes it, found on every machine.
    replicas: how many there are.
    streams: how many one of them makes at a time.
    cpus: processors of one, and the threads that it computes with.
    gpus: of one; 0.5 lets two share one.
    """

    checkpoint: str = "tiny"
    replicas: int = 1
    streams: int = 4
    cpus: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if min(self.replicas, self.streams, self.cpus) < 1:
            raise ValueError("There must be a replica, a stream and a processor at least.")
        if self.gpus < 0:
            raise ValueError("A replica has no less than 0 GPUs.")


def deployment(options: EngineOptions) -> Any:
    """The Ray Serve application of an engine: a stream's requests, which name their replica in the header
    x-session-id, stay with it.
    """
    from ray import serve
    from ray.serve.config import RequestRouterConfig

    router = RequestRouterConfig(
        request_router_class=_ROUTER,  # pyright: ignore[reportArgumentType] # Ray's stubs
        request_router_kwargs={"num_fallback_replicas": 0},
    )
    replica = serve.deployment(
        serve.ingress(_builder(options))(),
        name="Engine",
        num_replicas=options.replicas,
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        # More than may run: a full replica refuses by itself, and must be able to.
        max_ongoing_requests=8 * options.streams + 16,
        request_router_config=router,
    )
    return replica.bind()


def _builder(options: EngineOptions) -> Callable[[], FastAPI]:
    def build() -> FastAPI:
        from ray import serve

        home = serve.get_replica_context().replica_id.unique_id
        torch.set_num_threads(options.cpus)
        generator = StreamingGenerator.from_pretrained(
            options.checkpoint, device="cuda" if options.gpus else "cpu"
        )
        generator.warm_up()
        return application(Engine(generator, options.streams), home)

    return build


def run(options: EngineOptions, host: str, port: int, address: str | None = None) -> None:
    """Deploy the engine at http://HOST:PORT, and return once it answers; `end` ends it.

    address: of a Ray cluster, "auto" for that of this machine; None starts one here, without a dashboard.
    Raises RuntimeError where a replica does not start, or finds no room.
    """
    # Ray ends a proxy that does not answer so soon, and begins another: busy machines got none.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", f"{_READY_SECONDS:.0f}")
    # Its processes give way to all others by default; these are what the machine is for.
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray
    from ray import serve

    here: dict[str, Any] = {}
    if address is None:
        # Of what they have, processes of one machine need no more than their number.
        cpus = max(os.cpu_count() or 1, options.replicas * options.cpus)
        memory = 256 * 2**20
        here = {"include_dashboard": False, "object_store_memory": memory, "num_cpus": cpus}
    ray.init(
        address=address, namespace=NAME, log_to_driver=False, configure_logging=False, **here
    )  # fmt: skip
    patience = time.monotonic() + _READY_SECONDS
    while True:
        try:
            serve.start(http_options={"host": host, "port": port})
            break
        except TimeoutError:  # after a minute; the second call goes on waiting
            if time.monotonic() > patience:
                raise
    serve.run(deployment(options), name=NAME, route_prefix="/")


def end() -> None:
    """End the engine; a cluster that was there before goes on without it."""
    import ray
    from ray import serve

    with contextlib.suppress(Exception):  # Whatever is left ends with its cluster or its process.
        serve.delete(NAME)
    ray.shutdown()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the engine until interrupted; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="mutual-forcing engine", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--checkpoint", default="tiny", help="name, folder or Hub repository")
    parser.add_argument("--replicas", type=int, default=1, help="processes, each with the model")
    parser.add_argument("--streams", type=int, default=4, help="films that one makes at a time")
    parser.add_argument("--cpus", type=int, help="processors of one (default: an equal share)")
    gpu = 1.0 if torch.cuda.is_available() else 0.0
    parser.add_argument(
        "--gpus",
        type=float,
        default=gpu,
        help="GPUs of one; 0.5: two share one (default: %(default)s)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="it believes whoever reaches it")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--address", help="of a Ray cluster; auto: this machine's (default: a new one)"
    )
    given = parser.parse_args(arguments)
    cpus = given.cpus or max(1, (os.cpu_count() or 1) // max(1, given.replicas))
    if importlib.util.find_spec("ray") is None:
        sys.stderr.write("The engine needs Ray Serve: pip install -e '.[serve]' in a checkout.\n")
        return 1
    try:
        options = EngineOptions(given.checkpoint, given.replicas, given.streams, cpus, given.gpus)
        find_checkpoint(options.checkpoint)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        run(options, given.host, given.port, given.address)
        sys.stdout.write(f"* {options.replicas} replicas at http://{given.host}:{given.port}\n")
        sys.stdout.flush()
        stopped.wait()
    except Exception as error:  # Ray has many kinds, and its own traceback in its logs
        sys.stderr.write(f"The engine did not start: {' '.join(str(error).split())}\n")
        return 1
    finally:
        end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
