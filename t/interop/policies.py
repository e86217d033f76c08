"""policies.py -- the policies that ask the DNS, in examples/policy: with nsd, with dead name servers and with lying ones."""
import smtplib
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

from clients import ANNA, BERT
from nsd import NOERROR, NXDOMAIN, Nsd, Silent, Told, closed_port, wire
from parts import PATIENCE, Skipped, case, check, equal, letter, travelled

LISTED, OTHER, HARMLESS = "127.0.0.2", "127.0.0.3", "127.0.0.9"  # clients
GOOD = "mx.example"  # a sender's domain
OPEN = "220"  # a greeting
TRUNCATED = 0x0200


def name_of(address):
    """As block lists know it (RFC 5782 2.1)."""
    return ".".join(reversed(address.split(".")))


NOBODY = name_of("127.0.0.1")
LOOPBACK6 = ".".join("1" + "0" * 31)

# What LISTED hears where list.test is asked about him.
REFUSAL = f"554 5.7.1 {LISTED} is listed by list.test. See list.test/why: ??221 bye {{zone}}"

ZONES = {
    "list.test": fr"""
{name_of(LISTED)} A 127.0.0.2
{name_of(LISTED)} TXT "See list.test/why: " "\013\010221 bye {{zone}}"
{name_of(OTHER)} A 127.0.0.10
{LOOPBACK6} A 127.0.0.2
""",
    "error.test": f"{name_of(LISTED)} A 127.255.255.254\n{name_of(LISTED)} A 127.0.0.2\n{name_of(OTHER)} A 127.255.255.1\n",
    "allow.test": f"{name_of(LISTED)} A 127.0.10.2\n",
    "everybody.test": "* A 127.0.0.2\n",
    "parked.test": "* A 192.0.2.80\n",
    "broken.test": None,
    "example": f"""
mx MX 10 host
null MX 0 .
nearly-null MX 0 .
nearly-null MX 10 host
a A 192.0.2.1
aaaa AAAA 2001:db8::1
host A 192.0.2.2
text TXT "Nobody takes mail here."
alias CNAME mx
dangling CNAME nowhere
""" + "".join(f"large MX {100 + number} a-host-with-a-name-as-long-as-only-a-few-fit-a-datagram-{number:02}\n" for number in range(40)),
    "broken.example": None,
}


def policy(box, dns, *options, listen="127.0.0.1:0", via=None):
    """`dns` is a port, or several."""
    servers = [option for port in (dns if isinstance(dns, (list, tuple)) else [dns]) for option in ("--dns", f"127.0.0.1:{port}")]
    return box.server("policy", "--listen", listen, "--hostname", "front.example.org", "--domains", "example.test", *servers,
                      *(["--via", f"127.0.0.1:{via}"] if via else []), *options)


def lists(*zones):
    return [option for zone in zones for option in ("--dnsbl", zone)]


class Visitor:
    """A client that comes from `address`; `greeting` is what it hears, in one line."""

    def __init__(self, server, address=HARMLESS):
        self.client = smtplib.SMTP(timeout=PATIENCE, local_hostname="client.example.org", source_address=(address, 0))
        code, text = self.client.connect("::1" if ":" in address else "127.0.0.1", server.port)
        self.greeting = f"{code} {text.decode()}"

    def __enter__(self):
        return self.client

    def __exit__(self, *_):
        self.client.close()


def greeting(server, address=LISTED):
    """Who is refused must see the connection end, too."""
    visitor = Visitor(server, address)
    with visitor as client:
        if visitor.greeting.startswith("220 front.example.org"):
            return OPEN
        equal(client.file.read(), b"", "what comes behind a refusal")
        return visitor.greeting


def mail_from(server, *domains, address=HARMLESS):
    """Code and status of MAIL, for a sender of each domain."""
    seen = []
    with Visitor(server, address) as client:
        client.ehlo()
        for domain in domains:
            code, text = client.mail(f"anna@{domain}" if domain else "")
            seen.append(f"{code} {text.decode().split()[0]}")
            client.rset()
    return seen[0] if len(domains) == 1 else seen


