"""mx.py -- the relay on its way by MX, with nsd as its DNS, and with Postfix, Exim, OpenSMTPD and Dovecot as next hops."""
import hashlib
import re
import smtplib
import threading
import time
from pathlib import Path

from clients import ANNA, BERT, CARL
from dovecot import LOCKED_OUT, USERS, Dovecot
from exim import Exim
from hosts import Street
from nsd import NXDOMAIN, SERVFAIL, Nsd, Silent, closed_port
from opensmtpd import OpenSMTPD
from parts import EXAMPLES, PATIENCE, TORTURE, case, check, equal, letter, smtp, travelled, wait_for
from postfix import REFUSED, Postfix
from relaying import REFUSES, attempt, refused

UNKNOWN = "unknown@example.test"
LONG = "a-host-with-a-name-as-long-as-only-a-few-fit-a-datagram"

# two, three, four and six are the addresses of hosts.Street. Programs that listen on 127.0.0.1 only are example.test.
ZONE = f"""
two A 127.0.0.2
three A 127.0.0.3
four A 127.0.0.4
six AAAA ::1
both AAAA ::1
both A 127.0.0.2
also CNAME two

ordered MX 30 four
ordered MX 10 two
ordered MX 20 three
equal MX 10 two
equal MX 10 three
null MX 0 .
alias CNAME ordered
through-alias MX 10 also
one-lacks-address MX 10 missing
one-lacks-address MX 20 three
all-lack-address MX 10 missing
all-lack-address MX 20 text
by-six MX 10 six
by-both MX 10 both
text TXT "Nobody takes mail here."
xn--bcher-kva MX 10 two
exchanger-fails MX 10 mail.broken
""" + "".join(f"large MX {100 + number} {LONG}-{number:02}\n" for number in range(40)) + f"{LONG}-00 A 127.0.0.2\n"
ZONES = {"example": ZONE, "broken.example": None, "example.test": "@ MX 10 program\nprogram A 127.0.0.1\n"}


class World:
    """A name server, a street for the hosts of its zone, and relays between."""

    def __init__(self, box):
        self.box, self.nsd, self.street = box, Nsd(box, ZONES), Street(box)

    def relay(self, *arguments, dns=None, port=None):
        return self.box.server("relay", "--listen", "127.0.0.1:0", "--dns", f"127.0.0.1:{dns or self.nsd.port}",
                               "--mx-port", str(port or self.street.port), *arguments)


def heard(relay, *to, mail=None, options=()):
    """The first answer to one transaction that was not good, or the last."""
    with smtplib.SMTP("127.0.0.1", relay.port, local_hostname="client.example.org", timeout=60) as sender:
        sender.ehlo()
        replies = attempt(sender, mail or letter(), to, options)
    return next((reply for reply in replies if reply[0] >= 300), replies[-1])


def status(reply):
    return f"{reply[0]} {reply[1].split()[0]}"


def taken(*hosts):
    """How many mails each of the hosts has taken."""
    return [len(host.taken) for host in hosts]


@case("by MX: the host of the lowest preference gets the mail, octet for octet, and no other is asked")
def lowest_first(box):
    world = World(box)
    sink, others, mail = box.sink(world.street.vacate("127.0.0.2")), [world.street.host(each) for each in ("127.0.0.3", "127.0.0.4")], letter(TORTURE)
    equal(heard(world.relay(), "bert@ordered.example", "carl@ordered.example", mail=mail, options=["BODY=8BITMIME"])[0], 250, "reply")
    travelled(sink.only(), ANNA, ["bert@ordered.example", "carl@ordered.example"], mail, hops=1)
    equal([host.asked for host in others], [0, 0], "connections to the others")


@case("by MX: the next host is asked where one refuses connections, and 4xx is said where all do")
def connection_refused(box):
    world = World(box)
    reply = heard(world.relay(), "bert@ordered.example")
    check(400 <= reply[0] < 500, "with all hosts down the sender heard", reply)
    last = world.street.host("127.0.0.4")
    equal(heard(world.relay(), "bert@ordered.example")[0], 250, "with the last host up")
    middle = world.street.host("127.0.0.3")
    equal(heard(world.relay(), "bert@ordered.example")[0], 250, "with two hosts up")
    equal(taken(middle, last), [1, 1], "mails taken")


