// The panel of reviews: what is to be decided next, the decision, and a new outline. Beside the page of the view.

import { $, areaText, element, swatch } from "./panel.js";
import { ask, button, choice, refilled, showProgress, tell } from "./desk.js";
import { Draft } from "./draft.js";
import { bindGrades, gradeKeys } from "./grades.js";

const SHOWN = 8;
let desk, view, draft;
let queue = [];
let current = null;
let busy = false;

const capital = (text) => text[0].toUpperCase() + text.slice(1);
const NOT_ANALYSED = 254;
const named = (code) => desk.classes.find((one) => one.code === code)?.name
  ?? (code === undefined || code === NOT_ANALYSED ? "not analysed" : `class ${code}`);
const colored = (code) => desk.classes.find((one) => one.code === code)?.color ?? "#888888";

function build() {
  const classes = desk.classes.map(({ code, name }) => [code, name]);
  const own = classes.filter(([code]) => desk.own.includes(code));
  const section = element("section", { id: "review", ariaLabel: "Review" },
    element("h2", { textContent: `Review as ${desk.by}` }),
    element("progress", { id: "review-progress", max: 1, value: 0, ariaLabel: `${capital(desk.units)} that are done` }),
    element("p", { id: "review-counts", className: "quiet" }),
    element("p", { id: "review-current" }),
    element("ul", { id: "review-history", className: "quiet" }),
    element("div", { className: "buttons" },
      button("review-accept", "Accept", "a", () => decide({ action: "accept" })),
      button("review-skip", "Next", "j", () => next(1)),
      button("review-second", "Ask for a second opinion", "o", () => decide({ action: "second" }))),
    ...(desk.units === "buildings" ? [gradeKeys(desk.classes)] : []),
    choice("review-class", "Class", own),
    element("div", { className: "buttons" }, button("review-set", "Change class", "c", () => decide({ action: "class", class: Number($("review-class").value) }))),
    element("label", { className: "row" }, element("span", { className: "what", textContent: "Reason" }),
      element("input", { type: "text", id: "review-reason", maxLength: 200, value: desk.reasons[0] })),
    ...(desk.ground ? [choice("review-instead", "Becomes", [["", "not analysed"], ...classes])] : []),
    element("div", { className: "buttons" }, button("review-reject", "Reject", "r", reject)),
    element("label", {}, element("span", { className: "what", textContent: "Comment" }), element("textarea", { id: "review-comment", maxLength: 2000, rows: 2 })),
    element("div", { className: "buttons" }, button("review-note", "Comment only", "k", () => decide({ action: "comment" }))),
    element("details", { id: "review-draw" },
      element("summary", { textContent: "Redraw or add" }),
      element("p", { className: "quiet", textContent: "Click for points; drag one to move it, right-click it to remove it; a click on an edge adds one there. Or paste GeoJSON." }),
      element("div", { className: "buttons" },
        button("draft-outline", "From its outline", "d", () => draft.begin(current?.geometry)),
        button("draft-new", "A new one", "w", () => draft.begin(null)),
        button("draft-end", "Clear", "x", () => draft.end())),
      element("label", {}, element("span", { className: "what", textContent: "GeoJSON" }), element("textarea", { id: "draft-text", rows: 3, spellcheck: false })),
      ...(desk.ground ? [choice("draft-rest", "Outside of it", [["", "not analysed"], ...classes])] : []),
      element("div", { className: "buttons" },
        button("draft-redraw", "Redraw this one", "e", () => redraw(true)),
        button("draft-add", "Add as a new one", "i", () => redraw(false)))),
    element("p", { id: "review-said", role: "status", ariaLive: "polite", className: "quiet" }));
  const reasons = element("datalist", { id: "review-reasons" }, ...desk.reasons.map((value) => element("option", { value })));
  section.append(reasons);
  section.querySelector("#review-reason").setAttribute("list", "review-reasons");
  $("notes").after(section);
  $("footer-review")?.remove();
}

function showCurrent() {
  for (const one of $("review").querySelectorAll("button")) one.disabled = !current;
  for (const id of ["draft-new", "draft-end", "draft-add", "review-skip"]) $(id).disabled = false;
  if (!current) {
    $("review-current").replaceChildren(queue.length ? `Click one of the ${desk.units}, or take the next.` : `All ${desk.units} are done.`);
    $("review-history").replaceChildren();
    return;
  }
  const figures = [areaText(current.area), ...(current.confidence === null ? [] : [`${current.confidence.toFixed(0)} % sure`])].join(" · ");
  $("review-current").replaceChildren(swatch(colored(current.code)), element("strong", { textContent: `${named(current.code)} ${current.polygon}` }), " ",
    element("span", { className: "quiet", textContent: figures }));
  $("review-class").value = String(current.code);
  // What was not analysed has no class of the list; what is sent is what is seen.
  if ($("review-class").selectedIndex < 0) $("review-class").selectedIndex = 0;
  if (desk.ground) $("draft-rest").value = "";
  $("review-history").replaceChildren(...current.history.slice(-SHOWN).map((one) => element("li", {
    textContent: [`${one.by}: ${one.action}`, one.class === undefined ? null : named(one.class), one.reason, one.comment].filter((text) => text !== null && text !== undefined).join(", "),
  })));
}

