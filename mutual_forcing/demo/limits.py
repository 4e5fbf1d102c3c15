"""The limits that a host sets, read from environment variables at start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from mutual_forcing.types import MAX_SECONDS

from .texts import say


@dataclass(frozen=True)
class Limits:
    """What one visitor may do.

    Attributes:
        seconds: longest video and longest uploaded sound (MF_MAX_SECONDS, 1 to 600).
        text: largest number of characters of one text (MF_MAX_TEXT, 1 to 2000).
        upload_mb: largest uploaded file in megabytes (MF_MAX_UPLOAD_MB, 1 to 200).
        disk_mb: room for all uploads and films of the last hour (MF_MAX_DISK_MB, 1 to 1000000).
        queue: largest number of requests that wait at a time (MF_MAX_QUEUE, 1 to 1000).
        waiting: largest number of these from one visitor (MF_MAX_WAITING, 1 to 1000).
        minutes: longest time that the model works for one request (MF_MAX_MINUTES, 1 to 1440).
        user: name to sign in with, when a password is set (MF_USER).
        password: asked for before the page opens; empty for none (MF_PASSWORD).
        mcp: whether the endpoints are also MCP tools (MF_MCP=1).
    """

    seconds: float = MAX_SECONDS
    text: int = 2000
    upload_mb: int = 200
    disk_mb: int = 4000
    queue: int = 20
    waiting: int = 5
    minutes: float = 60
    user: str = "user"
    password: str = field(default="", repr=False)
    mcp: bool = False

    def __post_init__(self) -> None:
        if self.mcp and self.password:
            raise ValueError(
                "Set MF_PASSWORD or MF_MCP=1, not both: MCP tools would not ask for the password."
            )

    @staticmethod
    def from_environment(environment: Mapping[str, str] | None = None) -> Limits:
        """Read the variables; raises ValueError with the variable's name for a value out of range."""
        values = os.environ if environment is None else environment
        default = Limits()
        return Limits(
            seconds=_number(values, "MF_MAX_SECONDS", default.seconds, MAX_SECONDS),
            text=int(_number(values, "MF_MAX_TEXT", default.text, 2000)),
            upload_mb=int(_number(values, "MF_MAX_UPLOAD_MB", default.upload_mb, 200)),
            disk_mb=int(_number(values, "MF_MAX_DISK_MB", default.disk_mb, 1_000_000)),
            queue=int(_number(values, "MF_MAX_QUEUE", default.queue, 1000)),
            waiting=int(_number(values, "MF_MAX_WAITING", default.waiting, 1000)),
            minutes=_number(values, "MF_MAX_MINUTES", default.minutes, 1440),
            user=values.get("MF_USER") or default.user,
            password=values.get("MF_PASSWORD", ""),
            mcp=values.get("MF_MCP", "").strip() == "1",
        )

    @property
    def auth(self) -> tuple[str, str] | None:
        """What Gradio's `launch(auth=...)` takes."""
        return (self.user, self.password) if self.password else None

    def check_text(self, text: str) -> None:
        """Raise ValueError for a text that is too long."""
        if len(text) > self.text:
            raise ValueError(f"The text is longer than {self.text} characters.")

    def check_seconds(self, seconds: float) -> None:
        """Raise ValueError for a video that is too long."""
        if seconds > self.seconds + 1:  # Chunks are only made whole.
            raise ValueError(f"The film would be longer than {self.seconds:g} seconds.")

    def check_work(self, seconds: float) -> None:
        """Raise ValueError for a request that would keep the model busy for too many seconds."""
        if seconds > 60 * self.minutes:
            raise ValueError(
                f"This would take about {seconds / 60:.0f} minutes here, longer than the allowed "
                f"{self.minutes:g}: choose fewer steps, a smaller size or a shorter film."
            )

    def exceeded_work(self, seconds: float) -> str:
        """Return why a request ends after the model worked `seconds` for it; empty if it may continue."""
        over = seconds > 60 * self.minutes
        return say("limit.work", minutes=f"{self.minutes:g}") if over else ""


def _number(values: Mapping[str, str], name: str, default: float, most: float) -> float:
    text = values.get(name, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 1 <= number <= most:
        raise ValueError(f"{name} must be a number from 1 to {most:g}, not {text!r}.")
    return number
