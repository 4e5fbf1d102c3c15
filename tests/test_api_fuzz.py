"""Hostile values for every event and route of the page: one sentence each, no 500, nothing left behind.

MF_FUZZ_MINUTES sets how long each part goes on (default: some hundred requests), MF_FUZZ_SEED where it
begins.
"""

from __future__ import annotations

import gc
import io
import json
import os
import random
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from hostile import cases
from test_hostile import files_in, problem_with
from test_memory import resident_bytes

from mutual_forcing.demo import cage
from mutual_forcing.demo.limits import Limits
from mutual_forcing.demo.server import build_app, listening
from mutual_forcing.demo.sessions import SessionManager
from mutual_forcing.media import MediaError

pytestmark = pytest.mark.slow
MINUTES = float(os.environ.get("MF_FUZZ_MINUTES", "0"))
SEED = int(os.environ.get("MF_FUZZ_SEED", "0"))
GROWTH = 150 * 2**20
FILE = {"_type": "gradio.FileData"}
VALUES = [
    None, True, -1, 0, 1, 2.5, 1e308, 10**400, 2**63, "", "😀", "Hello.", "a" * 3000, "\0", "\ud800",
    "{{7*7}}", "<script>", "../../etc/passwd", [], [[]], {}, [None] * 50, {"index": [1, 2, 3]},
    {"path": "/etc/passwd", "meta": FILE}, {"path": 5}, {"path": "http://127.0.0.1:1/", "meta": FILE},
    {"__type__": "update", "value": 1}, float("nan"), float("-inf"), {"a": {"b": {"c": []}}},
]  # fmt: skip


def rounds(at_least: int) -> Iterator[int]:
    """So many numbers, and more while there is time."""
    end, number = time.monotonic() + 60 * MINUTES, 0
    while number < at_least or time.monotonic() < end:
        yield number
        number += 1


@pytest.fixture(scope="module")
def application(random_generator):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SessionManager, "measure_in_background", lambda _: None)
        yield build_app(random_generator, Limits(text=80, seconds=2, upload_mb=2))


@pytest.fixture(scope="module")
def web(application):
    with (
        listening(application, "127.0.0.1") as address,
        httpx.Client(base_url=address, timeout=120) as web,
    ):
        yield web


def post(web: httpx.Client, path: str, body: object) -> httpx.Response:
    # Not httpx's own JSON, which refuses numbers and signs that an attacker can send.
    content = json.dumps(body).encode("ascii")
    return web.post(
        f"/gradio_api/{path}", content=content, headers={"content-type": "application/json"}
    )


def problem_of(answer: httpx.Response) -> str:
    """What is wrong with an answer; empty for one that is as it should be."""
    if answer.status_code == 200:
        return ""
    if answer.status_code not in (400, 404, 405, 413, 503):
        return f"status {answer.status_code}"
    if not answer.headers.get("content-type", "").startswith("application/json"):
        return ""
    said = answer.json()
    told = said.get("error") or said.get("detail")
    if told == "There was an error parsing the body":  # FastAPI's own words
        return ""
    return problem_with(told) if answer.status_code == 400 else ""


def request(chance: random.Random, fn) -> dict:
    """A request for an event that is wrong in one way or several."""
    count = chance.choice([len(fn.inputs)] * 4 + [0, 1, len(fn.inputs) + 2])
    sent = {"index": chance.choice(VALUES), "value": chance.choice(VALUES)}
    return {
        "fn_index": fn._id,
        "data": [chance.choice(VALUES) for _ in range(count)],
        "session_hash": chance.choice(["fuzz"] * 6 + VALUES),
        "event_data": chance.choice([None, sent, sent, *VALUES]),
        "trigger_id": chance.choice([None] * 6 + VALUES),
    }


def test_no_event_of_the_page_fails_in_another_way_than_by_a_sentence(application, web):
    chance, fns = random.Random(SEED), list(application.state.page.fns.values())
    quick = [fn for fn in fns if not fn.queue]
    before, problems = 0, []
    for number in rounds(6 * len(quick)):
        body = request(chance, quick[number % len(quick)])
        answer = post(web, "run/predict", body)
        if problem := problem_of(answer):
            problems.append(
                f"{quick[number % len(quick)].api_name}: {problem}: {answer.text[:200]}"
            )
        if number == len(quick):
            gc.collect()
            before = resident_bytes()
    assert not problems, "\n".join(sorted(set(problems))[:40])
    gc.collect()
    assert resident_bytes() - before < GROWTH


def test_what_thirty_minutes_found(application, web):
    """A file that is named in an event's data, and a caller without a session."""
    fns = {fn.api_name: fn for fn in application.state.page.fns.values()}
    foreign = {"path": "/etc/passwd", "meta": FILE}
    for name, body in {
        "choose": {"data": [None], "event_data": {"index": [1, 2], "value": foreign}},
        "live_say": {"data": ["Hello."], "session_hash": None},
        "say_on_page": {"data": ["Hello."], "session_hash": None},
    }.items():
        answer = post(web, "run/predict", {"fn_index": fns[name]._id, **body})
        assert answer.status_code == 400 and not problem_of(answer), answer.text


