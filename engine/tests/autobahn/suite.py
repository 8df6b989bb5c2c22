"""Runs the Autobahn test suite's fuzzing client against /ws-echo and judges its report; with --deflate the cases of
permessage-deflate, against /ws-echo-deflate.

The suite is a Python 2.7 program. Where no Python 2.7 is found this says so and exits 3, or 0 with --optional;
`echo_cases.py` beside it covers the same ground and needs nothing.

usage: python3 suite.py --url ws://127.0.0.1:9000/ws-echo --work DIRECTORY [--deflate] [--optional]
"""

import argparse
import glob
import json
import os
import pathlib
import shutil
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).parent
# The last release that still makes Python 2.7 environments.
VIRTUALENV = "virtualenv==20.21.1"
AGENT = "fanfare"
# permessage-deflate, which not every endpoint has.
DEFLATE = ["12.*", "13.*"]
SETUP_S_MAX = 300
RUN_S_MAX = 420
DEFLATE_RUN_S_MAX = 1200
# Strict: a case that Autobahn merely tolerates (NON-STRICT) is a failure here.
GOOD = {"OK", "INFORMATIONAL"}
# The client asks for a server's window of 2^9 bytes. Such offers are declined (protocol::ws::deflate), as a server may.
DECLINED = ["13.3.", "13.5."]
UNIMPLEMENTED = "UNIMPLEMENTED"
NO_PYTHON_2 = 3


def python_2():
    """A Python 2.7 that really starts: version managers put commands on the path that do not."""
    candidates = [os.environ.get("AUTOBAHN_PYTHON"), shutil.which("python2.7")]
    manager = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    candidates += sorted(glob.glob(f"{manager}/versions/2.7*/bin/python2.7"), reverse=True)
    for candidate in filter(None, candidates):
        try:
            said = subprocess.run(
                [candidate, "-c", "import sys; print(sys.version_info[:2] == (2, 7))"],
                capture_output=True, text=True, timeout=20, check=False,
            )
        except OSError:
            continue
        if said.returncode == 0 and said.stdout.strip() == "True":
            return candidate
    return None


def install(python, work):
    """An environment of its own under `work`; answers the path of `wstest`."""
    home = work / "autobahn-env"
    wstest = home / "bin" / "wstest"
    if not wstest.exists():
        maker = work / "virtualenv-env"
        venv.create(maker, with_pip=True, clear=True)
        quiet = ["-q", "--disable-pip-version-check"]
        subprocess.run([maker / "bin/pip", "install", *quiet, VIRTUALENV], check=True, timeout=SETUP_S_MAX)
        subprocess.run([maker / "bin/virtualenv", "-q", "-p", python, home], check=True, timeout=SETUP_S_MAX)
        subprocess.run(
            [home / "bin/pip", "install", *quiet, "-r", HERE / "requirements.txt"], check=True, timeout=SETUP_S_MAX
        )
    return wstest


def judge(report):
    """Prints every case that is not good; answers the counts: good, of offers that were declined, failed."""
    with open(report / "index.json", encoding="utf-8") as index:
        cases = json.load(index)[AGENT]
    failed = declined = 0
    for case, outcome in sorted(cases.items(), key=lambda item: [int(part) for part in item[0].split(".")]):
        behaviour, close = outcome["behavior"], outcome["behaviorClose"]
        if behaviour in GOOD and close in GOOD:
            continue
        if behaviour == UNIMPLEMENTED and close in GOOD and any(case.startswith(group) for group in DECLINED):
            declined += 1
            continue
        failed += 1
        with open(report / outcome["reportfile"], encoding="utf-8") as details:
            found = json.load(details)
        print(f"case {case}: {behaviour}, close {close}")
        for name in ("description", "expectation", "result", "resultClose"):
            print(f"  {name}: {found.get(name)}")
    return len(cases) - failed - declined, declined, failed


def main():
    """Installs, runs, judges; 0 only if every case is good."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--deflate", action="store_true", help="the cases of permessage-deflate, and no others")
    parser.add_argument("--optional", action="store_true", help="no Python 2.7 is no failure")
    options = parser.parse_args()
    python = python_2()
    if python is None:
        print("autobahn: no Python 2.7 here, the suite itself was not run (set AUTOBAHN_PYTHON to one)")
        return 0 if options.optional else NO_PYTHON_2
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    wstest = install(python, work)
    report = work / "autobahn-report"
    shutil.rmtree(report, ignore_errors=True)
    spec = work / "autobahn-spec.json"
    server = {"agent": AGENT, "url": options.url}
    spec.write_text(
        json.dumps({
            "outdir": str(report), "servers": [server], "cases": DEFLATE if options.deflate else ["*"],
            "exclude-cases": [] if options.deflate else DEFLATE, "exclude-agent-cases": {},
        }),
        encoding="utf-8",
    )
    log_path = work / "logs" / "autobahn-suite.log"
    log_path.parent.mkdir(exist_ok=True)
    with open(log_path, "w", encoding="utf-8") as log:
        limit_s = DEFLATE_RUN_S_MAX if options.deflate else RUN_S_MAX
        command = [wstest, "-m", "fuzzingclient", "-s", spec]
        try:
            subprocess.run(command, stdout=log, stderr=log, check=True, timeout=limit_s, cwd=work)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            print(f"autobahn: the suite did not end well: {error}; its log is {log_path}")
            return 1
    passed, declined, failed = judge(report)
    print(f"autobahn: {passed} passed, {declined} of declined offers, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
