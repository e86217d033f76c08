// relay_tls -- how a relay encrypts: what each level takes and refuses, and that nothing of a mail is said in the clear
// where TLS is asked for, whatever the next hop does.
#include "../Relay/Plan.hpp"
#include "over_tls.hpp"
#include "secure_hop.hpp"

using namespace test;

namespace {

const std::vector<Level> strict{Level::must, Level::verify};
const std::vector<Level> encrypting{Level::may, Level::must, Level::verify};

bool begins(const std::string& text, const std::string& with) { return text.starts_with(with); }
bool holds(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

// A folder for c_rehash's names: one authority.
struct Hashed {
    explicit Hashed(const std::string& file) {
        const std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(std::fopen(file.c_str(), "r"), std::fclose);
        X509* const x = PEM_read_X509(in.get(), nullptr, nullptr, nullptr);
        char name[32];
        std::snprintf(name, sizeof name, "%08lx.0", X509_subject_name_hash(x));
        X509_free(x);
        std::filesystem::copy_file(file, folder / name);
    }
    Folder folder;
};

}  // namespace

// ---- the value ----

TEST_CASE("each level has its word, and other words are refused by name") {
    using O = ClientTLS::Options;
    const auto is = [](std::string_view word, std::optional<Level> level, bool implicit) {
        const O o = ClientTLS::parse(word);
        return o.level == level && o.implicit == implicit;
    };
    CHECK(is("none", Level::none, false));
    CHECK(is("may", Level::may, false));
    CHECK(is("must", Level::must, false));
    CHECK(is("verify", Level::verify, false));
    CHECK(is("dane", Level::dane, false));
    CHECK(is("implicit", std::nullopt, true));
    CHECK(is("implicit,may", Level::may, true));
    CHECK(is("implicit,verify", Level::verify, true));
    CHECK(is("implicit,dane", Level::dane, true));
    for (const auto* word : {"", "May", "implicit,", "implicit,none", "implicit,must", "implicitmay", "implicit may",
                             "may,implicit", "verify ", "tls", "implicit,implicit"}) {
        CAPTURE(word);
        CHECK_THROWS_AS(ClientTLS::parse(word), std::invalid_argument);
    }
    CHECK_THROWS_WITH(ClientTLS::parse("tls1"), "no level of TLS: tls1");
}

TEST_CASE("without a level it is `may`, and `verify` with a login, with names to believe, or without STARTTLS") {
    CHECK(ClientTLS().level(false) == Level::may);
    CHECK(ClientTLS({.ca = authority().file()}).level(false) == Level::verify);
    CHECK(ClientTLS({.name = host_name}).level(false) == Level::verify);
    CHECK(ClientTLS({.level = Level::may, .ca = authority().file()}).level(false) == Level::may);
    CHECK(ClientTLS().level(true) == Level::verify);
    CHECK(ClientTLS({.implicit = true}).level(false) == Level::verify);
    CHECK(ClientTLS({.level = Level::may, .implicit = true}).level(true) == Level::may);
    CHECK(ClientTLS({.level = Level::none}).level(true) == Level::none);
    for (const auto* odd : {".", ".example.org", "a b", "\xc3\xa4.test"})
        CHECK_THROWS_AS(ClientTLS({.name = odd}), std::invalid_argument);
}

TEST_CASE("a file that can't be used is named when the value is made") {
    const Folder folder;
    const auto missing = folder / "missing.pem", empty = folder / "empty.pem", rubbish = folder / "rubbish.pem";
    std::fclose(std::fopen(empty.c_str(), "w"));
    {
        const std::unique_ptr<std::FILE, int (*)(std::FILE*)> out(std::fopen(rubbish.c_str(), "w"), std::fclose);
        std::fputs("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n", out.get());
    }
    const auto mine = authority().issue(of_client({.names = {"relay.test"}}));
    const auto other = authority().issue(of_client({.names = {"other.test"}}));
    const auto said = [](ClientTLS::Options o) -> std::string {
        try {
            ClientTLS tls(std::move(o));
        } catch (const std::runtime_error& e) {
            return e.what();
        }
        return "";
    };
    for (const auto& file : {missing, empty, rubbish}) {
        CAPTURE(file);
        CHECK(holds(said({.ca = file}), file));
        CHECK(holds(said({.certificate = file, .key = mine.key}), file));
        CHECK(holds(said({.certificate = mine.certificate, .key = file}), file));
    }
    CHECK(holds(said({.certificate = mine.certificate, .key = other.key}), other.key));
    CHECK(said({.ca = authority().file(), .certificate = mine.certificate, .key = mine.key}).empty());
    CHECK(said({.ca = folder.path}).empty());
    using O = ClientTLS::Options;
    CHECK_THROWS_AS(ClientTLS(O{.certificate = mine.certificate}), std::invalid_argument);
    CHECK_THROWS_AS(ClientTLS(O{.key = mine.key}), std::invalid_argument);
    CHECK_THROWS_AS(ClientTLS(O{.level = Level::none, .implicit = true}), std::invalid_argument);
    CHECK_THROWS_AS(ClientTLS(O{.name = "two words"}), std::invalid_argument);
    CHECK_THROWS_AS(ClientTLS(O{.name = std::string("nul\0", 4)}), std::invalid_argument);
}

TEST_CASE("values are equal where a connection by one serves the other") {
    const ClientTLS a, b, must({.level = Level::must}), file = asking(Level::must);
    CHECK(a == b);
    CHECK(a == ClientTLS(a));
    CHECK(a != must);
    CHECK(must == ClientTLS({.level = Level::must}));
    CHECK(must != ClientTLS({.level = Level::must, .name = "x.test"}));
    CHECK(must != ClientTLS({.level = Level::must, .implicit = true}));
    CHECK(file == ClientTLS(file));
    CHECK(file != asking(Level::must));  // the file may have been another one by then
}

TEST_CASE("any number of threads may encrypt by one value") {
    SecureHop hop;
    const auto o = through(hop.address(), ClientTLS({.level = Level::must}));
    std::vector<Relay::Result> results(8);
    {
        std::vector<Background> all;
        for (auto& r : results) all.emplace_back([&] { r = sent(o); });
        for (auto& b : all) b.join();
    }
    for (const auto& r : results) CHECK(begins(r.tls, "TLSv1.3 TLS_"));
}

// ---- with a server of our own ----

TEST_CASE("a mail goes encrypted to a server of ours, at each level, by STARTTLS and without") {
    Options options;
    options.hostname = "mail.test";
    options.tls = good_tls();
    for (const bool implicit : {false, true}) {
        Test::MailServer server(options, implicit ? "tls:127.0.0.1:0" : "127.0.0.1:0");
        const auto address = "127.0.0.1:" + std::to_string(server.port());
        for (const auto level : encrypting) {
            if (implicit && level == Level::must) continue;
            CAPTURE(implicit);
            CAPTURE(int(level));
            const auto result = sent(through(address, asking(level, implicit)));
            CHECK(result.reply.str().starts_with("250"));
            CHECK(begins(result.tls, "TLSv1.3 TLS_"));
            CHECK(result.tls.ends_with(", verified"));
        }
        for (const auto& mail : server.mails()) {
            CHECK(mail.protocol == "ESMTPS");
            CHECK(mail.text == "Subject: x\r\n\r\nhello\r\n");
        }
        CHECK(server.mails().size() == (implicit ? 2 : 3));
    }
}

TEST_CASE("a Received field says how the mail was encrypted on its way to us") {
    ScriptedServer hop;
    auto o = through(hop.address(), asking(Level::none));
    o.received = true;
    Setup setup;
    setup.handler = [o](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, o); };
    dialogue_over_tls(
        "C: EHLO me\nS: 250\nC: MAIL FROM:<a@b.test>\nS: 250\nC: RCPT TO:<c@d.test>\nS: 250\nC: DATA\nS: 354\nC: x\n"
        "C: .\nS: 250\nC: QUIT\nS: 221\nS: EOF",
        setup);
    const auto all = hop.finish();
    REQUIRE(whole_mails(all) == 1);
    const auto& text = all[0].texts[0].wire;
    const auto by = text.find("\r\n\tby mx.test with ESMTPS id ");
    REQUIRE(by != text.npos);
    const auto line = text.find("\r\n\ttls TLS_AES_", by + 2);  // RFC 8314 4.3
    REQUIRE(line != text.npos);
    CHECK(text.find("\r\n", by + 2) == line);
    CHECK(text.find(";\r\n\t", line) == text.find("\r\n", line + 2) - 1);
}