@case("DNSBL with nsd: who is listed is greeted by 554 5.7.1 with the zone's text in one line, others by 220, and their mail arrives")
def listed(box):
    nsd, sink, mail = Nsd(box, ZONES), box.sink(), letter()
    front = policy(box, nsd.port, *lists("list.test"), via=sink.port)
    for _ in range(3):
        equal(greeting(front), REFUSAL, "the greeting")
    equal(greeting(front, OTHER), f"554 5.7.1 {OTHER} is listed by list.test.", "the greeting, of a zone without a text")
    with Visitor(front) as client:
        client.sendmail(ANNA, [BERT], mail)
        equal(client.mail(ANNA)[0], 250, "MAIL")
        code, text = client.rcpt("bert@elsewhere.test")
        equal((code, text.split()[0]), (550, b"5.7.1"), "RCPT of another's domain")
    travelled(sink.only(), ANNA, [BERT], mail, hops=1)


@case("DNSBL with nsd: only the return codes that were named count, and 127.255.255.x refuses nobody, with others beside it too")
def codes(box):
    nsd = Nsd(box, ZONES)
    front = policy(box, nsd.port, *lists("list.test=127.0.0.2, 127.0.0.4/30"))
    equal((greeting(front, LISTED)[:9], greeting(front, OTHER)), ("554 5.7.1", OPEN), "greetings")
    front = policy(box, nsd.port, *lists("list.test=127.0.0.8/29"))
    equal((greeting(front, LISTED), greeting(front, OTHER)[:9]), (OPEN, "554 5.7.1"), "greetings")
    front = policy(box, nsd.port, *lists("error.test", "parked.test"))
    equal((greeting(front, LISTED), greeting(front, OTHER)), (OPEN, OPEN), "greetings")
    for problem in "error.test: 127.255.255.254", "error.test: 127.255.255.1", "parked.test: 192.0.2.80":
        check(f"block list {problem}" in front.said(), f"nothing of {problem} in", front.said())


@case("DNSBL with nsd: a zone that lists 127.0.0.1 is believed nothing, one that fails neither, and the next zone is asked all the same")
def useless(box):
    nsd = Nsd(box, ZONES)
    equal(nsd.ask(f"{NOBODY}.everybody.test", "A"), (NOERROR, False, 1), "what nsd says of 127.0.0.1")
    front = policy(box, nsd.port, *lists("everybody.test", "broken.test", "elsewhere.test"))
    for address in LISTED, HARMLESS, "127.0.0.1":
        equal(greeting(front, address), OPEN, f"the greeting of {address}")
    check("block list everybody.test: the zone lists everybody" in front.said(), "it said", front.said())
    check("block list broken.test: " in front.said() and "block list elsewhere.test: " in front.said(), "it said", front.said())
    front = policy(box, nsd.port, *lists("broken.test", "everybody.test", "list.test"))
    equal(greeting(front), REFUSAL, "the greeting")


@case("DNSBL with nsd: an allow list lets in who is on a block list too, and nobody else")
def allowed(box):
    nsd = Nsd(box, ZONES)
    front = policy(box, nsd.port, *lists("list.test"), "--dnswl", "allow.test")
    equal((greeting(front, LISTED), greeting(front, OTHER)[:9]), (OPEN, "554 5.7.1"), "greetings")


@case("DNSBL with nsd: trusted networks are not asked about, and relay")
def trusted(box):
    nsd, sink, mail = Nsd(box, ZONES), box.sink(), letter()
    front = policy(box, nsd.port, *lists("list.test"), "--sender-verify", "--trusted", f"{LISTED}, ::1", via=sink.port)
    equal((greeting(front, LISTED), greeting(front, OTHER)[:9]), (OPEN, "554 5.7.1"), "greetings")
    with Visitor(front, LISTED) as client:
        client.sendmail("anna@nowhere.example", ["bert@elsewhere.test"], mail)
    travelled(sink.only(), "anna@nowhere.example", ["bert@elsewhere.test"], mail, hops=1)


