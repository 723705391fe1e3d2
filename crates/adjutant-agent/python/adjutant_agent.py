"""Write an agent for Adjutant in Python: one file, no dependencies, Python 3.9 or later.

    from adjutant_agent import agent, serve

    @agent("word-report")
    def report(run):
        text = run.step("read", lambda: open("book.txt").read())
        words = run.step("count", count_words, text)
        run.progress(50, "counted")
        run.sleep("cool down", 3600)
        return {"words": words}

    serve()

The program talks to the runtime over stdin and stdout, or over the socket that `AGENT_WIRE` names. It gets steps that
are not done twice, sleeps and signals that survive restarts, approvals, checkpoints, events, tools, models and child runs.
A reader thread keeps the runtime answered while your code works.

With asyncio, write `async def` and await: the function gets an `AsyncRun`, whose calls are coroutines and may go on beside
each other (`asyncio.gather`). Give calls that go on beside each other names of their own, so that their keys do not depend on
chance.

Three rules:

- What `run.step` returns is recorded, and must be JSON. After a crash or a wait a later attempt calls your function
  again from the top; recorded steps return their results without being done. So what happens outside of steps should be
  cheap and come out the same each time, and the order of calls must not depend on chance.
- `Parked`, `Cancelled` and `Stopped` end the attempt. They are no `Exception`s, so `except Exception` lets them pass.
- Stdout belongs to the protocol. While `serve` runs, `print` and child processes write to stderr instead, which the
  runtime keeps as the agent's log; stdin is empty.

The wire itself is described in Adjutant's reference, page "agent wire".
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import os
import socket
import struct
import sys
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING, Any, Awaitable, Callable, Deque, Dict, Generator, Iterator, List, NoReturn, Optional, Sequence, Set, Tuple,
    TypeVar, Union,
)
from urllib.parse import urlsplit

if TYPE_CHECKING:
    # Loaded when the first async agent runs: it would double the start time of the others.
    import asyncio

__all__ = [
    "agent", "serve", "Run", "AsyncRun", "Decision", "Child", "ChildResult", "Retry", "AgentError", "Parked", "Cancelled", "Stopped",
]
__version__ = "0.1.0"

PROTOCOL_VERSION = 1
MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_GARBAGE_LINES = 100
MAX_INFLIGHT_CALLS = 64
#: More steering messages than this are not kept.
MAX_STEERING = 256
#: Seconds that runs may take to unwind after the runtime closed the connection.
CLOSE_GRACE = 2.0

T = TypeVar("T")
Code = Callable[[Any], Any]


class AgentError(Exception):
    """A failure with a stable, short kind. Any other exception is one too: retriable, its kind the class's name."""

    def __init__(self, kind: str, message: str, retriable: bool = True, details: Any = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.retriable = retriable
        self.details = details

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class _Unwind(BaseException):
    """Ends an attempt from inside. Not an `Exception`, so that a broad `except` in an agent lets it pass."""


class Parked(_Unwind):
    """The run has to wait; a later attempt goes on."""

    #: What the attempt is answered with.
    result: Dict[str, Any] = {"stopReason": "yield", "output": {}}


class Cancelled(_Unwind):
    """The run is to be cancelled."""


class Stopped(_Unwind):
    """The attempt is over: its lease or the runtime is gone."""


@dataclass
class Retry:
    """How often a step is tried within one attempt. Pauses hold the process, so keep them short."""

    max_tries: int = 3
    #: Seconds before the second try; each further pause is `factor` times as long, at most `max_delay`.
    delay: float = 1.0
    factor: float = 2.0
    max_delay: float = 60.0

    def delay_after(self, tries: int) -> float:
        """Seconds to pause after try `tries` (1 for the first) failed."""
        return min(self.delay * self.factor ** min(tries - 1, 64), self.max_delay)


@dataclass
class Decision:
    """A person's answer."""

    approved: bool
    by: Optional[str] = None
    comment: Optional[str] = None
    #: What came with the decision, such as edited arguments.
    data: Any = None
    #: Nobody decided in time.
    expired: bool = False


@dataclass
class Child:
    """Work for another agent."""

    agent: str
    #: The request as text, or None.
    message: Optional[str] = None
    #: Structured input.
    data: Any = None
    params: Any = None

    def _to_json(self) -> Dict[str, Any]:
        messages = [] if self.message is None else [{"role": "user", "content": self.message}]
        child: Dict[str, Any] = {"agent": self.agent, "input": {"messages": messages}}
        if self.data is not None:
            child["input"]["data"] = self.data
        if self.params is not None:
            child["params"] = self.params
        return child


@dataclass
class ChildResult:
    """How a child run ended."""

    run_id: str
    #: `succeeded`, `failed`, `cancelled`, `timed_out` or `parked`.
    status: str
    #: `{"text"?, "data"?, "messages"?, "artifacts"?}`.
    output: Optional[Dict[str, Any]] = None
    #: `{"type", "message", "retriable", "details"?}`.
    error: Optional[Dict[str, Any]] = None


class _RpcError(Exception):
    """The `error` of a response."""

    NAMES = {
        -32700: "parse_error", -32600: "invalid_request", -32601: "method_not_found", -32602: "invalid_params",
        -32603: "internal", -32800: "cancelled", -31000: "agent_failed", -31001: "unknown_run", -31002: "fenced",
        -31003: "budget", -31004: "deadline", -31005: "overloaded", -31006: "tool_unavailable",
        -31007: "tool_timeout", -31008: "denied", -31009: "provider", -31010: "process_gone", -31011: "too_large",
        -31012: "call_conflict", -31013: "state_incompatible", -31014: "park",
    }
    RETRYABLE = {-32603, -31000, -31005, -31006, -31007, -31009, -31010, -31014}

    def __init__(self, code: int, message: str, **data: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data: Any = {"code": self.name, "retryable": code in self.RETRYABLE, **data}

    @property
    def name(self) -> str:
        return self.NAMES.get(self.code, f"rpc_{self.code}")

    @classmethod
    def read(cls, error: Any) -> "_RpcError":
        error = error if isinstance(error, dict) else {}
        code = error.get("code")
        read = cls(code if isinstance(code, int) else -32603, str(error.get("message", "")))
        if isinstance(error.get("data"), dict):
            read.data.update(error["data"])
        return read

    def to_json(self) -> Dict[str, Any]:
        return {"code": self.code, "message": self.message, "data": self.data}

    def as_agent_error(self) -> AgentError:
        kind = self.data.get("type") or self.name
        return AgentError(kind, self.message, bool(self.data.get("retryable")), self.data.get("details"))


class _Call:
    """A request that waits for its answer."""

    def __init__(self, run_id: str, waits: bool, wake: Callable[[], None]) -> None:
        self.run_id = run_id
        #: Whether cancelling the run ends the wait. Not for saves: an agent may tidy up after a cancel.
        self.waits = waits
        #: Called once, from any thread, when the answer is there.
        self.wake = wake
        self.request_id = 0
        self.result: Any = None
        self.error: Optional[_RpcError] = None
        self.interrupted = False


class _Link:
    """The connection: one writer, and the calls that wait for an answer."""

    def __init__(self, pipe: "_Pipe") -> None:
        self.max_line_bytes = MAX_LINE_BYTES
        self.max_calls = MAX_INFLIGHT_CALLS
        self._pipe = pipe
        self._lock = threading.Lock()
        self._calls: Dict[int, _Call] = {}
        #: Slots that are taken: by open calls, and by those about to be opened.
        self._taken = 0
        self._queue: Deque[Callable[[], None]] = deque()
        self._next_id = 1
        self._closed = False

    def send(self, message: Dict[str, Any]) -> None:
        try:
            # ASCII only: no character of a string can break the line or the encoding.
            line = json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":"), allow_nan=False).encode("ascii")
        except (TypeError, ValueError, RecursionError) as error:
            raise AgentError("not_json", f"{message.get('method', 'the result')}: {error}", False) from error
        if len(line) > self.max_line_bytes:
            raise _RpcError(-31011, f"a message of {len(line)} bytes; the host takes {self.max_line_bytes}")
        try:
            self._pipe.write(line)
        except OSError as error:
            raise _RpcError(-31010, f"write to the host: {error}") from error

    def notify(self, method: str, params: Dict[str, Any]) -> None:
        self.send({"method": method, "params": params})

    def answer(self, request_id: Any, result: Any = None, error: Optional[_RpcError] = None) -> None:
        """Answers; an answer that cannot be sent becomes the error that says so, for an answer there must be."""
        try:
            self.send({"id": request_id, "error": error.to_json()} if error else {"id": request_id, "result": result})
        except AgentError as problem:
            self.answer(request_id, error=_agent_failed(problem))
        except _RpcError as problem:
            if problem.code == -31011:
                self.answer(request_id, error=_RpcError(-31011, problem.message))

    def reserve(self, urgent: bool, wake: Callable[[], None]) -> bool:
        """Takes a slot for a call. False when the host takes no more now: `wake` is called when the slot is there."""
        with self._lock:
            if urgent or self._closed or self._taken < self.max_calls:
                self._taken += 1
                return True
            self._queue.append(wake)
            return False

    def release(self) -> None:
        """Gives a slot to the next in line, or back."""
        with self._lock:
            wake = self._queue.popleft() if self._queue and self._taken <= self.max_calls else None
            if wake is None:
                self._taken -= 1
        if wake is not None:
            wake()

    def open(self, call: _Call, method: str, params: Dict[str, Any], run: "_BaseRun") -> None:
        """Sends a request whose answer `call` waits for."""
        with self._lock:
            if self._closed:
                raise _RpcError(-31010, "the runtime closed the connection")
            call.request_id = self._next_id
            self._next_id += 1
            self._calls[call.request_id] = call
        try:
            self.send({"id": call.request_id, "method": method, "params": params})
        except BaseException:
            with self._lock:
                self._calls.pop(call.request_id, None)
            raise
        if call.waits and run.cancelled:
            # The cancel may have come before the call was there to be woken.
            self.interrupt(run.id)

    def conclude(self, call: _Call) -> Any:
        """What came of a call that was woken."""
        if call.interrupted:
            self.notify("$/cancel_request", {"requestId": call.request_id})
            raise Cancelled()
        if call.error is not None:
            raise call.error
        return call.result

    def resolve(self, message: Dict[str, Any]) -> None:
        request_id = message.get("id")
        with self._lock:
            call = self._calls.pop(request_id, None) if isinstance(request_id, int) else None
        if call is None:
            return
        if "error" in message:
            call.error = _RpcError.read(message["error"])
        else:
            call.result = message.get("result")
        call.wake()

    def interrupt(self, run_id: str) -> None:
        """Ends the waits of a cancelled run."""
        with self._lock:
            hit = [call for call in self._calls.values() if call.waits and call.run_id == run_id]
            for call in hit:
                del self._calls[call.request_id]
        for call in hit:
            call.interrupted = True
            call.wake()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            calls = list(self._calls.values())
            self._calls.clear()
            queue = list(self._queue)
            self._queue.clear()
            self._taken += len(queue)
        for call in calls:
            call.error = _RpcError(-31010, "the runtime closed the connection")
            call.wake()
        for wake in queue:
            wake()


