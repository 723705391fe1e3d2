"""The agent `conformance` with asyncio; its modes are in the wire's reference."""

import asyncio
import sys

from adjutant_agent import AgentError, Child, agent, serve




async def steps(run):
    first = await run.step("a", lambda: 1)
    second = await run.step("a", lambda: 2)

    async def add(a, b):
        await asyncio.sleep(0)
        return a + b

    total = await run.step("sum", add, first, second)
    run.emit("conformance.event", {"n": total})
    await run.checkpoint({"n": total})
    return {"sum": total}


async def waits(run):
    await run.step("before", lambda: None)
    await run.sleep("nap", 60)
    signal = await run.wait_for_signal("go")
    return {"signal": signal, "approved": (await run.request_approval("ship", "May I?")).approved}


async def swallow(run):
    for call in (lambda: run.sleep("nap", 60), lambda: run.step("after", lambda: 1)):
        try:
            await call()
        except BaseException:  # noqa: the worst that an agent can do
            pass
    return "swallowed"


async def busy(run):
    run.emit("conformance.ready")
    while not run.cancelled:
        await asyncio.sleep(0.001)
    await run.checkpoint("tidied up")


async def events(run):
    for n in range(1, run.data["n"] + 1):
        run.emit("conformance.count", {"n": n, "pad": "x" * run.data["pad"]})
    return run.data["n"]


async def stray(run):
    print("to stdout, where the protocol is")


async def steered(run):
    run.emit("conformance.ready")
    while not run.cancelled:
        for message in run.steering():
            return message["content"]
        await asyncio.sleep(0.001)


async def tools(run):
    return [(await run.call_tool("search", {"q": n}))["content"][0]["text"] for n in range(2)]


async def generate(run):
    pieces = []
    listener = pieces.append if run.data["mode"] == "stream" else None
    answer = await run.generate({"model": "m", "messages": []}, listener)
    return {"text": answer["message"]["content"], "deltas": len(pieces)}


async def fan(run):
    return len(await asyncio.gather(*(run.sleep(f"nap {n}", 1) for n in range(run.data["n"]))))


async def delegate(run):
    children = await run.delegate("team", [Child("helper", "work")] * 2, policy="settle")
    return [child.run_id for child in children]


async def suspend(run):
    if run.resume is not None:
        return {"action": run.resume["ship"]["action"], "state": run.state}
    if run.state is not None:
        return {"state": run.state}
    if "wakeAt" in run.data:
        run.suspend(wake_at=run.data["wakeAt"], state={"n": 1})
    run.suspend({"ship": {"message": "May I?"}}, state={"n": 1})


async def fail(run):
    raise AgentError("conformance_failure", "as told", retriable=False, details={"a": 1})


async def crash(run):
    return [][1]


async def echo(run):
    return run.prompt


async def state(run):
    return {"state": run.state, "params": run.params}


async def large(run):
    return "x" * run.data["n"]


async def environment(run):
    return run.environment.get(run.data["name"])


async def listed(run):
    return [tool["name"] for tool in await run.tools()]


CODES = (steps, waits, swallow, busy, events, steered, tools, generate, fan, fail, delegate, crash, echo, state, large, environment, suspend)
MODES = {"list": listed, "stream": generate, "print": stray, **{code.__name__: code for code in CODES}}


@agent("conformance")
async def conformance(run):
    """Does as the conformance cases tell it."""
    code = MODES.get((run.data or {}).get("mode"))
    if code is None:
        raise AgentError("bad_mode", "no such mode", retriable=False)
    return await code(run)


if __name__ == "__main__":
    serve(max_concurrent_runs=int((sys.argv[1:] or ["1"])[0]), steerable=True)
