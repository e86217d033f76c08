"""queue_nodes.py -- three daemons on one PostgreSQL: one is killed, one is frozen for longer than its lease, the database is
restarted. Nothing is lost, and nothing comes twice but what the frozen or killed one had under way.

The books of the next hop tell which node has delivered what: each has a name of its own.
"""
import os
import random
import signal
import time

from ledger import STALL, Ledger, numbered
from parts import PATIENCE, Failed, case, check, free_ports, wait_for
from postgres import Postgres
from queued import SMTPD, WRONG, Account, Clients, end, recorded_by, start

BERT, CARL = "bert@example.test", "carl@example.test"
AT_ONCE, LEASE = 20, 3  # a node's deliveries at once; seconds


def mixed(number):
    return [BERT, CARL][:1 + number % 2], numbered(300 << 10 if number % 20 == 0 else 4000)


def name(number):
    return f"node{number}.example.org"


class Nodes:
    """The daemons, clients in front of all of them, and one next hop behind."""

    def __init__(self, box, program=SMTPD, database=True, lease=LEASE, **wrong):
        self.box, self.program, self.hop, self.ports = box, program, Ledger(box), free_ports(3)
        self.database = Postgres(box) if database else None
        self.settings = {"relay": f"127.0.0.1:{self.hop.port}", "maxrelay": AT_ONCE} | wrong
        if database:
            self.settings |= {"queue": self.database.url, "lease": lease}
        self.daemons = []  # all there ever were
        self.nodes = [self.start(number) for number in range(3)]
        self.clients = Clients(self.ports, 9, mixed)

    def start(self, number):
        self.daemons.append(start(self.box, self.program, port=self.ports[number], **self.settings, hostname=name(number)))
        return self.daemons[-1]

    def delivering(self, number):
        """Recipients of the transactions that the node has begun at the next hop and not ended."""
        with self.hop.lock:
            return {(talk.sender, to) for talk in self.hop.talks.values() if talk.client == name(number) for to in talk.to}

    def under_way(self, number):
        """(connection, turn) of what the node may think undone at this moment: the last turn of each open connection, as its
        answer may not have been seen, and the next one."""
        with self.hop.lock:
            return {(talk.number, turn) for talk in self.hop.talks.values() if talk.client in ("", name(number))
                    for turn in (talk.turn, talk.turn + 1)}

    def all_deliver(self):
        """Waits until each of them has delivered something from now on."""
        before = len(self.hop.copies)
        for number in range(3):
            wait_for(f"{name(number)} delivers", lambda: any(copy.client == name(number) for copy in self.hop.copies[before:]))

    def finish(self, ambiguous=()):
        """Clients end; all that was promised is delivered and the queue is empty. `ambiguous` senders heard 4xx because nobody
        could know."""
        self.clients.finish()
        try:
            wait_for("what was promised arrives", lambda: self.clients.pairs() <= self.hop.seen().keys(), 3 * PATIENCE)
        except Failed:
            missing = self.clients.pairs() - self.hop.seen().keys()
            waiting = [item for item in self.nodes[0].items() if (item["from"], item["recipients"][0]["to"]) in missing] if self.database else []
            if self.database:  # who has them, by which claim, and for how long yet
                print(*self.database.ask("SELECT owner, turn, lease - (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS left, message, number FROM net_smtp_queue.recipient"), sep="\n")
            raise Failed(f"{len(missing)} did not arrive, {len(waiting)} of their messages are in the queue: {waiting[:2]}") from None
        if self.database:
            wait_for("the queue is empty", lambda: self.nodes[0].stats()["messages"] == 0)
        account = Account(self.clients, self.hop)
        account.unwanted = {pair for pair in account.unwanted if pair[0] not in ambiguous}
        account.nothing_lost()
        shares = [sum(copy.client == name(number) for copy in self.hop.copies) for number in range(3)]
        print(f"        {account}; delivered by each node: {shares}")
        return account


def only_of(nodes, account, *victims, under_way=None):
    """Whatever has come twice was delivered first by a victim, or over those (connection, turn) of one; and it is recorded once, by
    who has delivered it last."""
    victims, recorded = set(map(name, victims)), {}
    for daemon in nodes.daemons:
        for pair, count in recorded_by(daemon).items():
            recorded.setdefault(pair, []).extend([daemon.settings["hostname"]] * count)
    for pair, copies in account.repeated.items():
        check(len(copies) == 2, len(copies), "copies of", pair)
        check(any(copy.client in victims if under_way is None else (copy.connection, copy.turn) in under_way for copy in copies),
              pair, "was delivered twice by", [copy.client for copy in copies])
        check(len(recorded.get(pair, [])) <= 1, pair, "was recorded by", recorded.get(pair))


