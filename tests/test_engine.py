"""The engine: what a page asks for over HTTP is what a generator of its own would make."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import portraits
import pytest
import uvicorn
from films import assert_same
from safetensors.numpy import save

from mutual_forcing import AVChunk, StreamingGenerator
from mutual_forcing.checkpoint import save_checkpoint
from mutual_forcing.demo import events
from mutual_forcing.demo.progress import failure
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.engine import EngineError, remote, service
from mutual_forcing.engine.remote import RemoteGenerator
from mutual_forcing.engine.service import Engine, application
from mutual_forcing.engine.wire import (
    Wishes,
    pack_chunk,
    pack_request,
    pack_wishes,
    unpack_chunk,
    unpack_request,
    unpack_wishes,
)
from mutual_forcing.streaming import AbandonedError
from mutual_forcing.types import FaceCrop, GenerationRequest, Steering, TimedPhoneme, Transcript

VOICE = 0.1 * np.sin(np.arange(48_000) / 20).astype(np.float32)
HEARD = np.stack([np.arange(96_000) % 3000, np.arange(96_000) % 700], 1).astype(np.int16)
HELLO = GenerationRequest(
    portraits.portrait(), "Hello there.", steps=2, seconds=1.92, size=128, framing="face"
)


@contextlib.contextmanager
def served(engine: Engine) -> Iterator[str]:
    """An engine's application on a port of its own; yields its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application(engine), log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def folder(lively_generator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(lively_generator.system, folder, {})
    return folder


@pytest.fixture(scope="module")
def own(folder) -> StreamingGenerator:
    return StreamingGenerator.from_pretrained(folder, device="cpu")


@pytest.fixture
def engine(folder) -> Engine:
    return Engine(StreamingGenerator.from_pretrained(folder, device="cpu"), most=3)


@pytest.fixture
def far(folder, engine) -> Iterator[RemoteGenerator]:
    with served(engine) as address:
        generator = RemoteGenerator(address, folder, streams=3)
        yield generator
        generator.close()


def equal(one: object, other: object) -> bool:
    """Whether two dataclasses hold the same, arrays bit for bit."""
    return all(
        np.array_equal(getattr(one, f.name), getattr(other, f.name))
        for f in fields(one)  # pyright: ignore[reportArgumentType]
    )


FULL = replace(
    HELLO, text="こんにちは", language="ja", caption="happy", crop=FaceCrop(60.5, 64, 90, 0.1, 1.2),
    audio=VOICE, heard=HEARD, voice=VOICE[::-1], steps=np.int64(9), guidance_scale=2.5, seed=2**62,
    window=3, steering=Steering(look_up=-0.5), seconds=None,
    transcript=Transcript((TimedPhoneme("_", 0.0, 0.1 + 0.2),), (), ("☃",)),
)  # fmt: skip


def test_requests_chunks_and_wishes_come_as_they_went() -> None:
    for request in (HELLO, FULL):
        assert equal(unpack_request(pack_request(request)), request)
    frames = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)
    for heard in (None, HEARD[:30720]):
        chunk = AVChunk(3, 9, 1.92, frames, VOICE[:15360], 8, 0.1, heard)
        assert equal(unpack_chunk(pack_chunk(chunk)), chunk)
    for said in (None, FULL.transcript):
        wishes = Wishes(2, 938, "sad", 50, Steering(smile=1), said)
        assert unpack_wishes(pack_wishes(wishes)) == wishes


