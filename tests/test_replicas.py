"""nginx before several servers: who comes where, what is passed on and how; and the command's refusals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import HTTPConnection

from mutual_forcing.demo import replicas
from mutual_forcing.demo.addresses import address_of
from mutual_forcing.demo.nginx import configuration

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="no nginx here: apt install nginx")


class Echo(ThreadingHTTPServer):
    """Stands where a replica does: tells its number and what it was asked; streams until it shall end."""

    def __init__(self, number: int, port: int = 0) -> None:
        self.number, self.end = number, threading.Event()
        super().__init__(("127.0.0.1", port), _EchoHandler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def leave(self) -> None:
        self.end.set()
        self.shutdown()
        self.server_close()


class _EchoHandler(BaseHTTPRequestHandler):
    server: Echo

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/stream":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"first")
            self.wfile.flush()
            self.server.end.wait(30)
            self.wfile.write(b"last")
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        told = {"number": self.server.number, "headers": dict(self.headers), "bytes": len(body)}
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET  # noqa: N815


@contextlib.contextmanager
def nginx(folder: Path, servers: list[str], **options: Any) -> Iterator[str]:
    """nginx with our configuration before `servers`; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    assert NGINX is not None
    folder.chmod(0o755)
    text = configuration(servers, listen, folder, errors=str(folder / "errors"), **options)
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(tuple_of(listen), 1):
                break
            assert process.poll() is None, (folder / "errors").read_text()
            time.sleep(0.05)
        yield f"http://{listen}"
    finally:
        process.terminate()
        process.wait(20)


