"""The part of the Hub's API that huggingface_hub needs to make, fill and read a repository, over real HTTP.

Repositories live in memory. Weights come by git LFS, everything else within the commit, as on the Hub
(HF_HUB_DISABLE_XET=1; its newer protocol for large files is not spoken here).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN, OWNER = "hf_secret", "me"
"""The one token that may write, and whose it is."""


@dataclass
class Repository:
    """Its commits' files, and which commit each branch is at."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        """Make a commit of these files the branch's newest; return its name."""
        seed = f"{len(self.commits)} {branch} {sorted(files)}"
        name = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[name], self.branches[branch] = files, name
        return name

    def at(self, revision: str) -> str | None:
        """The commit of a branch or of itself."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class HubServer(ThreadingHTTPServer):
    """Repositories by "owner/name", uploaded large files by their sha256, and what was asked for."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.connections: list[socket.socket] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def leave(self) -> None:
        """Answer nobody any more, nor those who are connected."""
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def put(self, name: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Make a repository hold these files, as if somebody had pushed them; return the commit."""
        return self.repositories.setdefault(name, Repository()).commit(branch, files)


@contextlib.contextmanager
def hub() -> Iterator[HubServer]:
    """A Hub that runs while the block lasts."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.leave()
        thread.join()


class _RefusedError(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def setup(self) -> None:
        super().setup()
        self.server.connections.append(self.connection)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(f"{self.command} {path}")
        try:
            self._answer(path, body)
        except _RefusedError as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            self._send(refused.status, {"error": refused.message}, headers)

    def _answer(self, path: str, body: bytes) -> None:
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "validate-yaml"]:
            self._validate(json.loads(body)["content"])
        elif parts[:3] == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:], body)
        elif parts[0] == "lfs":
            if self.command == "PUT":
                assert hashlib.sha256(body).hexdigest() == parts[1]
                self.server.large[parts[1]] = body
            self._send(200, {})
        elif parts[1:2] and parts[1].endswith(".git"):
            self._large_batch(json.loads(body))
        else:
            assert parts[2:3] == ["resolve"], path
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def _user(self) -> str:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return {TOKEN: OWNER, "": ""}.get(token, "somebody")

    def _may_write(self, name: str) -> None:
        if not self._user():
            raise _RefusedError(401, message="Invalid username or password.")
        if self._user() != name.split("/")[0]:
            raise _RefusedError(403, message=f"You don't have the rights to create under {name}")

    def _repository(self, name: str) -> Repository:
        found = self.server.repositories.get(name)
        if found is None or (found.private and self._user() != name.split("/")[0]):
            # The Hub tells strangers nothing of what is private, and so of what is not there either.
            raise _RefusedError(401 if not self._user() else 404, "RepoNotFound", "not found")
        return found

    def _commit_of(self, name: str, revision: str) -> tuple[Repository, str]:
        repository = self._repository(name)
        commit = repository.at(revision)
        if commit is None:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    def _validate(self, text: str) -> None:
        """Front matter as the Hub takes it: YAML, with a license and a task that it knows."""
        front = yaml.safe_load(text.split("---")[1])
        wrong = [] if isinstance(front, dict) else [{"message": "no mapping"}]
        if not wrong and front.get("license") not in ("apache-2.0", "mit"):
            wrong.append({"message": "license is none that the Hub knows"})
        if not wrong and front.get("pipeline_tag") not in ("image-to-video", "text-to-video"):
            wrong.append({"message": "pipeline_tag is none that the Hub knows"})
        self._send(400 if wrong else 200, {"errors": wrong, "warnings": []})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or self._user()}/{asked['name']}"
        self._may_write(name)
        url = {"url": f"{self.server.address}/{name}", "name": name}
        if name in self.server.repositories:
            self._send(409, {"error": "You already created this model repo", **url})
            return
        self.server.put(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.server.repositories[name].private = asked.get("visibility") == "private"
        self._send(200, url)

    def _api(self, name: str, rest: list[str], body: bytes) -> None:
        what, revision = (rest[0] if rest else "revision"), "/".join(rest[1:]) or "main"
        if what == "branch":
            self._may_write(name)
            repository = self._repository(name)
            if revision in repository.branches:
                raise _RefusedError(409, message="Reference already exists")
            repository.branches[revision] = repository.branches["main"]
            self._send(200, {})
            return
        repository, commit = self._commit_of(name, revision)
        files = repository.commits[commit]
        if what == "revision":
            siblings = [{"rfilename": path} for path in files]
            self._send(200, {"id": name, "sha": commit, "siblings": siblings, "tags": []})
        elif what == "tree":
            self._send(200, [_entry(path, data) for path, data in files.items()])
        elif what == "preupload":
            self._may_write(name)
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = {True: "lfs", False: "regular"}
            told = [
                {"path": p, "uploadMode": modes[p.endswith(".safetensors")], "shouldIgnore": False}
                for p in paths
            ]
            self._send(200, {"files": told})
        else:
            assert what == "commit", what
            self._may_write(name)
            changed = dict(files)
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    changed[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    changed[value["path"]] = self.server.large[value["oid"]]
                elif line["key"] == "deletedFile":
                    del changed[value["path"]]
            made = repository.commit(revision, changed)
            url = f"{self.server.address}/{name}/commit/{made}"
            self._send(200, {"success": True, "commitOid": made, "commitUrl": url})

    def _large_batch(self, asked: dict[str, Any]) -> None:
        def actions(oid: str) -> dict[str, Any]:
            if oid in self.server.large:
                return {}
            target = {"href": f"{self.server.address}/lfs/{oid}", "header": {}}
            return {"actions": {"upload": target, "verify": target}}

        objects = [{**known, **actions(known["oid"])} for known in asked["objects"]]
        self._send(200, {"transfer": "basic", "objects": objects})

    def _file(self, name: str, revision: str, path: str) -> None:
        repository, commit = self._commit_of(name, revision)
        data = repository.commits[commit].get(path)
        if data is None:
            raise _RefusedError(404, "EntryNotFound", "Entry not found")
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        self._send(200, data, {"X-Repo-Commit": commit, "ETag": etag})

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for key, text in (headers or {}).items():
            self.send_header(key, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
    if path.endswith(".safetensors"):
        oid = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 130}
    return entry
