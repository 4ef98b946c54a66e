"""Calls all of Fiedler's tools with the official Python SDK: fiedler.py URL FOLDER [modern]

URL and `modern` as in session.py; FOLDER is one for answers, which exists. Ends with 0 and a line of JSON, or with the first thing
that is not as it must be.
"""

import sys

from session import Calls, run

OUTPUT = sys.argv[2]
KEY = "sk-test-python-0009"


async def exercise(session):
    tools = (await session.list_tools()).tools
    assert len(tools) == 8, tools
    calls = Calls(session)
    call, refused = calls.call, calls.refused

    reports = []

    async def progress(done, total, message):
        reports.append((done, total, message))

    asked = {"prompt": "Why is the sky blue?", "models": ["gpt-4o", "gemini", "grok"]}
    sent = await call("fiedler_send", asked, progress_callback=progress)
    assert sent["status"] == "success", sent
    assert [result["model"] for result in sent["results"]] == ["gpt-4o", "gemini-2.5-pro", "grok-4-0709"]
    assert all(result["tokens"] == {"prompt": 11, "completion": 7} for result in sent["results"]), sent
    assert [report[0] for report in reports] == sorted({report[0] for report in reports}), reports
    assert any("(3 of 3)" in report[2] for report in reports), reports
    await refused("fiedler_send", {"prompt": ""}, "`prompt`")
    await refused("fiedler_send", {"prompt": "x", "models": ["gpt4o"]}, "did you mean `gpt-4o`")

    models = (await call("fiedler_list_models", {}))["models"]
    assert len(models) == 10, models
    assert (await call("fiedler_set_models", {"models": ["4o"]}))["models"] == ["gpt-4o"]
    await call("fiedler_set_output", {"output_dir": OUTPUT})
    config = await call("fiedler_get_config", {})
    assert (config["models"], config["output_dir"]) == (["gpt-4o"], OUTPUT), config
    again = await call("fiedler_send", {"prompt": "And at night?"})
    assert [result["model"] for result in again["results"]] == ["gpt-4o"] and again["output_dir"].startswith(OUTPUT)

    await call("fiedler_set_key", {"provider": "xai", "api_key": KEY})
    assert "xai" in (await call("fiedler_list_keys", {}))["providers"]
    await refused("fiedler_set_key", {"provider": "xai", "api_key": KEY + " x"}, "`api_key`")
    assert (await call("fiedler_delete_key", {"provider": "xai"}))["deleted"]
    assert calls.called == {tool.name for tool in tools}
    return {"tools": len(calls.called), "reports": len(reports)}


run(exercise)
