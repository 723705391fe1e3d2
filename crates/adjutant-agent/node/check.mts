// Only for `npm run check`: an agent that uses every type, so that the declarations stay usable.
import {
  agent, serve, AgentError, Cancelled, Parked, Stopped,
  type Run, type Decision, type ChildResult, type ToolAnswer, type ModelAnswer, type Json,
} from "./adjutant-agent.mjs";

agent("typed", async (run: Run): Promise<Json> => {
  const text: string = await run.step("read", () => "book");
  const words: number = await run.step("count", async () => text.length, { input: [text], kind: "tool", retry: { maxTries: 2 } });
  await run.sleep("cool down", 3600);
  const signal: Json | null = await run.waitForSignal("go", { timeout: 5 });
  const decision: Decision = await run.requestApproval("ship", "May I?", { data: { words } });
  const children: ChildResult[] = await run.delegate("team", [{ agent: "helper", message: "work" }], "settle");
  const tool: ToolAnswer = await run.callTool("search", { q: "x" });
  const answer: ModelAnswer = await run.generate({ model: "m", messages: [] }, (delta) => run.log(delta.text ?? ""));
  const seq: number = await run.checkpoint({ words });
  await run.emit("custom.type", { seq, base: run.environment.OPENAI_BASE_URL });
  await run.progress(50, "half");
  if (run.resume?.ship?.action === "decline") run.suspend({ requests: { ship: { message: "Really?" } }, state: { words } });
  if (run.cancelled || run.signal.aborted) run.checkCancelled();
  try {
    await run.tools();
  } catch (error) {
    if (error instanceof Parked || error instanceof Cancelled || error instanceof Stopped) throw error;
    throw new AgentError("no_tools", String(error), { retriable: false, details: run.steering() });
  }
  return { signal, approved: decision.approved, children: children.length, tool: tool.content.length, role: answer.message.role };
});
serve({ version: "1.0", maxConcurrentRuns: 4, steerable: true });
