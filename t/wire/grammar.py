"""Addresses and parameters of MAIL and RCPT: RFC 5321 4.1.2 and 4.1.3, 6531, 1870, 6152, 3030, 3461."""
from harness import Failed, Wire, case, show, sink, wanted

ADDRESS = (501, 553, 550)       # a bad path (RFC 5321 4.3.2, 4.2.3)
PARAMETER = (501, 504, 555, 500)  # a bad or unknown parameter (RFC 5321 4.1.1.11); 500: no command line at all
UTF8 = (501, 550, 553, 555)     # UTF-8 where it may not be (RFC 6531 3.5)
EITHER = (250, 501, 550, 553, 555)  # the RFCs leave it open; then it must be right or refused


def compare(envelope, want):
    for key, value in want.items():
        if key in ("from", "path", "protocol", "to"):
            wanted(envelope[key], value, key)
        else:
            wanted(envelope["parameters"].get(key), value, key)


def accepted_mail(argument, want):
    def run():
        w = Wire(sink())
        w.hello()
        w.say(b"MAIL " + argument, 250)
        w.say("RCPT TO:<r@b.test>", 250)
        w.text(b"x\r\n")
        w.bye()
        mails = sink().mails(w.name)
        wanted(len(mails), 1, "mails")
        compare(mails[0], want)
    return run


def refused_mail(argument, codes):
    def run():
        w = Wire(sink())
        w.hello()
        w.say(b"MAIL " + argument, *codes)
        w.say("RCPT TO:<r@b.test>", 503)  # nothing of it was kept
        w.say("MAIL FROM:<good@a.test>", 250)
        w.say("RCPT TO:<r@b.test>", 250)
        w.text(b"x\r\n")
        w.bye()
        mails = sink().mails(w.name)
        wanted([m["from"] for m in mails], ["good@a.test"], "senders")
        wanted(mails[0]["parameters"]["raw"], [], "parameters of the refused MAIL")
    return run


def either_mail(argument, address, codes=EITHER):
    """Refused, or accepted and exactly this."""
    def run():
        w = Wire(sink())
        w.hello()
        r = w.say(b"MAIL " + argument, *codes)
        if r.code == 250:
            w.say("RCPT TO:<r@b.test>", 250)
            w.text(b"x\r\n")
            w.bye()
            m = sink().mails(w.name)[0]
            if m["from"] not in address:
                raise Failed(f"accepted as {m['from']!r}")
        else:
            w.in_step()
    return run


def accepted_rcpt(argument, want, mail=b"FROM:<s@a.test>"):
    def run():
        w = Wire(sink())
        w.hello()
        w.say(b"MAIL " + mail, 250)
        w.say(b"RCPT " + argument, 250)
        w.text(b"x\r\n")
        w.bye()
        mails = sink().mails(w.name)
        wanted(len(mails), 1, "mails")
        wanted(len(mails[0]["to"]), 1, "recipients")
        recipient = mails[0]["recipients"][0]
        for key, value in want.items():
            wanted(recipient.get(key), value, key)
        wanted(mails[0]["to"][0], recipient["address"], "to")
    return run


def refused_rcpt(argument, codes, mail=b"FROM:<s@a.test>"):
    def run():
        w = Wire(sink())
        w.hello()
        w.say(b"MAIL " + mail, 250)
        w.say(b"RCPT " + argument, *codes)
        w.say("DATA", 503, 554)  # there is still no recipient
        w.say("RCPT TO:<good@b.test>", 250)
        w.text(b"x\r\n")
        w.bye()
        mails = sink().mails(w.name)
        wanted([m["to"] for m in mails], [["good@b.test"]], "recipients")
    return run


def either_rcpt(argument, address, codes=EITHER):
    def run():
        w = Wire(sink())
        w.hello()
        w.say("MAIL FROM:<s@a.test>", 250)
        r = w.say(b"RCPT " + argument, *codes)
        if r.code == 250:
            w.text(b"x\r\n")
            w.bye()
            m = sink().mails(w.name)[0]
            if m["to"][0] not in address:
                raise Failed(f"accepted as {m['to'][0]!r}")
        else:
            w.in_step()
    return run


