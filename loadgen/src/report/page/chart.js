// Axes, lines, heat maps, tooltips: what all charts of this page are made of.
const NS = document.getElementById("namespace").namespaceURI;
const MONO_CHAR_PX = 6.6;
// Below this width names take their room above the plot, not beside it.
const BESIDE_PX = 520;

function html(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
function svg(tag, attributes = {}, text) {
  const node = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Three significant digits, no more: 4.20, 12.1, 250.
function digits(value, least = 0) {
  if (value === 0) return "0";
  const places = Math.max(least, Math.min(3, 2 - Math.floor(Math.log10(Math.abs(value)))));
  return value.toFixed(Math.max(0, places));
}
const trim = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
const group = (value) =>
  Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, "\u202f");
const text = {
  us: (us) =>
    us < 1e3 ? `${digits(us)}\u00a0\u00b5s` : us < 1e6 ? `${digits(us / 1e3)}\u00a0ms` : `${digits(us / 1e6)}\u00a0s`,
  usTick: (us) =>
    us < 1e3
      ? `${trim(digits(us))} \u00b5s`
      : us < 1e6
        ? `${trim(digits(us / 1e3))} ms`
        : `${trim(digits(us / 1e6))} s`,
  count: (n) =>
    n < 1e4
      ? Number.isInteger(n)
        ? group(n)
        : digits(n)
      : n < 1e6
        ? group(n)
        : n < 1e9
          ? `${digits(n / 1e6)} M`
          : `${digits(n / 1e9)} G`,
  countTick: (n) =>
    n < 1e3
      ? trim(digits(n))
      : n < 1e6
        ? `${trim(digits(n / 1e3))} k`
        : n < 1e9
          ? `${trim(digits(n / 1e6))} M`
          : `${trim(digits(n / 1e9))} G`,
  bytes: (n) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    for (; n >= 1024 && unit < 4; unit += 1) n /= 1024;
    return `${unit ? digits(n) : Math.round(n)}\u00a0${units[unit]}`;
  },
  bytesTick: (n) => text.bytes(n).replace(/\.0+(?=\D)/, ""),
  seconds: (s) =>
    s > 0 && s < 0.1
      ? `${trim((s * 1e3).toFixed(1))} ms`
      : s < 120
        ? `${trim(s.toFixed(s < 10 ? 2 : 1))} s`
        : s < 7200
          ? `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`
          : `${(s / 3600).toFixed(2)} h`,
  cores: (n) => `${digits(n, 2)} cores`,
};

// Round steps of a linear axis from 0 to at least `top`.
function linearTicks(top, wanted, base = 10) {
  const raw = Math.max(top, 1e-9) / wanted;
  const power = base ** Math.floor(Math.log(raw) / Math.log(base));
  const steps = base === 10 ? [1, 2, 5, 10] : [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
  const step = power * steps.find((factor) => factor * power >= raw * 0.999);
  const ticks = [];
  for (let i = 0; i * step < top + step * 0.999; i += 1) ticks.push(i * step);
  return ticks;
}
// 1-2-5 steps that lie inside, thinned to decades when there are many.
function logTicks(low, high) {
  const all = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1)
    for (const factor of [1, 2, 5]) all.push(factor * 10 ** power);
  const inside = all.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  return inside.length > 9
    ? inside.filter((tick) => Number.isInteger(Math.round(Math.log10(tick) * 1e6) / 1e6))
    : inside;
}
function logDomain(values) {
  const positive = values.filter((value) => value > 0);
  if (!positive.length) return [1, 10];
  const low = Math.min(...positive),
    high = Math.max(...positive);
  const down = (value) => {
    const power = 10 ** Math.floor(Math.log10(value));
    return power * [5, 2, 1].find((f) => f * power <= value * 1.001);
  };
  const up = (value) => {
    const power = 10 ** Math.floor(Math.log10(value));
    return power * [1, 2, 5, 10].find((f) => f * power >= value * 0.999);
  };
  return [down(low), Math.max(up(high), up(down(low) * 4))];
}

