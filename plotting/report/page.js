"use strict";
/* The browser of transcripts.

   data.js calls ESR.start with the runs; trials come as one script per run, loaded when they are
   wanted, which calls ESR.add. What is shown stands in the address, so that every view can be
   linked to. Text only ever becomes a text node: nothing is parsed as markup. */
const ESR = (function () {
  const AT_ONCE = 6000; // trials loaded unasked
  const ROW = 58; // height of a row of the list, pixels
  const SPARE = 6; // rows drawn beyond the list's edges
  const OF_RUNS = ["model", "experiment", "run", "arm"];
  const OF_TRIALS = ["latent", "attempts", "outcome", "status", "text"];
  const NAMES = [...OF_RUNS, ...OF_TRIALS, "sort", "open"];
  const FIRST_ARMS = ["steered", "ablation", "self_monitor", "no-steering"];

  const at = (id) => document.getElementById(id);
  let page = {};
  let runs = [];
  let state = {}; // name in the address -> value
  let trials = []; // those that match, in order
  let current = null; // the trial on view

  /* ---- Elements from plain data. */

  function make(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (typeof value === "function") element[name] = value;
      else element.setAttribute(name, value === true ? "" : String(value));
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  }
  const h = (tag, attributes, ...children) =>
    make(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) =>
    make(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const grouped = (number) => number.toLocaleString("en-US");
  const percent = (share) => (share === null ? "not defined" : (100 * share).toFixed(2) + " %");
  const short = (value) => (value === null ? "–" : String(Math.round(value * 10) / 10));

  /* ---- Runs and their trials. */

  const loaded = new Map(); // key of a run -> its trials
  const scripts = new Map(); // file -> promise

  /* Resolves to whether a script was there. */
  function load(file) {
    if (!scripts.has(file)) {
      scripts.set(file, new Promise((resolve) => document.head.append(h("script", {
        src: "transcripts/" + file, onload: () => resolve(true), onerror: () => resolve(false),
      }))));
    }
    return scripts.get(file);
  }

  async function loadRun(run) {
    run.broken = !(await load(run.key + ".js"));
    if (run.broken) loaded.set(run.key, []);
  }

  /* Called by the script of a run. */
  function add(key, data) {
    const run = runs.find((r) => r.key === key);
    run.latents = data.latents;
    loaded.set(key, data.trials.map((row, index) => decode(run, index, row, data.fields)));
  }

  /* Called by the script of what the judge answered, trial by trial. */
  function addAnswers(key, answers) { runs.find((r) => r.key === key).answers = answers; }

  function decode(run, index, row, fields) {
    const trial = { run, index, key: run.key + "." + index };
    fields.forEach((name, place) => { trial[name] = row[place]; });
    trial.scores = trial.blocks.filter((block) => block[0]).map((block) => block[1]);
    trial.graded = trial.status === "graded";
    trial.multi = trial.graded && trial.scores.length > 1;
    trial.first = trial.graded ? trial.scores[0] : null;
    trial.last = trial.graded ? trial.scores[trial.scores.length - 1] : null;
    trial.gain = trial.multi ? trial.last - trial.first : 0;
    trial.improved = trial.gain > 0;
    return trial;
  }

  function response(trial) {
    return trial.blocks.filter((block) => !block[2]).flatMap((block) => block[3]).join("");
  }

  const trialsOf = (run) => loaded.get(run.key) || [];
  const family = (run) => runs.filter((other) => other.family === run.family && other.trials);

  /* ---- Filters. */

  function readAddress() {
    const [part, query] = location.hash.split("?");
    if (part !== "#transcripts") return false;
    const given = new URLSearchParams(query || "");
    state = {};
    for (const name of NAMES) if (given.get(name)) state[name] = given.get(name);
    return true;
  }

  function address(filters) {
    const given = new URLSearchParams();
    for (const name of NAMES) if (filters[name]) given.set(name, filters[name]);
    return "#transcripts" + (given.size ? "?" + given : "");
  }

  function setState(changes) {
    Object.assign(state, changes);
    history.replaceState(null, "", address(state));
  }

  const RUN_HAS = {
    model: (run, wanted) => run.model === wanted,
    experiment: (run, wanted) => String(run.experiment) === wanted,
    run: (run, wanted) => run.key === wanted,
    arm: (run, wanted) => wanted in run.arms,
  };
  const TRIAL_HAS = {
    arm: (t, wanted) => t.arm === wanted,
    latent: (t, wanted) => (/^\d+$/.test(wanted) ? String(t.latent) === wanted
      : t.label.toLowerCase().includes(wanted.toLowerCase())),
    attempts: (t, wanted) => (wanted === "multi" ? t.multi : t.graded && !t.multi),
    outcome: (t, wanted) => (wanted === "improved" ? t.improved : t.multi && !t.improved),
    status: (t, wanted) => t.status === wanted,
    text: (t, wanted) => {
      t.haystack = t.haystack || [response(t), t.prompt, t.label, t.id].join("\n").toLowerCase();
      return wanted.toLowerCase().split(/\s+/).every((word) => t.haystack.includes(word));
    },
  };
  const ORDERS = {
    gain: (a, b) => b.gain - a.gain || a.degraded - b.degraded
      || (a.first ?? 101) - (b.first ?? 101),
    first: (a, b) => (b.first ?? -1) - (a.first ?? -1),
    attempts: (a, b) => b.scores.length - a.scores.length,
    boost: (a, b) => (b.boost ?? -1) - (a.boost ?? -1),
    file: () => 0,
  };

  const has = (item, tests) =>
    Object.entries(tests).every(([name, test]) => !state[name] || test(item, state[name]));
  const matchingRuns = () => runs.filter((run) => run.trials && has(run, RUN_HAS));
  const missing = () => matchingRuns().filter((run) => !loaded.has(run.key));

  /* Runs to load: all where single trials are sought, else as many as can be shown at once. */
  function wantedRuns() {
    const candidates = matchingRuns();
    if (OF_TRIALS.some((name) => state[name])) return candidates;
    const linked = (state.open || "").split(".")[0];
    let total = 0;
    return candidates.filter((run, place) => {
      total += run.trials;
      return place === 0 || run.key === linked || loaded.has(run.key) || total <= AT_ONCE;
    });
  }

  /* What an address asks for and this report does not have. */
  function problem() {
    const lacking = OF_RUNS.filter((name) => state[name]
      && !runs.some((run) => run.trials && RUN_HAS[name](run, state[name])));
    if (lacking.length) {
      return lacking.map((name) => "This report has no " + name + " “" + state[name] + "”.").join(" ");
    }
    if (state.sort && !(state.sort in ORDERS)) return "There is no order “" + state.sort + "”.";
    if (!state.open || trials.some((t) => t.key === state.open)) return "";
    const [key, index] = state.open.split(".");
    const run = runs.find((r) => r.key === key);
    if (!run) return "The linked trial is of run “" + key + "”, which this report does not have.";
    return trialsOf(run)[index] ? "The linked trial does not match these filters."
      : "Run “" + key + "” has no trial “" + index + "” in this report.";
  }

  let turn = 0;

  /* Load what is wanted, then show it; what was asked before that is dropped. */
  async function show(scroll) {
    const mine = (turn += 1);
    const wanted = wantedRuns().filter((run) => !loaded.has(run.key));
    for (const [place, run] of wanted.entries()) {
      if (wanted.length > 1) {
        at("tally").textContent = "Reading run " + (place + 1) + " of " + wanted.length + " …";
      }
      await loadRun(run);
      if (mine !== turn) return;
    }
    for (const field of at("filters").elements) field.value = state[field.name] || "";
    trials = runs.filter((run) => has(run, RUN_HAS)).flatMap(trialsOf)
      .filter((trial) => has(trial, TRIAL_HAS)).sort(ORDERS[state.sort] || ORDERS.gain);
    const place = Math.max(0, trials.findIndex((t) => t.key === state.open));
    showList(trials.length ? place : -1);
    tally();
    if (trials.length) showTrial(trials[place]);
    else at("trial").replaceChildren(h("p", { class: "soft" }, "Nothing to show."));
    if (scroll) at("transcripts").scrollIntoView();
  }

  function tally() {
    const left = missing();
    const broken = runs.filter((run) => run.broken).map((run) => "transcripts/" + run.key + ".js");
    at("tally").textContent = grouped(trials.length) + " trials"
      + (broken.length ? "; cannot be read: " + broken.join(", ") : "");
    at("load").hidden = !left.length;
    at("load").textContent = "Load "
      + grouped(left.reduce((sum, run) => sum + run.trials, 0)) + " more trials";
    at("problem").textContent = problem();
    at("problem").hidden = !problem();
  }

  /* ---- The list holds only the rows in view, so that its length costs nothing. */

  const space = h("div", { class: "space", role: "presentation" });
  let selected = -1;

  function showList(place) {
    selected = place;
    space.style.height = trials.length * ROW + "px";
    reveal();
    drawRows();
  }

  function drawRows() {
    const box = at("list");
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - SPARE);
    const last = Math.ceil((box.scrollTop + box.clientHeight) / ROW) + SPARE;
    const rows = trials.slice(first, last).map((trial, index) => row(trial, first + index));
    const none = h("p", { class: "empty soft" }, "No trial matches these filters.");
    space.replaceChildren(...(trials.length ? rows : [none]));
    if (selected >= 0) box.setAttribute("aria-activedescendant", "row-" + selected);
    else box.removeAttribute("aria-activedescendant");
  }

  function row(trial, place) {
    const element = h("div", {
      class: "row", role: "option", id: "row-" + place, "aria-selected": String(place === selected),
      "aria-setsize": trials.length, "aria-posinset": place + 1, onclick: () => pick(place, true),
    },
    h("div", {}, arrows(trial), trial.label || "latent " + trial.latent),
    h("div", { class: "prompt" }, trial.arm + " · " + trial.prompt));
    element.style.top = place * ROW + "px";
    return element;
  }

  function arrows(trial) {
    if (!trial.graded) return h("span", { class: "scores" }, trial.status.replace("_", " "));
    const way = trial.improved ? "up" : trial.gain < 0 ? "down" : "";
    return h("span", { class: "scores " + way }, trial.scores.map(short).join(" → "));
  }

  function pick(place, pointed) {
    if (place < 0 || place >= trials.length) return;
    setState({ open: trials[place].key });
    showList(place);
    showTrial(trials[place]);
    // On a narrow screen the trial stands below the list.
    const below = at("trial").getBoundingClientRect().top > at("list").getBoundingClientRect().bottom;
    if (pointed && below) at("trial").scrollIntoView();
  }

  function reveal() {
    const box = at("list"), top = selected * ROW;
    if (selected < 0 || top < box.scrollTop) box.scrollTop = Math.max(0, top);
    else if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
  }

  function pressed(event) {
    const rows = Math.max(1, Math.floor(at("list").clientHeight / ROW) - 1);
    const steps = {
      ArrowDown: selected + 1, ArrowUp: selected - 1, PageDown: selected + rows,
      PageUp: selected - rows, Home: 0, End: trials.length - 1,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    pick(Math.min(trials.length - 1, Math.max(0, steps[event.key])));
  }

  /* ---- One trial: what was asked and boosted, its attempts, what it counts in, its other arms. */

  function showTrial(trial) {
    current = trial;
    at("trial").replaceChildren(
      h("div", { class: "stepper" },
        h("button", { type: "button", onclick: () => pick(selected - 1) }, "Previous"),
        h("button", { type: "button", onclick: () => pick(selected + 1) }, "Next")),
      h("h3", { id: "trial-title" }, headline(trial)),
      h("p", { class: "counts", id: "trial-counts" }, counts(trial), " ", links(trial)),
      h("p", { id: "trial-setting" }, setting(trial), " ", trial.run.organism
        ? h("span", { class: "tag organism-tag wrap" }, page.organism_note) : null),
      h("h4", {}, "Asked"),
      h("p", { class: "asked" }, trial.prompt),
      h("h4", {}, "Answered"),
      h("div", { id: "trial-attempts" }, attempts(trial)),
      judgeAnswer(trial),
      h("div", { id: "trial-arms" }),
      h("div", { id: "trial-latent" }),
      h("h4", {}, "Recorded"),
      recorded(trial));
    Promise.all(family(trial.run).map(loadRun)).then(() => {
      if (current !== trial) return;
      compare(trial);
      at("trial-latent").replaceChildren(...latentView(trial));
    });
  }

  function headline(trial) {
    if (!trial.graded) {
      return { no_attempts: "No attempt at an answer" }[trial.status]
        || "Not graded: " + trial.status.replace("_", " ");
    }
    const ends = "from " + short(trial.first) + " to " + short(trial.last) + " of 100";
    if (!trial.multi) return "One attempt, score " + short(trial.first) + " of 100";
    return trial.improved ? "Corrected itself: " + ends
      : trial.scores.length + " attempts without a gain: " + ends;
  }

  const named = (trial) => "latent " + trial.latent + (trial.label ? " (“" + trial.label + "”)" : "");

  function setting(trial) {
    return trial.run.title + ", " + trial.run.heading + (trial.run.variant
      ? " (" + trial.run.variant + ")" : "") + ", arm " + trial.arm + ". " + (trial.boost
      ? "Boosted: " + named(trial) + " by " + trial.boost : "No boost; the trial of " + named(trial))
      + ".";
  }

  /* The numbers of its arm in which a trial counts. */
  function counts(trial) {
    const arm = trial.run.arms[trial.arm];
    if (!arm) return "Its arm has no rates.";
    if (arm.left_out && trial.degraded) return "Left out of all rates: it repeats a word.";
    if (!trial.graded) return "Not graded, so it is in no rate; it is counted beside them.";
    const esr = arm.esr_rate, multi = arm.multi_attempt_rate;
    const share = (rate) => grouped(rate.count) + " of " + grouped(rate.n) + " graded trials, "
      + percent(rate.rate) + interval(rate.cluster_interval || rate.wilson);
    if (trial.improved) {
      return "One of the self-corrections behind the ESR rate of this arm: " + share(esr) + ".";
    }
    if (trial.multi) {
      return "Counts in the multi-attempt rate of this arm (" + share(multi)
        + "), not in its ESR rate, for its last score is not above its first.";
    }
    return "One of the " + grouped(esr.n) + " graded trials of this arm; with a single attempt it"
      + " counts in the denominators only (multi-attempt " + percent(multi.rate) + ", ESR "
      + percent(esr.rate) + ").";
  }

  function interval(ends) {
    if (!ends) return "";
    return " (95 % interval " + ends.map((end) => (100 * end).toFixed(2)).join(" to ") + ")";
  }

  function links(trial) {
    const number = String(trial.run.experiment), figure = page.figures[number];
    return [
      figure ? [h("a", { href: "#" + figure }, "Its figure"), ", "] : [],
      page.numbers.includes(number)
        ? [h("a", { href: "#numbers-" + number }, "its line among the paper's numbers"), ", "] : [],
      h("a", { href: "#run-" + trial.run.key }, "its run"), ".",
    ].flat();
  }

  function recorded(trial) {
    const rows = [
      ["Trial", trial.id], ["Seed", String(trial.seed)],
      ["Judge", trial.run.judge || "not recorded"], ["Status", trial.status.replace("_", " ")],
      ["Error", trial.error],
      ["Degraded", trial.degraded ? "it repeats a word five times or more" : ""],
    ];
    return h("dl", { class: "facts" }, rows.filter(([, text]) => text)
      .flatMap(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]));
  }

  /* The response in stretches: attempts in colour, what lies between them plain. */
  function attempts(trial) {
    return trial.blocks.filter((block) => block[3].join("").trim())
      .map(([attempt, score, quoted, parts]) => {
        const title = "Attempt " + attempt + ", score " + short(score)
          + (quoted ? ", as the judge quoted it" : "");
        return h("div", { class: "attempt " + (attempt ? "a" + Math.min(4, attempt) : "between") },
          attempt ? h("h5", {}, title) : null,
          h("p", {}, parts.map((text, place) => (place % 2 ? h("mark", {}, text) : text))));
      });
  }

  /* What the judge answered, word for word; loaded when it is opened. */
  function judgeAnswer(trial) {
    const text = h("pre", {}, "");
    const element = h("details", { id: "trial-answer" }, h("summary", {}, "The judge's answer"), text);
    element.ontoggle = () => load(trial.run.key + ".answers.js").then((there) => {
      text.textContent = !there ? "Cannot be read: transcripts/" + trial.run.key + ".answers.js"
        : trial.run.answers[trial.index] || "Not recorded.";
    });
    return element;
  }

  /* The latent's calibration, the other trials of this run with it, and its page on Neuronpedia. */
  function latentView(trial) {
    const source = family(trial.run).find((run) => run.latents && run.latents[trial.latent]);
    const calibration = source && source.latents[trial.latent];
    const same = trialsOf(trial.run).filter((t) => t.latent === trial.latent && t.arm === trial.arm);
    const own = { run: trial.run.key, arm: trial.arm, latent: String(trial.latent) };
    const base = "https://www.neuronpedia.org/";
    return [
      h("h4", {}, "Its latent: " + named(trial)),
      h("p", { class: "note" }, calibration ? calibrated(calibration) : "Its calibration is not in"
        + " this report. ",
      h("a", { href: address(own) }, "All its trials in this arm"), trial.run.neuronpedia
        ? [", ", h("a", { href: base + trial.run.neuronpedia + "/" + trial.latent, rel: "noreferrer" },
          "on Neuronpedia")] : null, "."),
      h("div", { class: "latent" },
        calibration && calibration.scores.length ? curve(calibration) : null,
        h("ul", {}, same.map((t) => h("li", {}, h("a", {
          href: address({ ...own, open: t.key }), "aria-current": t === trial ? "true" : null,
        }, t.graded ? t.scores.map(short).join(" → ") : t.status.replace("_", " ")), " ", t.prompt)))),
    ];
  }

  function calibrated({ value, low, high, rounds, skipped }) {
    const ends = " (95 % of the posterior: " + low.toFixed(2) + " to " + high.toFixed(2) + ")";
    return (value === null ? "Calibration failed" : "Threshold " + value) + ends + " after "
      + rounds + " rounds" + (skipped ? ", " + skipped + " skipped" : "") + ". ";
  }

  /* Mean first-attempt score of each round of the calibration by its boost. */
  function curve({ value, low, high, scores }) {
    const rounds = scores.filter(([, score]) => score !== null);
    const top = 1.05 * Math.max(high, ...rounds.map(([boost]) => boost));
    const x = (boost) => 34 + 266 * boost / top, y = (score) => 130 - 1.2 * score;
    const line = (kind, x1, y1, x2, y2) => svg("line", { class: kind, x1, y1, x2, y2 });
    const label = "Mean first-attempt score by boost: "
      + rounds.map(([boost, score]) => short(score) + " at " + boost.toFixed(2)).join(", ");
    return svg("svg", { class: "curve", viewBox: "0 0 320 165", role: "img", "aria-label": label },
      svg("rect", { class: "interval", x: x(low), y: y(100), width: x(high) - x(low), height: 120 }),
      line("axis", x(0), y(0), x(top), y(0)), line("axis", x(0), y(0), x(0), y(100)),
      line("target", x(0), y(30), x(top), y(30)),
      value === null ? null : line("threshold", x(value), y(0), x(value), y(100)),
      rounds.map(([boost, score]) => svg("circle", { cx: x(boost), cy: y(score), r: 2.5 })),
      [0, 30, 100].map((score) => svg("text", { x: 28, y: y(score) + 4, "text-anchor": "end" },
        String(score))),
      [0, top / 2, top].map((boost) => svg("text", { x: x(boost), y: 144, "text-anchor": "middle" },
        boost.toFixed(1))),
      svg("text", { x: 172, y: 161, "text-anchor": "middle" }, "boost; score of first attempts above"));
  }

  /* The same trial in every arm of runs that replay the same parent. */
  function compare(trial) {
    const same = family(trial.run).flatMap(trialsOf).filter((other) => other.id === trial.id);
    const box = at("trial-arms");
    if (same.length < 2) {
      box.replaceChildren(h("p", { class: "note" }, "No other arm has run this trial yet."));
      return;
    }
    const shown = new Set(same.filter((t) => FIRST_ARMS.includes(t.arm)).slice(0, 4));
    shown.add(trial);
    for (const other of same) if (shown.size < 3) shown.add(other);
    const columns = h("div", { class: "arms", tabindex: 0, role: "region",
      "aria-label": "The same trial in several arms" });
    const name = (t) => t.arm + ", experiment " + t.run.experiment;
    const column = (t) => h("div", { class: t === trial ? "arm here" : "arm", "data-arm": t.arm },
      h("h4", {}, name(t) + (t === trial ? " (this one)" : "")),
      h("p", { class: "note" }, (t.boost ? "boost " + t.boost : "no boost") + " · " + headline(t)),
      attempts(t));
    const draw = () => columns.replaceChildren(...same.filter((t) => shown.has(t)).map(column));
    const choices = same.map((t) => h("label", {}, h("input", {
      type: "checkbox", checked: shown.has(t),
      onchange: (event) => { shown[event.target.checked ? "add" : "delete"](t); draw(); },
    }), " " + name(t) + " "));
    draw();
    box.replaceChildren(h("h4", {}, "The same trial in other arms"),
      h("fieldset", { class: "choices" },
        h("legend", { class: "note" }, "Same latent and question; side by side:"), choices),
      columns);
  }

  /* ---- What is filtered, as a file. */

  const COLUMNS = {
    run: (t) => t.run.key, experiment: (t) => t.run.experiment, model: (t) => t.run.model,
    arm: (t) => t.arm, trial: (t) => t.id, latent: (t) => t.latent, label: (t) => t.label,
    boost: (t) => t.boost, seed: (t) => t.seed, status: (t) => t.status,
    attempts: (t) => t.scores.length, scores: (t) => t.scores.join(" "), first: (t) => t.first,
    last: (t) => t.last, improved: (t) => t.improved, degraded: (t) => Boolean(t.degraded),
    error: (t) => t.error, prompt: (t) => t.prompt, response,
  };

  function saveCsv() {
    const quote = (value) => '"' + String(value ?? "").replaceAll('"', '""') + '"';
    const lines = trials.map((t) => Object.values(COLUMNS).map((read) => quote(read(t))).join(","));
    const text = [Object.keys(COLUMNS).join(","), ...lines].join("\r\n") + "\r\n";
    const href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    h("a", { href, download: "trials.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10000);
  }

  /* ---- Start. */

  function fill(name, pairs) {
    at("filters").elements[name].append(...Array.from(new Map(pairs))
      .map(([value, text]) => h("option", { value }, text)));
  }

  let timer;

  function changed() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const fields = Array.from(at("filters").elements, (field) => [field.name, field.value.trim()]);
      if (fields.every(([name, value]) => value === (state[name] || ""))) return;
      setState({ ...Object.fromEntries(fields), open: "" });
      show();
    }, 120);
  }

  function start(data) {
    page = data;
    runs = data.runs;
    const browsed = runs.filter((run) => run.trials);
    fill("model", browsed.map((run) => [run.model, run.title]));
    fill("experiment", browsed.map((run) => [String(run.experiment), run.heading]));
    fill("arm", browsed.flatMap((run) => Object.keys(run.arms).map((arm) => [arm, arm])));
    fill("run", browsed.map((run) => [run.key, [run.heading, run.title, run.variant, run.key
      .split("-").pop()].filter(Boolean).join(" · ") + " (" + grouped(run.trials) + ")"]));
    at("list").append(space);
    at("list").addEventListener("scroll", drawRows, { passive: true });
    at("list").addEventListener("keydown", pressed);
    new ResizeObserver(drawRows).observe(at("list"));
    for (const kind of ["input", "change"]) at("filters").addEventListener(kind, changed);
    at("filters").addEventListener("submit", (event) => event.preventDefault());
    at("reset").onclick = () => { state = {}; setState({}); show(); };
    at("csv").onclick = saveCsv;
    at("load").onclick = async () => { await Promise.all(missing().map(loadRun)); show(); };
    window.addEventListener("hashchange", () => { if (readAddress()) show(true); });
    const linked = readAddress();
    show(linked).then(() => {
      document.documentElement.dataset.ready = String(Math.round(performance.now()));
    });
  }

  return { start, add, addAnswers };
})();
