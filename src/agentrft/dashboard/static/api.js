// How the pages of a server ask its API: as its own pages, which a page of another origin cannot claim to be.
const HEADERS = { "X-AgentRFT-Page": "1" };

// What the API answers, or an error with its message; `param` names the field at fault.
export const ask = async (path, body, options = {}) => {
  const isForm = body instanceof FormData;
  const answer = await fetch(`/v1${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: isForm || body === undefined ? HEADERS : { ...HEADERS, "Content-Type": "application/json" },
    body: body === undefined || isForm ? body : JSON.stringify(body),
    ...options,
  });
  const text = await answer.text();
  let value = null;
  try { value = JSON.parse(text); } catch { /* no JSON: a proxy's answer */ }
  if (answer.ok && value !== null) return value;
  const error = new Error(value?.error?.message ?? `The server answered ${answer.status}.`);
  error.param = value?.error?.param ?? null;
  throw error;
};

// Say something where a person looks; the level is "good", "bad" or "note".
export const say = (place, text, level = "note") => {
  place.className = level;
  place.textContent = text;
};

export const element = (name, text = "", className = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
};

export const number = (value) => (value === null || value === undefined ? "–" : String(Math.round(value * 1000) / 1000));

// A few at a time, in order; what one throws is handed to `failed`.
export const each = async (items, atOnce, work, failed) => {
  const waiting = [...items];
  const worker = async () => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) {
      try { await work(item); } catch (error) { failed(item, error); }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
};