def next_after(box, *answers):
    """The second host gets the mail where the first one answers so, and the third where both do."""
    world = World(box)
    hosts = first, second, third = [world.street.host(each) for each in ("127.0.0.2", "127.0.0.3", "127.0.0.4")]
    for say in answers:
        for both, expected in ((False, [0, 1, 0]), (True, [0, 0, 1])):
            first.say, second.say = say, say if both else {}
            for host in hosts:
                host.taken.clear()
            reply = heard(world.relay(), "bert@ordered.example")
            equal((reply[0], taken(*hosts)), (250, expected), f"reply and mails taken, where {'two hosts say' if both else 'the first says'} {say}")


@case("by MX: after 4xx or nothing as greeting, nothing to EHLO, 4xx to MAIL, to DATA or to the text the next host gets the mail")
def next_after_4xx(box):
    next_after(box, {"connect": "421 4.3.2 not now"}, {"connect": None}, {"EHLO": None},
               *({step: "451 4.3.0 not now"} for step in ("MAIL", "DATA", "dot")))


@case("by MX: after 4xx to RCPT the next host gets the mail")
def next_after_4xx_to_rcpt(box):
    next_after(box, {"RCPT": "450 4.2.1 not now"})


@case("by MX: 4xx from every host is 4xx to the sender, and 5xx is 5xx though others are there")
def all_4xx_or_5xx(box):
    world = World(box)
    hosts = [world.street.host(each, MAIL="450 4.2.1 not now") for each in ("127.0.0.2", "127.0.0.3", "127.0.0.4")]
    equal(status(heard(world.relay(), "bert@ordered.example")), "450 4.2.1", "reply")
    check(all(host.asked for host in hosts), "not every host was asked")
    for step in ("MAIL", "RCPT", "dot"):
        for host in hosts:
            host.say, host.asked = {step: "550 5.1.1 never"}, 0
        equal(status(heard(world.relay(), "bert@ordered.example")), "550 5.1.1", f"reply after 550 to {step}")
        equal([host.asked for host in hosts][1:], [0, 0], f"connections to the others after 550 to {step}")
    equal(taken(*hosts[1:]), [0, 0], "mails taken")


@case("by MX: of two hosts of equal preference both get some of 40 mails, and each mail is somewhere once")
def shuffled(box):
    world = World(box)
    two, three, relay = world.street.host("127.0.0.2"), world.street.host("127.0.0.3"), world.relay()
    for _ in range(40):
        equal(heard(relay, "bert@equal.example")[0], 250, "reply")
    equal(sum(taken(two, three)), 40, "mails")
    check(min(taken(two, three)) > 0, "one host got", *taken(two, three))  # by chance once in 2^39


@case("by MX: null MX, no such domain, no address, and a DNS that fails have each their own status")
def cannot_be(box):
    world = World(box)
    host, relay = world.street.host("127.0.0.2"), world.relay()
    equal(world.nsd.ask("never.example", "MX")[0], NXDOMAIN, "what nsd says of never.example")
    equal(world.nsd.ask("broken.example", "MX")[0], SERVFAIL, "what nsd says of broken.example")
    for domain, expected in (("null", "556 5.1.10"), ("never", "550 5.1.2"), ("text", "550 5.1.2"), ("all-lack-address", "550 5.4.4"),
                             ("broken", "451 4.4.3"), ("exchanger-fails", "451 4.4.3")):
        equal(status(heard(relay, f"bert@{domain}.example")), expected, f"reply for {domain}")
    equal(host.asked, 0, "connections")
    equal(heard(relay, "bert@ordered.example")[0], 250, "afterwards")


@case("by MX: with a name server that is dead or silent the sender hears 451 4.4.3 in bounded time")
def dead_servers(box):
    world, outcomes = World(box), {}
    relays = {"silent": world.relay(dns=Silent(box).port), "not there": world.relay(dns=closed_port())}

    def send(name, to):
        began = time.monotonic()
        try:
            outcomes[name, to] = status(heard(relays[name], to)), time.monotonic() - began
        except Exception as reason:
            outcomes[name, to] = repr(reason), time.monotonic() - began

    senders = [threading.Thread(target=send, args=(name, to), daemon=True) for name in relays
               for to in ("bert@ordered.example", "carl@two.example")]
    for each in senders:
        each.start()
    for each in senders:
        each.join(60)
    equal(len(outcomes), len(senders), "senders who heard something")
    for which, (reply, seconds) in outcomes.items():
        equal(reply, "451 4.4.3", f"{which} heard after {seconds:.1f} s")
        check(seconds < 45, which, "heard it after", round(seconds, 1), "s")