def test_strange_bytes_are_refused_in_one_sentence() -> None:
    good = pack_request(HELLO)
    text = {**json.loads(pack_wishes(Wishes(0, 1, "", 4, Steering())))}

    def request(**changes: object) -> bytes:
        values = {f.name: getattr(HELLO, f.name) for f in fields(HELLO) if f.name != "image"}
        values = {**values, "steering": vars(HELLO.steering), **changes}
        return save(
            {"image": HELLO.image, "json": np.frombuffer(json.dumps(values).encode(), np.uint8)}
        )

    def timed(end: object) -> dict[str, object]:
        return {
            "phonemes": [{"phoneme": "_", "start": 0, "end": end}],
            "words": [],
            "unspoken": [],
        }

    unpack_request(request())
    assert unpack_request(request(transcript=timed(1))).transcript
    for data in (
        b"", b"\x80\x04.", good[: len(good) // 2], good[:-1] + b"\x00\x00",
        save({"json": np.zeros(4, np.uint8)}),
        save({"image": HELLO.image}), save({"json": np.frombuffer(b"[" * 100_000, np.uint8)}),
        request(steps=0), request(steps="four"), request(crop={"x": 1}), request(crop=7), request(more=1),
        request(transcript={"phonemes": 3}), request(seed=True), request(window=4.5), request(window="4"),
        request(transcript=timed(None)), request(transcript=timed(1e999)),
        save({"image": HELLO.image, "seed": np.zeros(1), "json": np.frombuffer(b"{}", np.uint8)}),
        request(steering={"nod": 1}), request(seconds=1e9),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"^[A-Z].*\.$"):
            unpack_request(data)
        with pytest.raises(ValueError, match=r"^[A-Z].*\.$"):
            unpack_chunk(data)
    for changes in (
        {"index": -1}, {"total": 939}, {"total": True}, {"steps": 4.5}, {"caption": None}, {"more": 1},
        {"steering": None}, {"transcript": 4},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            unpack_wishes(json.dumps(text | changes).encode())


def test_a_stream_is_that_of_a_generator_of_ones_own(far, own) -> None:
    for request in (
        HELLO,
        replace(
            HELLO, text="こんにちは。", seconds=None, seed=5, caption="happy, lively", voice=VOICE
        ),
        replace(HELLO, steps=9, guidance_scale=3.0, window=2),
        replace(HELLO, text="", seconds=None, audio=VOICE, heard=HEARD),
        replace(HELLO, steering=Steering(turn_right=0.5), seconds=0.64),
    ):
        assert far.plan(request) == own.plan(request)
        assert_same(list(far.stream(request)), list(own.stream(request)))


def test_it_is_continued_steered_and_rests_as_ones_own(far, own) -> None:
    made = []
    for generator in (far, own):
        state = generator.start(replace(HELLO, seconds=None))
        chunks = [next(generator.stream(state=state))]
        generator.steer(state, steps=9, caption="sad", steering=Steering(smile=1))
        chunks += generator.stream(state=state)
        assert state.ended
        generator.extend(state, "And again.")
        generator.rest(state)
        generator.steer(state, steps=1)
        chunks += generator.stream(state=state)
        made.append(chunks)
        assert state.film_size == (128, 128) and state.seconds == len(chunks) * 0.64
        driven = generator.start(replace(HELLO, text="", seconds=None, audio=VOICE))
        with pytest.raises(ValueError, match="driven by audio"):
            generator.extend(driven, "More.")
    assert_same(*made)
    assert {chunk.nfe for chunk in made[0]} == {2, 18, 1}


def test_several_at_a_time_are_each_what_it_is_alone(far, own) -> None:
    asked = [
        HELLO, replace(HELLO, text="Something else.", seed=2, steps=4), replace(HELLO, steps=9, seconds=1.28),
    ]  # fmt: skip
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda request: list(far.stream(request)), asked))
    for chunks, request in zip(made, asked, strict=True):
        assert_same(chunks, list(own.stream(request)), exactly=False)


def test_a_full_engine_lets_wait_and_then_says_so(far, engine, monkeypatch) -> None:
    engine.most = 1
    first = far.start(HELLO)
    next(far.stream(state=first))
    monkeypatch.setattr(remote, "_FULL_SECONDS", 0.2)
    with pytest.raises(EngineError, match="Too many films") as full:
        far.start(HELLO)
    assert failure(full.value) == "Too many films are being made: try again in a minute."
    monkeypatch.setattr(remote, "_FULL_SECONDS", 600)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(far.start, HELLO)
        list(far.stream(state=first))
        assert waiting.result().total == first.total


def test_streams_that_begin_at_once_do_not_crowd(far, engine, monkeypatch) -> None:
    engine.most, start = 2, engine.model.start

    def slowly(request: GenerationRequest) -> object:
        time.sleep(0.2)
        return start(request)

    monkeypatch.setattr(engine.model, "start", slowly)
    body = pack_request(HELLO)

    def begin(number: int) -> int:
        return httpx.put(f"{far._address}/streams/{number}", content=body, timeout=60).status_code

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(begin, range(6)))
    assert sorted(answers) == [201, 201, 503, 503, 503, 503] and engine.running == 2


