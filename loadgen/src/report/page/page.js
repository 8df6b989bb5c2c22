// The page around the charts.
const result = JSON.parse(document.getElementById("result").textContent);
const main = document.getElementById("page");
const look = (path) => path.split(".").reduce((value, key) => value?.[key], result);

function banner(kind, title, lines) {
  const list = lines.length ? html("ul", {}, ...lines.map((words) => html("li", {}, words))) : null;
  return html("div", { class: `banner ${kind}` }, html("strong", {}, title), list);
}

// Figures of distributions are times; a class of receivers may stand before them.
function bound({ threshold, value }) {
  const metric = threshold.split(/[<>=]/)[0].trim();
  if (/(^|\.)(from_intended|from_actual|first|half|last|spread|send_delay)\.\w+$/.test(metric)) return text.us(value);
  return metric.startsWith("bytes") ? text.bytes(value) : text.count(value);
}

function verdict() {
  const { valid, reasons, notes } = result.verdict;
  const missed = result.thresholds.filter((checked) => !checked.met);
  const figure = (checked) =>
    `${checked.threshold}: ${checked.value === null ? "this run has no such figure" : `it is ${bound(checked)}`}`;
  const met = `${result.thresholds.length} threshold${result.thresholds.length === 1 ? "" : "s"} met`;
  if (!valid) main.append(banner("bad", "\u2717 Invalid: do not rely on these figures", reasons));
  if (missed.length)
    main.append(
      banner("bad", `\u2717 ${missed.length} of ${result.thresholds.length} thresholds missed`, missed.map(figure)),
    );
  if (valid && !missed.length)
    main.append(banner("good", `\u2713 Valid${result.thresholds.length ? `, ${met}` : ""}`, []));
  const faults = (result.verdict.faults ?? []).map(({ name, text: words }) => `${name}: ${words}`);
  if (faults.length) main.append(banner("bad", "\u2717 What the server did wrong", faults));
  const troubles = result.connect.troubles.map(({ what, count }) => `${text.count(count)} \u00d7 ${what}`);
  if (troubles.length) main.append(banner("note", "Trouble on connections", troubles));
  if (notes.length) main.append(banner("note", "Read the figures with this in mind", notes));
}

function tile(name, value, more, bad) {
  if (value === undefined || value === null) return null;
  const [, number, unit] = /^(\S*?)(?:\u00a0(.*))?$/s.exec(value) ?? [null, value, null];
  return html(
    "div",
    { class: bad ? "tile bad" : "tile" },
    html("div", { class: "name" }, name),
    html("div", { class: "value" }, number, unit ? html("small", {}, ` ${unit}`) : null),
    more ? html("div", { class: "more" }, more) : null,
  );
}
const with_ = (value, format) => (value === undefined || value === null ? undefined : format(value));

