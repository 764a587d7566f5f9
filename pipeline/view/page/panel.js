// Elements of the panel. Texts of data become text nodes, never markup.

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function areaText(m2) {
  const [value, unit] = m2 >= 1e6 ? [m2 / 1e6, "km²"] : m2 >= 1e4 ? [m2 / 1e4, "ha"] : [m2, "m²"];
  return `${value.toLocaleString("en", { maximumSignificantDigits: 3 })} ${unit}`;
}

export function swatch(color) {
  const made = element("span", { className: "swatch" });
  made.style.background = color;
  return made;
}

export function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

export function showCorrecting(command) {
  $("correct").querySelector("code").textContent = command ?? "";
  $("correct").hidden = !command;
}

export function showNotes(notes) {
  $("notes").replaceChildren(...notes.map((text) => element("li", { textContent: text })));
  $("notes").hidden = !notes.length;
}

export function showLayers(layers, state, change) {
  $("layers").replaceChildren(...layers.map(({ id, title }, place) => {
    const on = element("input", { type: "checkbox", checked: state.layers.has(id), id: `layer-${id}` });
    const slider = element("input", { type: "range", min: 0, max: 100, value: state.layers.get(id) ?? 100, ariaLabel: `Opacity of ${title}` });
    const told = () => change(id, on.checked, Number(slider.value));
    on.addEventListener("change", told);
    slider.addEventListener("input", told);
    const label = element("label", { className: "grow", htmlFor: on.id }, title, ...(place < 9 ? [" ", element("kbd", { textContent: place + 1 })] : []));
    return element("div", { className: "row" }, on, label, slider);
  }));
}

export function showClasses(classes, state, change) {
  $("classes").replaceChildren(...classes.map(({ code, name, color, count }) => {
    const on = element("input", { type: "checkbox", checked: !state.hide.has(code) });
    on.addEventListener("change", () => change(code, on.checked));
    const label = element("label", { className: "row" }, on, swatch(color), element("span", { className: "grow", textContent: name }));
    if (count !== undefined) label.append(element("span", { className: "quiet", textContent: count.toLocaleString("en") }));
    return label;
  }));
}

export function showList(entries, chosen, names, colors, choose) {
  $("list").replaceChildren(...entries.map((entry) => {
    const figures = [areaText(entry.area), ...(entry.confidence === null ? [] : [`${entry.confidence.toFixed(0)} %`])].join(" · ");
    const button = element("button", { type: "button" }, swatch(colors.get(entry.code) ?? "#888888"),
      element("span", { textContent: `${names.get(entry.code) ?? entry.code} ${entry.id ?? entry.row}` }), element("span", { className: "figures", textContent: figures }));
    if (entry.row === chosen) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => choose(entry));
    return element("li", {}, button);
  }));
}

export function showDetails(title, values, labels) {
  $("details").hidden = false;
  $("details-title").textContent = title;
  $("attributes").replaceChildren(...Object.entries(values).map(([name, value]) =>
    element("tr", {}, element("th", { scope: "row", textContent: labels[name] ?? name }), element("td", { textContent: value ?? "-" }))));
}
