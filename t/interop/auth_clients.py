"""auth_clients.py -- clients that log in: curl, swaks, msmtp, gsasl and Python, by each mechanism they have."""
import base64
import hashlib
import hmac
import re
import shlex
import smtplib
from concurrent.futures import ThreadPoolExecutor

from clients import ANNA, BERT, CARL, swaks
from parts import TORTURE, arrived, case, check, client, equal, letter, peer, smtp, travelled
from secured import Authority, Secured, account_file, ports, refused_at_start, stored
from tls import WAYS, curl, msmtp_tls

USER, PASSWORD = "anna", "it's \"quite\" \\ long, $HOME & 100% =? =="
FOREIGN, FOREIGN_PASSWORD = "jürgen@example.org", "Straße 日本 ñ"
CLEAR = f"{USER}:{PASSWORD}\n"


# Each sends a mail, or, when it is not to be let in, must end as such a client does. By user, password and mechanism.

def by_curl(box, sink, way, mail, user, password, mechanism, let_in=True):
    curl(sink, way, mail, "--user", f"{user}:{password}", "--login-options", f"AUTH={mechanism}", status=0 if let_in else 67)


def by_swaks(box, sink, way, mail, user, password, mechanism, let_in=True):
    swaks(box, sink, mail, "--from", ANNA, "--auth", mechanism, "--auth-user", user, "--auth-password", password,
          *(["--tls"] if way == "STARTTLS" else ["--tls-on-connect", "--port", sink.tls_port]), status=0 if let_in else 28)


def by_msmtp(box, sink, way, mail, user, password, mechanism, let_in=True):
    file = box.new("password")
    file.write_text(password + "\n")
    msmtp_tls(sink, way, mail, f"--auth={mechanism.lower()}", f"--user={user}", f"--passwordeval=cat {shlex.quote(str(file))}",
              status=0 if let_in else 77)


def by_smtplib(box, sink, way, mail, user, password, mechanism, let_in=True):
    with (sink.smtp if way == "STARTTLS" else sink.smtps)() as sender:
        sender.user, sender.password = user, password
        try:
            sender.auth(mechanism, getattr(sender, "auth_" + mechanism.lower().replace("-", "_")))
        except smtplib.SMTPAuthenticationError as refusal:
            equal((refusal.smtp_code, refusal.smtp_error[:5]), (535, b"5.7.8"), "who is not let in hears")
            check(not let_in, "Python was not let in:", refusal)
            return
        check(let_in, "Python was let in")
        sender.sendmail(ANNA, [BERT, CARL], mail)


def gsasl(sink, user, password, mechanism, *options, status=0):
    """Logs in by STARTTLS, the only way it knows; says nothing of a mail."""
    return client(peer("gsasl", "usr/bin/gsasl"), "--smtp", "--connect", f"localhost:{sink.port}", "--starttls", "--verbose",
                  "--x509-ca-file", sink.authority.file, "--mechanism", mechanism, "--authentication-id", user,
                  "--password", password, *options, status=status)


def gsasl_refused(sink, user, password, mechanism):
    check("\n535 5.7.8 " in gsasl(sink, user, password, mechanism, "--no-cb", status=1), "gsasl was not refused by 535")


def at_once(function, attempts):
    """Most of the time of a failed login it is our delay that is waited for."""
    with ThreadPoolExecutor(len(attempts)) as clients:
        for done in [clients.submit(function, *attempt) for attempt in attempts]:
            done.result()


WITH_PASSWORDS = ("PLAIN", "LOGIN", "CRAM-MD5")
CLIENTS = {"curl": (by_curl, WITH_PASSWORDS), "swaks": (by_swaks, WITH_PASSWORDS),
           "msmtp": (by_msmtp, (*WITH_PASSWORDS, "SCRAM-SHA-256")), "smtplib": (by_smtplib, WITH_PASSWORDS)}


def offered(sender):
    """The mechanisms that EHLO has offered it."""
    return sender.esmtp_features.get("auth", "").split()


