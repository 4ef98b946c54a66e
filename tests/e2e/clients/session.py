"""How the test clients in Python reach a server and call its tools: by the URL in the first word, ws://... or http://..., and
with `modern` as the last word by 2026-07-28, which needs version 2 of the official SDK."""

import asyncio
import contextlib
import functools
import json
import sys

URL = sys.argv[1]
MODERN = sys.argv[-1] == "modern"


@contextlib.asynccontextmanager
async def websocket_session():
    import mcp.client.websocket as transport
    from mcp import ClientSession

    # The SDK's transport keeps the bound of the library below it: a message of a megabyte.
    transport.ws_connect = functools.partial(transport.ws_connect, max_size=None)
    async with transport.websocket_client(URL) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        yield session


@contextlib.asynccontextmanager
async def http_session():
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async with streamablehttp_client(URL) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        yield session


@contextlib.asynccontextmanager
async def modern_session():
    from mcp import Client

    async with Client(URL) as client:
        assert client.protocol_version == "2026-07-28", client.protocol_version
        yield client


def open_session():
    return modern_session() if MODERN else websocket_session() if URL.startswith("ws") else http_session()


def structured(result):
    return result.structured_content if MODERN else result.structuredContent


def is_error(result):
    return result.is_error if MODERN else result.isError


class Calls:
    """Calls of a session's tools; it is remembered which there were."""

    def __init__(self, session):
        self.session = session
        self.called = set()

    async def call(self, name, arguments, **further):
        self.called.add(name)
        result = await self.session.call_tool(name, arguments, **further)
        text = result.content[0].text
        assert not is_error(result), text
        parsed = json.loads(text)
        # Structured content is always an object: one of nulls stands for null.
        nothing = {key: None for key in structured(result)}
        assert structured(result) == (nothing if parsed is None else parsed)
        return parsed

    async def refused(self, name, arguments, *words):
        result = await self.session.call_tool(name, arguments)
        text = result.content[0].text
        assert is_error(result), f"{name} took {str(arguments)[:100]}"
        for word in words:
            assert word in text, text


def run(exercise):
    """Does an exercise with a session, and prints what it says as a line of JSON."""

    async def main():
        async with open_session() as session:
            print(json.dumps(await exercise(session)))

    asyncio.run(main())
