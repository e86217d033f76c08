"""dane.py -- the relay believes its next hops by TLSA records: nsd with a signed zone, and Postfix behind."""
import hashlib
import re
import ssl

from clients import ANNA
from mx import heard, status
from nsd import NOERROR, Nsd, Signed
from parts import case, check, equal, letter, travelled
from secure_hops import MECHANISMS, NO_TLS, Hop, came_by, refused_relay
from secured import Authority, openssl

NOBODYS = "00" * 32  # the digest of no key
SPOILED, ELSEWHERE = "11" * 32, "192.0.2.66"


def sha256(octets):
    return hashlib.sha256(octets).hexdigest()


def of_key(certificate):
    """The SHA-256 of a certificate's key, as a TLSA record with selector 1 has it."""
    return sha256(ssl.PEM_cert_to_DER_cert(openssl("x509", "-in", certificate, "-pubkey", "-noout").replace("PUBLIC KEY", "CERTIFICATE")))


class Spoiled(Signed):
    """What it says in place of SPOILED and ELSEWHERE was not signed."""
    def spoil(self, line):
        return line.replace(SPOILED, NOBODYS).replace(ELSEWHERE, "127.0.0.1")


class World:
    """A signed zone `signed.test`, where each domain NAME has a host mx.NAME with TLSA records, and an unsigned one below it,
    `unsigned.signed.test`; behind all of them is one Postfix. Its certificate is for `names`, or for all of those hosts."""
    DOMAINS = ("ee", "ta", "cert", "wrong", "wrong-ta", "both", "unusable", "none", "spoiled", "alias")

    def __init__(self, box, names=(), **how):
        self.box, self.authority, stranger = box, Authority(box), Authority(box)
        self.hop = Hop(box, authority=self.authority, names=names or [f"mx.{name}.signed.test" for name in self.DOMAINS], **how)
        key, certificate = of_key(self.hop.pair.certificate), sha256(ssl.PEM_cert_to_DER_cert(self.hop.leaf))
        anchor, others = (sha256(ssl.PEM_cert_to_DER_cert(each.file.read_text())) for each in (self.authority, stranger))
        self.records = {"ee": [f"3 1 1 {key}"], "cert": [f"3 0 1 {certificate}"], "ta": [f"2 0 1 {anchor}"],
                        "wrong": [f"3 1 1 {NOBODYS}"], "wrong-ta": [f"2 0 1 {others}"], "both": [f"3 1 1 {NOBODYS}", f"3 1 1 {key}"],
                        "unusable": [f"1 0 1 {NOBODYS}", f"3 9 1 {NOBODYS}"], "none": [], "spoiled": [f"3 1 1 {SPOILED}"]}
        ports = {self.hop.postfix.port, *self.hop.postfix.doors.values(), self.hop.sink.port}
        zone = "unsigned NS ns.unsigned\nns.unsigned A 127.0.0.1\n"
        for name, records in self.records.items():
            zone += f"{name} MX 10 mx.{name}\nmx.{name} A 127.0.0.1\n"
            zone += "".join(f"_{port}._tcp.mx.{name} TLSA {record}\n" for port in ports for record in records)
        zone += "alias MX 10 mx.alias\nmx.alias A 127.0.0.1\n"
        zone += "".join(f"_{port}._tcp.mx.alias CNAME _{port}._tcp.mx.ee\n" for port in ports)
        # Hosts that are aliases: the records are with the name they lead to, or with their own, or with neither.
        for name, leads_to in (("cname", "mx.ee"), ("cname-wrong", "mx.wrong"), ("cname-own", "mx.none"), ("cname-out", "mx.unsigned")):
            zone += f"{name} MX 10 mx.{name}\nmx.{name} CNAME {leads_to}\n"
        zone += "".join(f"_{port}._tcp.mx.{name} TLSA 3 1 1 {key}\n" for port in ports for name in ("cname-own", "cname-out"))
        zone += "second MX 10 mx.wrong\nsecond MX 20 mx.spoiled\nsecond MX 30 mx.ee\n"
        zone += f"only-a A 127.0.0.1\nforged MX 10 mx.forged\nmx.forged A {ELSEWHERE}\n"
        zone += "".join(f"_{port}._tcp.only-a TLSA 3 1 1 {key}\n" for port in ports)
        plain = "@ MX 10 mx\nmx A 127.0.0.1\n" + "".join(f"_{port}._tcp.mx TLSA 3 1 1 {NOBODYS}\n" for port in ports)
        zone += "to-unsigned MX 10 mx.unsigned\n"
        self.nsd = Nsd(box, {"signed.test": Spoiled(zone), "unsigned.signed.test": plain, "elsewhere.test": plain})
        answer = self.nsd.ask(f"_{self.hop.postfix.port}._tcp.mx.ee.signed.test", "TLSA")
        equal(answer, (NOERROR, False, 1), "what nsd says of a TLSA record")

    def relay(self, *options, port=None, via=None):
        """By MX, or to the smart host `via`."""
        port = port or self.hop.postfix.port
        where = ["--via", f"{via}:{port}"] if via else ["--mx-port", port]
        return self.box.server("relay", "--listen", "127.0.0.1:0", "--dns", f"127.0.0.1:{self.nsd.port}",
                               "--trust-anchor", self.nsd.anchor, *where, *options)

    def delivered(self, relay, domain, protocol=None):
        mail, before, to = letter(), len(self.hop.sink.mails()), f"bert@{domain}"
        reply = heard(relay, to, mail=mail)
        equal(reply[0], 250, f"code of {reply} for {domain}")
        found = [each for each in self.hop.sink.wait_for(before + 1) if each.octets.endswith(mail)]
        equal(len(found), 1, f"copies of the mail for {domain}")
        travelled(found[0], ANNA, [to], mail, hops=2)
        equal(came_by(found[0]), protocol or self.hop.protocol, f"protocol for {domain}")

    def refused(self, relay, domain, expected=NO_TLS):
        before = len(self.hop.sink.mails())
        seen = status(heard(relay, f"bert@{domain}"))
        check(re.fullmatch(expected, seen), f"expected {expected} for {domain}, the sender heard {seen}")
        self.hop.postfix.wait_idle()
        equal(len(self.hop.sink.mails()), before, f"mails for {domain}")


