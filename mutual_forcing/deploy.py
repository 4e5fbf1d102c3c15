"""Put the page on Hugging Face Spaces.

python -m mutual_forcing.deploy OWNER/NAME --dry-run     # list what would be sent
HF_TOKEN=... python -m mutual_forcing.deploy OWNER/NAME  # or after `hf auth login`
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from .hub import REPOSITORY, lacking_fields

ROOT = Path(__file__).resolve().parents[1]
_FOLDERS = ("docs", "examples", "mutual_forcing")
_FILES = ("app.py", "README.md", "LICENSE", "NOTICE", "requirements.txt", "packages.txt")
_LEFT_OUT = ("__pycache__", ".DS_Store")
MAX_BYTES = 10_000_000
"""Larger files need LFS on Spaces; checkpoint shards stay below."""
_FRONT_MATTER = ("title", "sdk", "sdk_version", "python_version", "app_file")


def space_files(root: Path = ROOT) -> list[Path]:
    """Return the paths, relative to `root`, of what a working Space needs, sorted.

    Raises ValueError when something is missing, too large, or the README has no front matter.
    """
    missing = [name for name in (*_FILES[:-1], *_FOLDERS) if not (root / name).exists()]
    if missing:
        raise ValueError(f"{root} is no checkout of this project: {', '.join(missing)} is missing.")
    found = [path for name in _FOLDERS for path in (root / name).rglob("*") if path.is_file()]
    found += [root / name for name in _FILES if (root / name).is_file()]
    files = sorted(p.relative_to(root) for p in found if not _left_out(p.relative_to(root)))
    for path in files:
        if (root / path).stat().st_size > MAX_BYTES:
            raise ValueError(f"{path} is larger than {MAX_BYTES // 10**6} MB.")
    check_front_matter((root / "README.md").read_text(encoding="utf-8"))
    return files


def check_front_matter(readme: str) -> None:
    """Raise ValueError unless the README begins with what Spaces must be told."""
    if lacking := lacking_fields(readme, _FRONT_MATTER):
        raise ValueError(f"The front matter of README.md lacks {', '.join(lacking)}.")


def deploy(
    name: str, root: Path = ROOT, *, private: bool = False, hardware: str | None = None
) -> str:
    """Create the Space `name` ("owner/name") if need be, send the files, return its address.

    Files that are there and no longer here are deleted. Raises ValueError for a wrong name or
    checkout, and huggingface_hub's own errors for a missing token or right.
    """
    check_name(name)
    files = space_files(root)
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(
        name, repo_type="space", space_sdk="gradio", private=private,
        space_hardware=hardware,  # pyright: ignore[reportArgumentType] # a name will do
        exist_ok=True,
    )  # fmt: skip
    api.upload_folder(
        repo_id=name,
        repo_type="space",
        folder_path=root,
        allow_patterns=[path.as_posix() for path in files],
        delete_patterns=[f"{folder}/**" for folder in _FOLDERS],
        commit_message="Deploy",
    )
    return f"https://huggingface.co/spaces/{name}"


def check_name(name: str) -> None:
    """Raise ValueError unless `name` is an owner and a name that the Hub takes."""
    if not re.fullmatch(REPOSITORY, name):
        raise ValueError(f"{name!r} is no Space: give OWNER/NAME.")


def _left_out(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return hidden or path.suffix == ".pyc" or any(part in _LEFT_OUT for part in path.parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Put the page on Hugging Face Spaces.")
    parser.add_argument("name", help="OWNER/NAME of the Space")
    parser.add_argument("--dry-run", action="store_true", help="only list the files")
    parser.add_argument("--private", action="store_true", help="make a private Space")
    parser.add_argument("--hardware", help="such as cpu-basic or zero-a10g (default: the Hub's)")
    options = parser.parse_args(arguments)
    try:
        if options.dry_run:
            check_name(options.name)
            lines = [f"{(ROOT / path).stat().st_size:>10}  {path}" for path in space_files()]
        else:
            lines = [deploy(options.name, private=options.private, hardware=options.hardware)]
    except (ValueError, OSError) as error:  # huggingface_hub's errors are OSErrors
        sys.stderr.write(f"deploy: {error}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
