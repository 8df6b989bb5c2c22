// The charts of a result, each from its series.
const COLOURS = ["var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)"];
const DASHES = [undefined, "7 4", "2 4", "10 3 2 3", "4 3"];

function card(title, hint, wide) {
  return html(
    "section",
    { class: wide ? "card wide" : "card" },
    html("h2", {}, title),
    html("p", { class: "hint" }, hint),
  );
}

// Rows of a period's end can be a few milliseconds long: rates of those say nothing.
const MIDDLE = (row) => row.start_s + row.seconds / 2;
function timeAxis(rows, since = "the first connection") {
  const from = Math.min(...rows.map((row) => row.start_s));
  const to = Math.max(...rows.map((row) => row.start_s + row.seconds), from + 0.001);
  const span = to - from;
  const step =
    [
      0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600,
      86400,
    ].find((s) => span / s <= 9) ?? 86400;
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push(at);
  const format = (s) =>
    span < 0.5
      ? `${trim((s * 1e3).toFixed(0))} ms`
      : span > 7200
        ? `${trim((s / 3600).toFixed(1))} h`
        : span > 300
          ? `${Math.floor(s / 60)}:${String(Math.round(s % 60)).padStart(2, "0")}`
          : `${trim(s.toFixed(1))}`;
  return {
    domain: [from, to],
    ticks,
    format,
    label:
      span > 7200 || span < 0.5
        ? `time since ${since}`
        : span > 300
          ? `minutes since ${since}`
          : `seconds since ${since}`,
  };
}
function bands(rows) {
  const found = [];
  for (const row of rows) {
    const last = found.at(-1),
      to = row.start_s + row.seconds;
    if (last && last.name === row.period) last.to = to;
    else found.push({ name: row.period, from: row.start_s, to });
  }
  return found;
}

// Lines over time. `lines`: [{name, value(row)}]; a row without a value breaks the line.
function overTime(host, { rows, all, lines, y, format, height, summary, since }) {
  const drawn = lines
    .map((line, index) => ({
      ...line,
      colour: COLOURS[line.colour ?? index],
      dash: DASHES[line.dash ?? index],
      points: rows.map((row) => [MIDDLE(row), line.value(row) ?? null]),
    }))
    .filter((line) => line.points.some((point) => point[1] !== null));
  if (!drawn.length) return;
  const values = drawn.flatMap((line) => line.points.map((point) => point[1]).filter((value) => value !== null));
  const axis = y.log
    ? { ...y, domain: logDomain(values) }
    : { ...y, ticks: linearTicks(Math.max(...values, y.least ?? 0), 4, y.base) };
  if (y.log) axis.ticks = logTicks(...axis.domain);
  else axis.domain = [0, axis.ticks.at(-1)];
  const shown = all ?? rows;
  panel(host, {
    x: timeAxis(shown, since),
    y: axis,
    height,
    summary,
    bands: all ? bands(all) : [],
    named: drawn.length > 1 ? drawn : [],
    draw({ root, x, y }) {
      for (const line_ of drawn) line(root, line_.points, x, y, line_.colour, line_.dash);
      return rows.map((row, index) => ({
        x: MIDDLE(row),
        title: row.seconds
          ? `${text.seconds(row.start_s)} to ${text.seconds(row.start_s + row.seconds)}`
          : `at ${text.seconds(row.start_s)}`,
        rows: drawn.map((line) => [line.name, line.points[index][1] === null ? "none" : format(line.points[index][1])]),
        marks: drawn
          .filter((line) => line.points[index][1] !== null)
          .map((line) => [line.points[index][1], line.colour]),
      }));
    },
  });
}

