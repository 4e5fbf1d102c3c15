"""The page as MCP tools: real calls through the protocol."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult

import app
from mutual_forcing.demo.limits import Limits
from mutual_forcing.demo.settings import from_file

ROOT = Path(__file__).parents[1]
FACE = ROOT / "examples" / "characters" / "01-blond-bob.png"


def talk_to(address: str, conversation: Callable, **headers: str) -> Any:
    async def run() -> Any:
        async with (
            streamablehttp_client(f"{address}mcp/", headers=headers) as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            return await conversation(session)

    return asyncio.run(asyncio.wait_for(run(), 60))


@pytest.fixture
def address(random_generator):
    limits = Limits(seconds=5, mcp=True)
    with app.serving(random_generator, host="127.0.0.1", limits=limits) as address:
        yield f"{address}gradio_api/"


def uploaded(address: str, path: Path = FACE) -> str:
    """The address that Gradio's own upload tool gives to an MCP client."""
    answer = httpx.post(f"{address}upload", files={"files": (path.name, path.read_bytes())})
    return f"{address}file={answer.raise_for_status().json()[0]}"


def words(result: CallToolResult) -> str:
    return " ".join(part.text for part in result.content if part.type == "text")


def test_the_tools_are_named_as_the_endpoints_and_say_what_they_take(address):
    async def listed(session):
        return (await session.list_tools()).tools

    tools = {tool.name: tool for tool in talk_to(address, listed)}
    assert set(tools) == {"generate", "compare"}, "Live needs a session of its own"
    properties = tools["generate"].inputSchema["properties"]
    assert "1 to 50" in properties["steps"]["description"]
    asked = tools["compare"].inputSchema["properties"]
    assert all(field.get("description") for field in asked.values()), asked
    assert set(tools["generate"].inputSchema.get("required", [])) <= {"picture", "text"}


def test_a_call_makes_a_film_and_a_wrong_one_is_told_why(address):
    asked = {"picture": uploaded(address), "text": "Hello.", "steps": 1, "seed": 3, "seconds": 1.28}
    elsewhere = f"{address}file={FACE}"

    async def calls(session):
        wrong = ({"steps": 99}, {"picture": elsewhere}, {"picture": "http://127.0.0.1:9/a.png"})
        made = await session.call_tool("generate", asked)
        return made, [await session.call_tool("generate", {**asked, **w}) for w in wrong]

    made, refused = talk_to(address, calls)
    assert not made.isError, made
    film = re.search(r"(/\S+?\.mp4)", words(made).replace(address, ""))
    assert film and from_file(film[1])["seed"] == 3
    assert all(result.isError for result in refused)
    assert "maximum of 50" in words(refused[0])
    assert all("uploaded here" in words(result) for result in refused[1:])


def test_compare_returns_its_figures(address):
    asked = {"picture": uploaded(address), "text": "Hi.", "steps": [1, 2], "seconds": 0.64}

    async def calls(session):
        return await session.call_tool("compare", asked)

    result = talk_to(address, calls)
    assert not result.isError, result
    assert ".csv" in words(result)


def test_tools_beside_a_password_are_refused_at_start():
    # Gradio's MCP route answers without one.
    with pytest.raises(ValueError, match="not both"):
        Limits.from_environment({"MF_MCP": "1", "MF_PASSWORD": "secret"})
