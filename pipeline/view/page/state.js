// The part of the address behind #: place, layers, filter. What it says is checked, for anybody can write it.

const number = (text) => (text === null || text === "" || !Number.isFinite(Number(text)) ? null : Number(text));

export function readState() {
  const said = new URLSearchParams(location.hash.slice(1));
  const view = (said.get("at") ?? "").split("/").map(Number);
  return {
    map: Math.max(0, Math.trunc(number(said.get("map")) ?? 0)),
    at: view.length === 3 && view.every(Number.isFinite) && Math.abs(view[1]) <= 90 ? { zoom: view[0], center: [view[2], view[1]] } : null,
    layers: said.has("layers")
      ? new Map(said.get("layers").split(",").filter(Boolean).map((part) => {
          const [id, opacity] = part.split(":");
          return [id, Math.min(100, Math.max(0, number(opacity ?? null) ?? 100))];
        }))
      : null,
    hide: new Set((said.get("hide") ?? "").split(",").map(number).filter((code) => code !== null)),
    confidence: pair(said.get("confidence")),
    area: pair(said.get("area")),
    order: said.get("order"),
    chosen: number(said.get("polygon")),
    swipe: said.has("swipe") ? said.get("swipe").split(",") : null,
  };
}

function pair(text) {
  const [low, high] = (text ?? "").split("_");
  return [number(low ?? null), number(high ?? null)];
}

export function writeState(state) {
  const parts = [];
  const add = (key, value) => parts.push(`${key}=${encodeURIComponent(value).replaceAll("%2F", "/").replaceAll("%2C", ",").replaceAll("%3A", ":")}`);
  if (state.map) add("map", state.map);
  if (state.at) add("at", [state.at.zoom.toFixed(2), state.at.center[1].toFixed(6), state.at.center[0].toFixed(6)].join("/"));
  if (state.layers) add("layers", [...state.layers].map(([id, opacity]) => (opacity === 100 ? id : `${id}:${opacity}`)).join(","));
  if (state.hide.size) add("hide", [...state.hide].join(","));
  for (const key of ["confidence", "area"]) if (state[key].some((v) => v !== null)) add(key, state[key].map((v) => v ?? "").join("_"));
  if (state.order) add("order", state.order);
  if (state.chosen !== null) add("polygon", state.chosen);
  if (state.swipe) add("swipe", state.swipe.join(","));
  history.replaceState(null, "", `#${parts.join("&")}`);
}