def b(text):
    return text if isinstance(text, bytes) else text.encode()


L64 = "l" * 64
D189 = ".".join(["d" * 62] * 3)[:185] + ".org"  # with L64: a path of 256 octets, brackets included
D255 = ".".join(["d" * 63] * 3 + ["e" * 63])    # 255

# ---------------------------------------------------------------- mailboxes that are right, in MAIL and in RCPT

GOOD = [
    "a@b.test", "a@b", "A@B.Test", "a.b.c@d.test", "1@2.test", "a-b@c-d.test", "a@1.2.3.4", "a@b1.c2.d3",
    "!#$%&'*+-/=?^_`{|}~@b.test", "-@b.test", "a@x--y.test", L64 + "@b.test", "a@" + "d" * 63 + ".test",
    L64 + "@" + D189, "UPPER.Lower@Mixed.Test", "bounce+user=example.org@b.test",
    # quoted strings
    '"a"@b.test', '"a b"@b.test', '"a@b"@c.test', '"a\\"b"@c.test', '"a\\\\b"@c.test', '"a\\ b"@c.test', '"<>"@b.test',
    '">"@b.test', '"<a@b>"@c.test', '"a,b;c:d"@b.test', '"."@b.test', '"a..b"@c.test', '" "@b.test', '"(x)"@b.test',
    '"[1]"@b.test', '"a\\b"@c.test', '"' + "q" * 62 + '"@b.test', '""@b.test', '"> SIZE=1"@b.test',
    # address literals
    "a@[127.0.0.1]", "a@[0.0.0.0]", "a@[255.255.255.255]", "a@[IPv6:::1]", "a@[IPv6:::]", "a@[IPv6:2001:db8::1]",
    "a@[IPv6:2001:DB8:0:0:0:0:0:1]", "a@[IPv6:::ffff:192.0.2.1]", "a@[IPv6:1:2:3:4:5:6:192.0.2.1]", "a@[IPv6:fe80::]",
    "a@[ipv6:::1]", '"a b"@[192.0.2.1]',
]
for address in GOOD:
    case(f"MAIL takes {show(b(address), 100)}", accepted_mail(b(f"FROM:<{address}>"), {"from": address, "path": f"<{address}>"}))
    case(f"RCPT takes {show(b(address), 100)}", accepted_rcpt(b(f"TO:<{address}>"), {"address": address, "path": f"<{address}>"}))

# Source routes MUST be accepted, SHOULD be ignored (RFC 5321 4.1.1.3, appendix C).
ROUTES = ["@a.test:x@y.test", "@a.test,@b.test:x@y.test", "@a,@b,@c,@d:x@y.test", '@a.test:"x y"@y.test', "@a.test:x@[192.0.2.1]"]
for path in ROUTES:
    address = path.split(":", 1)[1]
    case(f"MAIL drops the route of {path}", accepted_mail(b(f"FROM:<{path}>"), {"from": address, "path": f"<{path}>"}))
    case(f"RCPT drops the route of {path}", accepted_rcpt(b(f"TO:<{path}>"), {"address": address}))

# ---------------------------------------------------------------- paths that are wrong, in MAIL and in RCPT

