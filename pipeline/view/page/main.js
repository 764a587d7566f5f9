// The page: asks what there is, draws it, and keeps the address up to date.

import { expressionOf, ORDERS, passes } from "./filter.js";
import { $, element, say, showClasses, showCorrecting, showDetails, showLayers, showList, showNotes } from "./panel.js";
import { addCodes } from "./recolor.js";
import { readState, writeState } from "./state.js";
import { addPolygons, BASE, FEATURES, onScheme, setOpacity, setVisible, styleOf, tilesOf } from "./style.js";
import { Swipe } from "./swipe.js";

const LISTED = 200;
const WAIT_MS = 300;
const CLOSEST = 15;
const state = readState();
let view, told, map, swipe;
let polygons = null;
let entries = [];

async function ask(address) {
  const response = await fetch(BASE + address);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

function made(container, place) {
  const one = new maplibregl.Map({
    container, style: styleOf(state.map, told, view.basemap, state), ...place, maxZoom: 22, dragRotate: false, pitchWithRotate: false,
    touchPitch: false, attributionControl: false, interactive: container === "map", canvasContextAttributes: { preserveDrawingBuffer: false },
  });
  one.on("error", ({ error }) => error?.status === 404 || say(error?.message ?? "a tile can't be drawn", true));
  return one;
}

// What scripts beside this one go by.
const tell = (what, detail) => document.dispatchEvent(new CustomEvent(`geoseg:${what}`, { detail }));
const styled = (one) => new Promise((done) => one.once("style.load", () => done(one)));
const both = () => [map, swipe.upper].filter(Boolean);
const rasters = () => told.layers.map(({ id, title }) => ({ id, title }));
const layers = () => [...rasters(), ...(told.polygons ? [{ id: "polygons", title: "Polygons" }] : [])];

function firstLayers() {
  const kinds = told.layers.filter(({ kind }) => kind === "image").slice(-1).map(({ id }) => id);
  const classes = told.layers.some(({ kind }) => kind === "classes");
  return new Map([...kinds.map((id) => [id, 100]), ...(classes ? [["classes", told.kind === "changes" ? 70 : 60]] : []), ["polygons", 100]]);
}

function drawLayers() {
  for (const one of both()) {
    const side = state.swipe?.[one === map ? 0 : 1];
    for (const { id } of layers()) {
      setVisible(one, id, state.swipe && id !== "polygons" ? id === side : state.layers.has(id));
      setOpacity(one, id, state.swipe && id === side ? 100 : state.layers.get(id) ?? 100, document.body.dataset.outlines ? 0 : state.swipe ? 0.08 : 0.35);
    }
  }
  $("ramp").hidden = !(state.swipe ? state.swipe.includes("confidence") : state.layers.has("confidence"));
}

function drawFilter() {
  const rule = expressionOf(state);
  const chosen = ["==", ["id"], state.chosen ?? -1];
  for (const one of both()) {
    for (const id of ["polygons-fill", "polygons-line", "dots"]) if (one.getLayer(id)) one.setFilter(id, rule);
    for (const id of ["chosen-under", "chosen", "chosen-dot"]) if (one.getLayer(id)) one.setFilter(id, chosen);
  }
  drawList();
}

function drawList() {
  if (polygons?.state !== "ready") return;
  entries = polygons.first.filter((entry) => passes(state, entry)).sort(ORDERS[state.order]);
  const names = new Map(classes().map(({ code, name }) => [code, name]));
  const colors = new Map(classes().map(({ code, color }) => [code, color]));
  showList(entries.slice(0, LISTED), state.chosen, names, colors, choose);
  const all = polygons.first.length === polygons.count;
  $("listed").textContent = `${Math.min(LISTED, entries.length).toLocaleString("en")} of ${polygons.count.toLocaleString("en")} polygons`
    + (all ? "" : `; the list is made of the ${polygons.first.length.toLocaleString("en")} that deserve it most`);
}

function classes() {
  const counts = new Map((polygons?.classes ?? []).map(({ code, count }) => [code, count]));
  const known = told.classes.map((one) => ({ ...one, count: counts.get(one.code) }));
  const more = (polygons?.classes ?? []).filter(({ code }) => !told.classes.some((one) => one.code === code));
  const spare = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377"];
  return [...known, ...more.map(({ code, name, count }, i) => ({ code, name: name ?? `class ${code}`, count, color: spare[i % spare.length] }))];
}

function drawClasses() {
  showClasses(classes(), state, (code, on) => {
    state.hide[on ? "delete" : "add"](code);
    for (const one of both()) {
      const layer = told.layers.find(({ kind }) => kind === "classes");
      if (layer) one.getSource(layer.id).setTiles([tilesOf(state.map, layer, state.hide)]);
    }
    drawFilter();
    keep();
  });
}

function keep() {
  const center = map.getCenter();
  writeState({ ...state, at: { zoom: map.getZoom(), center: [center.lng, center.lat] } });
}

function choose(entry) {
  state.chosen = entry.row;
  const [west, south, east, north] = entry.box;
  map.fitBounds([[west, south], [east, north]], { padding: 80, maxZoom: Math.max(CLOSEST, (polygons.maxZoom ?? 0) + 2), duration: 300 });
  map.once("idle", () => {
    const [found] = map.querySourceFeatures("polygons", { sourceLayer: "polygons", filter: ["==", ["id"], entry.row] });
    if (found && state.chosen === entry.row) showFeature(found);
  });
  drawFilter();
  keep();
}

function showFeature(feature) {
  const names = new Map(classes().map(({ code, name }) => [code, name]));
  const values = { ...polygons.common, ...feature.properties };
  const order = Object.keys(polygons.labels).filter((name) => name in values);
  tell("chosen", { row: feature.id, values });
  showDetails(`${names.get(values.code) ?? "Polygon"} ${values.id ?? feature.id}`, Object.fromEntries(order.map((name) => [name, values[name]])), polygons.labels);
}

function unchoose() {
  state.chosen = null;
  tell("unchosen", {});
  $("details").hidden = true;
  drawFilter();
  keep();
}

function step(by) {
  const shown = entries.slice(0, LISTED);
  if (!shown.length) return;
  const now = shown.findIndex(({ row }) => row === state.chosen);
  choose(shown[now < 0 ? (by > 0 ? 0 : shown.length - 1) : (now + by + shown.length) % shown.length]);
  $("list").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
}

async function setSwipe(on) {
  const ids = rasters().map(({ id }) => id);
  if (!on) {
    state.swipe = null;
    swipe.close();
  } else {
    $("swipe").checked = true;
    $("sides").hidden = false;
    const images = told.layers.filter(({ kind }) => kind === "image").map(({ id }) => id);
    const sides = images.length > 1 ? [images[0], images.at(-1)] : [ids[0], ids[1]];
    state.swipe = state.swipe?.length === 2 && state.swipe.every((id) => ids.includes(id)) ? state.swipe : sides;
    [$("left").value, $("right").value] = state.swipe;
    const fresh = !swipe.upper;
    const upper = await swipe.open();
    if (fresh && polygons?.state === "ready") addPolygons(upper, state.map, polygons, classes());
  }
  $("swipe").checked = on;
  $("sides").hidden = !on;
  drawLayers();
  drawFilter();
  keep();
}

async function awaitPolygons() {
  const number = state.map;
  for (;;) {
    const answer = await ask(`maps/${number}/polygons.json`);
    if (answer.state === "failed") return say(answer.message, true);
    if (answer.state === "ready") { polygons = answer; break; }
    say("Reading the polygons …");
    await new Promise((done) => setTimeout(done, WAIT_MS));
  }
  say(`${polygons.count.toLocaleString("en")} polygons` + (polygons.leftOut ? `; ${polygons.leftOut} features that are no polygons are left out` : ""));
  if (!polygons.count) return;
  state.order = state.order in ORDERS ? state.order : polygons.order;
  const orders = [...(polygons.confidence ? ["doubt", "confidence"] : []), "area", ...(polygons.order === "severity" ? ["severity"] : [])];
  for (const option of $("order").options) option.hidden = !orders.includes(option.value);
  if (!orders.includes(state.order)) state.order = "area";
  $("order").value = state.order;
  $("by-confidence").hidden = !polygons.confidence;
  $("filter").hidden = $("first").hidden = false;
  for (const one of both()) addPolygons(one, number, polygons, classes());
  if (!told.box && !state.at) map.fitBounds(polygons.box, { padding: 20, duration: 0 });
  drawClasses();
  drawLayers();
  drawFilter();
  const start = polygons.first.find(({ row }) => row === state.chosen);
  if (start) choose(start);
  document.body.dataset.ready = "polygons";
  tell("ready", { map, told, choose, redraw: drawLayers });
}

function bindFilter() {
  for (const key of ["confidence", "area"]) {
    ["low", "high"].forEach((end, place) => {
      const input = $(`${key}-${end}`);
      input.value = state[key][place] ?? "";
      input.addEventListener("input", () => {
        state[key][place] = input.value === "" || Number.isNaN(input.valueAsNumber) ? null : input.valueAsNumber;
        drawFilter();
        keep();
      });
    });
  }
  $("reset").addEventListener("click", () => {
    for (const key of ["confidence", "area"]) state[key] = [null, null];
    for (const input of document.querySelectorAll("#filter input")) input.value = "";
    state.hide.clear();
    drawClasses();
    $("classes").querySelector("input")?.dispatchEvent(new Event("change"));
    drawFilter();
    keep();
  });
  $("order").addEventListener("change", () => { state.order = $("order").value; drawList(); keep(); });
}

function bindKeys() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input[type=number], select, input[type=text], textarea");
    if (event.ctrlKey || event.altKey || event.metaKey || (typing && event.key !== "Escape")) return;
    if (event.key === "n") step(1);
    else if (event.key === "p") step(-1);
    else if (event.key === "s" && !$("swipe-box").hidden) setSwipe(!state.swipe);
    else if (event.key === "Escape") unchoose();
    else if (/^[1-9]$/.test(event.key)) document.querySelectorAll("#layers input[type=checkbox]")[event.key - 1]?.click();
  });
}

