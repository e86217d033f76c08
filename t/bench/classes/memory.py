"""memory.py -- mail that is taken to nowhere, or kept in memory: what receiving itself costs."""
import os

import sinks
from figures import over
from page import number, spread, table
from running import QUICK, chosen, in_turns, rounds, seconds, warmed

TITLE = "In memory"
# Arguments to load. A large mail comes alone on its connection: what a server keeps from the last is its own affair.
MODES = {
    "newconn": "--mode newconn",
    "keep": "--mode keep",
    "pipe": "--mode pipe",
    "pipe2": "--mode pipe2",
    "bdat": "--mode bdat",
    "64k-text": "--mode pipe --size 65536",
    "64k-dots": "--mode pipe --size 65536 --body dots",
    "64k-short": "--mode pipe --size 65536 --body short",
    "10m": "--mode pipe --size 10485760 --connections 4 --messages 1",
}
WHAT = {
    "newconn": "10 connections at once, one message each, one command per round trip",
    "keep": "10 connections, 50 messages on each, one command per round trip",
    "pipe": "the same with MAIL, RCPT and DATA in one write",
    "pipe2": "the same with a body and the next envelope in one write",
    "bdat": "envelope and body in one write, by BDAT",
    "64k-text": "messages of 64 KiB: lines of 70 octets",
    "64k-dots": "messages of 64 KiB: every line begins with a dot",
    "64k-short": "messages of 64 KiB: lines of two octets",
    "10m": "messages of 10 MiB, 4 connections",
}
LONGER = {"10m": 2.5}
# Streaming is a matter of large bodies.
STREAMED = {"64k-text", "10m"}
# Far from the best: two turns tell as much as six.
LATER = {"aiosmtpd", "nodemailer", "haraka", "net-smtp-server", "postfix"}
PEERS = ["smtp-sink", "go-smtp", "aiosmtpd", "nodemailer", "haraka", "net-smtp-server", "postfix"]
CPU = "cpu_us_per_message"


def names():
    return chosen("SERVERS", sinks.PROGRAMS, [name for name in sinks.PROGRAMS if name != "base" or "BASE" in os.environ])


def takes_part(name, mode):
    return name != "ours-stream" or mode in STREAMED or "ours-stream" in os.environ.get("SERVERS", "")


def measure(figures):
    modes = chosen("MODES", MODES, MODES)
    for group in [modes] if QUICK else [[mode] for mode in modes]:  # new servers for each mode, where there is time
        servers = sinks.start_all(figures, group[0], [name for name in names() if any(takes_part(name, mode) for mode in group)])
        try:
            for mode in group:
                present = [server for server in servers if takes_part(server.name, mode)]
                warm = warmed(figures, mode, present, MODES[mode], 0.1 if QUICK else 0.2)
                in_turns(figures, mode, warm, MODES[mode], rounds(6), seconds(0.7, 0.25) * LONGER.get(mode, 1), later=LATER)
        finally:
            for server in servers:
                server.end()


def sections(figures):
    for mode, arguments in MODES.items():
        present = [name for name in sinks.PROGRAMS if name in figures.servers(mode)]
        if not present:
            continue
        best = figures.best(mode, CPU, PEERS)
        rows = []
        for name in present:
            value = lambda key: figures.median(mode, name, key)
            rows.append([name, number(value(CPU), 1), spread(figures.values(mode, name, CPU), 1), number(value("messages_per_s")),
                         number(value("mb_per_s")), *(number(value(key) / 1000, 2) for key in ("p50_us", "p99_us", "p999_us")),
                         number(value("rss_kb") / 1024, 1), number(over(figures.median(mode, "ours", CPU), value(CPU)), 2),
                         number(over(figures.median(mode, "ours", "messages_per_s"), value("messages_per_s")), 2)])
        yield from ("", f"### {mode}: {WHAT[mode]}", "", f"`load {arguments}`; the best peer is {best}", "")
        yield from table(["server", "CPU us/message", "lowest - highest", "messages/s", "MB/s", "p50 ms", "p99 ms", "p99.9 ms",
                          "RSS MB", "CPU: ours / it", "rate: ours / it"], rows)
    if any("base" in figures.servers(mode) for mode in MODES):
        yield from ("", "### ours / base", "")
        yield from table(["mode", "CPU", "messages/s", "p99", "RSS"],
                         [[mode, *(number(figures.ratio(mode, "ours", "base", key), 2)
                                   for key in (CPU, "messages_per_s", "p99_us", "rss_kb"))] for mode in MODES])


