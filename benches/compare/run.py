#!/usr/bin/env python3
"""Measures Fanfare beside the limit of the machine and other servers, one after the other, each pinned to one core and the
client to another. README.md in this folder says what has to be there."""

import argparse
import http.client
import json
import os
import platform
import re
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import median
from xml.sax.saxutils import escape

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
ROOT = HERE.parent.parent
DOCS = ROOT / "docs"
# Where cargo and this script put what they build.
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
RELEASE = BUILT / "release"
WORK = BUILT / "compare"
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
HEADING = "## `compare`\n"
BEGIN, END = "<!-- compare: begin -->", "<!-- compare: end -->"
PATIENCE = 30  # seconds for a server to listen, or to end


class Missing(Exception):
    """A server that can't be had here, and why."""


@dataclass(frozen=True)
class Scenario:
    """What the client does; `in_flight` 0: it only connects."""

    name: str
    members: int
    rooms: int
    in_flight: int

    def scaled(self, divisor: int) -> "Scenario":
        return Scenario(self.name, max(self.members // divisor, 1), max(self.rooms // divisor, 1), self.in_flight)

    @property
    def title(self) -> str:
        if not self.in_flight:
            return f"{self.members:,} idle"
        rooms = "1 room" if self.rooms == 1 else f"{self.rooms:,} rooms"
        return f"{rooms} × {self.members // self.rooms:,}, {self.in_flight} in flight"


SCENARIOS = [
    Scenario("one", 1_000, 1, 1),
    Scenario("many", 1_000, 1, 64),
    Scenario("rooms", 2_000, 1_000, 64),
    Scenario("wide", 10_000, 1, 1),
    Scenario("idle", 10_000, 1, 0),
]


@dataclass(frozen=True)
class Column:
    """A figure of a scenario, lower being better."""

    scenario: Scenario
    title: str
    read: Callable[[dict], float | None]


def columns(scenarios: Iterable[Scenario]) -> list[Column]:
    found = []
    for it in scenarios:
        if it.in_flight:
            found.append(Column(it, f"{it.title}: µs of CPU a delivery", lambda run: run["cpu_us_per_delivery"]))
        else:
            found.append(Column(it, f"{it.title}: KiB a connection", lambda run: run["kib_per_connection"]))
            found.append(Column(it, f"seconds for {it.members:,} connects", lambda run: run["connect_s"]))
    return found


# What is measured.


@dataclass
class Server:
    """A server that can be started on a port. `subscribe` and `publish`: the paths of a room. `publish_beside`: it takes publishes on a
    port of their own."""

    name: str
    prepare: Callable[[], str]
    command: Callable[[int, int], list[str | Path]]
    raw: bool = True
    subscribe: str = "/sub/{room}"
    publish: str = "/pub/{room}"
    publish_beside: bool = False
    environment: dict[str, str] = field(default_factory=dict)


def output(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command printed, on either stream. Where it can't be run, what it was for is missing."""
    try:
        done = subprocess.run(command, cwd=cwd, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except FileNotFoundError as error:
        raise Missing(f"there is no {error.filename}") from error
    except subprocess.CalledProcessError as error:
        last = (error.stdout.strip().splitlines() or ["nothing was said"])[-1]
        raise Missing(f"`{' '.join(map(str, command))}` failed: {last}") from error
    return done.stdout.strip()


def built(name: str) -> Path:
    program = RELEASE / name
    if not program.exists():
        sys.exit(f"{program} is missing: cargo build --release -p fanfare-server -p fanfare -p fanfare-benches")
    return program


def prepare_fanfare() -> str:
    return output(built("fanfare-server"), "--version").replace("fanfare-server", "Fanfare")


def command_fanfare(port: int, _: int) -> list[str | Path]:
    return [built("fanfare-server"), "--memory", "--log", "warn", "--listen", f"127.0.0.1:{port}"]


def prepare_floor() -> str:
    built("floor-server")
    return "limit, with HTTP"


def command_floor(port: int, _: int) -> list[str | Path]:
    return [built("floor-server"), f"127.0.0.1:{port}"]


def prepare_nchan() -> str:
    if not NCHAN.exists():
        raise Missing(f"there is no {NCHAN}: apt-get install nginx libnginx-mod-nchan")
    version = output("nginx", "-v").rpartition("/")[2]
    if not shutil.which("dpkg-query"):
        return f"nginx {version} + nchan"
    nchan = output("dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan")
    return f"nginx {version} + nchan {re.sub(r'^[0-9]+:|[+-].*$', '', nchan)}"


def command_nchan(port: int, _: int) -> list[str | Path]:
    folder = WORK / "nchan"
    folder.mkdir(parents=True, exist_ok=True)
    text = (PEERS / "nchan/nginx.conf").read_text()
    (folder / "nginx.conf").write_text(text.replace("@MODULE@", str(NCHAN)).replace("@PORT@", str(port)))
    return ["nginx", "-p", folder, "-c", folder / "nginx.conf"]


def prepare_ws() -> str:
    folder = WORK / "ws"
    shutil.copytree(PEERS / "ws", folder, dirs_exist_ok=True)
    output("npm", "ci", "--silent", cwd=folder)
    version = json.loads((folder / "node_modules/ws/package.json").read_text())["version"]
    return f"ws {version}, Node {output('node', '--version').lstrip('v')}"


def command_ws(port: int, _: int) -> list[str | Path]:
    return ["node", WORK / "ws/server.js", str(port)]


def python(*arguments: str | Path) -> list[str | Path]:
    return [WORK / "venv/bin/python3", *arguments]


def prepare_python(*packages: str) -> str:
    """Installs what the Python peers need, and says the versions of these packages."""
    if not (WORK / "venv/bin/pip").exists():
        # The system's python by its path: another one that stands first in PATH may lack venv.
        system = Path("/usr/bin/python3")
        output(system if system.exists() else sys.executable, "-m", "venv", WORK / "venv")
    output(*python("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", PEERS / "python/requirements.txt"))
    ask = "import sys, importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in sys.argv[1:]))"
    return output(*python("-c", ask, *packages))


def command_fastapi(port: int, _: int) -> list[str | Path]:
    return python("-m", "uvicorn", "--app-dir", PEERS / "python", "fastapi_app:app", "--port", str(port), "--log-level", "warning",
                  "--no-access-log")


def command_websockets(port: int, publish_port: int) -> list[str | Path]:
    return python(PEERS / "python/websockets_server.py", str(port), str(publish_port))


def prepare_axum() -> str:
    manifest = PEERS / "axum/Cargo.toml"
    output("cargo", "build", "--quiet", "--locked", "--release", "--manifest-path", manifest, "--target-dir", WORK / "axum")
    version = re.search(r'name = "axum"\nversion = "([^"]+)"', (PEERS / "axum/Cargo.lock").read_text())
    return f"axum {version[1] if version else ''} + tokio broadcast"


def command_axum(port: int, _: int) -> list[str | Path]:
    return [WORK / "axum/release/fanfare-compare-axum", str(port)]


# Fanfare's secrets, for its server and its client.
SECRETS = {name: secrets.token_hex(32) for name in ("FANFARE_TOKEN_SECRET", "FANFARE_API_KEY")}
LIMIT = "limit"
SERVERS = [
    Server("floor-server", prepare_floor, command_floor, subscribe="/{room}", publish="/{room}"),
    Server("fanfare", prepare_fanfare, command_fanfare, raw=False, environment=SECRETS),
    Server("nchan", prepare_nchan, command_nchan),
    Server("ws", prepare_ws, command_ws),
    Server("axum", prepare_axum, command_axum),
    Server("fastapi", lambda: prepare_python("fastapi", "uvicorn"), command_fastapi),
    Server("websockets", lambda: prepare_python("websockets", "uvloop"), command_websockets, publish_beside=True),
]
NAMES = [LIMIT, *(it.name for it in SERVERS)]


# How it is measured.


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_answers(process: subprocess.Popen, port: int) -> None:
    """Whatever it says to a publish: nginx listens before it has its worker, which would be missed in its family."""
    end = time.monotonic() + PATIENCE
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("POST", "/pub/nobody", b"")
            connection.getresponse().read()
            return
        except (OSError, http.client.HTTPException):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"it does not answer: {(WORK / 'server.log').read_text().strip()}") from None
            time.sleep(0.02)
        finally:
            connection.close()


def family(pid: int) -> list[int]:
    """A process and those that it started: nginx has a worker."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(it for child in children for it in family(int(child)))]


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        for pid in reversed(family(process.pid)):
            os.kill(pid, 9)
        process.wait()


def pinned(cpu: int, command: Iterable[str | Path]) -> list[str]:
    return ["taskset", "-c", str(cpu), *map(str, command)]


def client(server: Server, scenario: Scenario, port: int, publish_port: int, options: argparse.Namespace) -> list[str | Path]:
    """The command that measures a server which listens on these ports."""
    command: list[str | Path] = [built("fanfare"), "bench", "--json", "--quiet", "--size", "256"]
    command += ["--connections", str(scenario.members), "--rooms", str(scenario.rooms)]
    command += ["--duration", f"{options.seconds if scenario.in_flight else 0}s", "--in-flight", str(max(scenario.in_flight, 1))]
    if server.raw:
        command += ["--raw", f"ws://127.0.0.1:{port}{server.subscribe}"]
        command += ["--publish-url", f"http://127.0.0.1:{publish_port}{server.publish}"]
    else:
        command += ["--url", f"http://127.0.0.1:{port}"]
    return command


def measure(server: Server, scenario: Scenario, options: argparse.Namespace) -> dict:
    """A run of a server that was just started."""
    port = free_port()
    publish_port = free_port() if server.publish_beside else port
    environment = os.environ | server.environment
    with open(WORK / "server.log", "wb") as log:
        process = subprocess.Popen(pinned(options.server_cpu, server.command(port, publish_port)), env=environment, cwd=WORK,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until_answers(process, publish_port)
        command = [*client(server, scenario, port, publish_port, options), "--pid", ",".join(map(str, family(process.pid)))]
        done = subprocess.run(pinned(options.client_cpu, command), env=environment, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=options.seconds + 120)
    finally:
        stop(process)
    if not done.stdout.strip():
        raise RuntimeError(f"the client said: {done.stderr.strip()}")
    return figures(scenario, json.loads(done.stdout))


def failed(why: str, error: str) -> dict:
    """A run without figures."""
    return {"cpu_us_per_delivery": None, "kib_per_connection": None, "connect_s": None, "wrong": {why: 1}, "error": error}


def figures(scenario: Scenario, report: dict) -> dict:
    """What a report of `fanfare bench` says, and what was not as it should be."""
    server, connections, publishes = report["server"] or {}, report["connections"], report["publishes"]
    wrong = {name.replace("_", " "): report[name] for name in ("lost", "doubled", "out_of_order", "unexpected", "gaps")}
    wrong |= {"refused": connections["failed"], "closed": connections["closed"]}
    wrong |= {"publish errors": publishes["errors"], "stalled": publishes["stalled"]}
    wrong = {name: count for name, count in wrong.items() if count}
    done, used = report["deliveries"], server.get("cpu_us_per_delivery")
    if not scenario.in_flight:
        done, used = connections["opened"], server.get("cpu_us_per_connection")
    # Who did something used some: else other processes were watched than the server's, or they have ended.
    if done and not used:
        run = failed("without CPU", f"no CPU was seen of {server.get('pids') or report['server_unknown']}")
        return run | {"wrong": wrong | run["wrong"], "report": report}
    return {
        "cpu_us_per_delivery": server.get("cpu_us_per_delivery"),
        "kib_per_connection": server.get("resident_kib_per_connection"),
        "connect_s": connections["seconds"],
        "wrong": wrong,
        "report": report,
    }


def measure_limit(scenario: Scenario, options: argparse.Namespace) -> dict:
    """A run of `floor`: as many broadcasts as take about the seconds that were asked for."""
    microseconds = 8 if scenario.in_flight == 1 else 0.5
    broadcasts = max(int(options.seconds * 1e6 / microseconds / scenario.members), scenario.in_flight)
    command = [built("floor"), str(scenario.members), str(broadcasts), str(scenario.in_flight)]
    environment = os.environ | {"FLOOR_READER_CPU": str(options.client_cpu)}
    done = subprocess.run(pinned(options.server_cpu, command), env=environment, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=options.seconds * 10 + 120)
    found = re.search(r"cpu_us_per_delivery=([\d.]+)", done.stdout)
    if done.returncode or not found:
        raise RuntimeError(f"floor said: {done.stdout}{done.stderr}".strip())
    return {"cpu_us_per_delivery": float(found[1]), "kib_per_connection": None, "connect_s": None, "wrong": {}}


def prepare(names: list[str]) -> tuple[dict[str, str], list[str]]:
    """What each server is called in the tables, with its version; and those that can't be had."""
    labels, absent = {}, []
    for name in names:
        try:
            labels[name] = LIMIT if name == LIMIT else next(it for it in SERVERS if it.name == name).prepare()
        except Missing as missing:
            absent.append(f"{name} is left out: {missing}")
            print(absent[-1], flush=True)
    return labels, absent


def run_all(labels: dict[str, str], scenarios: list[Scenario], options: argparse.Namespace) -> dict:
    """All runs, by server and scenario. The servers take turns, so that a slow minute of the machine meets all of them."""
    servers = {it.name: it for it in SERVERS}
    results: dict[str, dict[str, list[dict]]] = {name: {it.name: [] for it in scenarios} for name in labels}
    for number in range(options.runs):
        for scenario in scenarios:
            for name, label in labels.items():
                # It has no rooms, and nothing to keep of an idle connection.
                if name == LIMIT and (scenario.rooms > 1 or not scenario.in_flight):
                    continue
                try:
                    run = measure_limit(scenario, options) if name == LIMIT else measure(servers[name], scenario, options)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    run = failed("failed", str(error))
                results[name][scenario.name].append(run)
                (WORK / "results.json").write_text(json.dumps(results, indent=1))
                print(f"{number + 1}/{options.runs}  {scenario.title:34}  {label:28}  {said(run)}", flush=True)
    return results


# What is shown.


def said(run: dict) -> str:
    """A run in one line."""
    report = run.get("report") or {}
    words = [f"{run[name]:.2f} {unit}" for name, unit in (("cpu_us_per_delivery", "µs"), ("kib_per_connection", "KiB"), ("connect_s", "s"))
             if run[name] is not None]
    if report.get("deliveries"):
        words.append(f"{report['deliveries_per_second']:,.0f}/s, client {report['bench_cpu_us_per_delivery']:.2f} µs")
    words += [f"{count:,} {name}" for name, count in run["wrong"].items()]
    return "  ".join(words + ([run["error"]] if "error" in run else []))


@dataclass(frozen=True)
class Spread:
    middle: float
    least: float
    most: float

    @staticmethod
    def of(column: Column, runs: list[dict]) -> "Spread | None":
        values = [value for run in runs if (value := column.read(run)) is not None]
        return Spread(median(values), min(values), max(values)) if values else None


def cell(column: Column, runs: list[dict]) -> str:
    """Median and spread, and all that went wrong in these runs."""
    spread = Spread.of(column, runs)
    words = [f"{spread.middle:.2f} ({spread.least:.2f}..{spread.most:.2f})"] if spread else ["–"]
    wrong: dict[str, int] = {}
    for run in runs:
        for name, count in run["wrong"].items():
            wrong[name] = wrong.get(name, 0) + count
    return "; ".join(words + [f"{count:,} {name}" for name, count in wrong.items()])


def table(labels: dict[str, str], results: dict, shown: list[Column]) -> str:
    lines = ["| | " + " | ".join(it.title for it in shown) + " |", "| --- " * (len(shown) + 1) + "|"]
    for name, label in labels.items():
        lines.append(f"| {label} | " + " | ".join(cell(it, results[name][it.scenario.name]) for it in shown) + " |")
    return "\n".join(lines)


BAR, LABEL, WIDE, GAP = 18, 210, 230, 24
PANEL = LABEL + WIDE + 130


def bars(labels: dict[str, str], results: dict, column: Column, x: int, y: int) -> str:
    """One figure of all servers: a bar to the median, a line from the least to the most."""
    parts = [f'<text x="{x}" y="{y + 14}" font-weight="bold">{escape(column.title)}</text>']
    spreads = {name: Spread.of(column, results[name][column.scenario.name]) for name in labels}
    scale = WIDE / max((it.most for it in spreads.values() if it and it.most > 0), default=1)
    for row, (name, spread) in enumerate(spreads.items(), 1):
        top, left = y + 8 + row * (BAR + 4), x + LABEL
        parts.append(f'<text x="{left - 8}" y="{top + 13}" text-anchor="end">{escape(labels[name])}</text>')
        if spread is None:
            parts.append(f'<text x="{left + 4}" y="{top + 13}" fill="#777">not measured</text>')
            continue
        low, middle, high = (max(it, 0) * scale for it in (spread.least, spread.middle, spread.most))
        color = "#c2410c" if name == "fanfare" else "#64748b"
        parts.append(f'<rect x="{left}" y="{top}" width="{middle:.1f}" height="{BAR}" fill="{color}"/>')
        parts.append(f'<path d="M{left + low:.1f} {top + BAR / 2:g}H{left + high:.1f}" stroke="#000"/>')
        parts.append(f'<text x="{left + high + 6:.1f}" y="{top + 13}">{spread.middle:.2f}</text>')
    return "\n".join(parts)


def plot(labels: dict[str, str], results: dict, shown: list[Column]) -> str:
    """An SVG, two figures side by side."""
    height = (len(labels) + 1) * (BAR + 4) + GAP
    width, whole = 2 * PANEL + 3 * GAP, (len(shown) + 1) // 2 * height + GAP
    panels = [bars(labels, results, it, GAP + at % 2 * (PANEL + GAP), GAP + at // 2 * height) for at, it in enumerate(shown)]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{whole}" viewBox="0 0 {width} {whole}"'
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{whole}" fill="#fff"/>', *panels, "</svg>\n",
    ])


def with_block(text: str, block: str) -> str:
    """The document, with this block at the end of the script's section, instead of the one that is there."""
    before, heading, after = text.partition("\n" + HEADING)
    if not heading:
        sys.exit(f"docs/benchmarks.md has no line {HEADING.strip()!r}")
    section, following, rest = after.partition("\n## ")
    section = section.partition(BEGIN)[0].rstrip()
    return f"{before}{heading}{section}\n\n{BEGIN}\n{block}\n{END}\n{following}{rest}"


def write(labels: dict[str, str], absent: list[str], results: dict, shown: list[Column], options: argparse.Namespace) -> None:
    words = f"{date.today():%Y-%m-%d}, Linux {platform.release().split('-')[0]}, {os.cpu_count()} cores: " \
            f"the median of {options.runs} runs of {options.seconds} s (least..most)."
    block = "\n\n".join([words, table(labels, results, shown), *absent, "![The same as bars](benchmarks.svg)"])
    path = DOCS / "benchmarks.md"
    path.write_text(with_block(path.read_text(), block))
    (DOCS / "benchmarks.svg").write_text(plot(labels, results, shown))
    print("written: docs/benchmarks.md, docs/benchmarks.svg")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each server in each scenario (5)")
    parser.add_argument("--seconds", type=int, default=5, help="how long each run publishes (5)")
    parser.add_argument("--short", action="store_true", help="one run of one second with a tenth of the members: says whether it works")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="SERVER", help=f"of {', '.join(NAMES)}")
    scenarios = [it.name for it in SCENARIOS]
    parser.add_argument("--scenarios", nargs="+", choices=scenarios, default=scenarios, metavar="SCENARIO", help=f"of {', '.join(scenarios)}")
    parser.add_argument("--server-cpu", type=int, default=0, help="the core of the servers (0)")
    parser.add_argument("--client-cpu", type=int, default=1, help="the core of the client (1)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md, and the plot beside it")
    options = parser.parse_args()
    if options.short:
        options.runs = options.seconds = 1
    if options.runs < 1 or options.seconds < 1:
        parser.error("--runs and --seconds are at least 1")
    # Rows of different hours can't be held against each other.
    if options.write and (options.short or options.only != NAMES or options.scenarios != scenarios):
        parser.error("--write is for all servers and scenarios at full length")
    return options


def main() -> None:
    options = arguments()
    WORK.mkdir(parents=True, exist_ok=True)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    scenarios = [it.scaled(10 if options.short else 1) for it in SCENARIOS if it.name in options.scenarios]
    labels, absent = prepare([it for it in NAMES if it in options.only])
    results = run_all(labels, scenarios, options)
    shown = columns(scenarios)
    print("\n" + table(labels, results, shown))
    if options.write:
        write(labels, absent, results, shown, options)


if __name__ == "__main__":
    main()