BAD = [
    "<a@b", "a@b>", "<<a@b>>", "<a@b>>", "<a@b>x", "<a@b>SIZE=1", "<a@@b>", "<a@b@c>", "<@b>", "<a@>", "<a>", "< a@b>", "<a@b >",
    "<a b@c>", "<a@b c>", "<.a@b>", "<a.@b>", "<a..b@c>", "<a(c)@b>", "<a,b@c>", "<a;b@c>", "<a:b@c>", "<a[b@c>", "<a\\b@c>",
    "<a<b@c>", "<a\"b@c>", "<\"a\"b@c>", "<a\"b\"@c>", "<\"a@c>", "<a\"@c>", "<\"a\\\"@c>", "<\"a\" @c>", "<\"a\".b@c>",
    "<a@-b.test>", "<a@b-.test>", "<a@b..test>", "<a@.b>", "<a@b.>", "<a@b_c.test>", "<a@b!c>", "<a@b,c>", "<a@b:c>", "<a@(b)>",
    "<a@\"b\">", "<a@b/c>", "<a@*>",
    "<a@[]>", "<a@[1.2.3]>", "<a@[1.2.3.4.5]>", "<a@[256.1.1.1]>", "<a@[1.2.3.4>", "<a@1.2.3.4]>", "<a@[1.2.3.4]x>", "<a@x[1.2.3.4]>",
    "<a@[1.2.3.-4]>", "<a@[1.2.3.4 ]>", "<a@[0x7f.0.0.1]>", "<a@[1.2.3.1000]>", "<a@[::1]>", "<a@[IPv6:]>", "<a@[IPv6:1:2:3]>",
    "<a@[IPv6:::1::2]>", "<a@[IPv6:12345::1]>", "<a@[IPv6:g::1]>", "<a@[IPv6:1:2:3:4:5:6:7:8:9]>", "<a@[IPv6:1:2:3:4:5:6:7:]>",
    "<a@[IPv6::1]>", "<a@[IPv6:1:::2]>", "<a@[IPv6:1.2.3.4]>", "<a@[IPv6:::1.2.3]>", "<a@[IPv6:::1.2.3.256]>", "<a@[IPv6:1:2:3:4:5:6:7:1.2.3.4]>",
    "<a@[IPv6:fe80::1%eth0]>", "<a@[[1.2.3.4]]>", "<a@[IPv6:::1]", "<a@[IPv4:1.2.3.4]>", "<a@[IPv6:2001:db8::1/64]>",
    "<@a:>", "<@a:b>", "<@:a@b>", "<@a,b:c@d>", "<@a,:c@d>", "<@a,@b>", "<@a a@b>", "<@a;@b:c@d>", "<a:c@d>", "<,@a:b@c>", "<@a:@b:c@d>",
    "a@b", "\"a b\"@c", "<a@b>,<c@d>", "<a@b><c@d>", "a <a@b>", "\"a\" <a@b>", "<a@b\\>", "<a@b\"", "<", ">", "", "<\">", "<\"\\>",
    b"<a\x00b@c>", b"<a@b\x00c>", b"<a@b>\x00", b"<a\x01@b>", b"<a\x7f@b>", b"<a\x1b[2J@b>", b"<a\tb@c>", b"<a@b\t>", b"<\"a\x00b\"@c>",
    b"<\"a\tb\"@c>", b"<\"a\\\x01\"@c>", b"<\"a\x7f\"@c>", b"<a\rb@c>", b"<\"a\rb\"@c>", b"<\"a\nb\"@c>", b"<a@b\r>", b"<\"a\\\rb\"@c>",
    b"<\"a\\\nRCPT TO:<x@y>\"@c>",
]
for path in BAD:
    case(f"MAIL refuses {show(b(path))!r}", refused_mail(b"FROM:" + b(path), ADDRESS + PARAMETER))
    case(f"RCPT refuses {show(b(path))!r}", refused_rcpt(b"TO:" + b(path), ADDRESS + PARAMETER))

for path in ["<a\u00e4@b.test>", "<a@\u00fc.test>", '<"\u00e4"@b.test>', "<\u03b4@\u03c0.\u03b4>"]:
    case(f"MAIL refuses UTF-8 without SMTPUTF8: {show(path.encode())}", refused_mail(path.encode().join((b"FROM:", b"")), UTF8))
    case(f"RCPT refuses UTF-8 without SMTPUTF8: {show(path.encode())}", refused_rcpt(path.encode().join((b"TO:", b"")), UTF8))

