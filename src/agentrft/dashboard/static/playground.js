// A call of a tool, a grade of an answer, and a changed grader on stored rollouts: by the API, and nothing is stored.
import { ask, each, element, number, say } from "./api.js";

const AT_ONCE = 4;
const place = document.getElementById("playground");
const { job, phase, step } = place.dataset;
const at = (id) => document.getElementById(id);
const show = (target, ...parts) => target.replaceChildren(...parts);
const row = () => JSON.parse(at("try-item").value || "{}");

// As text: the API reads it as it reads a job's.
const graded = (body) => ask("/fine_tuning/alpha/graders/run", { grader: at("try-grader").value, secrets_from: job, ...body });

let tools = [];
const about = () => {
  const chosen = tools.find((one) => one.function.name === at("try-tool").value);
  at("try-tool-about").textContent = chosen ? `${chosen.function.description ?? ""} ${JSON.stringify(chosen.function.parameters ?? {})}` : "";
};
const list = async () => {
  try {
    tools = (await ask(`/fine_tuning/jobs/${job}/tools`)).data;
    at("try-tool").replaceChildren(...tools.map((one) => new Option(one.function.name)));
    const wanted = at("try-tool").dataset.chosen;
    if (tools.some((one) => one.function.name === wanted)) at("try-tool").value = wanted;
    at("try-call").disabled = tools.length === 0;
    about();
  } catch (error) { say(at("try-tool-about"), error.message, "bad"); }
};
at("try-tool").addEventListener("change", about);

const trying = (button, result, work) => at(button).addEventListener("click", async () => {
  at(button).disabled = true;
  try { await work(); } catch (error) { show(at(result), element("p", error.message, "bad")); }
  at(button).disabled = false;
});

trying("try-call", "try-called", async () => {
  const name = encodeURIComponent(at("try-tool").value);
  const body = { arguments: at("try-arguments").value, item: row() };
  const answer = await ask(`/fine_tuning/jobs/${job}/tools/${name}/run`, body);
  const fine = answer.status === "ok" || answer.status === "cut";
  show(at("try-called"), element("p", `${answer.status}, ${number(answer.execution_time)} s`, fine ? "good" : "bad"), element("pre", answer.output));
});

trying("try-grade", "try-graded", async () => {
  const { reward, metadata, sub_rewards: parts } = await graded({ model_sample: at("try-answer").value, item: row() });
  const wrong = faults(metadata);
  const lines = [element("p", `Score ${number(reward)}${metadata.reason ? `: ${metadata.reason}` : ""}, ${number(metadata.execution_time)} s`, wrong ? "bad" : "good")];
  if (wrong) lines.push(element("p", wrong, "bad"));
  for (const [name, value] of Object.entries(parts)) lines.push(element("p", `${name}: ${number(value)}`));
  show(at("try-graded"), ...lines);
});

const faults = ({ errors }) => Object.entries(errors).filter(([, value]) => value)
  .map(([name, value]) => (value === true ? name.replaceAll("_", " ") : value)).join("; ");

at("try-regrade").addEventListener("click", async () => {
  const button = at("try-regrade"), summary = at("try-regraded");
  button.disabled = true;
  try {
    await ask("/fine_tuning/alpha/graders/validate", { grader: at("try-grader").value, secrets_from: job });
    const rows = [...document.querySelectorAll("#try-rollouts tr[data-trace]")];
    const found = [];
    let failed = 0;
    await each(rows, AT_ONCE, async (one) => {
      const rollout = { job_id: job, phase, step: Number(step), trace_id: one.dataset.trace };
      const { reward, metadata } = await graded({ rollout });
      const wrong = faults(metadata);
      const before = one.dataset.before === "" ? null : Number(one.dataset.before);
      one.querySelector(".now").textContent = number(reward);
      one.querySelector(".why").textContent = wrong || metadata.reason || "";
      one.classList.toggle("chosen", before === null || Math.abs(before - reward) > 1e-6);
      if (before !== null) found.push({ sample: one.dataset.sample, before, now: reward });
      say(summary, `${found.length} of ${rows.length} …`);
    }, (one, error) => { failed += 1; one.querySelector(".why").textContent = error.message; });
    say(summary, told(found, failed), failed ? "bad" : "good");
  } catch (error) { say(summary, error.message, "bad"); }
  button.disabled = false;
});

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
// What of it a learner would see: the order within groups is what rollouts are paid by.
const told = (found, failed) => {
  const groups = grouped(found);
  let turned = 0, flat = 0, before = 0;
  for (const group of groups.values()) {
    flat += new Set(group.map((one) => one.now)).size < 2;
    before += new Set(group.map((one) => one.before)).size < 2;
    turned += group.some((one) => group.some((two) => (one.before - two.before) * (one.now - two.now) < 0));
  }
  const differ = found.filter((one) => Math.abs(one.before - one.now) > 1e-6).length;
  return `Mean ${number(mean(found.map((one) => one.before)))} → ${number(mean(found.map((one) => one.now)))}; ${differ} of ${found.length} differ. `
    + `Of ${groups.size} samples ${turned} have rollouts in another order, and ${flat} have no differences at all (${before} before).`
    + (failed ? ` ${failed} could not be graded.` : "");
};
const grouped = (found) => {
  const groups = new Map();
  for (const one of found) groups.set(one.sample, [...(groups.get(one.sample) ?? []), one]);
  return groups;
};

list();
