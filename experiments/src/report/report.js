// Adds interaction to the page: values on hover, zoom, hiding of runs, and downloads. The page is complete without it.
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
  // Steps shown in all plots, [first, last]; null for all steps.
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

  const { grouped } = axisTicks;
  // Repeats `report/scale.rs`.
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
      return { at, ticks: axisTicks.linear(low, high, count, false) };
    }
    let [least, most] = low <= high ? [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))] : [-1, 0];
    most = Math.max(most, least + 1);
    least = Math.max(least, most - 16);
    const from = zeros ? bottom - 16 : bottom;
    const at = (value) => value <= 0
      ? bottom
      : from + clamp((Math.log10(value) - least) / (most - least), 0, 1) * (top - from);
    const ticks = axisTicks.log(least, most, count);
    return { at, ticks: zeros ? [[0, "0"], ...ticks] : ticks };
  };

  // Returns [step, low, high] for each value of a line; high is null unless a value stands for several steps.
  const inside = (line, stride, from, to) => {
    if (line.steps) return line.steps.map((step, index) => [step, line.values[index], null]);
    const first = Math.max(0, Math.floor(from / stride)), end = Math.ceil(to / stride) + 1;
    const { values, low, high } = line;
    return values.slice(first, end).map((value, index) =>
      [(first + index) * stride, low ? low[first + index] : value, high ? high[first + index] : null]);
  };

  const isOn = (plot, line) => !plot.marks.querySelector(`[data-line="${line}"]`)?.classList.contains("off");

  // Redraws a plot for the shown steps, as `report/line_plot.rs` draws it for all.
  const draw = (plot) => {
    const { frame, source, marks, ticks } = plot;
    const { left, right, top, bottom } = frame;
    if (shown === null) {
      if (plot.whole === null) return;
      ticks.replaceChildren(...plot.whole.ticks);
      for (const [mark, name, value] of plot.whole.places) mark.setAttribute(name, value);
      marks.classList.toggle("dense", plot.whole.dense);
      plot.whole = null;
      return;
    }
    const paths = [...marks.querySelectorAll("[data-line],[data-dots],[data-band]")];
    const levels = [...marks.querySelectorAll("[data-level]")], diamonds = [...marks.querySelectorAll("[data-mark]")];
    const placed = [...paths.map((path) => [path, "d"]), ...levels.flatMap((level) => [[level, "y1"], [level, "y2"]]),
      ...diamonds.map((mark) => [mark, "transform"])];
    plot.whole ??= {
      ticks: [...ticks.childNodes],
      places: placed.map(([mark, name]) => [mark, name, mark.getAttribute(name)]),
      dense: marks.classList.contains("dense"),
    };
    const [from, to] = domain(plot);
    const { stride } = source;
    marks.classList.toggle("dense", (to - from) > 2 * (right - left));
    const visible = source.lines.filter((_, index) => isOn(plot, index));
    const drawn = frame.log ? [...visible, ...source.bands] : visible;
    // If no sparse value is inside the shown steps, the values next to them set the range.
    const near = (line, places) => {
      if (!line.steps) return places;
      const within = places.filter(([step]) => step >= from && step <= to);
      return within.length ? within : places;
    };
    const y = axis(drawn.flatMap((line) => near(line, inside(line, stride, from, to))
      .flatMap(([, low, high]) => [low, high])), frame);
    const x = (step) => left + ((step - from) / (to - from)) * (right - left);
    const point = (step, value) => `${x(step).toFixed(1)},${y.at(value).toFixed(1)}`;
    for (const path of paths) {
      const { line: lineOf, dots, band: bandOf } = path.dataset;
      const band = source.bands[bandOf], line = source.lines[lineOf ?? dots] ?? band;
      let d = "", run = [];
      const finish = () => {
        if (run.length) d += "M" + run.join(" ") + (run.length === 1 ? "h0" : "");
        run = [];
      };
      for (const [step, low, high] of inside(line, stride, from, to)) {
        if (low === null) { finish(); continue; }
        run.push(point(step, low));
        if (high !== null && high !== low) run.push(point(step + 0.5 * stride, high));
        if (dots !== undefined) finish();
      }
      if (band && run.length) {
        const places = run.map((place) => place.split(",")[0]);
        d = `M${places[0]},${bottom} ${run.join(" ")} ${places[places.length - 1]},${bottom}Z`;
      } else finish();
      path.setAttribute("d", d);
    }
    for (const level of levels) {
      const at = y.at(source.levels[level.dataset.level].value);
      level.setAttribute("y1", at);
      level.setAttribute("y2", at);
    }
    for (const mark of diamonds) {
      const { step, value } = source.marks[mark.dataset.mark];
      mark.setAttribute("transform", `translate(${point(step, value).replace(",", " ")})`);
    }
    ticks.replaceChildren();
    for (const [value, label] of y.ticks) {
      const at = y.at(value);
      ticks.append(element("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }),
        element("text", { class: "tick y", x: left - 7, y: at + 4 }, label));
    }
    for (const [value, label] of axisTicks.linear(from, to, Math.floor((right - left) / 80), true))
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
    if (size >= 1000) return grouped(value.toFixed(0)).replace("-", "−");
    return value.toFixed(5);
  };

  // Shows the crosshair and every run's value at a step.
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
    tooltip.append(Object.assign(document.createElement("b"), { textContent: `${plot.frame.axis} ${grouped(String(plot.step))}` }));
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
      if (!isOn(plot, number)) return;
      const kind = { run: `run ${line.class}`, faint: `run faint ${line.class}` }[line.kind] ?? line.kind;
      const sample = element("line", { class: `line ${kind}`, x1: 1, x2: 25, y1: 4, y2: 4 });
      if (line.steps) {
        // Shows the value at the nearest evaluation.
        const distance = (at) => Math.abs(line.steps[at] - plot.step);
        let nearest = 0;
        for (let at = 1; at < line.steps.length; at++) if (distance(at) < distance(nearest)) nearest = at;
        if (line.steps.length) row(`${line.name} at ${grouped(String(line.steps[nearest]))}`, sample, line.values[nearest]);
      } else if (index < line.values.length) row(line.name, sample, line.values[index]);
    });
    for (const { name, value } of source.levels ?? [])
      row(name, element("line", { class: "level", x1: 1, x2: 25, y1: 4, y2: 4 }), value);
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
    // The role changes from picture to group, because a picture cannot contain buttons.
    svg.setAttribute("role", "group");
    svg.addEventListener("mousemove", (event) => point(plot, stepAt(plot, event.clientX)));
    svg.addEventListener("mouseleave", () => leave(plot));
    svg.addEventListener("blur", () => leave(plot));
    svg.addEventListener("dblclick", (event) => inside(event) && zoom(null));
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !inside(event)) return;
      drag = { start: stepAt(plot, event.clientX), x: event.clientX, mark: null };
      // Events that a test dispatches have no pointer to capture.
      try { svg.setPointerCapture(event.pointerId); } catch { /* the drag ends at the edge of the plot */ }
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
        for (const line of lines)
          for (const path of plot.marks.querySelectorAll(`[data-line="${line}"],[data-dots="${line}"]`))
            path.classList.toggle("off", !on);
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
      { type: "button", className: "reset", hidden: true, textContent: "Show all" });
    reset.addEventListener("click", () => zoom(null));
    plot.figure.append(reset);
  }
  if (plots.length) {
    const hint = Object.assign(document.createElement("p"), { className: "hint" });
    hint.textContent = "Point at a plot for values; drag across it to zoom, in all plots at once; double-click to see all again. "
      + "Click a name in a legend to hide its curve. The keys are the arrows, + and − to zoom, and 0 to see all.";
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
    const dense = columns.filter((column) => !column.steps);
    const count = Math.max(0, ...dense.map((column) => column.values.length));
    const kept = Array.from({ length: count }, (_, index) => index * lines.stride);
    const steps = [...new Set([...kept, ...columns.flatMap((column) => column.steps ?? [])])].sort((a, b) => a - b);
    const at = (column, step) => {
      const index = column.steps ? column.steps.indexOf(step) : step / lines.stride;
      return column.values[index];
    };
    return [[lines.axis, ...columns.map((column) => column.name)],
      ...steps.map((step) => [step, ...columns.map((column) => at(column, step))])];
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
