// Sources and layers of a map as MapLibre takes them.

import { codesAddress } from "./recolor.js";

const FALLBACK = "#888888";
export const BASE = location.href.split("#")[0].split("?")[0].replace(/[^/]*$/, "");
export const FEATURES = ["polygons-fill", "dots"];

const dark = matchMedia("(prefers-color-scheme: dark)");
const ground = () => (dark.matches ? "#0e1012" : "#e9ebec");

export function tilesOf(number, layer, hide) {
  const address = `${BASE}maps/${number}/${layer.id}/{z}/{x}/{y}.${layer.suffix}`;
  return layer.kind === "image" ? address : codesAddress(address, layer.kind === "classes" ? [...hide] : []);
}

export function styleOf(number, document, basemap, state) {
  const sources = {};
  const layers = [{ id: "ground", type: "background", paint: { "background-color": ground() } }];
  if (basemap) {
    sources.basemap = { type: "raster", tiles: [basemap], tileSize: 256 };
    layers.push({ id: "basemap", type: "raster", source: "basemap" });
  }
  for (const layer of document.layers) {
    sources[layer.id] = {
      type: "raster", tiles: [tilesOf(number, layer, state.hide)], tileSize: 512, bounds: layer.box,
      minzoom: layer.minZoom, maxzoom: layer.maxZoom,
    };
    layers.push({
      id: layer.id, type: "raster", source: layer.id,
      // Of what is not shown no tile is asked for.
      layout: { visibility: !state.swipe && state.layers.has(layer.id) ? "visible" : "none" },
      paint: { "raster-fade-duration": 0, "raster-resampling": layer.kind === "image" ? "linear" : "nearest" },
    });
  }
  return { version: 8, sources, layers };
}

export function addPolygons(map, number, told, colors) {
  const color = ["match", ["get", "code"], ...colors.flatMap(({ code, color: value }) => [code, value]), FALLBACK];
  map.addSource("polygons", {
    type: "vector", tiles: [`${BASE}maps/${number}/polygons/{z}/{x}/{y}.pbf`], maxzoom: told.maxZoom, bounds: told.box,
  });
  map.addLayer({ id: "polygons-fill", type: "fill", source: "polygons", "source-layer": "polygons", paint: { "fill-color": color, "fill-opacity": 0.35 } });
  map.addLayer({ id: "polygons-line", type: "line", source: "polygons", "source-layer": "polygons", paint: { "line-color": color, "line-width": 1.2 } });
  map.addLayer({
    id: "dots", type: "circle", source: "polygons", "source-layer": "dots",
    paint: { "circle-color": color, "circle-radius": 2.5, "circle-stroke-color": "#ffffff", "circle-stroke-width": 0.6 },
  });
  const here = { source: "polygons", filter: ["==", ["id"], -1] };
  map.addLayer({ id: "chosen-under", type: "line", ...here, "source-layer": "polygons", paint: { "line-color": "#000000", "line-width": 5 } });
  map.addLayer({ id: "chosen", type: "line", ...here, "source-layer": "polygons", paint: { "line-color": "#ffffff", "line-width": 2.5 } });
  map.addLayer({ id: "chosen-dot", type: "circle", ...here, "source-layer": "dots",
    paint: { "circle-color": "#ffffff", "circle-radius": 6, "circle-stroke-color": "#000000", "circle-stroke-width": 2 } });
}

export function setOpacity(map, id, percent, fill = 0.35) {
  const part = percent / 100;
  if (id !== "polygons") return map.getLayer(id) && map.setPaintProperty(id, "raster-opacity", part);
  if (!map.getLayer("polygons-fill")) return;
  map.setPaintProperty("polygons-fill", "fill-opacity", fill * part);
  map.setPaintProperty("polygons-line", "line-opacity", part);
  map.setPaintProperty("dots", "circle-opacity", part);
}

export function setVisible(map, id, visible) {
  for (const layer of id === "polygons" ? ["polygons-fill", "polygons-line", "dots"] : [id]) {
    if (map.getLayer(layer)) map.setLayoutProperty(layer, "visibility", visible ? "visible" : "none");
  }
}

export function onScheme(act) {
  dark.addEventListener("change", () => act(ground()));
}