def test_no_queued_event_fails_in_another_way_than_by_a_sentence(application, web):
    """Its answer is a message of its session; what the queue does not take is refused at once."""
    chance, problems = random.Random(SEED + 1), []
    queued = [fn for fn in application.state.page.fns.values() if fn.queue]
    for number in rounds(6 * len(queued)):
        fn, session = queued[number % len(queued)], f"fuzz-{number}"
        body = request(chance, fn)
        body["session_hash"] = session if number % 4 else body["session_hash"]
        answer = post(web, "queue/join", body)
        problem = problem_of(answer)
        if answer.status_code == 200 and number % 4:
            problem = _problem_told(web, session)
        if problem:
            problems.append(f"{fn.api_name}: {problem}: {answer.text[:200]}")
    assert not problems, "\n".join(sorted(set(problems))[:40])


def _problem_told(web: httpx.Client, session: str) -> str:
    with web.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as stream:
        for line in stream.iter_lines():
            message = json.loads(line[6:]) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                said = message["output"].get("error")
                return "" if message["success"] else problem_with(said)
    return "no answer"


ROUTES = [
    "call/generate", "call/compare", "call/live", "call/live_say", "call/live_steer",
    "call/live_pose", "call/none",
    "call/v2/generate", "call/v2/none", "cancel", "reset", "queue/join", "run/generate", "run/predict",
    "component_server", "upload", "stream/fuzz", "app_id",
]  # fmt: skip


def test_no_route_fails_in_another_way_than_by_a_sentence(web):
    chance, problems = random.Random(SEED + 2), []
    fields = [
        "data",
        "event_id",
        "fn_index",
        "session_hash",
        "component_id",
        "fn_name",
        "text",
        "picture",
    ]
    for number in rounds(6 * len(ROUTES)):
        route = ROUTES[number % len(ROUTES)]
        chosen = chance.sample(fields, chance.randrange(len(fields)))
        body = chance.choice([{name: chance.choice(VALUES) for name in chosen}] * 4 + VALUES)
        answer = post(web, route, body)
        if problem := problem_of(answer):
            problems.append(f"{route}: {problem}: {str(body)[:150]}: {answer.text[:200]}")
    raw = [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"data": [NaN]}', b"9" * 100_000, b'"\\ud800"']
    for route in ROUTES:
        for content in raw:
            answer = web.post(
                f"/gradio_api/{route}",
                content=content,
                headers={"content-type": "application/json"},
            )
            if problem := problem_of(answer):
                problems.append(f"{route}: {problem}: {content[:30]!r}: {answer.text[:200]}")
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x", "text/plain"):
        for content in (
            b"",
            b"--x",
            b"--x\r\n\r\n--x--",
            b"--x\r\nContent-Disposition: form-data\r\n\r\n",
        ):
            answer = web.post("/gradio_api/upload", content=content, headers={"content-type": kind})
            if problem := problem_of(answer):
                problems.append(f"upload: {problem}: {kind} {content!r}: {answer.text[:200]}")
    paths = (
        "file=/etc/passwd", "file=%00", "file=../../etc/passwd", "file=" + "a" * 5000, "film/%00",
        "heartbeat", "theme.css", "upload_progress",
    )  # fmt: skip
    for path in paths:
        answer = web.get(f"/gradio_api/{path}")
        if answer.status_code not in (200, 400, 403, 404, 405):
            problems.append(f"{path}: status {answer.status_code}: {answer.text[:200]}")
    assert not problems, "\n".join(sorted(set(problems))[:40])


def damaged(chance: np.random.Generator, data: bytes) -> bytes:
    """A file with bytes changed, taken out, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(int(chance.integers(1, 8))):
        if not changed:
            break
        at, size = int(chance.integers(len(changed))), int(chance.integers(1, 64))
        kind = chance.integers(4)
        if kind == 0:
            changed[at : at + size] = chance.bytes(size)
        elif kind == 1:
            del changed[at : at + size]
        elif kind == 2:
            changed[at:at] = changed[at : at + size]
        elif kind == 3:
            changed[at : at + 4] = chance.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])
    return bytes(changed)


def test_damaged_files_are_refused_by_a_sentence_or_read(tmp_path):
    chance = np.random.default_rng(SEED)
    good = [(c.kind, c.value.data) for c in cases(SEED) if c.kind in ("picture", "sound")]
    good += [("picture", data) for data in _pictures(chance)]
    readers = {"picture": cage.read_image, "sound": cage.read_audio, "film": cage.read_comment}
    before, path = files_in(tmp_path), tmp_path / "file"
    for number in rounds(200):
        kind, data = good[int(chance.integers(len(good)))]
        path.write_bytes(damaged(chance, data[: 2**20]))
        kind = "film" if number % 7 == 0 else kind
        try:
            readers[kind](path)
        except MediaError as error:
            assert not problem_with(str(error)), (kind, str(error))
        if number == 20:
            gc.collect()
            early = resident_bytes()
    gc.collect()
    assert resident_bytes() - early < GROWTH
    path.unlink()
    assert files_in(tmp_path) == before, "nothing was written"


def _pictures(chance: np.random.Generator) -> Iterator[bytes]:
    from PIL import Image

    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF"):
        file = io.BytesIO()
        Image.fromarray(chance.integers(0, 256, (64, 48, 3), dtype=np.uint8)).save(file, kind)
        yield file.getvalue()
