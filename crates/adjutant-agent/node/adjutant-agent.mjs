/**
 * Write an agent for Adjutant in JavaScript or TypeScript: one file, no dependencies, Node 18 or later.
 *
 *     import { agent, serve } from "./adjutant-agent.mjs";
 *
 *     agent("word-report", async (run) => {
 *       const text = await run.step("read", () => readFile("book.txt", "utf8"));
 *       const words = await run.step("count", () => text.split(/\s+/).length, { input: text });
 *       await run.progress(50, "counted");
 *       await run.sleep("cool down", 3600);
 *       return { words };
 *     });
 *     serve();
 *
 * The program talks to the runtime over stdin and stdout, or over the socket that `AGENT_WIRE` names. It gets steps that
 * are not done twice, sleeps and signals that survive restarts, approvals, checkpoints, events, tools, models and child
 * runs. Types are in `adjutant-agent.d.mts`.
 *
 * Three rules:
 *
 * - What `run.step` returns is recorded, and must be JSON. After a crash or a wait a later attempt calls your function
 *   again from the top; recorded steps return their results without being done. So what happens outside of steps should
 *   be cheap and come out the same each time. Calls that go on beside each other need names of their own.
 * - `Parked`, `Cancelled` and `Stopped` end the attempt. A `catch` that meets one throws it again.
 * - Stdout belongs to the protocol: `console.log` goes to stderr, which the runtime keeps as the agent's log. Give child
 *   processes another stdout than your own. Do not block the event loop for long: the runtime wants answers meanwhile.
 *
 * The wire itself is described in Adjutant's reference, page "agent wire".
 */

import { createHash, randomBytes } from "node:crypto";
import http from "node:http";
import net from "node:net";

const PROTOCOL_VERSION = 1;
const MAX_LINE_BYTES = 16 * 1024 * 1024;
const MAX_GARBAGE_LINES = 100;
const MAX_INFLIGHT_CALLS = 64;
const MAX_STEERING = 256;
/** Milliseconds that runs may take to unwind after the runtime closed the connection. */
const CLOSE_GRACE = 2000;

const ERRORS = {
  "-32700": "parse_error", "-32600": "invalid_request", "-32601": "method_not_found", "-32602": "invalid_params",
  "-32603": "internal", "-32800": "cancelled", "-31000": "agent_failed", "-31001": "unknown_run", "-31002": "fenced",
  "-31003": "budget", "-31004": "deadline", "-31005": "overloaded", "-31006": "tool_unavailable",
  "-31007": "tool_timeout", "-31008": "denied", "-31009": "provider", "-31010": "process_gone", "-31011": "too_large",
  "-31012": "call_conflict", "-31013": "state_incompatible", "-31014": "park",
};
const RETRYABLE = new Set([-32603, -31000, -31005, -31006, -31007, -31009, -31010, -31014]);

// ---- what can be thrown

export class AgentError extends Error {
  constructor(kind, message, { retriable = true, details } = {}) {
    super(message);
    this.name = "AgentError";
    this.kind = kind;
    this.retriable = retriable;
    this.details = details;
  }
}

export class Unwind extends Error {}
export class Parked extends Unwind {
  /** What the attempt is answered with. */
  result = { stopReason: "yield", output: {} };
}
export class Cancelled extends Unwind {}
export class Stopped extends Unwind {}

/** The `error` of a response. */
class RpcError extends Error {
  constructor(code, message, data = {}) {
    super(message);
    this.code = code;
    this.data = { code: ERRORS[code] ?? `rpc_${code}`, retryable: RETRYABLE.has(code), ...data };
  }

  static read(error) {
    const code = Number.isInteger(error?.code) ? error.code : -32603;
    const data = isObject(error?.data) ? error.data : {};
    return new RpcError(code, String(error?.message ?? ""), data);
  }

