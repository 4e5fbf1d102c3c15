"""The page as Gradio blocks: what is done with every event, whichever component or caller it comes from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from . import validation
from .limits import Limits
from .rate_limit import Requests, ticket_of
from .texts import english

if TYPE_CHECKING:
    import uvicorn


log = logging.getLogger(__name__)
KNOWN_SESSIONS = 200
"""Sessions whose components Gradio remembers, the last used ones: 0.27 MB each. It would keep 10,000, and
every request of a caller who is no page is a session of its own.
"""
_FOREIGN = "is not in the cache folder"
"""Gradio's words for a path in an event's data that is no upload; they repeat it, with a traceback."""


class Page(gr.Blocks):
    """Blocks that validate the values of events, know who waits, and describe their API in English."""

    server: uvicorn.Server | None = None
    """The running server, set by server.py. The package `spaces` asks it for its port."""

    def __init__(self, limits: Limits, **options: Any) -> None:
        """Create empty blocks.

        Args:
            limits: what visitors may do.
            options: those of `gr.Blocks`.
        """
        super().__init__(**options)
        self.state_session_capacity = KNOWN_SESSIONS
        self.requests = Requests(limits.waiting)

    async def process_api(
        self, block_fn: Any, inputs: list[Any], *args: Any, request: Any = None, **options: Any
    ) -> dict[str, Any]:
        """Run an event, or a generator's next step; its request does not wait any more.

        Raises gr.Error, with one sentence, for whatever goes wrong.
        """
        ticket, goes_on = ticket_of(request), False
        if ticket:
            ticket.waiting = False
        try:
            output = await super().process_api(block_fn, inputs, *args, request=request, **options)
            goes_on = output.get("is_generating", False)
        except gr.Error as error:
            if _FOREIGN not in error.message:
                error.print_exception = False
                raise
            message = "The request names a file that was not uploaded here."
            raise gr.Error(message, print_exception=False) from error
        except Exception as error:
            # An event's data (which picture of a gallery was clicked) may be wrong in any way, too.
            log.warning("%s failed.", block_fn.api_name, exc_info=error)
            message = f"The request could not be answered ({type(error).__name__})."
            raise gr.Error(message, print_exception=False) from error
        finally:
            if ticket and not goes_on:
                self.requests.finish(ticket)
        return output

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], *args: Any, **options: Any
    ) -> list[Any]:
        """Return the function's arguments; raises gr.Error with one sentence for wrong values.

        The validation runs before Gradio moves files or calls the components. Their own errors are
        tracebacks or name folders of this machine, and they would fetch addresses for the caller.
        """
        with validation.one_sentence():
            inputs = validation.completed(block_fn, inputs)
            validation.check(block_fn.inputs, inputs)
            # Pictures become paths without Gradio's decoder: the cage opens them by content
            # and with limits.
            pictures = validation.pictures(block_fn.inputs, inputs)
            given = [None if index in pictures else value for index, value in enumerate(inputs)]
            values = await super().preprocess_data(block_fn, given, *args, **options)
            return [pictures.get(index, value) for index, value in enumerate(values)]

    def get_api_info(self, *args: Any, **options: Any) -> Any:
        """Return the description of the API, in English and with the true types of choices."""
        return _described(super().get_api_info(*args, **options))


def _described(value: Any) -> Any:
    if isinstance(value, list):
        return [_described(item) for item in value]
    if not isinstance(value, Mapping):
        return english(value)
    described = {name: _described(item) for name, item in value.items()}
    choices = described.get("enum")
    # Gradio calls every choice a string, and its MCP server would insist on that.
    if choices and all(type(choice) is int for choice in choices):
        described["type"] = "integer"
    return described
