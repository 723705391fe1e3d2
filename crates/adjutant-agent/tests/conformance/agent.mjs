// The agent `conformance` in JavaScript; its modes are in the wire's reference.
import { setTimeout as pause } from "node:timers/promises";
import { agent, serve, AgentError } from "../../node/adjutant-agent.mjs";

const modes = {
  echo: (run) => run.prompt,
  state: (run) => ({ state: run.state, params: run.params }),
  large: (run) => "x".repeat(run.data.n),
  crash: () => undefined.nothing,
  fail: () => {
    throw new AgentError("conformance_failure", "as told", { retriable: false, details: { a: 1 } });
  },
  print: () => {
    console.log("to stdout, where the protocol is");
    process.stdout.write("and without a newline");
  },
  async steps(run) {
    const first = await run.step("a", () => 1);
    const second = await run.step("a", async () => 2);
    const sum = await run.step("sum", () => first + second, { input: [first, second] });
    await run.emit("conformance.event", { n: sum });
    await run.checkpoint({ n: sum });
    return { sum };
  },
  async waits(run) {
    await run.step("before", () => null);
    await run.sleep("nap", 60);
    const signal = await run.waitForSignal("go");
    return { signal, approved: (await run.requestApproval("ship", "May I?")).approved };
  },
  async swallow(run) {
    await run.sleep("nap", 60).catch(() => {});
    await run.step("after", () => 1).catch(() => {});
    return "swallowed";
  },
  async busy(run) {
    await run.emit("conformance.ready");
    while (!run.cancelled) await pause(1);
    await run.checkpoint("tidied up");
  },
  async events(run) {
    const { n: count, pad } = run.data;
    for (let n = 1; n <= count; n += 1) await run.emit("conformance.count", { n, pad: "x".repeat(pad) });
    return count;
  },
  async steered(run) {
    await run.emit("conformance.ready");
    while (!run.cancelled) {
      const [message] = run.steering();
      if (message) return message.content;
      await pause(1);
    }
  },
  async delegate(run) {
    const child = { agent: "helper", message: "work" };
    return (await run.delegate("team", [child, child], "settle")).map(({ runId }) => runId);
  },
  environment: (run) => run.environment[run.data.name] ?? null,
  suspend(run) {
    const { resume, state, data } = run;
    if (resume) return { action: resume.ship.action, state };
    if (state) return { state };
    if (data.wakeAt) run.suspend({ wakeAt: data.wakeAt, state: { n: 1 } });
    run.suspend({ requests: { ship: { message: "May I?" } }, state: { n: 1 } });
  },
  async list(run) {
    return (await run.tools()).map(({ name }) => name);
  },
  async tools(run) {
    const texts = [];
    for (const q of [0, 1]) texts.push((await run.callTool("search", { q })).content[0].text);
    return texts;
  },
  async generate(run) {
    let deltas = 0;
    const onDelta = run.data.mode === "stream" ? () => (deltas += 1) : undefined;
    const answer = await run.generate({ model: "m", messages: [] }, onDelta);
    return { text: answer.message.content, deltas };
  },
  async fan(run) {
    const naps = Array.from({ length: run.data.n }, (_, n) => run.sleep(`nap ${n}`, 1));
    return (await Promise.all(naps)).length;
  },
};
modes.stream = modes.generate;

agent("conformance", (run) => {
  const code = modes[run.data?.mode];
  if (!code) throw new AgentError("bad_mode", "no such mode", { retriable: false });
  return code(run);
});
serve({ maxConcurrentRuns: Number(process.argv[2] ?? 1), steerable: true });