  toJSON() {
    return { code: this.code, message: this.message, data: this.data };
  }
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function toFailure(error) {
  if (error instanceof AgentError) {
    const failure = { type: error.kind, message: error.message, retriable: error.retriable };
    return error.details === undefined ? failure : { ...failure, details: error.details };
  }
  const type = (error instanceof Error && (error.constructor.name || error.name)) || "Error";
  return { type, message: error instanceof Error ? error.message : String(error), retriable: true };
}

function fromFailure(failure) {
  const { type = "failed", message = "", retriable = false, details } = failure ?? {};
  return new AgentError(type, message, { retriable, details });
}

function agentFailed(error) {
  const { type, message, retriable, details } = toFailure(error);
  return new RpcError(-31000, message, { type, retryable: retriable, ...(details === undefined ? {} : { details }) });
}

/** A value as a replay would give it back; what is no JSON is the step's failure. */
function recorded(value) {
  const text = JSON.stringify(value === undefined ? null : value);
  if (text === undefined) throw new AgentError("not_json", `${typeof value} is no JSON`, { retriable: false });
  return JSON.parse(text);
}

/** A fingerprint that does not depend on the order of an object's keys. */
function fingerprint(value) {
  const sorted = (_key, inner) =>
    isObject(inner) ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1))) : inner;
  return "sha256:" + createHash("sha256").update(JSON.stringify(value, sorted) ?? "undefined").digest("hex");
}

// ---- the connection

/** Cuts bytes into lines; null stands for a line over the limit. */
class Lines {
  #pieces = [];
  #size = 0;
  #skipping = false;

