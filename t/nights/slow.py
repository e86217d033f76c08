"""slow.py -- a thousand who send an octet a second, in all states, and two hundred who never read: they meet an absolute
deadline, nobody else notices, and nothing of theirs is mail."""
from collections import Counter

from crowd import Crowd, addresses
from idle import FROM, HELLO, TO
from parts import PATIENCE, case, check, equal
from samples import MIB, held_by, returned, settled
from working import LONG, SANITIZED, Work, books, daemon, sink, warmed_up

DEADLINE = 30 if LONG else 6  # seconds
SHARE = 5 if SANITIZED else 1  # there are so many times fewer
COMMANDS = {  # kind: how many, what they say first, and then an octet a second
    "before EHLO": (100, (), b"EHLO"), "in a command": (250, (HELLO,), b"NOOP "), "in MAIL": (100, (HELLO,), b"MAIL FROM:<a@b"),
    "in an over-long line": (50, (HELLO, b"NOOP " + b"x" * 3000), b"x"), "in AUTH": (100, (HELLO, b"AUTH PLAIN\r\n"), b"AAAA"),
}
TEXTS = {
    "in a text": (200, (HELLO, FROM, TO, b"DATA\r\n"), b"Subject: crowd\r\n\r\n"), "in a text of dots": (50, (HELLO, FROM, TO, b"DATA\r\n"), b"..\r\n"),
    "in a chunk": (100, (HELLO, FROM, TO, b"BDAT 5000 LAST\r\n"), b"x"), "in a refused chunk": (25, (HELLO, b"BDAT 5000 LAST\r\n"), b"x"),
}
HANDSHAKES = {"in a handshake": (25, (), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))}
DEAF = {"never reads HELP": (100, (HELLO, b"HELP\r\n" * 2000), None), "never reads EHLO": (100, (HELLO * 1000,), None)}


def invite(crowd, kinds, **how):
    sources = addresses(2, 100)
    for kind, (count, lines, drops) in kinds.items():
        crowd.invite(count // SHARE, sources, kind, lines, drops, **how)


def ended(crowd, kinds, seconds, code):
    """They are ended at that time, having heard the code as their last one."""
    guests = crowd.of(*kinds)
    crowd.until(f"those {', '.join(kinds)} are ended", lambda: all(guest.ended for guest in guests), seconds + 2 * PATIENCE)
    heard = Counter(guest.codes[-1] if guest.codes else None for guest in guests)
    equal(dict(heard), {code: len(guests)}, f"the last codes of those {', '.join(kinds)}")
    took = [guest.ended - guest.since for guest in guests]
    check(seconds - 2 < min(took) and max(took) < seconds + PATIENCE, f"the deadline of {seconds} s was met after {min(took):.1f} to {max(took):.1f} s")
    return f"{len(guests)} after {min(took):.1f} to {max(took):.1f} s"


def beside(box, server, waits, count=1200):
    """All of them beside work; `waits` has the deadlines, and the last words, of those whose end is waited for."""
    before = settled(server)
    crowd, work = Crowd(box, server.port), Work(server.port, pace=0.02)
    for kinds in (COMMANDS, TEXTS):
        invite(crowd, kinds)
    invite(crowd, HANDSHAKES, port=server.tls_port, greets=False)
    invite(crowd, DEAF, reads=False)
    equal(len(crowd.waiting) * SHARE, count, "clients who mean no good")
    crowd.until("all have come", lambda: not crowd.waiting)
    most, said = held_by(server), []
    for kinds, seconds, code in waits:
        said.append(ended(crowd, kinds, seconds, code))
    crowd.leave(crowd.here(*COMMANDS, *TEXTS, *HANDSHAKES, *DEAF))
    taken = work.all_taken()
    check(taken > 8, "nobody worked meanwhile")
    after = returned(server, before)
    print(f"        ended: {'; '.join(said)}; {taken} mails beside them; {before.memory / MIB:.1f} MiB before, {most.memory / MIB:.1f} with them, {after.memory / MIB:.1f} after", flush=True)
    return work


@case("1,000 drip an octet a second, 200 never read: 421 at the absolute deadline of commands, texts and handshakes, and all mail beside them is kept (a sink)")
def drips_at_a_sink(box):
    server = sink(box, "--time-out", DEADLINE)
    work = beside(box, server, [(COMMANDS, DEADLINE, 421), (DEAF, DEADLINE, None), (TEXTS, DEADLINE, 421), (HANDSHAKES, DEADLINE, None)])
    work.kept(server)


@case("1,000 drip an octet a second, 200 never read: 421 at the absolute deadline, all mail beside them is delivered and nothing of theirs (the daemon)")
def drips_at_the_daemon(box):
    hop = books(box)
    server = daemon(box, hop, client_time_out=DEADLINE)
    first = warmed_up(server)
    waits = [(COMMANDS, DEADLINE, 421), (DEAF, DEADLINE, None)]
    if LONG:
        waits += [(HANDSHAKES, 60, None), (TEXTS, 180, 421)]  # the library's defaults
    work = beside(box, server, waits)
    work.delivered(hop, first)
    server.empty()
