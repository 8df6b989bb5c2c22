"""Writes docs/compatibility.md from the results of the suites (JUnit XML), or checks that the page says the same.

compatibility.py --results DIRECTORY (--write PAGE | --check PAGE)

A suite without results is left as the page has it, and named."""

import argparse
import difflib
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).parent
WAYS = [
    ("JSON", "WebSockets"),
    ("JSON", "ServerSentEvents"),
    ("JSON", "LongPolling"),
    ("MessagePack", "WebSockets"),
    ("MessagePack", "LongPolling"),
]
YES, NO, UNTESTED, NONE = "yes", "**no**", "not tested", "–"

CALLS = "calls, results, errors"
MESSAGES = "messages from the server"
GROUPS = "groups, users, single connections, broadcasts"
DOWN = "streams from the server"
UP = "streams to the server"
ASKED = "client results (the server asks)"
LARGE = "large messages"
BINARY = "binary values"
TOKENS = "bearer tokens"
REDIRECTS = "redirects of negotiate"
KEEP_ALIVE = "keep-alive"
CLOSED = "closed by the server: the client is told"
RECONNECT = "automatic reconnect"
STATEFUL = "stateful reconnect"
SKIP = "without negotiation (skipNegotiation)"
TLS = "TLS (`https://`, `wss://`)"
FEATURES = [CALLS, MESSAGES, GROUPS, DOWN, UP, ASKED, LARGE, BINARY, TOKENS, REDIRECTS, KEEP_ALIVE, CLOSED, RECONNECT, STATEFUL, SKIP, TLS]


def node_version(package):
    return json.loads((HERE / "js/package.json").read_text())["devDependencies"][package]


def python_version(package):
    return re.search(rf"^{package}==(\S+)$", (HERE / "python/requirements.txt").read_text(), re.M)[1]


def java_version():
    return re.search(r"<artifactId>signalr</artifactId>\s*<version>([^<]+)<", (HERE / "java/pom.xml").read_text())[1]


def only(protocols=("JSON", "MessagePack"), transports=("WebSockets", "ServerSentEvents", "LongPolling")):
    return lambda protocol, transport: protocol in protocols and transport in transports


# A client: where its results are, the ways it has, for each feature the tests that judge it ({p}: the protocol, {t}: the
# transport, {v}: both), and for features it lacks where it lacks them and why.
STATEFUL_WS = ("is for WebSockets alone", lambda p, t: t != "WebSockets")
SKIP_WS = ("is for WebSockets alone", lambda p, t: t != "WebSockets")
BINARY_TEXT = ("JSON has none: byte arrays are base64 strings", lambda p, t: p == "JSON")
EVERYWHERE = lambda p, t: True  # noqa: E731