@case("by MX: with one of two name servers silent the mail goes all the same")
def one_of_two_servers(box):
    world = World(box)
    host, relay = world.street.host("127.0.0.2"), world.relay("--dns", f"127.0.0.1:{Silent(box).port}")
    for domain in ("two", "alias", "large", "by-both", "xn--bcher-kva"):  # so that the silent one is asked now and then
        equal(heard(relay, f"bert@{domain}.example")[0], 250, f"reply for {domain}")
    equal(taken(host), [5], "mails taken")


@case("by MX: the relay that is a mail exchanger itself goes on to better ones only, and to none if it is the best")
def ourselves(box):
    world = World(box)
    two, four = world.street.host("127.0.0.2", MAIL="450 4.2.1 not now"), world.street.host("127.0.0.4")
    equal(status(heard(world.relay("--hostname", "three.example"), "bert@ordered.example")), "450 4.2.1", "reply as the second")
    equal((two.asked, four.asked), (1, 0), "connections to the first and to the third")
    equal(status(heard(world.relay("--hostname", "two.example"), "bert@ordered.example")), "554 5.4.6", "reply as the first")
    equal((two.asked, four.asked), (1, 0), "connections to the first and to the third")


@case("a smart host's name is looked up at --dns, and each of its addresses is tried")
def smart_host(box):
    world = World(box)
    two, relay = world.street.host("127.0.0.2"), world.relay("--via", f"both.example:{world.street.port}")
    equal(heard(relay, BERT)[0], 250, "reply")
    equal([to for _, to, _ in two.taken], [[BERT]], "recipients")


@case("by MX: a domain with an A or AAAA record only is its own host, and a host may have both")
def address_only(box):
    world = World(box)
    two, six, relay = world.street.host("127.0.0.2"), world.street.host("::1"), world.relay()
    for to, expected in (("bert@two.example", [1, 0]), ("bert@six.example", [1, 1]), ("bert@by-six.example", [1, 2])):
        equal(heard(relay, to)[0], 250, f"reply for {to}")
        equal(taken(two, six), expected, f"mails taken after {to}")
    six.say = {"connect": "421 4.3.2 not now"}
    equal(heard(world.relay(), "bert@by-both.example")[0], 250, "with one address of two in service")
    equal(taken(two, six), [2, 2], "mails taken")
    six.say, two.say = {}, {"connect": "421 4.3.2 not now"}
    equal(heard(world.relay(), "bert@by-both.example")[0], 250, "with the other in service")
    equal(taken(two, six), [2, 3], "mails taken")


@case("by MX: an alias for a domain, an alias for a host and a host without address lead where they should")
def indirect(box):
    world = World(box)
    two, three, relay = world.street.host("127.0.0.2"), world.street.host("127.0.0.3"), world.relay()
    for to, expected in (("bert@alias.example", [1, 0]), ("bert@through-alias.example", [2, 0]), ("bert@one-lacks-address.example", [2, 1])):
        equal(heard(relay, to)[0], 250, f"reply for {to}")
        equal(taken(two, three), expected, f"mails taken after {to}")
    equal([to for _, to, _ in two.taken + three.taken],
          [["bert@alias.example"], ["bert@through-alias.example"], ["bert@one-lacks-address.example"]], "recipients as they were given")


@case("by MX: 40 records, too many for a datagram, are had by TCP")
def truncated(box):
    world = World(box)
    code, too_large, records = world.nsd.ask("large.example", "MX")
    check(too_large and not records, "the answer would fit into a datagram")
    host = world.street.host("127.0.0.2")
    equal(heard(world.relay(), "bert@large.example")[0], 250, "reply")
    equal(taken(host), [1], "mails taken")


@case("by MX: address literals are taken at their word")
def literals(box):
    world = World(box)
    two, six, relay = world.street.host("127.0.0.2"), world.street.host("::1"), world.relay()
    for to, expected in (("bert@[127.0.0.2]", [1, 0]), ("bert@[IPv6:::1]", [1, 1])):
        equal(heard(relay, to)[0], 250, f"reply for {to}")
        equal(taken(two, six), expected, f"mails taken after {to}")
    for to in ("bert@[127.0.0.3]", "bert@[x-unknown:1]"):
        check(heard(relay, to)[0] >= 400, to, "was taken")
    equal(status(heard(relay, "bert@[x-unknown:1]"))[0], "5", "an unknown kind of literal is for ever unknown")


