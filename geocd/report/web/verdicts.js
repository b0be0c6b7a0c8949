"use strict";
// What a reviewer says of places: yes, no or unsure. Kept by the browser, and saved as a file that
// `geocd refine --verdicts` reads.

const VERDICTS = ["yes", "no", "unsure"];

/** The rows of a CSV with commas, semicolons or tabs; in quotes these, and line ends, are part of a cell. */
function rowsOfCSV(text) {
  const [head] = text.split(/\r?\n/, 1);
  const count = (mark) => head.split(mark).length;
  const delimiter = [",", ";", "\t"].reduce((most, mark) => (count(mark) > count(most) ? mark : most));
  const cell = new RegExp(`(?:"((?:[^"]|"")*)"|([^${delimiter}\\r\\n]*))(${delimiter}|\\r?\\n|$)`, "g");
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(cell)) {
    rows[rows.length - 1].push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end.endsWith("\n")) rows.push([]);
  }
  return rows;
}

class Verdicts {
  constructor(places) {
    this.places = places;
    this.key = `geocd verdicts ${DATA.stem} ${DATA.key}`;
    this.byId = new Map();
    for (const place of places) {
      if (VERDICTS.includes(place.verdict)) this.byId.set(place.id, place.verdict);
    }
    try {
      // a null takes back what the layer says
      for (const [id, verdict] of JSON.parse(localStorage.getItem(this.key) ?? "[]")) this.set(id, verdict);
    } catch {
      // a browser that keeps nothing for pages from disk: the file is what counts
    }
  }

  of(place) {
    return this.byId.get(place.id) ?? null;
  }

  set(id, verdict) {
    if (VERDICTS.includes(verdict)) this.byId.set(id, verdict);
    else this.byId.delete(id);
  }

  judge(place, verdict) {
    this.set(place.id, verdict);
    this.keep();
  }

  keep() {
    const judged = this.places.map(({ id, verdict }) => [id, this.byId.get(id) ?? null, verdict ?? null]);
    const changed = judged.filter(([, now, layer]) => now !== layer).map(([id, now]) => [id, now]);
    try {
      localStorage.setItem(this.key, JSON.stringify(changed));
    } catch {
      // see above
    }
  }

  /** Id, verdict and a point inside of every place that was judged, as CSV: ids are those of one run. */
  toCSV() {
    const judged = this.places.filter(({ id }) => this.byId.has(id)).sort((a, b) => a.id - b.id);
    const lines = judged.map(({ id, x, y }) => `${id},${this.byId.get(id)},${x},${y}\n`);
    return `id,verdict,x,y\n${lines.join("")}`;
  }

  /**
   * Take over the verdicts of a file, whatever other columns it has: by the place where it has x and y, else by
   * id. Returns how many were read, and how many lie on no place of this page; null for another file.
   */
  fromCSV(text) {
    const [head, ...rows] = rowsOfCSV(text.replace(/^\ufeff/, ""));
    const names = head.map((cell) => cell.trim());
    const [id, verdict, x, y] = ["id", "verdict", "x", "y"].map((name) => names.indexOf(name));
    if (id < 0 || verdict < 0) return null;
    const byId = new Map(this.places.map((place) => [place.id, place]));
    const placeOf = (row) => {
      const place = byId.get(Number(row[id]));
      if (x < 0 || y < 0) return place;
      const point = toColRow(Number(row[x]), Number(row[y]));
      if (place && isInside(place, point)) return place;
      return this.places.find((other) => isInside(other, point));
    };
    const judged = rows.map((row) => [(row[verdict] ?? "").trim(), row])
      .filter(([word]) => VERDICTS.includes(word))
      .map(([word, row]) => [word, placeOf(row)]);
    const read = judged.filter(([, place]) => place !== undefined);
    for (const [word, place] of read) this.set(place.id, word);
    this.keep();
    return { read: read.length, elsewhere: judged.length - read.length };
  }
}
