"use strict";
/* Runs and their trials. Trials come as scripts, one per run, loaded when they are wanted. */
const ESR = { runs: [], page: {} };

ESR.boot = function (page) {
  ESR.page = page;
  ESR.runs = page.runs;
};

ESR.store = (function () {
  const trials = new Map();
  const waiting = new Map();

  /* Called by the script of a run. */
  function add(key, data) {
    const run = ESR.runs.find((r) => r.key === key);
    trials.set(key, data.trials.map((row, index) => decode(run, index, row, data)));
  }

  function decode(run, index, row, data) {
    const trial = { run: run, index: index };
    data.fields.forEach((name, place) => { trial[name] = row[place]; });
    trial.arm = data.arms[trial.arm];
    trial.label = data.labels[trial.label];
    trial.prompt = data.prompts[trial.prompt];
    trial.graded = trial.status === "graded";
    trial.multi = trial.graded && trial.attempts.length > 1;
    trial.first = trial.graded ? trial.attempts[0][0] : null;
    trial.last = trial.graded ? trial.attempts[trial.attempts.length - 1][0] : null;
    trial.gain = trial.multi ? trial.last - trial.first : 0;
    trial.improved = trial.gain > 0;
    return trial;
  }

  /* Resolves when the trials of a run are there, or could not be loaded. */
  function load(run) {
    if (trials.has(run.key)) return Promise.resolve();
    if (!waiting.has(run.key)) {
      waiting.set(run.key, new Promise((resolve) => {
        const script = document.createElement("script");
        script.src = run.file;
        script.onload = resolve;
        script.onerror = function () {
          run.broken = true;
          trials.set(run.key, []);
          resolve();
        };
        document.head.append(script);
      }));
    }
    return waiting.get(run.key);
  }

  function loaded(run) { return trials.has(run.key); }

  function of(run) { return trials.get(run.key) || []; }

  /* Trials of all loaded runs, in the order of the runs. */
  function all() { return ESR.runs.flatMap(of); }

  /* The same trial in every arm of loaded runs that replay the same parent. */
  function siblings(trial) {
    return ESR.runs
      .filter((run) => run.family === trial.run.family)
      .flatMap((run) => of(run).filter((other) => other.id === trial.id));
  }

  return { add, load, loaded, of, all, siblings };
})();
