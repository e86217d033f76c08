"""many.py -- many connections at once: 10,000 that only wait beside ten that work, and a thousand that all work."""
import os

import sinks
from classes.memory import CPU
from page import number, table
from running import QUICK, chosen, in_turns, rounds, seconds, warmed

TITLE = "Many connections"
IDLE = 10_000
MODES = {"idle": f"--mode keep --idle {IDLE}", "1000": "--mode keep --connections 1000 --total 50000"}
BESIDE = "--mode keep"
# A process for each connection: 10,000 of them would be a figure of another kind.
NO_IDLE = {"net-smtp-server", "postfix"}
LATER = {"smtp-sink", "aiosmtpd", "nodemailer", "haraka", "net-smtp-server"}  # far behind, see running.in_turns()
LEFT_OUT = {"ours-stream", "floor-kept", "base", "postfix"}


def names(mode):
    default = ["ours", "floor", "go-smtp"] if QUICK else [name for name in sinks.PROGRAMS if name not in LEFT_OUT]
    if "BASE" in os.environ:
        default.append("base")
    return [name for name in chosen("SERVERS", sinks.PROGRAMS, default) if mode != "idle" or name not in NO_IDLE]


def measure(figures):
    for mode in chosen("MODES", MODES, MODES):
        if mode == "idle":
            for name in sorted(NO_IDLE):
                figures.leave_out(name, f"{mode}: it has a process for each connection, and {IDLE:,} of them were not run")
        servers = sinks.start_all(figures, mode, names(mode))
        try:
            in_turns(figures, mode, warmed(figures, mode, servers, BESIDE), MODES[mode], rounds(2 if mode == "idle" else 6),
                     seconds(1.2 if mode == "idle" else 2, 0.5), beside=BESIDE, later=LATER)
        finally:
            for server in servers:
                server.end()


def sections(f):
    titles = {"idle": f"### {IDLE:,} connections that said EHLO and wait, beside 10 that work", "1000": "### 1,000 connections that all work"}
    for mode, title in titles.items():
        rows = []
        for name in [name for name in sinks.PROGRAMS if name in f.servers(mode)]:
            value = lambda key: f.median(mode, name, key)
            rows.append([name, number(value("rss_kb") / 1024, 1), number(value(CPU), 1), number(f.beside(mode, name, CPU), 2),
                         number(value("messages_per_s")), number(f.beside(mode, name, "messages_per_s"), 2),
                         *(number(value(key) / 1000, 2) for key in ("p50_us", "p99_us", "p999_us"))])
        if rows:
            yield from ("", title, "", f"`load {MODES[mode]}`; each run is followed by `load {BESIDE}` on the same server", "")
            yield from table(["server", "RSS MB", "CPU us/message", "CPU / without", "messages/s", "rate / without", "p50 ms", "p99 ms", "p99.9 ms"], rows)


def goals(f):
    rss = f.median("idle", "ours", "rss_kb")
    yield 6, "10,000 idle: RSS in MB", rss and rss / 1024, "<=", 120, 100
    yield 6, "10,000 idle: rate of the active / without", f.beside("idle", "ours", "messages_per_s"), ">=", 0.95, 0.95
    yield 6, "1,000 active: CPU / at 10", f.beside("1000", "ours", CPU), "<=", 1.6, 1.5


def comparisons(f):
    peers = [name for name in sinks.PROGRAMS if name not in ("ours", "ours-stream", "base", "floor", "floor-kept")]
    yield from f.beside_peers("idle", "ours", peers, memory=("rss_kb", "<="), CPU=(CPU, "<="), rate=("messages_per_s", ">="))
    yield from f.beside_peers("1000", "ours", peers, CPU=(CPU, "<="), rate=("messages_per_s", ">="))


def charts(f, chart, folder):
    chart.bars(folder / "idle-memory.svg", f"Memory with {IDLE:,} idle connections", "MB resident, all processes",
               [("beside 10 connections that work", [(name, (f.median("idle", name, "rss_kb") or 0) / 1024) for name in sinks.PROGRAMS])])
    return ["idle-memory.svg"]
