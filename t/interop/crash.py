"""crash.py -- kill -9: every mail that a client heard 250 for is at the next hop, at every step and at random moments.

Each check also runs on early.py, a relay that is wrong on purpose, and must find it out.
"""
import random
import smtplib
import socketserver
import threading
import time

from parts import EXAMPLES, PATIENCE, TREE, Late, Server, case, check, free_port, free_ports, letter, smtp, wait_for

# relay asks the next hop during the client's RCPT, thread after the end of data.
RIGHT, LATE, WRONG = EXAMPLES / "relay", EXAMPLES / "thread", TREE / "t/interop/early.py"


class Hop(socketserver.ThreadingTCPServer):
    """A next hop that holds still at a chosen step. Let go, it gives up the connections that it held.

    Steps, in order: connect EHLO MAIL RCPT DATA, body (something of the text has come), dot (all of it has come, no
    answer yet), taken (250 is said). Senders in `taken` are those whose mail it has answered for.
    """
    daemon_threads, request_queue_size = True, 100

    def __init__(self, box):
        super().__init__(("127.0.0.1", 0), HopSession)
        self.port, self.lock, self.taken = self.server_address[1], threading.Lock(), set()
        self.step, self.held, self.released = None, 0, threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()
        box.keep(self)

    def hold(self, step):
        self.step, self.held, self.released = step, 0, threading.Event()

    def let_go(self):
        self.step = None
        self.released.set()

    def stop(self):
        self.kill()

    def kill(self):
        self.let_go()
        self.shutdown()
        self.server_close()
        self.thread.join()

    def handle_error(self, *_):  # who connected has been killed
        pass


class HopSession(socketserver.StreamRequestHandler):
    def at(self, step):
        if self.server.step == step:
            released = self.server.released
            with self.server.lock:
                self.server.held += 1
            released.wait(PATIENCE)
            raise ConnectionAbortedError

    def say(self, *lines):
        self.wfile.write(b"".join(line.encode() + b"\r\n" for line in lines))

    def handle(self):
        self.at("connect")
        self.say("220 hop.example.org ESMTP")
        for line in iter(self.rfile.readline, b""):
            verb = line[:4].upper().decode()
            self.at(verb)
            if verb == "EHLO":
                self.say("250-hop.example.org", "250-PIPELINING", "250-SIZE 10000000", "250 8BITMIME")
            elif verb == "DATA":
                self.say("354 go on")
                self.text()
            elif verb == "QUIT":
                self.say("221 2.0.0 bye")
                return
            else:
                if verb == "MAIL":
                    self.sender = line.partition(b"<")[2].partition(b">")[0].decode()
                self.say("250 2.0.0 OK")

    def text(self):
        line = self.rfile.readline()
        self.at("body")
        while line and line != b".\r\n":
            line = self.rfile.readline()
        if not line:
            return
        self.at("dot")
        with self.server.lock:
            self.server.taken.add(self.sender)
        self.say("250 2.0.0 taken")
        self.at("taken")


class Clients:
    """Clients that send one mail after the other, each mail from a sender of its own, and note which were answered 250."""

    def __init__(self, port, number):
        self.port, self.over, self.count, self.promised, self.cut = port, False, 0, set(), set()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(number)]
        for thread in self.threads:
            thread.start()

    def work(self):
        while not self.over:
            try:
                with smtp(self.port) as session:
                    while not self.over:
                        self.one(session)
            except (OSError, smtplib.SMTPException):  # refused, deferred or cut off: come again with the next mail
                self.cut.add(threading.current_thread())
                time.sleep(0.02)

    def one(self, session):
        with self.lock:
            self.count += 1
            sender = f"mail{self.count}@example.org"
        session.sendmail(sender, ["bert@example.test"], letter(b"word " * 2000 + b"\r\n"))
        with self.lock:
            self.promised.add(sender)

    def serve_more(self):
        """Waits until more mails have been answered 250."""
        enough = len(self.promised) + 10
        wait_for("clients are served", lambda: len(self.promised) >= enough)

    def finish(self):
        self.over = True
        for thread in self.threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                raise Late("a client got no answer at all")


