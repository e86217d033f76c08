"""relay.py -- a relay that answers when the next hop has the mail, and Postfix before the same next hop.

Receiving is examples/sink --keep. What relaying adds is the relay's CPU less that. Postfix answers when the mail is in its
queue, on disk. So every rate and CPU is counted until all mail has come to the next hop, which counts it.
"""
import os
from pathlib import Path

import keepers
import parts
import sinks
from figures import over
from page import number, spread, table
from running import BENCH, EXAMPLES, QUICK, Loaded, Server, chosen, in_turns, rounds, seconds, warmed

TITLE = "Synchronous relay"
ARRIVALS = "build/bench/arrivals"  # see t/bench/Arrivals.hpp
OURS = Path(os.environ.get("OURS", EXAMPLES / "relay")).resolve()
BASE = Path(os.environ.get("BASE", OURS)).resolve()
MODES = {
    "keep": "--mode keep",
    "keep-100": "--mode keep --connections 100",
    "pipe": "--mode pipe",
}
WHAT = {"keep": "10 connections, one command per round trip", "keep-100": "100 connections, one command per round trip",
        "pipe": "10 connections, MAIL, RCPT and DATA in one write"}
NAMES = ["receive", "relay", "base", "postfix", "postfix-reuse"]
POSTFIXES = ["postfix", "postfix-reuse"]
CPU = "cpu_us_per_message"


class Postfix(Loaded):
    """With processes for everybody, and no pause for who sends faster than it delivers. Connections to the next hop are
    reused by "postfix-reuse" alone: on loopback that is often the slower way, for one process of it keeps them for all."""

    def __init__(self, name, box, via):
        self.name = name
        self.instance = keepers.Postfix(box, name)
        self.instance.deliver(via.rpartition(":")[2], concurrency=100, reuse="yes" if name == "postfix-reuse" else "no")
        self.pids, self.address = [self.instance.pid], self.instance.address

    def load(self, arguments, seconds):
        run = super().load(arguments, seconds)
        self.instance.wait_idle()
        return run

    def trouble(self):
        return self.instance.trouble()

    def end(self):
        self.instance.kill()


class Counted:
    """A relay, whose mail is counted at the next hop."""

    def __init__(self, server):
        self.server, self.name, self.end, self.trouble = server, server.name, server.end, server.trouble

    def load(self, arguments, seconds):
        return self.server.load(f"{arguments} --arrivals {ARRIVALS}", seconds)


def start(name, via, box):
    if name == "receive":
        return Server(name, [EXAMPLES / "sink", "--listen", "127.0.0.1:0", "--keep"])
    if name in POSTFIXES:
        return Counted(Postfix(name, box, via))
    return Counted(Server(name, [BASE if name == "base" else OURS, "--listen", "127.0.0.1:0", "--via", via]))


def measure(figures):
    left_out = {name for name, wanted in (("base", "BASE" in os.environ), ("postfix-reuse", not QUICK)) if not wanted}
    names = chosen("SERVERS", NAMES, [name for name in NAMES if name not in left_out])
    box, servers = parts.Box(), []
    next_hop = Server("next_hop", [BENCH / "next_hop", "--listen", "127.0.0.1:0", "--arrivals", ARRIVALS])
    try:
        servers = sinks.start_all(figures, "start", names, lambda name: start(name, next_hop.address, box))
        if "postfix" in names:
            figures.version("postfix", sinks.version_of("postfix"))
        for mode in chosen("MODES", MODES, MODES):
            warm = warmed(figures, mode, servers, MODES[mode], 0.3 if QUICK else 0.6)
            in_turns(figures, mode, warm, MODES[mode], rounds(3), seconds(1.5, 0.5))
    finally:
        for server in servers:
            server.end()
        next_hop.end()
        box.clear()


def rate(f, mode, name):
    return f.median(mode, name, "messages_per_s" if name == "receive" else "arrived_per_s")


def added(f, mode, name):
    whole, part = f.median(mode, name, CPU), f.median(mode, "receive", CPU)
    return (whole - part) / part if whole and part and name != "receive" else None


def sections(f):
    for mode, arguments in MODES.items():
        rows = []
        for name in [name for name in NAMES if name in f.servers(mode)]:
            value = lambda key: f.median(mode, name, key)
            taken = sum(f.values(mode, name, "messages"))
            rows.append([name, number(value(CPU), 1), spread(f.values(mode, name, CPU), 1), number(added(f, mode, name), 2),
                         number(over(f.median(mode, "relay", CPU), value(CPU)), 2), number(rate(f, mode, name)),
                         *(number(value(key) / 1000, 2) for key in ("p50_us", "p99_us", "p999_us")),
                         number(value("hop_cpu_us_per_message"), 1),
                         "-" if name == "receive" else number(1000 * sum(f.values(mode, name, "hop_connections")) / taken, 1)])
        if rows:
            yield from ("", f"### {mode}: {WHAT[mode]}", "", f"`load {arguments}`, messages of 4 KiB", "")
            yield from table(["server", "CPU us/message", "lowest - highest", "added / receiving", "CPU: ours / it", "messages/s", "p50 ms", "p99 ms",
                              "p99.9 ms", "next hop's CPU us", "its connections per 1,000"], rows)


def goals(f):
    yield 11, "relay, keep: added CPU / receiving", added(f, "keep", "relay"), "<=", 2.0, 1.6
    yield 11, "relay, keep, 100 connections: added CPU / receiving", added(f, "keep-100", "relay"), "<=", 2.0, 1.6


def comparisons(f):
    for mode in MODES:
        yield from f.beside_peers(mode, "relay", POSTFIXES, CPU=(CPU, "<="), rate=("arrived_per_s", ">="))


def charts(f, chart, folder):
    chart.bars(folder / "relay-cpu.svg", "CPU of a mail that goes on at once", "microseconds per message",
               [(f"{mode}: {WHAT[mode]}", [(name, f.median(mode, name, CPU)) for name in NAMES]) for mode in MODES])
    return ["relay-cpu.svg"]
