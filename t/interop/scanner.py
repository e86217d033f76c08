"""scanner.py -- testssl.sh in front of the sink: what a stranger who looks for weaknesses finds."""
import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

from parts import PEERS, Late, case, check, peer, system
from secured import Authority, Secured

# Not what only an HTTP server can have, and no simulation of clients. The second port has the same TLS: there a part of
# the tests is enough.
BOTH = "-p --heartbleed --ccs --renegotiation".split()
STARTTLS = "-s -f -P --robot --crime --poodle --tls-fallback --sweet32 --beast --lucky13 --freak --logjam --drown --rc4".split()


def all_to_be(finding, names):
    return dict.fromkeys(names.split(), finding)


# What must have been found out, and how it must begin.
FOUND_BOTH = {**all_to_be("not offered", "SSLv2 SSLv3 TLS1 TLS1_1"), **all_to_be("offered", "TLS1_2 TLS1_3"),
              **all_to_be("not vulnerable", "heartbleed CCS secure_client_renego"), "secure_renego": "supported"}
FOUND_STARTTLS = {**all_to_be("not offered", "cipherlist_NULL cipherlist_aNULL cipherlist_EXPORT cipherlist_LOW "
                                             "cipherlist_3DES_IDEA cipherlist_AVERAGE"),
                  **all_to_be("offered", "cipherlist_STRONG PFS"),
                  **all_to_be("not vulnerable", "ROBOT CRIME_TLS POODLE_SSL SWEET32 FREAK DROWN LOGJAM BEAST LUCKY13 RC4")}
HARMLESS = ("OK", "INFO", "DEBUG")
OF_ITSELF = ("engine_problem",)  # what it says about the openssl that it uses


def scan(box, options, where):
    """Finding by id, each as (severity, text)."""
    command, environment = peer("testssl", "usr/bin/testssl")
    root, found = PEERS / "testssl", box.new("findings.json")
    environment |= {"TESTSSL_INSTALL_DIR": str(root / "etc/testssl"), "PATH": f"{root}/usr/bin:{environment['PATH']}"}
    with box.new("testssl.log").open("wb") as output:
        scanning = subprocess.Popen([*command, "--quiet", "--warnings", "off", "--color", "0", "--openssl", *system("openssl")[0],
                                     "--nodns", "none", "--ip", "127.0.0.1", "--jsonfile", found, *BOTH, *options, where],
                                    env=environment, cwd=box.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                    start_new_session=True)
        try:
            scanning.wait(100)
        except subprocess.TimeoutExpired:
            os.killpg(scanning.pid, signal.SIGTERM)  # it starts many programs
            scanning.wait(10)
            raise Late("testssl.sh did not end in time") from None
    check(found.exists(), "testssl.sh found nothing out")
    return {each["id"]: (each["severity"], each["finding"]) for each in json.loads(found.read_text())}


@case("testssl.sh: nothing below TLS 1.2, no weak cipher, forward secrecy, no known hole, on both ports")
def scanned(box):
    authority = Authority(box)
    sink = Secured(box, pairs=[authority.issue(), authority.issue(rsa=True)], authority=authority)
    with ThreadPoolExecutor(2) as scanners:
        first = scanners.submit(scan, box, [*STARTTLS, "--starttls", "smtp"], f"localhost:{sink.port}")
        second = scanners.submit(scan, box, [], f"localhost:{sink.tls_port}")
    for found, expected in (first.result(), FOUND_STARTTLS), (second.result(), {}):
        for name, beginning in {**FOUND_BOTH, **expected}.items():
            check(name in found, f"testssl.sh did not look for {name}")
            check(found[name][1].startswith(beginning), f"{name}: {found[name][1]}")
        bad = {name: finding for name, finding in found.items() if finding[0] not in HARMLESS and name not in OF_ITSELF}
        check(not bad, "testssl.sh warns:", bad)
