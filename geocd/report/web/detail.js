"use strict";
// One place: before and after at native pixels beside each other, its measures, and links to it.

const PRINTED = 12; // places with pictures on paper

class Detail {
  constructor() {
    this.box = document.getElementById("detail");
    this.chips = new Map(DATA.chips.map((chip) => [chip.place, chip]));
    this.images = new Map();
    this.outlined = true;
  }

  /** An image of the page that is ready to be drawn. */
  image(source) {
    if (!this.images.has(source)) {
      const image = new Image();
      image.src = source;
      this.images.set(source, image.decode().then(() => image));
    }
    return this.images.get(source);
  }

  async show(place) {
    this.place = place;
    this.box.hidden = !place;
    document.getElementById("choose").hidden = Boolean(place);
    if (!place) return;
    this.facts(place);
    for (const date of ["before", "after"]) await this.draw(place, date);
  }

  /** Draw what surrounds a place on one date: from its chip, or else from the overview. */
  async draw(place, date, canvas = this.box.querySelector(`canvas.${date}`)) {
    const chip = this.chips.get(place.index);
    const overview = document.querySelector(`#pictures .${date}`);
    const image = await this.image(chip ? chip[date] : overview.src);
    if (canvas.closest("#detail") && this.place !== place) return; // another one was chosen meanwhile
    const [first, top, width, height] = chip ? chip.window : [0, 0, DATA.grid.width, DATA.grid.height];
    let [left, upper, right, lower] = withSurroundings(place.bounds);
    [left, right] = [Math.max(left, first), Math.min(right, first + width)];
    [upper, lower] = [Math.max(upper, top), Math.min(lower, top + height)];
    const scale = Math.min(480 / (right - left), 480 / (lower - upper));
    canvas.width = Math.round((right - left) * scale);
    canvas.height = Math.round((lower - upper) * scale);
    const [zoomX, zoomY] = [image.naturalWidth / width, image.naturalHeight / height];
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = scale < zoomX;
    context.drawImage(
      image,
      (left - first) * zoomX, (upper - top) * zoomY, (right - left) * zoomX, (lower - upper) * zoomY,
      0, 0, canvas.width, canvas.height,
    );
    if (this.outlined) Detail.outline(context, place, (x, y) => [(x - left) * scale, (y - upper) * scale]);
  }

  /** Draw places for print, where there is no map to look into. */
  async printSheet(places) {
    const sheet = document.getElementById("sheet");
    for (const place of places) {
      const figure = element("figure", { parent: sheet });
      for (const date of ["before", "after"]) {
        const canvas = element("canvas", { cls: date, parent: figure, role: "img", "aria-label": `Place ${place.id} ${date}` });
        await this.draw(place, date, canvas);
      }
      const kind = place.kind ? `, ${kindInWords(place.kind)}` : "";
      element("figcaption", { text: `${place.id}${kind}: ${areaInWords(place.area_m2)}, before and after`, parent: figure });
    }
  }

  static outline(context, place, toCanvas) {
    const path = new Path2D();
    for (const rings of place.polygons) {
      for (const ring of rings) {
        ring.forEach(([x, y], i) => (i ? path.lineTo(...toCanvas(x, y)) : path.moveTo(...toCanvas(x, y))));
        path.closePath();
      }
    }
    for (const [colour, width] of [["#000", 4], ["#35e0ff", 1.75]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.stroke(path);
    }
  }

  facts(place) {
    const title = this.box.querySelector("h3");
    title.textContent = `Place ${place.id}${place.kind ? `: ${kindInWords(place.kind)}` : ""}`;
    const list = this.box.querySelector("dl");
    list.replaceChildren();
    const add = (name, value) => {
      if (value === undefined || value === null || value === "") return;
      element("dt", { text: name, parent: list });
      const dd = element("dd", { parent: list });
      dd.append(...[value].flat());
    };
    add("what became of what", place.became);
    add("why", place.kind_why);
    add("area", `${areaInWords(place.area_m2)} (${place.n_pixels.toLocaleString("en")} pixels)`);
    add("probability", `${place.p_mean.toFixed(2)} on average, ${place.p_max.toFixed(2)} at most`);
    add("relevance", place.relevance?.toFixed(2));
    add("still there", place.lasting === undefined || place.lasting === null ? null : `${Math.round(100 * place.lasting)} %`);
    add("last seen", place.last_seen);
    add("centre", `${xyInWords(place.centroid_x, place.centroid_y)} (${DATA.grid.crs})`);
    if (place.lon !== undefined) add("longitude, latitude", [`${place.lon.toFixed(5)}, ${place.lat.toFixed(5)} `, ...Detail.links(place)]);
    this.box.querySelector(".fine").textContent = this.chips.has(place.index) || DATA.native
      ? "" : "Not one of the largest places: shown as the overview has it, coarser than the images.";
  }

  static links({ lon, lat }) {
    const [x, y] = [lon.toFixed(6), lat.toFixed(6)];
    const map = `https://www.openstreetmap.org/?mlat=${y}&mlon=${x}#map=17/${y}/${x}`;
    return [["OpenStreetMap", map], ["map app", `geo:${y},${x}`]].flatMap(([text, href]) => [
      element("a", { href, text, rel: "noopener noreferrer", target: "_blank" }), " ",
    ]);
  }
}
