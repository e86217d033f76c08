"""clients.py -- real mail clients in front of the sink: what they sent must lie in its folder, octet for octet."""
import smtplib

from parts import TORTURE, arrived, case, check, client, equal, letter, parameter, peer, smtp, system, travelled
from postfix import Postfix

ANNA, BERT, CARL = "anna@example.org", "bert@example.test", "Carl.X@example.test"


@case("curl: a mail arrives octet for octet")
def curl(box):
    program, sink, mail = system("curl"), box.sink(), letter(TORTURE)
    client(program, "-sS", f"smtp://127.0.0.1:{sink.port}/client.example.org", "--mail-from", ANNA,
           "--mail-rcpt", BERT, "--mail-rcpt", CARL, "-T", "-", stdin=mail)
    arrived(sink.only(), ANNA, [BERT, CARL], mail)
    equal(sink.only().fields["helo"], "client.example.org", "helo")


@case("curl: a mail of 5 MiB arrives octet for octet")
def curl_large(box):
    program, sink, mail = system("curl"), box.sink(), letter((b".dots " * 11 + b"\r\n") * (5 * 2**20 // 68))
    file = box.new("mail")
    file.write_bytes(mail)  # a file, so that curl announces SIZE
    client(program, "-sS", f"smtp://127.0.0.1:{sink.port}", "--mail-from", ANNA, "--mail-rcpt", BERT, "-T", file)
    arrived(sink.only(), ANNA, [BERT], mail)
    equal(int(parameter(sink.only().fields, "SIZE")), len(mail), "SIZE")


@case("smtplib: dot lines, blank ends, 8-bit octets, NUL and long lines arrive octet for octet")
def python(box):
    sink, mail = box.sink(), letter(TORTURE + bytes(range(14, 256)) + b"\0\r\n" + b"y" * 70000 + b"\r\n")
    with smtp(sink.port) as sender:
        sender.sendmail(ANNA, BERT, mail, mail_options=["BODY=8BITMIME"])
        arrived(sink.only(), ANNA, [BERT], mail)  # now, as 250 has been said
    equal(parameter(sink.only().fields, "BODY").upper(), "8BITMIME", "BODY")


@case("smtplib: a mail without header and body, and one of a single empty line")
def python_empty(box):
    for mail in (b"", b"\r\n"):
        sink = box.sink()
        with smtp(sink.port) as sender:
            sender.mail(ANNA)
            sender.rcpt(BERT)
            equal(sender.docmd("DATA")[0], 354, "DATA")
            sender.send(mail + b".\r\n")
            equal(sender.getreply()[0], 250, "the end of data")
        arrived(sink.only(), ANNA, [BERT], mail)


@case("smtplib: SMTPUTF8 addresses and header")
def python_utf8(box):
    sink, mail = box.sink(), letter("Gruß\r\n".encode(), subject="Grüße an 日本")
    with smtp(sink.port) as sender:
        check(sender.has_extn("smtputf8"), "the sink must offer SMTPUTF8")
        sender.sendmail("jürgen@exämple.org", ["用户@例子.test", BERT], mail, mail_options=["SMTPUTF8", "BODY=8BITMIME"])
    arrived(sink.only(), "jürgen@exämple.org", ["用户@例子.test", BERT], mail)
    parameter(sink.only().fields, "SMTPUTF8")


@case("smtplib: DSN parameters")
def python_dsn(box):
    sink, mail = box.sink(), letter()
    with smtp(sink.port) as sender:
        check(sender.has_extn("dsn"), "the sink must offer DSN")
        sender.sendmail(ANNA, [BERT], mail, mail_options=["RET=HDRS", "ENVID=QQ314159"],
                        rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bert+40example.test"])
    arrived(sink.only(), ANNA, [BERT], mail)
    equal(parameter(sink.only().fields, "RET"), "HDRS", "RET")
    equal(parameter(sink.only().fields, "ENVID"), "QQ314159", "ENVID")
    recipient, = sink.only().fields["recipients"]
    equal(parameter(recipient, "NOTIFY"), "SUCCESS,FAILURE", "NOTIFY")
    equal(recipient["orcpt"], {"type": "rfc822", "address": "Bert@example.test"}, "ORCPT")


@case("smtplib: 100 recipients keep their order and the case of their letters")
def python_recipients(box):
    sink, mail, to = box.sink(), letter(), [f"{chr(65 + n % 26)}User{997 * n % 101}@example.test" for n in range(100)]
    with smtp(sink.port) as sender:
        equal(sender.sendmail(ANNA, to, mail), {}, "refused recipients")
    arrived(sink.only(), ANNA, to, mail)


@case("smtplib: three mails on one connection after a transaction that was reset")
def python_several(box):
    sink, mails = box.sink(), [letter(), letter(TORTURE), letter(b"")]
    with smtp(sink.port) as sender:
        sender.mail("nobody@example.org")
        sender.rcpt("reset@example.test")
        sender.rset()
        for number, mail in enumerate(mails):
            sender.sendmail(f"sender{number}@example.org", [f"to{number}@example.test"], mail)
    found = {mail.octets: mail for mail in sink.mails()}
    equal(len(sink.mails()), 3, "mails")
    for number, mail in enumerate(mails):
        check(mail in found, "mail", number, "is not there as it was sent")
        arrived(found[mail], f"sender{number}@example.org", [f"to{number}@example.test"], mail)


@case("smtplib: HELO alone is enough")
def python_helo(box):
    sink, mail = box.sink(), letter(TORTURE)
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=30) as sender:
        equal(sender.helo("old.example.org")[0], 250, "HELO")
        sender.sendmail(ANNA, BERT, mail)
    arrived(sink.only(), ANNA, [BERT], mail)
    equal(sink.only().fields["helo"], "old.example.org", "helo")


def swaks(box, sink, mail, *options, status=0):
    file = box.new("mail")
    file.write_bytes(mail.replace(b"\r\n", b"\n").removesuffix(b"\n"))  # swaks adds one
    return client(peer("swaks", "usr/bin/swaks"), "--server", "127.0.0.1", "--port", sink.port, "--helo", "client.example.org",
                  "--to", f"{BERT},{CARL}", "--data", f"@{file}", "--suppress-data", *options,
                  status=status)


@case("swaks: a mail arrives octet for octet")
def swaks_plain(box):
    sink, mail = box.sink(), letter(TORTURE + b"end\r\n")  # swaks cuts off a last line that is a dot
    swaks(box, sink, mail, "--from", ANNA)
    arrived(sink.only(), ANNA, [BERT, CARL], mail)


@case("swaks: pipelined, from the null sender")
def swaks_pipeline(box):
    sink, mail = box.sink(), letter(TORTURE + b"end\r\n")
    said = swaks(box, sink, mail, "--from", "<>", "--pipeline")
    check(said.index("RCPT TO:") < said.index("250 ", said.index("MAIL FROM:")), "swaks did not pipeline:", said)
    arrived(sink.only(), "", [BERT, CARL], mail)


def msmtp(port, mail, *to, sender=ANNA, options=(), status=0):
    return client(peer("msmtp", "usr/bin/msmtp"), "-C", "/dev/null", "--host=127.0.0.1", f"--port={port}", "--domain=client.example.org",
                  f"--from={sender}", *options, "--", *to, stdin=mail.replace(b"\r\n", b"\n"), status=status)


@case("msmtp: a mail arrives octet for octet, with DSN parameters")
def msmtp_plain(box):
    sink, mail = box.sink(), letter(TORTURE)
    msmtp(sink.port, mail, BERT, CARL, options=["--dsn-notify=failure,delay", "--dsn-return=full"])
    arrived(sink.only(), ANNA, [BERT, CARL], mail)
    equal(parameter(sink.only().fields, "RET"), "FULL", "RET")
    for recipient in sink.only().fields["recipients"]:
        equal(parameter(recipient, "NOTIFY"), "FAILURE,DELAY", "NOTIFY")


def s_nail(port, text, *to, sender=ANNA, status=0):
    return client(peer("s-nail", "usr/bin/s-nail"), "-:/", "-S", "v15-compat", "-S", f"mta=smtp://127.0.0.1:{port}",
                  "-S", "smtp-config=-all", "-S", "smtp-auth=none", "-S", "sendwait",
                  "-S", "hostname=client.example.org", "-S", f"from={sender}",
                  "-S", "sendcharsets=utf-8", "-S", "mime-encoding=8bit", "-s", "By hand", *to,
                  stdin=text.replace(b"\r\n", b"\n"), status=status)


@case("s-nail: envelope, header and body arrive")
def s_nail_plain(box):
    sink, text = box.sink(), b".\r\n..\r\nGr\xc3\xbc\xc3\x9fe\r\n\r\n.a\r\n"
    s_nail(sink.port, text, BERT, CARL)
    mail = sink.only()
    head, _, body = mail.octets.partition(b"\r\n\r\n")
    arrived(mail, ANNA, [BERT, CARL], head + b"\r\n\r\n" + text)
    for line in (b"Subject: By hand", b"From: anna@example.org"):
        check(line in head.split(b"\r\n"), line, "is not in", head)


@case("Postfix: sends what sendmail gave it, with 8-bit, dots, two recipients and DSN, and empties its queue")
def postfix_sendmail(box):
    sink, mail = box.sink(), letter(TORTURE)
    postfix = Postfix(box, sink.port)
    postfix.submit(mail, ANNA, [BERT, CARL], "-N", "failure,delay", "-V", "QQ314159", "-R", "hdrs")
    sink.wait_for(1)
    postfix.wait_idle()
    travelled(sink.only(), ANNA, [BERT, CARL], mail, hops=1)
    equal(parameter(sink.only().fields, "ENVID"), "QQ314159", "ENVID")
    for recipient in sink.only().fields["recipients"]:
        equal(sorted(parameter(recipient, "NOTIFY").split(",")), ["DELAY", "FAILURE"], "NOTIFY")


@case("Postfix: sends on what it got by SMTP, with SMTPUTF8 and from the null sender")
def postfix_smtp(box):
    sink, mails = box.sink(), [letter(TORTURE, subject="Grüße"), letter()]
    postfix = Postfix(box, sink.port)
    with smtp(postfix.port) as sender:
        sender.sendmail("jürgen@example.org", ["用户@example.test"], mails[0], mail_options=["SMTPUTF8", "BODY=8BITMIME"])
        sender.sendmail("", [BERT], mails[1])
    found = {mail.sender: mail for mail in sink.wait_for(2)}
    postfix.wait_idle()
    equal(len(sink.mails()), 2, "mails")
    travelled(found["jürgen@example.org"], "jürgen@example.org", ["用户@example.test"], mails[0], hops=1)
    travelled(found[""], "", [BERT], mails[1], hops=1)


@case("Postfix: 50 mails at once arrive once each")
def postfix_many(box):
    sink, mails = box.sink(), [letter(TORTURE) for _ in range(50)]
    postfix = Postfix(box, sink.port)
    with smtp(postfix.port) as sender:
        for mail in mails:
            sender.sendmail(ANNA, [BERT], mail, mail_options=["BODY=8BITMIME"])
    sink.wait_for(50)
    postfix.wait_idle()
    found = sink.mails()
    equal(len(found), 50, "mails")
    for mail in mails:
        match = [seen for seen in found if seen.octets.endswith(mail)]
        equal(len(match), 1, "copies of one mail")
        travelled(match[0], ANNA, [BERT], mail, hops=1)
