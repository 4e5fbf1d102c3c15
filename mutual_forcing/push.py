"""Put a checkpoint on the Hugging Face Hub: weights, configuration, record and model card in one commit.

mutual-forcing push FOLDER OWNER/NAME --dry-run     # what would be sent
HF_TOKEN=... mutual-forcing push FOLDER OWNER/NAME  # or after `hf auth login`
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from .checkpoint import find_checkpoint, load_checkpoint, shards_of
from .hub import CHECKPOINT_FILES, HubName, explained
from .model_card import WRITTEN, check_card, model_card

CARD = "README.md"


def checkpoint_files(folder: Path, name: HubName) -> dict[str, Path | bytes]:
    """Return what is sent of a checkpoint, by its name there: files, and the text of the model card.

    The card is written from the record, unless the folder has one that somebody wrote.

    Args:
        folder: the checkpoint. It is loaded, so that nothing is sent that nobody can load.
        name: the repository, which the card names.

    Raises:
        ValueError: it does not load, or its own card lacks what the Hub must be told.
    """
    system = load_checkpoint(folder)
    shards = shards_of(folder)
    files: dict[str, Path | bytes] = {path.name: path for path in shards}
    for path in sorted(folder.iterdir()):
        listed = any(fnmatch(path.name, pattern) for pattern in CHECKPOINT_FILES)
        if path.is_file() and listed and path.suffix != ".safetensors":
            files[path.name] = path
    own = (folder / CARD).read_text(encoding="utf-8") if CARD in files else WRITTEN
    if WRITTEN in own:
        files[CARD] = model_card(system, _record(folder), HubName(name.repository)).encode()
    else:
        check_card(own)
    return dict(sorted(files.items()))


def push_to_hub(
    source: str | Path,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload a checkpoint",
    endpoint: str | None = None,
    token: str | None = None,
) -> HubName:
    """Send a checkpoint to the Hub in one commit, and return the repository with this commit.

    The repository and the branch are made if need be; weights and index of an earlier checkpoint go. All
    other files there stay.

    Args:
        source: a folder, or an embedded name.
        repository: "owner/name".
        private: make it a private one; one that exists stays as it is.
        revision: the branch, or None for the main one.
        message: of the commit.
        endpoint: the Hub's address; None is that of HF_ENDPOINT, else https://huggingface.co.
        token: None is HF_TOKEN, or that of `hf auth login`.

    Raises:
        ValueError: the checkpoint does not load, the name is none, or the Hub cannot be reached or refuses.
    """
    name = HubName.parse(repository, revision)
    files = checkpoint_files(find_checkpoint(source), name)
    api = HfApi(endpoint=endpoint, token=token, library_name="mutual-forcing")
    with explained(name, endpoint):
        api.create_repo(name.repository, private=private or None, exist_ok=True)
        if name.revision:
            api.create_branch(name.repository, branch=name.revision, exist_ok=True)
        there = api.list_repo_files(name.repository, revision=name.revision)
        stale = [path for path in there if path not in files and _of_weights(path)]
        done = api.create_commit(
            name.repository,
            [
                *(CommitOperationAdd(path, content) for path, content in files.items()),
                *(CommitOperationDelete(path) for path in stale),
            ],
            commit_message=message,
            revision=name.revision,
        )
    return HubName(name.repository, done.oid)


def _of_weights(path: str) -> bool:
    """Whether a file at the repository's top is of some checkpoint's weights."""
    return "/" not in path and any(fnmatch(path, pattern) for pattern in CHECKPOINT_FILES[:2])


def _record(folder: Path) -> Mapping[str, Any]:
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="mutual-forcing push", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("checkpoint", help="a folder, or an embedded name such as tiny")
    parser.add_argument("repository", help="OWNER/NAME")
    parser.add_argument(
        "--revision", metavar="BRANCH", help="made if there is none (default: main)"
    )
    parser.add_argument("--private", action="store_true", help="if the repository is made now")
    parser.add_argument("--dry-run", action="store_true", help="only list the files, with the card")
    options = parser.parse_args(arguments)
    try:
        name = HubName.parse(options.repository, options.revision)
        if options.dry_run:
            files = checkpoint_files(find_checkpoint(options.checkpoint), name)
            sizes = {
                k: len(v) if isinstance(v, bytes) else v.stat().st_size for k, v in files.items()
            }
            lines = [f"{size:>12}  {path}" for path, size in sizes.items()]
            card = files[CARD]
            lines += ["", card.decode() if isinstance(card, bytes) else card.read_text("utf-8")]
        else:
            pinned = push_to_hub(
                options.checkpoint,
                name.repository,
                private=options.private,
                revision=name.revision,
            )
            lines = [str(pinned)]
    except (ValueError, OSError) as error:
        sys.stderr.write(f"push: {error}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