async function take(entry) {
  const told = await ask(`review/polygons/${entry.row}.json`);
  current = { ...entry, ...told };
  showCurrent();
}

function showCounts(answer) {
  const more = [[answer.asked, "wait for a second opinion"], [answer.conflicts, "on which reviewers differ"], [answer.added, "added"]];
  showProgress(answer, [`${answer.done.toLocaleString("en")} of ${answer.total.toLocaleString("en")} ${desk.units} are done`,
    ...more.filter(([count]) => count).map(([count, text]) => `${count.toLocaleString("en")} ${text}`)]);
}

async function refill() {
  const answer = await refilled();
  queue = answer.entries;
  showCounts(answer);
}

async function next(by) {
  const now = queue.findIndex(({ row }) => row === current?.row);
  const entry = queue[now < 0 ? 0 : (now + by) % queue.length];
  if (!entry) {
    current = null;
    return showCurrent();
  }
  view.choose(entry);
  await take(entry);
}

function reject() {
  const instead = desk.ground ? $("review-instead").value : "";
  return decide({ action: "reject", reason: $("review-reason").value, ...(instead === "" ? {} : { class: Number(instead) }) });
}

function redraw(replaces) {
  let geometry;
  try {
    geometry = draft.geometry();
  } catch (error) {
    return tell(error.message, true);
  }
  const rest = desk.ground ? $("draft-rest").value : "";
  return decide({ action: "redraw", class: Number($("review-class").value), geometry, ...(replaces && rest !== "" ? { rest: Number(rest) } : {}) }, replaces);
}

async function decide(said, named = true) {
  if (busy || (named && !current)) return;
  busy = true;
  const comment = $("review-comment").value.trim();
  const about = named ? { polygon: current.polygon, part: current.part } : {};
  const body = JSON.stringify({ version: desk.version, ...about, ...said, ...(comment ? { comment } : {}) });
  try {
    const answer = await ask("review/decisions", { method: "POST", headers: { "content-type": "application/json" }, body });
    showCounts(answer);
    tell(`recorded: ${answer.recorded.action}${named ? ` of ${about.polygon}` : ", added"}`);
    $("review-comment").value = "";
    if (said.action === "redraw") draft.end();
    const place = queue.findIndex(({ row }) => row === current?.row);
    if (named && said.action !== "comment") {
      await refill();
      current = null;
      const entry = queue[Math.min(Math.max(place, 0), queue.length - 1)];
      if (entry) {
        view.choose(entry);
        await take(entry);
      } else showCurrent();
    } else if (current) await take(current);
  } catch (error) {
    tell(error.message, true);
  } finally {
    busy = false;
  }
}

const KEYS = {
  a: "review-accept", j: "review-skip", o: "review-second", c: "review-set", r: "review-reject", k: "review-note", d: "draft-outline", w: "draft-new",
  x: "draft-end", e: "draft-redraw", i: "draft-add",
};

function bind() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches?.("input, select, textarea")) return;
    if (event.key in KEYS) {
      if (event.key === "d" || event.key === "w") $("review-draw").open = true;
      $(KEYS[event.key]).click();
    }
  });
  document.addEventListener("geoseg:chosen", ({ detail: { row, values } }) => {
    if (current?.row === row) return;
    take({ row, code: values.code, area: values.area_m2, confidence: values.confidence ?? null }).catch((error) => tell(error.message, true));
  });
}

document.addEventListener("geoseg:ready", async ({ detail }) => {
  try {
    view = detail;
    desk = await ask("review/state.json");
    build();
    draft = new Draft(view.map, $("draft-text"));
    bind();
    if (desk.units === "buildings") bindGrades(view, desk.classes, (code) => decide(code === current?.code ? { action: "accept" } : { action: "class", class: code }));
    await refill();
    await next(1);
    document.body.dataset.review = "ready";
  } catch (error) {
    if ($("review-said")) tell(error.message, true);
    else $("status").textContent = error.message;
  }
}, { once: true });
