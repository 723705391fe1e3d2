/** Write an agent for Adjutant in TypeScript or JavaScript; see `adjutant-agent.mjs` for how to begin. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined };

/** What an agent is: called once per attempt; what it returns (text or JSON) is the run's output. */
export type Code = (run: Run) => unknown | Promise<unknown>;

/** Names a function as an agent of this program. */
export function agent(name: string, code: Code): void;

export interface ServeOptions {
  /** The program's name; default is the first agent's. */
  name?: string;
  /** The program's version. */
  version?: string;
  /** How many runs the process takes at once; default 1. */
  maxConcurrentRuns?: number;
  /** The agents look at `run.steering()` now and then. */
  steerable?: boolean;
}

/** Serves the agents until the runtime lets the process go, which then exits. */
export function serve(options?: ServeOptions): void;

/** A failure with a stable, short kind. Any other error is one too: retriable, its kind the error's name. */
export class AgentError extends Error {
  constructor(kind: string, message: string, options?: { retriable?: boolean; details?: unknown });
  readonly kind: string;
  readonly retriable: boolean;
  readonly details: unknown;
}

/** Ends an attempt from inside. Let it pass: `catch` what you expect, and throw the rest again. */
export class Unwind extends Error {}
/** The run has to wait; a later attempt goes on. */
export class Parked extends Unwind {}
/** The run is to be cancelled. */
export class Cancelled extends Unwind {}
/** The attempt is over: its lease or the runtime is gone. */
export class Stopped extends Unwind {}

/** How often a step is tried within one attempt. Pauses hold the process, so keep them short. */
export interface Retry {
  /** Tries in all; default 3. */
  maxTries?: number;
  /** Seconds before the second try; default 1. */
  delay?: number;
  /** Each further pause is this many times as long; default 2. */
  factor?: number;
  /** Longest pause in seconds; default 60. */
  maxDelay?: number;
}

export interface StepOptions {
  /** What goes into the step. A later attempt that comes with another input fails with `call_conflict`. */
  input?: unknown;
  /** What the step does, for people: `code` (default), `model`, `tool`. */
  kind?: string;
  retry?: Retry;
}

/** A person's answer. */
export interface Decision {
  approved: boolean;
  by: string | null;
  comment: string | null;
  /** What came with the decision, such as edited arguments. */
  data: Json;
  /** Nobody decided in time. */
  expired: boolean;
}

export interface Message {
  role: string;
  content: string | Json[];
  [key: string]: unknown;
}

/** A question to people, for `suspend`. */
export interface Question {
  message: string;
  /** Default `approval`. */
  kind?: "approval" | "form" | "url";
  schema?: unknown;
  data?: unknown;
  timeoutSeconds?: number;
}

/** A person's answer to one of them. */
export interface Reply {
  action: "accept" | "decline" | "cancel";
  by?: string;
  comment?: string;
  content?: Json;
}

/** Work for another agent. */
export interface Child {
  agent: string;
  /** The request as text. */
  message?: string;
  /** Structured input. */
  data?: unknown;
  params?: unknown;
}

export interface ChildResult {
  runId: string;
  status: "succeeded" | "failed" | "cancelled" | "timed_out" | "parked";
  output?: { text?: string; data?: Json; messages?: Message[]; artifacts?: Json[] };
  error?: { type: string; message: string; retriable: boolean; details?: Json };
}

export interface Tool {
  name: string;
  description?: string;
  inputSchema?: Json;
  [key: string]: unknown;
}

/** MCP's `CallToolResult`. */
export interface ToolAnswer {
  content: { type: string; text?: string; [key: string]: unknown }[];
  structuredContent?: Json;
  isError?: boolean;
}

export interface ModelAnswer {
  message: { role: string; content: Json; toolCalls?: { id: string; name: string; arguments: unknown }[] };
  finishReason?: string;
  model?: string;
  usage?: { inputTokens: number; outputTokens: number; [key: string]: unknown };
  cost?: number;
}

