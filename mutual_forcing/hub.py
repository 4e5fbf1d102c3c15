"""Checkpoints on the Hugging Face Hub: names, revisions, downloads, and what goes wrong in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

TEXT_FILES = (
    "text_encoder/*.json", "text_encoder/*.safetensors", "tokenizer/*.json", "tokenizer/*.model",
)  # fmt: skip
"""A text encoder and its tokenizer in a folder or repository that holds both."""
CHECKPOINT_FILES = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "*/config.json", "record.json",
    "README.md", *TEXT_FILES,
)  # fmt: skip
"""What a checkpoint consists of. Nothing else of a repository is fetched or sent, pickles least of all."""
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
REPOSITORY = f"{_PART}/{_PART}"
"""A pattern for names that the Hub takes."""
_NAME = re.compile(f"({REPOSITORY})(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?")


@dataclass(frozen=True)
class HubName:
    """A repository ("owner/name") and its branch, tag or commit; None is what its main branch holds."""

    repository: str
    revision: str | None = None

    @staticmethod
    def parse(text: str, revision: str | None = None) -> HubName:
        """Read "owner/name" or "owner/name@revision"; raises ValueError for anything else.

        Args:
            text: what a user gave.
            revision: the revision, where it is given apart.
        """
        match = _NAME.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no repository: give OWNER/NAME or OWNER/NAME@REVISION.")
        repository, named = match.groups()
        if named and revision and named != revision:
            raise ValueError(f"{text!r} names another revision than {revision!r}: give one.")
        return HubName(repository, revision or named)

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


def lacking_fields(readme: str, fields: Sequence[str]) -> list[str]:
    """Which of these the front matter of a README.md does not have; all where it has none."""
    match = re.match(r"---\n(.*?)\n---\n", readme, re.DOTALL)
    names = re.findall(r"^(\w+):", match[1], re.MULTILINE) if match else []
    return [name for name in fields if name not in names]


def download(
    name: HubName, patterns: Sequence[str] = CHECKPOINT_FILES, endpoint: str | None = None
) -> Path:
    """Return the folder of the Hub's cache that holds a repository's files at a revision.

    What is there already is not fetched again. A commit that is there needs no network, nor does a branch,
    which then is what it was when it was last looked for. The folder's name is the commit.

    Args:
        name: the repository and its revision.
        patterns: names of the files that are wanted.
        endpoint: the Hub's address; None is that of HF_ENDPOINT, else https://huggingface.co.

    Raises:
        ValueError: there is no such repository or revision, or the Hub cannot be reached or refuses.
    """
    with explained(name, endpoint):
        found = snapshot_download(
            name.repository,
            revision=name.revision,
            allow_patterns=list(patterns),
            library_name="mutual-forcing",
            endpoint=endpoint,
        )
    return Path(found)


@contextmanager
def explained(name: HubName, endpoint: str | None = None) -> Iterator[None]:
    """Turn what huggingface_hub raises within the block into a ValueError of one sentence."""
    # The Hub's client brings its own copy of httpx, which is of no use elsewhere.
    import httpx2

    hub, repository = endpoint or constants.ENDPOINT, name.repository
    try:
        yield
    except GatedRepoError as error:
        raise ValueError(
            f"{repository} is only for those whom its owner lets in: ask for access at "
            f"{hub}/{repository} and set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{hub} shows no repository {repository}: check the name, and if it is private set "
            "HF_TOKEN or run `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(
            f"{repository} has no revision {name.revision!r}: give a branch, a tag or a whole commit."
        ) from error
    except (LocalEntryNotFoundError, httpx2.TransportError) as error:
        raise ValueError(
            f"{hub} cannot be reached, and {name} is not in this machine's cache: try again with a "
            "network, or give a folder."
        ) from error
    except HFValidationError as error:
        raise ValueError(f"{name} is no name that the Hub takes: {_first_line(error)}") from error
    except HfHubHTTPError as error:
        raise ValueError(_refusal(error, hub)) from error


def _refusal(error: HfHubHTTPError, hub: str) -> str:
    status = error.response.status_code
    if status == 401:
        return f"{hub} asks who you are: set HF_TOKEN or run `hf auth login`."
    if status == 403:
        said = f" ({error.server_message})" if error.server_message else ""
        return f"Your token has no right to do this at {hub}{said}: make one that may write."
    said = error.server_message or _first_line(error)
    return f"{hub} refused ({status}): {said.rstrip('.')}."


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