TEST_CASE("a large mail arrives whole through TLS, by DATA and by BDAT") {
    std::string big = "Subject: big\r\n\r\n";
    for (int i = 0; big.size() < 3'000'000; ++i) big += ".line " + std::to_string(i * 7919) + "\r\n";
    Options options;
    options.tls = good_tls();
    Test::MailServer server(options);
    for (const bool chunking : {false, true}) {
        auto o = through(server.address(), asking(Level::verify));
        o.chunking = chunking;
        const Relay relay(Sender("a@b.test"), recipients({"c@d.test", "e@d.test"}), Message(big), o);
        CHECK(relay.delivered());
    }
    const auto mails = server.wait_for(2);
    CHECK(mails[0].text == big);
    CHECK(mails[1].text == big);
}

TEST_CASE("LMTP over TCP is encrypted as well, and a Unix socket never") {
    SecureHop hop;
    auto o = through("lmtp:" + hop.address(), asking(Level::verify));
    CHECK(sent(o).delivered());
    const auto all = hop.finish();
    CHECK(all.at(0).commands.at(0) == "LHLO relay.test");
    CHECK(all.at(0).commands.at(2) == "LHLO relay.test");
    CHECK(!exposed(all));

    const Folder folder;
    ScriptedServer local(offering({"STARTTLS"}, "unix:" + (folder / "socket")));
    for (const auto& tls : {ClientTLS(), ClientTLS({.level = Level::may}), ClientTLS({.level = Level::none})}) {
        const auto result = sent(through("unix:" + (folder / "socket"), tls));
        CHECK(result.delivered());
        CHECK(result.tls == "");
    }
    for (const auto& c : local.finish()) CHECK(!c.said("STARTTLS"));
    for (const auto level : strict)
        CHECK_THROWS_AS(sent(through("unix:/nowhere", asking(level))), std::invalid_argument);
    CHECK_THROWS_AS(sent(through("unix:/nowhere", asking(Level::may, true))), std::invalid_argument);
}

