"""What would be sent to Spaces, and the ten-line client."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import av
import pytest

import app
from mutual_forcing import deploy

ROOT = Path(__file__).parents[1]


def test_the_dry_run_lists_what_a_space_needs(capsys):
    assert deploy.main(["owner/name", "--dry-run"]) == 0
    listed = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()]
    assert {"app.py", "README.md", "requirements.txt", "mutual_forcing/demo/page.py"} <= set(listed)
    assert any(name.endswith(".safetensors") for name in listed)
    assert not any("__pycache__" in name or name.startswith(("tests/", ".")) for name in listed)


@pytest.mark.slow
def test_the_listed_files_are_enough_for_the_page(tmp_path):
    for path in deploy.space_files():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    code = (
        "import app; from mutual_forcing import StreamingGenerator as S;"
        "app.build_demo(S.random('tiny'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["owner", "a/b/c", "../name", "owner/", "o wner/name", "-/x"])
def test_wrong_names_are_refused(name, capsys):
    arguments = ["--dry-run", "--", name]
    assert deploy.main(arguments) == 1
    assert "give OWNER/NAME" in capsys.readouterr().err


def test_a_space_that_would_not_start_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no checkout"):
        deploy.space_files(tmp_path)
    with pytest.raises(ValueError, match="lacks title, sdk"):
        deploy.check_front_matter("# Hello\n")
    with pytest.raises(ValueError, match="lacks app_file"):
        deploy.check_front_matter(
            "---\ntitle: x\nsdk: gradio\nsdk_version: 6\npython_version: 3\n---\n"
        )


class Hub:
    """Stands in for huggingface_hub's client; keeps what it was asked for."""

    asked: dict[str, dict] = {}  # noqa: RUF012

    def create_repo(self, name: str, **options) -> None:
        self.asked["create"] = {"name": name, **options}

    def upload_folder(self, **options) -> None:
        self.asked["upload"] = options


def test_a_space_is_created_and_gets_the_listed_files(monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert deploy.main(["owner/name", "--private", "--hardware", "zero-a10g"]) == 0
    assert capsys.readouterr().out == "https://huggingface.co/spaces/owner/name\n"
    create, upload = Hub.asked["create"], Hub.asked["upload"]
    assert create["name"] == upload["repo_id"] == "owner/name" and create["exist_ok"]
    assert create["space_sdk"] == "gradio" and create["space_hardware"] == "zero-a10g"
    assert create["repo_type"] == upload["repo_type"] == "space" and create["private"]
    assert upload["allow_patterns"] == [path.as_posix() for path in deploy.space_files()]
    assert Path(upload["folder_path"]) == ROOT


def test_a_refusal_of_the_hub_is_one_sentence(monkeypatch, capsys):
    def refuse(*_, **__) -> None:
        raise OSError("401 Unauthorized")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    assert deploy.main(["owner/name"]) == 1
    assert capsys.readouterr().err == "deploy: 401 Unauthorized\n"


@pytest.mark.slow
def test_the_client_in_the_examples(random_generator, monkeypatch, capsys):
    face = ROOT / "examples" / "characters" / "01-blond-bob.png"
    with app.serving(random_generator, host="127.0.0.1") as address:
        monkeypatch.setattr(sys, "argv", ["client.py", address, str(face), "Hello!"])
        capsys.readouterr()
        runpy.run_path(str(ROOT / "examples" / "client.py"), run_name="__main__")
        path = capsys.readouterr().out.strip().splitlines()[-1]
    running = {thread.name for thread in threading.enumerate()}
    assert "latency" not in running, "closing the page ends the thread that measures"
    with av.open(path) as film:
        assert "AI-generated" in film.metadata["title"]
    lines = (ROOT / "examples" / "client.py").read_text().split('"""')[2].splitlines()
    assert len([line for line in lines if line.strip()]) <= 12