# Longer than RFC 5321 4.5.3.1 asks for: refused, or whole.
for name, address in [("a local part of 65", "l" * 65 + "@b.test"), ("a local part of 200", "l" * 200 + "@b.test"),
                      ("a label of 64", "a@" + "d" * 64 + ".test"), ("a domain of 255", "a@" + D255), ("a domain of 256", "a@" + D255 + "x"),
                      ("a path of 257", L64 + "x@" + D189), ("64 and 255", L64 + "@" + D255), ("a quoted part of 65", '"' + "q" * 63 + '"@b.test'),
                      ("a local part of 400", "l" * 400 + "@b.test"), ("a domain of 400", "a@" + "d." * 199 + "dd"),
                      ("an IPv6 literal whose :: is one group", "a@[IPv6:1::2:3:4:5:6:7]"), ("leading zeros", "a@[01.02.03.004]"),
                      ("a general literal", "a@[x-none:abc]")]:
    case(f"MAIL refuses or keeps {name}", either_mail(b(f"FROM:<{address}>"), [address]))
    case(f"RCPT refuses or keeps {name}", either_rcpt(b(f"TO:<{address}>"), [address]))
case("MAIL refuses or drops a route over a literal", either_mail(b"FROM:<@[192.0.2.1]:a@b>", ["a@b"]))

# ---------------------------------------------------------------- the commands around the path

case("MAIL takes the null sender", accepted_mail(b"FROM:<>", {"from": "", "path": "<>"}))
case("MAIL in small letters", accepted_mail(b"from:<a@b.test> size=3 body=8bitmime", {"from": "a@b.test", "size": 3, "body": "8BITMIME"}))
case("MAIL with mixed case", accepted_mail(b"FrOm:<a@b.test> SiZe=3", {"from": "a@b.test", "size": 3}))
case("MAIL with trailing blanks", accepted_mail(b"FROM:<a@b.test>   ", {"from": "a@b.test", "raw": []}))
case("RCPT with trailing blanks", accepted_rcpt(b"TO:<a@b.test>   ", {"address": "a@b.test", "raw": []}))
case("RCPT in small letters", accepted_rcpt(b"to:<a@b.test> notify=never", {"address": "a@b.test", "notify": "NEVER"}))
for argument in ["", "FROM", "FROM:", "FROM: ", "TO:<a@b>", "FROM<a@b>", ":<a@b>", "<a@b>", "FROM :<a@b>", "FROM;<a@b>", "FROM::<a@b>",
                 "FORM:<a@b>", "FROM:FROM:<a@b>", "FROM:\t<a@b>", "FROM: <a@b>", "FROM:<a@b>\tSIZE=5", "FROM:<Postmaster>"]:
    case(f"MAIL {show(argument.encode())!r} is a syntax error", refused_mail(argument.encode(), ADDRESS + PARAMETER))
for argument in ["", "TO", "TO:", "TO: ", "FROM:<a@b>", "TO<a@b>", ":<a@b>", "<a@b>", "TO :<a@b>", "TO:\t<a@b>", "TO: <a@b>", "TO:<>", "TO:<a@b> <c@d>"]:
    case(f"RCPT {show(argument.encode())!r} is a syntax error", refused_rcpt(argument.encode(), ADDRESS + PARAMETER))

for word in ["postmaster", "Postmaster", "POSTMASTER", "pOsTmAsTeR"]:
    case(f"RCPT takes <{word}>", accepted_rcpt(b(f"TO:<{word}>"), {"address": word, "domain": ""}))
case("RCPT refuses <postmaste>", refused_rcpt(b"TO:<postmaste>", ADDRESS))
case("RCPT refuses <postmasters>", refused_rcpt(b"TO:<postmasters>", ADDRESS))
case("RCPT refuses <postmaster@>", refused_rcpt(b"TO:<postmaster@>", ADDRESS))
case("RCPT refuses or takes a route to postmaster", either_rcpt(b"TO:<@a.test:postmaster>", ["postmaster"]))

# ---------------------------------------------------------------- SMTPUTF8 (RFC 6531)

