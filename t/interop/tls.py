"""tls.py -- clients that encrypt in front of the sink: openssl, curl, swaks, msmtp and Python, certificates and their change."""
import hashlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from clients import ANNA, BERT, CARL, msmtp, swaks
from parts import PATIENCE, TORTURE, arrived, case, check, client, equal, letter, smtp, system, wait_for
from secured import NAME, Authority, Pair, Secured, account_file, openssl, refused_at_start

WAYS = ("STARTTLS", "TLS from the start")
TLS_1_2 = {"lowest": ssl.TLSVersion.TLSv1_2, "highest": ssl.TLSVersion.TLSv1_2}


def s_client(sink, *options, way="STARTTLS", say="QUIT\r\n", status=0):
    """What openssl's client prints. It believes the sink's authority alone, and what it is to say it says at once."""
    how = ("-connect", f"127.0.0.1:{sink.port}", "-starttls", "smtp", "-name", "client.example.org")
    if way != "STARTTLS":
        how = ("-connect", f"127.0.0.1:{sink.tls_port}")
    return openssl("s_client", *how, "-CAfile", sink.authority.file, "-verify_return_error", "-ign_eof", *options,
                   stdin=say.encode() if isinstance(say, str) else say, status=status)


def shown(said):
    """The name in the certificate that openssl's client was shown."""
    subject = re.search(r"^subject=CN = (\S+)$", said, re.MULTILINE)
    check(subject, "no certificate was shown:", said)
    return subject[1]


def transaction(mail):
    return (f"EHLO client.example.org\r\nMAIL FROM:<{ANNA}>\r\nRCPT TO:<{BERT}>\r\nDATA\r\n").encode() + mail + b".\r\nQUIT\r\n"


def certificate(sender):
    return sender.sock.getpeercert(binary_form=True)


def octets(pair):
    return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


# ---- versions, certificates, resumption ----

@case("openssl: a mail by each way and version arrives as ESMTPS")
def versions(box):
    for way in WAYS:
        for option, version in ("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3"):
            sink, mail = Secured(box), letter()
            said = s_client(sink, option, "-servername", NAME, "-verify_hostname", NAME, way=way, say=transaction(mail))
            check(f"New, {version}, " in said, f"{version} by {way}:", said)
            check("Verify return code: 0 (ok)" in said, said)
            arrived(sink.came_by("ESMTPS"), ANNA, [BERT], mail)


@case("openssl: TLS 1.0 and 1.1 are refused by the alert for that, and the server goes on")
def old_versions(box):
    sink = Secured(box)
    for way in WAYS:
        for option in "-tls1", "-tls1_1":
            said = s_client(sink, option, "-cipher", "ALL:@SECLEVEL=0", way=way, status=1)
            check("alert protocol version" in said, f"{option} by {way}:", said)
        s_client(sink, way=way)


@case("openssl: weak ciphers are refused, even where the client has nothing else")
def weak_ciphers(box):
    authority = Authority(box)
    sink = Secured(box, pairs=[authority.issue(), authority.issue(rsa=True)], authority=authority)
    weak = ("-tls1_2", "-psk", "1a2b", "-cipher")
    for ciphers in "aNULL", "eNULL", "3DES", "RC4", "kRSA", "CAMELLIA:ARIA:SEED:IDEA", "PSK", "SHA1", "SHA256:SHA384":
        ciphers += ":@SECLEVEL=0"
        if "-" not in openssl("ciphers", "-s", "-tls1_2", "-psk", ciphers, status=None).partition(":error:")[0]:
            continue  # openssl itself has none of them
        said = s_client(sink, *weak, ciphers, status=1)
        check("alert handshake failure" in said, ciphers, "were not refused:", said)
    s_client(sink, *weak, "ALL:@SECLEVEL=0")