function spectrum(spectra) {
  const kinds = [
    ["from_intended", "deliveries"],
    ["from_actual", "from actual"],
    ["first", "first receiver"],
    ["half", "half of them"],
    ["last", "last receiver"],
  ];
  // Where planned and actual times tell the same, one line says it.
  const same =
    spectra.from_intended.length === spectra.from_actual.length &&
    spectra.from_intended.every(([, us], index) => Math.abs(us - spectra.from_actual[index][1]) <= 0.02 * us + 20);
  const lines = kinds
    .filter(([key]) => spectra[key]?.length && !(key === "from_actual" && same))
    .map(([key, name], index) => {
      const below = spectra[key].filter(([q]) => q < 1).at(-1)?.[0] ?? 0;
      const end = -Math.log10(1 - below) + 0.15;
      // The luckiest few would take most of a logarithmic axis and tell nothing.
      const points = spectra[key]
        .filter(([q]) => q >= 0.05)
        .map(([q, us]) => [q < 1 ? -Math.log10(1 - q) : end, Math.max(1, us)]);
      return { name, points, colour: COLOURS[index], dash: DASHES[index] };
    });
  if (!lines.length) return null;
  const host = card(
    "Percentile spectrum",
    "How long the slowest part of the deliveries took, from the planned time. The further right, the rarer; a line that bends up late has few, but long waits.",
  );
  const domain = logDomain(lines.flatMap((line) => line.points.map((point) => point[1])));
  const top = Math.max(...lines.flatMap((line) => line.points.map((point) => point[0])));
  const marks = [0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999, 0.9999999].filter(
    (q) => -Math.log10(1 - q) <= top,
  );
  const position = (q) => -Math.log10(1 - q);
  const percent = (q) => `${trim((q * 100).toFixed(7))} %`;
  const at = (points, px) => points.find((point) => point[0] >= px - 1e-9)?.[1];
  const probes = [
    ...new Set([0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999, 0.999999]),
  ].filter((q) => position(q) <= top);
  const main = lines[0].points;
  panel(host, {
    x: {
      domain: [0, top],
      ticks: marks.map(position),
      format: (px) => percent(1 - 10 ** -px),
      label: "part of the deliveries",
    },
    y: { domain, ticks: logTicks(...domain), format: text.usTick, log: true },
    height: 300,
    named: lines.map((line) => ({ ...line, points: [line.points.at(-1)] })),
    summary: `Percentile spectrum. Deliveries: ${[0.5, 0.9, 0.99, 0.999]
      .filter((q) => position(q) <= top)
      .map((q) => `${percent(q)} within ${text.us(at(main, position(q)) ?? main.at(-1)[1])}`)
      .join(", ")}.`,
    draw({ root, x, y }) {
      for (const line_ of lines) line(root, line_.points, x, y, line_.colour, line_.dash);
      const known = (q) =>
        lines.map((line) => [line, at(line.points, position(q))]).filter(([, us]) => us !== undefined);
      return probes.map((q) => ({
        x: position(q),
        title: `${percent(q)} within`,
        rows: known(q).map(([line, us]) => [line.name, text.us(us)]),
        marks: known(q).map(([line, us]) => [us, line.colour]),
      }));
    },
  });
  return host;
}

const RAMPS = {
  light: ["#e6eef7", "#b5d0ea", "#72a9d8", "#2f78b7", "#174a80", "#0b2545"],
  dark: ["#1b2a3d", "#234a75", "#2f74a8", "#3ba3b8", "#8fcf9f", "#f7e58b"],
};
const LEVELS = 24;
function colours() {
  const stops = matchMedia("(prefers-color-scheme: dark)").matches ? RAMPS.dark : RAMPS.light;
  const part = (hex, at) => parseInt(hex.slice(at, at + 2), 16);
  return Array.from({ length: LEVELS }, (_, level) => {
    const place = (level / (LEVELS - 1)) * (stops.length - 1),
      low = Math.min(Math.floor(place), stops.length - 2),
      mix = place - low;
    const channel = (at) => Math.round(part(stops[low], at) * (1 - mix) + part(stops[low + 1], at) * mix);
    return `rgb(${channel(1)},${channel(3)},${channel(5)})`;
  });
}