function tiles() {
  const intended = look("latency_us.from_intended"),
    last = result.last_receiver_us,
    server = result.server;
  const faults = ["missing", "duplicate", "out_of_order", "corrupt", "misrouted"]
    .map((key) => [key, result[key]])
    .filter(([, n]) => n > 0);
  const found = [
    intended && tile("Latency p50", text.us(intended.p50), "from the planned time"),
    intended && tile("Latency p99", text.us(intended.p99), `p99.9 ${text.us(intended.p99_9)}`),
    last && tile("Last receiver p99", text.us(last.p99), `p50 ${text.us(last.p50)}`),
    intended && tile("Longest wait", text.us(intended.max), `${text.count(result.late)} late`),
    tile(
      "Deliveries",
      with_(result.deliveries_per_s, (n) =>
        `${text.count(Math.round(n)).replace(/ /, "\u00a0")}\u00a0/s`.replace(/\u00a0([MG])\u00a0/, "\u00a0$1"),
      ),
      with_(result.deliveries, (n) => `${text.count(n)} in all`),
    ),
    result.expected === undefined
      ? null
      : tile(
          "Missing",
          text.count(result.missing).replace(" ", "\u00a0"),
          faults.length
            ? faults
                .filter(([key]) => key !== "missing")
                .map(([key, n]) => `${text.count(n)} ${key.replaceAll("_", " ")}`)
                .join(", ") || `of ${text.count(result.expected)}`
            : `of ${text.count(result.expected)}, all in order`,
          faults.length > 0,
        ),
    tile(
      "Connections",
      text.count(result.connect.opened).replace(" ", "\u00a0"),
      `${text.count(Math.round(result.connect.per_s))}/s, ${result.connect.failed} failed, ${result.connect.lost} lost`,
      result.connect.failed + result.connect.lost > 0,
    ),
    result.latency_us
      ? null
      : tile(
          "Connect p99",
          with_(look("connect.phases_us.total.p99"), text.us),
          with_(look("connect.phases_us.total.p50"), (us) => `p50 ${text.us(us)}`),
        ),
    tile(
      "Negotiates",
      with_(look("negotiate.per_s"), (n) => `${text.count(Math.round(n))}\u00a0/s`),
      with_(look("negotiate.answered"), (n) => `${text.count(n)} answered`),
    ),
    tile(
      "Server CPU",
      with_(
        server?.cpu_us_per_delivery ?? look("negotiate.cpu_us_per_negotiate") ?? server?.cpu_us_per_connection,
        (us) => `${digits(us)}\u00a0\u00b5s`,
      ),
      server &&
        `per ${server.cpu_us_per_delivery !== undefined ? "delivery" : look("negotiate.cpu_us_per_negotiate") !== undefined ? "negotiate" : "connection"}, ${text.cores(server.cores)}`,
    ),
    tile(
      "Server memory",
      with_(server?.rss_bytes, text.bytes),
      server && `${text.bytes(Math.max(0, server.bytes_per_connection))} private per connection`,
    ),
  ];
  // What the command is about comes first.
  const shown = (intended ? [...found, ...verbTiles()] : [...verbTiles(), ...found]).filter(Boolean);
  // Rows of the same length, or nearly.
  const rows = Math.ceil(shown.length / 7);
  main.append(html("div", { class: "tiles", style: `--tiles: ${Math.ceil(shown.length / rows)}` }, ...shown));
}

function table(heads, lines) {
  const cell = (value, index) => {
    const { words = value, kind } = typeof value === "object" && value !== null ? value : {};
    return html("td", { class: kind ?? (heads[index]?.text !== undefined ? "text" : undefined) }, `${words}`);
  };
  const head = html(
    "tr",
    {},
    ...heads.map((name) =>
      html(
        "th",
        { scope: "col", class: name.text !== undefined ? "text" : name.words && "words" },
        name.text ?? name.words ?? name,
      ),
    ),
  );
  return html(
    "div",
    { class: "scroll" },
    html(
      "table",
      {},
      html("thead", {}, head),
      html("tbody", {}, ...lines.map((line) => html("tr", {}, ...line.map(cell)))),
    ),
  );
}

const PHASES = [
  ["tcp", "connecting: TCP"],
  ["negotiate", "connecting: negotiate"],
  ["upgrade", "connecting: upgrade"],
  ["subscribe", "connecting: subscribe"],
  ["handshake", "connecting: handshake"],
  ["total", "connecting: all of it"],
  ["back", "cut to open again"],
  ["close", "farewell to end"],
];
function distributions() {
  const named = [
    ["deliveries, from intended", look("latency_us.from_intended")],
    ["deliveries, from actual", look("latency_us.from_actual")],
    ["first receiver", result.first_receiver_us],
    ["half of the receivers", result.half_receiver_us],
    ["last receiver", result.last_receiver_us],
    ["first to last", result.spread_us],
    ["generator's own delay", look("generator.send_delay_us")],
    ...PHASES.map(([key, name]) => [name, look(`connect.phases_us.${key}`)]),
  ].filter(([, values]) => values?.count);
  if (!named.length) return null;
  const host = card(
    "Distributions",
    "Per message for first, half and last receiver, per connection for the phases of connecting.",
    true,
  );
  const points = ["p50", "p90", "p99", "p99_9", "max"];
  host.append(
    table(
      ["", "count", "p50", "p90", "p99", "p99.9", "max"],
      named.map(([name, values]) => [name, text.count(values.count), ...points.map((point) => text.us(values[point]))]),
    ),
  );
  return host;
}