TEST_CASE("a certificate of ours is shown where the next hop asks for it") {
    ServerTLS::Options want{.certificates = {authority().issue(good)}};
    want.client_certificate = ServerTLS::ClientCertificate::required;
    want.client_ca = authority().file();
    SecureHop hop(std::make_shared<ServerTLS>(want));
    const auto mine = authority().issue(of_client({.names = {"relay.test"}}));
    const ClientTLS with({.level = Level::verify,
                          .ca = authority().file(),
                          .certificate = mine.certificate,
                          .key = mine.key,
                          .name = host_name});
    CHECK(sent(through(hop.address(), with)).delivered());
    const auto result = sent(through(hop.address(), asking(Level::verify)));
    CHECK(result.reply.temporary());
    CHECK(whole_mails(hop.finish()) == 1);
}

// ---- who is believed ----

TEST_CASE("a certificate is good for the names in it and no others") {
    struct Case {
        Wanted wanted;
        std::string name;
        bool matches;
    };
    const std::vector<Case> cases{
        {{.names = {"mx.hop.test"}}, "mx.hop.test", true},
        {{.names = {"other.test", "mx.hop.test"}}, "mx.hop.test", true},
        {{.names = {"MX.Hop.Test"}}, "mx.hop.test", true},
        {{.names = {"mx.hop.test"}}, "mx.hop.test.", true},
        {{.names = {"*.hop.test"}}, "mx.hop.test", true},
        {{.names = {}, .common_name = "mx.hop.test"}, "mx.hop.test", true},  // RFC 6125 6.4.4: no DNS name in it
        {{.names = {"IP:127.0.0.1"}}, "127.0.0.1", true},
        {{.names = {"mx.hop.test"}, .intermediate = true}, "mx.hop.test", true},
        {{.names = {"mx.hop.test"}, .rsa = true}, "mx.hop.test", true},
        {{.names = {"other.test"}}, "mx.hop.test", false},
        {{.names = {"other.test"}, .common_name = "mx.hop.test"}, "mx.hop.test", false},
        {{.names = {"hop.test"}}, "mx.hop.test", false},
        {{.names = {"*.hop.test"}}, "hop.test", false},
        {{.names = {"*.hop.test"}}, "a.mx.hop.test", false},
        {{.names = {"m*.hop.test"}}, "mx.hop.test", false},
        {{.names = {"*x.hop.test"}}, "mx.hop.test", false},
        {{.names = {"mx.*.test"}}, "mx.hop.test", false},
        {{.names = {"*"}}, "mx.hop.test", false},
        {{.names = {"email:mx.hop.test"}}, "mx.hop.test", false},
        {{.names = {"127.0.0.1"}}, "127.0.0.1", false},  // a name that only looks like an address
        {{.names = {}, .common_name = "127.0.0.1"}, "127.0.0.1", false},
        {{.names = {"IP:127.0.0.2"}}, "127.0.0.1", false},
        {{.names = {std::string("mx.hop.test\0.evil.test", 22)}}, "mx.hop.test", false},
    };
    for (const auto& c : cases) {
        CAPTURE(c.name);
        CAPTURE(c.wanted.names.empty() ? c.wanted.common_name : c.wanted.names[0]);
        SecureHop hop(tls_of(c.wanted));
        for (const auto level : {Level::must, Level::verify}) {
            const ClientTLS tls({.level = level, .ca = authority().file(), .name = c.name});
            const auto result = sent(through(hop.address(), tls));
            CHECK(result.delivered() == (c.matches || level == Level::must));
            if (level == Level::must) CHECK(result.tls.ends_with(", verified") == c.matches);
            else if (!c.matches) CHECK(holds(result.reply.str(), "mismatch"));
        }
        CHECK(!exposed(hop.finish()));
    }
}

