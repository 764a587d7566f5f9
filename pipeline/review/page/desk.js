// What panels of people's work have in common: questions to the server, buttons with keys, how far the work is.

import { $, element } from "./panel.js";
import { BASE } from "./style.js";

const WAIT_MS = 400;

export async function ask(address, options) {
  const response = await fetch(BASE + address, options);
  const answer = await response.json().catch(() => ({ message: `refused: ${response.status}` }));
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

export function tell(text, bad = false) {
  $("review-said").textContent = text;
  $("review-said").classList.toggle("bad", bad);
}

export function choice(id, label, options) {
  return element("label", { className: "row" }, element("span", { className: "what", textContent: label }),
    element("select", { id }, ...options.map(([value, textContent]) => element("option", { value, textContent }))));
}

export function button(id, text, key, act) {
  const made = element("button", { type: "button", id, disabled: true }, text, " ", element("kbd", { textContent: key }));
  made.addEventListener("click", act);
  return made;
}

// The queue, when the polygons are read.
export async function refilled() {
  for (;;) {
    const answer = await ask("review/queue.json");
    if (answer.state === "ready") return answer;
    await new Promise((done) => setTimeout(done, WAIT_MS));
  }
}

export function showProgress(answer, texts) {
  $("review-progress").max = Math.max(1, answer.total);
  $("review-progress").value = answer.done;
  $("review-counts").textContent = texts.join(" · ");
}