function bindMap() {
  map.addControl(new maplibregl.NavigationControl({ showCompass: false }));
  map.addControl(new maplibregl.ScaleControl());
  map.touchZoomRotate.disableRotation();
  map.keyboard.disableRotation();
  map.on("moveend", keep);
  map.on("click", ({ point }) => {
    // Who draws clicks for points, not for polygons.
    if (document.body.dataset.drawing) return;
    const found = map.queryRenderedFeatures(point, { layers: FEATURES.filter((id) => map.getLayer(id)) });
    if (!found.length) return unchoose();
    const [feature] = found.sort((a, b) => a.properties.area_m2 - b.properties.area_m2);
    state.chosen = feature.id;
    showFeature(feature);
    drawFilter();
    keep();
  });
  onScheme((color) => both().forEach((one) => one.setPaintProperty("ground", "background-color", color)));
}

function bindLayers() {
  showLayers(layers(), state, (id, on, opacity) => {
    if (on) state.layers.set(id, opacity);
    else state.layers.delete(id);
    drawLayers();
    keep();
  });
  $("swipe-box").hidden = told.layers.length < 2;
  for (const [id, place] of [["left", 0], ["right", 1]]) {
    $(id).replaceChildren(...rasters().map((layer) => element("option", { value: layer.id, textContent: layer.title })));
    $(id).addEventListener("change", () => { state.swipe[place] = $(id).value; drawLayers(); keep(); });
  }
  $("swipe").addEventListener("change", () => setSwipe($("swipe").checked));
}

