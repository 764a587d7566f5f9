// An outline that is being drawn: points on the map, and the same as GeoJSON in a text field.

const EMPTY = { type: "FeatureCollection", features: [] };
const NEAR_PX = 8;
const DECIMALS = 8;

export class Draft {
  constructor(map, text) {
    this.map = map;
    this.text = text;
    this.ring = [];
    this.holes = [];
    this.dragged = -1;
    map.addSource("draft", { type: "geojson", data: EMPTY });
    map.addLayer({ id: "draft-fill", type: "fill", source: "draft", filter: ["==", ["geometry-type"], "Polygon"], paint: { "fill-color": "#ffdd00", "fill-opacity": 0.25 } });
    map.addLayer({ id: "draft-line", type: "line", source: "draft", filter: ["!=", ["geometry-type"], "Point"], paint: { "line-color": "#ffdd00", "line-width": 2.5 } });
    map.addLayer({
      id: "draft-points", type: "circle", source: "draft", filter: ["==", ["geometry-type"], "Point"],
      paint: { "circle-radius": 5, "circle-color": "#ffffff", "circle-stroke-color": "#000000", "circle-stroke-width": 1.5 },
    });
    map.on("click", ({ point, lngLat }) => this.on && this.add(point, lngLat));
    map.on("mousedown", "draft-points", (event) => this.take(event));
    map.on("mousemove", ({ lngLat }) => this.drag(lngLat));
    map.on("mouseup", () => { this.dragged = -1; map.dragPan.enable(); });
    map.on("contextmenu", "draft-points", ({ features }) => {
      this.ring.splice(features[0].properties.place, 1);
      this.draw();
    });
    text.addEventListener("input", () => this.show());
  }

  get on() { return Boolean(document.body.dataset.drawing); }

  begin(geometry) {
    if (geometry?.type === "MultiPolygon") {
      // Of several parts, points can't be told apart; as text they can be changed all the same.
      this.end();
      this.text.value = JSON.stringify(geometry);
      return this.show();
    }
    [this.ring, ...this.holes] = (geometry?.coordinates ?? [[]]).map((ring) => ring.slice(0, -1));
    document.body.dataset.drawing = "yes";
    this.map.doubleClickZoom.disable();
    this.draw();
  }

  end() {
    [this.ring, this.holes] = [[], []];
    delete document.body.dataset.drawing;
    this.map.doubleClickZoom.enable();
    this.text.value = "";
    this.map.getSource("draft").setData(EMPTY);
  }

  add(point, { lng, lat }) {
    const here = this.ring.map((xy) => this.map.project(xy));
    if (here.some(({ x, y }) => Math.hypot(x - point.x, y - point.y) < NEAR_PX)) return;
    let place = this.ring.length;
    here.forEach((a, i) => {
      const b = here[(i + 1) % here.length];
      if (here.length > 2 && farFrom(point, a, b) < NEAR_PX) place = i + 1;
    });
    this.ring.splice(place, 0, rounded([lng, lat]));
    this.draw();
  }

  take(event) {
    if (event.originalEvent.button !== 0) return;
    event.preventDefault();
    this.map.dragPan.disable();
    this.dragged = event.features[0].properties.place;
  }

  drag({ lng, lat }) {
    if (this.dragged < 0) return;
    this.ring[this.dragged] = rounded([lng, lat]);
    this.draw();
  }

  draw() {
    const closed = (ring) => (ring.length ? [...ring, ring[0]] : []);
    const geometry = { type: "Polygon", coordinates: [closed(this.ring), ...this.holes.map(closed)] };
    if (this.ring.length > 2) this.text.value = JSON.stringify(geometry);
    else this.text.value = "";
    const outline = this.ring.length > 2 ? [feature(geometry)] : this.ring.length === 2 ? [feature({ type: "LineString", coordinates: this.ring })] : [];
    const points = this.ring.map((coordinates, place) => feature({ type: "Point", coordinates }, { place }));
    this.map.getSource("draft").setData({ type: "FeatureCollection", features: [...outline, ...points] });
  }

  show() {
    try {
      this.map.getSource("draft").setData(feature(this.geometry()));
    } catch {
      this.map.getSource("draft").setData(EMPTY);
    }
  }

  geometry() {
    if (!this.text.value.trim()) throw new Error("no outline: draw at least three points, or paste GeoJSON");
    let said;
    try {
      said = JSON.parse(this.text.value);
    } catch {
      throw new Error("the outline is no JSON");
    }
    if (said?.type === "FeatureCollection" && said.features?.length === 1) [said] = said.features;
    const found = said?.type === "Feature" ? said.geometry : said;
    if (!["Polygon", "MultiPolygon"].includes(found?.type)) throw new Error("the outline is no Polygon or MultiPolygon of GeoJSON");
    return { type: found.type, coordinates: found.coordinates };
  }
}

const feature = (geometry, properties = {}) => ({ type: "Feature", geometry, properties });
const rounded = (xy) => xy.map((value) => Number(value.toFixed(DECIMALS)));

function farFrom({ x, y }, a, b) {
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const along = Math.max(0, Math.min(1, ((x - a.x) * dx + (y - a.y) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - a.x - along * dx, y - a.y - along * dy);
}
