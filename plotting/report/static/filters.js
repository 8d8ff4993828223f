"use strict";
/* What is shown, and its place in the address, so that every view can be linked to. */
ESR.filters = (function () {
  const NAMES = ["model", "experiment", "run", "arm", "latent", "attempts", "outcome", "status",
    "text", "sort", "open"];
  let state = {};

  function read() {
    const hash = decodeURIComponent(location.hash.split("?")[0]);
    if (hash !== "#transcripts") return false;
    const given = new URLSearchParams(location.hash.split("?")[1] || "");
    state = {};
    for (const name of NAMES) if (given.get(name)) state[name] = given.get(name);
    return true;
  }

  function address(changes) {
    const wanted = Object.assign({}, state, changes);
    const given = new URLSearchParams();
    for (const name of NAMES) if (wanted[name]) given.set(name, wanted[name]);
    return "#transcripts" + (given.toString() ? "?" + given : "");
  }

  function set(changes) {
    const target = address(changes);
    state = Object.assign({}, state, changes);
    history.replaceState(null, "", target);
  }

  function get(name) { return state[name] || ""; }

  /* Runs that may hold matching trials, whether loaded or not. */
  function runs() {
    return ESR.runs.filter((run) => run.trials > 0 && matchesRun(run));
  }

  function matchesRun(run) {
    return (!state.model || run.model === state.model)
      && (!state.experiment || String(run.experiment) === state.experiment)
      && (!state.run || run.key === state.run)
      && (!state.arm || state.arm in run.arms);
  }

  const ATTEMPTS = {
    multi: (t) => t.multi,
    single: (t) => t.graded && !t.multi,
  };
  const OUTCOMES = {
    improved: (t) => t.improved,
    "not-improved": (t) => t.multi && !t.improved,
  };

  function latent(trial, wanted) {
    return /^\d+$/.test(wanted) ? String(trial.latent) === wanted
      : trial.label.toLowerCase().includes(wanted.toLowerCase());
  }

  function contains(trial, words) {
    if (trial.haystack === undefined) {
      trial.haystack = [trial.response, trial.prompt, trial.label, trial.id].join("\n").toLowerCase();
    }
    return words.every((word) => trial.haystack.includes(word));
  }

  const ORDERS = {
    gain: (a, b) => b.gain - a.gain || a.degraded - b.degraded || (a.first ?? 101) - (b.first ?? 101),
    first: (a, b) => (b.first ?? -1) - (a.first ?? -1),
    attempts: (a, b) => b.attempts.length - a.attempts.length,
    boost: (a, b) => (b.boost ?? -1) - (a.boost ?? -1),
    file: () => 0,
  };

  function apply(trials) {
    const words = (state.text || "").toLowerCase().split(/\s+/).filter(Boolean);
    const found = trials.filter((t) => matchesRun(t.run)
      && (!state.arm || t.arm === state.arm)
      && (!state.latent || latent(t, state.latent))
      && (!state.attempts || (ATTEMPTS[state.attempts] || (() => true))(t))
      && (!state.outcome || (OUTCOMES[state.outcome] || (() => true))(t))
      && (!state.status || t.status === state.status)
      && (!words.length || contains(t, words)));
    return found.sort(ORDERS[state.sort] || ORDERS.gain);
  }

  return { read, set, get, runs, apply, address };
})();
