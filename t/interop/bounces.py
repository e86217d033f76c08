"""bounces.py -- our notifications as others read them: Python's email, a Postfix that they pass through, a mail program."""
import email
import email.policy
import os
import subprocess
from pathlib import Path

from clients import ANNA
from parts import EXAMPLES, PATIENCE, case, check, client, equal, peer, smtp, travelled
from postfix import Postfix

MAKER = Path(os.environ.get("CHECK", EXAMPLES.parent / "t/check"))
REPORTING = "dns; mx.example.net"


def notices(box):
    """Name -> (octets, parameters of MAIL), made by the unit tests' program."""
    folder = box.new("notices")
    folder.mkdir()
    made = subprocess.run([MAKER, "--no-skip", "-tc=notifications for other programs to read"], timeout=PATIENCE,
                          env={**os.environ, "BOUNCES": str(folder)}, stdin=subprocess.DEVNULL, capture_output=True)
    equal(made.returncode, 0, f"exit status of {MAKER}: {made.stdout[-300:]}")
    return {path.stem: (path.read_bytes(), path.with_suffix(".mail").read_text().split()) for path in sorted(folder.glob("*.eml"))}


def read(octets):
    """Taken apart by Python, which must find nothing wrong in it or in its parts."""
    message = email.message_from_bytes(octets, policy=email.policy.default)
    for part in message.walk():
        equal([str(defect) for defect in part.defects], [], f"defects of {part.get_content_type()}")
    equal(message.get_content_type(), "multipart/report", "type")
    equal(message.get_param("report-type"), "delivery-status", "report-type")
    equal(message["Auto-Submitted"], "auto-replied", "Auto-Submitted")
    equal(message["From"].addresses[0].addr_spec, "MAILER-DAEMON@mx.example.net", "From")
    check(message["Date"].datetime and message["Message-ID"], "no Date or Message-ID in", message.items())
    return message


def status(message):
    """The blocks of message/delivery-status: that of the message, and one for each recipient."""
    first, *others = message.get_payload(1).get_payload()
    equal(first["Reporting-MTA"], REPORTING, "Reporting-MTA")
    return first, others


@case("a bounce is what Python's email takes for one: text, status and what is returned, without a defect")
def read_by_python(box):
    made = notices(box)
    equal(sorted(made), ["delayed", "eight-bit", "failed", "global", "header", "hostile", "mixed", "other", "whole"], "notices")
    seen = {name: read(octets) for name, (octets, _) in made.items()}
    expected = {"failed": ["failed"], "delayed": ["delayed"], "mixed": ["failed", "delayed", "relayed"], "whole": ["failed"],
                "eight-bit": ["failed"], "header": ["failed"], "other": ["failed"], "hostile": ["failed"]}
    for name, actions in expected.items():
        first, others = status(seen[name])
        equal([block["Action"] for block in others], actions, f"actions in {name}")
        equal(len(list(seen[name].iter_parts())), 3, f"parts of {name}")
        check("mx.example.net" in seen[name].get_payload(0).get_content(), f"no word of us for people in {name}")

    block, = status(seen["failed"])[1]
    equal((block["Final-Recipient"], block["Status"], block["Remote-MTA"], block["Diagnostic-Code"]),
          ("rfc822; bert@example.test", "5.1.1", "dns; mx.d.example", "smtp; 550 5.1.1 No such user"), "the failure")
    block, = status(seen["delayed"])[1]
    equal(block["Will-Retry-Until"], "Thu, 06 Nov 2025 07:00:00 +0000".replace("06", "6"), "Will-Retry-Until")
    equal(status(seen["whole"])[0]["Original-Envelope-Id"], "QQ314159", "Original-Envelope-Id")
    block, = status(seen["other"])[1]
    equal(block["Final-Recipient"], "utf-8; j\\x{FC}rgen@example.test", "an address that is not ASCII")
    check("jürgen@example.test" in seen["other"].get_payload(0).get_content(), "the address for people")

    equal(seen["whole"].get_payload(2).get_content_type(), "message/rfc822", "RET=FULL")
    equal(seen["whole"].get_payload(2).get_payload(0).get_content().splitlines(), ["The text."], "the text returned")
    equal(seen["header"].get_payload(2).get_content_type(), "text/rfc822-headers", "a header")
    header = seen["header"].get_payload(2).get_payload(decode=True)
    check("Subject: Grüße\r\nX-Long: ".encode() + b"x" * 2000 + b"\r\n" in header, "the header returned:", header)
    check("用户@example.org" in made["global"][0].decode(), "the sender's own address")
    equal([part.get_content_type() for part in seen["global"].iter_parts()],
          ["text/plain", "message/global-delivery-status", "message/global-headers"], "parts by SMTPUTF8")


@case("a bounce goes through Postfix octet for octet, with no more than it asks for")
def through_postfix(box):
    made = notices(box)
    sink = box.sink()
    postfix = Postfix(box, sink.port)
    for octets, options in made.values():
        to = ANNA if "SMTPUTF8" not in options else "用户@example.org"
        with smtp(postfix.port) as sender:
            equal(sender.mail("", options)[0], 250, f"MAIL with {options}")
            equal(sender.rcpt(to)[0], 250, "RCPT")
            equal(sender.data(octets)[0], 250, "the end of data")
    found = sink.wait_for(len(made))
    postfix.wait_idle()
    equal(len(found), len(made), "mails")
    for octets, options in made.values():
        match = [mail for mail in found if mail.octets.endswith(octets)]
        equal(len(match), 1, "copies of one notice")
        travelled(match[0], "", [ANNA] if "SMTPUTF8" not in options else ["用户@example.org"], octets, hops=1)


@case("a bounce is read by s-nail: the text for people, the status and the header returned")
def read_by_s_nail(box):
    octets, _ = notices(box)["failed"]
    mailbox = box.new("mbox")
    mailbox.write_bytes(b"From MAILER-DAEMON Sun Nov  2 09:00:00 2025\n" + octets.replace(b"\r\n", b"\n") + b"\n")
    command, environment = peer("s-nail", "usr/bin/s-nail")
    said = client((command, {**environment, "TERM": "dumb"}), "-:/", "-R", "-#", "-S", "ttycharset=utf-8", "-f", mailbox,
                  stdin=b"headers\nprint 1\nxit\n")
    for words in ("Mail Delivery System", "Your mail could not be delivered", "<bert@example.test>", "550 5.1.1 No such user",
                  "message/delivery-status", "text/rfc822-headers"):
        check(words in said, f"{words!r} is not in what s-nail shows:", said)