def logs_in(name):
    send, mechanisms = CLIENTS[name]

    @case(f"{name}: {', '.join(mechanisms)} by each way let it in, and the mail is the user's")
    def let_in(box):
        authority = Authority(box)
        sinks = [(Secured(box, "--auth-file", account_file(box, CLEAR), authority=authority), mechanisms),
                 (Secured(box, "--auth-file", account_file(box, stored(USER, PASSWORD)), authority=authority),
                  [each for each in mechanisms if each != "CRAM-MD5"])]
        for sink, known in sinks:
            sent = []
            for mechanism in known:
                for way in WAYS:
                    sent.append(letter(TORTURE + b"end\r\n"))
                    send(box, sink, way, sent[-1], USER, PASSWORD, mechanism)
            found = {mail.octets: mail for mail in sink.mails()}
            equal(sorted(found), sorted(sent), "mails")
            for mail in found.values():
                arrived(mail, ANNA, [BERT, CARL], mail.octets)
                equal((mail.fields["protocol"], mail.fields["user"]), ("ESMTPSA", USER), "protocol and user")


for each in CLIENTS:
    logs_in(each)


@case("curl, swaks, msmtp and gsasl: a user and a password that are no ASCII")
def foreign(box):
    for line in f"{FOREIGN}:{FOREIGN_PASSWORD}\n", stored(FOREIGN, FOREIGN_PASSWORD):
        sink = Secured(box, "--auth-file", account_file(box, line))
        for send, mechanism in (by_curl, "PLAIN"), (by_swaks, "LOGIN"), (by_msmtp, "SCRAM-SHA-256"), (by_msmtp, "PLAIN"):
            send(box, sink, "STARTTLS", letter(), FOREIGN, FOREIGN_PASSWORD, mechanism)
        gsasl(sink, FOREIGN, FOREIGN_PASSWORD, "SCRAM-SHA-256-PLUS")
        equal([mail.fields["user"] for mail in sink.mails()], 4 * [FOREIGN], "users")


@case("curl: XOAUTH2 and OAUTHBEARER by each way let in who has the token, and nobody by another's or a wrong one")
def bearer_tokens(box):
    sink = Secured(box, "--auth-file", account_file(box, CLEAR), "--token-file", account_file(box, "anna:ya29.token-of-anna\n", "carl:another\n"))
    with sink.smtp() as sender:
        equal({"XOAUTH2", "OAUTHBEARER", "PLAIN"} - set(offered(sender)), set(), "what is not offered")
    sent = []
    for mechanism in "XOAUTH2", "OAUTHBEARER":
        for way in WAYS:
            def show(token, mail, user=USER, status=0):
                curl(sink, way, mail, "--user", f"{user}:", "--oauth2-bearer", token, "--login-options", f"AUTH={mechanism}", status=status)
            sent.append(letter())
            show("ya29.token-of-anna", sent[-1])
        at_once(show, [(token, letter(), user, 67) for token, user in (("another", USER), ("ya29.token-of-ann", USER),
                                                                       ("ya29.token-of-anna", "carl"), ("x", "nobody"))])
    equal(sorted(mail.octets for mail in sink.mails()), sorted(sent), "mails")
    equal({(mail.fields["protocol"], mail.fields["user"]) for mail in sink.mails()}, {("ESMTPSA", USER)}, "protocol and user")


@case("EXTERNAL: curl, msmtp and Python log in as the e-mail address in their certificate, and as nobody else")
def by_certificate(box):
    users, who = Authority(box), "anna@example.org"
    sink = Secured(box, "--auth-file", account_file(box, CLEAR), "--tls-client-ca", users.file, "--auth-external")
    own, nobody, stranger = users.issue(who), users.issue("user.example.org"), Authority(box).issue(who)
    mails = [letter() for _ in range(4)]
    for way, mail in zip(WAYS, mails):
        curl(sink, way, mail, "--cert", own.certificate, "--key", own.key, "--user", f"{who}:", "--login-options", "AUTH=EXTERNAL")
    for pair, user in (own, "carl@example.org"), (nobody, who):
        curl(sink, WAYS[0], letter(), "--cert", pair.certificate, "--key", pair.key, "--user", f"{user}:",
             "--login-options", "AUTH=EXTERNAL", status=67)
    msmtp_tls(sink, WAYS[1], mails[2], f"--tls-cert-file={own.certificate}", f"--tls-key-file={own.key}", "--auth=external", f"--user={who}")
    context = sink.authority.trust()
    context.load_cert_chain(*own)
    with sink.smtps(context) as sender:
        sender.auth("EXTERNAL", lambda challenge=None: "")  # whoever the certificate is
        sender.sendmail(ANNA, [BERT, CARL], mails[3])
    for pair in stranger, None:
        context = sink.authority.trust()
        if pair:
            context.load_cert_chain(*pair)
        with sink.smtps(context) as sender:
            check("EXTERNAL" not in offered(sender), "EXTERNAL is offered to who has shown nothing that counts")
    equal(sorted(mail.octets for mail in sink.mails()), sorted(mails), "mails")
    equal({(mail.fields["protocol"], mail.fields["user"]) for mail in sink.mails()}, {("ESMTPSA", who)}, "protocol and user")


