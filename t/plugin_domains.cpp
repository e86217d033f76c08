// plugin_domains -- for whom the policy takes mail, from whom it takes any, and the tricks that make relays open.
#include <Net/SMTP/Server/Plugins/Domains.hpp>

#include "toy_authenticator.hpp"

using namespace test;

namespace {

Setup guarded(Domains::Options options, Setup setup = {}) {
    setup.listeners = [options](Server& s) { s.pipeline().add_first("domains", std::make_shared<Domains>(options)); };
    return setup;
}

const Networks ourselves("127.0.0.0/8 ::1");

// The codes that recipients hear, after a sender.
std::vector<std::string> codes(const std::vector<std::string>& recipients, const Setup& setup,
                               const std::string& sender = "<a@b>", const std::string& before = "") {
    Talk talk(setup);
    talk.play("S: 220\nC: EHLO me\nS: 250\n" + before + "C: MAIL FROM:" + sender +
              (setup.options.offer.smtputf8 ? " SMTPUTF8" : "") + "\nS: 250\n");
    std::vector<std::string> heard;
    for (const auto& recipient : recipients) {
        talk.wire.say("RCPT TO:" + recipient);
        const auto reply = talk.wire.reply();
        heard.push_back(reply.substr(0, reply.find(' ', 4)));
    }
    talk.play("C: QUIT\nS: 221\nS: EOF");
    CHECK(talk.end().empty());
    CHECK(talk.troubles().empty());
    return heard;
}

std::string code(const std::string& recipient, const Setup& setup) { return codes({recipient}, setup).front(); }

const std::string passes = "250 2.1.5", denied = "550 5.7.1", malformed = "501 5.1.3";

}  // namespace

TEST_CASE("mail for our domains passes, mail for others is refused by 550 5.7.1") {
    const auto ours = guarded({.domains = {"example.org", "Example.NET"}});
    CHECK(code("<a@example.org>", ours) == passes);
    CHECK(code("<a@EXAMPLE.oRg>", ours) == passes);
    CHECK(code("<a@example.net>", ours) == passes);
    CHECK(code("<a@example.com>", ours) == denied);
    CHECK(code("<a@example.org.evil.test>", ours) == denied);
    CHECK(code("<a@notexample.org>", ours) == denied);
    CHECK(code("<a@example>", ours) == denied);
    dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<you@else.test>\n"
        "S: 550 5.7.1 Relaying denied: <you@else.test>\nC: RCPT TO:<you@example.org>\nS: 250\nC: DATA\nS: 354\n"
        "C: x\nC: .\nS: 250\nC: QUIT\nS: 221\nS: EOF",
        ours);
}

TEST_CASE("what is below a domain is ours only by a dot in front of it") {
    const auto host = guarded({.domains = {"example.org"}}), below = guarded({.domains = {".example.org"}});
    CHECK(code("<a@mx.example.org>", host) == denied);
    CHECK(code("<a@mx.example.org>", below) == passes);
    CHECK(code("<a@a.b.EXAMPLE.org>", below) == passes);
    CHECK(code("<a@example.org>", below) == denied);
    CHECK(code("<a@badexample.org>", below) == denied);
    CHECK(code("<a@example.org>", guarded({.domains = {"example.org", ".example.org"}})) == passes);
}

TEST_CASE("an empty configuration relays for nobody") {
    CHECK(codes({"<a@b>", "<a@mx.test>", "<a@localhost>", "<a@[127.0.0.1]>", "<postmaster>", "<POSTmaster>",
                 "<postmaster@b>"},
                guarded({})) == Names{denied, denied, denied, denied, passes, passes, denied});
}

TEST_CASE("<postmaster> is reached with and without our domain") {
    CHECK(codes({"<postmaster>", "<Postmaster@example.org>", "<postmaster@example.com>", "<postmaster@[127.0.0.1]>"},
                guarded({.domains = {"example.org"}})) == Names{passes, passes, denied, denied});
}

TEST_CASE("trusted networks may relay, nobody else may") {
    CHECK(code("<a@else.test>", guarded({.trusted = ourselves})) == passes);
    CHECK(code("<a%b@else.test>", guarded({.trusted = ourselves})) == passes);
    CHECK(code("<a@else.test>", guarded({.trusted = Networks("192.0.2.0/24 ::1")})) == denied);
}

TEST_CASE("who has no address is in no trusted network") {
    int to[2], from[2];
    REQUIRE(pipe2(to, O_CLOEXEC) == 0);
    REQUIRE(pipe2(from, O_CLOEXEC) == 0);
    const std::string said = "EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nQUIT\r\n";
    REQUIRE(write(to[1], said.data(), said.size()) == ssize_t(said.size()));
    close(to[1]);
    {
        Server::Client client(Connection(to[0], from[1]), brief());
        client.pipeline().add("domains",
                              std::make_shared<Domains>(Domains::Options{.trusted = Networks("0.0.0.0/0 ::/0")}));
        CHECK_FALSE(client.process());
    }
    char heard[4096];
    const auto n = read(from[0], heard, sizeof heard);
    close(from[0]);
    REQUIRE(n > 0);
    CHECK(std::string(heard, std::size_t(n)).find("\r\n550 5.7.1 Relaying denied: <c@d>\r\n") != std::string::npos);
}