  *push(chunk) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      const piece = chunk.subarray(start, end);
      if (this.#skipping) this.#skipping = false;
      else if (this.#size + piece.length > MAX_LINE_BYTES) yield null;
      else yield Buffer.concat([...this.#pieces, piece]);
      this.#pieces = [];
      this.#size = 0;
      start = end + 1;
    }
    const rest = chunk.subarray(start);
    this.#size += rest.length;
    if (this.#skipping || this.#size > MAX_LINE_BYTES) {
      if (!this.#skipping) yield null;
      this.#pieces = [];
      this.#size = 0;
      this.#skipping = true;
    } else if (rest.length > 0) {
      this.#pieces.push(rest);
    }
  }

  /** The last line, if it came without its newline. */
  *finish() {
    if (this.#pieces.length > 0 && !this.#skipping) yield Buffer.concat(this.#pieces);
  }
}

/** Lines to and from the host over streams. */
class Pipe {
  constructor(input, output, write = output.write.bind(output)) {
    this.input = input;
    this.output = output;
    this.rawWrite = write;
  }

  listen(onLine, onEnd) {
    const lines = new Lines();
    let ended = false;
    const end = () => {
      if (ended) return;
      ended = true;
      for (const line of lines.finish()) onLine(line);
      onEnd();
    };
    this.input.on("data", (chunk) => {
      for (const line of lines.push(chunk)) onLine(line);
    });
    this.input.on("end", end).on("close", end).on("error", end);
  }

  /** Writes a line; false when the host does not keep up. */
  write(line) {
    return this.rawWrite(line + "\n");
  }

  /** Resolves when the host keeps up again. */
  drained() {
    return new Promise((resolve) => {
      if (this.output.destroyed || !this.output.writableNeedDrain) return resolve();
      const done = () => {
        this.output.off("drain", done).off("close", done);
        resolve();
      };
      this.output.on("drain", done).on("close", done);
    });
  }

  /** Calls back when all is written. */
  flush(done) {
    if (this.output.destroyed || this.output.writableLength === 0) return done();
    const timer = setTimeout(done, 500);
    this.output.once("drain", () => {
      clearTimeout(timer);
      done();
    });
  }
}

/** The same over a WebSocket (RFC 6455): one line in each text message, without the newline. */
class WebSocketPipe extends Pipe {
  #buffer = Buffer.alloc(0);
  #chunks = [];
  #have = 0;
  /** So many bytes have to be there before another look is worth it. */
  #need = 2;
  #message = [];
  #size = 0;

  constructor(socket, head) {
    super(socket, socket);
    if (head.length > 0) socket.unshift(head);
  }

  listen(onLine, onEnd) {
    let ended = false;
    const end = () => {
      if (!ended) onEnd();
      ended = true;
    };
    this.input.on("data", (chunk) => {
      this.#chunks.push(chunk);
      this.#have += chunk.length;
      if (this.#buffer.length + this.#have < this.#need) return;
      this.#buffer = Buffer.concat([this.#buffer, ...this.#chunks.splice(0)]);
      this.#have = 0;
      for (let frame = this.#frame(); frame; frame = this.#frame()) {
        const { final, opcode, payload } = frame;
        if (opcode === 8) return void this.input.end();
        if (opcode === 9) this.#send(10, payload);
        if (opcode > 2) continue;
        this.#size += payload.length;
        this.#message = this.#size > MAX_LINE_BYTES ? [] : [...this.#message, payload];
        if (!final) continue;
        onLine(this.#size > MAX_LINE_BYTES ? null : Buffer.concat(this.#message));
        this.#message = [];
        this.#size = 0;
      }
    });
    this.input.on("end", end).on("close", end).on("error", end);
  }

  #frame() {
    const bytes = this.#buffer;
    this.#need = 2;
    if (bytes.length < 2) return null;
    let size = bytes[1] & 0x7f;
    let start = 2;
    if (size === 126) {
      if (bytes.length < 4) return null;
      size = bytes.readUInt16BE(2);
      start = 4;
    } else if (size === 127) {
      if (bytes.length < 10) return null;
      size = Number(bytes.readBigUInt64BE(2));
      start = 10;
    }
    if (bytes.length < start + size) {
      this.#need = start + size;
      return null;
    }
    this.#buffer = bytes.subarray(start + size);
    return { final: (bytes[0] & 0x80) !== 0, opcode: bytes[0] & 0x0f, payload: bytes.subarray(start, start + size) };
  }

  #send(opcode, payload) {
    const size = payload.length;
    const head = Buffer.alloc(size < 126 ? 2 : size < 65536 ? 4 : 10);
    head[0] = 0x80 | opcode;
    head[1] = 0x80 | (size < 126 ? size : size < 65536 ? 126 : 127);
    if (head.length === 4) head.writeUInt16BE(size, 2);
    if (head.length === 10) head.writeBigUInt64BE(BigInt(size), 2);
    const mask = randomBytes(4);
    const masked = Buffer.alloc(size);
    for (let at = 0; at < size; at += 1) masked[at] = payload[at] ^ mask[at & 3];
    return this.output.write(Buffer.concat([head, mask, masked]));
  }

  write(line) {
    return this.#send(1, Buffer.from(line, "utf8"));
  }
}

/** Reaches the host where `AGENT_WIRE` says, and on a socket says who comes. */
async function connect() {
  const address = process.env.AGENT_WIRE || "stdio";
  if (address === "stdio") {
    const write = process.stdout.write.bind(process.stdout);
    process.stdout.write = process.stderr.write.bind(process.stderr);
    return new Pipe(process.stdin, process.stdout, write);
  }
  let pipe;
  if (address.startsWith("unix:")) {
    const socket = net.connect(address.slice("unix:".length));
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    pipe = new Pipe(socket, socket);
  } else if (address.startsWith("ws:")) {
    pipe = await upgrade(new URL(address.startsWith("ws:ws:") ? address.slice(3) : address));
  } else {
    throw new AgentError("bad_address", `AGENT_WIRE is ${JSON.stringify(address)}`, { retriable: false });
  }
  const token = process.env.AGENT_WIRE_TOKEN ?? "";
  pipe.write(JSON.stringify({ jsonrpc: "2.0", method: "hello", params: { token } }));
  return pipe;
}

function upgrade(url) {
  const key = randomBytes(16).toString("base64");
  const headers = {
    Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13",
  };
  const { hostname: host, port, pathname: path } = url;
  const wanted = createHash("sha1").update(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port: port || 80, path, headers });
    request.on("error", reject);
    request.on("response", (response) => reject(new Error(`no WebSocket at ${url}: status ${response.statusCode}`)));
    request.on("upgrade", (response, socket, head) => {
      if (response.headers["sec-websocket-accept"] !== wanted) return reject(new Error(`no WebSocket at ${url}`));
      socket.setNoDelay(true);
      resolve(new WebSocketPipe(socket, head));
    });
    request.end();
  });
}

/** One writer, and the calls that wait for an answer. */
class Link {
  maxLineBytes = MAX_LINE_BYTES;
  maxCalls = MAX_INFLIGHT_CALLS;
  #pipe;
  #calls = new Map();
  #taken = 0;
  #queue = [];
  #nextId = 1;
  #closed = false;