TEST_CASE("without a name of its own a host goes by its address, and asks for nobody by SNI") {
    const auto verifying = [](const std::string& name) {
        return ClientTLS({.level = Level::verify, .ca = authority().file(), .name = name});
    };
    SecureHop hop;
    CHECK(sent(through(hop.address(), verifying(""))).delivered());
    CHECK(sent(through(hop.address(), verifying(host_name))).delivered());
    auto all = hop.finish();
    CHECK(all.at(0).server_name == "");
    CHECK(all.at(1).server_name == host_name);
    // A host that is named is asked for by that name.
    SecureHop local(tls_of({.names = {"localhost"}}));
    CHECK(sent(through("localhost:" + std::to_string(local.port()), verifying(""))).delivered());
    CHECK(local.finish().back().server_name == "localhost");
}

TEST_CASE("who is not to be believed gets mail where that does not matter, and none where it does") {
    struct Case {
        std::string what;
        std::shared_ptr<ServerTLS> tls;
        std::string why;
    };
    const std::vector<Case> cases{
        {"another name", tls_of({.names = {"other.test"}}), "hostname mismatch"},
        {"expired", tls_of(expired(good)), "certificate has expired"},
        {"not yet", tls_of(not_yet_valid(good)), "certificate is not yet valid"},
        {"self-signed", tls_of(self_signed(good)), "self-signed certificate"},
        {"of a stranger", tls_of(stranger().issue(good)), "unable to get local issuer certificate"},
        {"for clients only", tls_of(of_client(good)), "unsuitable certificate purpose"},
    };
    for (const auto& c : cases) {
        CAPTURE(c.what);
        for (const auto level : {Level::may, Level::must}) {
            SecureHop hop(c.tls);
            const auto result = sent(through(hop.address(), asking(level)));
            CHECK(result.delivered());
            CHECK(holds(result.tls, ", not verified: "));
            CHECK(holds(result.tls, c.why));
            CHECK(!exposed(hop.finish()));
        }
        for (const bool implicit : {false, true}) {
            SecureHop hop(c.tls);
            if (implicit) hop.on("", Act::encrypt(c.tls).then(Reply{220, "", "ready"}));
            const auto result = sent(through(hop.address(), asking(Level::verify, implicit)));
            CHECK(result.reply.code == 451);
            CHECK(result.reply.status == "4.7.5");
            CHECK(begins(result.reply.text, "The certificate of " + hop.address() + " does not verify: "));
            CHECK(holds(result.reply.text, c.why));
            CHECK(result.host == hop.address());
            CHECK(result.tls == "");
            const auto all = hop.finish();
            CHECK(all.size() == 1);
            CHECK(whole_mails(all) == 0);
            CHECK(!exposed(all));
        }
    }
}

TEST_CASE("the authorities may be a folder of hashed names, and without any of ours there are the system's") {
    SecureHop hop;
    const Hashed known(authority().file()), other(stranger().file());
    const auto by = [&](const std::string& ca) {
        return sent(through(hop.address(), ClientTLS({.level = Level::verify, .ca = ca, .name = host_name})));
    };
    CHECK(by(known.folder.path).delivered());
    CHECK(!by(other.folder.path).delivered());
    CHECK(!by(stranger().file()).delivered());
    CHECK(!by("").delivered());
}

// ---- who does not do as he should ----