function heatMap(series) {
  const { heat, rows } = series;
  const measured = rows.filter((row, index) => heat.cells.some(([at]) => at === index) || row.period === "measured");
  if (!measured.length) return null;
  const host = card(
    "Latency over time",
    "Each column is a stretch of time, each cell the part of its deliveries that took so long. A bright band is the usual wait; what stands above it are stalls.",
  );
  // At most so many columns, each of whole rows.
  const COLUMNS_MAX = 120;
  const first = rows.indexOf(measured[0]),
    last = rows.indexOf(measured.at(-1));
  const per = Math.ceil((last - first + 1) / COLUMNS_MAX),
    columns = [];
  for (let index = first; index <= last; index += per) {
    const part = rows.slice(index, Math.min(index + per, last + 1)),
      to = part.at(-1).start_s + part.at(-1).seconds;
    // What is left at the end belongs to the column before.
    if (columns.length && to - part[0].start_s < 0.3 * series.interval_s) columns.at(-1).to = to;
    else columns.push({ from: part[0].start_s, to, counts: new Map(), total: 0 });
  }
  for (const [row, bucket, count] of heat.cells) {
    const column = columns[Math.min(columns.length - 1, Math.floor((row - first) / per))];
    column.counts.set(bucket, (column.counts.get(bucket) ?? 0) + count);
    column.total += count;
  }
  const used = heat.cells.map((cell) => cell[1]),
    lowest = Math.min(...used),
    highest = Math.max(...used);
  const floor = (bucket) => (bucket === 0 ? heat.bounds_us[0] / 2 : heat.bounds_us[bucket - 1]);
  let low = floor(Math.max(0, lowest - 1)),
    high = heat.bounds_us[Math.min(heat.bounds_us.length - 1, highest + 1)];
  const domain = [low, Math.max(high, low * 8)];
  const share = (column, count) => count / column.total;
  const level = (part) => Math.min(LEVELS - 1, Math.floor(Math.sqrt(part) * LEVELS));
  const busiest = columns.reduce((best, column) => (column.total > best.total ? column : best));
  const modes = [...busiest.counts].sort((a, b) => b[1] - a[1])[0];
  panel(host, {
    x: timeAxis(measured),
    y: { domain, ticks: logTicks(...domain), format: text.usTick, log: true },
    height: 300,
    summary: `Heat map of latency over time, ${columns.length} columns. Latencies lie between ${text.us(floor(lowest))} and ${text.us(heat.bounds_us[highest])}; most common is up to ${text.us(heat.bounds_us[modes?.[0] ?? 0])}.`,
    draw({ root, x, y }) {
      const paths = Array.from({ length: LEVELS }, () => "");
      for (const column of columns) {
        const a = x(column.from),
          width = Math.max(0.8, x(column.to) - a - 0.6);
        for (const [bucket, count] of column.counts) {
          const bottom = y(floor(bucket)),
            height = bottom - y(heat.bounds_us[bucket]) - 0.5;
          paths[level(share(column, count))] +=
            `M${a.toFixed(1)} ${bottom.toFixed(1)}h${width.toFixed(1)}v${(-height).toFixed(1)}h${(-width).toFixed(1)}z`;
        }
      }
      colours().forEach((fill, index) => {
        if (paths[index]) root.append(svg("path", { d: paths[index], fill }));
      });
      return columns
        .filter((column) => column.total)
        .map((column) => ({
          x: (column.from + column.to) / 2,
          at(pointerY) {
            const cells = [...column.counts].map(([bucket, count]) => ({
              bucket,
              count,
              distance:
                pointerY === undefined
                  ? -count
                  : Math.abs((y(floor(bucket)) + y(heat.bounds_us[bucket])) / 2 - pointerY),
            }));
            const { bucket, count } = cells.sort((p, q) => p.distance - q.distance)[0];
            return {
              title: `${text.seconds(column.from)} to ${text.seconds(column.to)}`,
              rows: [
                [
                  "latency",
                  `${text.us(bucket ? heat.bounds_us[bucket - 1] : 0)} to ${text.us(heat.bounds_us[bucket])}`,
                ],
                ["deliveries", text.count(count)],
                ["part of all then", `${digits(share(column, count) * 100)} %`],
              ],
            };
          },
        }));
    },
  });
  const scale = html("i");
  const paint = () => {
    scale.style.background = `linear-gradient(90deg, ${colours().join(",")})`;
  };
  paint();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  host.append(html("div", { class: "scale" }, "few", scale, "all of that time"));
  return host;
}

