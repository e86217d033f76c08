"""drain.py -- a queue that is emptied to one next hop: ours, and Postfix's."""
import os
import time

import queues
from page import number, spread, table
from running import BENCH, FAILED, QUICK, Failure, chosen, rounds, tool

TITLE = "Drain"
# As it comes, which is twenty sessions at once to one next hop with both; and a hundred, each mail by a new one or by one
# that is kept.
POSTFIX_SENDS = {
    "postfix": {},
    "postfix-100": {"concurrency": 100, "reuse": "no"},
    "postfix-reuse": {"concurrency": 100, "reuse": "yes"},
}
OURS_SENDS = {
    "smtpd": [],
    "smtpd-100": ["--maxrelay", "400", "--per_destination", "100"],  # a quarter of all is the most to one
    "bare": [],
}
# Which of ours sends to as many at once.
LIKE = {"postfix": "smtpd", "postfix-100": "smtpd-100", "postfix-reuse": "smtpd-100"}
NAMES = [*OURS_SENDS, *POSTFIX_SENDS]
MAILS = 2_000 if QUICK else 6_000
CPU = "cpu_us_per_message"


def drained(server):
    """Counted from when some have come, so that starting the programs is not measured."""
    return tool(BENCH / "drained", "--pid", server.pids[0], "--arrivals", queues.ARRIVALS, "--from", MAILS // 20, "--to", MAILS)


def drain_ours(figures, name, box, hop):
    place = box.new(name)
    queues.fill(place, MAILS, due=0, domains=1)
    os.sync()
    sender = queues.Ours(name, place, hop.address, settings=OURS_SENDS[name])
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
    names = chosen("SERVERS", NAMES, ["smtpd", "smtpd-100", "postfix", "postfix-100"] if QUICK else NAMES)
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
                     *(number(f.ratio("drain", LIKE[name], name, key), digits) if name in LIKE else "-"
                       for key, digits in (("messages_per_s", 2), (CPU, 3)))])
    if rows:
        yield from ("", f"### {MAILS:,} mails of 4 KiB to one next hop on loopback, each exactly once", "")
        yield from table(["server", "messages/s", "CPU us/message", "lowest - highest", "next hop's CPU us", "its connections",
                          "rate: ours / it", "CPU: ours / it"], rows)
        yield from ("", "Ours is smtpd beside postfix, as both come, and smtpd-100 beside the two that send to 100 at once.")


def goals(f):
    for theirs, how in (("postfix", "as it comes"), ("postfix-100", "100 at once"), ("postfix-reuse", "100 at once, connections kept")):
        yield 9, f"drain: rate / Postfix, {how}", f.ratio("drain", LIKE[theirs], theirs, "messages_per_s"), ">=", 5, 6
        yield 9, f"drain: CPU / Postfix, {how}", f.ratio("drain", LIKE[theirs], theirs, CPU), "<=", 0.2, 0.15


def comparisons(f):
    for ours, load in (("smtpd", "as it comes"), ("smtpd-100", "100 at once")):
        theirs = [name for name, like in LIKE.items() if like == ours]
        for _, *found in f.beside_peers("drain", ours, theirs, CPU=(CPU, "<="), rate=("messages_per_s", ">=")):
            yield load, *found


def charts(f, chart, folder):
    panel = lambda key: [(name, f.median("drain", name, key)) for name in NAMES]
    chart.bars(folder / "drain.svg", "A queue that is emptied to one next hop", "messages per second",
               [("how fast", panel("messages_per_s")), ("CPU of the queue", panel(CPU), "microseconds per message")])
    return ["drain.svg"]