def test_a_place_is_free_as_soon_as_a_page_is_done_with_a_film(far, engine, monkeypatch) -> None:
    """However the film ended, and where it was refused; a chunk that takes long keeps its place."""
    engine.most = 1
    monkeypatch.setattr(remote, "_FULL_SECONDS", 20)
    sessions = SessionManager(far)
    try:
        with pytest.raises(ValueError, match="long"):
            list(sessions.begin("one", replace(HELLO, text="word " * 2000, seconds=None)))
        assert not engine._held, "nothing was begun"
        film = sessions.begin("one", replace(HELLO, seconds=3.2))
        next(film), next(film)
        film.close()
        sessions.forget("one")
        assert list(sessions.begin("two", HELLO))[-1].done
        far.prepare(HELLO)
        list(far.stream(HELLO))
        monkeypatch.setattr(service, "_RUNNING_SECONDS", 0.0)
        (held,) = (
            engine._held.values() if len(engine._held) == 1 else list(engine._held.values())[-1:]
        )
        with held.lock:
            assert held.runs and engine.full
        assert not held.runs
    finally:
        sessions.close()


def test_a_stream_that_rested_waits_for_a_place(far, engine, monkeypatch) -> None:
    monkeypatch.setattr(service, "_RUNNING_SECONDS", 0.2)
    monkeypatch.setattr(remote, "_AGAIN_SECONDS", 0.05)
    engine.most = 1
    first = far.start(HELLO)
    next(far.stream(state=first))
    time.sleep(0.3)
    second = far.start(HELLO)
    monkeypatch.setattr(remote, "_FULL_SECONDS", 0.0)
    monkeypatch.setattr(service, "_RUNNING_SECONDS", 60.0)
    engine._held[first.name].asked = 0.0
    with pytest.raises(EngineError, match="Too many"):
        next(far.stream(state=first))
    far.forget(second)
    monkeypatch.setattr(remote, "_FULL_SECONDS", 60.0)
    assert len(list(far.stream(state=first))) == 2


def test_an_abandoned_stream_ends_within_a_step_and_is_forgotten(far, engine, monkeypatch) -> None:
    begun, steps = threading.Event(), []
    advance = engine.model._batch.advance

    def slowly() -> object:
        begun.set()
        time.sleep(0.05)
        steps.append(1)
        return advance()

    monkeypatch.setattr(engine.model._batch, "advance", slowly)
    state = far.start(replace(HELLO, steps=50))
    state.abandoned = begun.is_set
    with pytest.raises(AbandonedError):
        next(far.stream(state=state))
    for _ in range(600):
        if not len(engine.model._batch):
            break
        time.sleep(0.02)
    assert len(steps) < 40 and engine.running == 0
    state.abandoned = None
    with pytest.raises(EngineError, match="has lost it: begin it again"):
        next(far.stream(state=state))


def test_a_page_that_dies_leaves_nothing_running(folder, engine, monkeypatch) -> None:
    begun, advance = threading.Event(), engine.model._batch.advance

    def slowly() -> object:
        begun.set()
        time.sleep(0.05)
        return advance()

    monkeypatch.setattr(engine.model._batch, "advance", slowly)
    with served(engine) as address:
        httpx.put(f"{address}/streams/one", content=pack_request(replace(HELLO, steps=50)))
        wishes = pack_wishes(Wishes(0, 3, "", 50, Steering()))
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as line:
            head = f"POST /streams/one/next HTTP/1.1\r\nHost: x\r\nContent-Length: {len(wishes)}\r\n\r\n"
            line.sendall(head.encode() + wishes)
            assert begun.wait(30)
        for _ in range(600):
            if not len(engine.model._batch):
                break
            time.sleep(0.02)
        assert not len(engine.model._batch) and engine.running == 0


