"""uses.py -- the three uses as they are built: the custom loop, fork or thread per client, and inspecting what came."""
import os
import re
import signal
import socket
import struct
import threading
from pathlib import Path

from clients import ANNA, BERT, CARL
from parts import PATIENCE, TORTURE, case, check, equal, letter, parameter, smtp, travelled, wait_for

CONVERSATION = Path(__file__).with_name("conversation.txt")


def message(fields):
    """The octets of the mail in an object of inspect's; what is not UTF-8 stands there as lone surrogates."""
    return fields["message"].encode("utf-8", "surrogateescape")


@case("inspect: its JSON line equals the envelope, the parameters and the body sent")
def inspect(box):
    server = box.server("inspect", "--listen", "127.0.0.1:0")
    mail = letter(TORTURE + bytes(range(14, 256)) + b"\0 \xff\xed\xa0\x80\r\n\"\\u0000\\\"\r\n")
    with smtp(server.port) as sender:
        check(sender.has_extn("dsn"), "inspect must offer DSN")
        options = [f"SIZE={len(mail)}", "BODY=8BITMIME", "RET=FULL", "ENVID=QQ314159"]
        equal(sender.mail(ANNA, options)[0], 250, "MAIL")
        equal(sender.rcpt(BERT, ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;other@example.test"])[0], 250, "RCPT")
        equal(sender.rcpt(CARL, ["NOTIFY=NEVER"])[0], 250, "RCPT")
        equal(sender.data(mail)[0], 250, "the end of data")
    seen, = wait_for("inspect prints the mail", server.objects)
    equal((seen["from"], seen["to"], seen["helo"]), (ANNA, [BERT, CARL], "client.example.org"), "envelope and helo")
    check("127.0.0.1" in str(seen["peer"]), "peer:", seen["peer"])
    equal(message(seen), mail, "message")
    for option in options:
        name, value = option.split("=")
        equal(parameter(seen, name), value, name)
    typed = {name: seen["parameters"][name] for name in ("size", "body", "smtputf8", "ret", "envid")}
    equal(typed, {"size": len(mail), "body": "8BITMIME", "smtputf8": False, "ret": "FULL", "envid": "QQ314159"}, "parameters")
    first, second = seen["recipients"]
    equal((first["address"], second["address"]), (BERT, CARL), "recipients' addresses")
    equal((first["notify"], second["notify"]), ("SUCCESS,DELAY", "NEVER"), "NOTIFY")
    equal((first["orcpt"], second.get("orcpt")), ({"type": "rfc822", "address": "other@example.test"}, None), "ORCPT")


@case("inspect: one line for each mail, from the null sender and with SMTPUTF8 too")
def inspect_more(box):
    server = box.server("inspect", "--listen", "127.0.0.1:0")
    mails = [letter(), letter("Gruß\r\n".encode(), subject="Grüße"), letter(b"")]
    with smtp(server.port) as sender:
        sender.sendmail("", [BERT], mails[0])
        sender.sendmail("jürgen@example.org", ["用户@example.test"], mails[1], mail_options=["SMTPUTF8", "BODY=8BITMIME"])
        sender.sendmail(ANNA, [CARL], mails[2])
    seen = wait_for("inspect prints three mails", lambda: len(found := server.objects()) >= 3 and found)
    equal([(each["from"], each["to"], message(each)) for each in seen],
          [("", [BERT], mails[0]), ("jürgen@example.org", ["用户@example.test"], mails[1]), (ANNA, [CARL], mails[2])], "mails")


class Line:
    """A connection that keeps every octet the server says."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.heard, self.replies = b"", 0

    def more(self):
        octets = self.socket.recv(65536)
        self.heard += octets
        return octets

    def next_reply(self):
        """Waits for one more whole reply and returns its last line."""
        self.replies += 1
        while True:
            ends = re.findall(rb"^\d{3}(?: .*)?\r\n", self.heard, re.MULTILINE)
            if len(ends) >= self.replies:
                return ends[self.replies - 1].decode()
            check(self.more(), "the server hung up, having said", self.heard)


def play(port, verdict):
    """Plays the recorded conversation and returns all that the server said up to its end."""
    line, group = Line(port), b""
    for number, step in enumerate(CONVERSATION.read_text().splitlines(), 1):
        if step.startswith("C: "):
            group += step[3:].encode() + b"\r\n"
        elif step.startswith("S: "):
            if group:
                line.socket.sendall(group)
                group = b""
            expected, reply = step[3:].format(verdict=verdict), line.next_reply()
            check(reply.startswith(expected), f"line {number} of {CONVERSATION.name}: expected {expected}, heard {reply!r}")
    while line.more():
        pass
    line.socket.close()
    return line.heard


@case("custom loop: seed, thread and fork answer one recorded conversation octet for octet, and the mail has arrived")
def custom_loop(box):
    heard = {}
    for name in ("seed", "thread", "fork"):
        sink = box.sink()
        heard[name] = play(box.server(name, "--listen", "127.0.0.1:0", "--via", f"127.0.0.1:{sink.port}").port, "250")
        travelled(sink.only(), ANNA, [BERT, CARL], b"Date: Mon, 6 Jan 2025 10:00:00 +0000\r\nFrom: anna@example.org\r\n"
                  b"Subject: recorded\r\n\r\n.\r\n..and a dot\r\nQUIT\r\n", hops=1)
    for name in ("thread", "fork"):
        equal(heard[name], heard["seed"], f"what {name} said, beside what seed said")


@case("custom loop: without a next hop seed, thread and fork answer 451 4.4.4, alike octet for octet")
def custom_loop_nowhere(box):
    heard = {name: play(box.server(name, "--listen", "127.0.0.1:0").port, "451 4.4.4") for name in ("seed", "thread", "fork")}
    for name in ("thread", "fork"):
        equal(heard[name], heard["seed"], f"what {name} said, beside what seed said")


@case("custom loop: seed goes on to the next client, after one that vanished too")
def seed_goes_on(box):
    sink = box.sink()
    server = box.server("seed", "--listen", "127.0.0.1:0", "--via", f"127.0.0.1:{sink.port}")
    vanished = Line(server.port)
    vanished.next_reply()
    vanished.socket.sendall(b"HELO me\r\nMAIL FROM:<>\r\n")
    vanished.socket.close()
    for _ in range(3):
        with smtp(server.port) as sender:
            sender.sendmail(ANNA, [BERT], letter())
    equal(len(sink.mails()), 3, "mails")


CROWD = 100


def crowd(box, name, strike):
    """100 clients in one transaction each, all at once; strike() ends one of them; the others are served.

    Returns the server. A client's outcome is its mail when it heard 250, else the reason why not.
    """
    sink = box.sink()
    server = box.server(name, "--listen", "127.0.0.1:0", "--via", f"127.0.0.1:{sink.port}")
    struck, outcomes, lines = threading.Event(), {}, {}

    def one(number):
        mail = letter(f"From client {number}.\r\n".encode())
        try:
            with smtp(server.port) as sender:
                equal(sender.mail(f"sender{number}@example.org")[0], 250, "MAIL")
                lines[number] = sender.sock
                struck.wait(PATIENCE)
                equal(sender.rcpt(f"to{number}@example.test")[0], 250, "RCPT")
                code, text = sender.data(mail)
                equal(code, 250, f"the end of data ({text})")
                outcomes[number] = mail
        except Exception as reason:
            outcomes[number] = reason

    clients = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(CROWD)]
    for each in clients:
        each.start()
    wait_for("all clients are in a transaction at once", lambda: outcomes or len(lines) == CROWD)
    check(not outcomes, "not all clients could begin at once:", *outcomes.values())
    strike(server, lines)
    struck.set()
    for each in clients:
        each.join(PATIENCE)
    lost = [number for number in range(CROWD) if not isinstance(outcomes.get(number), bytes)]
    equal(len(lost), 1, f"clients not served ({[outcomes.get(number) for number in lost][:3]})")

    with smtp(server.port) as late:  # a new client is served after the blow
        mail = letter(b"Late.\r\n")
        late.sendmail(f"sender{CROWD}@example.org", [f"to{CROWD}@example.test"], mail)
    expected = {f"sender{number}@example.org": mail for number, mail in outcomes.items() if number not in lost}
    expected[f"sender{CROWD}@example.org"] = mail
    found = {mail.sender: mail for mail in sink.mails()}
    equal(sorted(found), sorted(expected), "senders of the mails that arrived")
    equal(len(sink.mails()), CROWD, "mails")
    for sender, mail in expected.items():
        travelled(found[sender], sender, [sender.replace("sender", "to").replace(".org", ".test")], mail, hops=1)
    return server


@case("fork: 100 clients at once, one child killed, the rest served, all 100 children reaped")
def fork_crowd(box):
    children = set()

    def strike(server, lines):
        children.update(server.children())
        equal(len(children), CROWD, "children")
        os.kill(min(children), signal.SIGKILL)

    server = crowd(box, "fork", strike)

    def reaped():
        with smtp(server.port):  # it reaps when it accepts
            pass
        return not children & set(server.children())
    wait_for("the children are reaped", reaped)


@case("thread: 100 clients at once, one connection reset, the rest served")
def thread_crowd(box):
    def strike(server, lines):
        threads = int(re.search(r"^Threads:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text(), re.MULTILINE)[1])
        check(threads >= CROWD, "only", threads, "threads")
        lines[CROWD // 2].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(lines[CROWD // 2].detach())  # close with linger 0: RST

    crowd(box, "thread", strike)