@case("DANE by MX: good records of the key, of the certificate, of the authority, one among others, by a CNAME: the mail arrives by TLS")
def good(box):
    world = World(box)
    relay = world.relay("--via-tls", "dane")
    for domain in ("ee", "cert", "ta", "both", "alias", "only-a", "cname", "cname-own", "cname-out"):
        world.delivered(relay, f"{domain}.signed.test")


@case("DANE by MX: records of another key or authority, or forged ones: 451, and nothing arrives; another host that is good gets the mail")
def wrong(box):
    world = World(box)
    relay = world.relay("--via-tls", "dane")
    for domain in ("wrong", "wrong-ta", "cname-wrong"):
        world.refused(relay, f"{domain}.signed.test")
    world.refused(relay, "spoiled.signed.test", r"451 4\.(7\.5|4\.3)")
    world.refused(relay, "forged.signed.test", r"451 4\.4\.3")
    world.delivered(relay, "second.signed.test")


@case("DANE by MX: the key of a record counts whatever the name in the certificate, an authority's name must be right")
def names(box):
    world = World(box, names=["other.example.org"])
    relay = world.relay("--via-tls", "dane")
    world.delivered(relay, "ee.signed.test")
    world.refused(relay, "ta.signed.test")


@case("DANE by MX: without records, or with unusable ones only, the mail arrives by TLS; records that are not signed say nothing")
def opportunistic(box):
    world = World(box)
    relay = world.relay("--via-tls", "dane")
    for domain in ("none.signed.test", "unusable.signed.test", "unsigned.signed.test", "to-unsigned.signed.test", "elsewhere.test"):
        world.delivered(relay, domain)


@case("DANE by MX, where the host offers no STARTTLS: 451 4.7.5 with records, usable or not, else the mail arrives")
def no_starttls(box):
    world = World(box, tls="none")
    relay = world.relay("--via-tls", "dane")
    for domain in ("ee", "ta", "wrong", "unusable", "cname", "cname-own", "cname-out"):
        world.refused(relay, f"{domain}.signed.test")
    for domain in ("none.signed.test", "unsigned.signed.test", "elsewhere.test"):
        world.delivered(relay, domain)


@case("DANE not asked for: wrong records hinder nobody, by MX and by smart host")
def not_asked(box):
    world = World(box)
    for options in ((), ("--via-tls", "may"), ("--via-tls", "must")):
        world.delivered(world.relay(*options), "wrong.signed.test")
    world.delivered(world.relay("--via-tls", "must", via="mx.wrong.signed.test"), "elsewhere.test")


@case("DANE to a smart host by its name: good records deliver; wrong ones, none, unsigned and unusable ones are 451 4.7.5")
def smart_host(box):
    world = World(box)
    for name in ("ee", "ta", "cert", "both", "alias"):
        world.delivered(world.relay("--via-tls", "dane", via=f"mx.{name}.signed.test"), "elsewhere.test")
    for name in ("wrong.signed.test", "wrong-ta.signed.test", "none.signed.test", "unsigned.signed.test", "unusable.signed.test"):
        world.refused(world.relay("--via-tls", "dane", via=f"mx.{name}"), "elsewhere.test")
    world.refused(world.relay("--via-tls", "dane", via="mx.spoiled.signed.test"), "elsewhere.test", r"451 4\.(7\.5|4\.3)")


@case("DANE to a smart host, implicit TLS, with a login: PLAIN is used too, for the host is verified")
def smart_host_login(box):
    world = World(box, mechanisms=MECHANISMS)
    for level, door in (("implicit,dane", "implicit"), ("dane", "PLAIN")):
        options = {"port": world.hop.postfix.doors[door]}
        for name in ("ee", "ta"):
            world.delivered(world.relay("--via-tls", level, *world.hop.login(), via=f"mx.{name}.signed.test", **options), "elsewhere.test")
        world.refused(world.relay("--via-tls", level, *world.hop.login(), via="mx.wrong.signed.test", **options), "elsewhere.test")


@case("DANE without a trust anchor ends the relay at its start: nothing would be secure, by MX and to a smart host")
def no_anchor(box):
    for where in (), ("--via", "mx.ee.signed.test:9"):
        check("--trust-anchor" in refused_relay(box, "--via-tls", "dane", *where, expected=2), "the reason is not told")


@case("DANE to an address literal ends the relay at its start with that reason")
def literal(box):
    anchor = box.new("anchor")
    anchor.write_text(f". IN DS 1 8 2 {NOBODYS}\n")
    for via in ("127.0.0.1:9", "[::1]:9", "[127.0.0.1]:9"):
        for level in ("dane", "implicit,dane"):
            said = refused_relay(box, "--via", via, "--via-tls", level, "--dns", "127.0.0.1:9", "--trust-anchor", anchor)
            check("dane of an address" in said, "the relay said", said)