TEST_CASE("a next hop without STARTTLS gets mail in the clear where TLS may be, and none where it must") {
    for (const auto& hello : {Act(Reply{250, "", "hop.test\nPIPELINING"}), Act(Reply{502, "5.5.1", "what?"})}) {
        for (const auto level : encrypting) {
            ScriptedServer hop;
            hop.on("EHLO", hello);
            const auto result = sent(through(hop.address(), asking(level)));
            const auto all = hop.finish();
            CHECK(all.size() == 1);
            CHECK(result.tls == "");
            if (level == Level::may) {
                CHECK(result.delivered());
                continue;
            }
            CHECK(result.reply == Reply{451, "4.7.5", hop.address() + " offers no STARTTLS, which is required"});
            CHECK(!exposed(all));
            CHECK(all[0].end == Conversation::End::quit);
        }
    }
}

TEST_CASE("with `none` nothing is encrypted, whatever is offered") {
    SecureHop hop;
    const auto result = sent(through(hop.address(), asking(Level::none)));
    CHECK(result.delivered());
    CHECK(result.tls == "");
    CHECK(!hop.finish().at(0).said("STARTTLS"));
}

TEST_CASE("STARTTLS refused: `may` goes on in the clear on the same connection, the others say so and leave") {
    for (const auto& no : {Reply{454, "4.7.0", "TLS not available"}, Reply{502, "5.5.1", "Unknown"}}) {
        for (const auto level : encrypting) {
            SecureHop hop;
            hop.on("STARTTLS", no);
            const auto result = sent(through(hop.address(), asking(level)));
            const auto all = hop.finish();
            CHECK(all.size() == 1);
            CHECK(result.delivered() == (level == Level::may));
            if (level == Level::may) continue;
            CHECK(result.reply ==
                  Reply{451, "4.7.5", hop.address() + " refuses STARTTLS, which is required: " + no.str()});
            CHECK(!exposed(all));
        }
    }
}

TEST_CASE("a handshake that fails: `may` comes again in the clear, once, and the others do not") {
    const auto gone = [](const Act& act) { return Act(Reply{220, "", "go"}).then(act); };
    const std::map<std::string, Act> faults{
        {"closes", gone(Act::close())},
        {"resets", gone(Act::reset())},
        {"speaks SMTP", gone(Act::swallow()).then(Act::raw("250 what is this?\r\n"))},
        {"speaks rubbish", gone(Act::swallow()).then(Act::raw(std::string(2000, '\x16')))},
        {"closes before 220", Act::close()},
        {"says what is no reply", Act::raw("hello\r\n")},
        {"says yes, but not 220", Act(Reply{250, "2.0.0", "fine"})},
        {"says goodbye", Act(Reply{421, "4.3.2", "enough"}).then(Act::close())},
        {"closes after the handshake", starting(good_tls()).then(Act::close())},
        {"says what is no reply after the handshake", starting(good_tls()).then(Act::raw("hello\r\n"))},
    };
    for (const auto& fault : faults) {
        CAPTURE(fault.first);
        for (const auto level : encrypting) {
            CAPTURE(int(level));
            SecureHop hop;
            hop.on("STARTTLS", fault.second);
            const auto result = sent(through(hop.address(), asking(level)));
            const auto all = hop.finish();
            CHECK(all.size() == (level == Level::may ? 2 : 1));
            CHECK(result.delivered() == (level == Level::may));
            if (level == Level::may) {
                CHECK(result.tls == "");
                CHECK(all[1].commands.at(0) == "EHLO relay.test");
                CHECK(begins(all[1].commands.at(1), "MAIL"));
            } else {
                CHECK(result.reply.temporary());
                CHECK(!exposed(all));
                CHECK(result.host == hop.address());
            }
        }
    }
}

TEST_CASE("who expects TLS from the start of a host that greets in the clear is told what may be wrong") {
    ScriptedServer plain;
    const auto result = sent(through(plain.address(), asking(Level::verify, true)));
    CHECK(result.reply.status == "4.7.5");
    CHECK(result.reply.text.ends_with(", it may want STARTTLS"));
}

TEST_CASE("a smart host's port is 25, and 465 where TLS comes first") {
    for (const bool implicit : {false, true}) {
        const ClientTLS tls({.level = Level::may, .implicit = implicit});
        CHECK(smart_host(through("smart.test", tls)).endpoint.port == (implicit ? 465 : 25));
        CHECK(smart_host(through("smart.test:587", tls)).endpoint.port == 587);
        CHECK(smart_host(through("lmtp:smart.test", tls)).endpoint.port == 24);
    }
}

