"""The web application around the page: its start and end, its middleware, its names."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import gradio as gr
import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from serving import wait_for

import app
from mutual_forcing.checkpoint import save_checkpoint
from mutual_forcing.demo import server
from mutual_forcing.demo.gpu import report_startup
from mutual_forcing.demo.limits import Limits
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.demo.video_store import ROUTE

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "mutual_forcing" / "demo"


@pytest.fixture(scope="module", autouse=True)
def unmeasured():
    """The machine's speed is not measured: it would take longer than the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SessionManager, "measure_in_background", lambda _: None)
        yield


@pytest.fixture(scope="module")
def application(random_generator):
    return app.build_app(random_generator, Limits(upload_mb=1))


@pytest.fixture(scope="module")
def web(application):
    """A client inside the application's lifespan."""
    with TestClient(application, raise_server_exceptions=False) as web:
        yield web


def test_the_endpoints_are_those_of_the_documentation(application):
    """Names are promises to clients: whoever changes one changes docs/serving.md too."""
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    section = text.partition("## Client\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(/\w+)`", section, re.MULTILINE)
    described = application.state.page.get_api_info()
    assert documented and sorted(described["named_endpoints"]) == sorted(documented)
    assert described["unnamed_endpoints"] == {}
    parameters = {name: [] for name in documented}
    for name, arguments in re.findall(r"^\| `(/\w+)` \| ([^|]*) \|", section, re.MULTILINE):
        parameters[name] = re.findall(r"`(\w+)`", arguments)
    for name, endpoint in described["named_endpoints"].items():
        assert [p["parameter_name"] for p in endpoint["parameters"]] == parameters[name], name


def test_public_events_have_their_own_names(application):
    public = [f for f in application.state.page.fns.values() if f.api_visibility == "public"]
    assert not [f.api_name for f in public if re.search(r"_\d+$", f.api_name)]