# What an operation of a run asks its driver for, one after the other: a call to the host, a piece of the agent's own
# work, or a pause. The operations are written once; `Run` drives them with threads, `AsyncRun` with asyncio.


@dataclass
class _Ask:
    method: str
    params: Dict[str, Any]
    waits: bool = False


@dataclass
class _Work:
    work: Callable[[], Any]


@dataclass
class _Pause:
    seconds: float


_Operation = Generator[Union[_Ask, _Work, _Pause], Any, Any]


class _BaseRun:
    """What both kinds of run have in common."""

    def __init__(self, link: _Link, request_id: Any, start: Dict[str, Any]) -> None:
        self._link = link
        self._request_id = request_id
        self._scope = {"runId": start["runId"], "attempt": start["attempt"], "epoch": start["epoch"]}
        given = start.get("input") or {}
        #: The run's id.
        self.id: str = start["runId"]
        #: Which attempt this is, from 1. It counts up with every failure and every wait.
        self.attempt: int = start["attempt"]
        #: The agent's name; tells the agents of one program apart.
        self.agent: str = start.get("agent") or ""
        #: The conversation that the run belongs to.
        self.session: Optional[str] = start.get("session")
        #: The conversation so far, oldest first: `{"role", "content"}` each.
        self.messages: List[Dict[str, Any]] = given.get("messages") or []
        #: The structured input.
        self.data: Any = given.get("data")
        #: Settings and labels of whoever submitted the run.
        self.params: Any = start.get("params")
        self.metadata: Any = start.get("metadata")
        #: When the run must be over, RFC 3339 in UTC.
        self.deadline: Optional[str] = start.get("deadline")
        #: What was left of the budget when the attempt began: `{"tokens"?, "usd"?, "toolCalls"?}`.
        self.budget: Optional[Dict[str, Any]] = start.get("budget")
        #: Answers to `suspend(requests=…)` of the attempt before, by key: `{"action", "by"?, "comment"?, "content"?}` each.
        self.resume: Optional[Dict[str, Any]] = start.get("resume")
        #: Variables that the host gives this attempt, such as `OPENAI_BASE_URL`. In a process that does several runs they
        #: are not in `os.environ`.
        self.environment: Dict[str, str] = start.get("environment") or {}
        checkpoint = start.get("checkpoint") or {}
        #: The state that this or an earlier attempt saved last; None if there is none.
        self.state: Any = checkpoint.get("state")
        self._checkpoint_seq: int = checkpoint.get("seq", 0)
        self._used: Set[str] = set()
        self._counts: Dict[str, int] = {}
        self._event_lock = threading.Lock()
        self._event_seq = 0
        self._cancel = threading.Event()
        self._given_up = False
        self._stopping = False
        self._end: Optional[_Unwind] = None
        self._progress: Dict[str, Any] = {}
        self._steering: Deque[Dict[str, Any]] = deque()
        self._listeners: Dict[str, Callable[[Dict[str, Any]], None]] = {}
        self._touched = time.monotonic()

    # ---- what the run knows

    @property
    def prompt(self) -> str:
        """The text of the last message of the user; empty when there is none."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                content = message.get("content")
                if isinstance(content, str):
                    return content
                parts = content if isinstance(content, list) else []
                texts = (part.get("text") for part in parts if isinstance(part, dict))
                return "\n".join(text for text in texts if isinstance(text, str))
        return ""

    @property
    def cancelled(self) -> bool:
        """Whether the run is to be cancelled. Long work outside of this class's calls should look now and then."""
        return self._cancel.is_set()

    def check_cancelled(self) -> None:
        """Ends the function when the run is to be cancelled."""
        if self.cancelled:
            raise Cancelled()

    @property
    def stopping(self) -> bool:
        """Whether the process is asked to exit soon: a good moment for a checkpoint."""
        return self._stopping

    def steering(self) -> List[Dict[str, Any]]:
        """What was said to the run since this was last called, oldest first; see `serve(steerable=True)`."""
        taken = []
        while self._steering:
            taken.append(self._steering.popleft())
        return taken

    def suspend(
        self, requests: Optional[Dict[str, Any]] = None, wake_at: Optional[str] = None, state: Any = None
    ) -> NoReturn:
        """Ends the attempt in order to wait; does not return. With `requests`, questions to people by key
        (`{"message", "kind"?, "schema"?, "data"?, "timeoutSeconds"?}`), a later attempt finds the answers in `resume`; with
        `wake_at`, RFC 3339, it begins at that time. `state` is saved as a checkpoint."""
        self._check()
        parked = Parked()
        result: Dict[str, Any] = {"stopReason": "input_required" if requests else "yield", "output": {}}
        for name, value in (("inputRequests", requests), ("wakeAt", wake_at), ("state", state)):
            if value is not None:
                result[name] = value
        parked.result = result
        self._end = parked
        raise parked

    # ---- what others see

    def emit(self, event_type: str, data: Any = None) -> None:
        """Emits an event: a dotted name of your own, such as `invoice.read`, and JSON."""
        self._check()
        with self._event_lock:
            event = {**self._scope, "seq": self._event_seq + 1, "type": event_type, "data": data}
            try:
                self._link.notify("run/event", event)
            except _RpcError as error:
                raise self._understand(error) from None
            self._event_seq += 1

    def message(self, text: str) -> None:
        """Tells the user something: the event `assistant.message`."""
        self.emit("assistant.message", {"role": "assistant", "content": text})

    def progress(self, percent: float, note: str = "") -> None:
        """Says how far the run is, 0 to 100, and what it is doing: the event `progress.update`."""
        percent = min(max(float(percent), 0.0), 100.0)
        self._progress = {"progress": percent, "note": note}
        self.emit("progress.update", {"progress_percent": percent, "note": note})

    def log(self, message: str, level: str = "info", **fields: Any) -> None:
        """Writes a log line: `debug`, `info`, `warn` or `error`. Never fails; a log is no reason to."""
        self._touched = time.monotonic()
        line: Dict[str, Any] = {"level": level, "message": message, "runId": self.id}
        try:
            self._link.notify("log", {**line, "fields": fields} if fields else line)
        except (AgentError, _RpcError):
            pass

    # ---- the operations

    def _op_checkpoint(self, state: Any) -> _Operation:
        seq = self._checkpoint_seq + 1
        saved = yield _Ask("checkpoint/save", {"seq": seq, "state": state})
        # The host numbers all checkpoints of the run, so its word counts.
        self._checkpoint_seq = max(seq, (saved or {}).get("seq", seq))
        self.state = state
        return self._checkpoint_seq

    def _op_step(
        self,
        name: str,
        work: Callable[..., Any],
        args: Tuple[Any, ...],
        kwargs: Dict[str, Any],
        retry: Optional[Retry],
        kind: Optional[str],
    ) -> _Operation:
        begin: Dict[str, Any] = {"key": self._unique(name)}
        fingerprint = _fingerprint(args, kwargs)
        if fingerprint:
            begin["inputHash"] = fingerprint
        if kind:
            begin["kind"] = kind
        word = (yield _Ask("step/begin", begin)) or {}
        if word.get("state") == "replay":
            return word.get("result")
        if word.get("state") == "failed":
            raise _from_failure(word.get("error") or {})
        end: Dict[str, Any] = {"key": begin["key"]}
        max_tries = max(retry.max_tries, 1) if retry else 1
        for tries in range(1, max_tries + 1):
            if retry:
                end["retry"] = {"tries": tries, "maxTries": max_tries}
            try:
                result = yield _Work(lambda: work(*args, **kwargs))
                # Now and not when it is sent: a result that is no JSON is the step's failure.
                recorded = json.loads(json.dumps(result, allow_nan=False))
            except Exception as error:
                failure = _to_failure(error)
                if retry and failure["retriable"] and tries < max_tries:
                    yield _Pause(retry.delay_after(tries))
                    continue
                yield _Ask("step/end", {**end, "error": failure})
                raise
            yield _Ask("step/end", {**end, "result": recorded})
            # The same form that a replay would give, so that code cannot come to depend on the difference.
            return recorded
        raise AssertionError("a step is tried at least once")

    def _op_sleep(self, name: str, seconds: float) -> _Operation:
        yield _Ask("sleep", {"key": self._unique(name), "seconds": float(seconds)}, waits=True)

    def _op_signal(self, name: str, timeout: Optional[float]) -> _Operation:
        params: Dict[str, Any] = {"key": self._unique(name), "name": name}
        if timeout is not None:
            params["timeoutSeconds"] = float(timeout)
        answer = yield _Ask("signal/wait", params, waits=True)
        return None if answer is None else answer.get("payload")

    def _op_approval(self, key: str, message: str, data: Any, timeout: Optional[float]) -> _Operation:
        params: Dict[str, Any] = {"key": self._unique(key), "kind": "approval", "message": message}
        if data is not None:
            params["data"] = data
        if timeout is not None:
            params["timeoutSeconds"] = float(timeout)
        answer = (yield _Ask("input/request", params, waits=True)) or {}
        action = answer.get("action", "cancel")
        return Decision(
            action == "accept", answer.get("by"), answer.get("comment"), answer.get("content"), action == "cancel"
        )

    def _op_delegate(self, name: str, children: Sequence[Child], policy: str) -> _Operation:
        params = {"key": self._unique(name), "children": [child._to_json() for child in children], "policy": policy}
        answer = (yield _Ask("delegate", params, waits=True)) or {}
        return [
            ChildResult(child["runId"], child["status"], child.get("output"), child.get("error"))
            for child in answer.get("results", [])
        ]

    def _op_tools(self) -> _Operation:
        tools: List[Dict[str, Any]] = []
        cursor: Optional[str] = None
        while True:
            page = (yield _Ask("tools/list", {} if cursor is None else {"cursor": cursor})) or {}
            tools.extend(page.get("tools") or [])
            cursor = page.get("nextCursor")
            if cursor is None:
                return tools

    def _op_tool(self, name: str, arguments: Optional[Dict[str, Any]], timeout: Optional[float]) -> _Operation:
        params: Dict[str, Any] = {"callId": self._unique(name), "name": name, "arguments": arguments or {}}
        if timeout is not None:
            params["timeoutMs"] = int(timeout * 1000)
        return (yield _Ask("tools/call", params, waits=True))

    def _op_generate(
        self, request: Dict[str, Any], on_delta: Optional[Callable[[Dict[str, Any]], None]]
    ) -> _Operation:
        params: Dict[str, Any] = {"callId": self._unique("generate"), "request": request}
        if on_delta is not None:
            params["stream"] = True
            self._listeners[params["callId"]] = on_delta
        try:
            return (yield _Ask("llm/generate", params, waits=True))
        finally:
            self._listeners.pop(params["callId"], None)

    # ---- inside

    def _unique(self, name: str) -> str:
        """`name`, then `name#2`, `name#3`, …: the same keys in the same order in every attempt."""
        while True:
            count = self._counts[name] = self._counts.get(name, 0) + 1
            key = name if count == 1 else f"{name}#{count}"
            if key not in self._used:
                self._used.add(key)
                return key

    def _check(self) -> None:
        self._touched = time.monotonic()
        if self._end is not None:
            raise self._end

    def _admit(self, ask: _Ask) -> None:
        self._check()
        if ask.waits:
            self.check_cancelled()

    def _understand(self, error: _RpcError) -> BaseException:
        """What an error answer means for the run."""
        if error.code == -32800:
            return Cancelled()
        if error.code == -31014:
            self._end = Parked()
        elif error.code in (-31001, -31002, -31010):
            self._end = Stopped(error.message)
        else:
            return error.as_agent_error()
        return self._end

    def _cancel_now(self) -> None:
        self._cancel.set()
        self._link.interrupt(self.id)

    def _steer(self, messages: Any) -> None:
        for message in messages if isinstance(messages, list) else []:
            if len(self._steering) >= MAX_STEERING:
                self.log("a steering message was dropped: nobody takes them", "warn")
            elif isinstance(message, dict):
                self._steering.append(message)

    def _delta(self, delta: Dict[str, Any]) -> None:
        listener = self._listeners.get(str(delta.get("callId")))
        if listener is not None:
            listener(delta)


