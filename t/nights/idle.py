"""idle.py -- ten thousand who are connected and say nothing, in all states, and those who work beside them."""
import os

from crowd import Crowd, addresses, can_hold
from parts import case, check, equal
from samples import KIB, MIB, held_by, returned, settled
from working import SANITIZED, Work, books, daemon, sink, warmed_up

MANY = 1500 if SANITIZED else 10_000
MOST_MEMORY = 40 * KIB  # of an idle connection, its thread and all
HELLO, FROM, TO = b"EHLO c.crowd.test\r\n", b"MAIL FROM:<crowd@crowd.test>\r\n", b"RCPT TO:<crowd@example.test>\r\n"
STATES = {  # how many of a hundred, and what they have said
    "greeted": (40, ()), "in a command": (5, (b"EHLO c.cr",)), "after EHLO": (30, (HELLO,)), "after MAIL": (5, (HELLO, FROM)), "after RCPT": (10, (HELLO, FROM, TO)),
    "in a text": (5, (HELLO, FROM, TO, b"DATA\r\n", b"Subject: crowd\r\n\r\ncut")), "in a chunk": (5, (HELLO, FROM, TO, b"BDAT 5000\r\ncut")),
}


def gather(crowd, count):
    sources = addresses(1, 100)
    for kind, (share, lines) in STATES.items():
        crowd.invite(count * share // 100, sources, kind, lines)
    crowd.until("all have come and are silent", crowd.settled, 240)
    equal(len(crowd.here(*STATES)), len(crowd.all), f"connections held ({crowd})")
    return len(crowd.all)


def beside(box, server, sent, count):
    """So many idle ones, work beside them, and their end in all ways: what the server held without them, with them, and after."""
    before = settled(server)
    crowd = Crowd(box, server.port)
    count = gather(crowd, count)
    during = held_by(server)
    check(during.threads >= count and during.descriptors >= count, f"it holds {during.descriptors} descriptors and {during.threads} threads")
    work = Work(server.port, sent)
    crowd.until("who works is done", work.over, 120)
    work.all_taken()
    equal(len(crowd.here(*STATES)), count, f"connections that are still held ({crowd})")

    quiet = crowd.here("greeted", "after EHLO", "after RCPT")
    for guest in quiet[::3]:
        crowd.say(guest, b"QUIT\r\n")
    crowd.until("who said QUIT hears 221", lambda: all(guest.ended for guest in quiet[::3]))
    equal({guest.codes[-1] for guest in quiet[::3]}, {221}, "replies to QUIT")
    crowd.leave(quiet[1::3], politely=True)
    crowd.leave(crowd.here(*STATES))
    after = returned(server, before)
    each = (during.memory - before.memory) / count
    print(f"        {count} held: {before.memory / MIB:.1f} MiB before, {during.memory / MIB:.1f} with them ({each / KIB:.1f} KiB each), "
          f"{after.memory / MIB:.1f} after; {during.descriptors} descriptors and {during.threads} threads, then {after.descriptors} and {after.threads}", flush=True)
    if not SANITIZED:
        check(each < MOST_MEMORY, f"an idle connection costs {each / KIB:.1f} KiB")
        check(after.memory < before.memory + (during.memory - before.memory) / 2, "their memory does not come back")
    return work


@case("10,000 idle connections, in all states: clients beside them deliver all their mail, and what they held comes back (the daemon)")
def daemon_holds(box):
    hop = books(box)
    server = daemon(box, hop, max_connections=12_000)  # and 500 of an address, as by default
    first = warmed_up(server)
    work = beside(box, server, 600, can_hold(MANY))
    work.delivered(hop, first)
    server.empty()


@case("10,000 idle connections, in all states: clients beside them deliver all their mail, and what they held comes back (a sink)")
def sink_holds(box):
    server = sink(box)
    work = beside(box, server, 600, can_hold(MANY))
    work.kept(server)


@case("10,000 come twice: the second time costs no more memory than the first")
def again(box):
    server = sink(box)
    crowd, held = Crowd(box, server.port), []
    before = settled(server)
    count = min(can_hold(MANY), 10_000 if os.environ.get("NIGHTS") == "long" else 3000)
    for _ in range(3):
        gather(crowd, count)
        held.append(held_by(server))
        crowd.leave(crowd.all)
        crowd.all.clear()
        returned(server, before)
    print("        " + ", ".join(f"{sample.memory / MIB:.1f}" for sample in held) + " MiB")
    if not SANITIZED:
        check(held[-1].memory < held[0].memory + 8 * MIB, "it grew from time to time:", *(sample.memory for sample in held))
