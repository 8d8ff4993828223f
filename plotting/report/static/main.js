"use strict";
/* Ties filters, list and trial together. */
(function () {
  const AT_ONCE = 6000;
  const { h, grouped } = ESR.dom;
  const form = document.getElementById("filters");
  const box = document.getElementById("trial");
  let found = [];

  function start() {
    fill("model", unique(ESR.runs.map((r) => [r.model, r.title])));
    fill("experiment", unique(ESR.runs.map((r) =>
      [String(r.experiment), r.experiment + " · " + (ESR.page.titles[r.experiment] || "")])));
    fill("arm", unique(ESR.runs.flatMap((r) => Object.keys(r.arms).map((a) => [a, a]))));
    fill("run", unique(ESR.runs.filter((r) => r.trials).map((r) =>
      [r.key, r.experiment + " · " + r.title + " · " + r.run_id + " (" + grouped(r.trials) + ")"])));
    ESR.list.start(document.getElementById("list"), open);
    form.addEventListener("input", debounce(changed));
    form.addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("reset").onclick = reset;
    document.getElementById("load").onclick = () => loadThen(missing());
    window.addEventListener("hashchange", arrived);
    const linked = ESR.filters.read();
    loadThen(affordable(ESR.filters.runs()), linked).then(ready);
  }

  function ready() {
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
  }

  function unique(pairs) { return Array.from(new Map(pairs)); }

  function fill(name, options) {
    form.elements[name].append(...options.map(([value, told]) => h("option", { value }, told)));
  }

  function debounce(action) {
    let timer;
    return () => { clearTimeout(timer); timer = setTimeout(action, 120); };
  }

  function changed() {
    const changes = { open: "" };
    for (const field of form.elements) if (field.name) changes[field.name] = field.value.trim();
    ESR.filters.set(changes);
    loadThen(affordable(ESR.filters.runs()));
  }

  function reset() {
    form.reset();
    changed();
  }

  /* A link within the page, such as one from the table of numbers. */
  function arrived() {
    if (ESR.filters.read()) loadThen(affordable(ESR.filters.runs()), true);
  }

  function missing() { return ESR.filters.runs().filter((run) => !ESR.store.loaded(run)); }

  /* As many runs as can be shown at once; at least the first, and one that is linked to. */
  function affordable(runs) {
    let total = 0;
    const linked = ESR.filters.get("open").split(".")[0];
    return runs.filter((run, place) => {
      total += run.trials;
      return place === 0 || run.key === linked || ESR.store.loaded(run) || total <= AT_ONCE;
    });
  }

  function loadThen(runs, scroll) {
    return Promise.all(runs.map(ESR.store.load)).then(() => {
      render();
      if (scroll) document.getElementById("transcripts").scrollIntoView();
    });
  }

  function render() {
    for (const field of form.elements) if (field.name) field.value = ESR.filters.get(field.name);
    found = ESR.filters.apply(ESR.store.all());
    const wanted = ESR.filters.get("open");
    let place = found.findIndex((t) => t.run.key + "." + t.index === wanted);
    if (place < 0 && found.length) place = 0;
    ESR.list.show(found, place);
    tally();
    if (place >= 0) ESR.trial.show(box, found[place]);
    else box.replaceChildren(h("p", { class: "soft" }, "Nothing to show."));
  }

  function tally() {
    const left = missing();
    const waiting = left.reduce((sum, run) => sum + run.trials, 0);
    const broken = ESR.runs.filter((run) => run.broken).map((run) => run.file);
    document.getElementById("found").textContent = grouped(found.length) + " trials"
      + (broken.length ? "; cannot be read: " + broken.join(", ") : "");
    const button = document.getElementById("load");
    button.hidden = !left.length;
    button.textContent = "Load " + grouped(waiting) + " more trials";
  }

  function open(trial, pointed) {
    ESR.filters.set({ open: trial.run.key + "." + trial.index });
    ESR.trial.show(box, trial);
    // On a narrow screen the trial stands below the list.
    const list = document.getElementById("list").getBoundingClientRect();
    if (pointed && box.getBoundingClientRect().top > list.bottom) box.scrollIntoView();
  }

  start();
})();