class Run(_BaseRun):
    """One attempt of a run, as your function sees it."""

    def checkpoint(self, state: Any) -> int:
        """Saves a state, JSON; durable when this returns. Returns its number."""
        return int(self._do(self._op_checkpoint(state)))

    def step(
        self,
        name: str,
        work: Callable[..., T],
        *args: Any,
        retry: Optional[Retry] = None,
        kind: Optional[str] = None,
        **kwargs: Any,
    ) -> T:
        """Does `work(*args, **kwargs)` once and records what it returns, which must be JSON.

        In a later attempt the recorded result is returned, as JSON gives it back (a tuple comes back as a list). If the
        arguments are JSON they are remembered too: a later attempt that comes with others fails with `call_conflict`
        instead of using a result that does not belong to it. A crash between the work and the record repeats the work,
        so work with effects outside should be fit to be repeated.
        """
        return self._do(self._op_step(name, work, args, kwargs, retry, kind))  # type: ignore[no-any-return]

    def sleep(self, name: str, seconds: float) -> None:
        """Sleeps across crashes and restarts. The time counts from the first attempt that comes here."""
        self._do(self._op_sleep(name, seconds))

    def wait_for_signal(self, name: str, timeout: Optional[float] = None) -> Any:
        """Waits for the next signal of this name and returns its payload; None when `timeout` seconds pass first."""
        return self._do(self._op_signal(name, timeout))

    def request_approval(
        self, key: str, message: str, data: Any = None, timeout: Optional[float] = None
    ) -> Decision:
        """Asks a person and waits for the decision. `key` is what people name when they decide."""
        return self._do(self._op_approval(key, message, data, timeout))  # type: ignore[no-any-return]

    def delegate(self, name: str, children: Sequence[Child], policy: str = "all") -> List[ChildResult]:
        """Runs other agents as child runs, all at once, and returns how they ended, in the order given.

        `policy`: `all` waits for all and fails if one failed, `fail_fast` fails with the first failure and cancels the
        others, `settle` waits for all and reports each.
        """
        return self._do(self._op_delegate(name, children, policy))  # type: ignore[no-any-return]

    def tools(self) -> List[Dict[str, Any]]:
        """The tools that the run may use: `{"name", "description", "inputSchema"}` each."""
        return self._do(self._op_tools())  # type: ignore[no-any-return]

    def call_tool(
        self, name: str, arguments: Optional[Dict[str, Any]] = None, timeout: Optional[float] = None
    ) -> Dict[str, Any]:
        """Uses a tool: `{"content", "structuredContent"?, "isError"?}`. Recorded like a step, by its place in the run."""
        return self._do(self._op_tool(name, arguments, timeout))  # type: ignore[no-any-return]

    def generate(
        self, request: Dict[str, Any], on_delta: Optional[Callable[[Dict[str, Any]], None]] = None
    ) -> Dict[str, Any]:
        """Asks a model, `{"model", "messages", …}`: `{"message", "finishReason", "model", "usage"}`. Recorded like a
        step. `on_delta` hears pieces of the answer, from another thread; they are for showing and may be left out."""
        return self._do(self._op_generate(request, on_delta))  # type: ignore[no-any-return]

    # ---- inside

    def _do(self, operation: _Operation) -> Any:
        try:
            request = next(operation)
            while True:
                try:
                    value = self._perform(request)
                except BaseException as error:
                    request = operation.throw(error)
                else:
                    request = operation.send(value)
        except StopIteration as end:
            return end.value

    def _perform(self, request: Union[_Ask, _Work, _Pause]) -> Any:
        if isinstance(request, _Work):
            return request.work()
        if isinstance(request, _Pause):
            if self._cancel.wait(request.seconds):
                raise Cancelled()
            return None
        self._admit(request)
        try:
            return self._ask(request)
        except _RpcError as error:
            raise self._understand(error) from None
        finally:
            self._touched = time.monotonic()

    def _ask(self, ask: _Ask) -> Any:
        room, done = threading.Event(), threading.Event()
        if not self._link.reserve(ask.method == "step/end", room.set):
            room.wait()
        try:
            call = _Call(self.id, ask.waits, done.set)
            self._link.open(call, ask.method, {**self._scope, **ask.params}, self)
            done.wait()
        finally:
            self._link.release()
        return self._link.conclude(call)


