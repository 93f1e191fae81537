// SPDX-License-Identifier: Apache-2.0
// What a reader does with the page, and what the page then says of itself.
addEventListener("load", () => {
  const at = (id) => document.getElementById(id);
  const column = (id, place) => [...at(id).tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[place].textContent);
  const press = (id, key) => at(id).dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const style = (name) => getComputedStyle(document.body)[name];
  const said = {};
  const wide = [...document.querySelectorAll("body *:not(svg *)")].filter(
    (e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5 && !e.closest(".table, #methods, .unseen"));
  said.inner = innerWidth;
  said.scroll = document.documentElement.scrollWidth;
  said.wide = wide.map((e) => e.outerHTML.slice(0, 80));
  said.drawn = [...document.querySelectorAll(".chart svg")].map((e) => [e.closest(".chart").id, e.querySelectorAll("path").length]);
  said.loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
  said.label = Math.min(...[...document.querySelectorAll(".chart svg text")].map((e) => parseFloat(getComputedStyle(e).fontSize)));
  said.colors = [style("backgroundColor"), style("color")];

  const score = [...at("choices-table").tHead.rows[0].cells].findIndex((head) => head.textContent === "Score");
  const head = at("choices-table").tHead.rows[0].cells[score];
  said.sorted = [head.getAttribute("aria-sort")];
  for (let i = 0; i < 2; i++) {
    head.firstChild.click();
    said.sorted.push(head.getAttribute("aria-sort"), column("choices-table", score));
  }
  said.live = at("live").textContent;

  press("pareto-bytes", "ArrowRight");
  said.key = [at("live").textContent, document.querySelector("#pareto-bytes .tip")?.textContent];
  const mark = document.querySelectorAll("#pareto-ops svg path[stroke-width='1.5']");
  const box = mark[mark.length - 1].getBoundingClientRect();
  const [clientX, clientY] = [box.left + box.width / 2, box.top + box.height / 2];
  document.querySelector("#pareto-ops svg").dispatchEvent(new MouseEvent("mousemove", { clientX, clientY, bubbles: true }));
  said.pointer = document.querySelector("#pareto-ops .tip")?.textContent;

  const [twin, bnn] = at("methods").querySelectorAll("button");
  bnn.click();
  said.hidden = [bnn.getAttribute("aria-pressed"), column("choices-table", 0).includes("BNN"), at("choices-table").caption.textContent];
  bnn.click();
  said.shown = [bnn.getAttribute("aria-pressed"), column("choices-table", 0).includes("BNN"), at("choices-table").caption.textContent];

  at("find").value = "hardware inference";
  at("find").dispatchEvent(new Event("input"));
  said.found = [...new Set(column("trials-table", 2))];
  at("task").selectedIndex = 1;
  at("task").dispatchEvent(new Event("change"));
  said.look = [at("look-method").value, at("look").querySelectorAll(".confusion tbody tr").length, at("look").querySelectorAll("img").length,
    at("look").querySelector("table.sortable").rows.length];
  said.curveTables = at("curve-values").querySelectorAll("table").length;
  location.hash = "#t7";
  setTimeout(() => {
    said.opened = at("all").open;
    at("theme").click();
    said.switched = [style("backgroundColor"), style("color")];
    parent.postMessage(JSON.stringify(said), "*");
  }, 100);
});