@case("gsasl: SCRAM-SHA-256-PLUS by TLS 1.3 and 1.2, SCRAM-SHA-256, CRAM-MD5, LOGIN and PLAIN; we prove ourselves too")
def gsasl_all(box):
    for line, more in (CLEAR, ["CRAM-MD5"]), (stored(USER, PASSWORD), []):
        sink = Secured(box, "--auth-file", account_file(box, line))
        for version in "TLS1.3", "TLS1.2":
            only = ("--priority", f"NORMAL:-VERS-ALL:+VERS-{version}")
            said = gsasl(sink, USER, PASSWORD, "SCRAM-SHA-256-PLUS", *only)
            check("server trusted" in said, said)
            binding = b"p=tls-exporter,,n=" if version == "TLS1.3" else b"p=tls-unique,,n="
            check(base64.b64encode(binding)[:-4].decode() in said, f"not {binding} by {version}:", said)
            check("server trusted" in gsasl(sink, USER, PASSWORD, "SCRAM-SHA-256", "--no-cb", *only), "SCRAM-SHA-256")
        for mechanism in ["LOGIN", "PLAIN", *more]:
            gsasl(sink, USER, PASSWORD, mechanism)


def scram_first(sender, gs2, user):
    """The server's first message, None if it refuses already."""
    first = base64.b64encode(f"{gs2}n={user},r=rOprNGfwEbeRWgbNEkqO".encode()).decode()
    code, text = sender.docmd(f"AUTH SCRAM-SHA-256 {first}")
    return base64.b64decode(text).decode() if code == 334 else None


def scram(sender, gs2, user, password):
    """A client of our own, for what no other can be made to say: the code at the end of SCRAM-SHA-256."""
    challenge = scram_first(sender, gs2, user)
    if challenge is None:
        return 535
    nonce, salt, iterations = (part[2:] for part in challenge.split(","))
    final = f"c={base64.b64encode(gs2.encode()).decode()},r={nonce}"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    key = hmac.digest(salted, b"Client Key", "sha256")
    signed = f"n={user},r=rOprNGfwEbeRWgbNEkqO,{challenge},{final}".encode()
    signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
    code, _ = sender.docmd(base64.b64encode(f"{final},p={proof}".encode()).decode())
    return sender.docmd("")[0] if code == 334 else code


@case("SCRAM-SHA-256: a client that was kept from channel binding is not let in, where there is none it is")
def downgraded(box):
    sink = Secured(box, "--auth-file", account_file(box, stored(USER, PASSWORD)), "--auth-loopback")
    in_the_clear = lambda: smtp(sink.port)  # noqa: E731
    attempts = [(sink.smtp, "n,,", 235), (sink.smtp, "y,,", 535), (in_the_clear, "y,,", 235), (sink.smtps, "y,,", 535),
                (sink.smtps, "n,a=bert,", 535)]

    def attempt(connect, gs2, code):
        with connect() as sender:
            equal(scram(sender, gs2, USER, PASSWORD), code, f"{gs2} where there is {offered(sender)}")
    at_once(attempt, attempts)


@case("SCRAM-SHA-256: who is no user is asked like one, always by the same salt, a different one for each")
def unknown_users(box):
    sink = Secured(box, "--auth-file", account_file(box, stored(USER, PASSWORD)))

    def asked(user):
        with sink.smtp() as sender:
            challenge = scram_first(sender, "n,,", user)
            sender.close()  # to go on would be one failure more, and answered late
            return challenge.partition(",")[2]
    known, nobody = asked(USER), asked("nobody")
    equal(asked("nobody"), nobody, "salt and iterations of an unknown user")
    check(len({known, nobody, asked("none")}) == 3, "the salts are not different")
    equal([len(nobody), nobody.split(",")[1]], [len(known), known.split(",")[1]], "form and iterations")
    sink.reload("accounts read again")
    equal([asked("nobody"), asked(USER)], [nobody, known], "after a reload")