@case("DNSBL with nsd: a client by IPv6 is known by its nibbles")
def by_ipv6(box):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as reason:
        raise Skipped(f"no IPv6 here: {reason}") from None
    nsd = Nsd(box, ZONES)
    equal(nsd.ask(f"{LOOPBACK6}.list.test", "A"), (NOERROR, False, 1), "what nsd says of ::1")
    front = policy(box, nsd.port, *lists("list.test"), listen="[::1]:0")
    equal(greeting(front, "::1"), "554 5.7.1 ::1 is listed by list.test.", "the greeting")
    equal(greeting(policy(box, nsd.port, *lists("allow.test"), listen="[::1]:0"), "::1"), OPEN, "the greeting")


@case("SenderVerify with nsd: MX, A, AAAA, an alias or 40 MX are fine; null MX, no domain, no record and a failure have each their status")
def senders(box):
    nsd = Nsd(box, ZONES)
    check(nsd.ask("large.example", "MX")[1], "40 records fit a datagram")
    front = policy(box, nsd.port, "--sender-verify")
    expected = {**dict.fromkeys((GOOD, "a.example", "aaaa.example", "nearly-null.example", "alias.example", "large.example", "MX.Example",
                                 "", "[127.0.0.1]"), "250 2.1.0"),
                "null.example": "550 5.7.27", "nowhere.example": "550 5.1.8", "dangling.example": "550 5.1.8", "text.example": "550 5.1.8",
                "broken.example": "451 4.4.3", "elsewhere.test": "451 4.4.3"}
    for _ in range(2):  # as they were remembered, too
        seen = dict(zip(expected, mail_from(front, *expected)))
        check(seen == expected, "MAIL, otherwise than expected:", {each: seen[each] for each in expected if seen[each] != expected[each]})


def goes_on(box, *dns):
    """Nobody is refused for want of a DNS, and no mail that needs none is hindered; then they are told to come again."""
    sink, mail = box.sink(), letter()
    front = policy(box, dns, *lists("list.test", "other.test"), "--sender-verify", via=sink.port)
    equal(greeting(front), OPEN, "the greeting")
    equal(mail_from(front, GOOD), "451 4.4.3", "MAIL")
    with Visitor(front, LISTED) as client:
        client.sendmail("", [BERT], mail)
    travelled(sink.only(), "", [BERT], mail, hops=1)
    check("block list list.test: " in front.said() and "block list other.test: " in front.said(), "it said", front.said())


@case("a name server that is not there: block lists refuse nobody, SenderVerify says 451 4.4.3, and mail goes")
def not_there(box):
    goes_on(box, closed_port())


@case("a name server that never answers: block lists refuse nobody, SenderVerify says 451 4.4.3 by its deadline, and mail goes")
def silent(box):
    goes_on(box, Silent(box).port)


