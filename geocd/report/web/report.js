"use strict";
// Puts the page together: one place is selected, others are listed, and keys judge them.

(() => {
  const places = placesOf();
  const verdicts = new Verdicts(places);
  const verdictOf = (place) => verdicts.of(place);
  const $ = (id) => document.getElementById(id);
  let selected = null;

  // Without this script the pictures stand beside each other, as they do in print.
  document.documentElement.classList.add("live");

  const detail = new Detail();
  const map = new PairMap(places, (place) => select(place, { go: false }));
  const list = new PlaceList(places, {
    verdictOf,
    onSelect: (place) => select(place),
    onChange: (shown) => map.draw(shown, verdictOf),
  });

  function select(place, options) {
    selected = place;
    // on a phone the list stands below the map
    document.getElementById("stage").scrollIntoView({ block: "nearest" });
    map.select(place, options);
    list.select(place);
    detail.show(place);
    showVerdict();
  }

  function showVerdict() {
    for (const button of document.querySelectorAll("[data-verdict-key]")) {
      button.setAttribute("aria-pressed", selected !== null && verdictOf(selected) === button.dataset.verdictKey);
    }
    const count = verdicts.byId.size;
    $("judged").textContent = `${count.toLocaleString("en")} of ${places.length.toLocaleString("en")} judged`;
    $("save-verdicts").disabled = count === 0;
  }

  /** Judge the selected place and go on to the next one, or take a verdict back and stay. */
  function judge(verdict) {
    if (!selected) return;
    const next = list.neighbour(selected, 1);
    verdicts.judge(selected, verdictOf(selected) === verdict ? null : verdict);
    list.mark(selected);
    const stays = verdictOf(selected) === null;
    list.refresh();
    if (stays) showVerdict();
    else select(next ?? selected);
  }

  const step = (by) => {
    const place = list.neighbour(selected, by);
    if (place) select(place);
  };

  for (const button of document.querySelectorAll("[data-show]")) {
    button.addEventListener("click", () => map.setMode(button.dataset.show));
  }
  for (const button of document.querySelectorAll("[data-verdict-key]")) {
    button.addEventListener("click", () => judge(button.dataset.verdictKey));
  }
  for (const button of document.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => step(Number(button.dataset.step)));
  }
  for (const button of document.querySelectorAll("[data-only]")) {
    button.addEventListener("click", () => {
      list.only(button.dataset.only);
      $("list").scrollIntoView({ block: "nearest" });
    });
  }
  $("whole").addEventListener("click", () => map.fitAll());

  const layers = () => {
    map.showOutlines($("show-outlines").checked);
    map.showProbability($("show-prob").checked, $("opacity").value / 100);
    $("opacity").disabled = !$("show-prob").checked;
    detail.outlined = $("show-outlines").checked;
    if (selected) detail.show(selected);
  };
  for (const id of ["show-outlines", "show-prob", "opacity"]) $(id).addEventListener("input", layers);

  for (const button of document.querySelectorAll("[data-export]")) {
    const [write, type] = EXPORTS[button.dataset.export];
    button.disabled = places.length === 0 || (button.dataset.export !== "csv" && DATA.lattice === null);
    button.addEventListener("click", () => {
      save(write(list.shown, verdictOf), `${DATA.stem}_places.${button.dataset.export}`, type);
    });
  }
  $("save-verdicts").addEventListener("click", () => {
    save(verdicts.toCSV(), `${DATA.stem}_verdicts.csv`, "text/csv");
  });
  $("load-verdicts").addEventListener("change", async ({ target }) => {
    const [file] = target.files;
    if (!file) return;
    const count = verdicts.fromCSV(await file.text());
    target.value = "";
    places.forEach((place) => list.mark(place));
    list.refresh();
    showVerdict();
    $("judged").textContent += count === null
      ? `; ${file.name} has no columns id and verdict`
      : `; ${count.read} read from ${file.name}${count.elsewhere ? `, ${count.elsewhere} lie on no place listed here` : ""}`;
  });

  const keys = {
    y: () => judge("yes"),
    n: () => judge("no"),
    u: () => judge("unsure"),
    ArrowDown: () => step(1),
    ArrowRight: () => step(1),
    ArrowUp: () => step(-1),
    ArrowLeft: () => step(-1),
    b: () => map.flip(),
    s: () => map.setMode("swipe"),
    o: () => $("show-outlines").click(),
    p: () => $("show-prob").click(),
    w: () => map.fitAll(),
  };
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("input:not([type=checkbox]), select, textarea");
    const arrow = event.key.startsWith("Arrow");
    // arrows move the map, the divider and the list themselves where these have the focus
    if (event.ctrlKey || event.metaKey || event.altKey || field) return;
    if (arrow && (!selected || event.target.closest("#map"))) return;
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  places.forEach((place) => list.mark(place));
  list.refresh();
  layers();
  showVerdict();
  detail.printSheet(places.slice(0, PRINTED));
  // report.html#17 opens at place 17
  const linked = places.find((place) => location.hash === `#${place.id}`);
  if (linked) select(linked);
})();
