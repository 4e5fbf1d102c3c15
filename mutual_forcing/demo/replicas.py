"""Several replicas of the page behind one address: nginx keeps visitors with the replica that knows them.

mutual-forcing replicas 2 --port 7860            # two on this machine, and nginx before them
mutual-forcing replicas --at 10.0.0.4:7860 --at 10.0.0.5:7860   # nginx before pages that run elsewhere
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from .limits import Limits
from .nginx import configuration

HEALTH = "/gradio_api/health"
_MOST_REPLICAS = 64
_READY_SECONDS = 600
_END_SECONDS = 15
_AGAIN_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)
"""How long a replica that ended by itself is left alone before it is started again, and again."""


class Replica:
    """One page in a process of its own, started again when it ends by itself."""

    def __init__(self, number: int, command: Sequence[str], environment: dict[str, str]) -> None:
        """Choose a free port; `start` starts it.

        Args:
            number: from 1 on, what it is called.
            command: the page's program with its options, but for its address.
            environment: of the process.
        """
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.number, self._environment = number, environment
        host, port = self.address.split(":")
        self._command = [*command, "--host", host, "--port", port]
        self._process: subprocess.Popen[bytes] | None = None
        self._ends, self._due = 0, 0.0

    def start(self) -> None:
        """Start the process, in a group of its own: Ctrl-C is for this program, which ends it then."""
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.DEVNULL, start_new_session=True
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None, "it was started"
        return self._process.pid

    def ready(self) -> bool:
        """Whether it answers; raises RuntimeError if it has ended."""
        assert self._process is not None, "it was started"
        if self._process.poll() is not None:
            raise RuntimeError(f"Replica {self.number} did not start; what it said stands above.")
        with suppress(OSError):
            urllib.request.urlopen(f"http://{self.address}{HEALTH}", timeout=5).close()
            return True
        return False

    def watch(self) -> None:
        """Start it again if it has ended, later each time. Called every second or so."""
        if self._process is None:
            if time.monotonic() >= self._due:
                self.start()
        elif (status := self._process.poll()) is not None:
            wait = _AGAIN_SECONDS[min(self._ends, len(_AGAIN_SECONDS) - 1)]
            _say(
                f"Replica {self.number} ended ({status}): its streams are lost, and it is started again."
            )
            self._ends, self._due, self._process = self._ends + 1, time.monotonic() + wait, None

    def end(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait until it has ended, and kill it if that takes too long."""
        if self._process is not None:
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def run(
    replicas: Sequence[Replica],
    addresses: Sequence[str],
    listen: str,
    limits: Limits,
    behind_proxy: bool,
) -> None:
    """Run nginx before `addresses`, and the replicas of them that are of this program, until interrupted.

    Raises:
        ValueError: an address is none.
        OSError: nginx is not installed, or does not start.
        RuntimeError: a replica does not start.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise OSError("nginx is not installed: apt install nginx, or brew install nginx.")
    host, _, port = listen.rpartition(":")
    try:
        socket.create_server((host, int(port))).close()
    except OSError as error:
        raise OSError(f"Cannot listen on {listen}: {error.strerror or error}.") from error
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="mutual-forcing-nginx-"))
        )
        folder.chmod(0o755)  # As root its workers are nobody, and keep large bodies here.
        text = configuration(
            addresses, listen, folder, upload_mb=limits.upload_mb, behind_proxy=behind_proxy
        )
        (folder / "nginx.conf").write_text(text, encoding="utf-8")
        for replica in replicas:
            stack.callback(replica.wait)
        for replica in replicas:
            stack.callback(replica.end)
            replica.start()
        waiting, patience = list(replicas), time.monotonic() + _READY_SECONDS
        while waiting:
            waiting = [replica for replica in waiting if not replica.ready()]
            if time.monotonic() > patience:
                raise RuntimeError(f"Replica {waiting[0].number} does not answer.")
            time.sleep(0.2)
        nginx = subprocess.Popen(
            [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"],
            start_new_session=True,
        )
        stack.callback(nginx.wait)
        stack.callback(nginx.terminate)
        _say(f"* {len(addresses)} replicas at http://{listen}/")
        for number, address in enumerate(addresses, 1):
            pid = f", process {replicas[number - 1].pid}" if replicas else ""
            _say(f"  replica {number}: {address}{pid}")
        while nginx.poll() is None:
            for replica in replicas:
                replica.watch()
            time.sleep(0.5)
        raise OSError(f"nginx ended ({nginx.returncode}); what it said stands above.")


def _environment(count: int) -> dict[str, str]:
    """The environment of each of `count` replicas: they share the processors, unless it says otherwise."""
    threads = max(1, (os.cpu_count() or 1) // count)
    return {"OMP_NUM_THREADS": str(threads), **os.environ}


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    head, _, examples = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="mutual-forcing replicas", description=head, epilog=examples.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("count", type=int, nargs="?", help=f"replicas here, 1 to {_MOST_REPLICAS}")
    parser.add_argument("--checkpoint", default="tiny", help="as of `mutual-forcing serve`")
    parser.add_argument(
        "--device",
        action="append",
        help="may be given several times: replicas take turns (cuda:0, cuda:1)",
    )
    for name in ("--engine", "--streams"):
        parser.add_argument(name, help="as of `mutual-forcing serve`, for each of them")
    parser.add_argument("--host", default="127.0.0.1", help="address of nginx (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=7860, help="port of nginx (default: 7860)")
    parser.add_argument(
        "--at",
        action="append",
        metavar="HOST:PORT",
        help="a page that runs elsewhere; instead of a count",
    )
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help="another proxy stands before nginx, and only it can reach it",
    )
    parser.add_argument(
        "--print", action="store_true", help="only print nginx's configuration (with --at)"
    )
    options = parser.parse_args(arguments)
    if bool(options.at) == bool(options.count):
        parser.error("give how many replicas to start, or --at for each that runs elsewhere.")
    if options.count is not None and not 1 <= options.count <= _MOST_REPLICAS:
        parser.error(f"the count must be 1 to {_MOST_REPLICAS}, not {options.count}.")
    if options.print and not options.at:
        parser.error("--print needs the addresses of the replicas: --at HOST:PORT.")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    options = _options(arguments)
    listen = f"{options.host}:{options.port}"
    try:
        limits = Limits.from_environment()
        if options.print:
            text = configuration(
                options.at, listen, Path("/run"), upload_mb=limits.upload_mb,
                errors="/var/log/nginx/error.log", behind_proxy=options.behind_proxy,
            )  # fmt: skip
            _say(text.rstrip())
            return 0
        devices: list[str] = options.device or []
        replicas: list[Replica] = []
        for number in range(1, (options.count or 0) + 1):
            command = [
                sys.executable,
                "-m",
                "mutual_forcing.demo.server",
                "--checkpoint",
                options.checkpoint,
            ]
            command += ["--device", devices[(number - 1) % len(devices)]] if devices else []
            command += ["--engine", options.engine] if options.engine else []
            command += ["--streams", options.streams] if options.streams else []
            replicas.append(Replica(number, command, _environment(options.count)))
        addresses = options.at or [replica.address for replica in replicas]
        if threading.current_thread() is threading.main_thread():
            for name in (
                signal.SIGINT,
                signal.SIGTERM,
            ):  # a shell's background job ignores the first
                signal.signal(name, signal.default_int_handler)
        run(replicas, addresses, listen, limits, options.behind_proxy)
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"replicas: {error}\n")
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