def start(box, program, port, via):
    return box.keep(Server(box, [program], "--listen", f"127.0.0.1:{port}", "--via", f"127.0.0.1:{via}"))


def kill9(box, server):
    box.started.remove(server)
    server.kill()
    server.sane()


STEPS = "connect EHLO MAIL RCPT DATA body dot taken".split()


def kill_at(box, program, step):
    """Kills the relay while the next hop holds still at the step. Returns the mails answered 250 till then and lost."""
    hop, port = Hop(box), free_port()
    relay = start(box, program, port, hop.port)
    with smtp(port) as first:  # from now on the relay knows what the next hop offers
        first.sendmail("first@example.org", ["bert@example.test"], letter())
    hop.hold(step)
    clients = Clients(port, 8)
    wait_for(f"the next hop is reached at {step}", lambda: hop.held >= 4)
    time.sleep(0.1)  # in which the clients of a wrong relay hear 250
    kill9(box, relay)
    wait_for("all clients have heard what there was to hear", lambda: len(clients.cut) == len(clients.threads))
    promised = set(clients.promised)
    hop.let_go()
    start(box, program, port, hop.port)
    clients.serve_more()
    clients.finish()
    box.stop()
    return promised - hop.taken


for program in (RIGHT, LATE):
    for step in STEPS:
        @case(f"kill -9 of {program.name} while the next hop is at {step}: no mail that was answered 250 is lost")
        def steps(box, program=program, step=step):
            lost = kill_at(box, program, step)
            check(not lost, len(lost), "lost:", *sorted(lost)[:5])


@case("kill -9 control: a relay that answers early is caught losing mail at every step before the next hop has it")
def steps_control(box):
    for step in STEPS[:-1]:
        check(kill_at(box, WRONG, step), "nothing was lost at", step)


def storm(box, program, victim, rounds):
    """Kills the relay or the sink behind it at random moments while clients send. Returns the mails answered 250 and lost."""
    (port, behind), mails = free_ports(2), box.new("mails")
    running = {"relay": lambda: start(box, program, port, behind),
               "sink": lambda: box.sink(listen=f"127.0.0.1:{behind}", into=mails)}
    servers = {name: run() for name, run in running.items()}
    clients = Clients(port, 12)
    for _ in range(rounds):
        clients.serve_more()
        time.sleep(random.uniform(0, 0.15))
        kill9(box, servers[victim])
        servers[victim] = running[victim]()
    clients.serve_more()
    clients.finish()
    check(clients.cut, "no client noticed a kill")
    quiet(servers["sink"])
    box.stop()
    found = {mail.sender for mail in servers["sink"].mails()}
    print(f"        {len(clients.promised)} answered 250 of {clients.count} sent, {rounds} kills, {len(found)} arrived")
    return clients.promised - found


def quiet(sink):
    """Waits until nothing more arrives, so that what is only late does not count as lost."""
    seen, since, end = -1, time.monotonic(), time.monotonic() + PATIENCE
    while time.monotonic() < min(since + 0.5, end):
        if (now := len(sink.mails())) != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.05)


@case("kill -9 of the relay at random moments, 12 clients: no mail that was answered 250 is lost")
def storm_relay(box):
    lost = storm(box, RIGHT, "relay", 20)
    check(not lost, len(lost), "lost:", *sorted(lost)[:5])


@case("kill -9 of the next hop at random moments, 12 clients: no mail that was answered 250 is lost")
def storm_sink(box):
    lost = storm(box, RIGHT, "sink", 20)
    check(not lost, len(lost), "lost:", *sorted(lost)[:5])


@case("kill -9 control: a relay that answers early is caught losing mail at random moments")
def storm_control(box):
    check(storm(box, WRONG, "relay", 5), "nothing was lost")
