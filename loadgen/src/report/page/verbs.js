// What only some commands measure: connections that come and go, slow readers, drift, classes of receivers.
function verbTiles() {
  const { guests, stalled, soak } = result;
  const slope = (bytes) => `${bytes < 0 ? "\u2212" : "+"}${text.bytes(Math.abs(bytes))}/h`;
  return [
    guests?.cut
      ? tile(
          "All back after",
          guests.all_back_s === undefined ? "never" : text.us(guests.all_back_s * 1e6),
          `${text.count(guests.away)} away at the end`,
          guests.away > 0,
        )
      : null,
    guests &&
      tile(
        guests.cut ? "Cut" : "Lives ended",
        text.count(guests.cut || guests.lives),
        `${text.count(guests.returned)} came back`,
      ),
    guests &&
      tile(
        "Refused",
        text.count(guests.refused),
        guests.refused
          ? `at most ${text.count(guests.refused_per_s_max)} in a second`
          : `fewest open ${text.count(guests.open_min)}`,
      ),
    stalled &&
      tile(
        "Slow readers",
        text.count(stalled.connections),
        `${text.count(stalled.seen_closed + stalled.ended)} seen to end`,
      ),
    soak &&
      tile(
        "Drift of last p99",
        with_(soak.last_p99_ratio, (ratio) => `${digits(ratio)}\u00a0\u00d7`),
        "last third against the first",
      ),
    soak && tile("Memory drift", with_(soak.server_private_bytes_per_h, slope), "private, the server's"),
  ];
}

// Two columns, a name and a figure.
function pairs(lines) {
  const found = table(["", ""], lines);
  found.classList.add("pairs");
  found.querySelector("thead").remove();
  return found;
}

function guests() {
  const { guests: found } = result;
  if (!found) return null;
  const host = card(
    "Connections that came and went",
    "They have no line in the ledger: nobody can tell what they should have received while they were away.",
  );
  const line = (name, value, bad) => [name, { words: value, kind: bad ? "bad" : undefined }];
  host.append(
    pairs([
      line("how many", text.count(found.guests)),
      ...(found.cut ? [line("cut at once by the generator", text.count(found.cut))] : []),
      ...(found.lives ? [line("lives that ended with a farewell", text.count(found.lives))] : []),
      line("ended by the server", text.count(found.dropped), found.dropped),
      line("came back", text.count(found.returned)),
      line("attempts to come back that failed", text.count(found.refused)),
      line("most of them in one second", text.count(found.refused_per_s_max)),
      line("do not try any more", text.count(found.gave_up), found.gave_up),
      line("fewest connections open", text.count(found.open_min)),
      line("away at the end", text.count(found.away), found.away),
      ...(result.guest_deliveries === undefined
        ? []
        : [line("messages they received", text.count(result.guest_deliveries))]),
    ]),
  );
  return host;
}

function slow() {
  const { stalled } = result;
  if (!stalled) return null;
  const host = card(
    "Slow readers",
    "The victims. Everything else on this page is about the bystanders, who must not notice them. A close behind unread bytes cannot be seen from here: ask the server's own figures.",
  );
  const each = stalled.published_payload_bytes;
  host.append(
    pairs([
      ["readers", text.count(stalled.connections)],
      ["published to each", `${text.bytes(each)} of payload`],
      ["read, all together", `${text.bytes(stalled.bytes_read)}, ${text.count(stalled.messages_read)} messages`],
      ["not as sent", { words: text.count(stalled.corrupt), kind: stalled.corrupt ? "bad" : undefined }],
      ["unread in their receive queues", text.bytes(stalled.unread_bytes)],
      ["the server was seen to end", text.count(stalled.seen_closed)],
      ["ended while being read", text.count(stalled.ended)],
      ...(stalled.receive_buffer_bytes === undefined
        ? []
        : [["receive buffer asked for", text.bytes(stalled.receive_buffer_bytes)]]),
    ]),
  );
  return host;
}

function classes() {
  if (!result.classes?.length) return null;
  const host = card(
    "Classes of receivers",
    "Receivers that are alike, apart from the others. Those that come and go have no line in the ledger.",
    true,
  );
  const line = ({ name, connections, dialect, transport, steady, ledger, late, latency_us, last_receiver_us }) => [
    name,
    text.count(connections),
    { words: `${dialect} over ${transport}`, kind: "words" },
    steady ? text.count(ledger.received) : "\u2013",
    steady ? { words: text.count(ledger.missing), kind: ledger.missing ? "bad" : "zero" } : "\u2013",
    steady ? { words: text.count(late), kind: late ? "bad" : "zero" } : "\u2013",
    steady && latency_us.count ? text.us(latency_us.p50) : "\u2013",
    steady && latency_us.count ? text.us(latency_us.p99) : "\u2013",
    steady && last_receiver_us.count ? text.us(last_receiver_us.p99) : "\u2013",
  ];
  host.append(
    table(
      ["", "how many", { words: "spoken" }, "received", "missing", "late", "p50", "p99", "last p99"],
      result.classes.map(line),
    ),
  );
  return host;
}

// The points of a soak, each an interval of its own.
function drift() {
  const points = result.soak?.points;
  if (!points || points.length < 2) return null;
  const rows = points.map((point, index) => ({
    ...point,
    start_s: index ? points[index - 1].at_s : 0,
    seconds: point.at_s - (index ? points[index - 1].at_s : 0),
  }));
  const host = card(
    "Drift",
    "Last receivers and private memory by interval. Time is counted from the beginning of the measured period.",
    true,
  );
  const most = (key) => Math.max(...points.map((point) => point[key] ?? 0));
  overTime(host, {
    rows,
    height: 200,
    format: text.us,
    y: { log: true, format: text.usTick, label: "last receiver" },
    since: "the measured period began",
    lines: [
      { name: "p99", value: (row) => (row.messages ? Math.max(1, row.last_p99_us) : null) },
      { name: "p50", value: (row) => (row.messages ? Math.max(1, row.last_p50_us) : null) },
    ],
    summary: `Time to the last receiver by interval; the largest p99 is ${text.us(most("last_p99_us"))}.`,
  });
  const server = points.some((point) => point.server_private_bytes !== undefined);
  overTime(host, {
    rows,
    height: 200,
    format: text.bytes,
    y: { format: text.bytesTick, label: "private memory", base: 1024 },
    since: "the measured period began",
    lines: [
      ...(server ? [{ name: "server", value: (row) => row.server_private_bytes }] : []),
      { name: "generator", colour: 1, dash: 1, value: (row) => row.own_private_bytes },
    ],
    summary: `Private memory by interval; the server's is at most ${text.bytes(most("server_private_bytes"))}.`,
  });
  return host;
}