@case("by MX: an address of UTF-8 at a domain of U-labels is looked up as A-labels and arrives as it was given")
def utf8(box):
    world = World(box)
    sink, relay, mail = box.sink(world.street.vacate("127.0.0.2")), world.relay(), letter("Gruß\r\n".encode(), subject="Grüße")
    with smtp(relay.port) as sender:
        check(sender.has_extn("smtputf8"), "SMTPUTF8 is not offered")
    equal(heard(relay, "jürgen@bücher.example", mail=mail, options=["SMTPUTF8", "BODY=8BITMIME"])[0], 250, "reply")
    travelled(sink.only(), ANNA, ["jürgen@bücher.example"], mail, hops=1)


@case("by MX: two domains in one transaction, each host gets the mail with its own recipients")
def two_domains(box):
    world = World(box)
    two, three, mail = world.street.host("127.0.0.2"), world.street.host("127.0.0.3"), letter(TORTURE)
    to = ["bert@two.example", "carl@three.example", "dora@two.example"]
    equal(heard(world.relay(), *to, mail=mail, options=["BODY=8BITMIME"])[0], 250, "reply")
    equal([recipients for _, recipients, _ in two.taken], [["bert@two.example", "dora@two.example"]], "recipients at the one")
    equal([recipients for _, recipients, _ in three.taken], [["carl@three.example"]], "recipients at the other")
    for _, _, octets in two.taken + three.taken:
        check(octets.endswith(mail), "the mail was changed")


@case("by MX: of two domains one refuses: who was not refused at RCPT has the mail if the sender heard 250, else nobody")
def two_domains_refused(box):
    world = World(box)
    two, three = world.street.host("127.0.0.2"), world.street.host("127.0.0.3")
    for say in ({"RCPT": "550 5.1.1 nobody"}, {"RCPT": "450 4.2.1 not now"}, {"MAIL": "550 5.7.1 not you"}, {"connect": "554 5.3.2 never"}):
        for to in (["bert@two.example", "carl@three.example"], ["carl@three.example", "bert@two.example"]):
            three.say = say
            two.taken.clear()
            with smtp(world.relay().port) as sender:
                *recipients, end = attempt(sender, letter(), to)
            answers = dict(zip(to, recipients))
            at_rcpt = answers["carl@three.example"][0] >= 300
            equal(answers["bert@two.example"][0], 250, f"RCPT of bert with {say}")
            equal(end[0] == 250, at_rcpt, f"the end was good (carl heard {answers['carl@three.example']} at RCPT, the end was {end})")
            equal(taken(two, three), [1 if at_rcpt else 0, 0], f"mails taken with {say}")


@case("by MX: of two domains one refuses the text: the sender does not hear 250, and 451 if the other has it")
def two_domains_mixed(box):
    world = World(box)
    two, three = world.street.host("127.0.0.2"), world.street.host("127.0.0.3", dot="550 5.6.0 not this")
    for to in (["bert@two.example", "carl@three.example"], ["carl@three.example", "bert@two.example"]):
        before, reply = len(two.taken), heard(world.relay(), *to)
        if len(two.taken) > before:
            equal(reply[0], 451, "reply though one has it")
        else:
            equal(status(reply), "550 5.6.0", "reply when nobody has it")


@case("a next hop that takes the mail and closes before it says so: the sender hears 4xx, and no other host gets it")
def lost_answer(box):
    world = World(box)
    first, second = world.street.host("127.0.0.2", dot=None), world.street.host("127.0.0.3")
    for relay in (world.relay(), box.server("relay", "--listen", "127.0.0.1:0", "--via", f"127.0.0.2:{world.street.port}")):
        reply = heard(relay, "bert@ordered.example")
        check(400 <= reply[0] < 500, "the sender heard", reply)
    equal(taken(first, second), [2, 0], "mails taken")


def sanitized():
    """Whether the examples are built with a sanitizer, which takes memory of its own."""
    program = (EXAMPLES / "relay").read_bytes()
    return any(name in program for name in (b"__asan_init", b"__tsan_init"))


def peak(server):
    """The most memory it ever had, in octets."""
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{server.pid}/status").read_text(), re.MULTILINE)[1]) << 10