function ledger() {
  if (result.expected === undefined) return null;
  const kinds = ["expected", "received", "missing", "duplicate", "out_of_order", "corrupt", "misrouted"];
  const measured = { ...result, received: result.deliveries };
  const value = (ledger_, kind) => {
    const n = ledger_[kind];
    if (n === undefined) return { words: "\u2013", kind: "zero" };
    return { words: text.count(n), kind: ["expected", "received"].includes(kind) ? undefined : n ? "bad" : "zero" };
  };
  const host = card("Ledger", `Kept for every receiver. Beyond the deadline: ${text.count(result.late)}.`);
  host.append(
    table(
      ["", "measured", "warm-up"],
      kinds.map((kind) => [kind.replaceAll("_", " "), value(measured, kind), value(result.warmup, kind)]),
    ),
  );
  return host;
}

function thresholds() {
  if (!result.thresholds.length) return null;
  const host = card(
    "Thresholds",
    "What the run had to reach. A broadcast must have a clean ledger even if nobody says so.",
  );
  const line = ({ threshold, value, met }) => [
    threshold,
    value === null ? "none" : bound({ threshold, value }),
    { words: met ? "\u2713 met" : "\u2717 missed", kind: met ? "good" : "bad" },
  ];
  const found = table(["", "value", ""], result.thresholds.map(line));
  found.classList.add("few");
  host.append(found);
  return host;
}

function environment() {
  const { run, server, generator } = result,
    host = run?.host ?? {};
  const lines = (pairs) =>
    table(
      ["", { text: "" }],
      pairs.filter(([, value]) => value !== undefined && value !== null && value !== ""),
    );
  const load = card("Generator", "This side: where the receivers and publishers were.");
  load.append(
    lines([
      ["machine", host.name],
      ["processor", host.cpu_model && `${host.cpu_model}, ${host.cpus} logical`],
      ["governor", host.cpu_governor],
      ["memory", with_(host.memory_bytes, text.bytes)],
      ["kernel", host.kernel && `${host.kernel} ${host.architecture}`],
      ["load before", host.load_average_1m],
      ["open files", with_(host.open_files_max, text.count)],
      ["version", run?.version],
      [
        "threads",
        `${generator.workers}${generator.cores.length ? ` on cores ${generator.cores.join(", ")}` : ", not pinned"}`,
      ],
      [
        "busiest thread",
        `${(generator.busy_ratio * 100).toFixed(0)} % busy, ${(generator.waiting_ratio * 100).toFixed(0)} % waiting for a CPU`,
      ],
      ["own CPU", `${digits(generator.cpu_s)} s`],
    ]),
  );
  const other = card(
    "Server",
    server
      ? "The other side, as this machine sees its processes."
      : "The other side. Nothing is known of it but its address: it is elsewhere, or --server-pid was not given.",
  );
  other.append(
    lines([
      ["target", result.target],
      ["spoken", `${result.dialect} over ${result.transport}`],
      ...(run?.server_processes ?? []).flatMap(({ name, cpus_allowed, open_files_max }) => [
        ["process", name],
        ["may run on cores", cpus_allowed],
        ["open files", with_(open_files_max, text.count)],
      ]),
      ...(server
        ? [
            ["machine", "the generator's"],
            ["threads", server.threads],
            ["CPU", `${digits(server.cpu_s)} s, ${text.cores(server.cores)}`],
            ["waiting for a CPU", `${(server.waiting_ratio * 100).toFixed(0)} % of the time, its most delayed thread`],
            ["resident", text.bytes(server.rss_bytes)],
            ["private", text.bytes(server.private_bytes)],
          ]
        : []),
    ]),
  );
  return [load, other];
}

function repeat() {
  if (!result.run?.command) return null;
  const host = card(
    "To repeat",
    "The same seed gives the same plan. Put back what is REDACTED; choose a new folder for --out.",
    true,
  );
  const command = html("pre", {}, result.run.command);
  const button = html("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(result.run.command);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command);
      button.textContent = "Selected: press Ctrl+C";
    }
  });
  host.append(command, button);
  return host;
}