@case("three nodes on one PostgreSQL: each takes and each delivers, nothing is lost, nothing comes twice")
def together(box):
    nodes = Nodes(box)
    nodes.clients.serve_more(300)
    nodes.all_deliver()
    nodes.finish().nothing_twice()


@case("a node of three is killed with -9, six times: nothing is lost, and twice comes only what it had under way")
def killed(box):
    nodes = Nodes(box)
    for victim in (0, 1, 2) * 2:
        nodes.clients.serve_more(30)
        time.sleep(random.uniform(0, 0.3))
        end(box, nodes.nodes[victim], kill=True)
        nodes.nodes[victim] = nodes.start(victim)
    account = nodes.finish()
    only_of(nodes, account, 0, 1, 2)
    check(len(account.repeated) <= 2 * 6 * AT_ONCE, len(account.repeated), "recipients had mail twice")


@case("a node is killed with -9 in the middle of deliveries and stays away: the others deliver what it had, when its lease is over")
def stays_away(box):
    nodes = Nodes(box)
    nodes.hop.main.say = {"dot": STALL}
    nodes.clients.serve_more(30)
    wait_for("the first node delivers", lambda: nodes.delivering(0))
    end(box, nodes.nodes[0], kill=True)
    nodes.hop.let_go()
    nodes.nodes.pop(0)
    only_of(nodes, nodes.finish(), 0)


@case("a node frozen past its lease: the others deliver what it had, and go on with it when it is back; twice comes only what it had under way")
def frozen(box):
    nodes, one = Nodes(box), name(1)
    nodes.clients.serve_more(30)
    nodes.hop.main.say = {"dot": STALL}
    wait_for("the second node is delivering", lambda: nodes.delivering(1))
    nodes.clients.serve_more(100)  # meanwhile whatever it has begun comes to the dot, and nothing more is begun
    os.kill(nodes.nodes[1].pid, signal.SIGSTOP)
    held = nodes.delivering(1)
    nodes.hop.let_go()  # so the frozen one has answers to find when it thaws
    wait_for("the others have delivered what it had", lambda: all(any(copy.client != one for copy in nodes.hop.seen()[pair]) for pair in held), 75)
    under_way = nodes.under_way(1)
    os.kill(nodes.nodes[1].pid, signal.SIGCONT)
    before = len(nodes.hop.copies)
    wait_for("it delivers again", lambda: any(copy.client == one for copy in nodes.hop.copies[before:]))
    only_of(nodes, nodes.finish(), under_way=under_way)


@case("the database is restarted while three nodes work, orderly and with -9: 451 to senders meanwhile, nothing is lost, nothing comes twice")
def database(box):
    nodes = Nodes(box, lease=60)  # longer than it is away
    for how in ("fast", "immediate"):
        nodes.clients.serve_more(50)
        refused = len(nodes.clients.refused)
        nodes.database.stop_server(how)
        wait_for("senders hear of it", lambda: len(nodes.clients.refused) > refused)
        nodes.database.start_server()
        nodes.all_deliver()
    check({code for code, _ in nodes.clients.refused.values()} <= {451, 452}, "senders heard", set(nodes.clients.refused.values()))
    nodes.finish(ambiguous=nodes.clients.refused).nothing_twice()


@case("nodes control: three daemons that keep their queues in memory lose mail when one is killed, and one that delivers twice is caught")
def control(box):
    nodes = Nodes(box, WRONG, database=False, wrong="twice", maxrelay=2)
    nodes.hop.main.say = {"dot": lambda line: time.sleep(0.01) or ""}
    nodes.clients.serve_more(100)
    end(box, nodes.nodes[0], kill=True)
    nodes.clients.finish()
    wait_for("nothing more arrives", lambda before=[]: before[-3:].count(len(nodes.hop.copies)) == 3 or before.append(len(nodes.hop.copies)) or time.sleep(0.2))
    account = Account(nodes.clients, nodes.hop)
    check(account.lost, "nothing was lost")
    check(account.repeated, "nothing came twice")
