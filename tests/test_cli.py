"""The command mutual-forcing, as it is installed."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from mutual_forcing.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]


def test_without_a_command_it_says_which_there_are(capsys) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)
    assert main(["dance"]) == 2 and "usage" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", [])  # which a command reads
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


@pytest.mark.slow
def test_it_runs_as_a_module() -> None:
    asked = [sys.executable, "-m", "mutual_forcing.cli", "generate", "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0 and "usage" in done.stdout, done.stderr


def test_what_is_missing_is_named(monkeypatch, capsys) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'training'", name="training")

    monkeypatch.setattr(importlib, "import_module", missing)
    assert main(["train"]) == 1
    assert "needs training, which is not installed: pip install" in capsys.readouterr().err


def test_the_package_lists_its_dependencies_once() -> None:
    """pyproject.toml reads the requirements that a Space and the README install."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 and later")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    files = [project["tool"]["setuptools"]["dynamic"]["dependencies"]]
    files += project["tool"]["setuptools"]["dynamic"]["optional-dependencies"].values()
    for entry in files:
        for path in entry["file"]:
            lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
            assert not any(line.startswith("-") for line in lines), "setuptools takes no options"
