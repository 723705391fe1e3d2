"""The agent `conformance` in plain Python; its modes are in the wire's reference."""

import sys
import threading
import time

from adjutant_agent import AgentError, Child, agent, serve


def steps(run):
    first = run.step("a", lambda: 1)
    second = run.step("a", lambda: 2)
    total = run.step("sum", lambda a, b: a + b, first, second)
    run.emit("conformance.event", {"n": total})
    run.checkpoint({"n": total})
    return {"sum": total}


def waits(run):
    run.step("before", lambda: None)
    run.sleep("nap", 60)
    signal = run.wait_for_signal("go")
    return {"signal": signal, "approved": run.request_approval("ship", "May I?").approved}


def swallow(run):
    for call in (lambda: run.sleep("nap", 60), lambda: run.step("after", lambda: 1)):
        try:
            call()
        except BaseException:  # noqa: the worst that an agent can do
            pass
    return "swallowed"


def busy(run):
    run.emit("conformance.ready")
    while not run.cancelled:
        time.sleep(0.001)
    run.checkpoint("tidied up")


def events(run):
    for n in range(1, run.data["n"] + 1):
        run.emit("conformance.count", {"n": n, "pad": "x" * run.data["pad"]})
    return run.data["n"]


def stray(run):
    print("to stdout, where the protocol is")
    sys.stdout.write("and without a newline")
    sys.stdout.flush()


def steered(run):
    run.emit("conformance.ready")
    while not run.cancelled:
        for message in run.steering():
            return message["content"]
        time.sleep(0.001)


def tools(run):
    return [run.call_tool("search", {"q": n})["content"][0]["text"] for n in range(2)]


def generate(run, on_delta=None):
    pieces = []
    listener = pieces.append if run.data["mode"] == "stream" else None
    answer = run.generate({"model": "m", "messages": [{"role": "user", "content": run.prompt}]}, listener)
    return {"text": answer["message"]["content"], "deltas": len(pieces)}


def fan(run):
    naps = [threading.Thread(target=run.sleep, args=(f"nap {n}", 1)) for n in range(run.data["n"])]
    for nap in naps:
        nap.start()
    for nap in naps:
        nap.join()
    return len(naps)


def suspend(run):
    if run.resume is not None:
        return {"action": run.resume["ship"]["action"], "state": run.state}
    if run.state is not None:
        return {"state": run.state}
    if "wakeAt" in run.data:
        run.suspend(wake_at=run.data["wakeAt"], state={"n": 1})
    run.suspend({"ship": {"message": "May I?"}}, state={"n": 1})


def fail(run):
    raise AgentError("conformance_failure", "as told", retriable=False, details={"a": 1})


MODES = {
    "echo": lambda run: run.prompt,
    "state": lambda run: {"state": run.state, "params": run.params},
    "crash": lambda run: [][1],
    "large": lambda run: "x" * run.data["n"],
    "delegate": lambda run: [
        child.run_id for child in run.delegate("team", [Child("helper", "work")] * 2, policy="settle")
    ],
    "list": lambda run: [tool["name"] for tool in run.tools()],
    "stream": generate,
    "environment": lambda run: run.environment.get(run.data["name"]),
    "print": stray,
    **{code.__name__: code for code in (steps, waits, swallow, busy, events, steered, tools, generate, fan, fail, suspend)},
}


@agent("conformance")
def conformance(run):
    """Does as the conformance cases tell it."""
    code = MODES.get((run.data or {}).get("mode"))
    if code is None:
        raise AgentError("bad_mode", "no such mode", retriable=False)
    return code(run)


if __name__ == "__main__":
    serve(max_concurrent_runs=int((sys.argv[1:] or ["1"])[0]), steerable=True)