TEST_CASE("who has authenticated may relay, unless that is switched off") {
    Setup setup;
    setup.options.auth = std::make_shared<Toy>();
    setup.options.clear_auth = ClearAuth::everywhere;
    const std::string login = "C: AUTH PLAIN " + base64_encode(credentials) + "\nS: 235\n";
    const std::string guess = "C: AUTH PLAIN " + base64_encode(wrong) + "\nS: 535\n";
    setup.options.auth_delay = std::chrono::seconds(0);
    const Names else_where{"<c@else.test>"};
    CHECK(codes(else_where, guarded({}, setup), "<a@b>", login) == Names{passes});
    CHECK(codes(else_where, guarded({}, setup), "<a@b>", guess) == Names{denied});
    CHECK(codes(else_where, guarded({}, setup)) == Names{denied});
    CHECK(codes(else_where, guarded({.users = false}, setup), "<a@b>", login) == Names{denied});
}

// Each of them has made somebody's server an open relay. The sixteen of nmap's smtp-open-relay are among them, with
// every sender it tries.
TEST_CASE("no way of writing a recipient relays for strangers") {
    struct Trick {
        const char* recipient;
        std::string answer;
        const char* why;
    };
    const Trick tricks[] = {
        {"<t@evil.test>", denied, "another domain"},
        {"<t%evil.test@[127.0.0.1]>", denied, "a literal is no domain of ours, whosever address it is"},
        {"<t%evil.test@ours.test>", denied, "whoever comes behind us may turn % into @"},
        {"<\"t@evil.test\">", malformed, "no domain"},
        {"<\"t%evil.test\">", malformed, "no domain"},
        {"<t@evil.test@[127.0.0.1]>", malformed, "which @ counts is anybody's guess"},
        {"<\"t@evil.test\"@[127.0.0.1]>", denied, "a literal"},
        {"<t@evil.test@ours.test>", malformed, "which @ counts is anybody's guess"},
        {"<@[127.0.0.1]:t@evil.test>", denied, "the route is ignored, the mailbox counts"},
        {"<@ours.test:t@evil.test>", denied, "the route is ignored, the mailbox counts"},
        {"<evil.test!t>", malformed, "no domain"},
        {"<evil.test!t@[127.0.0.1]>", denied, "a literal"},
        {"<evil.test!t@ours.test>", denied, "UUCP's paths are routes too"},
        // more of that kind
        {"<\"t@evil.test\"@ours.test>", denied, "whoever takes the quotes away has another domain"},
        {"<\"t\\@evil.test\"@ours.test>", denied, "a backslash is no part of the name"},
        {"<\"t%evil.test\"@ours.test>", denied, "quotes don't change what it means"},
        {"<\"evil.test!t\"@ours.test>", denied, "quotes don't change what it means"},
        {"<@evil.test,@ours.test:t@evil.test>", denied, "the route is ignored"},
        {"<@evil.test:t@ours.test>", passes, "the route is ignored: it goes no farther than to us"},
        {"<ours.test!t@evil.test>", denied, "another domain"},
        {"<t@ours.test%evil.test>", malformed, "% is in no domain"},
        {"<t@ours.test!evil.test>", malformed, "! is in no domain"},
        {"<t@ours.test,t@evil.test>", malformed, "one recipient for each RCPT"},
        {"<t@evil.test,t@ours.test>", malformed, "one recipient for each RCPT"},
        {"<t@ours.test>,<t@evil.test>", malformed, "one recipient for each RCPT"},
        {"<t@evil.test:t@ours.test>", malformed, "no route"},
        {"<t@[192.0.2.1]>", denied, "a literal of somebody else"},
        {"<t@[IPv6:::1]>", denied, "a literal"},
        {"<t@127.0.0.1>", denied, "an address without brackets is a name, and not ours"},
        {"<t@ours.test.>", malformed, "a dot at the end is not RFC 5321's grammar"},
        {"<t@.ours.test>", malformed, "an empty label"},
        {"<t@evil.test.ours.test>", denied, "what is below is another domain"},
        {"<t@OURS.TEST>", passes, "case is nothing"},
        {"<t@>", malformed, "no domain"},
        {"<t>", malformed, "no domain"},
        {"<@ours.test>", malformed, "no local part"},
        {"<>", malformed, "nobody"},
        {"<\"\"@evil.test>", denied, "another domain"},
        {"< t@evil.test>", malformed, "a blank"},
        {"t@evil.test", malformed, "no brackets"},
    };
    const auto setup = guarded({.domains = {"ours.test"}});
    for (const auto* sender : {"<>", "<antispam@evil.test>", "<antispam@ours.test>", "<antispam@[127.0.0.1]>"}) {
        CAPTURE(sender);
        auto patient = setup;
        patient.options.max_errors = 0;
        Names recipients, expected;
        for (const auto& trick : tricks) {
            recipients.push_back(trick.recipient);
            expected.push_back(trick.answer);
        }
        const auto heard = codes(recipients, patient, sender);
        for (std::size_t i = 0; i < heard.size(); ++i) {
            CAPTURE(tricks[i].recipient);
            CAPTURE(tricks[i].why);
            CHECK(heard[i] == expected[i]);
        }
    }
}