@case("wrong passwords, unknown users and other users' passwords are refused to every client and mechanism")
def wrong(box):
    accounts = account_file(box, CLEAR, "bert:another password\n")
    wrongs = (USER, PASSWORD + "x"), ("nobody", PASSWORD), (USER, "another password")
    authority = Authority(box)
    sinks = [Secured(box, "--auth-file", accounts, authority=authority) for _ in wrongs]  # each counts failures by address
    attempts = [(send, box, sink, WAYS[0], letter(), *wrong, mechanism, False)
                for sink, wrong in zip(sinks, wrongs) for send, mechanisms in CLIENTS.values() for mechanism in mechanisms]
    attempts += [(gsasl_refused, sink, *wrong, mechanism)
                 for sink, wrong in zip(sinks, wrongs) for mechanism in ("SCRAM-SHA-256", "PLAIN")]
    at_once(lambda send, *arguments: send(*arguments), attempts)
    for sink in sinks:
        equal(sink.mails(), [], "mails")
        by_smtplib(box, sink, WAYS[0], letter(), USER, PASSWORD, "PLAIN")


@case("in the clear AUTH is neither offered nor taken; --auth-loopback offers it")
def in_the_clear(box):
    accounts = account_file(box, CLEAR)
    sink = Secured(box, "--auth-file", accounts)
    plain = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
    with smtp(sink.port) as sender:
        equal(offered(sender), [], "mechanisms in the clear")
        for command in f"AUTH PLAIN {plain}", "AUTH LOGIN", "AUTH SCRAM-SHA-256":
            code, text = sender.docmd(command)
            check(code in (502, 504, 530, 538), command, "in the clear:", code, text)
        sender.starttls(context=sink.authority.trust())
        sender.ehlo()
        check("PLAIN" in offered(sender), "offered within TLS:", offered(sender))
        equal(sender.docmd(f"AUTH PLAIN {plain}")[0], 235, "within TLS")
    local = Secured(box, "--auth-file", accounts, "--auth-loopback")
    with smtp(local.port) as sender:
        check("PLAIN" in offered(sender), "offered to loopback:", offered(sender))
        sender.login(USER, PASSWORD)
        sender.sendmail(ANNA, [BERT], mail := letter())
    arrived(local.came_by("ESMTPA", USER), ANNA, [BERT], mail)


@case("CRAM-MD5 is offered only where every account has its password, PLUS only within TLS, the strongest first")
def offers(box):
    for lines, cram in ([CLEAR], True), ([CLEAR, stored("bert", "x")], False), ([stored(USER, PASSWORD)], False):
        sink = Secured(box, "--auth-file", account_file(box, *lines), "--auth-loopback")
        with smtp(sink.port) as sender:
            equal("CRAM-MD5" in offered(sender), cram, f"CRAM-MD5 in {offered(sender)}")
            check("SCRAM-SHA-256-PLUS" not in offered(sender), "in the clear:", offered(sender))
        with sink.smtp() as sender:
            mechanisms = offered(sender)
            equal("CRAM-MD5" in mechanisms, cram, f"CRAM-MD5 in {mechanisms}")
            equal(mechanisms[:2], ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], "the first")
            check({"PLAIN", "LOGIN"} <= set(mechanisms), mechanisms)