@case("openssl: the certificate shown is the one for the name asked for, by wildcard too, else the first")
def by_name(box):
    authority = Authority(box)
    pairs = [authority.issue(), authority.issue("one.example.net", "two.example.net"), authority.issue("*.example.com")]
    sink = Secured(box, pairs=pairs, authority=authority)
    expected = {NAME: NAME, "one.example.net": "one.example.net", "TWO.example.net": "one.example.net",
                "any.example.com": "*.example.com", "a.b.example.com": NAME, "example.com": NAME, "unknown.test": NAME}
    for way in WAYS:
        for name, subject in expected.items():
            equal(shown(s_client(sink, "-servername", name, way=way)), subject, f"shown to who asks for {name}")
        equal(shown(s_client(sink, "-noservername", way=way)), NAME, "shown to who asks for nobody")


@case("openssl: of an RSA and an EC certificate for one name each client is shown what it can verify")
def by_key(box):
    authority = Authority(box)
    sink = Secured(box, pairs=[authority.issue(rsa=True), authority.issue()], authority=authority)
    for version, kinds in ("-tls1_2", ("-cipher", "aRSA", "aECDSA")), \
                          ("-tls1_3", ("-sigalgs", "rsa_pss_rsae_sha256", "ecdsa_secp256r1_sha256")):
        for kind, signed in zip(kinds[1:], ("RSA", "ECDSA")):
            said = s_client(sink, version, kinds[0], kind)
            check(re.search(rf"^Peer signature type: {signed}", said, re.MULTILINE), f"{version} {kind}:", said)


@case("openssl: a session is resumed by each version, after a reload too")
def resumption(box):
    sink = Secured(box)
    for version in "-tls1_2", "-tls1_3":
        for way in WAYS:
            ticket = box.new("session")
            check("New, " in s_client(sink, version, "-sess_out", ticket, way=way), "the first session is no new one")
            check("Reused, " in s_client(sink, version, "-sess_in", ticket, "-sess_out", ticket, way=way),
                  f"{version} by {way} was not resumed")
            sink.reload()
            mail = letter()
            check("Reused, " in s_client(sink, version, "-sess_in", ticket, way=way, say=transaction(mail)),
                  f"{version} by {way} was not resumed after a reload")
            check(any(seen.octets == mail for seen in sink.mails()), "the mail of a resumed session is not there")


@case("openssl: a client that renegotiates is told no, and nothing is compressed")
def renegotiation(box):
    sink, output = Secured(box), box.new("s_client.log")
    command, environment = system("openssl")
    with output.open("wb") as printed:
        talking = subprocess.Popen([*command, "s_client", "-connect", f"127.0.0.1:{sink.tls_port}", "-tls1_2", "-comp",
                                    "-CAfile", sink.authority.file], stdin=subprocess.PIPE, stdout=printed, stderr=printed,
                                   env=environment)
    try:
        wait_for("the greeting", lambda: b"\n220 " in output.read_bytes())
        check(b"Compression: NONE" in output.read_bytes(), "it is compressed")
        talking.stdin.write(b"R\n")
        talking.stdin.flush()
        wait_for("openssl is refused", lambda: b"no renegotiation" in output.read_bytes())
    finally:
        talking.kill()
        talking.communicate()
    s_client(sink)


# ---- octets in the clear ----

def hear_all(connection):
    """What comes until the server has closed, which it must do in time."""
    heard = b""
    try:
        while got := connection.recv(4096):
            heard += got
    except ConnectionResetError:
        pass
    return heard


def raw(port):
    """A socket that has been greeted and has said EHLO, in the clear."""
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
    for command, end in (b"", rb"220 .*\r\n"), (b"EHLO client.example.org\r\n", rb"(250-.*\r\n)*250 .*\r\n"):
        connection.sendall(command)
        heard = b""
        while not re.fullmatch(end, heard):
            got = connection.recv(4096)
            check(got, "the server has closed")
            heard += got
    return connection


