// A request as text, looked at by the API as it is written, with fields beside it for what people choose.
import { ask, say } from "./api.js";

const WAIT_MS = 350;
const text = document.getElementById("new-text");
const said = document.getElementById("new-said");
const create = document.getElementById("new-create");
const fields = [...document.querySelectorAll("#new-fields [data-key]")];
let request = null, asked = 0, timer = 0;

const line = (key) => new RegExp(`^${key}:[^\\n]*$`, "m");
const plain = (value) => (/^[\w][\w.\/-]*$/.test(value) && !/^(true|false|null|yes|no|on|off|[\d.]+)$/i.test(value) ? value : JSON.stringify(value));
const write = (key, value) => {
  const written = value === "" ? "" : `${key}: ${plain(value)}`;
  if (line(key).test(text.value)) text.value = text.value.replace(written ? line(key) : new RegExp(`^${key}:[^\\n]*\\n?`, "m"), () => written);
  else if (written) text.value = `${written}\n${text.value}`;
};

const look = async () => {
  const mine = ++asked;
  create.disabled = true;
  try {
    const found = await ask("/fine_tuning/alpha/jobs/validate", { job: text.value });
    if (mine !== asked) return;
    request = found.job;
    for (const field of fields) if (field !== document.activeElement) field.value = found.job[field.dataset.key] ?? "";
    say(said, [`A ${found.type} job that can be created.`, ...found.warnings].join(" "), "good");
    text.removeAttribute("aria-invalid");
    create.disabled = false;
  } catch (error) {
    if (mine !== asked) return;
    say(said, error.message, "bad");
    text.setAttribute("aria-invalid", "true");
  }
};
const soon = () => { clearTimeout(timer); create.disabled = true; timer = setTimeout(look, WAIT_MS); };

text.addEventListener("input", soon);
// At each letter, and not when the field is left: leaving it to press the button would take the press away.
for (const field of fields) field.addEventListener("input", () => { write(field.dataset.key, field.value); soon(); });
document.getElementById("new-fields").addEventListener("submit", (event) => event.preventDefault());

document.getElementById("new-upload").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  const form = new FormData();
  form.append("purpose", "fine-tune");
  form.append("file", file);
  say(said, `Uploading ${file.name} …`);
  try {
    const stored = await ask("/files", form);
    const empty = ["training_file", "validation_file", "test_file"].find((key) => !(line(key).exec(text.value)?.[0].split(":")[1] ?? "").trim());
    for (const select of document.querySelectorAll("select[data-key$=_file]"))
      select.append(new Option(`${stored.filename} (${stored.id})`, stored.id));
    if (empty) { write(empty, stored.id); document.getElementById(`new-${empty}`).value = stored.id; }
    event.target.value = "";
    await look();
  } catch (error) { say(said, error.message, "bad"); }
});

create.addEventListener("click", async () => {
  create.disabled = true;
  try {
    const job = await ask("/fine_tuning/jobs", request);
    location.href = `${location.pathname.replace(/new$/, "jobs/")}${job.id}`;
  } catch (error) { say(said, error.message, "bad"); create.disabled = false; }
});
look();
