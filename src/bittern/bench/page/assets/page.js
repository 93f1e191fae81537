// SPDX-License-Identifier: Apache-2.0
// What moves in the page of `bittern bench report`: charts, sorting, the filter of methods, the switch of themes. Without
// it all tables are there. Every text from outside reaches the page as a text node, never as markup.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const off = new Set(); // methods that the reader has hidden
  const live = document.getElementById("live");
  const byId = (id) => document.getElementById(id);
  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const colorOf = (method) => color(data.methods[method].color);
  const nameOf = (method) => data.methods[method].name;
  const shown = (row) => !off.has(row.method);
  const say = (text) => { live.textContent = text; };

  const element = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };

  // ---- charts -------------------------------------------------------------------------------------------------------
  const charts = new Map(); // id -> {chart, option, stops}

  // option: () => what ECharts takes. stops: () => [{series, index, text}], what arrow keys go through.
  function chart(id, option, stops) {
    const node = byId(id);
    if (!node) return;
    const made = echarts.init(node, null, { renderer: "svg" });
    charts.set(id, { chart: made, option, stops, at: -1 });
    node.addEventListener("keydown", (event) => walk(event, charts.get(id)));
    node.addEventListener("blur", () => made.dispatchAction({ type: "hideTip" }));
    new ResizeObserver(() => made.resize()).observe(node);
    draw(id);
  }

  function draw(id) {
    const { chart: made, option } = charts.get(id);
    made.setOption({ animation: false, ...base(), ...option() }, { notMerge: true });
  }

  const drawAll = () => { for (const id of charts.keys()) draw(id); };

  function walk(event, held) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const stops = held.stops();
    if (!stops.length) return;
    held.at = held.at < 0 ? (step > 0 ? 0 : stops.length - 1) : (held.at + step + stops.length) % stops.length;
    const stop = stops[held.at];
    held.chart.dispatchAction({ type: "showTip", seriesIndex: stop.series, dataIndex: stop.index });
    say(stop.text);
  }

  function base() {
    return {
      backgroundColor: "transparent",
      textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: color("--muted"), fontSize: 12 },
      tooltip: {
        trigger: "item", confine: true, backgroundColor: color("--card"), borderColor: color("--line"), padding: [8, 12],
        textStyle: { color: color("--ink"), fontSize: 13 }, extraCssText: "box-shadow: 0 4px 16px #0003; border-radius: 8px",
      },
    };
  }

  // lines: [title, ...rest]
  function tip(lines) {
    return element("div", { class: "tip" }, element("strong", {}, lines[0]), ...lines.slice(1).map((line) => element("div", {}, line)));
  }

  const axisStyle = () => ({
    axisLine: { lineStyle: { color: color("--line") } },
    axisTick: { lineStyle: { color: color("--line") } },
    axisLabel: { color: color("--muted"), fontSize: 12, hideOverlap: true },
    nameTextStyle: { color: color("--muted"), fontSize: 12 },
    splitLine: { lineStyle: { color: color("--line") } },
  });

  // ---- overall ------------------------------------------------------------------------------------------------------
  // A polygon needs a corner on every axis; bars do not.
  const isRadar = () => data.overall.axes.length >= 3;
  const overallRows = () => data.overall.rows.filter((row) => shown(row) && !(isRadar() && row.values.includes(null)));

  function radar() {
    const { axes } = data.overall;
    const seen = overallRows();
    const narrow = byId("overall-chart").clientWidth < 520;
    return {
      radar: {
        indicator: axes.map((axis) => ({ name: axis.short, max: axis.max, min: 0 })),
        radius: narrow ? "58%" : "70%", splitNumber: 4,
        axisName: { color: color("--ink"), fontSize: narrow ? 11 : 13, lineHeight: narrow ? 14 : 17 },
        axisLine: { lineStyle: { color: color("--line") } },
        splitLine: { lineStyle: { color: color("--line") } },
        splitArea: { show: false },
      },
      series: seen.map((row) => ({
        type: "radar", symbol: data.methods[row.method].symbol, symbolSize: 7,
        lineStyle: { width: 2, color: colorOf(row.method) }, itemStyle: { color: colorOf(row.method) },
        areaStyle: { color: colorOf(row.method), opacity: 0 },
        emphasis: { focus: "series", lineStyle: { width: 4 }, areaStyle: { opacity: 0.2 } },
        blur: { lineStyle: { opacity: 0.15 }, itemStyle: { opacity: 0.15 }, areaStyle: { opacity: 0 } },
        tooltip: { formatter: () => tip(overallLines(row)) },
        data: [{ value: row.values, name: nameOf(row.method) }],
      })),
    };
  }

  const overallLines = (row) => [nameOf(row.method), ...data.overall.axes.map((axis, i) => `${axis.title}: ${row.texts[i]}`)];

  // As on the radar, each track ends at its best: ratios of bytes are tens where those of scores are below 1.
  function bars() {
    const { axes } = data.overall;
    const style = axisStyle();
    return {
      grid: { left: 8, right: 16, top: 24, bottom: 8, containLabel: true },
      xAxis: { type: "category", data: axes.map((axis) => axis.short), ...style, splitLine: { show: false }, axisLabel: { ...style.axisLabel, lineHeight: 16 } },
      yAxis: { type: "value", max: 1, ...style, axisLabel: { ...style.axisLabel, formatter: share } },
      series: overallRows().map((row) => ({
        type: "bar", name: nameOf(row.method), itemStyle: { color: colorOf(row.method) }, barMaxWidth: 28,
        data: row.values.map((value, i) => value && value / axes[i].max), tooltip: { formatter: () => tip(overallLines(row)) },
      })),
    };
  }

  const overallStops = () => overallRows().map((row, i) => ({ series: i, index: 0, text: overallLines(row).join("; ") }));

  // ---- accuracy against what it costs -------------------------------------------------------------------------------
  const SHORT = {
    bytes: (v) => (v < 1e3 ? `${v} B` : v < 1e6 ? `${v / 1e3} kB` : `${v / 1e6} MB`),
    ops: (v) => (v < 1e3 ? `${v}` : v < 1e6 ? `${v / 1e3}k` : v < 1e9 ? `${v / 1e6}M` : `${v / 1e9}G`),
    latency: (v) => (v < 1e-3 ? `${+(v * 1e6).toPrecision(3)} µs` : v < 1 ? `${+(v * 1e3).toPrecision(3)} ms` : `${v} s`),
  };

  // 1, 2, 5, 10, ... within a range of positive numbers
  function roundNumbers(low, high) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const digit of [1, 2, 5]) {
        const value = +(digit * 10 ** power).toPrecision(6);
        if (value >= low && value <= high) found.push(value);
      }
    }
    return found.length > 7 ? found.filter((value) => /^1/.test(value.toExponential())) : found;
  }

  const pointsOf = (cost) => {
    const task = data.tradeoffs.tasks[byId("task").selectedIndex];
    return task.points.filter((point) => shown(point) && point[cost]);
  };

  // Cheaper to dearer, each more accurate than all before.
  function front(points, cost) {
    const sorted = [...points].sort((a, b) => a[cost][0] - b[cost][0] || b.accuracy[0] - a.accuracy[0]);
    let best = -Infinity;
    return sorted.filter((point) => point.accuracy[0] > best && ((best = point.accuracy[0]), true));
  }

  function pareto(cost, title) {
    const points = pointsOf(cost);
    const networks = data.tradeoffs.networks;
    const best = front(points, cost);
    const place = (point) => [Math.log10(point[cost][0]), point.accuracy[0]];
    const values = points.flatMap((point) => [point[cost][0] - (point[cost][1] ?? 0), point[cost][0] + (point[cost][1] ?? 0)]).filter((v) => v > 0);
    const [low, high] = values.length ? [Math.min(...values) / 1.25, Math.max(...values) * 1.25] : [1, 10];
    const ticks = roundNumbers(low, high).map(Math.log10);
    const style = axisStyle();
    return {
      grid: { left: 8, right: 18, top: 30, bottom: 30, containLabel: true },
      xAxis: {
        type: "value", min: Math.log10(low), max: Math.log10(high), name: title, nameLocation: "middle", nameGap: 30, ...style,
        splitLine: { show: false }, axisTick: { ...style.axisTick, show: true, customValues: ticks },
        axisLabel: { ...style.axisLabel, customValues: ticks, formatter: (v) => SHORT[cost](+(10 ** v).toPrecision(4)) },
      },
      yAxis: { type: "value", scale: true, name: data.tradeoffs.metric, nameTextStyle: { align: "left", ...style.nameTextStyle }, ...style, axisLabel: { ...style.axisLabel, formatter: share }, nameGap: 12 },
      series: [
        {
          type: "line", step: "end", symbol: "none", silent: true, z: 1, data: best.map(place),
          lineStyle: { color: color("--muted"), width: 1.5, type: "dashed" },
        },
        {
          type: "custom", silent: true, z: 2, data: points.map((point) => whisker(point, cost)),
          renderItem: (_, api) => whiskers(api), encode: { x: 0, y: [1, 6, 7] },
        },
        {
          type: "scatter", z: 3, symbolSize: 13, data: points.map((point) => ({
            value: place(point), symbol: networks[point.network].symbol,
            itemStyle: { color: colorOf(point.method), borderColor: color("--card"), borderWidth: 1.5 },
            label: {
              show: best.includes(point), formatter: () => nameOf(point.method), position: "top", distance: 6, color: color("--ink"), fontSize: 11,
              textBorderColor: color("--card"), textBorderWidth: 3,
            },
          })),
          labelLayout: { hideOverlap: true },
          emphasis: { scale: 1.4 },
          tooltip: { formatter: (found) => tip(points[found.dataIndex].lines) },
        },
      ],
    };
  }

  const share = (value) => `${+(100 * value).toFixed(2)}%`;

  // What `whiskers` draws; the last two make room for it on the axis.
  function whisker(point, cost) {
    const [score, up] = [point.accuracy[0], point.accuracy[1] ?? 0];
    return [Math.log10(point[cost][0]), score, point[cost][1] ?? 0, up, point[cost][0], point.method, score - up, score + up];
  }

  function whiskers(api) {
    const [x, y, across, up, raw, method] = [0, 1, 2, 3, 4, 5].map((i) => api.value(i));
    const style = { stroke: colorOf(method), lineWidth: 1.5, opacity: 0.7 };
    const line = (a, b) => {
      const [from, to] = [api.coord(a), api.coord(b)];
      return { type: "line", shape: { x1: from[0], y1: from[1], x2: to[0], y2: to[1] }, style };
    };
    const children = up > 0 ? [line([x, y - up], [x, y + up])] : [];
    if (across > 0 && raw > across) children.push(line([Math.log10(raw - across), y], [Math.log10(raw + across), y]));
    return { type: "group", children };
  }

  const paretoStops = (cost) => () => pointsOf(cost).map((point, i) => ({ series: 2, index: i, text: point.lines.join("; ") }));

  // ---- curves -------------------------------------------------------------------------------------------------------
  const curvesOf = (quantity) => data.curves[byId("curve").selectedIndex].quantities[quantity];

  // Losses stand on a log scale, drawn as their logarithms: axes of ECharts end at powers of ten, with much empty room.
  function curves(quantity) {
    const found = curvesOf(quantity);
    const style = axisStyle();
    const lines = (found?.lines ?? []).filter(shown);
    const values = lines.flatMap((line) => [...line.low, ...line.high]);
    const logarithmic = Boolean(found && !found.share && values.length && values.every((v) => v > 0));
    const up = logarithmic ? Math.log10 : (v) => v;
    const text = found?.share ? share : plain;
    const yAxis = { type: "value", scale: true, ...style, axisLabel: { ...style.axisLabel, formatter: text } };
    if (logarithmic) {
      const [low, high] = [Math.min(...values) / 1.05, Math.max(...values) * 1.05];
      const ticks = roundNumbers(low, high).map(Math.log10);
      Object.assign(yAxis, { min: up(low), max: up(high), splitLine: { show: false }, axisLine: { show: true, ...style.axisLine } });
      yAxis.axisTick = { ...style.axisTick, show: true, customValues: ticks };
      yAxis.axisLabel = { ...style.axisLabel, customValues: ticks, formatter: (v) => plain(10 ** v) };
    }
    return {
      tooltip: {
        ...base().tooltip, trigger: "axis", axisPointer: { type: "line", lineStyle: { color: color("--muted") } },
        formatter: (items) => tip(curveLines(items, lines, text)),
      },
      grid: { left: 8, right: 18, top: 16, bottom: 30, containLabel: true },
      xAxis: { type: "value", min: "dataMin", max: "dataMax", minInterval: 1, name: "epoch", nameLocation: "middle", nameGap: 28, ...style, splitLine: { show: false }, axisLine: { ...style.axisLine, onZero: false } },
      yAxis,
      series: lines.flatMap((line) => curveSeries(line, up)),
    };
  }

  const plain = (value) => `${+value.toPrecision(3)}`;

  function curveSeries(line, up) {
    const stroke = colorOf(line.method);
    const test = line.split !== "train";
    const series = [{
      type: "line", id: line.key, name: line.key, showSymbol: line.mean.length < 3, symbol: data.methods[line.method].symbol, symbolSize: 6,
      z: test ? 3 : 2, data: line.mean.map((value, i) => [line.epochs[i], up(value)]), itemStyle: { color: stroke },
      lineStyle: { color: stroke, width: test ? 2.2 : 1.2, type: test ? "solid" : "dashed", opacity: test ? 1 : 0.75 },
      emphasis: { disabled: true },
    }];
    if (test && line.low.some((low, i) => low < line.high[i])) {
      const place = (api, values) => values.map((v, i) => api.coord([line.epochs[i], up(v)]));
      series.push({
        type: "custom", silent: true, z: 1, data: [[0, 0]], tooltip: { show: false }, encode: { x: -1, y: -1 },
        renderItem: (_, api) => ({
          type: "polygon", style: { fill: stroke, opacity: 0.14 },
          shape: { points: [...place(api, line.high), ...place(api, line.low).reverse()] },
        }),
      });
    }
    return series;
  }

  function curveLines(items, lines, text) {
    const byKey = new Map(lines.map((line) => [line.key, line]));
    const epoch = items[0]?.value[0];
    const found = items.map((item) => byKey.get(item.seriesName)).filter(Boolean);
    return [`epoch ${epoch}`, ...found.map((line) => `${nameOf(line.method)}, ${line.split}: ${text(line.mean[line.epochs.indexOf(epoch)])}`)];
  }

  const curveStops = (quantity) => () => {
    const found = curvesOf(quantity);
    const text = found?.share ? share : plain;
    let series = 0;
    return (found?.lines ?? []).filter(shown).map((line) => {
      const last = line.mean.length - 1;
      const stop = { series, index: last, text: `${nameOf(line.method)}, ${line.split}, epoch ${line.epochs[last]}: ${text(line.mean[last])}` };
      series += curveSeries(line, (v) => v).length;
      return stop;
    });
  };

  // ---- tables -------------------------------------------------------------------------------------------------------
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => {
      const button = element("button", { type: "button" }, ...head.childNodes);
      head.replaceChildren(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const number = head.classList.contains("number");
        const before = head.getAttribute("aria-sort");
        const order = before === "none" ? (number ? "descending" : "ascending") : before === "ascending" ? "descending" : "ascending";
        for (const other of heads) other.setAttribute("aria-sort", other === head ? order : "none");
        sort(table.tBodies[0], place, number, order === "ascending" ? 1 : -1);
        say(`sorted by ${button.textContent}, ${order}`);
      });
    });
  }

  // Cells without a value come last in either order; equal ones stay as they are.
  function sort(body, place, number, direction) {
    const keyed = [...body.rows].map((row) => {
      const cell = row.cells[place];
      const text = cell.dataset.key ?? (cell.querySelector(".none") ? "" : cell.textContent);
      return { row, key: text === "" ? null : number ? Number(text) : text };
    });
    keyed.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
      return direction * (number ? a.key - b.key : collator.compare(a.key, b.key));
    });
    body.append(...keyed.map(({ row }) => row));
  }

  function filterRows() {
    const wanted = (byId("find")?.value ?? "").toLowerCase();
    const names = new Set([...off].map(nameOf));
    for (const row of document.querySelectorAll("tr[data-method]")) {
      const found = !wanted || !row.closest("#trials-table") || row.textContent.toLowerCase().includes(wanted);
      row.hidden = names.has(row.dataset.method) || !found;
    }
    for (const table of document.querySelectorAll("table.sortable")) {
      const rows = [...table.tBodies[0].rows];
      const count = rows.filter((row) => !row.hidden).length;
      const note = table.caption.querySelector("small") ?? table.caption.appendChild(element("small"));
      note.textContent = count < rows.length ? ` (${count} of ${rows.length} rows)` : "";
    }
  }

  // ---- controls -----------------------------------------------------------------------------------------------------
  function methodButtons() {
    const bar = byId("methods");
    data.methods.forEach((method, place) => {
      const swatch = element("i", { "aria-hidden": "true" });
      swatch.style.background = `var(${method.color})`;
      const button = element("button", { type: "button", "aria-pressed": "true" }, swatch, method.name);
      button.addEventListener("click", () => {
        const now = off.has(place);
        if (now) off.delete(place); else off.add(place);
        button.setAttribute("aria-pressed", String(now));
        filterRows();
        drawAll();
        say(`${method.name} ${now ? "shown" : "hidden"}`);
      });
      bar.append(button);
    });
    bar.closest("[hidden]").hidden = false;
  }

  const darkWanted = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : darkWanted.matches);

  function themeSwitch() {
    const button = byId("theme");
    const label = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      label();
      drawAll();
    });
    darkWanted.addEventListener("change", () => { label(); drawAll(); });
    label();
  }

  // Paper is white, and nothing on it can be opened.
  function printing() {
    let theme, opened;
    addEventListener("beforeprint", () => {
      theme = root.dataset.theme;
      root.dataset.theme = "light";
      opened = [...document.querySelectorAll("details:not([open])")];
      for (const one of opened) one.open = true;
      drawAll();
      // the page is narrower than the screen, and style rules alone would cut drawings instead of scaling them
      for (const svg of document.querySelectorAll(".chart svg")) {
        svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
      }
    });
    addEventListener("afterprint", () => {
      for (const svg of document.querySelectorAll(".chart svg")) svg.removeAttribute("viewBox");
      if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
      for (const one of opened) one.open = false;
      drawAll();
    });
  }

  function chooser(id, redraw) {
    const select = byId(id);
    if (!select) return;
    select.closest("[hidden]").hidden = false;
    select.addEventListener("change", redraw);
    redraw();
  }

  // ---- inside a trained network -------------------------------------------------------------------------------------
  const looksAt = (place) => data.looks.cells.filter((cell) => cell.place === place);

  function fillMethods() {
    const select = byId("look-method");
    const kept = select.value;
    const names = looksAt(byId("look-place").value).map((cell) => nameOf(cell.method));
    select.replaceChildren(...names.map((name) => element("option", {}, name)));
    select.value = names.includes(kept) ? kept : (names.find((name) => name !== "float twin") ?? names[0]);
    look();
  }

  function look() {
    const name = byId("look-method").value;
    const cell = looksAt(byId("look-place").value).find((one) => nameOf(one.method) === name);
    const parts = [];
    if (cell.confusion) parts.push(cell.confusion.counts ? matrix(cell) : pairs(cell));
    if (cell.samples) parts.push(samples(cell));
    if (cell.layers !== undefined) parts.push(layers(data.looks.layers[cell.layers], name));
    byId("look").replaceChildren(...parts);
    byId("look").classList.toggle("both", Boolean(cell.confusion && cell.samples));
  }

  let made = 0;
  function tableOf(caption, heads, rows, kind = "") {
    const id = `made${made++}`;
    const table = element("table", {}, element("caption", { id }, caption));
    table.append(element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
    return element("div", { class: `table ${kind}`, role: "region", tabindex: "0", "aria-labelledby": id }, table);
  }

  const head = (text, kind = "") => element("th", { scope: "col", class: kind }, text);
  const seedsOf = (cell) => `${cell.seeds} seed${cell.seeds > 1 ? "s" : ""}`;

  function matrix(cell) {
    const { classes, counts } = cell.confusion;
    const rows = counts.map((row, i) => {
      const sum = row.reduce((a, b) => a + b, 0);
      return element("tr", {}, element("th", { scope: "row" }, classes[i]), ...row.map((count, j) => {
        const found = element("td", { title: `${classes[i]} taken for ${classes[j]}: ${count} of ${sum}`, class: i === j ? "right" : "" }, count ? String(count) : "·");
        const depth = sum ? Math.round(100 * (i === j ? 0.45 : 1) * Math.sqrt(count / sum)) : 0;
        if (count) found.style.background = `color-mix(in srgb, var(${i === j ? "--good" : "--bad"}) ${Math.min(depth, 55)}%, transparent)`;
        return found;
      }));
    });
    const caption = `Confusion: truth down, prediction across; ${seedsOf(cell)} together`;
    return tableOf(caption, [head("truth"), ...classes.map((name) => head(name))], rows, "confusion");
  }

  function pairs(cell) {
    const rows = cell.confusion.pairs.map(([truth, predicted, count]) =>
      element("tr", {}, element("th", { scope: "row" }, truth), element("td", {}, predicted), element("td", { class: "number" }, String(count))));
    return tableOf(`What is mistaken most; ${seedsOf(cell)} together`, [head("truth"), head("taken for"), head("times", "number")], rows);
  }

  function samples(cell) {
    const pictures = cell.samples.every(([shown]) => data.looks.texts[shown].startsWith("data:image/png;base64,"));
    const items = cell.samples.map(([shown, truth, predicted, confidence]) => {
      const text = data.looks.texts[shown];
      const right = truth === predicted;
      const sure = confidence === null ? "" : ` (${Math.round(100 * confidence)}%)`;
      const what = pictures ? element("img", { src: text, alt: `sample, truth ${truth}` }) : element("q", {}, text);
      const said = element("span", { class: right ? "yes" : "no" }, right ? `✓ ${predicted}${sure}` : `✗ ${predicted}${sure}`);
      return element("li", { class: right ? "" : "wrong" }, what, said, ...(right ? [] : [element("b", {}, `is ${truth}`)]));
    });
    const list = element("ul", { class: pictures ? "samples" : "samples texts" }, ...items);
    return element("div", {}, element("h3", {}, "Samples of the test set, first seed"), list);
  }

  const LAYER_TITLES = {
    name: "layer", binary_params: "binary weights", float_params: "real numbers", code_params: "codes", bmac: "binary products", fmac: "real products",
  };

  function layers({ names, rows }, name) {
    const numbers = names.map((_, i) => rows.every((row) => typeof row[i] === "number"));
    const heads = names.map((text, i) => head(LAYER_TITLES[text] ?? text.replaceAll("_", " "), numbers[i] ? "number" : ""));
    const shape = (value) => (Array.isArray(value) ? value.join(" × ") : typeof value === "number" ? value.toLocaleString("en") : value ?? "–");
    const lines = rows.map((row) => element("tr", {}, ...row.map((value, i) =>
      element(i ? "td" : "th", i ? { class: numbers[i] ? "number" : "" } : { scope: "row" }, shape(value)))));
    const found = tableOf(`Layers of ${name}, for one input`, heads, lines, "wide");
    const table = found.querySelector("table");
    table.classList.add("sortable");
    sortable(table);
    return found;
  }

  // ---- values of the curves -----------------------------------------------------------------------------------------
  function curveTable() {
    const tables = Object.values(data.curves[byId("curve").selectedIndex].quantities).map((found) => {
      const text = found.share ? share : plain;
      const epochs = [...new Set(found.lines.flatMap((line) => line.epochs))].sort((a, b) => a - b);
      const heads = [head("epoch", "number"), ...found.lines.map((line) => head(`${nameOf(line.method)}, ${line.split}`, "number"))];
      const rows = epochs.map((epoch) => element("tr", {}, element("th", { scope: "row", class: "number" }, String(epoch)), ...found.lines.map((line) => {
        const at = line.epochs.indexOf(epoch);
        return element("td", { class: "number" }, at < 0 ? "–" : text(line.mean[at]));
      })));
      return tableOf(`${found.title}, means over seeds`, heads, rows);
    });
    byId("curve-values").replaceChildren(...tables);
  }

  // A link to a trial opens what it lies in.
  function openTarget() {
    const target = location.hash.length > 1 ? byId(decodeURIComponent(location.hash.slice(1))) : null;
    const closed = target?.closest("details:not([open])");
    if (closed) { closed.open = true; target.scrollIntoView(); }
  }

  for (const table of document.querySelectorAll("table.sortable")) sortable(table);
  methodButtons();
  themeSwitch();
  printing();
  if (data.overall) chart("overall-chart", isRadar() ? radar : bars, overallStops);
  if (data.tradeoffs) {
    const titles = { bytes: "stored bytes", ops: "OPs", latency: "latency" };
    for (const [cost, title] of Object.entries(titles)) chart(`pareto-${cost}`, () => pareto(cost, title), paretoStops(cost));
    chooser("task", () => { for (const cost of Object.keys(titles)) if (charts.has(`pareto-${cost}`)) draw(`pareto-${cost}`); });
  }
  if (data.curves.length) {
    for (const quantity of ["loss", "accuracy"]) chart(`curve-${quantity}`, () => curves(quantity), curveStops(quantity));
    chooser("curve", () => { for (const quantity of ["loss", "accuracy"]) draw(`curve-${quantity}`); curveTable(); });
  }
  if (data.looks.cells.length) {
    byId("look-method").addEventListener("change", look);
    chooser("look-place", fillMethods);
  }
  addEventListener("hashchange", openTarget);
  openTarget();
  const find = byId("find");
  if (find) { find.closest("[hidden]").hidden = false; find.addEventListener("input", filterRows); }
})();