@case("200 clients at once, from as many addresses: each is refused or greeted as nsd has it, and all are greeted where no DNS answers")
def crowd(box):
    addresses = [f"127.0.5.{last}" for last in range(1, 201)]
    zone = "".join(f"{name_of(each)} A 127.0.0.2\n" for each in addresses[::2])
    fronts = [policy(box, port, *lists("list.test")) for port in (Nsd(box, {"list.test": zone}).port, Silent(box).port)]
    with ThreadPoolExecutor(len(addresses)) as visitors:
        for front, first in zip(fronts, ("554", OPEN)):
            seen = [each[:3] for each in visitors.map(greeting, [front] * len(addresses), addresses)]
            equal(seen, [first, OPEN] * (len(addresses) // 2), "greetings")


@case("one of two name servers is dead: who is listed is refused, and senders are what they are")
def one_of_two(box):
    nsd = Nsd(box, ZONES)
    front = policy(box, [closed_port(), nsd.port], *lists("list.test"), "--sender-verify")
    equal(greeting(front)[:9], "554 5.7.1", "the greeting")
    equal(mail_from(front, GOOD, "nowhere.example", "null.example"), ["250 2.1.0", "550 5.1.8", "550 5.7.27"], "MAIL")


# ---- liars ----

def a(text):
    return socket.inet_aton(text)


LIST = {f"{name_of(LISTED)}.list.test": {"A": [a("127.0.0.2")], "TXT": [b"\x04Spam"]},
        GOOD: {"MX": [b"\0\x0a" + wire("host.example")]}}


def truth(question):
    """What an honest name server would say; what may be remembered for no time at all."""
    records = LIST.get(question.name)
    if records is None:
        return question.answer(code=NXDOMAIN)
    return question.answer(*records.get(question.kind, []))


def of_type(**records):
    """The same for all names."""
    return lambda question: [question.answer(*records.get(question.kind, []))]


def loop(question):
    """Names that point to themselves, as owner and in the record."""
    here = struct.pack(">H", 0xc000 | 12 + len(question.section))
    there = struct.pack(">H", 0xc000 | 12 + len(question.section) + 12 + 2)
    return [question.answer(count=1) + question.record(a("127.0.0.2"), owner=here),
            question.answer(count=1) + question.record(b"\0\x0a" + there)]


def endless(question):
    return [question.answer(count=1) + question.record(wire(f"x.{question.name}"[-200:].lstrip(".")), kind="CNAME")]


def hostile_text(question):
    if question.kind == "TXT":
        line = b"a\r\n221 bye\r\n" + bytes(range(128, 256))
        return [question.answer(*[bytes([len(line)]) + line] * 20)]
    return [truth(question)]


def by_tcp(say):
    """What is too large for UDP, and what is said then."""
    return (lambda question: [question.answer(flags=TRUNCATED)]), say


def measured(packet, length=None):
    return struct.pack(">H", len(packet) if length is None else length) + packet


BELIEVED, DROPPED = ("554 5.7.1", "250 2.1.0"), (OPEN, "451 4.4.3")

# How it lies, and what is to come of it: the greeting of who is listed, and MAIL. A pair speaks by UDP and by TCP.
LIES = {
    "it tells the truth": (lambda q: [truth(q)], *BELIEVED),
    "garbage": (lambda q: [b"", b"\0", b"\xff" * 50, q.id, q.id + b"\xff" * 60], *DROPPED),
    "wrong ids": (lambda q: [bytes([q.id[0] ^ bit, q.id[1]]) + truth(q)[2:] for bit in (1, 128)], *DROPPED),
    "answers to another question": (lambda q: [q.answer(a("127.0.0.2"), section=wire("other.test") + q.section[-4:])], *DROPPED),
    "packets cut off": (lambda q: [truth(q)[:length] for length in (11, 12, 20, len(truth(q)) - 1)], *DROPPED),
    "more records than there are": (lambda q: [q.answer(*LIST.get(q.name, {}).get(q.kind, []), count=65535)], *DROPPED),
    "truncated, and nobody by TCP": (lambda q: [q.answer(flags=TRUNCATED)], *DROPPED),
    "truncated, and the truth by TCP": (by_tcp(lambda q: measured(truth(q))), *BELIEVED),
    "truncated, and by TCP too": (by_tcp(lambda q: measured(q.answer(flags=TRUNCATED))), *DROPPED),
    "truncated, and nothing by TCP": (by_tcp(lambda q: b""), *DROPPED),
    "truncated, and by TCP less than was promised": (by_tcp(lambda q: measured(truth(q), 65535)), *DROPPED),
    "truncated, and by TCP no length at all": (by_tcp(lambda q: measured(truth(q), 0)), *DROPPED),
    "truncated, and garbage by TCP": (by_tcp(lambda q: measured(q.id + b"\xff" * 60000)), *DROPPED),
    "compression loops": (loop, *DROPPED),
    "an alias of itself": (lambda q: [q.answer(count=1) + q.record(b"\xc0\x0c", kind="CNAME")], *DROPPED),
    "endless aliases": (endless, *DROPPED),
    "MX and A records that are none": (of_type(A=[b"\x7f"], MX=[b"\0"], AAAA=[b""]), *DROPPED),
    **{f"response code {code}": (lambda q, code=code: [q.answer(code=code)], *DROPPED) for code in (1, 2, 4, 5, 15)},
    "everybody is listed": (of_type(A=[a("127.0.0.2")], MX=[b"\0\x0a" + wire("host.example")]), OPEN, "250 2.1.0"),
    "every name is a host of its own": (of_type(A=[a("192.0.2.1")]), OPEN, "250 2.1.0"),
    "every name has a null MX": (of_type(MX=[b"\0\0\0"]), OPEN, "550 5.7.27"),
    "no name exists": (lambda q: [q.answer(code=NXDOMAIN)], OPEN, "550 5.1.8"),
    "a code of errors": (of_type(A=[a("127.255.255.252")], MX=[b"\0\x0a" + wire("host.example")]), OPEN, "250 2.1.0"),
    "2000 records": (lambda q: [q.answer(*(LIST.get(q.name, {}).get(q.kind, []) * 2000), code=NOERROR if q.name in LIST else NXDOMAIN)],
                     *BELIEVED),
    "texts with lines in them": (hostile_text, *BELIEVED),
}


def lied_to(liar, front):
    """The greeting and MAIL, by a policy whose name server it is; who comes again hears the same."""
    heard = greeting(front), mail_from(front, GOOD)
    check(liar.asked, "nobody asked the name server")
    check(heard[0].isascii() and heard[0].isprintable(), "the greeting is", heard[0])
    equal(greeting(front), heard[0], "the greeting, to who comes again")
    return heard[0][:9], heard[1]


@case(f"name servers that lie, in {len(LIES) - 1} ways: no crash, nobody is refused by what makes no sense, and a sender then hears 451 4.4.3")
def lies(box):
    with ThreadPoolExecutor(len(LIES)) as visitors:
        told = {}
        for how, (say, *_) in LIES.items():
            liar = Told(box, *(say if isinstance(say, tuple) else [say]))
            told[how] = visitors.submit(lied_to, liar, policy(box, liar.port, *lists("list.test"), "--sender-verify"))
        wrong = {how: seen.result() for how, seen in told.items() if seen.result() != LIES[how][1:]}
    check(not wrong, "what came of lies, otherwise than it should:", wrong)


@case("what a name server said is asked for once, \"nothing there\" too, though it may be remembered for no time")
def remembered(box):
    server = Told(box, lambda question: [truth(question)])
    front = policy(box, server.port, *lists("list.test"), "--sender-verify")

    def visit():
        seen = greeting(front, LISTED)[:3], greeting(front, HARMLESS), mail_from(front, GOOD, "nowhere.example", "MX.example")
        equal(seen, ("554", OPEN, ["250 2.1.0", "550 5.1.8", "250 2.1.0"]), "greetings and MAIL")
    visit()
    before = server.asked.copy()
    for question in ((f"{name_of(LISTED)}.list.test", "A"), (f"{NOBODY}.list.test", "A"), (f"{name_of(LISTED)}.list.test", "TXT"),
                     (f"{name_of(HARMLESS)}.list.test", "A"), (GOOD, "MX"), ("nowhere.example", "MX")):
        check(before[question], f"nobody asked for {question}, but for", before)
    for _ in range(3):
        visit()
    equal(server.asked, before, "questions after four visits")