TEST_CASE("with implicit TLS there is nothing in the clear, whatever the level and however it fails") {
    for (const auto level : {Level::may, Level::verify}) {
        for (const auto& act : {Act(Reply{220, "", "plain"}), Act::close(), Act::raw(std::string(300, 'x'))}) {
            SecureHop hop;
            hop.on("", act);
            const auto result = sent(through(hop.address(), asking(level, true)));
            CHECK(result.reply.code == 451);
            CHECK(result.reply.status == "4.7.5");
            const auto all = hop.finish();
            CHECK(all.size() == 1);
            for (const auto& c : all) CHECK(!holds(c.octets, "EHLO"));
        }
    }
}

TEST_CASE("a handshake that stalls, before or in it, is given up in its own time") {
    for (const auto& stall : {Act(Reply{220, "", "go"}).then(Act::stall()), Act::stall()}) {
        for (const auto level : encrypting) {
            SecureHop hop;
            hop.on("STARTTLS", stall);
            auto o = through(hop.address(), asking(level));
            o.patience.handshake = o.patience.helo = 1s;
            const auto result = sent(o);
            const auto all = hop.finish();
            CHECK(result.delivered() == (level == Level::may));
            if (level != Level::may) {
                CHECK(result.reply.code == 451);
                CHECK(!exposed(all));
            }
        }
    }
    SecureHop drip;  // an octet now and then is no progress
    drip.on("STARTTLS", Act(Reply{220, "", "go"})
                            .then(Act::swallow())
                            .then(Act::raw(std::string("\x16\x03\x03\x40\x00", 5)))
                            .then(Act::raw(std::string(2000, '\x02')).paced(Test::Pace::fixed(1)))
                            .then(Act::stall()));
    auto o = through(drip.address(), asking(Level::must));
    o.patience.handshake = 1s;
    const auto result = sent(o);
    CHECK(result.reply.status == "4.7.5");
    CHECK(result.reply.text == "No TLS with " + drip.address() + ": the handshake was not over in time");
}

TEST_CASE("what is said behind the 220 in the clear is not heard under TLS") {
    const std::string injected = "250-evil.test\r\n250 AUTH PLAIN\r\n250 2.1.0 fine\r\n250 2.1.5 fine\r\n354 go\r\n";
    for (const auto level : encrypting) {
        SecureHop hop;
        hop.on("STARTTLS", Act::raw("220 go\r\n" + injected).then(Act::encrypt(good_tls())));
        const auto result = sent(through(hop.address(), asking(level)));
        const auto all = hop.finish();
        CHECK(result.reply == Reply{451, "4.7.5", hop.address() + " says more in front of TLS than it was asked"});
        CHECK(all.size() == 1);
        CHECK(whole_mails(all) == 0);
        CHECK(!exposed(all));
    }
    // In a segment of its own it is what TLS meets first.
    SecureHop hop;
    hop.on("STARTTLS",
           Act::raw("220 go\r\n").then(Act::swallow()).then(Act::raw(injected)).then(Act::encrypt(good_tls())));
    CHECK(sent(through(hop.address(), asking(Level::must))).reply.status == "4.7.5");
    CHECK(whole_mails(hop.finish()) == 0);
}