@case("AUTH: nonsense, abortion, too much, a second time and within a mail are answered and leave nobody in")
def nonsense(box):
    sink = Secured(box, "--auth-file", account_file(box, CLEAR))
    plain = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()

    def said(sender, *lines):
        for line in lines:
            code, _ = sender.docmd(line)
        return code
    with sink.smtp() as sender:
        equal(said(sender, "AUTH"), 501, "AUTH alone")
        equal(said(sender, "AUTH X-NONE"), 504, "an unknown mechanism")
        equal(said(sender, "AUTH PLAIN", "*"), 501, "abortion")
        equal(said(sender, "AUTH LOGIN", "*"), 501, "abortion")
        equal(said(sender, "AUTH PLAIN !!!!"), 501, "no base64")
        equal(said(sender, "AUTH PLAIN", "AA=A"), 501, "no base64")
        equal(said(sender, f"MAIL FROM:<{ANNA}>", f"AUTH PLAIN {plain}"), 503, "within a mail")
        sender.rset()
    with sink.smtp() as sender:
        check(said(sender, "AUTH PLAIN", "A" * 20000) in (500, 501), "20,000 octets")
        equal(said(sender, "NOOP"), 250, "NOOP behind it")
        equal(said(sender, f"AUTH PLAIN {plain}"), 235, "and then in order")
        equal(said(sender, f"AUTH PLAIN {plain}"), 503, "a second time")
        equal(said(sender, f"MAIL FROM:<{ANNA}>"), 250, "MAIL")


@case("guessing: a session ends after 3 failures, and after 20 an address is heard no more")
def guessing(box):
    sink = Secured(box, "--auth-file", account_file(box, CLEAR))

    def guess(_):
        plain, codes = base64.b64encode(f"\0{USER}\0guess".encode()).decode(), []
        with sink.smtps() as sender:
            try:
                for _ in range(4):
                    codes.append(sender.docmd(f"AUTH PLAIN {plain}")[0])
            except smtplib.SMTPServerDisconnected:
                pass
        return codes
    with ThreadPoolExecutor(7) as clients:
        for codes in clients.map(guess, range(7)):
            check(codes[:2] in ([535, 535], [535, 454]) and set(codes[2:]) <= {535, 421, 454} and len(codes) <= 4, codes)
    with sink.smtps() as sender:
        sender.user, sender.password = USER, PASSWORD
        try:
            sender.auth("PLAIN", sender.auth_plain)
            check(False, "let in after 20 failures")
        except smtplib.SMTPAuthenticationError as refusal:
            equal((refusal.smtp_code, refusal.smtp_error[:5]), (454, b"4.7.0"), "after 20 failures")


# ---- who may relay ----

def relaying(box, program, *arguments):
    """(the program with TLS and accounts in front of a sink, that sink)."""
    authority, behind = Authority(box), box.sink()
    front = box.server(program, "--listen", "127.0.0.1:0", "--tls-port", "127.0.0.1:0", "--via", f"127.0.0.1:{behind.port}",
                       *authority.issue().options(), "--auth-file", account_file(box, stored(USER, PASSWORD)), *arguments)
    front.authority, front.tls_port = authority, ports(front.said())[1]
    front.smtp, front.smtps = (lambda: Secured.smtp(front)), (lambda: Secured.smtps(front))
    return front, behind


@case("relay: who is not trusted relays only when logged in, by every client, and Received says ESMTPSA")
def relay_for_users(box):
    relay, sink = relaying(box, "relay", "--trusted", "192.0.2.0/24")
    for connect in relay.smtp, relay.smtps, lambda: smtp(relay.port):
        with connect() as stranger:
            stranger.mail(ANNA)
            equal(stranger.rcpt(BERT), (550, b"5.7.1 Relaying denied: <%s>" % BERT.encode()), "a stranger's RCPT")
    curl(relay, WAYS[0], letter(), status=55)
    equal(sink.mails(), [], "mails of strangers")
    sent = []
    for send, mechanisms in CLIENTS.values():
        for way in WAYS:
            sent.append(letter(TORTURE + b"end\r\n"))
            send(box, relay, way, sent[-1], USER, PASSWORD, mechanisms[0])
    equal(len(sink.mails()), len(sent), "mails")
    for octets in sent:
        mail, = [mail for mail in sink.mails() if mail.octets.endswith(octets)]
        travelled(mail, ANNA, [BERT, CARL], octets, hops=1)
        check(re.search(rb"\swith ESMTPSA\s", mail.octets[:-len(octets)]), "Received:", mail.octets[:-len(octets)])
        check(PASSWORD.encode() not in mail.octets, "the password travels")


