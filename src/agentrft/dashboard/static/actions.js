// Pausing, resuming and cancelling jobs.
import { ask, say } from "./api.js";

const SURE_MS = 6000;
const told = document.getElementById("told");
let sureOf = "";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-action]");
  if (!button) return;
  const { action, job } = button.dataset;
  // A cancel is for good, so it is asked for twice.
  if (action === "cancel" && sureOf !== job) {
    sureOf = job;
    button.textContent = "cancel for good?";
    setTimeout(() => { if (sureOf === job) { sureOf = ""; button.textContent = "cancel"; } }, SURE_MS);
    return;
  }
  sureOf = "";
  button.disabled = true;
  try {
    const answer = await ask(`/fine_tuning/jobs/${encodeURIComponent(job)}/${action}`, {});
    say(told, `${action}: ${job} is ${answer.status}.`, "good");
    document.dispatchEvent(new Event("agentrft:refresh"));
  } catch (error) {
    say(told, error.message, "bad");
    button.disabled = false;
  }
});