  constructor(pipe) {
    this.#pipe = pipe;
  }

  /** Writes a message; false when the host does not keep up. */
  send(message) {
    const line = JSON.stringify({ jsonrpc: "2.0", ...message });
    const size = Buffer.byteLength(line);
    if (size > this.maxLineBytes) {
      throw new RpcError(-31011, `a message of ${size} bytes; the host takes ${this.maxLineBytes}`);
    }
    return this.#pipe.write(line);
  }

  notify(method, params) {
    return this.send({ method, params });
  }

  drained() {
    return this.#pipe.drained();
  }

  flush(done) {
    this.#pipe.flush(done);
  }

  /** Answers; an answer that cannot be sent becomes the error that says so, for an answer there must be. */
  answer(id, result, error) {
    try {
      this.send(error ? { id, error } : { id, result: result === undefined ? null : result });
    } catch (problem) {
      const { code } = problem;
      this.send({ id, error: code === -31011 ? new RpcError(-31011, problem.message) : agentFailed(problem) });
    }
  }

  /** Waits for a slot: as many calls may be open as the host takes. */
  async #reserve(urgent) {
    if (!urgent && !this.#closed && this.#taken >= this.maxCalls) {
      // Whoever gives up a slot hands it over.
      return new Promise((resolve) => this.#queue.push(resolve));
    }
    this.#taken += 1;
  }

  #release() {
    const next = this.#taken <= this.maxCalls ? this.#queue.shift() : undefined;
    if (next) next();
    else this.#taken -= 1;
  }