CLIENTS = [
    {
        "name": "JavaScript in Node",
        "version": f"`@microsoft/signalr` {node_version('@microsoft/signalr')}, "
                   f"`@microsoft/signalr-protocol-msgpack` {node_version('@microsoft/signalr-protocol-msgpack')}",
        "results": "javascript.xml",
        "ways": only(),
        "tests": {
            CALLS: ["values: {v} > ", "errors: {v} > ", "the connection: {v} > "],
            MESSAGES: ["sends to the caller: {v} > "],
            GROUPS: ["addressing: {v} > ", "order: {v} > "],
            DOWN: ["streams to the client: {v} > "],
            UP: ["streams of the client: {v} > "],
            ASKED: ["client results: {v} > "],
            LARGE: ["sizes: {v} > "],
            BINARY: ["values: {v} > .*[bB]inary"],
            TOKENS: ["authorized: {v} > "],
            REDIRECTS: ["life > {v} > a redirect is followed"],
            KEEP_ALIVE: ["life > {v} > /testhub-fast keeps"],
            CLOSED: ["life > {v} > Abort closes"],
            RECONNECT: ["automatic reconnect > .*: {v}$", "the server goes away > .*: {v}$"],
            STATEFUL: [r"stateful reconnect > the stock client: {p}, \d shards > ", r"50 clients, .*: {p}, \d shards$"],
            SKIP: ["[^>]*: {v}, skipNegotiation > "],
            TLS: ["TLS: {v} > "],
        },
        "lacks": {BINARY: BINARY_TEXT, STATEFUL: STATEFUL_WS, SKIP: SKIP_WS},
    },
    {
        "name": "JavaScript in a browser",
        "version": f"`@microsoft/signalr` {node_version('@microsoft/signalr')}, "
                   f"`@microsoft/signalr-protocol-msgpack` {node_version('@microsoft/signalr-protocol-msgpack')}; headless Chromium",
        "results": "browser.xml",
        "ways": only(),
        "tests": {
            CALLS: ["browser: {v} > calls, results and errors"],
            MESSAGES: ["browser: {v} > calls, results and errors", "browser: {v} > broadcasts"],
            GROUPS: ["browser: {v} > broadcasts and groups"],
            DOWN: ["browser: {v} > streams from the server"],
            UP: ["browser: {v} > streams to the server"],
            ASKED: ["browser: {v} > client results"],
            LARGE: ["browser: {v} > large messages"],
            BINARY: ["browser: {v} > calls, results and errors"],
            TOKENS: ["browser: {v} > tokens"],
            REDIRECTS: ["browser: {v} > redirects"],
            KEEP_ALIVE: ["browser: {v} > keep-alive"],
            CLOSED: ["browser: {v} > closed by the server"],
            RECONNECT: ["browser: {v} > automatic reconnect", "browser: {v} > a server that restarts"],
            STATEFUL: ["browser: {v} > stateful reconnect"],
            SKIP: ["browser: {v}, skipNegotiation > "],
        },
        "lacks": {BINARY: BINARY_TEXT, STATEFUL: STATEFUL_WS, SKIP: SKIP_WS},
    },
    {
        "name": "Java",
        "version": f"`com.microsoft.signalr:signalr` {java_version()}",
        "results": "java",
        "ways": only(("JSON",), ("WebSockets", "LongPolling")),
        "note": "Its MessagePack, `signalr-messagepack`, is another package and has not been tried.",
        "tests": {
            CALLS: [r"calls and results\[\d+\] {t}$", r"errors of calls\[\d+\] {t}$"],
            MESSAGES: [r"messages from the server\[\d+\] {t}$"],
            GROUPS: [r"groups, .*\[\d+\] {t}$", r"broadcasts\[\d+\] {t}$", r"tokens and users\[\d+\] {t}$"],
            DOWN: [r"streams from the server\[\d+\] {t}$"],
            UP: [r"streams to the server.*\[\d+\] {t}$"],
            ASKED: [r"client results\[\d+\] {t}$"],
            LARGE: [r"large messages\[\d+\] {t}$"],
            TOKENS: [r"tokens and users\[\d+\] {t}$"],
            REDIRECTS: [r"redirects\[\d+\] {t}$"],
            KEEP_ALIVE: [r"keep-alive\[\d+\] {t}$"],
            CLOSED: [r"closed by the server\[\d+\] {t}$", r"a server that restarts\[\d+\] {t}$"],
            SKIP: [r".*\[\d+\] skipNegotiation$"],
        },
        "lacks": {
            UP: ("the client posts a call and its items side by side, so that they overtake one another", lambda p, t: t == "LongPolling"),
            BINARY: BINARY_TEXT,
            RECONNECT: ("the client has none", EVERYWHERE),
            STATEFUL: ("the client has none", EVERYWHERE),
            SKIP: SKIP_WS,
        },
    },
    {
        "name": "Python, pysignalr",
        "version": f"`pysignalr` {python_version('pysignalr')}",
        "results": "python.xml",
        "ways": only(transports=("WebSockets",)),
        "tests": {
            CALLS: [r"test_pysignalr::test_values\[{p}\]", r"test_pysignalr::test_errors\[{p}\]"],
            MESSAGES: [r"test_pysignalr::test_send_and_receive\[{p}\]", r"test_pysignalr::test_order\[{p}\]"],
            GROUPS: [r"test_pysignalr::test_addressing\[{p}\]"],
            DOWN: [r"test_pysignalr::test_streams\[{p}\]"],
            UP: [r"test_pysignalr::test_upload_streams\[{p}\]"],
            ASKED: [r"test_pysignalr::test_client_results\[{p}\]"],
            LARGE: [r"test_pysignalr::test_values\[{p}\]"],
            BINARY: ["test_pysignalr::test_binary$"],
            TOKENS: [r"test_pysignalr::test_authorization\[{p}\]"],
            KEEP_ALIVE: [r"test_pysignalr::test_keep_alive\[{p}\]"],
        },
        "lacks": {
            BINARY: BINARY_TEXT,
            RECONNECT: ("the client opens its old connection again, which is gone; the application has to run it anew", EVERYWHERE),
            STATEFUL: ("the client has none", EVERYWHERE),
            SKIP: ("the client always negotiates", EVERYWHERE),
        },
    },
    {
        "name": "Python, signalrcore",
        "version": f"`signalrcore` {python_version('signalrcore')}",
        "results": "python.xml",
        "ways": lambda p, t: p == "JSON" or t == "WebSockets",
        "tests": {
            CALLS: [r"{s}::test_values\[{n}\]", r"{s}::test_errors\[{n}\]"],
            MESSAGES: [r"{s}::test_send_and_receive\[{n}\]"],
            GROUPS: [r"{s}::test_addressing\[{n}\]"],
            DOWN: [r"test_signalrcore::test_streams\[{n}\]"],
            UP: [r"test_signalrcore::test_upload_streams\[{n}\]"],
            BINARY: ["test_signalrcore::test_binary$"],
            TOKENS: [r"test_signalrcore::test_authorization\[{n}\]", "{s}::test_authorization$"],
            KEEP_ALIVE: [r"test_signalrcore::test_keep_alive\[{n}\]"],
            CLOSED: [r"test_signalrcore::test_close_is_told\[{n}\]", "{s}::test_close_is_told$"],
            RECONNECT: [r"test_signalrcore::test_reconnects_to_a_restarted_server\[{n}\]"],
            SKIP: [r"test_signalrcore::.*\[{p}-skip\]"],
        },
        "lacks": {
            BINARY: BINARY_TEXT,
            TOKENS: ("the client polls without its token", lambda p, t: t == "LongPolling"),
            CLOSED: ("the client goes on polling whatever the answers are", lambda p, t: t == "LongPolling"),
            STATEFUL: ("the client has none", EVERYWHERE),
            SKIP: SKIP_WS,
        },
        "note": "MessagePack over long polling cannot be made with it.",
    },
]


