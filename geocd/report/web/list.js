"use strict";
// The list of places: sorted by any column, filtered by kind, probability, relevance, area and verdict.

class PlaceList {
  /** `onChange(places)` hears which places are listed, in their order. */
  constructor(places, { verdictOf, onSelect, onChange }) {
    this.places = places;
    this.verdictOf = verdictOf;
    this.onSelect = onSelect;
    this.onChange = onChange;
    this.body = document.querySelector("#list tbody");
    this.sorting = { column: DATA.columns.relevance ? "relevance" : "area_m2", down: true };
    this.rows = places.map((place) => this.makeRow(place));
    this.addKinds();
    for (const button of document.querySelectorAll("#list [data-sort]")) {
      button.addEventListener("click", () => this.sortBy(button.dataset.sort));
    }
    for (const control of document.querySelectorAll("#filters input, #filters select")) {
      control.addEventListener("input", () => this.refresh());
    }
    document.getElementById("clear-filters").addEventListener("click", () => {
      document.getElementById("filters").reset();
      this.refresh();
    });
  }

  makeRow(place) {
    const row = element("tr", { "data-index": place.index });
    const head = element("th", { scope: "row", parent: row });
    const button = element("button", { type: "button", cls: "plain", text: place.id, parent: head });
    button.setAttribute("aria-label", `Show place ${place.id}`);
    if (DATA.columns.kind) element("td", { text: kindInWords(place.kind), parent: row });
    element("td", { cls: "n", text: areaInWords(place.area_m2), parent: row });
    const likelihood = DATA.columns.relevance ? place.relevance : place.p_mean; // there is room for one
    element("td", { cls: "n", text: likelihood.toFixed(2), parent: row });
    element("td", { cls: "verdict", parent: row });
    row.addEventListener("click", () => this.onSelect(place));
    return row;
  }

  addKinds() {
    const box = document.getElementById("kinds");
    if (!DATA.columns.kind) return;
    const counts = new Map();
    for (const { kind } of this.places) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    for (const [kind, count] of [...counts].sort((a, b) => b[1] - a[1])) {
      const label = element("label", { parent: box });
      element("input", { type: "checkbox", name: "kind", value: kind, checked: "", parent: label });
      label.append(` ${kindInWords(kind)} (${count})`);
    }
    box.hidden = false;
  }

  /** List the places of one kind alone, whatever else was filtered. */
  only(kind) {
    document.getElementById("filters").reset();
    for (const box of document.querySelectorAll("#kinds [name=kind]")) box.checked = box.value === kind;
    this.refresh();
  }

  sortBy(column) {
    const { sorting } = this;
    this.sorting = { column, down: sorting.column === column ? !sorting.down : column !== "id" && column !== "kind" };
    this.refresh();
  }

  /** Whether a place passes the filters. */
  passes(place, filters) {
    if (filters.kinds && !filters.kinds.has(place.kind)) return false;
    if (place.p_mean < filters.least || (place.area_m2 ?? Infinity) < filters.area) return false;
    if (place.relevance < filters.relevance) return false;
    const verdict = this.verdictOf(place) ?? "none";
    return filters.verdict === "" || filters.verdict === verdict;
  }

  filters() {
    const form = document.getElementById("filters");
    const boxes = [...form.querySelectorAll("[name=kind]")];
    return {
      kinds: boxes.length ? new Set(boxes.filter((box) => box.checked).map((box) => box.value)) : null,
      least: Number(form.elements.least.value),
      area: Number(form.elements.area.value),
      relevance: Number(form.elements.relevance?.value ?? 0),
      verdict: form.elements.verdict.value,
    };
  }

  refresh() {
    const filters = this.filters();
    const { column, down } = this.sorting;
    const value = (place) => (column === "verdict" ? this.verdictOf(place) : place[column]) ?? "";
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1) || a.index - b.index;
    };
    this.shown = this.places.filter((place) => this.passes(place, filters)).sort(compare);
    this.body.replaceChildren(...this.shown.map((place) => this.rows[place.index]));
    for (const button of document.querySelectorAll("#list [data-sort]")) {
      const sorted = button.dataset.sort === column;
      button.closest("th").setAttribute("aria-sort", sorted ? (down ? "descending" : "ascending") : "none");
    }
    document.getElementById("least-value").textContent = filters.least.toFixed(2);
    if (DATA.columns.relevance) document.getElementById("relevance-value").textContent = filters.relevance.toFixed(2);
    const area = this.shown.reduce((sum, place) => sum + (place.area_m2 ?? 0), 0);
    document.getElementById("count").textContent =
      `${this.shown.length.toLocaleString("en")} of ${this.places.length.toLocaleString("en")} places, ` +
      areaInWords(area);
    this.onChange(this.shown);
  }

  /** Show the verdict of a place in its row. */
  mark(place) {
    const verdict = this.verdictOf(place);
    const cell = this.rows[place.index].lastChild;
    cell.textContent = verdict ?? "";
    cell.dataset.verdict = verdict ?? "";
  }

  select(place) {
    for (const row of this.rows) row.removeAttribute("aria-current");
    if (!place) return;
    const row = this.rows[place.index];
    row.setAttribute("aria-current", "true");
    const frame = this.body.closest(".scroll");
    // inside its own frame only: the page must not jump
    if (row.offsetTop < frame.scrollTop + 40 || row.offsetTop + row.offsetHeight > frame.scrollTop + frame.clientHeight) {
      frame.scrollTop = row.offsetTop - frame.clientHeight / 2;
    }
  }

  /** The place that stands so many rows below (or above) another one; the first where there is none. */
  neighbour(place, step) {
    const at = place ? this.shown.indexOf(place) : -1;
    if (at < 0) return this.shown[0];
    return this.shown[Math.min(Math.max(at + step, 0), this.shown.length - 1)];
  }
}
