"""daemon.py -- smtpd and smtpq as an operator meets them: options, signals, users, sockets, units, the queue's tool."""
import base64
import email
import email.policy
import json
import os
import pwd
import re
import resource
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import record
from clients import ANNA, BERT, CARL
from ledger import STALL, Ledger
from parts import EXAMPLES, PATIENCE, TREE, Server, Skipped, case, check, client, equal, free_port, letter, smtp, system, wait_for
from postgres import Postgres
from secured import Authority, account_file

SMTPD, SMTPQ = EXAMPLES / "smtpd", EXAMPLES / "smtpq"


def options_of(values):
    for name, value in values.items():
        yield from (f"--{name}", str(value))


class Daemon(Server):
    """smtpd on a port and a queue of its own; `settings` are its options, `file` its configuration."""

    def __init__(self, box, file=None, under=(), **settings):
        self.box, self.queue = box, settings.get("queue") or box.new("queue")
        settings = {"listen": "127.0.0.1:0", "hostname": "mx.example.test", "queue": self.queue, "dns": "none", "retry": 1} | settings
        if file:  # what is there must be found there
            settings = {"queue": self.queue}
        super().__init__(box, [*under, SMTPD], *(["--config", file] if file else []),
                         *options_of({name: value for name, value in settings.items() if value is not None}))

    def log(self, event):
        """What the lines of one event say, as dicts."""
        lines = re.findall(rf"^time=\S+ event={event} (.*)$", self.said(), re.MULTILINE)
        return [dict(re.findall(r'(\w+)=("[^"]*"|\S*)', line)) for line in lines]

    def ports(self):
        return [int(port) for port in re.findall(r"^listening on \S*:(\d+)(?: \(TLS\))?$", self.said(), re.MULTILINE)]

    def reload(self, result="done"):
        before = len(self.log("reload"))
        self.process.send_signal(signal.SIGHUP)
        wait_for("the configuration is read again", lambda: len(self.log("reload")) > before)
        last = self.log("reload")[-1]
        equal(last["result"], result, f"the reload ({last})")
        return last.get("what", "")

    def tool(self, *arguments, status=0):
        done = subprocess.run([SMTPQ, "--queue", self.queue, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE)
        said = done.stdout.decode(errors="replace")
        check(status is None or done.returncode == status, f"smtpq {' '.join(arguments)} ended with {done.returncode}: {said}")
        return said

    def items(self):
        return [json.loads(line) for line in self.tool("--json", "list").splitlines()]

    def stats(self):
        return json.loads(self.tool("--json", "stats"))

    def empty(self):
        wait_for("the queue is empty", lambda: self.stats()["messages"] == 0)

    def send(self, to=(BERT,), mail=None, sender=ANNA):
        """The id that the daemon gave it."""
        with smtp(self.port) as session:
            session.mail(sender)
            for each in to:
                code, text = session.rcpt(each)
                equal(code, 250, f"RCPT of {each}: {text}")
            code, text = session.data(mail or letter())
            equal(code, 250, f"the end of data: {text}")
            return text.decode().split()[-1]


def start(box, **settings):
    return box.keep(Daemon(box, **settings))


def refused(box, words, *arguments, file=None, text=None, status=2):
    """The daemon ends at once with that status, having said those words."""
    if text is not None:
        file.write_text(text)
    done = subprocess.run([SMTPD, *(["--config", file] if file else []), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=PATIENCE, cwd=box.folder)
    said = done.stdout.decode(errors="replace")
    equal(done.returncode, status, f"exit status ({said})")
    for word in [words] if isinstance(words, str) else words:
        check(word in said, f"{word!r} is not in {said!r}")
    return said


def mails(folder):
    return sorted(Path(folder).glob("new/*"))


# ---- options ----

@case("smtpd: an unknown option ends it with 2, and it says file, line and what there is")
def unknown(box):
    file = box.new("smtpd.properties")
    refused(box, [f"{file}:4: lisen: there is no such option", "valid: name, hostname,"], file=file,
            text="# a comment \\\nhostname = mx.example.test\n\nlisen = 127.0.0.1:0\n")
    refused(box, ["command line: lisen: there is no such option", "listen"], "--lisen", "127.0.0.1:0")
    refused(box, [f"{file}.json: lisen: there is no such option"], file=Path(f"{file}.json"), text='{"lisen": "127.0.0.1:0"}')
    refused(box, [f"{file}.xml: lisen: there is no such option"], file=Path(f"{file}.xml"), text="<c><lisen>127.0.0.1:0</lisen></c>")


@case("smtpd: a value of the wrong kind ends it with 2, and it says file, line, option and the valid ones")
def ill_typed(box):
    file = box.new("smtpd.properties")
    for option, value, words in [("maxrelay", "many", "not a number; valid: 1 to 10000"), ("maxrelay", "0", "out of range; valid: 1 to 10000"),
                                 ("origin", "maybe", "neither true nor false; valid: true, false"), ("retry", "soon", "not a number; valid: SECONDS"),
                                 ("retry", "0", "no time at all"), ("life", "400d", "longer than a year"), ("listen", "127.0.0.1:smtp", "valid: [tls:]HOST:PORT"),
                                 ("trusted", "10.0.0.0/40", "valid: ADDRESS, NETWORK/BITS"), ("relay_tls", "sometimes", "valid: none, may,"),
                                 ("schedule", "daily", "valid: standard, simplesmtp"), ("relay", "lmtp:h:25", "valid: HOST[:PORT]"), ("hostname", "a<b", "not a host's name"),
                                 ("hostname", "mx.example.test ESMTP", "not a host's name"), ("hostname", "b\u00fccher.test", "valid: NAME, of ASCII")]:
        refused(box, [f"{file}:2: {option} '{value}'", words], file=file, text=f"name = mx\n{option} = {value}\n")
        refused(box, [f"command line: {option} '{value}'", words], f"--{option}={value}")


@case("smtpd: options that contradict each other end it with 2, one that is there twice too")
def contradictions(box):
    file = box.new("smtpd.properties")
    refused(box, f"{file}:3: relay is there twice, first in {file}:1", file=file, text="relay = a\nname = x\nrelay = b\n")
    refused(box, "relay is there twice", file=Path(f"{file}.json"), text='{"relay": "a", "relay": "b"}')
    refused(box, "relay is no list", file=Path(f"{file}.xml"), text="<c><relay>a</relay><relay>b</relay></c>")
    refused(box, "command line: relay is there twice", "--relay", "a", "--relay", "b")
    refused(box, f"{file}:1: relay is no list", file=file, text="relay.1 = a\n")
    refused(box, "tls_cert: each needs its tls_key", "--check", "--tls_cert", "a.pem")
    refused(box, "relay_user: has no effect without relay", "--check", "--relay_user", "me")
    refused(box, "needs either relay_pass or relay_pass_file", "--check", "--relay", "h", "--relay_user", "me")
    refused(box, "dane needs trust_anchor", "--check", "--relay", "h", "--relay_tls", "dane")
    refused(box, "mx_tls: dane needs trust_anchor", "--check", "--relay", "h", "--mx_tls", "dane")
    refused(box, "mx_tls: no host by MX speaks TLS from the start", "--check", "--mx_tls", "implicit")
    refused(box, "routes: Relay::Options: tls: dane without", "--check", "--routes", "example.org=smtp:mx.example.org dane")
    refused(box, "relay: Relay::Options: tls: over a Unix socket", "--check", "--relay", "lmtp:unix:/run/x", "--relay_tls", "must")
    refused(box, "submission: needs auth_file", "--check", "--submission", "127.0.0.1:0")
    refused(box, "listen: no certificate for tls:127.0.0.1:0", "--check", "--listen", "tls:127.0.0.1:0")
    refused(box, "lmtp: LMTP must not be spoken on TCP port 25", "--check", "--lmtp", "127.0.0.1:25")
    refused(box, "user: no such user", "--check", "--user", "nobody-of-that-name")
    refused(box, "trusted '192.0.2.1/2'", "--check", "--trusted", "192.0.2.1/2")
    refused(box, "dnsbl: needs the DNS", "--check", "--dns", "none", "--dnsbl", "zen.example.org")
    refused(box, "handlers[0]", "--check", "--handlers", "(a maildir:/tmp/x")
    refused(box, ["routes: no destination: 'uucp:h'", "maildir:/PATH"], "--check", "--routes", "example.org=uucp:h")
    refused(box, "auth_file", "--check", "--auth_file", "/nonexistent", "--auth_clear", "loopback")
    refused(box, "--relay: its value is missing", "--relay")
    refused(box, ["/nonexistent: ", "No such file"], file="/nonexistent")
    refused(box, "broken.json", file=box.folder / "broken.json", text='{"relay": ')
    refused(box, "broken.xml", file=box.folder / "broken.xml", text="<c><relay>")
    refused(box, "nested", file=box.folder / "nested.json", text='{"nested": {"relay": "h"}}')
    refused(box, "", "--check", status=0)


@case("smtpd: what is on the command line wins, a list is one of commas, of several keys, or of an array")
def lists(box):
    ways = {"a.properties": "listen = 127.0.0.1:0, 127.0.0.1:0\nhostname = of.file\n", "b.conf": "listen.1 = 127.0.0.1:0\nlisten.2: 127.0.0.1:0\nhostname=of.file",
            "c.json": '{"listen": ["127.0.0.1:0", "127.0.0.1:0"], "hostname": "of.file", "maxrelay": 7, "origin": true}',
            "d.xml": "<smtpd><listen>127.0.0.1:0</listen><listen>127.0.0.1:0</listen><hostname>of.file</hostname></smtpd>"}
    for name, text in ways.items():
        file = box.folder / name
        file.write_text(text)
        daemon = start(box, file=file)
        equal(len(wait_for("both listen", lambda: len(daemon.ports()) == 2 and daemon.ports())), 2, "listeners of " + name)
        with smtplib.SMTP("127.0.0.1", daemon.port) as session:
            check(session.ehlo()[1].startswith(b"of.file"), "hostname of", name)
    daemon = box.keep(Server(box, [SMTPD], "--config", box.folder / "a.properties", "--hostname", "of.line", "--queue", box.new("queue")))
    with smtplib.SMTP("127.0.0.1", daemon.port) as session:
        check(session.ehlo()[1].startswith(b"of.line"), "hostname of the command line")


PASSWORD = r"a${b}\c,d #e"


class Login(threading.Thread):
    """A next hop that wants AUTH PLAIN; `heard` is what it was told."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket, self.heard = socket.create_server(("127.0.0.1", 0)), []
        self.port = self.socket.getsockname()[1]
        self.start()

    def run(self):
        try:
            while True:
                connection, _ = self.socket.accept()
                with connection, connection.makefile("rb") as lines:
                    connection.sendall(b"220 hop\r\n")
                    for line in lines:
                        self.heard.append(line.decode().strip())
                        verb = line[:4].upper()
                        connection.sendall(b"250-hop\r\n250 AUTH PLAIN\r\n" if verb == b"EHLO" else b"235 2.7.0 yes\r\n" if verb == b"AUTH" else
                                           b"221 bye\r\n" if verb == b"QUIT" else b"550 5.1.1 not here\r\n" if verb == b"RCPT" else b"250 yes\r\n")
        except OSError:
            pass

    def kill(self):
        self.socket.close()
    stop = kill


@case("smtpd: a password with ${, a backslash, a comma, a blank and # is the same out of each kind of file")
def raw(box):
    escaped = PASSWORD.replace("\\", "\\\\")
    pass_file = box.new("password")
    pass_file.write_text(PASSWORD + "\n")
    ways = {"a.properties": lambda o: "".join(f"{k} = {v}\n" for k, v in o.items()) + f"relay_pass = {escaped}\n",
            "b.json": lambda o: json.dumps(o | {"relay_pass": PASSWORD}),
            "c.xml": lambda o: "<c>" + "".join(f"<{k}>{v}</{k}>" for k, v in (o | {"relay_pass": PASSWORD}).items()) + "</c>",
            "d.properties": lambda o: "".join(f"{k} = {v}\n" for k, v in o.items()) + f"relay_pass_file = {pass_file}\n"}
    for name, write in ways.items():
        next_hop = box.keep(Login())
        file = box.folder / name
        file.write_text(write({"listen": "127.0.0.1:0", "trusted": "127.0.0.0/8", "dns": "none", "relay": f"127.0.0.1:{next_hop.port}", "relay_user": "joe",
                               "relay_auth": "PLAIN", "relay_tls": "none"}))
        daemon = start(box, file=file)
        daemon.send()
        told = wait_for("the daemon logs in", lambda: [line for line in next_hop.heard if line.startswith("AUTH PLAIN ")])
        equal(base64.b64decode(told[0].split()[2]).decode(), f"\0joe\0{PASSWORD}", f"what {name} says")
        check(PASSWORD not in daemon.said() and told[0].split()[2] not in daemon.said(), "the password is in the log")
        if name != "d.properties":
            check("others than its owner may read relay_pass" in daemon.said(), "no warning about", name)
            file.chmod(0o600)
            check("may read relay_pass" not in start(box, file=file).said(), "a warning about a file of its owner's")


@case("smtpd: a queue's folder that others may go into is told of")
def open_queue(box):
    told = "others than its owner may go into the queue's folder"
    queue = box.new("queue")
    queue.mkdir(mode=0o750)
    check(told in start(box, queue=queue).said(), "no warning")
    queue.chmod(0o700)
    check(told not in start(box, queue=queue).said(), "a warning about a folder that is closed")


@case("smtpd: doc/DAEMON.md tells of every option and its default")
def documented(box):
    text = (TREE / "doc/DAEMON.md").read_text()
    said = client(([str(SMTPD)], {}), "--help")
    options = re.findall(r"^  (\w+) = .*\n      .*?(?:\(default: (.*)\))?$", said, re.MULTILINE)
    check(len(options) > 40, "--help shows", len(options), "options")
    for name, default in options:
        row = re.search(rf"^\| [^|]*`{name}`[^|]*\|([^|]*)\|", text, re.MULTILINE)
        check(row, name, "is not in a table of doc/DAEMON.md")
        check(default == "" or f"`{default}`" in row[1], f"{name}: {default} is not in {row[1]}")


# ---- mail ----

def home(box, **settings):
    """As `make run` starts it."""
    folder = box.new("mail")
    daemon = start(box, trusted="127.0.0.0/8,::1", domains="localhost,mx.example.test", maildir=f"{folder}/{{domain}}/{{local}}", mailboxes="any", **settings)
    daemon.folder = folder
    return daemon


@case("smtpd as make run starts it: curl's mail for its own domain lies in the maildir, below one Received field")
def end_to_end(box):
    daemon, mail = home(box), letter(b".\r\n..\r\nGr\xc3\xbc\xc3\x9fe\r\n")
    client(system("curl"), "-sS", f"smtp://127.0.0.1:{daemon.port}/me", "--mail-from", ANNA, "--mail-rcpt", "Bert+news@LocalHost", "-T", "-", stdin=mail)
    found, = wait_for("it is delivered", lambda: mails(daemon.folder / "localhost/bert"))
    octets = found.read_bytes()
    check(octets.endswith(mail.replace(b"\r\n", b"\n")), "the mail became", octets)
    equal(octets.count(b"\nReceived: "), 1, "Received fields")
    check(octets.startswith(b"Return-Path: <anna@example.org>\n"), "no envelope in", octets[:80])
    daemon.empty()
    sent, = wait_for("that is logged", lambda: daemon.log("sent"))
    equal((sent["to"], sent["code"], sent["attempt"]), ("<Bert+news@LocalHost>", "250", "1"), "what is logged")
    equal((len(daemon.log("queued")), len(daemon.log("mail")), len(daemon.log("session"))), (1, 1, 1), "lines of the log")


@case("smtpd: a mailbox that is named several times gets one copy, also where a mailbox beside it can't be made")
def one_copy(box):
    folder = box.new("mail")
    folder.mkdir()
    (folder / "carl").touch()  # so that no folder can be there
    daemon = start(box, domains="example.test", maildir=f"{folder}/{{local}}/of/{{domain}}", mailboxes="any")
    daemon.send([f"{local}@example.test" for local in ("bert", "bert", "carl", "Bert+news", '"bert"')])
    wait_for("carl is tried again", lambda: len([line for line in daemon.log("deferred") if line["to"] == "<carl@example.test>"]) > 2)
    equal(len(mails(folder / "bert/of/example.test")), 1, "copies in bert's mailbox")


@case("smtpd: max_hops is how often mail may have been received before, more than a hundred times too")
def hops(box):
    daemon = start(box, domains="example.test", maildir=f"{box.new('mail')}/{{local}}", mailboxes="any", max_hops=150)
    with smtp(daemon.port) as session:
        for received, code in ((149, 250), (150, 554)):
            session.mail(ANNA)
            session.rcpt("bert@example.test")
            equal(session.data(b"Received: by a.test\r\n" * received + letter())[0], code, f"a mail with {received} Received fields")
    daemon.empty()


@case("smtpd: nobody relays by default, and a stranger's local part is no path")
def closed(box):
    outside = box.new("outside")
    daemon = home(box, relay=f"127.0.0.1:{free_port()}")
    stranger = start(box, domains="example.test", maildir=f"{box.new('mail')}/{{local}}", mailboxes="any")
    with smtp(stranger.port) as session:
        session.mail(ANNA)
        equal(session.rcpt("joe@elsewhere.example")[0], 550, "relaying for a stranger")
        equal(session.rcpt("bert@example.test")[0], 250, "a recipient of our own")
        equal(session.rcpt("postmaster")[0], 250, "postmaster")
    with smtp(daemon.port) as session:
        session.mail(ANNA)
        for local in (".bert", '"../../outside/x"', '"/etc"', '".."', '"a/b"', '"{domain}"', "a/b"):
            code, text = session.rcpt(f"{local}@localhost")
            check(code in (501, 550, 553), f"{local} was answered {code} {text}")
    check(not outside.exists(), "a mailbox outside")


@case("smtpd: who has nowhere to put a postmaster's mail refuses it; where a route takes our domain's it goes there")
def postmasters(box):
    alone = start(box, domains="example.test", routes="elsewhere.test=mx", dns="127.0.0.1:1")
    with smtp(alone.port) as session:
        session.mail(ANNA)
        code, text = session.rcpt("postmaster")
        equal((code, text[:5]), (550, b"5.1.1"), "a postmaster whose mail goes nowhere")
    sink = box.sink()
    front = start(box, domains="other.test, Example.test", routes=f"example.test=smtp:127.0.0.1:{sink.port}")
    front.send(["postmaster"])
    found, = sink.wait_for(1)
    equal(found.to, ["postmaster"], "recipients")
    front.empty()


@case("smtpd: with mailboxes = existing only those are taken that are there")
def existing(box):
    folder = box.new("mail")
    (folder / "bert").mkdir(parents=True)
    daemon = start(box, domains="example.test", maildir=f"{folder}/{{local}}")
    with smtp(daemon.port) as session:
        session.mail(ANNA)
        code, text = session.rcpt("carl@example.test")
        equal((code, text[:5]), (550, b"5.1.1"), "who has no mailbox")
        equal(session.rcpt("bert@example.test")[0], 250, "who has one")
        folder.rename(away := box.new("away"))  # as before it is mounted
        equal(session.rcpt("carl@example.test")[0], 451, "who may have one")
        away.rename(folder)
    daemon.send(["bert@example.test"])
    wait_for("it is delivered", lambda: mails(folder / "bert"))


@case("smtpd: where it can't be told whether there is a mailbox the sender hears 451, and mail that was taken waits")
def unknown_mailbox(box):
    folder = box.new("mail")
    (folder / "bert").mkdir(parents=True)
    daemon = start(box, domains="example.test", maildir=f"{folder}/{{local}}", paused="true")
    daemon.send(["bert@example.test"])
    (folder / "bert").rmdir()
    (folder / "bert").symlink_to("bert")  # ELOOP, as any error of the disk
    with smtp(daemon.port) as session:
        session.mail(ANNA)
        equal(session.rcpt("bert@example.test")[0], 451, "the answer")
    daemon.tool("resume")
    wait_for("the mail is tried", lambda: daemon.log("deferred"))
    (folder / "bert").unlink()
    (folder / "bert").mkdir()
    wait_for("it is delivered", lambda: mails(folder / "bert"))
    equal(daemon.log("failed"), [], "what has failed")


@case("smtpd: what is refused for good comes back to a local sender as one bounce, and the rest is delivered")
def bounces(box):
    next_hop = Ledger(box, RCPT="550 5.1.1 Nobody of that name")
    daemon = home(box, relay=f"127.0.0.1:{next_hop.port}")
    daemon.send([BERT, "carl@localhost"], sender="anna@localhost")
    found, = wait_for("the bounce is there", lambda: mails(daemon.folder / "localhost/anna"))
    report = email.message_from_bytes(found.read_bytes(), policy=email.policy.default)
    equal(report.get_content_type(), "multipart/report", "what came back")
    check("Nobody of that name" in found.read_text(), "no word of the reason")
    wait_for("the other is delivered", lambda: mails(daemon.folder / "localhost/carl"))
    failed, = wait_for("that is logged", lambda: daemon.log("failed"))
    equal((failed["to"], failed["code"], failed["status"]), (f"<{BERT}>", "550", "5.1.1"), "what is logged")
    wait_for("the bounce is logged", lambda: len(daemon.log("bounced")) == 1)


@case("smtpd: handlers come first, then routes, then our own mailboxes, then the relay")
def ways(box):
    by_route, by_relay, folder, seen = Ledger(box), Ledger(box), box.new("folder"), box.new("seen")
    script = box.new("script")
    script.write_text(f"#!/bin/sh\ncat > {seen}\necho \"$1\" >> {seen}\n")
    script.chmod(0o755)
    file = box.new("smtpd.properties")
    file.write_text(f"""listen = 127.0.0.1:0
trusted = 127.0.0.0/8
dns = none
handlers.1 = (?i)^bugs\\\\b.*@ pipe:{script} {{recipient}}
handlers.2 = ^a{{1,3}}@example\\\\.test$ maildir:{folder}
routes = example.test=smtp:127.0.0.1:{by_route.port} none, .example.test=smtp:127.0.0.1:{by_route.port}
relay = 127.0.0.1:{by_relay.port}
""")
    daemon = start(box, file=file)
    daemon.send(["Bugs+1@else.example", "aaa@example.test", "bert@example.test", "bert@x.example.test", "carl@else.example"])
    daemon.empty()
    equal(len(mails(folder)), 1, "mails in the maildir")
    check(seen.read_text().endswith("\nBugs+1@else.example\n"), "the command was given", seen.read_text())
    to = sorted(each for copy in by_route.copies for each in copy.to)
    equal(to, ["bert@example.test", "bert@x.example.test"], "recipients by the route")
    equal([copy.to for copy in by_relay.copies], [("carl@else.example",)], "recipients by the relay")


@case("smtpd: it may open as many descriptors as the hard limit says, and commands get the limit that it was started with")
def descriptors(box):
    seen, script = box.new("seen"), box.new("script")
    script.write_text(f"#!/bin/sh\ncat > /dev/null\necho \"$(ulimit -Sn) $(ulimit -Hn) $0 $*\" >> {seen}\n")
    script.chmod(0o755)
    for soft, hard in ((200, 600), (600, 600)):
        daemon = start(box, under=("prlimit", f"--nofile={soft}:{hard}"), trusted="127.0.0.0/8", handlers=f". pipe:{script} {{recipient}} --x")
        equal(resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE), (hard, hard), "limits of the daemon")
        seen.write_text("")
        daemon.send([BERT])
        daemon.empty()
        equal(seen.read_text(), f"{soft} {hard} {script} {BERT} --x\n", "limits and arguments of the command")
        equal([line["host"] for line in daemon.log("sent")], [f"pipe:{script}"], "where it went")
    nobody = start(box, under=("prlimit", "--nofile=200:600"), trusted="127.0.0.0/8", handlers=". pipe:/nonexistent/program")
    nobody.send([BERT])
    deferred = wait_for("it is deferred", lambda: nobody.log("deferred"))[0]
    check("/nonexistent/program could not be started: No such file" in deferred["text"], "the reason:", deferred)
    refused(box, "taken as it is", "--check", "--handlers", ". pipe:/usr/lib/{domain} x")


@case("smtpd and smtpq with a PostgreSQL: what one has accepted another delivers, and the password is in no log")
def database(box):
    next_hop, url = Ledger(box), Postgres(box).url.replace("mail@", "mail:unused-secret@")
    first = start(box, trusted="127.0.0.0/8", relay=f"127.0.0.1:{next_hop.port}", queue=url, paused="true")
    id = first.send()
    equal(([item["id"] for item in first.items()], first.stats()["paused"]), ([id], True), "what is there")
    first.tool("resume")
    box.started.remove(first)
    first.stop()
    second = start(box, trusted="127.0.0.0/8", relay=f"127.0.0.1:{next_hop.port}", queue=url)
    wait_for("it is delivered", lambda: next_hop.copies)
    second.empty()
    check("queue on the command line is shown by ps" in first.said(), "no warning")
    check("unused-secret" not in first.said() + second.said() + first.tool("stats"), "the password is shown")


# ---- signals ----

@case("smtpd: SIGHUP takes up domains, trusted, routes, listeners and certificates; a bad file leaves everything as it was")
def reloads(box):
    authority = Authority(box)
    pair, file, next_hop = authority.issue(), box.new("smtpd.properties"), Ledger(box)

    def write(**more):
        options = {"listen": "127.0.0.1:0", "hostname": "mx.example.test", "dns": "none", "domains": "one.test", "retry": "1",
                   "tls_cert": pair.certificate, "tls_key": pair.key, "relay": f"127.0.0.1:{free_port()}"} | more
        file.write_text("".join(f"{name} = {value}\n" for name, value in options.items()))

    def answers(*to):
        with smtp(daemon.port) as session:
            session.mail(ANNA)
            return [session.rcpt(each)[0] for each in to]
    write()
    daemon = start(box, file=file)
    equal(answers("a@one.test", "a@two.test"), [250, 550], "answers")
    id = daemon.send(["a@one.test"])
    port = free_port()
    write(domains="two.test", relay=f"127.0.0.1:{next_hop.port}", listen=f"127.0.0.1:0, 127.0.0.1:{port}", maxrelay="7")
    daemon.reload()
    check("maxrelay has changed: that needs a restart" in daemon.said(), "not told")
    equal(answers("a@one.test", "a@two.test"), [550, 250], "answers after the reload")
    wait_for("the new listener is told", lambda: port in daemon.ports())
    with smtp(port):
        pass
    daemon.tool("flush", "all")
    wait_for("what waited goes to the new relay", lambda: next_hop.copies)
    check(id in daemon.said(), "its id is not in the log")

    second = authority.issue("second.example.test")
    write(domains="two.test", tls_cert=second.certificate, tls_key=second.key)
    daemon.reload()
    context = ssl.create_default_context(cafile=authority.file)
    with smtplib.SMTP("127.0.0.1", daemon.port) as session:
        session._host = "second.example.test"
        session.starttls(context=context)
    check(not socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the listener that was left out is still there")

    for bad, words in [({"domains": "three.test", "maxrelay": "x"}, "maxrelay"), ({"domains": "three.test", "tls_cert": "/nonexistent"}, "tls_cert"),
                       ({"domains": "three.test", "listen": "127.0.0.1:0, 192.0.2.1:1"}, "192.0.2.1"), ({"lisen": "x"}, "no such option")]:
        write(**bad)
        check(words in daemon.reload("failed"), words, "is not said:", daemon.log("reload")[-1])
        equal(answers("a@two.test", "a@three.test"), [250, 550], "answers after a reload that failed")


@case("smtpd: SIGHUP: an address of `listen` that is written in another way is listened on as before, after a reload that failed too")
def written_otherwise(box):
    file, port = box.new("smtpd.properties"), free_port()

    def write(*addresses):
        file.write_text(f"listen = {', '.join(addresses)}\nhostname = mx.example.test\ndns = none\n")
    write(f"127.0.0.1:{port}")
    daemon = start(box, file=file)
    for ways in [[f"127.0.0.1:0{port}"], [f"127.0.0.1:{port}", f"127.0.0.1:00{port}"], [f"localhost:{port}"], [f"127.0.0.1:{port}"]]:
        write(*ways)
        daemon.reload()
        with smtp(port):
            pass
    write(f"127.0.0.1:0{port}", "192.0.2.1:1")
    daemon.reload("failed")
    with smtp(port):
        pass
    write("127.0.0.1:0")
    daemon.reload()
    wait_for("the new listener is told", lambda: daemon.ports()[-1] != port)
    check(socket.socket().connect_ex(("127.0.0.1", port)) != 0, "the listener that was left out is still there")


@case("smtpd: a mail that its files may not grow for is 452, and nothing else ends")
def may_not_grow(box):
    daemon = start(box, trusted="127.0.0.0/8", paused="true")
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with smtp(daemon.port) as session:
        for limit, codes in ((1_000_000, (451, 452)), (most, (250,))):
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (limit, most))
            session.mail(ANNA)
            session.rcpt(BERT)
            check(session.data(letter(b"x" * 76 + b"\r\n") + (b"y" * 76 + b"\r\n") * 30_000)[0] in codes, "not", codes)
    check(daemon.process.poll() is None, "it has ended")


@case("smtpd: SIGTERM while clients send: who has heard 250 is in the queue, the idle hear 421, and it ends with 0")
def drains(box):
    daemon = start(box, trusted="127.0.0.0/8", relay=f"127.0.0.1:{free_port()}", drain=20)
    promised, over, lock = [], threading.Event(), threading.Lock()

    def send():
        try:
            while not over.is_set():
                with smtp(daemon.port) as session:
                    while True:
                        session.mail(ANNA)
                        session.rcpt(BERT)
                        code, text = session.data(letter())
                        if code == 250:
                            with lock:
                                promised.append(text.decode().split()[-1])
        except (OSError, smtplib.SMTPException):
            pass
    idle = socket.create_connection(("127.0.0.1", daemon.port), PATIENCE)
    idle.recv(1000)
    threads = [threading.Thread(target=send, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for("mails are promised", lambda: len(promised) > 40)
    daemon.process.terminate()
    equal(daemon.process.wait(PATIENCE), 0, "exit status")
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
    check(idle.recv(1000).startswith(b"421 "), "the idle heard nothing")
    box.started.remove(daemon)
    there = {item["id"] for item in daemon.items()}
    equal(set(promised) - there, set(), "promised, but not in the queue")


@case("smtpd: a second SIGTERM ends it at once, and what was promised is still there")
def twice(box):
    slow = Ledger(box, dot=STALL)
    daemon = start(box, trusted="127.0.0.0/8", relay=f"127.0.0.1:{slow.port}", drain=PATIENCE)
    id = daemon.send()
    wait_for("it is under way", lambda: daemon.items()[0]["in_flight"])
    daemon.process.terminate()
    wait_for("it no longer listens", lambda: socket.socket().connect_ex(("127.0.0.1", daemon.port)) != 0)
    check(daemon.process.poll() is None, "it has ended without waiting")
    daemon.process.terminate()
    equal(daemon.process.wait(PATIENCE), 128 + signal.SIGTERM, "exit status")
    box.started.remove(daemon)
    equal([item["id"] for item in daemon.items()], [id], "what is in the queue")


# ---- where and as whom it runs ----

@case("smtpd: of two on one queue both accept, the second says that it only does that, and goes on when the first has ended")
def two(box):
    next_hop, queue = Ledger(box), box.new("queue")
    first = start(box, trusted="127.0.0.0/8", relay=f"127.0.0.1:{next_hop.port}", queue=queue)
    second = start(box, trusted="127.0.0.0/8", relay=f"127.0.0.1:{next_hop.port}", queue=queue)
    check("this one only accepts" in second.said(), "the second does not say so")
    first.send()
    second.send()
    wait_for("both are delivered", lambda: len(next_hop.copies) == 2)
    box.started.remove(first)
    first.stop()
    second.send()
    wait_for("the third is delivered", lambda: len(next_hop.copies) == 3)
    equal(len(next_hop.copies), 3, "deliveries")


@case("smtpd: as root it becomes another user for good, and what it makes is theirs")
def becomes(box):
    if os.geteuid() != 0:
        raise Skipped("only root can become somebody else")
    nobody, place = pwd.getpwnam("nobody"), box.for_all_users()
    users, pair = place / "users", Authority(box).issue()
    pair.key.chmod(0o600)
    shutil.copy(account_file(box, "joe:secret\n"), users)
    os.chown(users, nobody.pw_uid, nobody.pw_gid)
    mail = place / "mail"
    mail.mkdir()
    os.chown(mail, nobody.pw_uid, nobody.pw_gid)
    daemon = start(box, user="nobody", queue=place / "queue", domains="example.test", maildir=f"{mail}/{{local}}", mailboxes="any",
                   auth_file=users, auth_clear="loopback", tls_cert=pair.certificate, tls_key=pair.key)
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    for name, id in (("Uid", nobody.pw_uid), ("Gid", nobody.pw_gid)):
        equal(re.search(rf"^{name}:\s+(.*)$", status, re.MULTILINE)[1].split(), [str(id)] * 4, name)
    check("0" not in re.search(r"^Groups:(.*)$", status, re.MULTILINE)[1].split(), "root's groups are left:", status)
    daemon.send(["bert@example.test"])
    wait_for("it is delivered", lambda: mails(mail / "bert"))
    daemon.reload()
    check("the certificates stay as they were" in daemon.said(), "not told that root's key can't be read")
    daemon.tool("list")  # as root: it must leave nothing of root's
    for path in [place / "queue", *(place / "queue").rglob("*"), *mail.rglob("*")]:
        equal(path.stat().st_uid, nobody.pw_uid, f"owner of {path}")
    daemon.send(["bert@example.test"])
    refused(box, "user: no such user", "--user", "nobody-of-that-name", "--queue", box.new("queue"), "--listen", "127.0.0.1:0")


@case("smtpd: as root it follows no link that the user it becomes may have put where its log, transcript or pid file is to be")
def no_link(box):
    if os.geteuid() != 0:
        raise Skipped("only root can become somebody else")
    nobody, place, secret = pwd.getpwnam("nobody"), box.for_all_users(), box.new("secret")
    secret.write_text("root's\n")
    theirs = place / "theirs"
    theirs.mkdir()
    os.chown(theirs, nobody.pw_uid, nobody.pw_gid)
    (theirs / "link").symlink_to(secret)
    for option, status in (("log", 1), ("transcript", 2), ("pid_file", 1)):
        refused(box, "Too many levels of symbolic links", "--user", "nobody", f"--{option}", theirs / "link", "--queue", place / "queue",
                "--listen", "127.0.0.1:0", "--dns", "none", status=status)
    equal((secret.stat().st_uid, secret.read_text()), (0, "root's\n"), "owner and text of what the link leads to")
    daemon = start(box, user="nobody", queue=place / "queue", log=theirs / "log", trusted="127.0.0.0/8", paused="true")
    daemon.send()
    wait_for("the mail is in the log", lambda: "event=queued" in (theirs / "log").read_text())
    equal((theirs / "log").stat().st_uid, nobody.pw_uid, "owner of the log")


@case("smtpd: with its standard descriptors closed no file of the queue is taken for one of them")
def closed(box):
    port, queue = free_port(), box.new("queue")
    closing = "import os, sys; [os.close(n) for n in range(3)]; os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", closing, SMTPD, "--queue", queue, "--listen", f"127.0.0.1:{port}", "--dns", "none", "--trusted", "127.0.0.0/8",
                                "--paused", "true"])
    try:
        wait_for("it listens", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        with smtp(port) as session:
            session.sendmail(ANNA, BERT, letter(b"text"))
        for fd in range(3):
            equal(os.readlink(f"/proc/{process.pid}/fd/{fd}"), "/dev/null", f"where descriptor {fd} leads")
        for lock in queue.glob("*.lock"):
            equal(lock.stat().st_size, 0, f"octets in {lock.name}")
    finally:
        process.terminate()
        equal(process.wait(PATIENCE), 0, "exit status")


@case("smtpd: a right that it was started with is none of the commands that mail is piped into")
def rights(box):
    as_nobody = ["setpriv", "--reuid", "nobody", "--clear-groups", "--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service"]
    if os.geteuid() != 0 or subprocess.run([*as_nobody, "true"], stderr=subprocess.DEVNULL).returncode != 0:
        raise Skipped("only root can give a right away")
    place = box.for_all_users()
    place.chmod(0o777)
    out, script = place / "out", place / "script"
    script.write_text(f"#!/bin/sh\ncat >/dev/null\ngrep ^Cap /proc/self/status >{out}.new && mv {out}.new {out}\n")
    script.chmod(0o755)
    daemon = start(box, under=as_nobody, queue=place / "queue", domains="example.test", routes=f"example.test=pipe:{script}")
    check("CapAmb:\t" + "0" * 16 in Path(f"/proc/{daemon.pid}/status").read_text(), "it would hand its rights on")
    daemon.send()
    wait_for("the command has run", out.exists)
    given = dict(re.findall(r"^(Cap\w+):\t(\w+)$", out.read_text(), re.MULTILINE))
    equal((given["CapPrm"], given["CapEff"], given["CapAmb"]), ("0" * 16,) * 3, "rights of the command")


@case("smtpd: sockets of a service manager are listened on, and it is told when that is so")
def activated(box):
    listening = socket.create_server(("127.0.0.1", 0))
    port, told = listening.getsockname()[1], socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(box.folder / "notify"))
    told.settimeout(PATIENCE)
    manager = ("import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', NOTIFY_SOCKET=sys.argv[2]); "
               "os.execv(sys.argv[3], sys.argv[3:])")
    process = subprocess.Popen([sys.executable, "-c", manager, str(listening.fileno()), box.folder / "notify", SMTPD, "--queue", box.new("queue"), "--dns", "none"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=[listening.fileno()])
    try:
        equal(told.recv(100), b"READY=1", "what the service manager is told")
        equal(process.stdout.readline(), f"listening on 127.0.0.1:{port}\n".encode(), "what it says")
        with smtp(port):
            pass
        process.terminate()
        equal(told.recv(100), b"STOPPING=1", "what the service manager is told")
        equal(process.wait(PATIENCE), 0, "exit status")
    finally:
        process.kill()
        process.wait()


def in_background(box, *arguments):
    """Who starts it has ended; its exit code and what was said until then."""
    done = subprocess.run([SMTPD, "--daemon", "--dns", "none", *(() if "--queue" in arguments else ("--queue", box.new("queue"))), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=PATIENCE)
    return done.returncode, done.stdout.decode(errors="replace")


@case("smtpd: in the background it has a process id in a file and its log in another, and takes mail as soon as who started it has ended")
def background(box):
    pid_file, log, port = box.new("pid"), box.new("smtpd.log"), free_port()
    listen = "--listen", f"127.0.0.1:{port}"
    equal(in_background(box, "--pid_file", pid_file, "--log", log, *listen), (0, f"listening on 127.0.0.1:{port}\n"), "what who started it heard")
    pid = int(pid_file.read_text())
    try:
        check(os.getsid(pid) == pid, "it is in the session of who started it")
        for fd in range(3):
            equal(os.readlink(f"/proc/{pid}/fd/{fd}"), "/dev/null", f"where descriptor {fd} leads")
        with smtp(port):
            pass
        wait_for("the session is in the log", lambda: "event=session" in log.read_text())
        code, said = in_background(box, "--pid_file", pid_file, "--log", log, *listen)
        check(code == 1 and "Address already in use" in said, "a second one there ended with", code, said)
        equal(int(pid_file.read_text()), pid, "what the file holds after a second start")
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for("it has ended", lambda: not Path(f"/proc/{pid}").exists())
    check(not pid_file.exists(), "its file is still there")
    refused(box, "daemon: it has no stderr", "--daemon")


@case("smtpd: a start in the background that fails ends as it would in the foreground, and who started it hears why")
def background_fails(box):
    listen = "--listen", "127.0.0.1:0"
    for code, word, arguments in ((1, "pid_file: /nonexistent/pid: No such file", ("--pid_file", "/nonexistent/pid", *listen)),
                                  (1, "/nonexistent/queue: No such file", ("--queue", "/nonexistent/queue", *listen)),
                                  (2, "transcript: No such file", ("--transcript", "/nonexistent/transcript", *listen))):
        ended, said = in_background(box, "--log", box.new("smtpd.log"), *arguments)
        equal(ended, code, f"exit code after {said!r}")
        check(word in said, f"{word!r} is not in {said!r}")


@case("smtpd: its units are understood by systemd-analyze")
def units(box):
    program = shutil.which("systemd-analyze")
    if not program:
        raise Skipped("systemd-analyze is not on this system")
    record.met("systemd")
    for unit in ("smtpd.service", "smtpd.socket"):
        text = (TREE / "examples/systemd" / unit).read_text().replace("/usr/local/bin/smtpd", str(SMTPD.resolve()))
        (box.folder / unit).write_text(text)
    done = subprocess.run([program, "verify", box.folder / "smtpd.service", box.folder / "smtpd.socket"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=PATIENCE)
    equal((done.returncode, [line for line in done.stdout.decode().splitlines() if "smtpd" in line]), (0, []), "what it says")


@case("smtpd: users submit mail where they must log in, by LMTP each recipient hears its own answer")
def doors(box):
    users = account_file(box, "joe:secret\n")
    folder, ports = box.new("mail"), free_port()
    daemon = start(box, listen="127.0.0.1:0", submission=f"127.0.0.1:{ports}", lmtp=f"unix:{box.folder}/lmtp", auth_file=users, auth_clear="loopback",
                   domains="example.test", maildir=f"{folder}/{{local}}", mailboxes="any", relay=f"127.0.0.1:{Ledger(box).port}")
    with smtp(ports) as session:
        equal(session.mail(ANNA)[0], 530, "MAIL without a login")
        session.login("joe", "secret")
        session.sendmail(ANNA, [CARL], b"Subject: no date\r\n\r\nText\r\n")
    with smtplib.LMTP(str(box.folder / "lmtp")) as session:
        session.ehlo("me")
        session.mail(ANNA)
        equal((session.rcpt("bert@example.test")[0], session.rcpt("x@else.example")[0]), (250, 550), "answers")
        equal(session.data(letter())[0], 250, "the end of data")
    wait_for("it is delivered", lambda: mails(folder / "bert"))
    daemon.empty()


# ---- smtpq ----

@case("smtpq: list, show, hold, release, cancel, flush, pause, resume and stats, as text and as JSON")
def tool(box):
    next_hop = Ledger(box)
    daemon = start(box, trusted="127.0.0.0/8", relay=f"127.0.0.1:{next_hop.port}", paused="true")
    equal(daemon.stats()["paused"], True, "paused")
    first, second, third = (daemon.send([BERT, CARL]), daemon.send(["x@else.example"], sender=""), daemon.send([BERT]))
    items = {item["id"]: item for item in daemon.items()}
    equal(list(items), [first, second, third], "ids in the list")
    equal((items[first]["from"], [to["to"] for to in items[first]["recipients"]]), (ANNA, [BERT, CARL]), "the envelope")
    equal((items[second]["from"], items[second]["held"], items[second]["in_flight"]), ("", False, False), "the second")
    text = daemon.tool("list")
    check(all(word in text for word in (first, second, third, f"<{ANNA}>", f"<{BERT}>")), "the table is", text)
    equal(json.loads(daemon.tool("--json", "show", first)), items[first], "show")
    check("Subject: interop" in daemon.tool("show", first), "show has no header section")
    check("held" in daemon.tool("hold", third), "hold")
    equal([item["held"] for item in daemon.items()], [False, False, True], "held")
    check("cancelled" in daemon.tool("cancel", second), "cancel")
    for command in ("show", "hold", "release", "cancel", "flush"):
        check("not found" in daemon.tool(command, second, status=1), command, "of one that has gone")
        equal(json.loads(daemon.tool("--json", command, second, status=1)), {"id": second, "result": "not found"}, command)
    stats = daemon.stats()
    equal((stats["messages"], stats["recipients"], stats["held"], stats["in_flight"]), (2, 3, 1, 0), "stats")
    check(re.search(r"^messages +2$", daemon.tool("stats"), re.MULTILINE), "stats as text:", daemon.tool("stats"))
    daemon.tool("resume")
    wait_for("the first is delivered", lambda: len(daemon.items()) == 1)
    equal(json.loads(daemon.tool("--json", "release", third)), {"id": third, "result": "released"}, "release")
    daemon.empty()
    equal(sorted(to for copy in next_hop.copies for to in copy.to), [CARL, BERT, BERT], "recipients of the deliveries")
    daemon.tool("pause")
    equal((daemon.stats()["paused"], daemon.items()), (True, []), "paused, and empty")
    for wrong in ([], ["lisst"], ["hold"], ["list", "x"], ["--lisst", "list"]):
        daemon.tool(*wrong, status=2)
    nowhere, empty = box.new("nowhere"), box.new("empty")
    empty.mkdir()
    for folder in (nowhere, empty):
        done = subprocess.run([SMTPQ, "--queue", folder, "list"], capture_output=True, timeout=PATIENCE)
        equal((done.returncode, b"there is no queue" in done.stderr), (4, True), "without a queue")
    equal(list(empty.iterdir()), [], "what smtpq has made")


@case("smtpq: what is being delivered can't be cancelled, and flush tries at once what waits")
def in_flight(box):
    slow = Ledger(box, dot=STALL)
    file, port = box.new("smtpd.json"), free_port()
    file.write_text(json.dumps({"listen": "127.0.0.1:0", "trusted": ["127.0.0.0/8"], "dns": "none", "retry": "1h", "avoid": 0, "relay": f"127.0.0.1:{slow.port}",
                                "routes": [f"down.test=smtp:127.0.0.1:{port}"], "queue": str(box.new("queue"))}))
    daemon = box.keep(Server(box, [SMTPD], "--config", file))
    with smtp(daemon.port) as session:
        session.sendmail(ANNA, BERT, letter())
        session.sendmail(ANNA, "x@down.test", letter())
    wait_for("it is under way", lambda: slow.main.stalled)

    def tool(*arguments):
        done = subprocess.run([SMTPQ, "--config", file, *arguments], capture_output=True, timeout=PATIENCE)
        return done.returncode, done.stdout.decode()
    items = [json.loads(line) for line in tool("--json", "list")[1].splitlines()]
    equal((items[0]["in_flight"], tool("cancel", items[0]["id"])[0]), (True, 3), "in flight, cancel")
    slow.let_go()
    wait_for("the other has waited for its hour", lambda: json.loads(tool("--json", "show", items[1]["id"])[1])["recipients"][0]["attempts"] >= 1)
    before = json.loads(tool("--json", "show", items[1]["id"])[1])["recipients"][0]
    check(before["last"].startswith("451 4.4.1"), "what was said last:", before)
    later = slow.door(port=port)
    equal(tool("flush", "nowhere.test")[0], 1, "flush of a domain that has nothing")
    equal(tool("flush", "down.test"), (0, "1 recipients are due now\n"), "flush of a domain")
    wait_for("it is delivered", lambda: [copy for copy in slow.copies if copy.door is later])