@case("submission: nothing without TLS and a login; what lacks Date and Message-ID is given them")
def submission(box):
    front, sink = relaying(box, "submission")
    with smtp(front.port) as sender:
        equal(sender.docmd(f"MAIL FROM:<{ANNA}>")[0], 530, "MAIL in the clear")
        equal(offered(sender), [], "mechanisms in the clear")
    whole, bare = letter(TORTURE), b"From: anna@example.org\r\nSubject: bare\r\n\r\nText\r\n"
    for connect in front.smtp, front.smtps:
        with connect() as sender:
            equal(sender.docmd(f"MAIL FROM:<{ANNA}>"), (530, b"5.7.0 Authentication required"), "MAIL before AUTH")
            sender.login(USER, PASSWORD)
            equal(sender.mail(BERT)[0] // 100, 5, "MAIL from another's address")
            sender.sendmail(ANNA, [BERT], whole)
            sender.sendmail(ANNA, [BERT], bare)
    found = sink.mails()
    equal(len(found), 4, "mails")
    for mail in found:
        head = mail.octets.partition(b"\r\n\r\n")[0]
        check(b"with ESMTPSA" in head, "Received:", head)
        for field in b"Date", b"Message-ID":
            equal(len(re.findall(rb"^" + field + rb":", head, re.MULTILINE | re.IGNORECASE)), 1, f"fields {field}")
        check(mail.octets.endswith(whole) or mail.octets.endswith(bare), "the mail is not as it was sent:", mail.octets)


@case("demo: a stranger is refused, and a user's mail is saved with the Received of an ESMTPSA")
def demo(box):
    authority, folder = Authority(box), box.new("mail")
    front = box.server("demo", "--listen", "127.0.0.1:0", "--dir", folder, "--trusted", "192.0.2.0/24",
                       *authority.issue().options(), "--auth-file", account_file(box, stored(USER, PASSWORD)))
    front.authority, mail = authority, letter(TORTURE)
    curl(front, WAYS[0], letter(), status=55)
    by_curl(box, front, WAYS[0], mail, USER, PASSWORD, "PLAIN")
    saved, = folder.glob("*.eml")
    seen = saved.read_bytes()
    check(seen.endswith(mail) and re.search(rb"\swith ESMTPSA\s", seen[:-len(mail)]), "saved:", seen)


# ---- the file of accounts ----

@case("an account file that others may read, that is missing or makes no sense is refused at start with the reason")
def bad_account_files(box):
    pair = Authority(box).issue()
    for program in "sink", "relay", "demo":
        for lines, mode, reason in (CLEAR, 0o644, "others may read"), (CLEAR, 0o640, "others may read"), \
                                   ("no colon\n", 0o600, "line 1"), ("a:{SCRAM-SHA-256}1$x\n", 0o600, "line 1"), \
                                   (None, 0, "No such file"):
            file = account_file(box, lines or "")
            file.chmod(mode)
            if lines is None:
                file.unlink()
            via = ("--via", "127.0.0.1:9") if program == "relay" else ("--dir", box.folder)
            said = refused_at_start(box, program, "--listen", "127.0.0.1:0", *via, *pair.options(), "--auth-file", file)
            check(str(file) in said and re.search(reason, said), f"{program} with {lines!r} and mode {mode:o} said:", said)
            check(PASSWORD not in said, "the password was printed:", said)


@case("SIGHUP: accounts come, go and change; of a file that is refused the old ones stay")
def accounts_again(box):
    file = account_file(box, CLEAR)
    sink = Secured(box, "--auth-file", file)

    def attempt(user, password, let_in):
        by_smtplib(box, sink, WAYS[1], letter(), user, password, "PLAIN", let_in)
    with sink.smtp() as running:
        running.login(USER, PASSWORD)
        file.write_text(stored("bert", "new") + stored(USER, "changed"))
        attempt("bert", "new", False)
        sink.reload("accounts read again")
        attempt("bert", "new", True)
        attempt(USER, "changed", True)
        attempt(USER, PASSWORD, False)
        file.write_text("bert:secrecy\n")
        file.chmod(0o644)
        sink.reload("accounts not read again")
        attempt("bert", "new", True)
        file.chmod(0o600)
        file.write_text("bert:secrecy\nnonsense\n")
        sink.reload("accounts not read again")
        attempt("bert", "new", True)
        check("secrecy" not in sink.said() and "nonsense" not in sink.said(), "what is in the file was printed:", sink.said())
        running.sendmail(ANNA, [BERT], mail := letter())  # logged in long ago, and still is
    check(any(seen.octets == mail and seen.fields["user"] == USER for seen in sink.mails()), "the running session's mail")