  async call(method, params, run, waits) {
    await this.#reserve(method === "step/end");
    try {
      if (waits) run.checkCancelled();
      if (this.#closed) throw gone();
      const id = this.#nextId++;
      return await new Promise((resolve, reject) => {
        this.#calls.set(id, { resolve, reject, waits, run });
        try {
          this.send({ id, method, params });
        } catch (error) {
          this.#calls.delete(id);
          reject(error);
        }
      });
    } finally {
      this.#release();
    }
  }

  resolve(message) {
    const call = this.#calls.get(message.id);
    if (!call) return;
    this.#calls.delete(message.id);
    if ("error" in message) call.reject(RpcError.read(message.error));
    else call.resolve(message.result);
  }

  /** Ends the waits of a cancelled run. */
  interrupt(run) {
    for (const [id, call] of this.#calls) {
      if (!call.waits || call.run !== run) continue;
      this.#calls.delete(id);
      this.notify("$/cancel_request", { requestId: id });
      call.reject(new Cancelled("the run is cancelled"));
    }
  }

  close() {
    this.#closed = true;
    for (const call of this.#calls.values()) call.reject(gone());
    this.#calls.clear();
    for (const go of this.#queue.splice(0)) {
      this.#taken += 1;
      go();
    }
  }
}

const gone = () => new RpcError(-31010, "the runtime closed the connection");

// ---- the run

class Run {
  #link;
  #scope;
  #used = new Set();
  #counts = new Map();
  #eventSeq = 0;
  #checkpointSeq;
  #abort = new AbortController();
  #steering = [];
  #listeners = new Map();
  #touched = Date.now();
  /** What ended the attempt early; every later call fails the same way, however the agent takes it. */
  _end = null;
  _givenUp = false;
  _beat = {};

  constructor(link, requestId, start) {
    const { runId, attempt, epoch } = start;
    if (typeof runId !== "string" || !Number.isInteger(attempt) || !Number.isInteger(epoch)) {
      throw new TypeError("runId, attempt and epoch are needed");
    }
    this.#link = link;
    this._requestId = requestId;
    this.#scope = { runId, attempt, epoch };
    this.id = runId;
    this.attempt = attempt;
    this.agent = start.agent ?? "";
    this.session = start.session ?? null;
    this.messages = start.input?.messages ?? [];
    this.data = start.input?.data ?? null;
    this.params = start.params ?? null;
    this.metadata = start.metadata ?? null;
    this.deadline = start.deadline ?? null;
    this.budget = start.budget ?? null;
    this.environment = start.environment ?? {};
    this.resume = start.resume ?? null;
    this.state = start.checkpoint?.state ?? null;
    this.#checkpointSeq = start.checkpoint?.seq ?? 0;
    this.stopping = false;
  }

  get prompt() {
    const content = this.messages.findLast?.((message) => message.role === "user")?.content
      ?? [...this.messages].reverse().find((message) => message.role === "user")?.content;
    if (typeof content === "string") return content;
    const texts = Array.isArray(content) ? content.map((part) => part?.text) : [];
    return texts.filter((text) => typeof text === "string").join("\n");
  }

  get cancelled() {
    return this.#abort.signal.aborted;
  }

  get signal() {
    return this.#abort.signal;
  }

  checkCancelled() {
    if (this.cancelled) throw new Cancelled("the run is cancelled");
  }

  suspend({ requests, wakeAt, state } = {}) {
    this._end ??= new Parked("the run waits for a later attempt");
    if (this._end instanceof Parked) {
      const stopReason = requests ? "input_required" : "yield";
      this._end.result = { stopReason, output: {}, inputRequests: requests, wakeAt, state };
    }
    throw this._end;
  }

  steering() {
    return this.#steering.splice(0);
  }

  // what others see

  async emit(type, data = null) {
    this.#check();
    const seq = this.#eventSeq + 1;
    let keepsUp = true;
    try {
      keepsUp = this.#link.notify("run/event", { ...this.#scope, seq, type, data });
    } catch (error) {
      throw this.#understand(error);
    }
    this.#eventSeq = seq;
    if (!keepsUp) await this.#link.drained();
  }

  message(text) {
    return this.emit("assistant.message", { role: "assistant", content: text });
  }

  progress(percent, note = "") {
    const progress = Math.min(Math.max(Number(percent), 0), 100);
    this._beat = { progress, note };
    return this.emit("progress.update", { progress_percent: progress, note });
  }

  log(message, level = "info", fields = undefined) {
    this.#touched = Date.now();
    try {
      this.#link.notify("log", { level, message: String(message), runId: this.id, ...(fields ? { fields } : {}) });
    } catch {
      // A log is no reason to fail.
    }
  }

  // what lasts

  async checkpoint(state) {
    const seq = this.#checkpointSeq + 1;
    const saved = await this.#call("checkpoint/save", { seq, state: recorded(state) });
    // The host numbers all checkpoints of the run, so its word counts.
    this.#checkpointSeq = Math.max(seq, saved?.seq ?? seq);
    this.state = state;
    return this.#checkpointSeq;
  }

  async step(name, work, { input, kind, retry } = {}) {
    const key = this.#unique(name);
    const inputHash = input === undefined ? undefined : fingerprint(input);
    const word = (await this.#call("step/begin", { key, inputHash, kind })) ?? {};
    if (word.state === "replay") return word.result ?? null;
    if (word.state === "failed") throw fromFailure(word.error);
    const { maxTries = 3, delay = 1, factor = 2, maxDelay = 60 } = retry ?? { maxTries: 1 };
    for (let tries = 1; ; tries += 1) {
      const told = retry ? { retry: { tries, maxTries } } : {};
      let result;
      try {
        result = recorded(await work());
      } catch (error) {
        if (error instanceof Unwind) throw error;
        const failure = toFailure(error);
        if (failure.retriable && tries < maxTries) {
          await this.#pause(Math.min(delay * factor ** (tries - 1), maxDelay));
          continue;
        }
        await this.#call("step/end", { key, ...told, error: failure });
        throw error;
      }
      await this.#call("step/end", { key, ...told, result });
      return result;
    }
  }

  // what may take days

  async sleep(name, seconds) {
    await this.#call("sleep", { key: this.#unique(name), seconds }, true);
  }

  async waitForSignal(name, { timeout } = {}) {
    const params = { key: this.#unique(name), name, timeoutSeconds: timeout };
    const answer = await this.#call("signal/wait", params, true);
    return answer?.payload ?? null;
  }

  async requestApproval(key, message, { data, timeout } = {}) {
    const params = { key: this.#unique(key), kind: "approval", message, data, timeoutSeconds: timeout };
    const answer = (await this.#call("input/request", params, true)) ?? {};
    const { action = "cancel", by = null, comment = null, content = null } = answer;
    return { approved: action === "accept", by, comment, data: content, expired: action === "cancel" };
  }

  async delegate(name, children, policy = "all") {
    const work = children.map(({ agent, message, data, params }) => ({
      agent,
      input: { messages: message === undefined ? [] : [{ role: "user", content: message }], data },
      params,
    }));
    const answer = await this.#call("delegate", { key: this.#unique(name), children: work, policy }, true);
    return answer?.results ?? [];
  }

  async tools() {
    const tools = [];
    let cursor;
    do {
      const page = (await this.#call("tools/list", { cursor })) ?? {};
      tools.push(...(page.tools ?? []));
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    return tools;
  }

  callTool(name, args = {}, { timeout } = {}) {
    const timeoutMs = timeout === undefined ? undefined : Math.round(timeout * 1000);
    return this.#call("tools/call", { callId: this.#unique(name), name, arguments: args, timeoutMs }, true);
  }

  async generate(request, onDelta) {
    const callId = this.#unique("generate");
    if (onDelta) this.#listeners.set(callId, onDelta);
    try {
      return await this.#call("llm/generate", { callId, request, ...(onDelta ? { stream: true } : {}) }, true);
    } finally {
      this.#listeners.delete(callId);
    }
  }

  // inside

  /** `name`, then `name#2`, `name#3`, …: the same keys in the same order in every attempt. */
  #unique(name) {
    for (;;) {
      const count = (this.#counts.get(name) ?? 0) + 1;
      this.#counts.set(name, count);
      const key = count === 1 ? name : `${name}#${count}`;
      if (!this.#used.has(key)) {
        this.#used.add(key);
        return key;
      }
    }
  }

  #check() {
    this.#touched = Date.now();
    if (this._end) throw this._end;
  }

  /** What an error answer means for the run. */
  #understand(error) {
    if (!(error instanceof RpcError)) return error;
    if (error.code === -32800) return new Cancelled("the run is cancelled");
    if (error.code === -31014) this._end ??= new Parked("the run waits for a later attempt");
    else if ([-31001, -31002, -31010].includes(error.code)) this._end ??= new Stopped(error.message);
    else {
      const { type, code, retryable, details } = error.data;
      return new AgentError(type ?? code, error.message, { retriable: Boolean(retryable), details });
    }
    return this._end;
  }

  async #call(method, params, waits = false) {
    this.#check();
    if (waits) this.checkCancelled();
    try {
      return await this.#link.call(method, { ...this.#scope, ...params }, this, waits);
    } catch (error) {
      throw this.#understand(error);
    } finally {
      this.#touched = Date.now();
    }
  }

  #pause(seconds) {
    return new Promise((resolve, reject) => {
      const stop = () => {
        clearTimeout(timer);
        reject(new Cancelled("the run is cancelled"));
      };
      const timer = setTimeout(() => {
        this.signal.removeEventListener("abort", stop);
        resolve();
      }, seconds * 1000);
      if (this.cancelled) stop();
      else this.signal.addEventListener("abort", stop, { once: true });
    });
  }

  _is(params) {
    return params?.runId === this.id && (params.epoch ?? this.#scope.epoch) === this.#scope.epoch;
  }

  _cancel() {
    this.#abort.abort(new Cancelled("the run is cancelled"));
    this.#link.interrupt(this);
  }

  _steer(messages) {
    for (const message of Array.isArray(messages) ? messages : []) {
      if (this.#steering.length < MAX_STEERING) this.#steering.push(message);
      else this.log("a steering message was dropped: nobody takes them", "warn");
    }
  }

  _delta(delta) {
    this.#listeners.get(delta.callId)?.(delta);
  }

  _heartbeat() {
    this.#link.notify("run/heartbeat", { ...this.#scope, ...this._beat });
  }

  get _lastProgressMs() {
    return Date.now() - this.#touched;
  }
}

// ---- the process

class Server {
  #agents;
  #options;
  #link;
  #runs = new Map();
  #beat = null;
  #stopAt = null;
  #closed = false;

  constructor(agents, options) {
    this.#agents = agents;
    this.#options = options;
  }

  async serve() {
    const pipe = await connect();
    this.#link = new Link(pipe);
    let garbage = 0;
    pipe.listen(
      (line) => {
        garbage = this.#onLine(line) ? 0 : garbage + 1;
        if (garbage >= MAX_GARBAGE_LINES) this.#close();
      },
      () => this.#close(),
    );
  }

  /** Handles one line; false when it was no message. */
  #onLine(line) {
    if (line === null) {
      this.#link.answer(null, null, new RpcError(-31011, `a line over ${MAX_LINE_BYTES} bytes`));
      return true;
    }
    const text = line.toString("utf8");
    if (text.trim() === "") return true;
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      message = null;
    }
    if (!isObject(message) || !("jsonrpc" in message)) {
      console.error("adjutant-agent: not a message:", text.slice(0, 400));
      return false;
    }
    const { id, method } = message;
    if (method === undefined && id !== undefined && ("result" in message || "error" in message)) {
      this.#link.resolve(message);
    } else if (typeof method !== "string") {
      this.#link.answer(id ?? null, null, new RpcError(-32600, "not a request and not a response"));
    } else if (id !== undefined) {
      this.#onRequest(id, method, message.params);
    } else {
      this.#onNotification(method, isObject(message.params) ? message.params : {});
    }
    return true;
  }

  #onRequest(id, method, params) {
    try {
      if (method === "run/start") this.#startRun(id, params);
      else if (method === "initialize") this.#link.answer(id, this.#initialize(params ?? {}));
      else if (method === "health/check") this.#link.answer(id, this.#health());
      else if (method === "shutdown") {
        this.#link.answer(id, {});
        this.#endAt(Number(params?.graceMs) || 0);
      } else throw new RpcError(-32601, `no method ${JSON.stringify(method)} here`);
    } catch (error) {
      const refusal = error instanceof RpcError ? error : new RpcError(-32602, `${method}: ${error.message}`);
      this.#link.answer(id, null, refusal);
    }
  }

  #onNotification(method, params) {
    for (const run of this.#runs.values()) {
      if (method === "$/cancel_request" && run._requestId === params.requestId) {
        run._givenUp = true;
        run._cancel();
      } else if (run._is(params)) {
        if (method === "run/cancel") run._cancel();
        else if (method === "run/steer") run._steer(params.messages);
        else if (method === "llm/delta") run._delta(params);
      }
    }
  }

  #initialize(offer) {
    const offered = offer.protocolVersion;
    if (!Number.isInteger(offered) || offered < 1) throw new RpcError(-32602, "protocolVersion must be 1 or more");
    this.#link.maxLineBytes = offer.limits?.maxLineBytes ?? MAX_LINE_BYTES;
    this.#link.maxCalls = Math.max(offer.limits?.maxInflightCalls ?? MAX_INFLIGHT_CALLS, 1);
    clearInterval(this.#beat);
    this.#beat = setInterval(() => {
      for (const run of this.#runs.values()) run._heartbeat();
    }, Math.max(offer.heartbeatMs ?? 10_000, 20));
    const { name, version = "", maxConcurrentRuns = 1, steerable = false } = this.#options;
    const names = [...this.#agents.keys()];
    return {
      protocolVersion: Math.min(offered, PROTOCOL_VERSION),
      info: { name: name ?? names[0], version },
      capabilities: { checkpoint: true, steps: true, steer: steerable, input: true },
      maxConcurrentRuns,
      agents: names.map((agent) => ({ name: agent })),
    };
  }

  #health() {
    const runs = [...this.#runs.values()].map((run) => ({ runId: run.id, lastProgressMs: run._lastProgressMs }));
    return { status: "ok", runs };
  }

  #startRun(id, params) {
    if (!isObject(params)) throw new TypeError("an object is needed");
    const run = new Run(this.#link, id, params);
    const { maxConcurrentRuns = 1 } = this.#options;
    if (this.#stopAt !== null) throw new RpcError(-31005, "the process is about to exit");
    if (this.#runs.has(run.id)) throw new RpcError(-31005, "an earlier attempt of this run has not ended yet");
    if (this.#runs.size >= maxConcurrentRuns) throw new RpcError(-31005, "as many runs as the process takes");
    this.#runs.set(run.id, run);
    this.#drive(run);
  }

  async #drive(run) {
    let output;
    let failure = null;
    try {
      // Not at once: the agent's code must not hold up the lines that came along with this one.
      await null;
      output = await this.#codeFor(run.agent)(run);
      output = output === undefined || output === null ? {} : typeof output === "string" ? { text: output } : { data: output };
    } catch (error) {
      failure = error ?? new Error("nothing was thrown");
    }
    // Let go before the answer, so that the host may start the next run as soon as it has it.
    this.#runs.delete(run.id);
    try {
      this.#conclude(run, output, failure);
    } catch {
      // A host that is gone waits for no answer.
    }
    this.#exitIfDone();
  }

  #conclude(run, output, failure) {
    const answer = (result, error) => this.#link.answer(run._requestId, result, error);
    // An agent that swallowed the end of its attempt must not pass for one that is done.
    const end = run._end ?? failure;
    if (end instanceof Parked) return answer(end.result);
    if (end instanceof Stopped) return answer(null, new RpcError(-31002, end.message));
    if (run._givenUp) return answer(null, new RpcError(-32800, "run/start was given up"));
    if (run.cancelled || failure instanceof Cancelled) return answer({ stopReason: "cancelled", output: output ?? {} });
    if (failure === null) return answer({ stopReason: "end_turn", output });
    if (!(failure instanceof AgentError)) console.error(failure);
    return answer(null, agentFailed(failure));
  }

  #codeFor(name) {
    // One agent may go by any name that the host likes; among several the name decides.
    const code = this.#agents.size === 1 ? [...this.#agents.values()][0] : this.#agents.get(name);
    if (!code) throw new AgentError("unknown_agent", `no agent ${JSON.stringify(name)} here`, { retriable: false });
    return code;
  }

  /** The host is gone: nothing that runs do from here on counts. */
  #close() {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#beat);
    this.#link.close();
    for (const run of this.#runs.values()) run._cancel();
    this.#endAt(CLOSE_GRACE);
  }

  #endAt(grace) {
    const at = Date.now() + grace;
    this.#stopAt = this.#stopAt === null ? at : Math.min(at, this.#stopAt);
    for (const run of this.#runs.values()) run.stopping = true;
    setTimeout(() => process.exit(this.#runs.size === 0 ? 0 : 1), Math.max(this.#stopAt - Date.now(), 0)).unref();
    this.#exitIfDone();
  }

  #exitIfDone() {
    if (this.#stopAt !== null && this.#runs.size === 0) this.#link.flush(() => process.exit(0));
  }
}

const registered = new Map();

export function agent(name, code) {
  registered.set(name, code);
}

export function serve(options = {}) {
  if (registered.size === 0) throw new AgentError("no_agent", "nothing to serve: name a function with agent()");
  new Server(registered, options).serve().catch((error) => {
    console.error(`adjutant-agent: ${error.message}`);
    process.exit(1);
  });
}