// One panel: a plot area with axes, to which a drawing function adds marks. Drawn anew whenever its width changes.
//   x, y: {domain, ticks, format, log, label}   bands: [{from, to, name}], every second one shaded
//   named: [{name, colour, dash, points}], the lines whose names stand beside their ends, or above where it is narrow
//   draw(panel): adds marks and returns probes    probes: [{x, title, rows: [[name, value, colour]]}] in order of x
function panel(host, options) {
  const box = html("div", { class: "chart" });
  const tip = html("div", { class: "tip", role: "status", hidden: "" });
  host.append(box);
  let width = 0;
  function render() {
    const now = Math.floor(box.clientWidth);
    if (!now || now === width) return;
    width = now;
    box.replaceChildren(draw(now), tip);
  }
  function draw(full) {
    const yFormat = options.y.format,
      named = options.named ?? [],
      beside = full >= BESIDE_PX;
    const key = beside ? { height: 0 } : legend(named, full);
    const height = (options.height ?? 260) + key.height;
    const left = Math.max(...options.y.ticks.map((tick) => yFormat(tick).length)) * MONO_CHAR_PX + 12;
    const right = Math.max(12, ...(beside ? named.map(({ name }) => name.length * 7.1 + 14) : []));
    const label = options.y.label ? 28 : 12;
    const top = label + key.height + (options.bands?.length ? 14 : 0),
      bottom = 40;
    const area = { left, top, right: full - right, bottom: height - bottom };
    const scale = (axis, from, to) => {
      const f = axis.log ? Math.log10 : (value) => value;
      const [low, high] = axis.domain.map(f);
      return (value) =>
        from + ((f(Math.max(value, axis.log ? axis.domain[0] : -Infinity)) - low) / (high - low || 1)) * (to - from);
    };
    const x = scale(options.x, area.left, area.right),
      y = scale(options.y, area.bottom, area.top);
    const root = svg("svg", {
      viewBox: `0 0 ${full} ${height}`,
      height,
      role: "img",
      tabindex: "0",
      "aria-label": options.summary,
    });
    (options.bands ?? []).forEach(({ from, to, name }, index) => {
      const a = Math.max(area.left, x(from)),
        b = Math.min(area.right, x(to));
      if (index % 2)
        root.append(
          svg("rect", { class: "band", x: a, y: area.top, width: Math.max(0, b - a), height: area.bottom - area.top }),
        );
      if (b - a > name.length * 6.4 + 4)
        root.append(svg("text", { x: (a + b) / 2, y: area.top - 4, "text-anchor": "middle" }, name));
    });
    for (const tick of options.y.ticks) {
      const at = y(tick);
      if (at < area.top - 1 || at > area.bottom + 1) continue;
      root.append(svg("line", { class: "grid", x1: area.left, x2: area.right, y1: at, y2: at }));
      root.append(svg("text", { x: area.left - 7, y: at + 4, "text-anchor": "end" }, yFormat(tick)));
    }
    let free = -Infinity;
    for (const tick of options.x.ticks) {
      const at = x(tick),
        words = options.x.format(tick),
        half = (words.length * MONO_CHAR_PX) / 2;
      if (at > area.right + 1 || at - half < free) continue;
      free = at + half + 8;
      root.append(svg("line", { class: "axis", x1: at, x2: at, y1: area.bottom, y2: area.bottom + 4 }));
      root.append(svg("text", { x: at, y: area.bottom + 17, "text-anchor": "middle" }, words));
    }
    root.append(svg("line", { class: "axis", x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom }));
    if (options.y.label) root.append(svg("text", { class: "title", x: 0, y: 12 }, options.y.label));
    root.append(svg("text", { x: area.right, y: height - 4, "text-anchor": "end" }, options.x.label));
    const probes = options.draw({ root, x, y, area });
    if (beside) names(root, named, x, y, area);
    else if (key.marks) root.append(key.marks(label));
    follow(root, tip, box, probes, area, x, y);
    return root;
  }
  new ResizeObserver(render).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    width = 0;
    render();
  });
  return box;
}

