"""depth.py -- a queue that is full: taking mail beside it, giving out of it, and starting with it."""
import time
from pathlib import Path

import queues
from page import number, table
from running import BENCH, FAILED, QUICK, parts, rounds, seconds, tool

TITLE = "A full queue"
# What waits while mail is taken and given out, and how much there is at a restart.
WAITING = [100_000] if QUICK else [100_000, 1_000_000]
AT_RESTART = [10_000] if QUICK else [10_000, 100_000]
CPU = "cpu_us_per_message"


def rss_kb(pid):
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def claims(figures, count, place):
    figures.note("claim", str(count), 1, tool(BENCH / "store_load", "--queue", place, "--claim", 200 if QUICK else 1000))


def taking(figures, places, box):
    """The same load on an empty queue and on full ones, in turns."""
    full = []
    try:
        for count, place in places.items():
            full.append((count, queues.Ours("smtpd", place)))
        for turn in range(rounds(4)):
            empty = queues.Ours("smtpd", box.new("empty"))  # a new one in each round: it would not stay so
            try:
                for count, server in [(0, empty), *full]:
                    server.load("--mode keep", 0.2)
                    figures.note("keep", str(count), turn + 1, server.load("--mode keep", seconds(1.2, 0.4)))
            finally:
                empty.end()
    finally:
        for _, server in full:
            server.end()


def restart(figures, box):
    """With mail that is all due, and a next hop that is not there."""
    for count in [0, *AT_RESTART]:
        place = box.new(f"restart-{count}")
        queues.fill(place, count, due=0)
        for turn in range(rounds(2)):
            server = queues.Ours("smtpd", place, f"127.0.0.1:{parts.free_port()}")
            try:
                time.sleep(0.5 if QUICK else 2)
                figures.note("restart", str(count), turn + 1, {"seconds": server.greeted, "rss_kb": rss_kb(server.pids[0])})
            finally:
                server.end()


def measure(figures):
    with queues.Boxes() as boxes:
        box = boxes.new()
        try:
            places = {count: box.new(f"waiting-{count}") for count in WAITING}
            for count, place in places.items():
                figures.note("fill", str(count), 1, queues.fill(place, count, size=1024))
            for count, place in {0: box.new("claims-empty"), **places}.items():
                claims(figures, count, place)
            taking(figures, places, box)
            restart(figures, box)
        except FAILED as failure:
            figures.failed("smtpd", "full queue", failure)


def sections(f):
    counts = [name for name in map(str, [0, 100_000, 1_000_000]) if name in f.servers("keep")]
    if counts:
        yield from ("", "### Mail taken while so much waits, of 1 KiB each: our daemon, `load --mode keep`", "")
        yield from table(["waiting", "messages/s", "CPU us/message", "rate / empty", "p99 ms"],
                         [[f"{int(at):,}", number(f.median("keep", at, "messages_per_s")), number(f.median("keep", at, CPU), 1),
                           number(f.ratio("keep", at, "0", "messages_per_s"), 2), number(f.median("keep", at, "p99_us") / 1000, 2)] for at in counts])
        yield from ("", "### Mail given out while so much waits, 20 at a time: the store alone", "")
        yield from table(["waiting", "a claim, p50 us", "p99 us", "p50 / empty", "a page of 1,000 domains, us", "stats, us", "a page of 1,000 items, us"],
                         [[f"{int(at):,}", number(f.median("claim", at, "claim_p50_us")), number(f.median("claim", at, "claim_p99_us")),
                           number(f.ratio("claim", at, "0", "claim_p50_us"), 2), *(number(f.median("claim", at, f"{what}_us")) for what in ("domains", "stats", "items"))] for at in counts])
    counts = [name for name in map(str, [0, 10_000, 100_000]) if name in f.servers("restart")]
    if counts:
        yield from ("", "### Our daemon started with so much that is due, and no next hop", "")
        yield from table(["queued", "first 220 after s", "RSS MB"],
                         [[f"{int(at):,}", number(f.median("restart", at, "seconds"), 3), number(f.median("restart", at, "rss_kb") / 1024, 1)] for at in counts])


def goals(f):
    rate = lambda at: f.ratio("keep", at, "0", "messages_per_s")
    yield 8, "100,000 waiting: rate / empty", rate("100000"), ">=", 0.9, 0.95
    yield 8, "1,000,000 waiting: rate / empty", rate("1000000"), ">=", None, 0.95
    yield 8, "100,000 waiting: a claim / empty (flat is 1)", f.ratio("claim", "100000", "0", "claim_p50_us"), "<=", None, 1.5
    yield 8, "1,000,000 waiting: a claim / empty (flat is 1)", f.ratio("claim", "1000000", "0", "claim_p50_us"), "<=", None, 1.5


def comparisons(f):
    return ()


def charts(f, chart, folder):
    counts = [name for name in map(str, [0, 100_000, 1_000_000]) if name in f.servers("keep")]
    chart.bars(folder / "depth.svg", "A queue with so many mails waiting", "messages per second",
               [("taken: load --mode keep", [(f"ours, {int(at):,}", f.median("keep", at, "messages_per_s")) for at in counts]),
                ("given out: a claim of 20, from the store alone", [(f"ours, {int(at):,}", f.median("claim", at, "claim_p50_us")) for at in counts], "microseconds")])
    return ["depth.svg"]