def send_large(relay, to, size):
    """Sends a mail of at least that size that has dots and 8-bit octets in every position; returns its size and SHA-256."""
    block, digest, sent = letter(TORTURE) * 50, hashlib.sha256(), 0
    stuffed = re.sub(rb"(?m)^\.", b"..", block)
    with smtp(relay.port) as sender:
        sender.sock.settimeout(2 * PATIENCE)
        equal(sender.mail(ANNA, ["BODY=8BITMIME"])[0], 250, "MAIL")
        equal(sender.rcpt(to)[0], 250, "RCPT")
        equal(sender.docmd("DATA")[0], 354, "DATA")
        while sent < size:
            head = b"%d\r\n" % sent  # so that no two blocks are the same
            sender.sock.sendall(head + stuffed)
            digest.update(head + block)
            sent += len(head) + len(block)
        sender.sock.sendall(b".\r\n")
        equal(sender.getreply()[0], 250, "the end of data")
    return sent, digest.hexdigest()


@case("100 MB go through the relay octet for octet, by MX and by smart host, in less than 64 MB of memory")
def large(box):
    world, folder, size = World(box), box.new("mails"), 100 << 20
    folder.mkdir()
    enough = ("--max-size", str(2 * size))
    sink = box.server("sink", "--listen", world.street.vacate("127.0.0.2"), "--dir", folder, *enough)
    smart = box.server("relay", "--listen", "127.0.0.1:0", "--via", f"127.0.0.2:{sink.port}", *enough)
    for relay in (world.relay(*enough), smart):
        idle = peak(relay)
        octets, digest = send_large(relay, "bert@two.example", size)
        file, = folder.glob("*.eml")
        with file.open("rb") as stored:
            trace = stored.read(file.stat().st_size - octets)
            check(re.fullmatch(rb"Received:.*\r\n([ \t].*\r\n)*", trace), "in front of the mail stands", trace[:1000])
            equal(hashlib.sha256(stored.read()).hexdigest(), digest, "SHA-256")
        for path in folder.iterdir():
            path.unlink()
        if not sanitized():
            check(peak(relay) - idle < 64 << 20, "the relay took", peak(relay) - idle, "octets more than when idle")


@case("a binary mail goes through the relay by BDAT: NUL, lone CR and LF, no line end at its end")
def binary(box):
    sink = box.sink()
    relay, mail = box.relay(sink.port), letter(bytes(range(256)) * 300 + b"\n.\n\r.\r\n.\r\n\0 and no end")
    with smtp(relay.port) as sender:
        check(sender.has_extn("binarymime") and sender.has_extn("chunking"), "not offered:", sender.esmtp_features)
        equal(sender.mail(ANNA, ["BODY=BINARYMIME"])[0], 250, "MAIL")
        equal(sender.rcpt(BERT)[0], 250, "RCPT")
        for chunk, last in ((mail[:1000], ""), (mail[1000:], " LAST")):
            sender.send(f"BDAT {len(chunk)}{last}\r\n".encode() + chunk)
            equal(sender.getreply()[0], 250, "BDAT")
    travelled(sink.only(), ANNA, [BERT], mail, hops=1)
    equal(sink.only().fields["parameters"]["body"], "BINARYMIME", "BODY")


@case("Postfix behind the relay by MX: a mail goes through octet for octet, and a refusal is in its own words")
def postfix(box):
    sink, mail = box.sink(), letter(TORTURE)
    relay = World(box).relay(port=Postfix(box, sink.port).port)
    equal(heard(relay, BERT, CARL, mail=mail, options=["BODY=8BITMIME"])[0], 250, "reply")
    sink.wait_for(1)
    travelled(sink.only(), ANNA, [BERT, CARL], mail, hops=2)
    refused(heard(relay, REFUSES), REFUSED)


def has_stored(program, to, mail):
    """The program has the mail for them, in one copy or in several; then it forgets it."""
    mails = wait_for(f"{program.name} stores the mail", lambda: sum(len(each.to) for each in program.mails()) >= len(to) and program.mails())
    equal(sorted(address for each in mails for address in each.to), sorted(to), "recipients")
    for each in mails:
        travelled(each, ANNA, each.to, mail, hops=2)
    program.forget()


for kind in (Exim, OpenSMTPD):
    @case(f"{kind.__name__} behind the relay, by --via and by MX: mails are stored octet for octet, and a refusal is in its own words")
    def real(box, kind=kind):
        program = kind(box)
        for relay in (box.relay(program.port), World(box).relay(port=program.port)):
            mail = letter(TORTURE)
            equal(heard(relay, BERT, CARL, mail=mail, options=["BODY=8BITMIME"])[0], 250, "reply")
            has_stored(program, [BERT, CARL], mail)
            code, words = heard(relay, REFUSES)
            check(code == 550 and program.refusal in words, "the sender heard", code, words)