// The tooltip: under the pointer, under a finger, or moved with the arrow keys.
function follow(root, tip, box, probes, area, x, y) {
  if (!probes.length) return;
  const cursor = svg("line", { class: "cursor", y1: area.top, y2: area.bottom, visibility: "hidden" });
  const dots = svg("g");
  root.append(cursor, dots);
  let at = -1;
  function show(index, pointerY) {
    at = Math.max(0, Math.min(probes.length - 1, index));
    const probe = probes[at],
      px = x(probe.x);
    cursor.setAttribute("x1", px);
    cursor.setAttribute("x2", px);
    cursor.setAttribute("visibility", "visible");
    const marks = (probe.marks ?? []).map(([value, colour]) =>
      svg("circle", { cx: px, cy: y(value), r: 4, fill: colour, stroke: "var(--card)", "stroke-width": 1.5 }),
    );
    dots.replaceChildren(...marks);
    const { title, rows } = probe.at ? probe.at(pointerY) : probe;
    const line = ([name, value]) => html("div", {}, html("span", {}, name), html("span", {}, value));
    tip.replaceChildren(html("b", {}, title), ...rows.map(line));
    tip.hidden = false;
    const over = px > (area.left + area.right) / 2;
    tip.style.top = `${area.top + 4}px`;
    tip.style.left = over ? "" : `${px + 12}px`;
    tip.style.right = over ? `${box.clientWidth - px + 12}px` : "";
  }
  function hide() {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
    dots.replaceChildren();
  }
  function nearest(event) {
    const bounds = root.getBoundingClientRect();
    const px = event.clientX - bounds.left,
      py = event.clientY - bounds.top;
    let best = 0;
    probes.forEach((probe, index) => {
      if (Math.abs(x(probe.x) - px) < Math.abs(x(probes[best].x) - px)) best = index;
    });
    show(best, py);
  }
  root.addEventListener("pointermove", nearest);
  root.addEventListener("pointerdown", nearest);
  root.addEventListener("pointerleave", hide);
  root.addEventListener("blur", hide);
  root.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (step) show(at < 0 ? 0 : at + step);
    else if (event.key === "Home") show(0);
    else if (event.key === "End") show(probes.length - 1);
    else if (event.key === "Escape") hide();
    else return;
    event.preventDefault();
  });
}

// A line broken where there is no value; a lone point is a dot.
function line(root, points, x, y, colour, dash) {
  let path = "",
    open = false;
  points.forEach(([px, py], index) => {
    if (py === null || py === undefined) {
      open = false;
      return;
    }
    path += `${open ? "L" : "M"}${x(px).toFixed(1)} ${y(py).toFixed(1)}`;
    const next = points[index + 1];
    if (!open && (!next || next[1] === null || next[1] === undefined)) path += "h0.01";
    open = true;
  });
  root.append(svg("path", { class: "line", d: path, stroke: colour, "stroke-dasharray": dash }));
}
// Names above the plot, as many in a row as there is room for.
function legend(named, full) {
  if (!named.length) return { height: 0 };
  const ROW = 18,
    SAMPLE = 24;
  let px = 0,
    row = 0;
  const places = named.map(({ name, colour, dash }) => {
    const width = SAMPLE + 6 + name.length * 7.1 + 14;
    if (px && px + width > full) {
      px = 0;
      row += 1;
    }
    const place = { name, colour, dash, px, row };
    px += width;
    return place;
  });
  const marks = (top) => {
    const group_ = svg("g");
    for (const { name, colour, dash, px: at, row: below } of places) {
      const middle = top + below * ROW + 2;
      group_.append(
        svg("line", {
          class: "line",
          x1: at + 1,
          x2: at + SAMPLE,
          y1: middle,
          y2: middle,
          stroke: colour,
          "stroke-dasharray": dash,
        }),
      );
      group_.append(svg("text", { class: "label", x: at + SAMPLE + 6, y: middle + 4, style: `fill:${colour}` }, name));
    }
    return group_;
  };
  return { height: (row + 1) * ROW + 6, marks };
}
// Names beside the ends of lines, moved apart where they would lie on each other.
function names(root, lines, x, y, area) {
  const ends = lines
    .flatMap(({ name, colour, points }) => {
      const last = points.filter((point) => point[1] !== null && point[1] !== undefined).at(-1);
      return last ? [{ name, colour, at: y(last[1]), px: x(last[0]) }] : [];
    })
    .sort((a, b) => a.at - b.at);
  const GAP = 15;
  ends.forEach((end, index) => {
    if (index) end.at = Math.max(end.at, ends[index - 1].at + GAP);
  });
  for (let index = ends.length - 1; index >= 0; index -= 1) {
    const floor = index + 1 < ends.length ? ends[index + 1].at - GAP : area.bottom;
    ends[index].at = Math.min(ends[index].at, floor);
  }
  for (const end of ends)
    root.append(
      svg("text", { class: "label", x: area.right + 8, y: end.at + 4, style: `fill:${end.colour}` }, end.name),
    );
}
