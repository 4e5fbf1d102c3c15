"""The Dockerfile, by what it says and by doing it: no container is started here, its commands are."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from serving import wait_for

from mutual_forcing import StreamingGenerator
from mutual_forcing.checkpoint import save_checkpoint

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile with its arguments on one line."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text).splitlines()
    split = (line.partition(" ") for line in joined if line.strip())
    return [(name, rest) for name, _, rest in split]


def values_of(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def copied() -> dict[str, str]:
    """What is copied, and to where."""
    pairs: dict[str, str] = {}
    for rest in values_of("COPY"):
        *sources, target = rest.split()
        pairs |= {s: s if target == "./" else target for s in sources}
    return pairs


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in values_of("ENV") for pair in shlex.split(rest))


def test_it_is_what_the_readme_says_and_runs_as_nobody() -> None:
    assert values_of("FROM") == ["python:3.11-slim-bookworm"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    install, start = re.search(r"^pip (install .*) && (python .*)$", readme, re.MULTILINE).groups()
    runs = values_of("RUN")
    wanted = shlex.split(install)
    assert any(set(wanted) <= set(shlex.split(run)) for run in runs), "installs the same"
    assert json.loads(values_of("ENTRYPOINT")[0]) == start.split()
    assert values_of("USER") == ["1000"] and any("--uid 1000" in run for run in runs)
    names = [name for name, _ in instructions()]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))
    assert "/gradio_api/health" in values_of("HEALTHCHECK")[0]


def test_only_what_the_page_needs_is_sent_and_all_of_it_is_there() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*" and {line[1:] for line in ignored if line[0] == "!"} == set(copied())
    assert all((ROOT / source).exists() for source in copied())


def test_the_code_comes_after_what_it_needs() -> None:
    """Otherwise every change of it would install torch anew."""
    lines = [f"{name} {rest}" for name, rest in instructions()]
    install = next(i for i, line in enumerate(lines) if "pip install" in line)
    code = {"app.py", "mutual_forcing"}
    assert not any(code & set(line.split()) for line in lines[:install])


@pytest.mark.slow
def test_what_is_copied_serves_the_page_and_is_healthy(tmp_path) -> None:
    for source, target in copied().items():
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / target)
    # The served checkpoint comes along; random weights start sooner.
    save_checkpoint(StreamingGenerator.random("smoke").system, tmp_path / "checkpoint", {})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    _, *program = json.loads(values_of("ENTRYPOINT")[0])
    _, _, check = values_of("HEALTHCHECK")[0].partition("CMD ")
    _, *check = json.loads(check)
    check = [part.replace(environment()["GRADIO_SERVER_PORT"], port) for part in check]
    told = {**environment(), "GRADIO_SERVER_PORT": port, "GRADIO_SERVER_NAME": "127.0.0.1"}
    assert subprocess.run([sys.executable, *check], capture_output=True, check=False).returncode
    process = subprocess.Popen(
        [sys.executable, *program, "--checkpoint", "checkpoint", "--device", "cpu"],
        cwd=tmp_path, env={**os.environ, **told, "PYTHONPATH": ""}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/", process, lambda: process.communicate()[0])
        subprocess.run([sys.executable, *check], check=True)
        process.send_signal(getattr(signal, values_of("STOPSIGNAL")[0]))
        assert process.wait(60) == 0
    finally:
        process.kill()