async function start() {
  view = await ask("view.json");
  state.map = Math.min(state.map, view.maps.length - 1);
  told = await ask(`maps/${state.map}/map.json`);
  document.title = `${told.name} – geoseg view`;
  $("title").textContent = told.name;
  $("choose").hidden = view.maps.length < 2;
  $("maps").replaceChildren(...view.maps.map(({ name }, i) => element("option", { value: i, textContent: name, selected: i === state.map })));
  $("maps").addEventListener("change", () => { location.hash = `map=${$("maps").value}`; location.reload(); });
  showNotes(told.notes);
  showCorrecting(view.maps[state.map].correct);
  state.layers ??= firstLayers();
  addCodes(maplibregl);
  map = made("map", state.at ?? (told.box ? { bounds: told.box, fitBoundsOptions: { padding: 20 } } : { center: [0, 0], zoom: 1 }));
  swipe = new Swipe(map, (id) => styled(made(id, { center: map.getCenter(), zoom: map.getZoom() })));
  bindMap();
  bindLayers();
  bindFilter();
  bindKeys();
  drawClasses();
  const drawn = new Promise((done) => { map.once("load", () => { document.body.dataset.drawn = "yes"; done(); }); });
  await styled(map);
  drawLayers();
  // Reading polygons would take the server's time from the first picture.
  if (told.polygons && told.layers.length) await drawn;
  if (told.polygons) await awaitPolygons();
  else say("");
  if (state.swipe) await setSwipe(true);
}

start().catch((error) => say(error.message, true));