@case("injection: what came behind STARTTLS in one segment ends the session, and nothing of it acts")
def injected(box):
    sink = Secured(box)
    for tail in b"NOOP\r\n", transaction(letter(b"Injected.\r\n")), b"\x16\x03\x01", b"\r\n", b"EHLO x":
        with raw(sink.port) as connection:
            connection.sendall(b"STARTTLS\r\n" + tail)
            heard = hear_all(connection)
            check(re.fullmatch(rb"(?!250)\d.*\r\n", heard), f"{tail[:20]!r} was answered:", heard)
    equal(sink.mails(), [], "mails that came by injection")


@case("injection: plain text in the place of the handshake ends the session without a word in the clear")
def plain_for_handshake(box):
    sink = Secured(box)
    with raw(sink.port) as connection:
        connection.sendall(b"STARTTLS\r\n")
        equal(connection.recv(4096)[:4], b"220 ", "STARTTLS")
        connection.sendall(transaction(letter(b"Injected.\r\n")))
        heard = [hear_all(connection)]
    with socket.create_connection(("127.0.0.1", sink.tls_port), PATIENCE) as connection:
        connection.sendall(transaction(letter(b"Injected.\r\n")))
        heard.append(hear_all(connection))
    for each in heard:
        check(not re.search(rb"\d\d\d[ -]", each), "it was answered in the clear:", each)
    equal(sink.mails(), [], "mails that came by injection")


@case("smtplib: what was said before STARTTLS is forgotten")
def forgotten(box):
    sink = Secured(box)
    with smtp(sink.port) as sender:
        equal(sender.docmd("STARTTLS")[0], 220, "STARTTLS")
        sender.sock = sink.authority.trust().wrap_socket(sender.sock, server_hostname=NAME)
        sender.file = None
        equal(sender.docmd(f"MAIL FROM:<{ANNA}>")[0], 503, "MAIL without another EHLO")
        _, offer = sender.ehlo()
        check(b"STARTTLS" not in offer, "STARTTLS is offered within TLS")
        equal(sender.docmd("STARTTLS")[0], 503, "STARTTLS within TLS")
        mail = letter()
        sender.sendmail(ANNA, [BERT], mail)
    arrived(sink.came_by("ESMTPS"), ANNA, [BERT], mail)


@case("--require-tls: 530 before it to whatever begins a mail, and the mail goes afterwards")
def required(box):
    sink, mail = Secured(box, "--require-tls"), letter()
    with smtp(sink.port) as sender:
        for command in f"MAIL FROM:<{ANNA}>", f"RCPT TO:<{BERT}>", "DATA", "RSET", "VRFY x", "AUTH PLAIN AGEAYg==":
            code, text = sender.docmd(command)
            equal((code, text[:5]), (530, b"5.7.0"), command)
        equal(sender.noop()[0], 250, "NOOP")
        sender.starttls(context=sink.authority.trust())
        sender.sendmail(ANNA, [BERT], mail)
    arrived(sink.came_by("ESMTPS"), ANNA, [BERT], mail)


# ---- other clients ----

def curl(sink, way, mail, *options, status=0):
    where = f"smtp://127.0.0.1:{sink.port}" if way == "STARTTLS" else f"smtps://127.0.0.1:{sink.tls_port}"
    return client(system("curl"), "-sS", "--ssl-reqd", "--cacert", sink.authority.file, f"{where}/client.example.org",
                  "--mail-from", ANNA, "--mail-rcpt", BERT, "--mail-rcpt", CARL, *options, "-T", "-", stdin=mail, status=status)


@case("curl: a mail of 5 MiB by each way arrives octet for octet")
def curl_tls(box):
    for way in WAYS:
        sink, mail = Secured(box), letter(TORTURE + 16 * (b"." * 62 + b"\r\n") * (5 << 10))
        curl(sink, way, mail)
        arrived(sink.came_by("ESMTPS"), ANNA, [BERT, CARL], mail)


