"use strict";
(() => {
  const form = document.querySelector("form");
  const list = document.getElementById("problems");
  if (!form || !list) return;
  const items = [...list.children];
  const said = document.getElementById("shown");
  const texts = new Map(items.map((item) => [item, item.textContent.toLowerCase()]));
  const number = (item, key) => Number(item.dataset[key] || 0);
  const orders = {
    hits: (a, b) => number(b, "n") - number(a, "n"),
    last: (a, b) => number(b, "l") - number(a, "l"),
    first: (a, b) => number(b, "f") - number(a, "f"),
    name: (a, b) => a.querySelector("summary code").textContent.localeCompare(b.querySelector("summary code").textContent),
  };

  function filter() {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const outcome = form.elements.outcome.value;
    let shown = 0;
    for (const item of items) {
      const fits = words.every((word) => texts.get(item).includes(word)) &&
        (!outcome || item.dataset.o.split(" ").includes(outcome));
      item.hidden = !fits;
      shown += fits;
    }
    said.textContent = `${shown} of ${items.length} problems shown`;
  }

  function sort() {
    items.sort(orders[form.elements.order.value]);
    list.append(...items);
  }

  function open(all) {
    for (const item of items) if (!item.hidden) item.firstElementChild.open = all;
  }

  function openTarget() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") target.open = true;
  }

  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.order.addEventListener("change", sort);
  form.elements.expand.addEventListener("click", () => open(true));
  form.elements.collapse.addEventListener("click", () => open(false));
  addEventListener("beforeprint", () => open(true));
  addEventListener("hashchange", openTarget);
  filter();
  openTarget();
})();