def outcomes(path):
    """What has run: (name, passed), the name with its suites before it."""
    files = sorted(path.glob("*.xml")) if path.is_dir() else [path] if path.exists() else []
    found = []

    def walk(node, above):
        for child in node:
            name = child.get("name", "")
            if child.tag == "testsuite":
                # pytest and surefire have one suite around all.
                walk(child, above if name == "pytest" or "." in name else [*above, name])
            elif child.tag == "testcase":
                module = child.get("classname", "")
                before = [*above] if ".python." not in module else []
                full = f"{module.split('.')[-1]}::{name}" if ".python." in module else " > ".join([*before, name])
                found.append((full, not any(inner.tag in ("failure", "error", "skipped") for inner in child)))

    for file in files:
        root = ElementTree.parse(file).getroot()
        walk([root] if root.tag == "testsuite" and "." not in root.get("name", "") else root, [])
    return found


def cell(client, feature, protocol, transport, ran, reasons):
    if feature in client["lacks"]:
        reason, where = client["lacks"][feature]
        if where(protocol, transport):
            reasons.setdefault(feature, reason)
            return NONE
    p = protocol.lower()
    names = {
        "p": p,
        "t": transport,
        "v": f"{p}, {transport}",
        "s": "test_signalrcore" if transport == "WebSockets" else "test_signalrcore_transports",
        "n": f"{p}-negotiate" if transport == "WebSockets" else transport,
    }
    judged = []
    for pattern in client["tests"].get(feature, []):
        for key, value in names.items():
            pattern = pattern.replace("{" + key + "}", value)
        judged += [passed for name, passed in ran if re.match(pattern, name)]
    return (YES if all(judged) else NO) if judged else UNTESTED


def section(client, ran):
    ways = [way for way in WAYS if client["ways"](*way)]
    reasons = {}
    rows = [
        [feature, *(cell(client, feature, protocol, transport, ran, reasons) for protocol, transport in ways)]
        for feature in FEATURES
    ]
    lines = [f"## {client['name']}", "", client["version"] + ".", ""]
    lines.append("| | " + " | ".join(f"{protocol}, {transport}" for protocol, transport in ways) + " |")
    lines.append("|---|" + "---|" * len(ways))
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    notes = [f"{NONE} {feature}: {reason}." for feature, reason in reasons.items()] + ([client["note"]] if "note" in client else [])
    if notes:
        lines += [""] + [f"- {note}" for note in notes]
    return "\n".join(lines) + "\n"


HEAD = f"""# Does my client work?

Clients as their makers publish them, nothing changed, against the example server, on every run of `.ci/run`. This page
is made from the results by `engine/tests/clients/compatibility.py`; a run that finds another answer fails.

- **{YES}**: every test of it passed. {NO}: one failed.
- **{NONE}**: the protocol or the client has no such thing; why is below its table.
- **{UNTESTED}**: there is no test of it with this client.

Versions are those that were run. The .NET client has not been run yet.

"""


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--results", type=Path, required=True)
    what = arguments.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path)
    what.add_argument("--check", type=Path)
    options = arguments.parse_args()
    page = options.write or options.check
    old = page.read_text() if page.exists() else ""
    sections = []
    left = []
    for client in CLIENTS:
        ran = outcomes(options.results / client["results"])
        if ran:
            sections.append(section(client, ran))
            continue
        left.append(client["name"])
        kept = re.search(rf"^## {re.escape(client['name'])}\n.*?(?=^## |\Z)", old, re.M | re.S)
        if not kept:
            sys.exit(f"compatibility: no results of {client['name']}, and nothing of it on {page.name}")
        sections.append(kept[0].rstrip("\n") + "\n")
    text = HEAD + "\n".join(sections)
    if options.write:
        page.write_text(text)
    elif text != old:
        print("\n".join(difflib.unified_diff(old.splitlines(), text.splitlines(), "the page", "the runs", n=1, lineterm="")))
        sys.exit(f"compatibility: {page.name} says something else than the runs; --write makes it anew")
    answers = sum(text.count(f" {answer} |") for answer in (YES, NO))
    print(f"compatibility: {answers} answers" + (f"; not run, left as they were: {', '.join(left)}" if left else ""))


if __name__ == "__main__":
    main()
