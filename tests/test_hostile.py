"""Two hundred hostile requests through the served API: each gets one sentence, nothing stays."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
from hostile import COUNT, FIELDS, Case, Upload, _file, cases
from PIL import Image

import app
from mutual_forcing.demo.inputs import DRIVES
from mutual_forcing.demo.validation import RefusedError, check

GOOD = {
    "picture": None, "text": "Hello.", "sound": None, "sound_use": DRIVES, "emotion": "happy",
    "motion": "calm", "steps": 1, "seed": 0, "guidance": 0, "seconds": 0.64, "window": 0, "size": 256,
    "framing": "face", "face": 1,
}  # fmt: skip


class Visitor:
    """A caller of the HTTP API without a client library that would tidy the values first."""

    def __init__(self, address: str) -> None:
        self._web = httpx.Client(base_url=address + "gradio_api", timeout=60)

    def upload(self, upload: Upload) -> dict:
        answer = self._web.post("/upload", files={"files": (upload.name, upload.data)})
        assert answer.status_code == 200, answer.text
        return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}

    def generate(self, values: dict) -> tuple[str, object]:
        """Return ("complete" or "error", what came with it)."""
        return self.call("generate", [values[name] for name in FIELDS])

    def call(self, name: str, values: list) -> tuple[str, object]:
        """Likewise, for the endpoint `name`."""
        # Not httpx's own JSON: it refuses numbers and signs that an attacker can send.
        body = json.dumps({"data": values})
        answer = self._web.post(
            f"/call/{name}", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 200, answer.text
        path = f"/call/{name}/{answer.json()['event_id']}"
        with self._web.stream("GET", path) as stream:
            event = ""
            for line in stream.iter_lines():
                if line.startswith("event: "):
                    event = line[7:]
                elif line.startswith("data: ") and event in ("complete", "error"):
                    return event, json.loads(line[6:])
        raise AssertionError("The stream ended without an answer.")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for everything temporary that the server writes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return tmp_path


def files_in(folder: Path, *but: str) -> set[str]:
    paths = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return {str(p) for p in paths if p.parts[0] not in but}


def problem_with(message: object) -> str:
    """What keeps this from being one clear sentence; empty if it is one."""
    if not isinstance(message, str) or not message:
        return "no sentence"
    signs = ("\n", "Traceback", "/tmp", "/etc", "/proc", "Errno", "Error:", "<class", "pydantic")
    found = [sign for sign in signs if sign in message]
    if found:
        return f"holds {found}"
    if not (message[0].isupper() or message[0] == "“") or not message.endswith("."):
        return "is no sentence"
    return "is too long" if len(message) > 200 else ""


@pytest.mark.slow
def test_two_hundred_hostile_requests(random_generator, folder):
    root = Path(__file__).parents[1]
    before = files_in(root, ".git", "runs", ".pytest_cache", ".ruff_cache")
    with app.serving(random_generator, host="127.0.0.1") as address:
        visitor = Visitor(address)
        gallery = files_in(folder / "uploads")
        picture = np.full((64, 48, 3), 128, np.uint8)
        Image.fromarray(picture).save(folder / "face.png")
        face = visitor.upload(Upload((folder / "face.png").read_bytes(), "face.png"))
        started = files_in(folder, "uploads")
        problems, kinds, slowest = [], Counter(), 0.0
        for case in cases():
            began = time.process_time()
            values = {**GOOD, "picture": face, case.field: _send(visitor, case, folder)}
            event, answer = visitor.generate(values)
            slowest = max(slowest, time.process_time() - began)
            message = answer.get("error") if isinstance(answer, dict) else answer
            problem = "was accepted" if event != "error" else problem_with(message)
            kinds[case.kind] += not problem
            if problem:
                value = str(case.value)[:80]
                problems.append(f"{case.field} {value!r} {problem}: {str(message)[:200]!r}")
        assert not problems, f"{len(problems)} problems:\n" + "\n".join(problems)
        assert sum(kinds.values()) >= COUNT and len(kinds) == 5
        assert slowest < 15, "seconds of CPU; what waits is no work, and httpx waits for a minute"
        assert files_in(folder, "uploads") == started, "nothing beside the uploads was written"
        event, answer = visitor.generate({**GOOD, "picture": face})
        assert event == "complete", answer
    assert files_in(folder / "uploads") <= gallery, "the uploads go with the server"
    after = files_in(root, ".git", "runs", ".pytest_cache", ".ruff_cache")
    strays = {path for path in after - before if not path.endswith((".pyc", ".py"))}
    assert not strays


WRONG = {
    "compare": {
        0: [None, 7, _file("/etc/passwd")],
        1: ["", "😀", 7, "a" * 2001],
        2: [[], [3], 7, None, "1", {"1": 1}, [1] * 10, [[1]]],
        3: ["bored"],
        5: [-1, "four", True],
        6: [99],
        7: [601, -1, [1]],
        8: [0, 513, "512", [512]],
        9: ["feet", 1],
        10: [0, 13, "one"],
    },
    "live": {
        0: [None, {}, _file("http://127.0.0.1:1/face.png")],
        1: [" ", "Привет", ["Hello."]],
        2: ["bored", 3],
        4: [0, 51, 2.5, "four"],
        5: [600, True, {}],
        6: ["", ["whole"]],
        7: [-1, 1e9],
    },
}
"""What is put in the places of a good call of the other endpoints."""


@pytest.mark.slow
def test_the_other_endpoints_refuse_as_plainly(random_generator, folder):
    with app.serving(random_generator, host="127.0.0.1") as address:
        visitor = Visitor(address)
        Image.fromarray(np.full((64, 48, 3), 128, np.uint8)).save(folder / "face.png")
        face = visitor.upload(Upload((folder / "face.png").read_bytes(), "face.png"))
        good = {
            "compare": [face, "Hello.", [1], "happy", "calm", 0, 0, 0.64, 256, "face", 1],
            "live": [face, "Hello.", "happy", "calm", 1, 256, "face", 1],
        }
        problems = []
        for name, places in WRONG.items():
            for place, value in ((p, v) for p, wrong in places.items() for v in wrong):
                values = [*good[name]]
                values[place] = value
                event, answer = visitor.call(name, values)
                message = answer.get("error") if isinstance(answer, dict) else answer
                problem = "was accepted" if event != "error" else problem_with(message)
                if problem:
                    problems.append(f"{name} {place} {str(value)[:60]!r} {problem}: {message!r}")
        assert not problems, "\n".join(problems)
        assert visitor.call("compare", good["compare"])[0] == "complete"
        # Who does not know of sizes calls as before.
        assert visitor.call("compare", good["compare"][:8])[0] == "complete"
        assert (
            visitor.call("generate", [GOOD[n] if n != "picture" else face for n in FIELDS][:11])[0]
            == "complete"
        )
        event, answer = visitor.call("live_say", [])
        assert event == "error" and not problem_with(answer["error"])


def test_choices_are_checked_before_gradio_sees_them():
    boxes = gr.CheckboxGroup([("1", 1), ("4", 4)], label="Steps")
    for value in (7, "1", {"a": 1}, [7], [1, 4, 1], [[1]], [{}]):
        with pytest.raises(RefusedError) as error:
            check([boxes], [value])
        assert not problem_with(str(error.value))
    check([boxes], [[4, 1]])
    check([boxes], [[]])


def _send(visitor: Visitor, case: Case, folder: Path) -> object:
    if isinstance(case.value, Upload):
        return visitor.upload(case.value)
    if case.kind == "path":
        path = case.value["path"].replace("{uploads}", str(folder / "uploads"))
        return {**case.value, "path": path}
    return case.value
