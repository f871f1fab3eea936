// Two checkpoints side by side: the same is said to both, and each calls the job's tools by itself.
import { ask, element, number, say } from "./api.js";

const place = document.getElementById("chat");
const at = (id) => document.getElementById(id);
const begin = JSON.parse(at("chat-begin").textContent);
const { job, turns, tokens } = place.dataset;
const text = (message) => (typeof message?.content === "string" ? message.content : "");
const sides = ["a", "b"].map((side) => ({ model: place.dataset[side], log: at(`chat-${side}`).querySelector(".said-by"), messages: [], trace: "" }));
let tools = begin.tools, generation = 0;

const note = (side, who, body, className = "") => {
  const part = element("div", "", `one ${who}`);
  part.append(element("h3", who), element("pre", body, className));
  side.log.append(part);
  return part;
};

const anew = () => {
  generation += 1;
  at("chat-system").value = begin.messages.filter((one) => one.role === "system").map(text).join("\n");
  at("chat-text").value = text(begin.messages.findLast((one) => one.role === "user"));
  for (const side of sides) {
    side.log.replaceChildren();
    // What the row has between the system's message and its last: said to both, as it stands.
    side.messages = begin.messages.filter((one) => one.role !== "system").slice(0, -1);
    side.trace = `trace_${crypto.randomUUID ? crypto.randomUUID().replaceAll("-", "") : String(Math.random()).slice(2).padEnd(32, "0")}`;
    for (const one of side.messages) note(side, one.role, text(one));
  }
  say(at("chat-said"), "");
};

const call = async (side, one) => {
  const body = { arguments: one.function.arguments, item: begin.item, trace_id: side.trace, call_id: one.id };
  const started = performance.now();
  try {
    const answer = await ask(`/fine_tuning/jobs/${job}/tools/${encodeURIComponent(one.function.name)}/run`, body);
    note(side, "tool", `${one.function.name}(${one.function.arguments})\n→ ${answer.output}`);
    return { role: "tool", tool_call_id: one.id, content: answer.output };
  } catch (error) {
    note(side, "tool", `${one.function.name}(${one.function.arguments})\n→ ${error.message} (${number((performance.now() - started) / 1000)} s)`, "bad");
    return { role: "tool", tool_call_id: one.id, content: error.message };
  }
};

const answer = async (side, mine) => {
  const system = at("chat-system").value.trim();
  const settings = { model: side.model, temperature: Number(at("chat-temperature").value), max_completion_tokens: Number(tokens), ...(tools.length ? { tools } : {}) };
  for (let turn = 0; turn < Number(turns); turn += 1) {
    const messages = [...(system ? [{ role: "system", content: system }] : []), ...side.messages];
    const waiting = note(side, "assistant", "…", "soft");
    let found;
    try { found = await ask("/chat/completions", { ...settings, messages }); } finally { waiting.remove(); }
    if (mine !== generation) return;
    const { message, finish_reason: reason } = found.choices[0];
    side.messages.push(message);
    if (message.content) note(side, "assistant", message.content);
    if (!message.tool_calls?.length) {
      if (reason !== "stop") note(side, "assistant", `(ended by ${reason})`, "soft");
      return;
    }
    side.messages.push(...(await Promise.all(message.tool_calls.map((one) => call(side, one)))));
    if (mine !== generation) return;
  }
  note(side, "assistant", `(no answer within ${turns} turns)`, "bad");
};

at("chat-send").addEventListener("click", async () => {
  const content = at("chat-text").value.trim();
  if (!content) return;
  const mine = generation, button = at("chat-send");
  button.disabled = true;
  at("chat-text").value = "";
  say(at("chat-said"), "Both are answering …");
  const answers = await Promise.allSettled(sides.map((side) => {
    side.messages.push({ role: "user", content });
    note(side, "user", content);
    return answer(side, mine);
  }));
  const broken = answers.filter((one) => one.status === "rejected").map((one) => one.reason.message);
  if (mine === generation) say(at("chat-said"), broken.join(" ") || "Both have answered.", broken.length ? "bad" : "good");
  button.disabled = false;
});
at("chat-text").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("chat-send").click(); });
at("chat-anew").addEventListener("click", anew);

anew();
if (!tools.length) ask(`/fine_tuning/jobs/${job}/tools`).then((found) => { tools = found.data; }, (error) => say(at("chat-said"), `Its tools cannot be called: ${error.message}`, "bad"));
