"use strict";
(() => {
  const root = document.documentElement;
  const stage = document.getElementById("stage");
  const swipe = document.getElementById("swipe");
  const opacity = document.getElementById("opacity");

  // Without this script the pictures stand beside each other, as they do in print.
  root.classList.add("live");

  const follow = () => {
    stage.style.setProperty("--at", swipe.value / 100);
    swipe.setAttribute("aria-valuetext", `${swipe.value} % before, ${100 - swipe.value} % after`);
  };
  swipe.addEventListener("input", follow);
  for (const button of document.querySelectorAll("[data-swipe]")) {
    button.addEventListener("click", () => {
      swipe.value = button.dataset.swipe;
      follow();
    });
  }

  const layers = { "show-outlines": "outlined", "show-prob": "with-prob" };
  const show = () => {
    for (const [id, name] of Object.entries(layers)) {
      stage.classList.toggle(name, document.getElementById(id).checked);
    }
    opacity.disabled = !document.getElementById("show-prob").checked;
    stage.style.setProperty("--opacity", opacity.value / 100);
  };
  for (const id of [...Object.keys(layers), "opacity"]) {
    document.getElementById(id).addEventListener("input", show);
  }

  const buttons = document.querySelectorAll("[data-place]");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      for (const other of buttons) {
        const chosen = on && other === button;
        other.setAttribute("aria-pressed", chosen);
        document.getElementById(`place-${other.dataset.place}`).classList.toggle("chosen", chosen);
      }
      if (on) {
        document.getElementById("show-outlines").checked = true;
        show();
        stage.scrollIntoView({ block: "nearest" });
      }
    });
  }

  follow();
  show();
})();
