"""drain.py -- a queue that is emptied to one next hop: ours, and Postfix's."""
import os
import time

import queues
from figures import over
from page import number, spread, table
from running import BENCH, FAILED, QUICK, Failure, chosen, rounds, tool

TITLE = "Drain"
# As it comes; and to a hundred sessions at once, each mail by a new one or by one that is kept.
POSTFIX_SENDS = {
    "postfix": {},
    "postfix-100": {"concurrency": 100, "reuse": "no"},
    "postfix-reuse": {"concurrency": 100, "reuse": "yes"},
}
NAMES = ["smtpd", "bare", *POSTFIX_SENDS]
MAILS = 2_000 if QUICK else 6_000
CPU = "cpu_us_per_message"


def drained(server):
    """Counted from when some have come, so that starting the programs is not measured."""
    return tool(BENCH / "drained", "--pid", server.pids[0], "--arrivals", queues.ARRIVALS, "--from", MAILS // 20, "--to", MAILS)


def drain_ours(figures, name, box, hop):
    place = box.new(name)
    queues.fill(place, MAILS, due=0, domains=1)
    os.sync()
    sender = queues.Ours(name, place, hop.address)
    try:
        return drained(sender)
    finally:
        sender.end()


def drain_postfix(figures, name, box, hop):
    server = queues.start_peer(figures, name, box)
    if not server:
        return None
    try:
        server.load(f"--mode keep --total {MAILS}", 120)
        os.sync()
        server.instance.deliver(hop.address.rpartition(":")[2], **POSTFIX_SENDS[name])
        run = drained(server)
        if trouble := server.trouble():
            raise Failure(trouble[0])
        return run
    finally:
        queues.stop(box)


def measure(figures):
    names = chosen("SERVERS", NAMES, ["smtpd", "postfix", "postfix-100"] if QUICK else NAMES)
    with queues.Boxes() as boxes:
        for turn in range(rounds(3)):
            for name in list(names):
                hop = queues.NextHop()
                try:
                    run = (drain_postfix if name in POSTFIX_SENDS else drain_ours)(figures, name, boxes.new(), hop)
                    if not run:
                        names.remove(name)
                        continue
                    figures.note("drain", name, turn + 1, run)
                    time.sleep(0.2)
                    if hop.arrived() != MAILS:
                        raise Failure(f"{MAILS} mails drained, {hop.arrived()} arrived")
                except FAILED as failure:
                    figures.failed(name, "drain", failure)
                    names.remove(name)
                finally:
                    hop.end()


def sections(f):
    rows = []
    for name in [name for name in NAMES if name in f.servers("drain")]:
        value = lambda key: f.median("drain", name, key)
        rows.append([name, number(value("messages_per_s")), number(value(CPU), 1), spread(f.values("drain", name, CPU), 1),
                     number(value("hop_cpu_us_per_message"), 1), number(value("hop_connections")),
                     number(over(f.median("drain", "smtpd", "messages_per_s"), value("messages_per_s")), 2),
                     number(over(f.median("drain", "smtpd", CPU), value(CPU)), 3)])
    if rows:
        yield from ("", f"### {MAILS:,} mails of 4 KiB to one next hop on loopback, each exactly once", "")
        yield from table(["server", "messages/s", "CPU us/message", "lowest - highest", "next hop's CPU us", "its connections",
                          "rate: smtpd / it", "CPU: smtpd / it"], rows)


def goals(f):
    for theirs, how in (("postfix", "as it comes"), ("postfix-100", "100 at once"), ("postfix-reuse", "100 at once, connections kept")):
        yield 9, f"drain: rate / Postfix, {how}", f.ratio("drain", "smtpd", theirs, "messages_per_s"), ">=", 5, 6
        yield 9, f"drain: CPU / Postfix, {how}", f.ratio("drain", "smtpd", theirs, CPU), "<=", 0.2, 0.15


def comparisons(f):
    yield from f.beside_peers("drain", "smtpd", POSTFIX_SENDS, CPU=(CPU, "<="), rate=("messages_per_s", ">="))


def charts(f, chart, folder):
    panel = lambda key: [(name, f.median("drain", name, key)) for name in NAMES]
    chart.bars(folder / "drain.svg", "A queue that is emptied to one next hop", "messages per second",
               [("how fast", panel("messages_per_s")), ("CPU of the queue", panel(CPU), "microseconds per message")])
    return ["drain.svg"]