class AsyncRun(_BaseRun):
    """One attempt of a run, as an `async def` sees it. As `Run`, with coroutines; `work` of a step may be one as well."""

    async def checkpoint(self, state: Any) -> int:
        """As `Run.checkpoint`."""
        return int(await self._do(self._op_checkpoint(state)))

    async def step(
        self,
        name: str,
        work: Callable[..., Union[T, Awaitable[T]]],
        *args: Any,
        retry: Optional[Retry] = None,
        kind: Optional[str] = None,
        **kwargs: Any,
    ) -> T:
        """As `Run.step`. What `work` returns is awaited if it can be; plain functions hold up the event loop."""
        return await self._do(self._op_step(name, work, args, kwargs, retry, kind))  # type: ignore[no-any-return]

    async def sleep(self, name: str, seconds: float) -> None:
        """As `Run.sleep`."""
        await self._do(self._op_sleep(name, seconds))

    async def wait_for_signal(self, name: str, timeout: Optional[float] = None) -> Any:
        """As `Run.wait_for_signal`."""
        return await self._do(self._op_signal(name, timeout))

    async def request_approval(
        self, key: str, message: str, data: Any = None, timeout: Optional[float] = None
    ) -> Decision:
        """As `Run.request_approval`."""
        return await self._do(self._op_approval(key, message, data, timeout))  # type: ignore[no-any-return]

    async def delegate(self, name: str, children: Sequence[Child], policy: str = "all") -> List[ChildResult]:
        """As `Run.delegate`."""
        return await self._do(self._op_delegate(name, children, policy))  # type: ignore[no-any-return]

    async def tools(self) -> List[Dict[str, Any]]:
        """As `Run.tools`."""
        return await self._do(self._op_tools())  # type: ignore[no-any-return]

    async def call_tool(
        self, name: str, arguments: Optional[Dict[str, Any]] = None, timeout: Optional[float] = None
    ) -> Dict[str, Any]:
        """As `Run.call_tool`."""
        return await self._do(self._op_tool(name, arguments, timeout))  # type: ignore[no-any-return]

    async def generate(
        self, request: Dict[str, Any], on_delta: Optional[Callable[[Dict[str, Any]], None]] = None
    ) -> Dict[str, Any]:
        """As `Run.generate`; `on_delta` is called in the event loop."""
        if on_delta is not None:
            import asyncio

            listener, loop = on_delta, asyncio.get_running_loop()
            on_delta = lambda delta: _call_in(loop, lambda: listener(delta))
        return await self._do(self._op_generate(request, on_delta))  # type: ignore[no-any-return]

    # ---- inside

    async def _do(self, operation: _Operation) -> Any:
        try:
            request = next(operation)
            while True:
                try:
                    value = await self._perform(request)
                except BaseException as error:
                    request = operation.throw(error)
                else:
                    request = operation.send(value)
        except StopIteration as end:
            return end.value

    async def _perform(self, request: Union[_Ask, _Work, _Pause]) -> Any:
        if isinstance(request, _Work):
            result = request.work()
            return await result if inspect.isawaitable(result) else result
        if isinstance(request, _Pause):
            import asyncio

            by = time.monotonic() + request.seconds
            while time.monotonic() < by:
                self.check_cancelled()
                await asyncio.sleep(min(0.05, max(by - time.monotonic(), 0)))
            return None
        self._admit(request)
        try:
            return await self._ask(request)
        except _RpcError as error:
            raise self._understand(error) from None
        finally:
            self._touched = time.monotonic()

    async def _ask(self, ask: _Ask) -> Any:
        import asyncio

        loop = asyncio.get_running_loop()
        room, done = asyncio.Event(), asyncio.Event()
        if not self._link.reserve(ask.method == "step/end", lambda: _call_in(loop, room.set)):
            await room.wait()
        try:
            call = _Call(self.id, ask.waits, lambda: _call_in(loop, done.set))
            self._link.open(call, ask.method, {**self._scope, **ask.params}, self)
            await done.wait()
        finally:
            self._link.release()
        return self._link.conclude(call)


