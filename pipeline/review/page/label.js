// The panel of those who label: the next building, its class by a key, and what is done with the labels. It says nothing of what
// a model found: who labels is to look.

import { $, element, swatch } from "./panel.js";
import { ask, button, refilled, showProgress, tell } from "./desk.js";
import { bindGrades, gradeKeys } from "./grades.js";

const UNTOLD = "can't be told";
const ASKED = "#ffdd00";
let desk, view;
let queue = [];
let past = [];
let current = null;
let busy = false;

const named = (code) => desk.classes.find((one) => one.code === code)?.name ?? UNTOLD;
const colored = (code) => desk.classes.find((one) => one.code === code)?.color ?? "#888888";

function build() {
  const section = element("section", { id: "review", ariaLabel: "Labels" },
    element("h2", { textContent: `Label as ${desk.by}` }),
    element("progress", { id: "review-progress", max: 1, value: 0, ariaLabel: "Buildings that are labelled, of those that are asked for" }),
    element("p", { id: "review-counts", className: "quiet" }),
    element("p", { id: "review-current" }),
    element("div", { className: "buttons grades" }, ...desk.classes.map(({ code, name, color }, place) => {
      const made = button(`label-${code}`, name, String(place + 1), () => said({ action: "class", class: code }));
      made.prepend(swatch(color), " ");
      return made;
    })),
    element("div", { className: "buttons" },
      button("label-untold", "Can't be told", "u", () => said({ action: "reject", reason: UNTOLD })),
      button("label-skip", "Next", "j", () => next()),
      button("label-back", "Back", "z", back)),
    gradeKeys([]),
    element("label", {}, element("span", { className: "what", textContent: "Comment" }), element("textarea", { id: "review-comment", maxLength: 2000, rows: 2 })),
    element("p", { id: "review-said", role: "status", ariaLive: "polite", className: "quiet" }),
    element("ul", { id: "label-classes", className: "quiet" }),
    element("p", { className: "quiet" }, "Labels go into ", element("code", { textContent: desk.file }), "; ", desk.next),
    element("p", {}, element("code", { id: "label-command", textContent: desk.command })));
  document.body.dataset.labels = "yes";
  $("notes").after(section);
}

function showCurrent() {
  for (const one of $("review").querySelectorAll("button")) one.disabled = !current;
  $("label-skip").disabled = !queue.length;
  $("label-back").disabled = !past.length;
  if (!current) {
    $("review-current").replaceChildren(queue.length ? "Click a building, or take the next." : "All that are asked for are labelled. Click any other building, or:");
    return;
  }
  const last = current.history.findLast(({ action }) => action !== "comment");
  $("review-current").replaceChildren(element("strong", { textContent: `Building ${current.polygon}` }), " ",
    element("span", { className: "quiet", textContent: last ? `${last.by}: ${named(last.class)}` : "no label yet" }));
}

function showCounts(answer) {
  const many = (count, text) => `${count.toLocaleString("en")} ${text}`;
  showProgress(answer, [many(answer.labels, answer.labels === 1 ? "label" : "labels"), many(answer.total - answer.done, desk.suggested ? "to label" : "least sure to label"),
    ...(answer.untold ? [many(answer.untold, "can't be told")] : [])]);
  $("label-classes").replaceChildren(...desk.classes.map(({ code, name, color }) => element("li", {}, swatch(color), ` ${name}: ${answer.byClass[code]}`)));
  const rows = answer.labelled.flatMap(([row, code]) => [row, colored(code)]);
  view.map.setPaintProperty("polygons-line", "line-color", rows.length ? ["match", ["id"], ...rows, ASKED] : ASKED);
  view.map.setPaintProperty("dots", "circle-color", rows.length ? ["match", ["id"], ...rows, ASKED] : ASKED);
}

async function refill() {
  const answer = await refilled();
  queue = answer.entries;
  showCounts(answer);
}

async function take(entry) {
  current = { ...entry, ...await ask(`review/polygons/${entry.row}.json`) };
  showCurrent();
}

async function go(entry) {
  view.choose(entry);
  await take(entry);
}

async function next() {
  const now = queue.findIndex(({ row }) => row === current?.row);
  const entry = queue[now < 0 ? 0 : (now + 1) % queue.length];
  if (entry) return go(entry);
  current = null;
  return showCurrent();
}

async function back() {
  const entry = past.pop();
  if (entry) await go(entry);
}

async function said(what) {
  if (busy || !current) return;
  busy = true;
  const comment = $("review-comment").value.trim();
  const body = JSON.stringify({ polygon: current.polygon, ...what, ...(comment ? { comment } : {}) });
  try {
    const answer = await ask("review/decisions", { method: "POST", headers: { "content-type": "application/json" }, body });
    tell(`${current.polygon}: ${named(what.class)}`);
    $("review-comment").value = "";
    if (current.box) past.push(current);
    queue = queue.filter(({ row }) => row !== current.row);
    showCounts(answer);
    if (queue.length < 2) await refill();
    current = null;
    if (queue.length) await go(queue[0]);
    else showCurrent();
  } catch (error) {
    tell(error.message, true);
  } finally {
    busy = false;
  }
}

const KEYS = { u: "label-untold", j: "label-skip", z: "label-back" };

function bind() {
  bindGrades(view, desk.classes, (code) => said({ action: "class", class: code }));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches?.("input, select, textarea")) return;
    if (event.key in KEYS) $(KEYS[event.key]).click();
  });
  document.addEventListener("geoseg:chosen", ({ detail: { row } }) => {
    if (current?.row !== row) take({ row }).catch((error) => tell(error.message, true));
  });
}

document.addEventListener("geoseg:ready", async ({ detail }) => {
  try {
    view = detail;
    desk = await ask("review/state.json");
    build();
    bind();
    await refill();
    await next();
    document.body.dataset.review = "ready";
  } catch (error) {
    if ($("review-said")) tell(error.message, true);
    else $("status").textContent = error.message;
  }
}, { once: true });