@case("swaks: a mail by each way arrives as ESMTPS")
def swaks_tls(box):
    for way in WAYS:
        sink, mail = Secured(box), letter(TORTURE + b"end\r\n")
        swaks(box, sink, mail, "--from", ANNA, "--tls-verify", "--tls-ca-path", sink.authority.file,
              *(["--tls"] if way == "STARTTLS" else ["--tls-on-connect", "--port", sink.tls_port]))
        arrived(sink.came_by("ESMTPS"), ANNA, [BERT, CARL], mail)


def msmtp_tls(sink, way, mail, *options, status=0):
    direct = way != "STARTTLS"
    return msmtp(sink.tls_port if direct else sink.port, mail, BERT, CARL, status=status, options=[
        "--tls=on", f"--tls-starttls={'off' if direct else 'on'}", f"--tls-trust-file={sink.authority.file}", *options])


@case("msmtp: a mail by each way arrives as ESMTPS")
def msmtp_ways(box):
    for way in WAYS:
        sink, mail = Secured(box), letter(TORTURE)
        msmtp_tls(sink, way, mail)
        arrived(sink.came_by("ESMTPS"), ANNA, [BERT, CARL], mail)


@case("smtplib: mails by each way and version, of every octet and of 2 MiB, by one session")
def smtplib_tls(box):
    every = letter(TORTURE + bytes(range(14, 256)) + b"\0\r\n" + b"y" * 70000 + b"\r\n")
    large = letter((b".dots " * 11 + b"\r\n") * (2 * 2**20 // 68))
    for versions in {}, TLS_1_2:
        sink = Secured(box)
        for connect in sink.smtp, sink.smtps:
            with connect(sink.authority.trust(**versions)) as sender:
                equal(sender.sock.version(), "TLSv1.2" if versions else "TLSv1.3", "version")
                for mail in every, large:
                    sender.sendmail(ANNA, [BERT], mail, mail_options=["BODY=8BITMIME"])
        equal(sorted(len(mail.octets) for mail in sink.mails()), sorted(2 * [len(every), len(large)]), "sizes")
        for mail in sink.mails():
            check(mail.octets in (every, large), "a mail is not as it was sent")
            equal(mail.fields["protocol"], "ESMTPS", "protocol")


@case("clients refuse our certificate where it is another's, and send nothing; the server goes on")
def distrusted(box):
    sink, stranger = Secured(box), Authority(box)
    trusted, sink.authority = sink.authority, stranger
    for way in WAYS:
        curl(sink, way, letter(), status=60)
        msmtp_tls(sink, way, letter(), status=69)
        s_client(sink, way=way, status=1)
    sink.authority = trusted
    s_client(sink, "-verify_hostname", "other.example.test", status=1)
    for connect in sink.smtp, sink.smtps:
        try:
            connect(stranger.trust()).close()
        except ssl.SSLCertVerificationError:
            continue
        check(False, "Python believed a stranger")
    equal(sink.mails(), [], "mails")
    curl(sink, WAYS[0], mail := letter())
    arrived(sink.came_by("ESMTPS"), ANNA, [BERT, CARL], mail)


@case("client certificates of openssl, curl, swaks, msmtp and Python are verified and told; a stranger's is told as such")
def client_certificates(box):
    authority, users = Authority(box), Authority(box)
    sink = Secured(box, "--tls-client-ca", users.file, authority=authority)
    stranger = Authority(box)
    for pair, verified in (users.issue("user.example.org"), True), (stranger.issue("user.example.org"), False), (None, None):
        def own(certificate_option, key_option):
            return (certificate_option, pair.certificate, key_option, pair.key) if pair else ()

        mails, context = [letter() for _ in range(6)], authority.trust()
        for way, mail in zip(WAYS, mails):
            s_client(sink, *own("-cert", "-key"), way=way, say=transaction(mail))
        curl(sink, WAYS[0], mails[2], *own("--cert", "--key"))
        swaks(box, sink, mails[3], "--from", ANNA, "--tls", *own("--tls-cert", "--tls-key"))
        msmtp_tls(sink, WAYS[1], mails[4], *(f"{name}={file}" for name, file in
                                             zip(("--tls-cert-file", "--tls-key-file"), pair or ())))
        if pair:
            context.load_cert_chain(*pair)
        with sink.smtps(context) as sender:
            sender.sendmail(ANNA, [BERT], mails[5])
        for octets_sent in mails:
            mail, = [mail for mail in sink.mails() if mail.octets == octets_sent]
            told = mail.fields.get("certificate")
            if not pair:
                equal(told, None, "the certificate of who has none")
                continue
            equal((told["verified"], told["subject"]), (verified, "CN=user.example.org"), "the certificate")
            equal(told["fingerprint"], hashlib.sha256(octets(pair)).hexdigest(), "its fingerprint")


# ---- the files, and reading them again ----

@case("a certificate that is missing, broken, or not the key's is refused at start with its file's name")
def bad_files(box):
    authority = Authority(box)
    good, other, broken = authority.issue(), authority.issue(), box.new("broken.pem")
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    missing = box.folder / "missing.pem"
    for program in "sink", "relay", "demo":
        via = ("--via", "127.0.0.1:9") if program == "relay" else ("--dir", box.folder)
        for certificate_file, key, named in ((good.certificate, other.key, other.key), (broken, good.key, broken),
                                             (missing, good.key, missing), (good.certificate, missing, missing),
                                             (good.certificate, broken, broken)):
            said = refused_at_start(box, program, "--listen", "127.0.0.1:0", *via, *Pair(certificate_file, key).options())
            check(str(named) in said or str(certificate_file) in said and named is not missing,
                  f"{named} is not named in what {program} said:", said)


def replace(pair, by):
    """Puts another certificate and key under the names of the first, each at once."""
    for old, new in zip(pair, by):
        shutil.copyfile(new, fresh := old.with_suffix(".new"))
        os.replace(fresh, old)


@case("SIGHUP: new sessions see the new certificate while one with a mail under way goes on")
def reloaded(box):
    authority, mail = Authority(box), letter(TORTURE)
    pair, first, second = authority.issue(), authority.issue(), authority.issue()
    replace(pair, first)
    sink = Secured(box, pairs=[pair], authority=authority)
    with sink.smtp() as sender:
        equal(certificate(sender), octets(first), "the first certificate")
        sender.mail(ANNA)
        sender.rcpt(BERT)
        equal(sender.docmd("DATA")[0], 354, "DATA")
        text = mail.replace(b"\r\n.", b"\r\n..")
        sender.send(text[:100])
        replace(pair, second)
        with sink.smtp() as between:
            equal(certificate(between), octets(first), "before SIGHUP")
        sink.reload()
        for connect in sink.smtp, sink.smtps:
            with connect() as other:
                equal(certificate(other), octets(second), "after SIGHUP")
        sender.send(text[100:] + b".\r\n")
        equal(sender.getreply()[0], 250, "the end of data")
        arrived(sink.came_by("ESMTPS"), ANNA, [BERT], mail)


@case("SIGHUP: a broken, mismatched or missing file is told with its name, and the old certificate stays")
def reload_refused(box):
    authority = Authority(box)
    pair, good, other = authority.issue(), authority.issue(), authority.issue()
    replace(pair, good)
    sink = Secured(box, pairs=[pair], authority=authority)
    broken = box.new("broken.pem")
    broken.write_text("no certificate\n")
    for wrong in Pair(broken, good.key), Pair(good.certificate, other.key), Pair(good.certificate, broken), None:
        if wrong:
            replace(pair, wrong)
        else:
            pair.certificate.unlink()
        sink.reload("certificates not read again")
        told = [line for line in sink.said().splitlines() if "not read again" in line][-1]
        check(str(pair.certificate) in told or str(pair.key) in told, "no file is named in", told)
        with sink.smtp() as sender:
            equal(certificate(sender), octets(good), "after a reload that was refused")
    replace(pair, other)
    sink.reload()
    with sink.smtp() as sender:
        equal(certificate(sender), octets(other), "after all is well again")


@case("SIGHUP: 20 reloads under the load of 8 clients drop no session and lose no mail")
def reload_under_load(box):
    authority = Authority(box)
    pair, *both = (authority.issue() for _ in range(3))
    replace(pair, both[0])
    sink, over, taken, seen = Secured(box, pairs=[pair], authority=authority), threading.Event(), [], set()

    def send(number):
        while not over.is_set():
            with (sink.smtp if number % 2 else sink.smtps)() as sender:
                seen.add(certificate(sender))
                for _ in range(1 + number % 3):
                    sender.sendmail(ANNA, [BERT], mail := letter(TORTURE))
                    taken.append(mail)
    with ThreadPoolExecutor(8) as clients:
        sending = [clients.submit(send, number) for number in range(8)]
        try:
            for turn in range(20):
                replace(pair, both[turn % 2])
                sink.reload()
                enough = len(taken) + 10  # so that each reload meets traffic
                wait_for("mails go on", lambda: len(taken) >= enough or any(each.done() for each in sending))
        finally:
            over.set()
    for each in sending:
        each.result()  # no connection was lost, no command refused
    equal(seen, {octets(pair) for pair in both}, "the certificates that were shown")
    equal(sorted(mail.octets for mail in sink.mails()), sorted(taken), "mails")


@case("a process for each session: resumed and new sessions by each way, with logins")
def processes(box):
    sink, sent = Secured(box, "--mode", "process", "--auth-file", account_file(box, "anna:secret\n")), []
    for way, connect in zip(WAYS, (sink.smtp, sink.smtps)):
        ticket = box.new("session")
        for option, expected in ("-sess_out", "New, "), ("-sess_in", "Reused, "):
            sent.append(letter())
            check(expected in s_client(sink, option, ticket, way=way, say=transaction(sent[-1])), f"not {expected} by {way}")
        with connect() as sender:
            sender.login("anna", "secret")
            sent.append(letter(TORTURE))
            sender.sendmail(ANNA, [BERT], sent[-1])
    equal(sorted(mail.octets for mail in sink.mails()), sorted(sent), "mails")
    equal(sorted(mail.fields["protocol"] for mail in sink.mails()), [*4 * ["ESMTPS"], *2 * ["ESMTPSA"]], "protocols")


# ---- many handshakes ----

def handshakes(port, trusted, count):
    """Of every ten one is given up in the middle, one begins with nonsense, and half of the rest say QUIT."""
    context = ssl.create_default_context(cafile=trusted)
    for number in range(count):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            if number % 10 == 0:
                connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            elif number % 10 == 1:
                connection.sendall(b"EHLO client.example.org\r\n")
            else:
                with context.wrap_socket(connection, server_hostname=NAME) as encrypted:
                    if encrypted.recv(4096)[:3] != b"220":
                        return False
                    if number % 2:
                        encrypted.sendall(b"QUIT\r\n")
                        encrypted.recv(4096)
    return True


def resident(pid):
    """Octets, and whether that tells something: a sanitizer keeps what was freed."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/statm") as sizes:
        return int(sizes.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"), not re.search("lib[at]san", maps.read())


@case("10,000 handshakes, good and bad, leave neither memory nor descriptors behind")
def many_handshakes(box):
    sink, began = Secured(box), time.monotonic()
    descriptors = lambda: len(os.listdir(f"/proc/{sink.pid}/fd"))  # noqa: E731
    before = descriptors()
    with ProcessPoolExecutor(4) as clients:
        def run(count):
            done = list(clients.map(handshakes, 8 * [sink.tls_port], 8 * [str(sink.authority.file)], 8 * [count // 8]))
            equal(done, 8 * [True], "greetings")
            wait_for("the server has closed every connection", lambda: descriptors() == before)
            return resident(sink.pid)
        warm, telling = run(2000)
        if not telling:  # slow too
            return
        after, _ = run(8000)
    check(after - warm < 1 << 20, f"resident memory grew from {warm} to {after} in {time.monotonic() - began:.0f} s")