def tuple_of(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host, int(port)


@pytest.fixture
def pair() -> Iterator[list[Echo]]:
    servers = [Echo(1), Echo(2)]
    yield servers
    for server in servers:
        server.leave()


def asked(url: str, **options: Any) -> dict[str, Any]:
    return httpx.get(url, **options).raise_for_status().json()


@needs_nginx
def test_who_loads_the_page_stays_where_it_came_from(pair, tmp_path) -> None:
    with nginx(tmp_path, [server.address for server in pair]) as address:
        visitors = [httpx.Client(base_url=address) for _ in range(6)]
        homes = [visitor.get("/?view=x").json()["number"] for visitor in visitors]
        assert set(homes) == {1, 2}, "newcomers are spread"
        for _ in range(3):
            assert [visitor.get("/any/where").json()["number"] for visitor in visitors] == homes
        cookie = visitors[0].get("/").headers["set-cookie"]
        assert cookie == f"mf_replica={homes[0]}; Path=/; HttpOnly; SameSite=Lax"
        assert "set-cookie" not in visitors[0].get("/gradio_api/health").headers


@pytest.mark.slow
@needs_nginx
def test_callers_without_cookies_stay_too(pair, tmp_path) -> None:
    with nginx(tmp_path, [server.address for server in pair]) as address:
        assert len({asked(address + "/call")["number"] for _ in range(5)}) == 1
        named = {
            name: {
                asked(address + "/call", headers={"X-Session-Id": name})["number"] for _ in range(3)
            }
            for name in map(str, range(20))
        }
        assert all(len(numbers) == 1 for numbers in named.values())
        assert set.union(*named.values()) == {1, 2}
        for wrong in ("3", "x", "", "1;2", "pages"):
            asked(address + "/", headers={"Cookie": f"mf_replica={wrong}"})


@needs_nginx
def test_a_lost_replicas_visitors_move_and_stay_moved(pair, tmp_path) -> None:
    with nginx(tmp_path, [server.address for server in pair]) as address:
        with httpx.Client(base_url=address) as visitor:
            home = visitor.get("/").json()["number"]
            lost, other = pair[home - 1], pair[2 - home]
            port = tuple_of(lost.address)[1]
            lost.leave()
            assert visitor.get("/any").json()["number"] == other.number
            assert visitor.post("/any", content=b"x").json()["number"] == other.number
            assert visitor.get("/").json()["number"] == other.number, "loads the page anew"
            pair[home - 1] = Echo(home, port)
            # With the old cookie the old one is asked again as soon as nginx may try it.
            for _ in range(200):
                back = asked(address + "/any", headers={"Cookie": f"mf_replica={home}"})["number"]
                if back == home:
                    break
                time.sleep(0.1)
            assert back == home
            assert visitor.get("/any").json()["number"] == other.number, "the new cookie holds"
        for server in pair:
            server.leave()
        gone = httpx.get(address)
        assert gone.status_code == 503 and gone.headers["retry-after"] == "30"
        assert gone.text == "No server is ready: try again in a minute.\n"
        pair.clear()


@needs_nginx
def test_what_is_streamed_arrives_as_it_is_made(pair, tmp_path) -> None:
    with (
        nginx(tmp_path, [server.address for server in pair]) as address,
        httpx.stream("GET", address + "/stream", timeout=20) as answer,
    ):
        parts = answer.iter_raw()
        assert next(parts) == b"first", "before the rest was written"
        for server in pair:
            server.end.set()
        assert b"".join(parts) == b"last"


@needs_nginx
def test_headers_and_sizes(pair, tmp_path) -> None:
    with nginx(tmp_path, [server.address for server in pair], upload_mb=1) as address:
        invented = {"X-Forwarded-For": "8.8.8.8, 9.9.9.9", "X-Forwarded-Host": "evil.example"}
        told = asked(address + "/", headers=invented)["headers"]
        assert told["X-Forwarded-For"] == "127.0.0.1", (
            "what a client says of itself is not passed on"
        )
        assert told["X-Forwarded-Host"] == told["Host"] == address.removeprefix("http://")
        assert told["X-Forwarded-Proto"] == "http" and "Upgrade" not in told
        socket_headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
        told = asked(address + "/ws", headers=socket_headers)["headers"]
        assert told["Upgrade"] == "websocket" and told["Connection"] == "upgrade"
        assert httpx.post(address, content=bytes(2**20)).json()["bytes"] == 2**20
        refused = httpx.post(address, content=bytes(2 * 2**20 + 1))
        assert refused.status_code == 413 and refused.text == "The request is too large.\n"


@needs_nginx
def test_behind_another_proxy_its_client_is_the_visitor(pair, tmp_path) -> None:
    servers = [server.address for server in pair]
    with nginx(tmp_path, servers, behind_proxy=True) as address:
        told = asked(address + "/", headers={"X-Forwarded-For": "1.1.1.1, 8.8.8.8"})["headers"]
    hops = told["X-Forwarded-For"]
    assert hops == "1.1.1.1, 8.8.8.8, 127.0.0.1"
    scope = {
        "type": "http",
        "client": ("127.0.0.1", 1),
        "headers": [(b"x-forwarded-for", hops.encode())],
    }
    assert address_of(HTTPConnection(scope)) == "8.8.8.8", "the first one may be invented"


@needs_nginx
@pytest.mark.parametrize("count", [1, 2, 9])
def test_nginx_takes_the_configuration(count, tmp_path) -> None:
    servers = [f"127.0.0.{number + 1}:7860" for number in range(count)]
    text = configuration(servers, "0.0.0.0:8080", tmp_path, errors=str(tmp_path / "errors"))
    (tmp_path / "nginx.conf").write_text(text, encoding="utf-8")
    assert NGINX is not None
    command = [NGINX, "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_addresses_are_checked(tmp_path) -> None:
    with pytest.raises(ValueError, match="at least one replica"):
        configuration([], "127.0.0.1:80", tmp_path)
    for wrong in ("127.0.0.1", "a:b", "a:1; evil", "a:1\n", ""):
        with pytest.raises(ValueError, match=r"is no address: give HOST:PORT\.$"):
            configuration([wrong], "127.0.0.1:80", tmp_path)


def test_the_command_prints_what_a_host_needs(capsys) -> None:
    assert replicas.main(["--at", "10.0.0.4:7860", "--at", "10.0.0.5:7860", "--print"]) == 0
    text = capsys.readouterr().out
    assert "upstream replica_2 { server 10.0.0.5:7860" in text and "listen 127.0.0.1:7860;" in text
    told = re.sub(r"#.*|@large|@nobody", "", text)
    assert "@" not in told, "every place is filled in"
    assert replicas.main(["--at", "nowhere", "--print"]) == 1
    assert capsys.readouterr().err == "replicas: 'nowhere' is no address: give HOST:PORT.\n"


@pytest.mark.parametrize("arguments", [[], ["0"], ["65"], ["2", "--at", "a:1"], ["2", "--print"]])
def test_wrong_options_are_refused(arguments, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        replicas.main(arguments)
    assert ended.value.code == 2 and "error:" in capsys.readouterr().err


def test_what_is_missing_or_taken_is_one_sentence(monkeypatch, capsys) -> None:
    if NGINX is not None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert replicas.main(["1", "--port", port]) == 1
        assert capsys.readouterr().err.startswith(f"replicas: Cannot listen on 127.0.0.1:{port}: ")
    monkeypatch.setattr(replicas.shutil, "which", lambda *_, **__: None)
    assert replicas.main(["1", "--port", "1"]) == 1
    assert capsys.readouterr().err.startswith("replicas: nginx is not installed: apt install nginx")


@pytest.mark.slow
@needs_nginx
def test_a_replica_that_does_not_start_ends_the_program(tmp_path, capfd) -> None:
    assert (
        replicas.main(["1", "--port", "18999", "--checkpoint", str(tmp_path / "none/at/all")]) == 1
    )
    told = capfd.readouterr().err
    assert "No checkpoint at" in told
    assert told.endswith("replicas: Replica 1 did not start; what it said stands above.\n")
