"""Calls all of Dewey's tools with the official Python SDK: dewey.py URL [modern]

URL is ws://... or http://...; with `modern` as a second word it speaks 2026-07-28, which needs version 2 of the SDK. An
import folder of the server must hold `messages.jsonl` with two messages. Ends with 0 and a line of JSON, or with the first
thing that is not as it must be.
"""

import json

from session import MODERN, URL, Calls, run


async def exercise(session):
    tools = (await session.list_tools()).tools
    assert len(tools) == 11, tools
    calls = Calls(session)
    call, refused = calls.call, calls.refused

    begun = await call("dewey_begin_conversation", {"session_id": "python", "metadata": {"title": "From Python"}})
    conversation = begun["conversation_id"]
    into = {"conversation_id": conversation}
    first = await call("dewey_store_message", {**into, "role": "user", "content": "Where is the dirigible? 🎈"})
    assert first["turn_number"] == 1
    blocks = [{"type": "text", "text": "In the hangar."}]
    await call("dewey_store_message", {**into, "role": "tool", "content": blocks, "turn_number": 2})
    await refused("dewey_store_message", {**into, "role": "user", "content": 5}, "`content`", "content blocks")
    await refused("dewey_store_message", {**into, "role": "user", "content": "a\0b"}, "`content`", "NUL")

    reports = []

    async def progress(done, total, message):
        reports.append((done, total, message))

    many = [{"role": "user", "content": f"bulk {n}"} for n in range(1200)]
    stored = await call("dewey_store_messages_bulk", {**into, "messages": many}, progress_callback=progress)
    assert stored["stored"] == 1200
    assert reports and reports == sorted(reports), reports
    imported = await call("dewey_store_messages_bulk", {"messages_file": "messages.jsonl", "session_id": "python"})
    assert imported["stored"] == 2
    await refused("dewey_store_messages_bulk", {"messages_file": "/etc/passwd"}, "`messages_file`", "import folder")

    whole = await call("dewey_get_conversation", into)
    assert [message["turn"] for message in whole["messages"]] == list(range(1, 1203))
    assert whole["messages"][1]["content"] == blocks
    listed = await call("dewey_list_conversations", {"session_id": "python"})
    assert listed["total"] == 2
    found = await call("dewey_search", {"query": "dirig*", "session_id": "python"})
    assert [hit["message_id"] for hit in found["results"]] == [first["message_id"]]
    await refused("dewey_search", {"query": "x", "start_date": "yesterday"}, "`start_date`", "2026-11-22")

    name = f"python {URL[:4]} {MODERN}"
    assert (await call("dewey_set_startup_context", {"name": name, "content": "Be brief."}))["is_active"]
    assert (await call("dewey_get_startup_context", {}))["name"] == name
    assert await call("dewey_get_startup_context", {"name": "nobody"}) is None
    contexts = (await call("dewey_list_startup_contexts", {}))["contexts"]
    assert [context["name"] for context in contexts if context["is_active"]] == [name]
    assert "content" not in contexts[0]
    await refused("dewey_delete_startup_context", {"name": name}, "`force`")
    assert (await call("dewey_delete_startup_context", {"name": name, "force": True}))["deleted"]

    templates = await session.list_resource_templates()
    assert len(templates.resourceTemplates if not MODERN else templates.resource_templates) == 2
    resource = await session.read_resource(f"iccm://conversation/{conversation}")
    assert len(json.loads(resource.contents[0].text)["messages"]) == 1202

    large = "ä" * (5 << 20)
    big = await call("dewey_store_messages_bulk", {"messages": [{"role": "user", "content": large}]})
    back = await call("dewey_get_conversation", {"conversation_id": big["conversation_id"]})
    assert back["messages"][0]["content"] == large

    await refused("dewey_delete_conversation", into, "1202 messages")
    assert (await call("dewey_delete_conversation", {**into, "force": True}))["messages_deleted"] == 1202
    for further in (imported["conversation_id"], big["conversation_id"]):
        await call("dewey_delete_conversation", {"conversation_id": further, "force": True})
    assert calls.called == {tool.name for tool in tools}
    return {"tools": len(calls.called), "reports": len(reports), "transport": URL.split(":")[0]}


run(exercise)