def test_what_cannot_be_is_refused_and_the_stream_goes_on(far, own, engine) -> None:
    state = far.start(HELLO)
    path = f"{far._address}/streams/{state.name}/next"
    steering = Steering()
    for wishes in (
        Wishes(1, 3, "", 2, steering),
        Wishes(0, 3, "", 51, steering),
        Wishes(0, 3, "", 2, steering, Transcript((TimedPhoneme("nonsense", 0, 1),))),
    ):
        answer = httpx.post(path, content=pack_wishes(wishes))
        assert answer.status_code == 422 and answer.text.endswith(".")
    assert httpx.post(path, content=b"{").status_code == 422
    assert_same(list(far.stream(state=state)), list(own.stream(HELLO)))
    driven = far.start(replace(HELLO, text="", seconds=None, audio=VOICE))
    driven.total += 1
    with pytest.raises(ValueError, match="ends with it"):
        next(far.stream(state=driven))
    with pytest.raises(ValueError, match="nothing that can be spoken"):
        far.start(replace(HELLO, text="☃", seconds=None))


def test_the_oldest_waiting_streams_are_forgotten(far, engine, monkeypatch) -> None:
    monkeypatch.setattr(service, "KEPT", 2)
    states = []
    for seed in range(4):
        states.append(far.start(replace(HELLO, seconds=0.64, seed=seed)))
        list(far.stream(state=states[-1]))
    assert len(engine._held) == 2
    for state in states:
        far.extend(state, "More.")
    assert len(list(far.stream(state=states[3]))) == states[3].total - 1
    with pytest.raises(EngineError):
        next(far.stream(state=states[0]))


def test_a_page_needs_an_engine_that_has_its_checkpoint(far, engine, tmp_path) -> None:
    save_checkpoint(StreamingGenerator.random("smoke", seed=4).system, tmp_path, {})
    with pytest.raises(ValueError, match="another one"):
        RemoteGenerator(far._address, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(EngineError, match="No engine answers"):
        RemoteGenerator(nobody, tmp_path)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"404"])
def test_what_is_no_engine_is_refused_in_one_sentence(folder, answer: bytes) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if answer == b"404" else 200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(EngineError, match=r"engine.*\.$"):
            RemoteGenerator(f"http://127.0.0.1:{server.server_address[1]}", folder)
    finally:
        server.shutdown()
    for nonsense in ("http://[::1", "http://h:port"):
        with pytest.raises(ValueError, match="is no address"):
            RemoteGenerator(nonsense, folder)
    with pytest.raises(ValueError, match="--streams 1 or more"):
        RemoteGenerator("http://127.0.0.1:1", folder, streams=0)


def test_a_stream_whose_sound_comes_later_knows_what_waits(own) -> None:
    """A page counts what the engine has made, not what it was given."""
    state = remote.RemoteState(
        HELLO, None, None, None, None, None, None, None, None, 3, name="one", taken=2
    )
    state.index, state.pending = 3, True
    assert not state.ended and state.wishes().index == 2
    state.pending = False
    assert state.ended


def test_a_page_makes_two_films_at_a_time(far) -> None:
    """With one place the second would wait for the first, which waits for its reader."""
    sessions = SessionManager(far)
    try:
        longer = replace(HELLO, seconds=3.2)
        first, second = (
            sessions.begin("one", longer),
            sessions.begin("two", replace(longer, seed=1)),
        )
        for film in (first, second):
            for progress in film:
                if progress.made:
                    break
        ends = [list(film)[-1] for film in (first, second)]
        assert all(end.done and end.made == pytest.approx(3.2) for end in ends)
        list(sessions.proceed("one", "More."))
        session = sessions.session_of("one")
        assert session and session.state.ended and session.muxer.seconds > 3.2
    finally:
        sessions.close()


def test_a_film_that_is_begun_while_another_goes_on_is_left_alone(far) -> None:
    """Talk pressed during Continue, by the same visitor: the page shows the newer one, and saves no other."""
    sessions = SessionManager(far)
    visitor = SimpleNamespace(session_hash="one", state=None)
    try:
        list(sessions.begin("one", HELLO))
        older = events._show(sessions, visitor, sessions.proceed("one", "And a few more words."))
        next(older), next(older)
        with pytest.raises(ValueError, match="still running"):
            list(sessions.proceed("one", "Again."))
        newer = sessions.begin("one", replace(HELLO, seed=1))
        next(newer)
        session = sessions.session_of("one")
        assert all(len(outputs) == 4 and outputs[1]["interactive"] for outputs in older)
        assert session.clip is None, "it was not saved for the older one"
        assert list(newer)[-1].done
    finally:
        sessions.close()