TEST_CASE("an empty configuration takes none of these tricks for <postmaster>") {
    CHECK(codes({"<\"postmaster\"@evil.test>", "<postmaster@ours.test>", "<postmaster%evil.test@ours.test>",
                 "<@ours.test:postmaster@evil.test>", "<\"postmaster\">"},
                guarded({})) == Names{denied, denied, denied, denied, malformed});
}

TEST_CASE("an address literal is ours if it is in the list") {
    const auto setup = guarded({.domains = {"[127.0.0.1]", "[IPv6:::1]"}});
    CHECK(codes({"<a@[127.0.0.1]>", "<a@[ipv6:::1]>", "<a@[127.0.0.2]>", "<a%b@[127.0.0.1]>"}, setup) ==
          Names{passes, passes, denied, denied});
}

TEST_CASE("a domain of UTF-8 is ours as it is written") {
    auto setup = guarded({.domains = {"b\xC3\xBC"
                                      "cher.example"}});
    setup.options.offer.smtputf8 = true;
    CHECK(codes({"<a@b\xC3\xBC"
                 "cher.EXAMPLE>",
                 "<a@xn--bcher-kva.example>"},
                setup) == Names{passes, denied});
}

TEST_CASE("by double_at the text behind the last @ decides") {
    const auto setup = guarded({.domains = {"ours.test"}, .double_at = true});
    CHECK(codes({"<a@evil.test@ours.test>", "<a@ours.test@evil.test>", "<a@b@c@ours.test>", "<a@@ours.test>",
                 "<\"a@b\"@ours.test>", "<a@ours.test>", "<a@evil.test>", "<@ours.test:a@evil.test>",
                 "<@a@b:c@ours.test>", "<a%b@c@ours.test>", "<a@b@c%d@evil.test>", "<a b@c@ours.test>",
                 "<a\"@b@ours.test>", "<a@b@>", "<a@b@[127.0.0.1]>"},
                setup) == Names{passes, denied, passes, passes, passes, passes, denied, denied, malformed, denied,
                                denied, malformed, malformed, malformed, denied});
    const auto played = dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: rcpt to:<a@evil@ours.test>\nS: 250\n"
        "C: DATA\nS: 354\nC: x\nC: .\nS: 250\nC: QUIT\nS: 221",
        setup);
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].to.at(0).local == "\"a@evil\"");
    CHECK(played.mails[0].to.at(0).domain == "ours.test");
}

TEST_CASE("what another plugin has refused stays refused, and its answer too") {
    Setup setup;
    setup.listeners = [](Server& s) {
        auto other = std::make_shared<Plugin>();
        other->on<Event::Rcpt>([](Event::Rcpt& e) { e.reply = {452, "4.2.2", "Full"}; });
        s.pipeline().add("other", other);
        s.pipeline().add("domains", std::make_shared<Domains>(Domains::Options{.domains = {"ours.test"}}));
    };
    CHECK(codes({"<a@ours.test>", "<a@evil.test>"}, setup) == Names{"452 4.2.2", "452 4.2.2"});
}

TEST_CASE("a recipient is judged by what a plugin in front has made of it") {
    for (const auto& made : {Address{"a", "evil.test"}, Address{"somebody", ""}, Address{"", "ours.test."}}) {
        CAPTURE(made.str());
        Setup setup;
        setup.listeners = [made](Server& s) {
            auto other = std::make_shared<Plugin>();
            other->on<Event::Rcpt>([made](Event::Rcpt& e) { static_cast<Address&>(e.recipient) = made; });
            s.pipeline().add("other", other);
            s.pipeline().add("domains", std::make_shared<Domains>(Domains::Options{.domains = {"ours.test"}}));
        };
        CHECK(code("<a@ours.test>", setup) == denied);
    }
}

TEST_CASE("a program may ask what is ours") {
    const Domains domains({.domains = {"ours.test", ".below.test"}});
    CHECK(domains.ours("OURS.test"));
    CHECK(domains.ours("a.below.test"));
    for (const auto* other : {"", ".", "below.test", ".below.test", "ours.test.", ".ours.test", "test"})
        CHECK_FALSE(domains.ours(other));
}

TEST_CASE("what can be no domain is no configuration") {
    for (const auto* domain : {"", ".", "..", "ours.test.", ".ours.test.", "a b", "@ours.test", "a@ours.test", "*",
                               "*.test", "-a.test", "a..b", "[127.0.0.1", "ours.test\n"}) {
        CAPTURE(domain);
        CHECK_THROWS_AS(Domains({.domains = {"fine.test", domain}}), std::invalid_argument);
    }
    CHECK_THROWS_WITH(Domains({.domains = {"a b"}}), "Domains: not a domain: a b");
}