@case("Exim behind the relay, by --via and by MX: an address and a header in UTF-8 go through")
def exim_utf8(box):
    exim = Exim(box)
    for relay in (box.relay(exim.port), World(box).relay(port=exim.port)):
        mail = letter(TORTURE, subject="Grüße")
        equal(heard(relay, "jürgen@example.test", mail=mail, options=["SMTPUTF8", "BODY=8BITMIME"])[0], 250, "reply")
        has_stored(exim, ["jürgen@example.test"], mail)


@case("OpenSMTPD behind the relay, which takes no UTF-8 in addresses: by --via it is not offered, by MX it is refused with 5.6.7")
def opensmtpd_utf8(box):
    program = OpenSMTPD(box)
    with smtp(box.relay(program.port).port) as sender:
        check(not sender.has_extn("smtputf8"), "SMTPUTF8 is offered")
    reply = heard(World(box).relay(port=program.port), "jürgen@example.test", options=["SMTPUTF8"])
    equal((reply[0] // 100, reply[1].split()[0]), (5, "5.6.7"), "reply")


@case("OpenSMTPD behind the relay by MX: of those who say SMTPUTF8 for every mail, it gets the ASCII ones")
def opensmtpd_ascii(box):
    program = OpenSMTPD(box)
    relay, mail = World(box).relay(port=program.port), letter(TORTURE)
    equal(heard(relay, BERT, CARL, mail=mail, options=["SMTPUTF8", "BODY=8BITMIME"])[0], 250, "reply")
    has_stored(program, [BERT, CARL], mail)
    equal(status(heard(relay, BERT, mail=letter(subject="Grüße"), options=["SMTPUTF8", "BODY=8BITMIME"])), "550 5.6.7", "reply")
    equal(program.mails(), [], "mails")


def by_lmtp(box, front, way):
    """(front, Dovecot): a relaying example, and Dovecot behind it by LMTP, on its port or on its Unix socket."""
    dovecot = Dovecot(box)
    via = f"127.0.0.1:{dovecot.port}" if way == "TCP" else f"unix:{dovecot.socket}"
    return box.server(front, "--listen", "127.0.0.1:0", "--via", f"lmtp:{via}"), dovecot


def kept(dovecot, mail, *to):
    """Those, and nobody else, have the mail since the last call, octet for octet."""
    equal(sorted(each.to for each in dovecot.mails()), sorted([each] for each in to), "who has the mail")
    for each in dovecot.mails():
        travelled(each, ANNA, each.to, mail, hops=2)
    dovecot.forget()


for way in ("TCP", "a Unix socket"):
    @case(f"relay to Dovecot by LMTP over {way}: each recipient hears its own answer at RCPT, and who was accepted has the mail")
    def lmtp(box, way=way):
        relay, dovecot = by_lmtp(box, "relay", way)
        mail = letter(TORTURE)
        with smtp(relay.port) as sender:
            equal([code for code, _ in attempt(sender, mail, USERS, ["BODY=8BITMIME"])], [250] * 3, "replies")
            kept(dovecot, mail, *USERS)
            good, unknown, end = attempt(sender, mail, [BERT, UNKNOWN], ["BODY=8BITMIME"])
            equal((good[0], status(unknown), end[0]), (250, "550 5.1.1", 250), "replies")
            kept(dovecot, mail, BERT)

    @case(f"thread to Dovecot by LMTP over {way}: one of two is unknown, the sender hears so at the end and nobody has the mail")
    def lmtp_unknown(box, way=way):
        thread, dovecot = by_lmtp(box, "thread", way)
        with smtp(thread.port) as sender:
            for to in ([BERT, UNKNOWN], [UNKNOWN, BERT], [UNKNOWN]):
                *recipients, end = attempt(sender, letter(), to)
                equal([code for code, _ in recipients], [250] * len(to), "replies to RCPT")
                equal(status(end), "550 5.1.1", "the end of data")
        kept(dovecot, b"")


@case("relay to Dovecot by LMTP: after the text one of three cannot be stored, the sender hears 451 and the others have the mail")
def lmtp_after_the_text(box):
    relay, dovecot = by_lmtp(box, "relay", "TCP")
    mail = letter(TORTURE)
    with smtp(relay.port) as sender:
        equal([code for code, _ in attempt(sender, mail, [USERS[0], LOCKED_OUT, USERS[1]], ["BODY=8BITMIME"])], [250] * 3 + [451], "replies")
    kept(dovecot, mail, *USERS)