/** A piece of a model's answer, for showing. */
export interface ModelDelta {
  callId: string;
  seq: number;
  text?: string;
  reasoning?: string;
  toolCall?: { index: number; id?: string; name?: string; arguments?: string };
}

/** One attempt of a run, as your function sees it. */
export interface Run {
  readonly id: string;
  /** From 1; counts up with every failure and every wait. */
  readonly attempt: number;
  /** Tells the agents of one program apart. */
  readonly agent: string;
  readonly session: string | null;
  /** The conversation so far, oldest first. */
  readonly messages: Message[];
  /** The structured input. */
  readonly data: any;
  readonly params: any;
  readonly metadata: any;
  /** When the run must be over, RFC 3339 in UTC. */
  readonly deadline: string | null;
  readonly budget: { tokens?: number; usd?: number; toolCalls?: number } | null;
  /** Variables that the host gives this attempt, such as `OPENAI_BASE_URL`. In a process that does several runs they are not in
   * `process.env`. */
  readonly environment: Record<string, string>;
  /** Answers to `suspend({ requests })` of the attempt before, by key. */
  readonly resume: Record<string, Reply> | null;
  /** The state that this or an earlier attempt saved last. */
  readonly state: any;
  /** The text of the last message of the user. */
  readonly prompt: string;
  /** Whether the run is to be cancelled. */
  readonly cancelled: boolean;
  /** Aborts when the run is to be cancelled; hand it to `fetch` and others. */
  readonly signal: AbortSignal;
  /** Whether the process is asked to exit soon: a good moment for a checkpoint. */
  readonly stopping: boolean;

  /** Throws `Cancelled` when the run is to be cancelled. */
  checkCancelled(): void;
  /** Ends the attempt in order to wait; does not return. A later attempt finds the answers to `requests` in `resume`, or begins
   * at `wakeAt`, RFC 3339. `state` is saved as a checkpoint. */
  suspend(until: { requests?: Record<string, Question>; wakeAt?: string; state?: unknown }): never;
  /** What was said to the run since this was last called, oldest first. */
  steering(): Message[];

  /** Emits an event: a dotted name of your own and JSON. Await it, so that a slow host slows you down. */
  emit(type: string, data?: unknown): Promise<void>;
  /** Tells the user something. */
  message(text: string): Promise<void>;
  /** Says how far the run is, 0 to 100, and what it is doing. */
  progress(percent: number, note?: string): Promise<void>;
  /** Writes a log line. Never fails. */
  log(message: string, level?: "debug" | "info" | "warn" | "error", fields?: Record<string, unknown>): void;

  /** Saves a state; durable when this resolves. Returns its number. */
  checkpoint(state: unknown): Promise<number>;
  /** Does `work` once and records what it returns, which must be JSON. */
  step<T>(name: string, work: () => T | Promise<T>, options?: StepOptions): Promise<T>;
  /** Sleeps across crashes and restarts. */
  sleep(name: string, seconds: number): Promise<void>;
  /** Waits for the next signal of this name; null when `timeout` seconds pass first. */
  waitForSignal(name: string, options?: { timeout?: number }): Promise<Json | null>;
  /** Asks a person. */
  requestApproval(key: string, message: string, options?: { data?: unknown; timeout?: number }): Promise<Decision>;
  /** Runs other agents, all at once; results in the order given. */
  delegate(name: string, children: Child[], policy?: "all" | "fail_fast" | "settle"): Promise<ChildResult[]>;
  /** The tools that the run may use. */
  tools(): Promise<Tool[]>;
  /** Uses a tool; recorded like a step, by its place in the run. `timeout` in seconds. */
  callTool(name: string, args?: Record<string, unknown>, options?: { timeout?: number }): Promise<ToolAnswer>;
  /** Asks a model; recorded like a step. `onDelta` hears pieces of the answer. */
  generate(request: Record<string, unknown>, onDelta?: (delta: ModelDelta) => void): Promise<ModelAnswer>;
}