def goals(f):
    text, dots, short = (f.median(mode, "ours", CPU) for mode in ("64k-text", "64k-dots", "64k-short"))
    yield 1, "keep: CPU / smtp-sink", f.ratio("keep", "ours", "smtp-sink", CPU), "<=", 0.95, 0.70
    yield 1, "keep: CPU / the kept floor", f.ratio("keep", "ours", "floor-kept", CPU), "<=", 1.15, 1.15
    yield 1, "keep: p99 / smtp-sink", f.ratio("keep", "ours", "smtp-sink", "p99_us"), "<=", None, 1.0
    yield 2, "pipe: CPU / smtp-sink", f.ratio("pipe", "ours", "smtp-sink", CPU), "<=", 0.75, 0.60
    yield 2, "pipe2: CPU / smtp-sink", f.ratio("pipe2", "ours", "smtp-sink", CPU), "<=", 0.60, 0.45
    yield 3, "newconn: CPU / smtp-sink", f.ratio("newconn", "ours", "smtp-sink", CPU), "<=", 0.95, 0.75
    yield 4, "64 KiB: CPU / smtp-sink", f.ratio("64k-text", "ours", "smtp-sink", CPU), "<=", 0.35, 0.25
    yield 4, "64 KiB: CPU of dots / of text", over(dots, text), "<=", 1.25, 1.15
    yield 4, "64 KiB: CPU of short lines / of text", over(short, text), "<=", 1.25, 1.15
    yield 5, "10 MiB streamed: CPU / smtp-sink", f.ratio("10m", "ours-stream", "smtp-sink", CPU), "<=", 0.13, 0.12
    yield 5, "10 MiB kept as MSG: CPU / smtp-sink", f.ratio("10m", "ours", "smtp-sink", CPU), "<=", 0.30, 0.15


def comparisons(f):
    for mode in MODES:
        yield from f.beside_peers(mode, "ours", PEERS, CPU=(CPU, "<="), rate=("messages_per_s", ">="))


def charts(f, chart, folder):
    panel = lambda mode, key, scale=1: [(name, (f.median(mode, name, key) or 0) / scale) for name in sinks.PROGRAMS]
    chart.bars(folder / "memory-cpu.svg", "Server CPU for a message, 4 KiB", "microseconds per message, by powers of ten",
               [(f"{mode}: {WHAT[mode]}", panel(mode, CPU)) for mode in ("newconn", "keep", "pipe", "pipe2", "bdat")], powers=True)
    chart.bars(folder / "memory-large.svg", "Server CPU for a large message", "microseconds per message, by powers of ten",
               [(f"{mode}: {WHAT[mode]}", panel(mode, CPU)) for mode in ("64k-text", "64k-dots", "64k-short", "10m")], powers=True)
    chart.bars(folder / "memory-rate.svg", "Messages a second, 4 KiB, 10 connections", "messages per second",
               [(f"{mode}: {WHAT[mode]}", panel(mode, "messages_per_s")) for mode in ("newconn", "keep", "pipe")])
    chart.ranges(folder / "memory-latency.svg", "From MAIL to the final 250, keep: p50, p99, p99.9", "milliseconds, by powers of ten",
                 [(name, [(f.median("keep", name, key) or 0) / 1000 for key in ("p50_us", "p99_us", "p999_us")]) for name in sinks.PROGRAMS])
    return ["memory-cpu.svg", "memory-large.svg", "memory-rate.svg", "memory-latency.svg"]
