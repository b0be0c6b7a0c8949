"use strict";
// The map: both dates, swiped or in turn, the probability, the outlines. One unit of it is a pixel of the pair.

const BLINK = 700; // milliseconds
const STYLES = {
  casing: { color: "#000", weight: 3.5, opacity: 0.75 },
  outline: { color: "#35e0ff", weight: 1.5, opacity: 1 },
  no: { color: "#cfd6dc", weight: 1, opacity: 0.7, dashArray: "3 4" },
  unsure: { color: "#35e0ff", weight: 1.5, opacity: 1, dashArray: "6 4" },
};

class PairMap {
  constructor(places, onSelect) {
    this.places = places;
    this.swipe = document.getElementById("swipe");
    this.stage = document.getElementById("stage");
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const crs = { ...L.CRS.Simple, distance: (a, b) => L.CRS.Simple.distance(a, b) * DATA.grid.pixel };
    this.map = L.map("map", {
      crs, attributionControl: false, preferCanvas: true, zoomSnap: 0.25, zoomDelta: 1, minZoom: -12, maxZoom: 6,
      zoomAnimation: !calm, fadeAnimation: false, inertia: !calm, maxBoundsViscosity: 0.8,
    });
    if (DATA.grid.pixel) L.control.scale({ imperial: false }).addTo(this.map);
    this.addImages();
    this.addOutlines(onSelect);
    this.map.on("move zoom resize viewreset", () => this.clip());
    this.map.on("zoomend", () => {
      // each pixel as a square once it is larger than one of the screen
      this.stage.classList.toggle("magnified", this.map.getZoom() > 0.5);
    });
    this.map.on("mousemove", (event) => this.tell(event.latlng));
    this.swipe.addEventListener("input", () => this.setMode("swipe"));
    this.fitAll();
    this.setMode("swipe");
    new ResizeObserver(() => this.map.invalidateSize({ pan: false })).observe(this.stage);
  }

  addImages() {
    const whole = PairMap.latLngs([0, 0, DATA.grid.width, DATA.grid.height]);
    for (const [name, zIndex] of [["before", 200], ["after", 210], ["prob", 220]]) {
      const pane = this.map.createPane(name);
      pane.style.zIndex = zIndex;
      const image = document.querySelector(`#pictures .${name}`);
      L.imageOverlay(image.src, whole, { pane: name, alt: image.alt }).addTo(this.map);
    }
    for (const chip of DATA.chips) {
      const [col, row, width, height] = chip.window;
      const bounds = PairMap.latLngs([col, row, col + width, row + height]);
      for (const name of ["before", "after"]) L.imageOverlay(chip[name], bounds, { pane: name }).addTo(this.map);
    }
    this.map.setMaxBounds(L.latLngBounds(whole).pad(0.5));
  }

  addOutlines(onSelect) {
    this.outlines = L.featureGroup().addTo(this.map);
    this.layers = this.places.map((place) => {
      const latLngs = place.polygons.map((rings) => rings.map((ring) => ring.map(([x, y]) => [-y, x])));
      const casing = L.polygon(latLngs, { ...STYLES.casing, fill: false, interactive: false, smoothFactor: 0.5 });
      const line = L.polygon(latLngs, { ...STYLES.outline, fillOpacity: 0, smoothFactor: 0.5 });
      line.on("click", () => onSelect(place));
      return L.layerGroup([casing, line]);
    });
    this.chosen = L.layerGroup().addTo(this.map);
  }

  static latLngs([left, top, right, bottom]) {
    return [[-bottom, left], [-top, right]];
  }

  /** Draw the outlines of some places, by their verdicts. */
  draw(places, verdictOf) {
    this.outlines.clearLayers();
    for (const place of places) {
      const layer = this.layers[place.index];
      const line = layer.getLayers()[1];
      line.setStyle({ dashArray: null, ...(STYLES[verdictOf(place)] ?? STYLES.outline) });
      this.outlines.addLayer(layer);
    }
  }

  showOutlines(on) {
    for (const layers of [this.outlines, this.chosen]) {
      if (on) this.map.addLayer(layers);
      else this.map.removeLayer(layers);
    }
  }

  showProbability(on, opacity) {
    const { style } = this.map.getPane("prob");
    style.display = on ? "" : "none";
    style.opacity = opacity;
  }

  /** Mark a place with a frame around it, which covers none of its pixels, and go there. */
  select(place, { go = true } = {}) {
    this.chosen.clearLayers();
    if (!place) return;
    const [left, top, right, bottom] = place.bounds;
    const frame = PairMap.latLngs([left - 2, top - 2, right + 2, bottom + 2]);
    for (const style of [{ color: "#000", weight: 5 }, { color: "#fff", weight: 2 }]) {
      L.rectangle(frame, { ...style, fill: false, interactive: false }).addTo(this.chosen);
    }
    if (go) this.map.fitBounds(PairMap.latLngs(withSurroundings(place.bounds)), { maxZoom: 5 });
  }

  fitAll() {
    this.map.fitBounds(PairMap.latLngs([0, 0, DATA.grid.width, DATA.grid.height]), { animate: false });
  }

  /** Show "before", "after", both with a divider ("swipe"), or one after the other ("blink"). */
  setMode(mode) {
    clearInterval(this.timer);
    this.mode = mode;
    this.stage.dataset.mode = mode;
    for (const button of document.querySelectorAll("[data-show]")) {
      button.setAttribute("aria-pressed", button.dataset.show === mode);
    }
    if (mode === "blink") {
      let after = false;
      this.timer = setInterval(() => {
        after = !after;
        this.split(after ? 0 : 1);
      }, BLINK);
    }
    this.split({ before: 1, after: 0, blink: 1 }[mode] ?? this.swipe.value / 100);
  }

  /** Show the other date: of the swipe, the one that is hidden in the middle of the map. */
  flip() {
    this.setMode(this.mode === "before" || (this.mode === "swipe" && this.at >= 0.5) ? "after" : "before");
  }

  split(at) {
    this.at = at;
    this.stage.style.setProperty("--at", at);
    this.stage.dataset.shown = at === 1 ? "before" : at === 0 ? "after" : "both";
    const percent = Math.round(at * 100);
    this.swipe.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % after`);
    this.clip();
  }

  /** Cut the after image at the divider; the pane moves with the map, so the cut is moved back. */
  clip() {
    const size = this.map.getSize();
    const first = this.map.containerPointToLayerPoint([0, 0]);
    const last = this.map.containerPointToLayerPoint(size);
    const divider = first.x + size.x * (this.at ?? 0.5);
    this.map.getPane("after").style.clip = `rect(${first.y}px, ${last.x}px, ${last.y}px, ${divider}px)`;
  }

  /** Say where the pointer is. */
  tell({ lat, lng }) {
    const [col, row] = [lng, -lat];
    if (col < 0 || row < 0 || col > DATA.grid.width || row > DATA.grid.height) return;
    const [x, y] = toXY(col, row);
    const degrees = toLonLat(col, row);
    const place = degrees ? `${degrees[1].toFixed(5)}, ${degrees[0].toFixed(5)}; ` : "";
    document.getElementById("position").textContent =
      `${place}${xyInWords(x, y)}; column ${Math.floor(col)}, row ${Math.floor(row)}`;
  }
}
