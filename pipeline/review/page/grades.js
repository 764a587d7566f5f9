// Keys of those who grade buildings: 1 to 4 for the grades, b to blink between the dates.

import { element } from "./panel.js";
import { tell } from "./desk.js";

const LAYER = "#layers input[type=checkbox][id^=layer-image]";

export function bindGrades(view, classes, grade) {
  document.body.dataset.grades = "keys";
  // Roofs are what one looks at.
  document.body.dataset.outlines = "only";
  view.redraw();
  // Before the page of the view takes digits for its layers.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches?.("input:not([type=checkbox], [type=range]), select, textarea")) return;
    const chosen = classes[Number(event.key) - 1];
    if (chosen && /^[1-9]$/.test(event.key)) {
      event.stopImmediatePropagation();
      grade(chosen.code);
    } else if (event.key === "b") blink();
    // The list of the view, which knows grades, is not for those who label.
    else if (document.body.dataset.labels && /^[np]$/.test(event.key)) event.stopImmediatePropagation();
  }, { capture: true });
}

export function gradeKeys(classes) {
  const keys = [...classes.map(({ name }, place) => [place + 1, name]), ["b", "before and after"]];
  return element("p", { className: "quiet keys" }, ...keys.map(([key, text]) => element("span", {}, element("kbd", { textContent: key }), ` ${text}`)));
}

function blink() {
  const images = [...document.querySelectorAll(LAYER)];
  if (images.length < 2) return;
  if (!images[0].checked) images[0].click();
  images.at(-1).click();
  const seen = images.at(-1).checked ? images.at(-1) : images[0];
  tell(`on the map: ${seen.labels[0].firstChild.textContent}`);
}