function charts(result) {
  const series = result.series,
    found = [];
  if (!series) return found;
  const rows = series.rows.filter((row) => row.seconds > 0);
  // A row that is a sliver of an interval would turn a handful of messages into a spike.
  const whole = rows.filter((row) => row.seconds >= 0.3 * series.interval_s);
  const timed = whole.filter((row) => row.latency_us || row.period === "measured");
  if (series.spectra) found.push(spectrum(series.spectra));
  if (series.heat) found.push(heatMap(series));
  const largest = (values) => Math.max(...values.filter((value) => value !== undefined && value !== null), 0);
  if (timed.some((row) => row.last_us)) {
    const host = card(
      "Last receiver",
      "When a message had reached everybody, from its planned time: the wait of the unluckiest receiver of each message. Messages that never reached everybody are not in it.",
    );
    overTime(host, {
      rows: timed,
      height: 260,
      format: text.us,
      y: { log: true, format: text.usTick },
      lines: [
        ["max", "max"],
        ["p99", "p99"],
        ["p50", "p50"],
      ].map(([name, key]) => ({ name, value: (row) => row.last_us && Math.max(1, row.last_us[key]) })),
      summary: `Time to the last receiver over time; the largest is ${text.us(largest(timed.map((row) => row.last_us?.max)))}.`,
    });
    found.push(host);
  }
  if (timed.some((row) => row.latency_us)) {
    const host = card(
      "Deliveries",
      "All deliveries by the second they arrived in, from the planned time of their message.",
    );
    overTime(host, {
      rows: timed,
      height: 260,
      format: text.us,
      y: { log: true, format: text.usTick },
      lines: [
        ["max", "max"],
        ["p99", "p99"],
        ["p50", "p50"],
      ].map(([name, key]) => ({ name, value: (row) => row.latency_us && Math.max(1, row.latency_us[key]) })),
      summary: `Latency of deliveries over time; the largest is ${text.us(largest(timed.map((row) => row.latency_us?.max)))}.`,
    });
    found.push(host);
  }
  if (whole.some((row) => row.sent || row.received)) {
    const host = card("Rates", "What went in, what came out, and what should have come out by then and had not.");
    const flow = (label, value, unit) =>
      overTime(host, {
        rows: whole,
        all: rows,
        height: 160,
        format: (n) => `${text.count(n)} ${unit}`,
        y: { format: text.countTick, label },
        lines: [{ name: label, value }],
        summary: `${label} over time, at most ${text.count(largest(whole.map(value)))}.`,
      });
    flow("messages sent per second", (row) => row.sent / row.seconds, "/s");
    flow("deliveries received per second", (row) => row.received / row.seconds, "/s");
    // What is under way when a row ends is no fault; what stays, or grows beyond a second's worth, is.
    const measured = whole.filter((row) => row.period === "measured");
    const backlog = measured.some((row) => row.missing_so_far > row.received / row.seconds) || result.missing > 0;
    if (backlog)
      overTime(host, {
        rows: whole,
        all: rows,
        height: 160,
        format: text.count,
        y: { format: text.countTick, label: "deliveries due and not received yet", least: 4 },
        lines: [{ name: "missing so far", colour: 1, dash: 0, value: (row) => row.missing_so_far }],
        summary: `Deliveries due and not received over time, at the end ${text.count(rows.filter((row) => row.period === "measured").at(-1)?.missing_so_far ?? 0)}.`,
      });
    found.push(host);
  }
  const connections = card(
    "Connections",
    series.visits?.length > 1
      ? "The ramp in detail, then what became of those that came and went."
      : "The ramp in detail, then the whole run.",
  );
  if (series.ramp.length > 1) {
    const points = series.ramp.map((point, index) => ({
      start_s: point.at_s,
      seconds: 0,
      connections: point.connections,
      failed: point.failed,
      index,
    }));
    overTime(connections, {
      rows: points,
      height: 170,
      format: text.count,
      y: { format: text.countTick, label: "open while connecting", least: 4 },
      lines: [
        { name: "open", value: (row) => row.connections },
        ...(points.some((row) => row.failed) ? [{ name: "failed", value: (row) => row.failed }] : []),
      ],
      summary: `Connections open while connecting: ${text.count(points.at(-1).connections)} after ${text.seconds(points.at(-1).start_s)}.`,
    });
  }
  if (series.visits?.length > 1) {
    const points = series.visits.map((point) => ({
      start_s: point.at_s,
      seconds: 0,
      connections: point.connections,
      failed: point.failed,
    }));
    const refused = points.some((point) => point.failed);
    overTime(connections, {
      rows: points,
      height: 190,
      format: text.count,
      y: { format: text.countTick, label: "open while some came and went", least: 4 },
      lines: [
        { name: "open", value: (row) => row.connections },
        ...(refused ? [{ name: "refused so far", value: (row) => row.failed }] : []),
      ],
      summary: `Connections open while some came and went: the fewest were ${text.count(Math.min(...points.map((point) => point.connections)))}, at the end ${text.count(points.at(-1).connections)}.`,
    });
  }
  const trouble = (key) => rows.some((row) => row[key] > 0);
  // A second is too long to see a storm: where its own curve says it all, this one would only contradict it.
  if (!(series.visits?.length > 1) || trouble("connections_lost") || trouble("connect_failed"))
    overTime(connections, {
      rows,
      all: rows,
      height: 170,
      format: text.count,
      y: { format: text.countTick, label: "open connections, whole run", least: 4 },
      lines: [
        { name: "open", value: (row) => row.connections },
        ...(trouble("connections_lost") ? [{ name: "lost", value: (row) => row.connections_lost }] : []),
        ...(trouble("connect_failed") ? [{ name: "failed", value: (row) => row.connect_failed }] : []),
      ],
      summary: `Open connections over the run, at most ${text.count(largest(rows.map((row) => row.connections)))}.`,
    });
  found.push(connections);
  const server = rows.some((row) => row.server_cores !== undefined);
  const machine = card(
    "CPU and memory",
    server
      ? "Cores used and the server's resident set. When the generator needs a core of its own, look at the verdict."
      : "Cores used by the generator. Name the server's processes with --server-pid to see its side.",
  );
  overTime(machine, {
    rows: whole,
    all: rows,
    height: 170,
    format: text.cores,
    y: { format: (n) => trim(n.toFixed(2)), label: "cores", least: 0.2 },
    lines: [
      ...(server ? [{ name: "server", value: (row) => row.server_cores }] : []),
      { name: "generator", colour: 1, dash: 1, value: (row) => row.generator_cores },
    ],
    summary: `Cores used over time: server at most ${digits(largest(rows.map((row) => row.server_cores)), 2)}, generator at most ${digits(largest(whole.map((row) => row.generator_cores)), 2)}.`,
  });
  if (rows.some((row) => row.server_rss_bytes))
    overTime(machine, {
      rows,
      all: rows,
      height: 170,
      format: text.bytes,
      y: { format: text.bytesTick, label: "server's resident set", base: 1024 },
      lines: [{ name: "resident", colour: 2, dash: 0, value: (row) => row.server_rss_bytes }],
      summary: `Resident set of the server over time, at most ${text.bytes(largest(rows.map((row) => row.server_rss_bytes)))}.`,
    });
  found.push(machine);
  return found.filter(Boolean);
}
