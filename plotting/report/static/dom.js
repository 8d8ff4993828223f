"use strict";
/* Elements from plain data. Text only ever becomes a text node: nothing is parsed as markup. */
ESR.dom = (function () {
  function h(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "onclick" || name === "onchange") element[name] = value;
      else element.setAttribute(name, value === true ? "" : String(value));
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  }

  function percent(share, places) {
    return share === null ? "not defined" : (100 * share).toFixed(places) + " %";
  }

  function grouped(number) { return number.toLocaleString("en-US"); }

  function score(value) { return value === null ? "–" : String(Math.round(value * 10) / 10); }

  return { h, percent, grouped, score };
})();