for address in ["\u00e4@b.test", "a@\u00fc.test", '"\u00e4 b"@b.test', "\u03b4\u03bf\u03ba@\u03c0\u03b1.\u03b4\u03bf", "\U0001f600@b.test",
                "\u00e4.\u00f6@\u5f8b.\u6d4b\u8bd5", "e\u0301@b.test"]:
    case(f"SMTPUTF8 takes {show(address.encode())}",
         accepted_mail(f"FROM:<{address}> SMTPUTF8".encode(), {"from": address, "smtputf8": True}))
    case(f"SMTPUTF8 takes recipient {show(address.encode())}",
         accepted_rcpt(f"TO:<{address}>".encode(), {"address": address}, mail=b"FROM:<s@a.test> SMTPUTF8"))
for octets in [b"\xe4", b"\x80", b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80",
               b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc3\x28"]:
    case(f"SMTPUTF8 refuses what is no UTF-8: {show(octets)}", refused_mail(b"FROM:<" + octets + b"@b.test> SMTPUTF8", UTF8))
    case(f"SMTPUTF8 refuses a recipient that is no UTF-8: {show(octets)}",
         refused_rcpt(b"TO:<a@" + octets + b".test>", UTF8, mail=b"FROM:<s@a.test> SMTPUTF8"))
case("SMTPUTF8 takes no value", refused_mail(b"FROM:<a@b.test> SMTPUTF8=1", PARAMETER))
case("SMTPUTF8 takes no empty value", refused_mail(b"FROM:<a@b.test> SMTPUTF8=", PARAMETER))
case("SMTPUTF8 is not for RCPT", refused_rcpt(b"TO:<a@b.test> SMTPUTF8", PARAMETER))
case("SMTPUTF8 does not outlive its transaction", lambda: outlives(b"SMTPUTF8", "smtputf8", False))
case("BODY does not outlive its transaction", lambda: outlives(b"BODY=8BITMIME", "body", "7BIT"))
case("SIZE does not outlive its transaction", lambda: outlives(b"SIZE=77", "size", None))
case("RET and ENVID do not outlive their transaction", lambda: outlives(b"RET=HDRS ENVID=abc", "envid", None))


def outlives(parameter, key, default):
    w = Wire(sink())
    w.hello()
    w.say(b"MAIL FROM:<a@b.test> " + parameter, 250)
    w.say("RSET", 250)
    w.envelope("FROM:<c@d.test>")
    w.text(b"x\r\n")
    w.envelope("FROM:<a@b.test> " + parameter.decode())
    w.text(b"x\r\n")
    w.envelope("FROM:<c@d.test>")
    w.text(b"x\r\n")
    w.bye()
    mails = sink().mails(w.name)
    wanted([mails[i]["parameters"].get(key) for i in (0, 2)], [default, default], key)
    wanted(mails[2]["parameters"]["raw"], [], "raw")


# ---------------------------------------------------------------- SIZE (RFC 1870), BODY (RFC 6152, 3030)

for text, value in [("0", 0), ("1", 1), ("123", 123), ("67108864", 67108864), ("00000000000000000007", 7)]:
    case(f"SIZE={text}", accepted_mail(b(f"FROM:<a@b.test> SIZE={text}"), {"size": value, "raw": [f"SIZE={text}"]}))
for text in ["67108865", "18446744073709551615", "18446744073709551616", "18446744073709551617", "99999999999999999999", "4294967296"]:
    case(f"SIZE={text} is too much", refused_mail(b(f"FROM:<a@b.test> SIZE={text}"), (552, 501)))
for text in ["SIZE", "SIZE=", "SIZE=abc", "SIZE=-1", "SIZE=+1", "SIZE=1.5", "SIZE=0x10", "SIZE=1e3", "SIZE=1,2", "SIZE==1", "SIZE=1=1", "SIZE=1k",
             "SIZE=1\x00", "SIZE=123456789012345678901"]:
    case(f"{show(text.encode())} is no size", refused_mail(b("FROM:<a@b.test> " + text), PARAMETER + (552,)))
for text in ["7BIT", "8BITMIME", "BINARYMIME", "7bit", "8BitMime", "binarymime"]:
    def body(text=text):
        w = Wire(sink())
        w.hello()
        w.say(f"MAIL FROM:<a@b.test> BODY={text}", 250)
        w.say("RCPT TO:<r@b.test>", 250)
        w.send("BDAT 3 LAST\r\nx\r\n")
        w.expect(250)
        w.bye()
        wanted(sink().mails(w.name)[0]["parameters"]["body"], text.upper(), "body")
    case(f"BODY={text}", body)
for text in ["BODY", "BODY=", "BODY=9BIT", "BODY=7BITS", "BODY=8BITMIME,7BIT", "BODY=\"7BIT\"", "BODY==7BIT"]:
    case(f"{text} is no body type", refused_mail(b("FROM:<a@b.test> " + text), PARAMETER))

# ---------------------------------------------------------------- parameters in general (RFC 5321 4.1.2)

for text in ["FOO", "FOO=bar", "X-FOO=1", "AUTH=<>", "MT-PRIORITY=3", "REQUIRETLS", "BY=120;R", "HOLDFOR=5", "NOTIFY=NEVER", "ORCPT=rfc822;a@b",
             "SIZES=1", "SIZ=1", "SIZE=1 FOO", "FOO SIZE=1", "=5", "=", "-X=1", "SIZE=1;BODY=7BIT", "SIZE =1", "SIZE= 1", "\"SIZE\"=1", 
             "SIZE=1\x01", "X\x00Y=1", "(comment)"]:
    case(f"MAIL refuses the parameter {show(text.encode())}", refused_mail(b("FROM:<a@b.test> " + text), PARAMETER))
for text in ["FOO", "FOO=bar", "SIZE=1", "BODY=7BIT", "RET=FULL", "ENVID=x", "=1", "NOTIFYX=NEVER", "NOTIFY=NEVER FOO=1", "NOTIFY =NEVER", "\x01"]:
    case(f"RCPT refuses the parameter {show(text.encode())}", refused_rcpt(b("TO:<a@b.test> " + text), PARAMETER))
for text in ["SI\u00e4ZE=1", "SIZE=\u0661", "ENVID=\u00e4", "BODY=8B\u0130TMIME"]:
    case(f"MAIL refuses {show(text.encode())} even with SMTPUTF8", refused_mail(b("FROM:<a@b.test> SMTPUTF8 " + text), PARAMETER))
    case(f"MAIL refuses {show(text.encode())} without", refused_mail(b("FROM:<a@b.test> " + text), PARAMETER + UTF8))
case("all parameters at once", accepted_mail(
    b"FROM:<a@b.test> SIZE=9 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=e1",
    {"from": "a@b.test", "size": 9, "body": "8BITMIME", "smtputf8": True, "ret": "FULL", "envid": "e1", "protocol": "UTF8SMTP",
     "raw": ["SIZE=9", "BODY=8BITMIME", "SMTPUTF8", "RET=FULL", "ENVID=e1"]}))
case("parameters in another order", accepted_mail(
    b"FROM:<> ENVID=e1 SMTPUTF8 SIZE=9 BODY=7BIT", {"from": "", "size": 9, "body": "7BIT", "smtputf8": True, "envid": "e1"}))
case("MAIL refuses or takes two blanks before a parameter", either_mail(b"FROM:<a@b.test>  SIZE=1", ["a@b.test"]))
case("a parameter after a quoted > is not part of the address", accepted_mail(
    b'FROM:<">"@b.test> SIZE=4', {"from": '">"@b.test', "size": 4}))
for pair in ["SIZE=1 SIZE=2", "BODY=7BIT BODY=8BITMIME", "SMTPUTF8 SMTPUTF8", "RET=FULL RET=HDRS", "ENVID=a ENVID=b"]:
    case(f"MAIL refuses {pair}", refused_mail(b("FROM:<a@b.test> " + pair), PARAMETER))
for pair in ["NOTIFY=NEVER NOTIFY=SUCCESS", "ORCPT=rfc822;a@b ORCPT=rfc822;c@d"]:
    case(f"RCPT refuses {pair}", refused_rcpt(b("TO:<a@b.test> " + pair), PARAMETER))

# ---------------------------------------------------------------- DSN (RFC 3461)

for text, want in [("RET=FULL", {"ret": "FULL"}), ("RET=HDRS", {"ret": "HDRS"}), ("ret=full", {"ret": "FULL"}), ("ENVID=abc", {"envid": "abc"}),
                   ("ENVID=a+2Bb", {"envid": "a+b"}), ("ENVID=a+3Db", {"envid": "a=b"}), ("ENVID=QQ314159", {"envid": "QQ314159"}),
                   ("ENVID=+20", {"envid": " "}), ("ENVID=" + "e" * 100, {"envid": "e" * 100}), ("ENVID=a;b<c>", {"envid": "a;b<c>"})]:
    case(f"MAIL takes {show(text.encode(), 40)}", accepted_mail(b("FROM:<a@b.test> " + text), {**want, "raw": [text[:3].upper() + text[3:] if text.startswith("ret") else text]}))
for text in ["RET", "RET=", "RET=BODY", "RET=FULL,HDRS", "ENVID", "ENVID=", "ENVID=a+", "ENVID=a+2", "ENVID=a+ZZ", "ENVID=a+G0", "ENVID=a=b", "ENVID=+0D+0AX",
             "ENVID=+00", "ENVID=+7F", "ENVID=+1B+5B2J"]:
    case(f"MAIL refuses {show(text.encode())}", refused_mail(b("FROM:<a@b.test> " + text), PARAMETER))
for text in ["NEVER", "SUCCESS", "FAILURE", "DELAY", "SUCCESS,FAILURE", "SUCCESS,FAILURE,DELAY", "FAILURE,DELAY"]:
    case(f"RCPT takes NOTIFY={text}", accepted_rcpt(b(f"TO:<a@b.test> NOTIFY={text}"), {"notify": text, "raw": [f"NOTIFY={text}"]}))
case("RCPT takes NOTIFY in any order", accepted_rcpt(b"TO:<a@b.test> NOTIFY=DELAY,SUCCESS", {"notify": "SUCCESS,DELAY"}))
for text in ["NOTIFY", "NOTIFY=", "NOTIFY=FOO", "NOTIFY=NEVER,SUCCESS", "NOTIFY=SUCCESS,NEVER", "NOTIFY=SUCCESS,", "NOTIFY=,SUCCESS", "NOTIFY=SUCCESS,,DELAY",
             "NOTIFY=SUCCESS;DELAY", "NOTIFY=SUCCESS DELAY", "ORCPT", "ORCPT=", "ORCPT=rfc822", "ORCPT=;a@b", "ORCPT=rfc822;a+", "ORCPT=rfc822;a+4",
             "ORCPT=rfc822;a+XY", "ORCPT=rfc822;a=b", "ORCPT=rfc822;a+0D+0Ab", "ORCPT=rfc822;a+00b", "ORCPT=rf c822;a", "ORCPT=a@b", "ORCPT=(x);a@b",
             "ORCPT=rfc822;a+0Ab"]:
    case(f"RCPT refuses {show(text.encode())}", refused_rcpt(b("TO:<a@b.test> " + text), PARAMETER))
for text, want in [("rfc822;a@b", {"type": "rfc822", "address": "a@b"}), ("rfc822;a+40b", {"type": "rfc822", "address": "a@b"}),
                   ("rfc822;a+2Bb@c+3Dd", {"type": "rfc822", "address": "a+b@c=d"}), ("x400;/c=us/".replace("=", "+3D"), {"type": "x400", "address": "/c=us/"}),
                   ("rfc822;+22a+20b+22@c", {"type": "rfc822", "address": '"a b"@c'}), ("rfc822;a;b", {"type": "rfc822", "address": "a;b"})]:
    case(f"RCPT takes ORCPT={text}", accepted_rcpt(b(f"TO:<a@b.test> ORCPT={text}"), {"orcpt": want, "raw": [f"ORCPT={text}"]}))
case("RCPT takes both", accepted_rcpt(b"TO:<a@b.test> ORCPT=rfc822;x@y NOTIFY=DELAY", {"orcpt": {"type": "rfc822", "address": "x@y"}, "notify": "DELAY"}))
case("ORCPT of 500", accepted_rcpt(b"TO:<a@b.test> ORCPT=rfc822;" + b"o" * 493, {"address": "a@b.test"}))


@case("a command line of 2048 octets of parameters is whole or refused")
def long_parameters():
    w = Wire(sink())
    w.hello()
    envid = "e" * 1900
    if w.say(f"MAIL FROM:<a@b.test> ENVID={envid}", 250, 500, *PARAMETER).code == 250:
        w.say("RCPT TO:<r@b.test>", 250)
        w.text(b"x\r\n")
        w.bye()
        wanted(sink().mails(w.name)[0]["parameters"]["envid"], envid, "envid")
    else:
        w.in_step()


@case("without EHLO no parameter is known")
def helo_parameters():
    w = Wire(sink())
    w.say("HELO c.test", 250)
    for p in ["SIZE=1", "BODY=8BITMIME", "RET=FULL"]:
        w.say("MAIL FROM:<a@b.test> " + p, 250, *PARAMETER)  # RFC 5321 does not say
        w.say("RSET", 250)
    w.envelope("FROM:<a@b.test>")
    w.bye()


# ---------------------------------------------------------------- HELO and EHLO

for verb in ("HELO", "EHLO"):
    for name in ["c.test", "c", "[192.0.2.1]", "[IPv6:2001:db8::1]", "1.2.3.4", "a-b.c-d.test", "C.TEST", "x" * 63 + ".test"]:
        def hello(verb=verb, name=name):
            w = Wire(sink())
            me = w.me
            r = w.say(f"{verb} {name}", 250)
            if not r.text().startswith("mx.test"):  # RFC 5321 4.1.1.1
                raise Failed("the first word is not our name")
            if verb == "HELO" and len(r.lines) != 1:
                raise Failed("HELO has one line")
            w.envelope()
            w.text(b"x\r\n")
            w.bye()
            m = sink().mails(peer=me)
            wanted(m[-1]["helo"], name, "helo")
            wanted(m[-1]["protocol"], "SMTP" if verb == "HELO" else "ESMTP", "protocol")
        case(f"{verb} {name[:30]}", hello)
    for name in [b"", b" ", b"a\x00b", b"a\rb", b"a\nb", b"a\x1bb", b"a\x7fb"]:
        def bad(verb=verb, name=name):
            w = Wire(sink())
            w.say(verb.encode() + b" " + name, 501, 500, 553, 550)
            w.say("MAIL FROM:<a@b.test>", 503)
            w.say("HELO c.test", 250)
            w.in_step()
        case(f"{verb} {show(name)!r} is refused", bad)
    for name in [b"a b", b"-a", b"a_b", b"a..b", b"a(b", b"a;b", b"a\tb", "\u00e4.test".encode(), b"\xff", b"<a>", b"x" * 256, b"x" * 500, b"a\"b", b"[1.2.3]", b"%s%n"]:
        def odd(verb=verb, name=name):  # the RFC says not to refuse mail for it; whatever comes, the session stays
            w = Wire(sink())
            w.say(verb.encode() + b" " + name, 250, 501, 550, 553)
            w.say(verb.encode() + b" c.test", 250)
            w.envelope()
            w.in_step()
        case(f"{verb} {show(name, 40)!r} does no harm", odd)


@case("EHLO offers what the programs promise")
def offers():
    w = Wire(sink())
    r = w.say("EHLO c.test", 250)
    words = [line[4:].strip().decode() for line in r.lines][1:]
    for word in ["PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME", "ENHANCEDSTATUSCODES", "DSN"]:
        if word not in words:
            raise Failed(f"no {word} in {words}")
    if not any(word.split()[0] == "SIZE" and word.split()[1:] == ["67108864"] for word in words):
        raise Failed(f"no SIZE 67108864 in {words}")
    if any(word.split()[0] in ("STARTTLS", "AUTH") for word in words):
        raise Failed("offers what it can't")
    w.bye()
