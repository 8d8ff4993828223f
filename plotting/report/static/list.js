"use strict";
/* A list that holds only the rows in view, so that its length costs nothing. */
ESR.list = (function () {
  const ROW = 58;
  const SPARE = 6;
  const { h, score } = ESR.dom;
  let box, space, items = [], selected = -1, choose = () => {};

  function start(element, onChoose) {
    box = element;
    choose = onChoose;
    space = h("div", { class: "space", role: "presentation" });
    box.append(space);
    box.addEventListener("scroll", draw, { passive: true });
    box.addEventListener("keydown", key);
    new ResizeObserver(draw).observe(box);
  }

  function show(trials, chosen) {
    items = trials;
    selected = chosen;
    space.style.height = items.length * ROW + "px";
    reveal();
    draw();
  }

  function draw() {
    if (!items.length) {
      space.replaceChildren(h("p", { class: "empty soft" }, "No trial matches these filters."));
      return;
    }
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - SPARE);
    const last = Math.min(items.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + SPARE);
    const rows = [];
    for (let place = first; place < last; place += 1) rows.push(row(items[place], place));
    space.replaceChildren(...rows);
    if (selected >= 0) box.setAttribute("aria-activedescendant", "row-" + selected);
    else box.removeAttribute("aria-activedescendant");
  }

  function row(trial, place) {
    const element = h("div", {
      class: "row", role: "option", id: "row-" + place, "aria-selected": String(place === selected),
      "aria-setsize": items.length, "aria-posinset": place + 1, onclick: () => pick(place, true),
    },
    h("div", {}, scores(trial), trial.label || "latent " + trial.latent),
    h("div", { class: "prompt" }, trial.arm + " · " + trial.prompt));
    element.style.top = place * ROW + "px";
    return element;
  }

  function scores(trial) {
    if (!trial.graded) return h("span", { class: "scores" }, trial.status.replace("_", " "));
    const way = trial.improved ? "up" : trial.gain < 0 ? "down" : "";
    const told = trial.attempts.map((attempt) => score(attempt[0])).join(" → ");
    return h("span", { class: "scores " + way }, told);
  }

  function pick(place, pointed) {
    if (place < 0 || place >= items.length) return;
    selected = place;
    reveal();
    draw();
    choose(items[place], Boolean(pointed));
  }

  function reveal() {
    if (selected < 0) {
      box.scrollTop = 0;
      return;
    }
    const top = selected * ROW;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + ROW > box.scrollTop + box.clientHeight) {
      box.scrollTop = top + ROW - box.clientHeight;
    }
  }

  function key(event) {
    const page = Math.max(1, Math.floor(box.clientHeight / ROW) - 1);
    const steps = {
      ArrowDown: selected + 1, ArrowUp: selected - 1, PageDown: selected + page,
      PageUp: selected - page, Home: 0, End: items.length - 1,
    };
    if (!(event.key in steps) || !items.length) return;
    event.preventDefault();
    pick(Math.min(items.length - 1, Math.max(0, steps[event.key])));
  }

  function step(by) { pick(selected + by); }

  return { start, show, step };
})();