def _call_in(loop: asyncio.AbstractEventLoop, work: Callable[[], Any]) -> None:
    try:
        loop.call_soon_threadsafe(work)
    except RuntimeError:
        # The loop is closed, and whoever waited in it is gone.
        pass


def _fingerprint(args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Optional[str]:
    if not args and not kwargs:
        return None
    try:
        text = json.dumps([args, kwargs], sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


def _to_failure(error: BaseException) -> Dict[str, Any]:
    if not isinstance(error, AgentError):
        return {"type": type(error).__name__, "message": str(error), "retriable": True}
    failure = {"type": error.kind, "message": error.message, "retriable": error.retriable}
    return failure if error.details is None else {**failure, "details": error.details}


def _from_failure(failure: Dict[str, Any]) -> AgentError:
    kind, message = str(failure.get("type", "failed")), str(failure.get("message", ""))
    return AgentError(kind, message, bool(failure.get("retriable")), failure.get("details"))


def _agent_failed(error: BaseException) -> _RpcError:
    failure = _to_failure(error)
    data = {"type": failure["type"], "retryable": failure["retriable"]}
    if "details" in failure:
        data["details"] = failure["details"]
    return _RpcError(-31000, failure["message"], **data)


def _to_output(value: Any) -> Dict[str, Any]:
    if value is None:
        return {}
    return {"text": value} if isinstance(value, str) else {"data": value}


class _Server:
    """The process: takes runs from the host and lives until the host lets it go."""

    def __init__(
        self, agents: Dict[str, Code], name: str, version: str, max_concurrent_runs: int, steerable: bool
    ) -> None:
        self._agents = agents
        self._info = {"name": name, "version": version}
        self._max_runs = max(max_concurrent_runs, 1)
        self._steerable = steerable
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._changed = threading.Condition()
        self._runs: Dict[str, _BaseRun] = {}
        self._answering = 0
        self._stop_at: Optional[float] = None
        self._closed = threading.Event()
        self._pulse = threading.Event()
        self._heartbeat = 10.0
        self._pipe = _connect()
        self._link = _Link(self._pipe)

    def serve(self) -> int:
        for work in (self._read, self._beat):
            threading.Thread(target=work, daemon=True).start()
        with self._changed:
            while True:
                if self._stop_at is None:
                    self._changed.wait()
                    continue
                if not self._runs and not self._answering:
                    return 0
                left = self._stop_at - time.monotonic()
                if left <= 0:
                    return 1
                self._changed.wait(left)

    # ---- reading

    def _read(self) -> None:
        try:
            garbage = 0
            for line in self._pipe.lines():
                garbage = 0 if self._on_line(line) else garbage + 1
                if garbage >= MAX_GARBAGE_LINES:
                    break
        finally:
            self._close()

    def _on_line(self, line: Optional[bytes]) -> bool:
        """Handles one line; False when it was no message. None stands for a line over the limit."""
        if line is None:
            self._link.answer(None, error=_RpcError(-31011, f"a line over {MAX_LINE_BYTES} bytes"))
            return True
        if not line.strip():
            return True
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or "jsonrpc" not in message:
            print("adjutant_agent: not a message:", line[:400].decode("utf-8", "replace"), file=sys.stderr)
            return False
        method, has_id = message.get("method"), "id" in message
        if method is None and has_id and ("result" in message or "error" in message):
            self._link.resolve(message)
        elif not isinstance(method, str):
            self._link.answer(message.get("id"), error=_RpcError(-32600, "not a request and not a response"))
        elif has_id:
            self._on_request(message["id"], method, message.get("params"))
        else:
            self._on_notification(method, message.get("params"))
        return True

    def _on_request(self, request_id: Any, method: str, params: Any) -> None:
        handlers = {"initialize": self._initialize, "health/check": self._health, "shutdown": self._shutdown}
        if method == "run/start":
            self._start_run(request_id, params)
        elif method in handlers:
            try:
                self._link.answer(request_id, handlers[method](params if isinstance(params, dict) else {}))
            except _RpcError as error:
                self._link.answer(request_id, error=error)
            except (TypeError, ValueError, AttributeError) as error:
                self._link.answer(request_id, error=_RpcError(-32602, f"{method}: {error}"))
            if method == "shutdown":
                self._stop(params)
        else:
            self._link.answer(request_id, error=_RpcError(-32601, f"no method {method!r} here"))

    def _on_notification(self, method: str, params: Any) -> None:
        params = params if isinstance(params, dict) else {}
        with self._changed:
            runs = list(self._runs.values())
        for run in runs:
            mine = run.id == params.get("runId") and params.get("epoch", run._scope["epoch"]) == run._scope["epoch"]
            if method == "run/cancel" and mine:
                run._cancel_now()
            elif method == "run/steer" and mine:
                run._steer(params.get("messages"))
            elif method == "llm/delta" and mine:
                run._delta(params)
            elif method == "$/cancel_request" and run._request_id == params.get("requestId"):
                run._given_up = True
                run._cancel_now()

    def _initialize(self, offer: Dict[str, Any]) -> Dict[str, Any]:
        version = offer.get("protocolVersion")
        if not isinstance(version, int) or version < 1:
            raise _RpcError(-32602, "initialize: protocolVersion must be 1 or more")
        limits = offer.get("limits") or {}
        self._link.max_line_bytes = int(limits.get("maxLineBytes", MAX_LINE_BYTES))
        self._link.max_calls = max(int(limits.get("maxInflightCalls", MAX_INFLIGHT_CALLS)), 1)
        self._heartbeat = max(float(offer.get("heartbeatMs", 10_000)) / 1000, 0.02)
        self._pulse.set()
        return {
            "protocolVersion": min(version, PROTOCOL_VERSION),
            "info": self._info,
            "capabilities": {"checkpoint": True, "steps": True, "steer": self._steerable, "input": True},
            "maxConcurrentRuns": self._max_runs,
            "agents": [
                {"name": name, "description": (code.__doc__ or "").strip()} for name, code in self._agents.items()
            ],
        }

    def _health(self, _params: Dict[str, Any]) -> Dict[str, Any]:
        now = time.monotonic()
        with self._changed:
            runs = [{"runId": run.id, "lastProgressMs": int((now - run._touched) * 1000)} for run in self._runs.values()]
        return {"status": "ok", "runs": runs} if runs else {"status": "ok"}

    def _shutdown(self, _params: Dict[str, Any]) -> Dict[str, Any]:
        return {}

    def _stop(self, params: Any) -> None:
        grace = params.get("graceMs") if isinstance(params, dict) else None
        self._end_at(time.monotonic() + (grace / 1000 if isinstance(grace, (int, float)) else 0))

    def _end_at(self, at: float) -> None:
        with self._changed:
            self._stop_at = at if self._stop_at is None else min(at, self._stop_at)
            for run in self._runs.values():
                run._stopping = True
            self._changed.notify_all()

    def _close(self) -> None:
        """The host is gone: nothing that runs do from here on counts."""
        self._link.close()
        with self._changed:
            runs = list(self._runs.values())
        for run in runs:
            run._cancel_now()
        self._closed.set()
        self._pulse.set()
        self._end_at(time.monotonic() + CLOSE_GRACE)

    # ---- working

    def _start_run(self, request_id: Any, params: Any) -> None:
        try:
            kind = AsyncRun if self._is_async(params.get("agent")) else Run
            run = kind(self._link, request_id, params)
        except (KeyError, TypeError, AttributeError) as error:
            self._link.answer(request_id, error=_RpcError(-32602, f"run/start: {error!r}"))
            return
        with self._changed:
            refusal = None
            if self._stop_at is not None:
                refusal = "the process is about to exit"
            elif run.id in self._runs:
                refusal = "an earlier attempt of this run has not ended yet"
            elif len(self._runs) >= self._max_runs:
                refusal = "as many runs as the process takes"
            else:
                self._runs[run.id] = run
        if refusal:
            self._link.answer(request_id, error=_RpcError(-31005, refusal))
        else:
            self._begin(run)

    def _begin(self, run: _BaseRun) -> None:
        if isinstance(run, AsyncRun):
            import asyncio

            asyncio.run_coroutine_threadsafe(self._drive_async(run), self._event_loop())
        else:
            threading.Thread(target=self._drive, args=(run,), daemon=True).start()

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that all async runs share, in a thread of its own. Only the reader calls this."""
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        return self._loop

    def _drive(self, run: _BaseRun) -> None:
        output: Any = None
        failure: Optional[BaseException] = None
        try:
            output = self._code_for(run.agent)(run)
        except BaseException as error:  # SystemExit of an agent ends its run, not the process with all its runs.
            failure = error
        self._finish(run, output, failure)

    async def _drive_async(self, run: _BaseRun) -> None:
        output: Any = None
        failure: Optional[BaseException] = None
        try:
            output = await self._code_for(run.agent)(run)
        except BaseException as error:
            failure = error
        self._finish(run, output, failure)

    def _finish(self, run: _BaseRun, output: Any, failure: Optional[BaseException]) -> None:
        result, error = self._outcome(run, _to_output(output), failure)
        # Let go before the answer, so that the host may start the next run as soon as it has it; the process does not
        # end in between.
        with self._changed:
            self._runs.pop(run.id, None)
            self._answering += 1
        self._link.answer(run._request_id, result, error)
        with self._changed:
            self._answering -= 1
            self._changed.notify_all()

    def _outcome(
        self, run: _BaseRun, output: Dict[str, Any], failure: Optional[BaseException]
    ) -> Tuple[Any, Optional[_RpcError]]:
        # An agent that swallowed the end of its attempt must not pass for one that is done.
        end = run._end or failure
        if isinstance(end, Parked):
            return end.result, None
        if isinstance(end, Stopped):
            return None, _RpcError(-31002, str(end))
        if run._given_up:
            return None, _RpcError(-32800, "run/start was given up")
        if run.cancelled or isinstance(failure, Cancelled):
            return {"stopReason": "cancelled", "output": output}, None
        if failure is None:
            return {"stopReason": "end_turn", "output": output}, None
        if not isinstance(failure, AgentError):
            traceback.print_exception(type(failure), failure, failure.__traceback__, file=sys.stderr)
        return None, _agent_failed(failure)

    def _is_async(self, name: Any) -> bool:
        try:
            return inspect.iscoroutinefunction(self._code_for(str(name)))
        except AgentError:
            return False

    def _code_for(self, name: str) -> Code:
        # One agent may go by any name that the host likes; among several the name decides.
        code = next(iter(self._agents.values())) if len(self._agents) == 1 else self._agents.get(name)
        if code is None:
            raise AgentError("unknown_agent", f"no agent {name!r} here", retriable=False)
        return code

    def _beat(self) -> None:
        while not self._closed.is_set():
            if self._pulse.wait(self._heartbeat):
                self._pulse.clear()
                continue
            with self._changed:
                runs = list(self._runs.values())
            for run in runs:
                try:
                    self._link.notify("run/heartbeat", {**run._scope, **run._progress})
                except (AgentError, _RpcError):
                    # A host that is gone shows itself as the end of stdin; there is no one else to tell.
                    pass


def _take_over_stdio() -> Tuple[int, int]:
    """Keeps stdin and stdout for the protocol; prints and child processes get stderr and an empty stdin instead."""
    sys.stdout.flush()
    in_fd, out_fd = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return in_fd, out_fd


class _Pipe:
    """Lines to and from the host over a pair of file descriptors."""

    def __init__(self, in_fd: int, out_fd: int) -> None:
        self._in_fd = in_fd
        self._out_fd = out_fd
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        """Writes one line, given without its newline."""
        self._write_all(line + b"\n")

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        with self._lock:
            while view:
                view = view[os.write(self._out_fd, view):]

    def lines(self) -> Iterator[Optional[bytes]]:
        """Yields lines without their newline, None for one over the limit. Raw reads: a thread that waits in a buffered
        reader holds its lock, and would keep the interpreter from exiting."""
        pieces: List[bytes] = []
        size, skipping = 0, False
        while True:
            piece = self._read()
            if not piece:
                break
            *ends, rest = piece.split(b"\n")
            for end in ends:
                pieces.append(end)
                if skipping:
                    skipping = False
                elif size + len(end) > MAX_LINE_BYTES:
                    yield None
                else:
                    yield b"".join(pieces)
                pieces, size = [], 0
            size += len(rest)
            if skipping or size > MAX_LINE_BYTES:
                if not skipping:
                    yield None
                pieces, size, skipping = [], 0, True
            elif rest:
                pieces.append(rest)
        if pieces and not skipping:
            yield b"".join(pieces)

    def _read(self) -> bytes:
        try:
            return os.read(self._in_fd, 65536)
        except ConnectionError:
            return b""


class _WebSocket(_Pipe):
    """The same over a WebSocket (RFC 6455): one line in each text message, without the newline."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        self._socket = socket.create_connection((host, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(self._socket.fileno(), self._socket.fileno())
        self._buffer = bytearray()
        key = base64.b64encode(os.urandom(16)).decode()
        self._write_all(
            f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode("ascii")
        )
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head = self._take(self._buffer.index(b"\r\n\r\n") + 4)
        digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode("ascii")).digest()
        if b" 101 " not in head.split(b"\r\n")[0] or base64.b64encode(digest) not in head:
            raise ConnectionError(f"no WebSocket at {url}")

    def _more(self) -> None:
        piece = self._read()
        if not piece:
            raise ConnectionError("the host closed the connection")
        self._buffer.extend(piece)

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def write(self, line: bytes) -> None:
        self._frame(1, line)

    def _frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
        mask = os.urandom(4)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        masked = (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")
        self._write_all(head + mask + masked)

    def lines(self) -> Iterator[Optional[bytes]]:
        message, size = b"", 0
        while True:
            try:
                final, opcode, payload = self._next_frame()
            except ConnectionError:
                return
            if opcode == 8:
                return
            if opcode == 9:
                self._frame(10, payload)
            elif opcode in (0, 1, 2):
                size += len(payload)
                message = message + payload if size <= MAX_LINE_BYTES else b""
                if final:
                    yield message if size <= MAX_LINE_BYTES else None
                    message, size = b"", 0

    def _next_frame(self) -> Tuple[bool, int, bytes]:
        first, second = self._take(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._take(8))
        return bool(first & 0x80), first & 0x0F, self._take(size)


def _connect() -> _Pipe:
    """Reaches the host where `AGENT_WIRE` says, and on a socket says who comes."""
    address = os.environ.get("AGENT_WIRE") or "stdio"
    if address == "stdio":
        return _Pipe(*_take_over_stdio())
    if address.startswith("unix:"):
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.connect(address[len("unix:"):])
        fd = stream.detach()
        pipe = _Pipe(fd, fd)
    elif address.startswith("ws:"):
        pipe = _WebSocket(address[len("ws:"):] if address.startswith("ws:ws:") else address)
    else:
        raise AgentError("bad_address", f"AGENT_WIRE is {address!r}", retriable=False)
    token = os.environ.get("AGENT_WIRE_TOKEN", "")
    hello = {"jsonrpc": "2.0", "method": "hello", "params": {"token": token}}
    pipe.write(json.dumps(hello).encode("ascii"))
    return pipe


_registered: Dict[str, Code] = {}


def agent(name: str) -> Callable[[Code], Code]:
    """Names a function as an agent of this program."""

    def register(code: Code) -> Code:
        _registered[name] = code
        return code

    return register


def serve(
    code: Optional[Code] = None,
    name: Optional[str] = None,
    version: str = "",
    max_concurrent_runs: int = 1,
    steerable: bool = False,
) -> None:
    """Serves the functions named with `@agent`, or `code` alone, until the runtime lets the process go. Does not
    return: exits with 0 when all runs had ended.

    `max_concurrent_runs`: how many runs the process takes at once, each in a thread of its own, or all `async def` in one
    event loop. `steerable`: the agents look at `run.steering()` now and then.
    """
    agents = {name or code.__name__: code} if code is not None else dict(_registered)
    if not agents:
        raise AgentError("no_agent", "nothing to serve: name a function with @agent, or pass one", retriable=False)
    server = _Server(agents, name or next(iter(agents)), version, max_concurrent_runs, steerable)
    status = server.serve()
    sys.stderr.flush()
    sys.exit(status)
