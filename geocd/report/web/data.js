"use strict";
// What the page knows: the places of the result and where they lie. Positions are columns and rows of the
// pair's grid, in fractions of pixels.

const DATA = JSON.parse(document.getElementById("data").textContent);

/**
 * Outer rings and holes of an outline, as geocd.report.places writes it: SVG path data of relative steps, in
 * which Z closes an outer ring and z a hole.
 */
function polygonsOf(path) {
  const polygons = [];
  let ring = [];
  let x = 0;
  let y = 0;
  for (const [, command, text] of path.matchAll(/([MhvlZz])([^MhvlZz]*)/g)) {
    const [first, second] = text.split(" ").map(Number);
    if (command === "M") {
      [x, y] = [first, second];
      ring = [[x, y]];
    } else if (command === "Z") {
      polygons.push([ring]);
    } else if (command === "z") {
      polygons[polygons.length - 1].push(ring);
    } else {
      if (command !== "v") x += first;
      if (command === "v") y += first;
      if (command === "l") y += second;
      // steps are written to a hundredth: without rounding, their sum would drift
      [x, y] = [Math.round(x * 100) / 100, Math.round(y * 100) / 100];
      ring.push([x, y]);
    }
  }
  return polygons;
}

/** First column, first row, last column and last row of polygons. */
function boundsOf(polygons) {
  const bounds = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [outer] of polygons) {
    for (const [x, y] of outer) {
      bounds[0] = Math.min(bounds[0], x);
      bounds[1] = Math.min(bounds[1], y);
      bounds[2] = Math.max(bounds[2], x);
      bounds[3] = Math.max(bounds[3], y);
    }
  }
  return bounds;
}

/** Bounds with the surroundings that a place is shown with, inside the grid. */
function withSurroundings([left, top, right, bottom]) {
  const margin = Math.max(12, 0.5 * Math.max(right - left, bottom - top));
  return [
    Math.max(0, left - margin),
    Math.max(0, top - margin),
    Math.min(DATA.grid.width, right + margin),
    Math.min(DATA.grid.height, bottom + margin),
  ];
}

/** Every place as an object: the columns of the layer, and its geometry. */
function placesOf() {
  const outlines = document.querySelectorAll("#outlines path");
  return DATA.columns.id.map((id, index) => {
    const place = { index, polygons: polygonsOf(outlines[index].getAttribute("d")) };
    for (const [name, values] of Object.entries(DATA.columns)) place[name] = values[index];
    place.bounds = boundsOf(place.polygons);
    return place;
  });
}

/** Coordinates in the CRS of the pair. */
function toXY(col, row) {
  const [a, b, c, d, e, f] = DATA.grid.transform;
  return [a * col + b * row + c, d * col + e * row + f];
}

/** Column and row of coordinates in the CRS of the pair. */
function toColRow(x, y) {
  const [a, b, c, d, e, f] = DATA.grid.transform;
  const scale = a * e - b * d;
  return [(e * (x - c) - b * (y - f)) / scale, (a * (y - f) - d * (x - c)) / scale];
}

/** Whether a point is inside a place, by the number of its edges to the right of the point. */
function isInside(place, [col, row]) {
  let inside = false;
  for (const ring of place.polygons.flat()) {
    ring.forEach(([x, y], index) => {
      const [u, v] = ring[(index + 1) % ring.length];
      if ((y > row) !== (v > row) && col < x + ((row - y) / (v - y)) * (u - x)) inside = !inside;
    });
  }
  return inside;
}

/** Longitude (from -180, without a jump inside the grid) and latitude; null where they are not known. */
function toLonLat(col, row) {
  const lattice = DATA.lattice;
  if (lattice === null) return null;
  const x = (Math.min(Math.max(col, 0), DATA.grid.width) / DATA.grid.width) * (lattice.cols - 1);
  const y = (Math.min(Math.max(row, 0), DATA.grid.height) / DATA.grid.height) * (lattice.rows - 1);
  const left = Math.min(Math.floor(x), lattice.cols - 2);
  const top = Math.min(Math.floor(y), lattice.rows - 2);
  const [u, v] = [x - left, y - top];
  const at = top * lattice.cols + left;
  return [lattice.lon, lattice.lat].map(
    (values) =>
      (1 - v) * ((1 - u) * values[at] + u * values[at + 1]) +
      v * ((1 - u) * values[at + lattice.cols] + u * values[at + lattice.cols + 1]),
  );
}

/** Coordinates in the CRS of the pair, to a part of a pixel: degrees have more decimals than metres. */
function xyInWords(x, y) {
  const pixel = Math.hypot(DATA.grid.transform[0], DATA.grid.transform[3]);
  const decimals = Math.max(1, Math.ceil(-Math.log10(pixel)) + 1);
  return `x ${x.toFixed(decimals)}, y ${y.toFixed(decimals)}`;
}

/** An area in the unit that suits it, as the rest of the page writes it. */
function areaInWords(squareMetres) {
  if (squareMetres === null) return "unknown";
  const digits = (value) =>
    value >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
  if (squareMetres >= 1e7) return `${digits(squareMetres / 1e6)} km²`;
  return squareMetres >= 1e4 ? `${digits(squareMetres / 1e4)} ha` : `${digits(squareMetres)} m²`;
}

/** A kind of change as people call it. */
function kindInWords(kind) {
  return DATA.kinds[kind] ?? String(kind).replaceAll("_", " ");
}

/** An element with a text, classes and attributes: texts never become HTML. */
function element(tag, { text, parent, ...attributes } = {}) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name === "cls" ? "class" : name, value);
  }
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}