def test_gradio_is_neither_patched_nor_opened():
    """No private attribute of another object, and no function put into one but where a stream's state asks.

    The exception is said beside its line, in server.py.
    """
    found = []
    for path in sorted(DEMO.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        functions = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        functions |= {n.name for n in ast.walk(tree) if isinstance(n, ast.AsyncFunctionDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                found += [] if own else [(path.name, node.attr)]
            if isinstance(node, ast.Assign):
                put = isinstance(node.value, ast.Lambda) or (
                    isinstance(node.value, ast.Name) and node.value.id in functions
                )
                targets = [t.attr for t in node.targets if isinstance(t, ast.Attribute)]
                own = ("abandoned",)  # of StreamState, which is ours
                found += [(path.name, name) for name in targets if put and name not in own]
        assert "setattr(" not in source, path
    assert found == [("server.py", "_local_url")]


def test_requests_that_are_too_large_are_refused_whatever_they_bring(web):
    file = bytes(700_000)
    one, two = [("files", ("a.png", file))], [("files", (f"{n}.png", file)) for n in range(2)]
    assert web.post("/gradio_api/upload", files=one).status_code == 200
    assert web.post("/gradio_api/upload", files=two).status_code == 413
    long = {"data": ["a" * 2**20]}
    for path in ("queue/join", "call/generate", "call/v2/generate", "run/predict", "cancel"):
        answer = web.post(f"/gradio_api/{path}", json=long)
        assert (answer.status_code, answer.text) == (413, "The request is too large."), path

    def chunks():
        for _ in range(20):
            yield b" " * 100_000

    for path in ("queue/join", "run/predict"):  # without a length
        assert web.post(f"/gradio_api/{path}", content=chunks()).status_code == 413, path


def test_every_answer_tells_browsers_not_to_guess(web):
    for path in ("/", "/config", ROUTE + "none", "/nowhere", "/gradio_api/info"):
        assert web.get(path).headers["x-content-type-options"] == "nosniff", path


def test_the_queue_cannot_be_started_twice(web):
    assert web.get("/gradio_api/startup-events").json() is False


@pytest.mark.slow
def test_the_application_starts_and_ends_sessions(random_generator):
    application = app.build_app(random_generator)
    page = application.state.page
    assert not page.is_running
    with TestClient(application) as web:
        assert web.get("/config").status_code == 200 and page.is_running
    assert not page.is_running


@pytest.mark.slow
def test_a_server_ends_at_once_though_pages_are_open(random_generator, caplog):
    caplog.set_level(logging.WARNING)
    with httpx.Client() as web:
        with app.serving(random_generator, host="127.0.0.1") as address:
            request = web.build_request("GET", f"{address}gradio_api/heartbeat/open-page")
            heartbeat = web.send(request, stream=True)
            lines = heartbeat.iter_lines()
            assert next(lines) == "data: ALIVE"
            began = time.monotonic()
        assert time.monotonic() - began < server._GRACE_SECONDS
        assert list(lines) == [
            "",
        ], "the response was ended, not broken off"
    assert not caplog.records, caplog.text


@pytest.mark.slow
def test_ports_are_tried_in_turn_and_errors_are_one_sentence(random_generator, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("GRADIO_SERVER_PORT", str(port))
        monkeypatch.setenv("GRADIO_SERVER_NAME", "127.0.0.1")
        with app.serving(random_generator) as address:
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
            assert port < int(address.rsplit(":", 1)[1].rstrip("/")) < port + 100
            assert httpx.get(address).status_code == 200
        monkeypatch.setenv("GRADIO_NUM_PORTS", "1")
        taken_message = rf"^On 127.0.0.1 port {port} is taken: choose .*\.$"
        with pytest.raises(OSError, match=taken_message), app.serving(random_generator):
            pass
    elsewhere = app.serving(random_generator, host="192.0.2.1", port=0)
    with pytest.raises(OSError, match=r"^Cannot listen on 192.0.2.1, port 0: .*\.$"), elsewhere:
        pass


@pytest.mark.slow
def test_a_public_link_is_asked_for_and_may_fail(random_generator, monkeypatch, capsys, caplog):
    asked = []

    def tunnel(host: str, port: int, token: str, *_: object) -> str:
        asked.append((host, port))
        if len(asked) > 1:
            raise RuntimeError("no network")
        return "http://1234.gradio.live"

    monkeypatch.setattr("gradio.networking.setup_tunnel", tunnel)
    with app.serving(random_generator, host="127.0.0.1", share=True) as address:
        assert asked == [("127.0.0.1", int(address.rsplit(":", 1)[1].rstrip("/")))]
    assert capsys.readouterr().out == "* Running on public URL: https://1234.gradio.live\n"
    monkeypatch.setenv("GRADIO_SHARE", "True")
    with app.serving(random_generator, host="127.0.0.1"):
        assert len(asked) == 2
    assert "There is no public link: no network" in caplog.text


@pytest.mark.slow
def test_any_asgi_server_runs_it(random_generator):
    """As `uvicorn` would on the command line, and behind a proxy that adds a folder."""

    async def visit() -> str:
        config = uvicorn.Config(app.build_app(random_generator), port=0, log_level="warning")
        running = uvicorn.Server(config)
        task = asyncio.create_task(running.serve())
        while not running.started:
            await asyncio.sleep(0.01)
        port = running.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient() as web:
            headers = {"x-forwarded-host": "example.org", "x-forwarded-proto": "https"}
            config = (await web.get(f"http://127.0.0.1:{port}/config", headers=headers)).json()
        running.should_exit = True
        await task
        return config["root"]

    assert asyncio.run(visit()) == "https://example.org"


def test_a_folder_of_a_proxy_is_part_of_the_pages_addresses(random_generator, monkeypatch):
    monkeypatch.setenv("GRADIO_ROOT_PATH", "/talk")
    with TestClient(app.build_app(random_generator), base_url="http://example.org") as web:
        assert web.get("/config").json()["root"] == "http://example.org/talk"


def test_zerogpu_is_told_before_the_page_is_served(random_generator, monkeypatch):
    """What `spaces` does when Blocks.launch is called: see docs/serving.md."""
    told = []
    config = types.ModuleType("spaces.config")
    config.Config = types.SimpleNamespace(zero_gpu=True)
    zero = types.ModuleType("spaces.zero")
    stand_in = types.ModuleType("spaces")

    def gpu(duration: float):
        told.append("function")
        return lambda function: function

    stand_in.GPU, zero.startup = gpu, lambda: told.append("startup")
    for module in (stand_in, config, zero):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    with app.serving(random_generator, host="127.0.0.1") as address:
        assert told == ["function", "startup"]
        servers = [getattr(page, "server", None) for page in gr.Blocks.get_instances()]
        # `spaces` closes the server's connections in its processes, which it finds by their port.
        port = int(address.rsplit(":", 1)[1].rstrip("/"))
        assert port in [server.config.port for server in servers if server]


def test_without_zerogpu_nobody_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces.config", None)
    report_startup()


@pytest.mark.slow
def test_ctrl_c_ends_the_command_tidily(random_generator, tmp_path):
    save_checkpoint(random_generator.system, tmp_path / "checkpoint", {})
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mutual_forcing.cli", "serve"]
    process = subprocess.Popen(
        [*command, "--checkpoint", str(tmp_path / "checkpoint"), "--device", "cpu", "--port", str(port)],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_for(url, process, lambda: process.communicate()[0])
        with httpx.stream("GET", f"{url}gradio_api/heartbeat/open-page") as heartbeat:
            next(heartbeat.iter_lines())
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert output == f"* Running on local URL:  {url}\n", output
