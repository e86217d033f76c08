"""queue_crash.py -- kill -9 of the daemon at random moments and at chosen steps of a delivery: what was promised has been
delivered or is still queued, and nothing comes twice that need not.

Each check also runs on forgetful.py, a daemon that is wrong on purpose, and must find it out.
"""
import random
import statistics
import time

from ledger import STALL, Ledger, numbered
from parts import case, check, equal, free_port, wait_for
from queued import SMTPD, WRONG, Account, Clients, end, recorded_by, start

AT_ONCE = 20  # maxrelay
BERT, CARL, LATER = "bert@example.test", "carl@example.test", "later@example.test"


def one_of_each(number):
    """For one or two; each eighth also for somebody who is put off, each tenth with a large text."""
    to = [BERT, CARL][:1 + number % 2] + ([LATER] if number % 8 == 0 else [])
    return to, numbered(300 << 10 if number % 10 == 0 else 4000)


def put_off(line):
    return "450 4.2.1 later" if LATER in line else ""


def storm(box, program=SMTPD, rounds=30, **wrong):
    """(clients, next hop, the daemons in turn, of which the last one runs), all at rest but for that one."""
    hop, port, queue = Ledger(box, RCPT=put_off), free_port(), box.new("queue")
    settings = {"port": port, "queue": queue, "relay": f"127.0.0.1:{hop.port}", "maxrelay": AT_ONCE} | wrong
    daemons = [start(box, program, **settings)]
    clients = Clients(port, 8, one_of_each)
    for _ in range(rounds):
        clients.serve_more()
        time.sleep(random.uniform(0, 0.3))
        end(box, daemons[-1], kill=True)
        hop.new_life()
        daemons.append(start(box, program, **settings))
    clients.serve_more()
    clients.finish()
    check(clients.cut, "no client noticed a kill")
    return clients, hop, daemons


def settled(clients, hop):
    """Until nothing that need not wait is on its way any more; what never comes shows as lost."""
    needed = {pair for pair in clients.pairs() if pair[1] != LATER}
    try:
        wait_for("what was promised arrives", lambda: needed <= hop.seen().keys())
    except Exception:
        return False
    return True


@case("kill -9 of smtpd, 30 times at random moments, 8 clients: accepted = delivered + still queued, and nothing twice that was confirmed")
def storm_right(box):
    clients, hop, daemons = storm(box)
    settled(clients, hop)
    account = Account(clients, hop, daemons[-1].waiting())
    account.nothing_lost()
    equal(account.delivered + account.waiting - len(account.both), account.promised, "delivered and waiting")
    check(account.waiting, "nobody was put off")
    hop.main.say = {}
    daemons[-1].queue_tool("flush", "all")
    daemons[-1].empty()
    account = Account(clients, hop)
    account.nothing_lost()
    account.explained(AT_ONCE, [recorded_by(daemon) for daemon in daemons])
    seconds = [daemon.seconds_to_start for daemon in daemons[1:]]
    print(f"        {account}; {len(seconds)} kills, start to 220 {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s")


@case("kill -9 control: a daemon that keeps its queue in memory is caught losing mail, and one that delivers twice is caught too")
def storm_control(box):
    clients, hop, daemons = storm(box, WRONG, rounds=4, wrong="twice")
    wait_for("nothing more arrives", lambda before=[]: before[-3:].count(len(hop.copies)) == 3 or before.append(len(hop.copies)) or time.sleep(0.2))
    account = Account(clients, hop)
    check(account.lost, "nothing was lost")
    check(account.unexplained(AT_ONCE, [recorded_by(daemon) for daemon in daemons])[0], "nothing was delivered twice")


STEPS = "connect EHLO MAIL RCPT DATA dot".split()


def kill_at(box, program, step):
    """Kills the daemon while the next hop holds still at the step; the account when all is over, and what was recorded."""
    hop, port, queue = Ledger(box), free_port(), box.new("queue")
    settings = {"port": port, "queue": queue, "relay": f"127.0.0.1:{hop.port}", "maxrelay": AT_ONCE}
    daemons = [start(box, program, **settings)]
    hop.main.say = {step: STALL}
    clients = Clients(port, 4, lambda n: one_of_each(n if n % 8 else n + 1), limit=40)
    clients.join()
    wait_for(f"the next hop is reached at {step}", lambda: hop.main.stalled)
    end(box, daemons[0], kill=True)
    hop.let_go()
    hop.new_life()
    daemons.append(start(box, program, **settings))
    wait_for("the last mail arrives", lambda: clients.pairs() <= hop.seen().keys() or program == WRONG)
    if program == SMTPD:
        daemons[1].empty()
    return Account(clients, hop), [recorded_by(daemon) for daemon in daemons]


for step in STEPS:
    @case(f"kill -9 of smtpd while the next hop holds still at {step}: all is delivered after the restart, once where it can be known")
    def steps(box, step=step):
        account, recorded = kill_at(box, SMTPD, step)
        account.nothing_lost()
        account.explained(AT_ONCE, recorded)


@case("kill -9 control: a daemon that keeps its queue in memory is caught at each step")
def steps_control(box):
    for step in STEPS[:-1]:
        check(kill_at(box, WRONG, step)[0].lost, "nothing was lost at", step)
        box.stop()
