// relay_dane -- which TLSA records decide what (RFC 7672), and that a DNS that does not answer is never taken for leave
// to send in the clear.
#include "dialogue.hpp"
#include "secure_hop.hpp"

using namespace test;
using Net::SMTP::Test::FakeResolver;

namespace {

bool holds(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

std::string sha512(const std::string& octets) {
    unsigned char digest[64];
    EVP_Digest(octets.data(), octets.size(), digest, nullptr, EVP_sha512(), nullptr);
    return {reinterpret_cast<char*>(digest), sizeof digest};
}
std::string sha256(const std::string& octets) {
    unsigned char digest[32];
    EVP_Digest(octets.data(), octets.size(), digest, nullptr, EVP_sha256(), nullptr);
    return {reinterpret_cast<char*>(digest), sizeof digest};
}

// "TLSA 3 1 1 ..." for the first certificate of a file.
std::string record(int usage, int selector, int matching, const std::string& file) {
    auto data = Certificates::der(file, selector == 1);
    if (matching == 1) data = sha256(data);
    if (matching == 2) data = sha512(data);
    return "TLSA " + std::to_string(usage) + ' ' + std::to_string(selector) + ' ' + std::to_string(matching) + ' ' +
           Certificates::hex(data);
}

// A server that shows its authority too, as those of DANE-TA must (RFC 7671 5.2.1).
KeyPair with_root(const KeyPair& files) {
    std::string all;
    for (const auto& file : {files.certificate, authority().file()}) {
        const std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(std::fopen(file.c_str(), "r"), std::fclose);
        char part[4096];
        while (const auto n = std::fread(part, 1, sizeof part, in.get())) all.append(part, n);
    }
    const auto name = files.certificate + ".chain";
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> out(std::fopen(name.c_str(), "w"), std::fclose);
    std::fwrite(all.data(), 1, all.size(), out.get());
    return {name, files.key};
}

// d.test has one host, mx.d.test, on 127.0.0.1; all of it is signed.
struct Zone {
    explicit Zone(const KeyPair& files, const std::vector<std::string>& keywords = {"STARTTLS"})
        : pair(files), hop(tls_of(files), keywords) {
        dns->add("d.test", "MX 10 mx.d.test");
        dns->add("mx.d.test", "A 127.0.0.1");
        for (const auto& name : {std::string("d.test"), std::string("mx.d.test"), base()}) dns->secure(name);
    }
    std::string base() const { return '_' + std::to_string(hop.port()) + "._tcp.mx.d.test"; }
    void tlsa(const std::string& text) { dns->add(base(), text); }

    // By MX, or with mx.d.test as the smart host.
    Relay::Options options(bool smart = false) const {
        auto o = through(smart ? "mx.d.test:" + std::to_string(hop.port()) : "", ClientTLS({.level = Level::dane}));
        o.resolver = dns;
        o.mx_port = hop.port();
        o.patience.lookup = slower * 1s;
        return o;
    }
    Relay::Result sent(bool smart = false) const { return test::sent(options(smart)); }

    KeyPair pair;
    SecureHop hop;
    std::shared_ptr<FakeResolver> dns = std::make_shared<FakeResolver>();
};

// Of another name, self-signed and expired: only its key counts for DANE-EE.
const Wanted odd = expired(self_signed({.names = {"other.test"}}));

}  // namespace

TEST_CASE("TLSA records are read from the wire, and those that are too short are left out") {
    Records r{.status = Records::Status::found,
              .data = {std::string("\3\1\1abc", 6), std::string("\3\1\1", 3), "", "\2"}};
    r.data.push_back(std::string("\xff\xfe\xfd\0", 4));
    CHECK(tlsa(r) == std::vector<TLSA>{{3, 1, 1, "abc"}, {255, 254, 253, std::string(1, '\0')}});
    CHECK(tlsa({}).empty());
}

TEST_CASE("a TLSA record is usable with a usage, selector, digest and data that mail knows") {
    const auto files = authority().issue(good);
    const std::string d32(32, 'x'), d64(64, 'x');
    const auto certificate = Certificates::der(files.certificate), key = Certificates::der(files.certificate, true);
    const auto usable = ClientTLS::usable;
    for (const int usage : {2, 3}) {
        const auto u = std::uint8_t(usage);
        CHECK(usable({u, 0, 1, d32}));
        CHECK(usable({u, 1, 1, d32}));
        CHECK(usable({u, 0, 2, d64}));
        CHECK(usable({u, 1, 2, d64}));
        CHECK(usable({u, 0, 0, certificate}));
        CHECK(usable({u, 1, 0, key}));
        CHECK(!usable({u, 0, 0, key}));
        CHECK(!usable({u, 1, 0, certificate}));
        CHECK(!usable({u, 0, 0, certificate + 'x'}));
        CHECK(!usable({u, 0, 0, ""}));
        CHECK(!usable({u, 0, 0, d32}));
        CHECK(!usable({u, 1, 0, key.substr(0, key.size() - 1)}));
        CHECK(!usable({u, 1, 1, d32.substr(1)}));
        CHECK(!usable({u, 1, 1, d32 + 'x'}));
        CHECK(!usable({u, 1, 2, d32}));
        CHECK(!usable({u, 2, 1, d32}));
        CHECK(!usable({u, 255, 1, d32}));
        CHECK(!usable({u, 1, 3, d32}));
        CHECK(!usable({u, 1, 255, d32}));
    }
    for (const int usage : {0, 1, 4, 255}) CHECK(!usable({std::uint8_t(usage), 1, 1, d32}));
}

TEST_CASE("a record of the very certificate is enough, whatever name and dates it has") {
    const auto files = authority().issue(odd), wrong = authority().issue(odd);
    for (const int selector : {0, 1})
        for (const int matching : {0, 1, 2})
            for (const bool smart : {false, true}) {
                CAPTURE(selector);
                CAPTURE(matching);
                CAPTURE(smart);
                Zone zone(files);
                zone.tlsa(record(3, selector, matching, files.certificate));
                const auto result = zone.sent(smart);
                CHECK(result.delivered());
                CHECK(result.tls.ends_with(", verified"));

                Zone other(files);
                other.tlsa(record(3, selector, matching, wrong.certificate));
                const auto refused = other.sent(smart);
                CHECK(refused.reply.code == 451);
                CHECK(refused.reply.status == "4.7.5");
                CHECK(refused.reply.text.starts_with("The certificate of mx.d.test[127.0.0.1]:"));
                const auto all = other.hop.finish();
                CHECK(whole_mails(all) == 0);
                CHECK(!exposed(all));
            }
}

TEST_CASE("a record of an authority is good for certificates of it, with the host's name or the mail domain's") {
    struct Case {
        Wanted wanted;
        bool good;
        bool good_for_smart;
    };
    const std::vector<Case> cases{
        {{.names = {"mx.d.test"}}, true, true},
        {{.names = {"d.test"}}, true, false},
        {{.names = {"*.d.test"}}, true, true},
        {{.names = {"other.test"}}, false, false},
        {expired({.names = {"mx.d.test"}}), false, false},
    };
    for (const auto& c : cases) {
        const auto files = with_root(authority().issue(c.wanted));
        for (const int selector : {0, 1})
            for (const int matching : {0, 1, 2}) {
                CAPTURE(c.wanted.names[0]);
                CAPTURE(selector);
                CAPTURE(matching);
                for (const bool smart : {false, true}) {
                    Zone zone(files);
                    zone.tlsa(record(2, selector, matching, authority().file()));
                    const auto result = zone.sent(smart);
                    CHECK(result.delivered() == (smart ? c.good_for_smart : c.good));
                    if (!result.delivered()) CHECK(result.reply.status == "4.7.5");
                    CHECK(!exposed(zone.hop.finish()));
                }
            }
    }
    Zone zone(with_root(authority().issue({.names = {"mx.d.test"}})));
    zone.tlsa(record(2, 0, 1, stranger().file()));
    CHECK(zone.sent().reply.status == "4.7.5");
}

TEST_CASE("one record that fits is enough among others, and the strongest digest of a kind counts") {
    const auto files = authority().issue(odd), wrong = authority().issue(odd);
    Zone zone(files);
    zone.tlsa(record(3, 1, 1, wrong.certificate));
    zone.tlsa("TLSA 0 0 1 00");
    zone.tlsa("TLSA 9 9 9 00");
    zone.tlsa(record(2, 0, 1, stranger().file()));
    zone.tlsa(record(3, 1, 1, files.certificate));
    CHECK(zone.sent().tls.ends_with(", verified"));
    zone.tlsa(record(3, 1, 2, wrong.certificate));  // RFC 7671 9: SHA-256 is not looked at any more
    CHECK(zone.sent().reply.status == "4.7.5");
}

TEST_CASE("records that can't be used want TLS with whomever; a smart host must have others") {
    const auto files = authority().issue(odd);
    for (const auto& text :
         {record(0, 1, 1, files.certificate), record(1, 1, 1, files.certificate), std::string("TLSA 3 1 1 00"),
          std::string("TLSA 3 0 0 1234"), std::string("TLSA 3 7 1 00"), std::string("TLSA 3 1 9 00")}) {
        CAPTURE(text);
        Zone zone(files);
        zone.tlsa(text);
        const auto result = zone.sent();
        CHECK(result.delivered());
        CHECK(holds(result.tls, ", not verified"));
        const auto strict = zone.sent(true);
        CHECK(strict.reply == Reply{451, "4.7.5", "mx.d.test has no usable TLSA records, which are required"});
        CHECK(!exposed(zone.hop.finish()));

        Zone plain(files, {"PIPELINING"});
        plain.tlsa(text);
        CHECK(plain.sent().reply.status == "4.7.5");
        CHECK(!exposed(plain.hop.finish()));
    }
}

TEST_CASE("with a usable record nothing goes in the clear, and with none of them what is offered goes") {
    const auto files = authority().issue(odd);
    Zone zone(files, {"PIPELINING"});
    zone.tlsa(record(3, 1, 1, files.certificate));
    const auto result = zone.sent();
    CHECK(result.reply.status == "4.7.5");
    CHECK(holds(result.reply.text, "offers no STARTTLS, which is required"));
    CHECK(!exposed(zone.hop.finish()));

    Zone none(files, {"PIPELINING"});
    CHECK(none.sent().delivered());
    CHECK(none.sent().tls == "");
    Zone unverified(files);
    CHECK(holds(unverified.sent().tls, ", not verified"));
    const auto strict = unverified.sent(true);
    CHECK(strict.reply == Reply{451, "4.7.5", "mx.d.test has no validated TLSA records, which are required"});
    CHECK(unverified.hop.finish().size() == 1);
}

TEST_CASE("what was not validated counts for nothing: records, addresses, MX") {
    const auto files = authority().issue(odd), wrong = authority().issue(odd);
    struct Case {
        std::string insecure;
        bool asked;
    };
    for (const auto& c : {Case{"", true}, Case{"d.test", false}, Case{"mx.d.test", false}}) {
        CAPTURE(c.insecure);
        Zone zone(files);
        const auto insecure = c.insecure.empty() ? zone.base() : c.insecure;
        zone.dns->heal(insecure);  // takes back that it is secure
        zone.tlsa(record(3, 1, 1, wrong.certificate));
        CHECK(zone.sent().delivered());
        CHECK((zone.dns->asked(zone.base(), RecordType::TLSA) > 0) == c.asked);
        // The smart host's name is the user's word: only its records must be validated.
        const auto strict = zone.sent(true);
        CHECK(strict.reply.status == "4.7.5");
        CHECK(strict.reply.text.starts_with(insecure == zone.base() ? "mx.d.test has no validated TLSA records"
                                                                    : "The certificate of mx.d.test["));
    }
}

TEST_CASE("a domain without MX is its own host, and its records count if all of it is signed") {
    const auto files = authority().issue(odd), wrong = authority().issue(odd);
    for (const bool fits : {true, false}) {
        Zone zone(files);
        zone.dns->remove("d.test");
        zone.dns->add("d.test", "A 127.0.0.1");
        const auto base = '_' + std::to_string(zone.hop.port()) + "._tcp.d.test";
        zone.dns->add(base, record(3, 1, 1, (fits ? files : wrong).certificate));
        zone.dns->secure(base);
        CHECK(zone.sent().delivered() == fits);
    }
}

TEST_CASE("TLSA records that can't be looked up defer the host, and the next one is asked") {
    const auto files = authority().issue(odd);
    for (const bool stall : {false, true}) {
        Zone zone(files);
        zone.tlsa(record(3, 1, 1, files.certificate));
        if (stall) zone.dns->stall(zone.base());
        else zone.dns->fail(zone.base());
        const Reply want{451, "4.7.5", "The TLSA records of mx.d.test could not be looked up"};
        CHECK(zone.sent().reply == want);
        CHECK(zone.sent(true).reply == want);
        CHECK(zone.hop.conversations().empty());

        ScriptedServer second(offering({"STARTTLS"}, "127.0.0.2:" + std::to_string(zone.hop.port())));
        second.on("STARTTLS", starting(good_tls()));
        zone.dns->add("d.test", "MX 20 b.d.test");
        zone.dns->add("b.d.test", "A 127.0.0.2");
        const auto result = zone.sent();
        CHECK(result.delivered());
        CHECK(result.host.starts_with("b.d.test["));
        CHECK(zone.hop.finish().empty());
        // Nor does a host that is not there make "never" of it.
        zone.dns->remove("b.d.test");
        zone.dns->add("b.d.test", "TXT nothing");
        CHECK(zone.sent().reply == want);
        zone.dns->fail("b.d.test");
        CHECK(zone.sent().reply == want);
    }
}

TEST_CASE("after a host that is not whom its records say the next one is asked") {
    const auto files = authority().issue(odd), wrong = authority().issue(odd);
    Zone zone(files);
    zone.tlsa(record(3, 1, 1, wrong.certificate));
    ScriptedServer second(offering({"STARTTLS"}, "127.0.0.2:" + std::to_string(zone.hop.port())));
    second.on("STARTTLS", starting(tls_of(wrong)));
    zone.dns->add("d.test", "MX 20 b.d.test");
    zone.dns->add("b.d.test", "A 127.0.0.2");
    const auto base = '_' + std::to_string(zone.hop.port()) + "._tcp.b.d.test";
    zone.dns->add(base, record(3, 1, 1, wrong.certificate));
    zone.dns->secure("b.d.test");
    zone.dns->secure(base);
    const auto result = zone.sent();
    CHECK(result.delivered());
    CHECK(result.host.starts_with("b.d.test["));
    CHECK(result.tls.ends_with(", verified"));
    CHECK(second.finish().at(0).server_name == "b.d.test");
}

TEST_CASE("other levels ask for no TLSA, and an address literal of a recipient has none") {
    const auto files = authority().issue(odd);
    Zone zone(files);
    zone.tlsa(record(3, 1, 1, files.certificate));
    for (const auto level : {Level::none, Level::may, Level::must}) {
        auto o = zone.options();
        o.tls = ClientTLS({.level = level});
        CHECK(sent(o).delivered());
    }
    CHECK(zone.dns->asked(zone.base()) == 0);
    const auto before = zone.dns->asked();
    const auto result = sent(zone.options(), "c@[127.0.0.1]");
    CHECK(result.delivered());
    CHECK(holds(result.tls, ", not verified"));
    CHECK(zone.dns->asked() == before);
}

TEST_CASE("implicit TLS goes by the records of its port") {
    const auto files = authority().issue(odd), wrong = authority().issue(odd);
    for (const bool fits : {true, false}) {
        Zone zone(files);
        zone.hop.on("", Act::encrypt(tls_of(files)).then(Reply{220, "", "ready"}));
        zone.tlsa(record(3, 1, 1, (fits ? files : wrong).certificate));
        auto o = zone.options(true);
        o.tls = ClientTLS({.level = Level::dane, .implicit = true});
        CHECK(sent(o).delivered() == fits);
    }
}

TEST_CASE(
    "a mail exchanger that is an alias: the records of the name it leads to, else its own; what is not validated is "
    "none") {
    const auto files = authority().issue(odd), wrong = authority().issue(odd);
    struct Case {
        const char* name;
        bool alias_secure, target_secure;
        const char* at_target;  // "good", "wrong", ""
        const char* at_alias;
        const char* comes;  // "dane", "none", "may"
    };
    for (const auto& c :
         {Case{"both say so", true, true, "good", "wrong", "dane"},
          Case{"the target is wrong", true, true, "wrong", "good", "none"},
          Case{"only the alias", true, true, "", "good", "dane"},
          Case{"only the alias, wrong", true, true, "", "wrong", "none"}, Case{"neither", true, true, "", "", "may"},
          Case{"a target that is not signed", true, false, "wrong", "good", "dane"},
          Case{"the same, wrong", true, false, "good", "wrong", "none"},
          Case{"an alias that is not signed", false, true, "wrong", "wrong", "may"}}) {
        CAPTURE(c.name);
        Zone zone(files, {});  // without STARTTLS there is only `may`
        SecureHop secure(tls_of(files), {"STARTTLS"});
        const auto port = std::string(c.comes) == "may" ? zone.hop.port() : secure.port();
        const auto base = '_' + std::to_string(port) + "._tcp.";
        auto& dns = *zone.dns;
        dns.remove("mx.d.test");
        dns.heal("mx.d.test");
        dns.add("mx.d.test", "CNAME real.test");
        dns.add("real.test", "A 127.0.0.1");
        if (c.alias_secure) dns.secure("mx.d.test");
        if (c.target_secure) dns.secure("real.test");
        for (const auto& [name, what] : {std::pair{"real.test", c.at_target}, {"mx.d.test", c.at_alias}}) {
            dns.secure(base + name);
            if (*what) dns.add(base + name, record(3, 1, 1, (*what == 'g' ? files : wrong).certificate));
        }
        auto o = zone.options();
        o.mx_port = port;
        const auto result = sent(o);
        CHECK(result.delivered() == (std::string(c.comes) != "none"));
        CHECK(result.tls.ends_with(", verified") == (std::string(c.comes) == "dane"));
    }
}

TEST_CASE("dane without a resolver that validates, or of an address, is refused before anything is connected") {
    const ClientTLS dane({.level = Level::dane});
    auto o = through("mx.d.test:25", dane);
    struct Believing : Resolver {  // whatever the network says
        Records query(const std::string&, RecordType, const Wait&) override { return {}; }
        bool validates() const override { return false; }
    };
    for (const auto& resolver : {std::shared_ptr<Resolver>(), std::shared_ptr<Resolver>(new Believing)})
        for (const auto* host : {"mx.d.test:25", ""}) {
            o.host = host;
            o.resolver = resolver;
            CHECK_THROWS_WITH_AS(sent(o),
                                 "Relay::Options: tls: dane without a resolver that validates (a trust anchor)",
                                 std::invalid_argument);
        }
    o.resolver = std::make_shared<FakeResolver>();
    for (const auto* address : {"127.0.0.1:25", "[::1]:25"}) {
        o.host = address;
        CHECK_THROWS_AS(sent(o), std::invalid_argument);
        CHECK_THROWS_AS(Relay::offered(o), std::invalid_argument);
    }
    o.host = "unix:/nowhere";
    CHECK_THROWS_AS(sent(o), std::invalid_argument);
}

TEST_CASE("a kept connection is not used for other records") {
    const auto files = authority().issue(odd);
    Zone zone(files);
    zone.tlsa(record(3, 1, 1, files.certificate));
    zone.tlsa(record(3, 0, 1, files.certificate));
    auto o = zone.options();
    o.sessions = std::make_shared<SessionCache>();
    CHECK(sent(o).delivered());
    // The same in another order is the same.
    zone.dns->remove(zone.base());
    zone.tlsa(record(3, 0, 1, files.certificate));
    zone.tlsa(record(3, 1, 1, files.certificate));
    CHECK(sent(o).delivered());
    CHECK(zone.hop.conversations().size() == 1);
    zone.dns->remove(zone.base());
    zone.tlsa(record(3, 1, 1, authority().issue(odd).certificate));
    CHECK(sent(o).reply.status == "4.7.5");
    CHECK(zone.hop.conversations().size() == 2);
}