TEST_CASE("nothing that was offered in the clear counts under TLS, and what is offered then does") {
    SecureHop hop(good_tls(), {"STARTTLS", "PIPELINING", "SIZE 5", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN"});
    hop.on({.command = "EHLO", .nth = 2}, Reply{250, "", "hop.test\nSIZE 1000"});
    const auto o = through(hop.address(), asking(Level::verify));
    const auto offer = Relay::offered(o);
    CHECK(!offer.extensions.pipelining);
    CHECK(!offer.extensions.eight_bit_mime);
    CHECK(!offer.extensions.smtputf8);
    CHECK(!offer.extensions.chunking);
    CHECK(!offer.extensions.dsn);
    CHECK(!offer.starttls);
    CHECK(offer.extensions.size);
    CHECK(offer.max_size == 1000);
    hop.on({.command = "EHLO", .nth = 2, .connection = 2}, Reply{250, "", "hop.test\nSIZE 1000"});
    CHECK(sent(o).delivered());  // 21 octets
    const auto all = hop.finish();
    CHECK(all.at(1).commands == std::vector<std::string>{"EHLO relay.test", "STARTTLS", "EHLO relay.test",
                                                         "MAIL FROM:<a@b.test> SIZE=21", "RCPT TO:<c@d.test>", "DATA",
                                                         ".", "QUIT"});
}

TEST_CASE("offered() says what is offered, or why TLS can't be had") {
    SecureHop hop;
    Reply why;
    CHECK(Relay::offered(through(hop.address(), asking(Level::verify)), &why).extensions.pipelining);
    CHECK(why.positive());
    ScriptedServer plain;
    CHECK(!Relay::offered(through(plain.address(), asking(Level::must)), &why).extensions.pipelining);
    CHECK(why == Reply{451, "4.7.5", plain.address() + " offers no STARTTLS, which is required"});
    CHECK(Relay::offered(through(plain.address(), asking(Level::may)), &why).extensions.pipelining);
}

TEST_CASE("whatever a next hop does, a relay that must encrypt says nothing of a mail in the clear") {
    const std::vector<std::string> states{"", "EHLO", "STARTTLS"};
    std::vector<Act> acts{Act::close(),
                          Act::reset(),
                          Act::nothing().then(Act::close()),
                          Act::raw("220"),
                          Act::raw("\r\n"),
                          Act::long_reply(250, 9000),
                          Act::endless_lines(),
                          Act::endless_line(),
                          Act::raw("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n"),
                          Act::raw("220 ok\r\n250 STARTTLS\r\n220 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
                          Act::raw("220-go\r\n220 go\r\n250 x\r\n"),
                          Act::raw(std::string(64, '\0')),
                          Act::raw("\x15\x03\x03\x00\x02\x02\x28")};
    for (int code = 200; code < 600; code += 50) acts.emplace_back(Reply{code, "", "so"});
    for (const int code : {220, 221, 235, 251, 334, 354, 421, 454, 501, 503, 530, 554})
        acts.emplace_back(Reply{code, "", "so"});
    std::vector<std::string> wrong;
    std::mutex mutex;
    const auto one = [&](const std::string& state, const Act& act, std::size_t number, Level level) {
        SecureHop hop;
        hop.on(state, act);
        auto o = through(hop.address(), asking(level));
        o.total = 2s;
        o.chunking = number % 2;
        const auto result = sent(o);
        const auto all = hop.finish();
        const std::lock_guard lock(mutex);
        // Where TLS came about all the same the mail may have gone.
        const bool encrypted = !all.empty() && all.back().encrypted;
        if (exposed(all) || (result.delivered() && !encrypted) || (!encrypted && whole_mails(all) > 0))
            wrong.push_back(state + " #" + std::to_string(number) + ": " + result.reply.str());
    };
    for (const auto& state : states) {
        std::vector<Background> all;
        for (std::size_t i = 0; i < acts.size(); ++i)
            all.emplace_back([&, i] { one(state, acts[i], i, strict[i % strict.size()]); });
        for (auto& b : all) b.join(60s);
    }
    CHECK(wrong == std::vector<std::string>{});
}

// ---- by MX, and over kept connections ----

TEST_CASE(
    "by MX the certificate has the host's name or the mail domain's, and the next host is asked where it has not") {
    const auto dns = std::make_shared<Test::FakeResolver>();
    dns->add("d.test", "MX 10 mx.other.test");
    dns->add("mx.other.test", "A 127.0.0.1");
    const auto by = [&](const Wanted& wanted) {
        SecureHop hop(tls_of(wanted));
        auto o = through("", ClientTLS({.level = Level::verify, .ca = authority().file()}));
        o.resolver = dns;
        o.mx_port = hop.port();
        const auto result = sent(o);
        if (result.delivered()) CHECK(hop.finish().at(0).server_name == "mx.other.test");
        return result;
    };
    CHECK(by({.names = {"mx.other.test"}}).delivered());
    CHECK(by({.names = {"d.test"}}).delivered());
    const auto result = by({.names = {"other.test"}});
    CHECK(result.reply.status == "4.7.5");
    CHECK(begins(result.reply.text, "The certificate of mx.other.test[127.0.0.1]:"));

    SecureHop bad(tls_of({.names = {"else.test"}}));
    ScriptedServer::Options there = offering({"STARTTLS"}, "127.0.0.2:" + std::to_string(bad.port()));
    ScriptedServer fine(there);
    fine.on("STARTTLS", starting(tls_of({.names = {"d.test"}})));
    dns->add("d.test", "MX 20 mx.good.test");
    dns->add("mx.good.test", "A 127.0.0.2");
    auto o = through("", ClientTLS({.level = Level::verify, .ca = authority().file()}));
    o.resolver = dns;
    o.mx_port = bad.port();
    const auto second = sent(o);
    CHECK(second.delivered());
    CHECK(begins(second.host, "mx.good.test["));
    CHECK(second.tls.ends_with(", verified"));
}

TEST_CASE("a kept connection is used again for the same TLS only, and silence under TLS is silence") {
    SecureHop hop;
    const auto sessions = std::make_shared<SessionCache>();
    const auto by = [&](const ClientTLS& tls) {
        auto o = through(hop.address(), tls);
        o.sessions = sessions;
        return sent(o);
    };
    const auto verified = asking(Level::verify);
    for (int i = 0; i < 3; ++i) {
        const auto result = by(verified);
        CHECK(result.delivered());
        CHECK(result.tls.ends_with(", verified"));
    }
    CHECK(hop.conversations().size() == 1);  // the tickets of TLS 1.3 are no word out of turn
    CHECK(by(asking(Level::must)).delivered());
    CHECK(hop.conversations().size() == 2);
    CHECK(by(asking(Level::none)).tls == "");
    CHECK(hop.conversations().size() == 3);
    CHECK(by(verified).delivered());
    CHECK(hop.conversations().size() == 3);
    CHECK(sessions->idle() == 3);
}

TEST_CASE("a kept connection that has gone bad is made anew, with the same TLS") {
    SecureHop hop;
    hop.on({.command = "MAIL", .nth = 2, .connection = 1}, Act::close());
    auto o = through(hop.address(), asking(Level::verify));
    o.sessions = std::make_shared<SessionCache>();
    CHECK(sent(o).delivered());
    hop.on("EHLO", Reply{250, "", "hop.test"});  // whoever is in between now leaves STARTTLS out
    const auto result = sent(o);
    CHECK(result.reply == Reply{451, "4.7.5", hop.address() + " offers no STARTTLS, which is required"});
    const auto all = hop.finish();
    CHECK(all.size() == 2);
    CHECK(!exposed(all));
}

TEST_CASE("what a next hop says out of turn under TLS ends the session as it does in the clear") {
    SecureHop hop;
    hop.on("RCPT", Act(Reply{250, "2.1.5", "fine"}).then(Act::raw("354 go on\r\n250 taken\r\n")));
    auto o = through(hop.address(), asking(Level::verify));
    const Relay relay(Sender("a@b.test"), recipients({"c@d.test", "e@d.test"}), short_text, o);
    CHECK(!relay.delivered());
    CHECK(whole_mails(hop.finish()) == 0);
}

TEST_CASE("with at_rcpt the recipients are asked under TLS, and 4.7.5 is what the client hears without it") {
    SecureHop hop;
    hop.reply_to("RCPT TO:<bad@", {550, "5.1.1", "unknown"});
    auto o = through(hop.address(), asking(Level::verify));
    o.at_rcpt = true;
    const auto setup = relaying(o);
    dialogue(R"(
        S: 220
        C: EHLO me.test
        S: 250
        C: MAIL FROM:<a@b.test>
        S: 250
        C: RCPT TO:<bad@d.test>
        S: 550 5.1.1
        C: RCPT TO:<c@d.test>
        S: 250
        C: DATA
        S: 354
        C: Subject: x
        C:
        C: hello
        C: .
        S: 250
        C: QUIT
        S: 221
    )",
             setup);
    const auto all = hop.finish();
    CHECK(all.size() == 1);
    CHECK(whole_mails(all) == 1);
    CHECK(!exposed(all));

    ScriptedServer plain;
    o.host = plain.address();
    dialogue(R"(
        S: 220
        C: EHLO me.test
        S: 250
        C: MAIL FROM:<a@b.test>
        S: 250
        C: RCPT TO:<c@d.test>
        S: 451 4.7.5
        C: QUIT
        S: 221
    )",
             relaying(o));
    CHECK(!exposed(plain.finish()));
}

TEST_CASE("what was opened at RCPT with less TLS than the Relay asks for is not gone on with") {
    ScriptedServer plain;
    auto attached = through(plain.address(), asking(Level::none)),
         relayed = through(plain.address(), asking(Level::must));
    attached.at_rcpt = relayed.at_rcpt = true;
    const auto setup = relaying(attached, relayed);
    dialogue(R"(
        S: 220
        C: EHLO me.test
        S: 250
        C: MAIL FROM:<a@b.test>
        S: 250
        C: RCPT TO:<c@d.test>
        S: 250
        C: DATA
        S: 354
        C: Subject: x
        C:
        C: hello
        C: .
        S: 451 4.7.5
        C: QUIT
        S: 221
    )",
             setup);
    CHECK(whole_mails(plain.finish()) == 0);
}
