"""open_relay.py -- nmap's smtp-open-relay as judge of the examples that relay: does anybody get a mail to anybody through?"""
import re

from parts import PATIENCE, PEERS, case, check, client, equal, peer
from secured import Authority, account_file, stored

TESTS = 16  # pairs of MAIL and RCPT that the script tries
HOST = "mx.example.org"
STRANGERS = "192.0.2.0/24"  # who connects here is not in it


def judged(server):
    """The script's verdict, and how many recipients it tried."""
    (program,), environment = peer("nmap", "usr/bin/nmap")
    root = PEERS / "nmap"
    environment |= {"NMAPDIR": str(root / "usr/share/nmap"),
                    "LUA_PATH": f"{root}/usr/share/lua/5.3/?.lua;;",
                    "LUA_CPATH": "".join(f"{folder}/?.so;" for folder in root.glob("usr/lib/*/lua/5.3")) + ";"}
    said = client(([program], environment), "--unprivileged", "-n", "-Pn", "-sT", "--host-timeout", f"{PATIENCE}s", "--script-trace",
                  "--script", "+smtp-open-relay", "-p", server.port, "127.0.0.1")
    verdict = re.search(r"^\|_?\s?smtp-open-relay: (.*)$", said, re.MULTILINE)
    check(verdict, "nmap has no verdict:", said[-1000:])
    return verdict[1], len(re.findall(r"^NSE: TCP \S+ > \S+ \| .*RCPT TO:<", said, re.MULTILINE))


def closed(server):
    equal(judged(server), ("Server doesn't seem to be an open relay, all tests failed", TESTS), f"what nmap says of {server.name}")


@case("nmap smtp-open-relay: policy is no open relay, by its defaults, for domains of its own, its address and its name too")
def policy(box):
    via = ["--via", f"127.0.0.1:{box.sink().port}"]
    for options in [], via, [*via, "--hostname", HOST, "--domains", f"{HOST}, .{HOST}, [127.0.0.1]", "--trusted", STRANGERS]:
        closed(box.server("policy", "--listen", "127.0.0.1:0", *options))


@case("nmap smtp-open-relay: relay and demo are no open relays to whom they don't trust, by smart host and by MX")
def trusting_others(box):
    via = ["--via", f"127.0.0.1:{box.sink().port}"]
    for program, *options in ("relay", *via), ("relay", "--dns", "127.0.0.1:9"), ("demo", "--dir", box.new("mail")):
        closed(box.server(program, "--listen", "127.0.0.1:0", "--trusted", STRANGERS, *options))


@case("nmap smtp-open-relay: submission is no open relay, before a login it takes nothing")
def submission(box):
    front = box.server("submission", "--listen", "127.0.0.1:0", "--via", f"127.0.0.1:{box.sink().port}",
                       *Authority(box).issue().options(), "--auth-file", account_file(box, stored("joe", "pencil")))
    equal(judged(front), ("Server isn't an open relay, authentication needed", 0), "what nmap says of submission")


@case("nmap smtp-open-relay control: who takes mail for everybody is called an open relay, and so are those who trust this host")
def control(box):
    sink = box.sink()
    via = ["--via", f"127.0.0.1:{sink.port}"]
    here = ["--trusted", "127.0.0.0/8"]
    for server in (sink, *(box.server(program, "--listen", "127.0.0.1:0", *via, *options)
                           for program, *options in (["thread"], ["relay", *here], ["policy", *here]))):
        verdict, tried = judged(server)
        equal(tried, TESTS, f"recipients that nmap tried at {server.name}")
        open_ = re.fullmatch(rf"Server is an open relay \((\d+)/{TESTS} tests\)", verdict)
        # Those that no server takes are no addresses: "a%b" without a host, "a@b@c", "a!b".
        check(open_ and int(open_[1]) >= 10, f"nmap says of {server.name}:", verdict)
