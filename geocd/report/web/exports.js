"use strict";
// The listed places as files: CSV, GeoJSON, KML. All are made in the page; nothing is sent anywhere.

const COLUMNS = [
  "id", "kind", "became", "kind_why", "area_m2", "n_pixels", "p_mean", "p_max", "relevance", "lasting", "last_seen",
  "centroid_x", "centroid_y", "x", "y", "lon", "lat", "verdict",
];

/** Name and value of every column that the result has. */
function attributesOf(place, verdict) {
  const has = (name) => name === "verdict" || name in DATA.columns;
  return COLUMNS.filter(has).map((name) => [name, (name === "verdict" ? verdict : place[name]) ?? null]);
}

/** Rings in longitude and latitude, closed, the outer ones counter-clockwise (RFC 7946). */
function ringsOnEarth(rings) {
  return rings.map((ring, index) => {
    const points = ring.map(([x, y]) => toLonLat(x, y).map((degrees) => Number(degrees.toFixed(7))));
    points.push(points[0]);
    let twice = 0;
    for (let i = 1; i < points.length; i += 1) {
      twice += points[i - 1][0] * points[i][1] - points[i][0] * points[i - 1][1];
    }
    return (twice > 0) === (index === 0) ? points : points.reverse();
  });
}

function toCSV(places, verdictOf) {
  const cell = (value) => (/[",\n]/.test(String(value ?? "")) ? `"${String(value).replaceAll('"', '""')}"` : value ?? "");
  const rows = places.map((place) => attributesOf(place, verdictOf(place)));
  const head = attributesOf(places[0] ?? {}, null).map(([name]) => name);
  return [head, ...rows.map((row) => row.map(([, value]) => cell(value)))].map((row) => `${row.join(",")}\n`).join("");
}

function toGeoJSON(places, verdictOf) {
  const features = places.map((place) => {
    const polygons = place.polygons.map(ringsOnEarth);
    const geometry = polygons.length === 1
      ? { type: "Polygon", coordinates: polygons[0] }
      : { type: "MultiPolygon", coordinates: polygons };
    const properties = Object.fromEntries(attributesOf(place, verdictOf(place)));
    return JSON.stringify({ type: "Feature", id: place.id, properties, geometry });
  });
  return `{"type":"FeatureCollection","features":[\n${features.join(",\n")}\n]}\n`;
}

function toKML(places, verdictOf) {
  const xml = (value) => String(value).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
  const ring = (points, tag) =>
    `<${tag}><LinearRing><coordinates>${points.map((p) => p.join(",")).join(" ")}</coordinates></LinearRing></${tag}>`;
  const polygon = (rings) => {
    const [outer, ...holes] = ringsOnEarth(rings);
    return `<Polygon>${ring(outer, "outerBoundaryIs")}${holes.map((hole) => ring(hole, "innerBoundaryIs")).join("")}</Polygon>`;
  };
  const placemarks = places.map((place) => {
    const data = attributesOf(place, verdictOf(place)).filter(([, value]) => value !== null)
      .map(([name, value]) => `<Data name="${name}"><value>${xml(value)}</value></Data>`).join("");
    const name = `${place.id}${place.kind ? ` ${kindInWords(place.kind)}` : ""}`;
    return `<Placemark><name>${xml(name)}</name><styleUrl>#change</styleUrl><ExtendedData>${data}</ExtendedData>` +
      `<MultiGeometry>${place.polygons.map(polygon).join("")}</MultiGeometry></Placemark>`;
  });
  return '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document>' +
    `<name>${xml(DATA.stem)}</name><Style id="change"><LineStyle><color>ffffe035</color><width>2</width></LineStyle>` +
    `<PolyStyle><fill>0</fill></PolyStyle></Style>\n${placemarks.join("\n")}\n</Document></kml>\n`;
}

/** Hand a text to the reader as a file. */
function save(text, name, type) {
  const href = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10000);
}

const EXPORTS = {
  csv: [toCSV, "text/csv"],
  geojson: [toGeoJSON, "application/geo+json"],
  kml: [toKML, "application/vnd.google-earth.kml+xml"],
};