function everything() {
  const host = card("All figures", "What the charts are drawn from, and what they leave out.", true);
  const flat = [];
  const walk = (name, value) => {
    if (value !== null && typeof value === "object" && !Array.isArray(value))
      Object.entries(value).forEach(([key, inner]) => walk(name ? `${name}.${key}` : key, inner));
    else if (!Array.isArray(value) || value.every((inner) => typeof inner !== "object")) flat.push([name, `${value}`]);
  };
  Object.entries(result)
    .filter(([key]) => key !== "series")
    .forEach(([key, value]) => walk(key, value));
  host.append(
    html(
      "details",
      {},
      html("summary", {}, "Result, field by field"),
      table([{ text: "field" }, { text: "value" }], flat),
    ),
  );
  const rows = result.series?.rows;
  if (rows?.length) {
    const heads = [
      "from",
      "length",
      "period",
      "sent",
      "received",
      "missing so far",
      "p50",
      "p99",
      "max",
      "last p99",
      "open",
      "lost",
      "server cores",
      "resident",
    ];
    const us = (value) => with_(value, text.us) ?? "";
    const line = (row) => [
      text.seconds(row.start_s),
      text.seconds(row.seconds),
      row.period,
      text.count(row.sent),
      text.count(row.received),
      text.count(row.missing_so_far),
      us(row.latency_us?.p50),
      us(row.latency_us?.p99),
      us(row.latency_us?.max),
      us(row.last_us?.p99),
      text.count(row.connections),
      text.count(row.connections_lost),
      with_(row.server_cores, (n) => n.toFixed(2)) ?? "",
      with_(row.server_rss_bytes, text.bytes) ?? "",
    ];
    host.append(
      html("details", {}, html("summary", {}, `Timeline, ${rows.length} rows`), table(heads, rows.map(line))),
    );
  }
  return host;
}

function setup() {
  const asked = [
    `${text.count(result.connections)} receivers`,
    with_(result.rate, (n) => `${text.count(n)} msg/s`) ??
      (result.pace === "window" ? "as fast as all have received (window)" : undefined),
    with_(result.payload_bytes, text.bytes),
    result.burst > 1 ? `bursts of ${result.burst}` : undefined,
    result.publishers > 1 ? `${result.publishers} publishers` : undefined,
    `${result.dialect} over ${result.transport}`,
    `seed ${result.seed}`,
  ]
    .filter((words) => words !== undefined)
    .join(" \u00b7 ");
  main.append(
    html("h1", {}, `${result.scenario ? `scenario ${result.scenario}` : result.command} against ${result.target}`),
  );
  const when =
    result.run &&
    `${result.run.started_at.replace("T", " ").replace(/\.\d+Z$/, " UTC")} \u00b7 took ${text.seconds(result.run.elapsed_s)}`;
  main.append(html("p", { class: "lead" }, html("b", {}, asked), when ? html("br") : null, when ?? null));
}

function draw() {
  const section = (title, cards) => {
    const found = cards.filter(Boolean);
    // Two in a row; one that would stand alone takes the whole.
    let alone = null;
    for (const next of [...found, null]) {
      if (next && !next.classList.contains("wide")) alone = alone ? null : next;
      else {
        alone?.classList.add("wide");
        alone = null;
      }
    }
    if (found.length) main.append(html("h2", { class: "section" }, title), html("div", { class: "cards" }, ...found));
  };
  setup();
  verdict();
  tiles();
  if (!result.series)
    main.append(
      banner("note", "No charts: this result was not kept over time", ["measure with --out DIR to have them"]),
    );
  section("Over time", [...charts(result), drift()]);
  section("Figures", [guests(), slow(), ledger(), thresholds(), classes(), distributions()]);
  section("Environment", [...environment(), repeat(), everything()]);
  main.append(
    html(
      "footer",
      {},
      `fanfare-loadgen ${result.run?.version ?? ""} \u00b7 ${result.schema} \u00b7 this page needs no network; the result is embedded in it.`,
    ),
  );
}
draw();
