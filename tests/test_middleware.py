"""What stands around the page, each attack sent to it: foreign sites, guessed passwords, full disks."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import app
from mutual_forcing.demo.limits import Limits
from mutual_forcing.demo.middleware import DiskQuota, LoginThrottle, OneSentence, folder_size
from mutual_forcing.demo.sessions import SessionManager


@pytest.fixture(scope="module")
def private(random_generator):
    """The page behind a password, its speed not measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SessionManager, "measure_in_background", lambda _: None)
        application = app.build_app(random_generator, Limits(user="me", password="secret"))
        with TestClient(application, base_url="http://page.example") as web:
            yield web


SIGNED_IN = {"username": "me", "password": "secret"}


@pytest.mark.slow
def test_other_sites_are_refused_where_there_is_a_password(private):
    foreign = {"origin": "https://evil.example"}
    assert private.post("/login", data=SIGNED_IN, headers=foreign).status_code == 403
    assert private.post("/login", data=SIGNED_IN).status_code == 200
    for method in ("GET", "POST", "OPTIONS"):
        for origin in ("https://evil.example", "null", "http://page.example.evil.example"):
            answer = private.request(method, "/config", headers={"origin": origin})
            assert answer.status_code == 403 and answer.text == (
                "This page is not used from other sites."
            )
            assert "access-control-allow-origin" not in answer.headers
            assert answer.headers["x-content-type-options"] == "nosniff"
    own = {"origin": "http://page.example"}
    assert private.get("/config", headers=own).status_code == 200
    proxied = {"origin": "https://my.site", "x-forwarded-host": "my.site"}
    assert private.get("/config", headers=proxied).status_code == 200


def test_a_private_page_is_neither_framed_nor_cached(private):
    private.post("/login", data=SIGNED_IN)
    page = private.get("/")
    assert page.headers["content-security-policy"] == "frame-ancestors 'self'"
    assert page.headers["referrer-policy"] == "same-origin"
    uploaded = private.post("/gradio_api/upload", files=[("files", ("a.txt", b"mine"))])
    file = private.get(f"/gradio_api/file={uploaded.json()[0]}")
    assert file.content == b"mine" and file.headers["cache-control"] == "private, no-store"


def _application(*middleware, status: int = 400) -> Starlette:
    async def answer(request: Request) -> Response:
        await request.body()
        return PlainTextResponse("", application.state.status)

    paths = ("/login", "/gradio_api/upload", "/other")
    routes = [Route(path, answer, methods=["POST", "GET"]) for path in paths]
    application = Starlette(routes=routes)
    application.state.status = status
    for kind, options in middleware:
        application.add_middleware(kind, **options)
    return application


def test_guessing_passwords_is_slow():
    now = [0.0]
    application = _application((LoginThrottle, {"clock": lambda: now[0]}))
    with TestClient(application, client=("203.0.113.7", 1)) as guesser:
        tries = [guesser.post("/login").status_code for _ in range(50)]
        assert tries == [400] * 5 + [429] * 45
        answer = guesser.post("/login")
        assert answer.headers["retry-after"] == "61"
        assert answer.text == "Too many wrong passwords: try again in 61 seconds."
        assert guesser.get("/login").status_code == guesser.post("/other").status_code == 400
        now[0] = 61.0
        assert guesser.post("/login").status_code == 400
    with TestClient(application, client=("203.0.113.8", 1)) as another:
        application.state.status = 200
        assert another.post("/login").status_code == 200, "nobody else waits"
        assert [another.post("/login").status_code for _ in range(9)] == [200] * 9, "none is wrong"


def test_a_network_of_addresses_is_one_guesser():
    application = _application((LoginThrottle, {}))
    answers = []
    for number in range(8):
        with TestClient(application, client=(f"2001:db8:1:2::{number}", 1)) as guesser:
            answers.append(guesser.post("/login").status_code)
    assert answers == [400] * 5 + [429] * 3


def test_uploads_stop_while_the_disk_is_full(tmp_path: Path):
    (tmp_path / "film").mkdir()
    (tmp_path / "film" / "a.mp4").write_bytes(bytes(900))
    (tmp_path / "link").symlink_to("/usr")
    assert folder_size(tmp_path) < 1000, "links are not followed"
    assert folder_size(tmp_path / "none") == 0
    application = _application((DiskQuota, {"folder": tmp_path, "most": 1500}), status=200)
    with TestClient(application) as web:
        assert web.post("/gradio_api/upload", content=bytes(700)).status_code == 200
        answer = web.post("/gradio_api/upload", content=b"a")  # 900, 700 and a link are there
        assert answer.status_code == 507
        assert answer.text == "The server has no room for uploads now: try again in some minutes."
        assert web.post("/other", content=bytes(10_000)).status_code == 200


@pytest.mark.slow
def test_whoever_signs_out_signs_out_alone(random_generator):
    application = app.build_app(random_generator, Limits(user="me", password="a long password"))
    secret = {"username": "me", "password": "a long password"}
    with TestClient(application) as one, TestClient(application) as other:
        for visitor in (one, other):
            assert visitor.post("/login", data=secret).is_success
            assert visitor.get("/config").status_code == 200
        cookies = dict(one.cookies)
        one.get("/logout")
        assert one.get("/config").status_code == 401
        assert other.get("/config").status_code == 200, "another browser of the same name"
        with TestClient(application, cookies=cookies) as thief:
            assert thief.get("/config").status_code == 401, "the old cookie opens nothing"


def test_failures_are_one_sentence():
    async def fails(scope, receive, send):
        raise KeyError("/a/path/of/the/server")

    def answering(status: int, body: bytes):
        return OneSentence(Response(body, status, media_type="application/json"))

    cases = [
        (OneSentence(fails), "The request could not be answered."),
        (answering(500, b"Internal Server Error"), "The request could not be answered."),
        (answering(500, b'{"error": "Choose a character first."}'), "Choose a character first."),
        (answering(422, b'{"detail": [{"input": "secret"}]}'), "The request cannot be read"),
        (answering(422, b"[1]"), "The request cannot be read"),
    ]
    for application, sentence in cases:
        answer = TestClient(application).get("/")
        assert answer.status_code == 400 and answer.json()["error"].startswith(sentence)
    assert TestClient(answering(404, b"{}")).get("/").status_code == 404
