"use strict";
// Adds to the page: values on hover, zoom, runs switched off and on, downloads. Without it, the page is
// complete and still.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const plots = [...document.querySelectorAll("svg[data-plot]")].map((svg) => ({
    svg,
    figure: svg.closest("figure"),
    frame: JSON.parse(svg.dataset.frame),
    source: data.lines[svg.dataset.plot],
    ticks: svg.querySelector(".ticks"),
    marks: svg.querySelector(".marks"),
    whole: null,
  }));
  // The steps that all plots show, [first, last]; null for all of them.
  let shown = null;

  const element = (name, attributes = {}, text = "") => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  };
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const last = (plot) => Math.max(plot.frame.steps - 1, 0);
  const domain = (plot) => {
    const [from, to] = shown ?? [0, last(plot)];
    return from < to ? [from, to] : [from - 0.5, from + 0.5];
  };

  // The same axes as the program draws.
  const linearTicks = (low, high, count, integer) => {
    const rough = (high - low) / Math.max(count, 1);
    if (!(rough > 0) || !isFinite(rough)) return [];
    const power = 10 ** Math.floor(Math.log10(rough));
    let step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) ?? 10);
    if (integer) step = Math.max(step, 1);
    const decimals = clamp(-Math.floor(Math.log10(step * 1.001)), 0, 20);
    const ticks = [];
    for (let index = Math.ceil(low / step); index * step <= high && ticks.length < 50; index++) {
      const value = index * step;
      ticks.push([value, decimals > 5 ? value.toPrecision(4) : grouped(value.toFixed(decimals))]);
    }
    return ticks;
  };
  const grouped = (text) =>
    text.replace("-", "−").replace(/^(−?)(\d{5,})$/, (_, sign, digits) =>
      sign + digits.replace(/\B(?=(\d{3})+$)/g, "\u202F"));
  const logTicks = (least, most, count) => {
    const every = Math.max(1, Math.ceil((most - least) / Math.max(count, 1)));
    const factors = most - least <= 1 ? [1, 2, 5] : [1];
    const ticks = [];
    for (let exponent = least; exponent <= most; exponent += every)
      for (const factor of factors) {
        const value = factor * 10 ** exponent;
        if (value <= 10 ** most * 1.000001)
          ticks.push([value, exponent < -3 ? `${factor}e${exponent}` : String(+value.toPrecision(1))]);
      }
    return ticks;
  };
  const axis = (values, frame) => {
    const finite = values.filter((value) => value !== null && value !== undefined);
    const { top, bottom } = frame;
    const count = Math.floor((bottom - top) / 40);
    let low = Infinity, high = -Infinity, zeros = false;
    for (const value of finite) {
      if (frame.log && value === 0) { zeros = true; continue; }
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    if (!frame.log) {
      if (low > high) [low, high] = [0, 1];
      const margin = high > low ? 0.04 * (high - low) : Math.max(0.1 * Math.abs(low), 1e-9);
      [low, high] = [low - margin, high + margin];
      const at = (value) => bottom + ((value - low) / (high - low)) * (top - bottom);
      return { at, ticks: linearTicks(low, high, count, false) };
    }
    let [least, most] = low <= high ? [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))] : [-1, 0];
    most = Math.max(most, least + 1);
    least = Math.max(least, most - 16);
    const from = zeros ? bottom - 16 : bottom;
    const at = (value) => value <= 0
      ? bottom
      : from + clamp((Math.log10(value) - least) / (most - least), 0, 1) * (top - from);
    const ticks = logTicks(least, most, count);
    return { at, ticks: zeros ? [[0, "0"], ...ticks] : ticks };
  };

  const isOn = (plot, line) => !plot.marks.querySelector(`[data-line="${line}"]`)?.classList.contains("off");

  // Draws the steps that are shown, as the program drew all of them.
  const draw = (plot) => {
    const { frame, source, marks, ticks } = plot;
    const { left, right, top, bottom } = frame;
    if (shown === null) {
      if (plot.whole === null) return;
      ticks.replaceChildren(...plot.whole.ticks);
      for (const [path, d] of plot.whole.paths) path.setAttribute("d", d);
      marks.classList.toggle("dense", plot.whole.dense);
      plot.whole = null;
      return;
    }
    const paths = [...marks.querySelectorAll("path")];
    plot.whole ??= {
      ticks: [...ticks.childNodes],
      paths: paths.map((path) => [path, path.getAttribute("d")]),
      dense: marks.classList.contains("dense"),
    };
    const [from, to] = domain(plot);
    const { stride } = source;
    marks.classList.toggle("dense", (to - from) > 2 * (right - left));
    const first = Math.max(0, Math.floor(from / stride)), end = Math.ceil(to / stride) + 1;
    const visible = source.lines.flatMap((line, index) =>
      isOn(plot, index) ? (line.low ? [line.low, line.high] : [line.values]) : []);
    const bands = frame.log ? source.bands.map((band) => band.values) : [];
    const y = axis([...visible, ...bands].flatMap((values) => values.slice(first, end)), frame);
    const x = (step) => left + ((step - from) / (to - from)) * (right - left);
    const point = (step, value) => `${x(step).toFixed(1)},${y.at(value).toFixed(1)}`;
    for (const path of paths) {
      const line = source.lines[path.dataset.line], band = source.bands[path.dataset.band];
      let d = "", run = [];
      const finish = () => {
        if (run.length) d += "M" + run.join(" ") + (run.length === 1 ? "h0" : "");
        run = [];
      };
      const { values, low, high } = line ?? band;
      for (let index = first; index < Math.min(end, values.length); index++) {
        const [a, b] = [low ? low[index] : values[index], high ? high[index] : null];
        if (a === null) { finish(); continue; }
        run.push(point(index * stride, a));
        if (b !== null && b !== a) run.push(point((index + 0.5) * stride, b));
      }
      if (band && run.length) {
        const places = run.map((place) => place.split(",")[0]);
        d = `M${places[0]},${bottom} ${run.join(" ")} ${places[places.length - 1]},${bottom}Z`;
      } else finish();
      path.setAttribute("d", d);
    }
    ticks.replaceChildren();
    for (const [value, label] of y.ticks) {
      const at = y.at(value);
      ticks.append(element("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }),
        element("text", { class: "tick y", x: left - 7, y: at + 4 }, label));
    }
    for (const [value, label] of linearTicks(from, to, Math.floor((right - left) / 80), true))
      ticks.append(element("line", { class: "axis", x1: x(value), x2: x(value), y1: bottom, y2: bottom + 4 }),
        element("text", { class: "tick x", x: x(value), y: bottom + 17 }, label));
  };

  const zoom = (range) => {
    shown = range;
    for (const plot of plots) {
      draw(plot);
      leave(plot);
      plot.svg.dataset.shown = shown ? shown.join(" ") : "";
      const button = plot.figure.querySelector(".reset");
      if (button) button.hidden = shown === null;
    }
  };

  const stepAt = (plot, clientX) => {
    const { left, right } = plot.frame;
    const box = plot.svg.getBoundingClientRect();
    const scale = plot.svg.viewBox.baseVal.width / box.width;
    const [from, to] = domain(plot);
    const share = clamp(((clientX - box.left) * scale - left) / (right - left), 0, 1);
    return from + share * (to - from);
  };
  const placeOf = (plot, step) => {
    const { left, right } = plot.frame;
    const [from, to] = domain(plot);
    return left + clamp((step - from) / (to - from), 0, 1) * (right - left);
  };

  const written = (value, log) => {
    if (value === null || value === undefined) return "not a number";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (log || size < 1e-2 || size >= 1e5) return value.toExponential(log ? 2 : 3).replace("e+", "e");
    return value.toFixed(5);
  };

  // Crosshair and every run's value at a step.
  const point = (plot, step) => {
    const { frame, source, svg, figure } = plot;
    const [from, to] = domain(plot), { stride } = source;
    const least = Math.ceil(Math.max(from, 0) / stride), most = Math.floor(Math.min(to, last(plot)) / stride);
    const index = Math.max(0, clamp(Math.round(step / stride), least, Math.max(most, least)));
    plot.step = index * stride;
    const at = placeOf(plot, plot.step);
    plot.crosshair ??= svg.appendChild(element("line", { class: "crosshair" }));
    for (const [key, value] of Object.entries({ x1: at, x2: at, y1: frame.top, y2: frame.bottom }))
      plot.crosshair.setAttribute(key, value);

    const tooltip = document.createElement("div");
    tooltip.className = "tooltip";
    tooltip.append(Object.assign(document.createElement("b"), { textContent: `step ${grouped(String(plot.step))}` }));
    const table = tooltip.appendChild(document.createElement("table"));
    const row = (name, mark, value) => {
      const cells = table.insertRow();
      const head = cells.appendChild(document.createElement("th"));
      const sample = head.appendChild(element("svg", { class: "plot swatch", viewBox: "0 0 26 8" }));
      sample.append(mark);
      head.append(name);
      cells.insertCell().textContent = written(value, frame.log);
    };
    source.lines.forEach((line, number) => {
      if (index >= line.values.length || !isOn(plot, number)) return;
      const kind = line.kind === "run" ? `run ${line.class}` : line.kind;
      row(line.name, element("line", { class: `line ${kind}`, x1: 1, x2: 25, y1: 4, y2: 4 }), line.values[index]);
    });
    source.bands.forEach((band, number) => {
      if (index < band.values.length)
        row(band.name, element("rect", { class: `band b${number}`, x: 1, width: 24, height: 8 }), band.values[index]);
    });
    plot.tooltip?.remove();
    plot.tooltip = figure.appendChild(tooltip);
    const box = svg.getBoundingClientRect(), around = figure.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const x = box.left - around.left + at * scale;
    const beside = x + 14 + tooltip.offsetWidth <= around.width ? x + 14 : x - 14 - tooltip.offsetWidth;
    tooltip.style.left = `${clamp(beside, 0, Math.max(around.width - tooltip.offsetWidth, 0))}px`;
    tooltip.style.top = `${box.top - around.top + frame.top * scale + 4}px`;
  };
  const leave = (plot) => {
    plot.tooltip?.remove();
    plot.crosshair?.remove();
    plot.tooltip = plot.crosshair = null;
  };

  const zoomBy = (plot, factor) => {
    const [from, to] = shown ?? [0, last(plot)];
    const middle = plot.step ?? (from + to) / 2;
    const half = Math.max(((to - from) * factor) / 2, 1);
    const range = [Math.max(0, middle - half), Math.min(last(plot), middle + half)];
    zoom(range[0] <= 0 && range[1] >= last(plot) ? null : range);
  };

  const listen = (plot) => {
    const { svg, frame } = plot;
    const inside = (event) => !event.target.closest(".key");
    let drag = null;
    svg.setAttribute("tabindex", "0");
    // A picture has no buttons; what the script makes of it has.
    svg.setAttribute("role", "group");
    svg.addEventListener("mousemove", (event) => point(plot, stepAt(plot, event.clientX)));
    svg.addEventListener("mouseleave", () => leave(plot));
    svg.addEventListener("blur", () => leave(plot));
    svg.addEventListener("dblclick", (event) => inside(event) && zoom(null));
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !inside(event)) return;
      drag = { start: stepAt(plot, event.clientX), x: event.clientX, mark: null };
      // An event that a test dispatches belongs to no pointer that could be captured.
      try { svg.setPointerCapture(event.pointerId); } catch { /* then it ends where it leaves */ }
    });
    svg.addEventListener("pointermove", (event) => {
      if (!drag || Math.abs(event.clientX - drag.x) < 5) return;
      drag.mark ??= svg.appendChild(element("rect", { class: "selection", y: frame.top, height: frame.bottom - frame.top }));
      const [a, b] = [drag.start, stepAt(plot, event.clientX)].map((step) => placeOf(plot, step)).sort((a, b) => a - b);
      drag.mark.setAttribute("x", a);
      drag.mark.setAttribute("width", b - a);
    });
    const end = (event) => {
      const ended = drag;
      drag = null;
      ended?.mark?.remove();
      if (!ended?.mark || event.type !== "pointerup") return;
      const [from, to] = [ended.start, stepAt(plot, event.clientX)].sort((a, b) => a - b);
      if (to - from >= 1) zoom([from, to]);
    };
    svg.addEventListener("pointerup", end);
    svg.addEventListener("pointercancel", end);
    svg.addEventListener("keydown", (event) => {
      const [from, to] = shown ?? [0, last(plot)];
      const stride = Math.max(plot.source.stride, Math.round((to - from) / 100));
      const moves = {
        ArrowLeft: () => point(plot, (plot.step ?? to) - stride),
        ArrowRight: () => point(plot, (plot.step ?? from) + stride),
        "+": () => zoomBy(plot, 0.5),
        "=": () => zoomBy(plot, 0.5),
        "-": () => zoomBy(plot, 2),
        0: () => zoom(null),
        Escape: () => (plot.tooltip ? leave(plot) : zoom(null)),
      };
      if (event.target !== svg || event.ctrlKey || event.metaKey || !(event.key in moves)) return;
      moves[event.key]();
      event.preventDefault();
    });
    for (const key of svg.querySelectorAll(".key")) {
      const lines = key.dataset.lines.split(" ").filter(Boolean);
      if (!lines.length) continue;
      key.setAttribute("role", "button");
      key.setAttribute("tabindex", "0");
      key.setAttribute("aria-pressed", "true");
      const toggle = () => {
        const on = key.getAttribute("aria-pressed") !== "true";
        key.setAttribute("aria-pressed", String(on));
        for (const line of lines) plot.marks.querySelector(`[data-line="${line}"]`).classList.toggle("off", !on);
        leave(plot);
        draw(plot);
      };
      key.addEventListener("click", toggle);
      key.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        toggle();
        event.preventDefault();
      });
    }
  };

  for (const plot of plots) {
    listen(plot);
    if (plot.figure.querySelector(".reset")) continue;
    const reset = Object.assign(document.createElement("button"),
      { type: "button", className: "reset", hidden: true, textContent: "All steps" });
    reset.addEventListener("click", () => zoom(null));
    plot.figure.append(reset);
  }
  if (plots.length) {
    const hint = Object.assign(document.createElement("p"), { className: "hint" });
    hint.textContent = "Point at a plot for values; drag across it to zoom into steps, in all plots at once; "
      + "double-click for all steps. A name in a legend hides its run. By keyboard: arrows, + and −, 0.";
    plots[0].figure.before(hint);
  }

  // Downloads.
  const field = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = (id) => {
    const lines = data.lines[id], table = data.tables[id];
    if (table) return [table.columns, ...table.rows];
    const columns = [...lines.lines, ...lines.bands];
    const count = Math.max(0, ...columns.map((column) => column.values.length));
    const rows = Array.from({ length: count }, (_, index) =>
      [index * lines.stride, ...columns.map((column) => column.values[index])]);
    return [["step", ...columns.map((column) => column.name)], ...rows];
  };
  for (const button of document.querySelectorAll("[data-csv]")) {
    const id = button.dataset.csv;
    if (!(id in data.lines) && !(id in data.tables)) continue;
    button.hidden = false;
    button.addEventListener("click", () => {
      const text = csv(id).map((row) => row.map(field).join(",")).join("\n") + "\n";
      const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
      Object.assign(document.createElement("a"), { href: url, download: `${id}.csv` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    });
  }
})();
