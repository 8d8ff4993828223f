"use strict";
/* One trial: what was asked, what was boosted, the attempts, what it counts in, its other arms. */
ESR.trial = (function () {
  const { h, percent, grouped, score } = ESR.dom;
  const FIRST_ARMS = ["steered", "ablation", "self_monitor", "no-steering"];

  function show(box, trial) {
    box.replaceChildren(
      h("div", { class: "stepper" },
        h("button", { type: "button", onclick: () => ESR.list.step(-1) }, "Previous"),
        h("button", { type: "button", onclick: () => ESR.list.step(1) }, "Next")),
      h("h3", { id: "trial-title" }, headline(trial)),
      h("p", { class: "counts", id: "trial-counts" }, counts(trial), " ", links(trial)),
      h("p", { id: "trial-setting" }, setting(trial), " ", trial.run.organism
        ? h("span", { class: "tag organism-tag wrap" }, ESR.page.organism_note) : null),
      h("h4", {}, "Asked"),
      h("p", { class: "asked" }, trial.prompt),
      h("h4", {}, "Answered"),
      h("div", { id: "trial-attempts" }, attempts(trial, "h5")),
      h("div", { id: "trial-arms" }),
      h("h4", {}, "Recorded"),
      facts(trial));
    others(trial);
  }

  function headline(trial) {
    if (!trial.graded) {
      return { no_attempts: "No attempt at an answer" }[trial.status]
        || "Not graded: " + trial.status.replace("_", " ");
    }
    const from = score(trial.first), to = score(trial.last), n = trial.attempts.length;
    if (n === 1) return "One attempt, score " + from + " of 100";
    if (trial.improved) return "Corrected itself: from " + from + " to " + to + " of 100";
    return n + " attempts without a gain: from " + from + " to " + to + " of 100";
  }

  function setting(trial) {
    const latent = "latent " + trial.latent + (trial.label ? " (“" + trial.label + "”)" : "");
    return trial.run.title + ", experiment " + trial.run.experiment + ", arm " + trial.arm + ". "
      + (trial.boost ? "Boosted: " + latent + " by " + trial.boost + "." : "No boost; the trial of "
      + latent + ".");
  }

  /* The numbers of its arm in which a trial counts. */
  function counts(trial) {
    const arm = trial.run.arms[trial.arm];
    if (!arm) return "Its arm has no rates.";
    if (arm.left_out && trial.degraded) return "Left out of all rates: it repeats a word.";
    if (!trial.graded) return "Not graded, so it is in no rate; it is counted beside them.";
    const esr = arm.esr_rate, multi = arm.multi_attempt_rate;
    const share = (rate) => grouped(rate.count) + " of " + grouped(rate.n) + " graded trials, "
      + percent(rate.rate, 2) + interval(rate);
    if (trial.improved) {
      return "One of the self-corrections behind the ESR rate of this arm: " + share(esr) + ".";
    }
    if (trial.multi) {
      return "Counts in the multi-attempt rate of this arm (" + share(multi)
        + "), not in its ESR rate, for its last score is not above its first.";
    }
    return "One of the " + grouped(esr.n) + " graded trials of this arm; with a single attempt it"
      + " counts in the denominators only (multi-attempt " + percent(multi.rate, 2) + ", ESR "
      + percent(esr.rate, 2) + ").";
  }

  function interval(rate) {
    const ends = rate.cluster_interval || rate.wilson;
    if (!ends) return "";
    return " (95 % interval " + (100 * ends[0]).toFixed(2) + " to " + (100 * ends[1]).toFixed(2) + ")";
  }

  function links(trial) {
    const number = String(trial.run.experiment);
    const found = [];
    const figure = ESR.page.figures[number];
    if (figure) found.push(h("a", { href: "#" + figure }, "Its figure"), ", ");
    if (ESR.page.numbers.includes(number)) {
      found.push(h("a", { href: "#numbers-" + number }, "its line among the paper's numbers"), ", ");
    }
    found.push(h("a", { href: "#run-" + trial.run.key }, "its run"), ".");
    return found;
  }

  function facts(trial) {
    const rows = [
      ["Trial", trial.id],
      ["Seed", String(trial.seed)],
      ["Judge", trial.run.judge || "not recorded"],
      ["Status", trial.status.replace("_", " ")],
    ];
    if (trial.error) rows.push(["Error", trial.error]);
    if (trial.degraded) rows.push(["Degraded", "it repeats a word five times or more"]);
    return h("dl", { class: "facts" }, rows.flatMap(([name, told]) => [
      h("dt", {}, name), h("dd", {}, told)]));
  }

  /* The response in stretches: attempts in colour, what lies between them plain. */
  function attempts(trial, heading) {
    const blocks = [];
    let cursor = 0;
    trial.attempts.forEach((attempt, place) => {
      const title = "Attempt " + (place + 1) + ", score " + score(attempt[0]);
      const name = "attempt a" + Math.min(4, place + 1);
      if (attempt.length === 3) {
        blocks.push(between(trial, cursor, attempt[1]));
        blocks.push(h("div", { class: name }, h(heading, {}, title),
          h("p", {}, marked(trial, attempt[1], attempt[2]))));
        cursor = Math.max(cursor, attempt[2]);
      } else {
        blocks.push(h("div", { class: name }, h(heading, {}, title + ", as the judge quoted it"),
          h("p", {}, attempt[1])));
      }
    });
    blocks.push(between(trial, cursor, trial.response.length));
    return blocks;
  }

  function between(trial, start, end) {
    if (!trial.response.slice(start, end).trim()) return null;
    return h("div", { class: "attempt between" }, h("p", {}, marked(trial, start, end)));
  }

  function marked(trial, start, end) {
    const parts = [];
    let cursor = start;
    for (const [from, to] of trial.restarts) {
      if (to <= cursor || from >= end) continue;
      const a = Math.max(from, cursor), b = Math.min(to, end);
      parts.push(trial.response.slice(cursor, a), h("mark", {}, trial.response.slice(a, b)));
      cursor = b;
    }
    parts.push(trial.response.slice(cursor, end));
    return parts;
  }

  let current = null;

  /* The same trial elsewhere; runs of the family are loaded for it. */
  function others(trial) {
    current = trial;
    const family = ESR.runs.filter((run) => run.family === trial.run.family && run.trials);
    Promise.all(family.map(ESR.store.load)).then(() => {
      if (current === trial) compare(trial, ESR.store.siblings(trial));
    });
  }

  function name(trial) { return trial.arm + ", experiment " + trial.run.experiment; }

  function compare(trial, found) {
    const box = document.getElementById("trial-arms");
    if (found.length < 2) {
      box.replaceChildren(h("p", { class: "note" }, "No other arm has run this trial yet."));
      return;
    }
    const shown = new Set(found.filter((t) => t === trial || FIRST_ARMS.includes(t.arm)).slice(0, 5));
    shown.add(trial);
    for (const other of found) if (shown.size < 3) shown.add(other);
    const columns = h("div", { class: "arms", tabindex: 0, role: "region",
      "aria-label": "The same trial in several arms" });
    const draw = () => columns.replaceChildren(
      ...found.filter((t) => shown.has(t)).map((t) => column(t, t === trial)));
    const choices = found.map((t) => h("label", {}, h("input", {
      type: "checkbox", checked: shown.has(t),
      onchange: (event) => { shown[event.target.checked ? "add" : "delete"](t); draw(); },
    }), " " + name(t) + " "));
    draw();
    box.replaceChildren(h("h4", {}, "The same trial in other arms"),
      h("fieldset", { class: "choices" },
        h("legend", { class: "note" }, "Same latent and question; side by side:"), choices),
      columns);
  }

  function column(trial, here) {
    return h("div", { class: here ? "arm here" : "arm", "data-arm": trial.arm },
      h("h4", {}, name(trial) + (here ? " (this one)" : "")),
      h("p", { class: "note" }, (trial.boost ? "boost " + trial.boost : "no boost")
        + " · " + headline(trial)),
      attempts(trial, "h5"));
  }

  return { show };
})();
