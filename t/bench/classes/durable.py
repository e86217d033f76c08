"""durable.py -- mail that is on disk before its 250: taken, and kept; nobody delivers."""
import os

import queues
from figures import over
from page import number, spread, table
from running import BENCH, FAILED, QUICK, chosen, in_turns, rounds, seconds, tool, warmed

TITLE = "Durable accept"
MODES = {
    "1": "--mode keep --connections 1",
    "newconn": "--mode newconn",
    "keep": "--mode keep",
    "100": "--mode keep --connections 100",
    "64k": "--mode keep --size 65536",
}
WHAT = {
    "1": "1 connection",
    "newconn": "10 connections at once, one message each",
    "keep": "10 connections, 50 messages on each",
    "100": "100 connections",
    "64k": "10 connections, messages of 64 KiB",
}
NAMES = ["smtpd", "bare", "floor-log", "bare-pg", "postfix", "opensmtpd", "exim"]
LATER = {"opensmtpd", "exim", "bare-pg"}
THREADS = (1, 64) if QUICK else (1, 16, 64)
CPU = "cpu_us_per_message"


def offers(figures, name, mode):
    if (name, mode) in queues.NOT_OFFERED:
        figures.leave_out(name, f"{WHAT[mode]}: it leaves sessions without an answer")
        return False
    return True


def start_all(figures, mode, names, box):
    servers = []
    for name in names:
        try:
            if name in queues.PEERS:
                servers += filter(None, [queues.start_peer(figures, name, box)])
            elif name == "bare-pg":
                if database := queues.start_database(figures, box):
                    servers.append(queues.Ours(name, None, database=database))
            else:
                servers.append(queues.Ours(name, box.new(name)))
        except FAILED as failure:
            figures.failed(name, mode, failure)
    return servers


def measure(figures):
    names = chosen("SERVERS", NAMES, [name for name in NAMES if not QUICK or name not in ("bare", "floor-log")])
    modes = chosen("MODES", MODES, MODES)
    with queues.Boxes() as boxes:
        for group in [modes] if QUICK else [[mode] for mode in modes]:  # new queues for each mode, where there is time
            box, servers = boxes.new(), []
            try:
                servers = start_all(figures, group[0], names, box)
                for mode in group:
                    present = [server for server in servers if offers(figures, server.name, mode)]
                    warm = warmed(figures, mode, present, MODES[mode], 0.2 if QUICK else 0.5)
                    in_turns(figures, mode, warm, MODES[mode], rounds(4), seconds(1.2, 0.4), later=LATER, before=os.sync)
            finally:
                for server in servers:
                    if isinstance(server, queues.Ours):
                        server.end()
                queues.stop(box)
        if "MODES" not in os.environ:
            measure_store(figures, boxes.new())


def measure_store(figures, box):
    """Threads that put mail into the store itself, without SMTP."""
    try:
        for turn in range(rounds(2)):
            figures.note("disk", "sync", turn + 1, tool(BENCH / "store_load", "--sync", box.new("sync")))
        database = queues.start_database(figures, box)
        for threads in THREADS:
            put = [BENCH / "store_load", "--put", 1, "--threads", threads, "--queue"]
            for turn in range(rounds(2)):
                figures.note(f"store {threads}", "sqlite", turn + 1, tool(*put, box.new("store")))
                if database:
                    figures.note(f"store {threads}", "postgresql", turn + 1, tool(*put, database.url, "--pid", database.pid))
    except FAILED as failure:
        figures.failed("sqlite", "store", failure)
    finally:
        queues.stop(box)


def sections(f):
    for mode, arguments in MODES.items():
        rows = []
        for name in [name for name in NAMES if name in f.servers(mode)]:
            value = lambda key: f.median(mode, name, key)
            rows.append([name, number(value("messages_per_s")), number(value(CPU), 1), spread(f.values(mode, name, CPU), 1),
                         *(number(value(key) / 1000, 2) for key in ("p50_us", "p99_us", "p999_us")),
                         number(over(f.median(mode, "smtpd", "messages_per_s"), value("messages_per_s")), 2),
                         number(over(f.median(mode, "smtpd", CPU), value(CPU)), 3)])
        if rows:
            yield from ("", f"### {WHAT[mode]}", "", f"`load {arguments}`", "")
            yield from table(["server", "messages/s", "CPU us/message", "lowest - highest", "p50 ms", "p99 ms", "p99.9 ms", "rate: smtpd / it", "CPU: smtpd / it"], rows)
    rows = [[f"{name}, {threads} threads", number(f.median(f"store {threads}", name, "messages_per_s")), number(f.median(f"store {threads}", name, CPU), 1)]
            for name in ("sqlite", "postgresql") for threads in THREADS if name in f.servers(f"store {threads}")]
    if rows:
        yield from ("", "### The store alone, without SMTP: `store_load --put`", "")
        yield from table(["store", "messages/s", "CPU us/message"], rows)


    if disk := f.median("disk", "sync", "syncs_per_s"):
        yield from ("", f"The disk itself writes 4 KiB and syncs {number(disk)} times a second, one at a time.")


def goals(f):
    rate, cpu = (lambda mode, key=key: f.ratio(mode, "smtpd", "postfix", key) for key in ("messages_per_s", CPU))
    yield 7, "durable, keep: rate / Postfix", rate("keep"), ">=", 4, 5
    yield 7, "durable, keep: CPU / Postfix", cpu("keep"), "<=", 0.15, 0.12
    yield 7, "durable, 100 connections: rate / Postfix", rate("100"), ">=", 6, 8
    yield 7, "durable, 64 KiB: rate / Postfix", rate("64k"), ">=", 3.5, 4
    yield 7, "durable, 1 connection: rate / Postfix", rate("1"), ">=", 2.5, 3
    yield 7, "durable, newconn: rate / Postfix", rate("newconn"), ">=", 3, 3.5


def comparisons(f):
    for mode in MODES:
        yield from f.beside_peers(mode, "smtpd", queues.PEERS, CPU=(CPU, "<="), rate=("messages_per_s", ">="))


def charts(f, chart, folder):
    panel = lambda mode, key: [(name, f.median(mode, name, key)) for name in NAMES]
    chart.bars(folder / "durable-rate.svg", "On disk before 250: messages a second", "messages per second",
               [(WHAT[mode], panel(mode, "messages_per_s")) for mode in MODES])
    chart.bars(folder / "durable-cpu.svg", "On disk before 250: server CPU", "microseconds per message",
               [(WHAT[mode], panel(mode, CPU)) for mode in MODES])
    return ["durable-rate.svg", "durable-cpu.svg"]
