"""Ray Serve before two replicas of the engine: every stream stays with its own, and a lost one is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import portraits
import pytest
from films import assert_same
from serving import wait_for

from mutual_forcing import StreamingGenerator
from mutual_forcing.checkpoint import save_checkpoint
from mutual_forcing.engine import EngineError, ray_serve
from mutual_forcing.engine.ray_serve import EngineOptions
from mutual_forcing.engine.remote import RemoteGenerator
from mutual_forcing.engine.service import SESSION
from mutual_forcing.types import GenerationRequest

HELLO = GenerationRequest(
    portraits.portrait(), "Hello there.", steps=2, seconds=1.92, size=128, framing="face"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(StreamingGenerator.random("smoke").system, folder, {})
    return folder


@pytest.fixture(scope="module")
def address(checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of `mutual-forcing engine --replicas 2`, for real."""
    pytest.importorskip("ray", reason="pip install -e .[serve]")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("engine") / "log"
    command = [
        sys.executable, "-m", "mutual_forcing.cli", "engine", "--checkpoint", str(checkpoint),
        "--replicas", "2", "--cpus", "1", "--gpus", "0", "--port", str(port),
    ]  # fmt: skip
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=environment, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log.read_text)
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def replica_of(address: str, home: str) -> int:
    """Process of the replica of that name; for any other name always the same one."""
    answer = httpx.get(f"{address}/health", headers={SESSION: home}, timeout=60)
    return answer.raise_for_status().json()["pid"]


@pytest.mark.slow
@pytest.mark.distributed
def test_streams_stay_with_their_replica_and_a_lost_one_is_told(address, checkpoint) -> None:
    own = StreamingGenerator.from_pretrained(checkpoint, device="cpu")
    far = RemoteGenerator(address, checkpoint, streams=4)
    asked = [replace(HELLO, seed=seed) for seed in range(6)]
    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(far.start, asked))
        films = list(pool.map(lambda state: list(far.stream(state=state)), states))
    homes = {state.name: replica_of(address, state.home) for state in states}
    # Homes are drawn, and the first may be up before the second.
    while len(set(homes.values())) < 2:
        states.append(far.start(HELLO))
        films.append(list(far.stream(state=states[-1])))
        homes[states[-1].name] = replica_of(address, states[-1].home)
    for state, film in zip(states, films, strict=True):
        assert_same(film, list(own.stream(state.request)), exactly=False)

    for state in states:  # Continued: only its replica knows the past.
        far.extend(state, "More.")
        assert next(far.stream(state=state)).index == 3
    lost = homes[states[0].name]
    os.kill(lost, signal.SIGKILL)
    ends = {}
    for state in states:
        try:
            ends[state.name] = next(far.stream(state=state)).index
        except EngineError as error:
            assert str(error).endswith(".") and "machine" in str(error)
            ends[state.name] = None
    for name, home in homes.items():
        assert (ends[name] is None) == (home == lost), "only the lost replica's streams are lost"
    newcomers = [far.start(HELLO) for _ in range(5)]  # All by the replica that is left.
    for state in newcomers:
        assert next(far.stream(state=state)).index == 0, "whoever comes now is served"
    for _ in range(600):  # Ray starts another in its place.
        if len({replica_of(address, str(n)) for n in range(32)} - {lost}) == 2:
            break
        time.sleep(0.2)
    assert len({replica_of(address, str(n)) for n in range(32)} - {lost}) == 2
    for state in newcomers:
        assert next(far.stream(state=state)).index == 1, "and not lost when it comes"
    far.close()


def test_impossible_engines_are_refused(tmp_path, capsys) -> None:
    for wrong in ({"replicas": 0}, {"streams": 0}, {"cpus": 0}, {"gpus": -1.0}):
        with pytest.raises(ValueError, match=r"There must be|no less"):
            EngineOptions(**wrong)
    pytest.importorskip("ray", reason="pip install -e .[serve]")
    assert ray_serve.main(["--checkpoint", str(tmp_path / "none")]) == 1
    assert ray_serve.main(["--replicas", "-1"]) == 1
    assert capsys.readouterr().err.count("\n") == 2
