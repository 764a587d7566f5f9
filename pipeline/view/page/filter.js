// The filter of polygons: one rule, as MapLibre takes it for what is drawn, and as a function for what is listed.

const within = (value, [low, high]) => (low === null || value >= low) && (high === null || value <= high);

export function expressionOf(state) {
  const rules = ["all", ["!", ["in", ["get", "code"], ["literal", [...state.hide]]]]];
  for (const [key, name] of [["confidence", "confidence"], ["area", "area_m2"]]) {
    const [low, high] = state[key];
    if (low !== null) rules.push([">=", ["coalesce", ["get", name], -1], low]);
    if (high !== null) rules.push(["<=", ["coalesce", ["get", name], Infinity], high]);
  }
  return rules;
}

export function passes(state, entry) {
  return !state.hide.has(entry.code)
    && within(entry.area ?? NaN, state.area)
    && (entry.confidence === null ? state.confidence.every((v) => v === null) : within(entry.confidence, state.confidence));
}

// Codes above 253 are no classes: not analysed, no data.
const grade = ({ code }) => (code > 253 ? -1 : code);

export const ORDERS = {
  doubt: (a, b) => b.doubt - a.doubt,
  area: (a, b) => b.area - a.area,
  severity: (a, b) => grade(b) - grade(a) || (b.confidence ?? 0) - (a.confidence ?? 0),
  confidence: (a, b) => (a.confidence ?? 101) - (b.confidence ?? 101),
};
