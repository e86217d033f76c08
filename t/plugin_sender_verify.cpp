// plugin_sender_verify -- whose senders' domains are asked for, what is refused, and a DNS that is dead, slow or lies.
#include <Net/SMTP/Server/Plugins/SenderVerify.hpp>

#include "toy_authenticator.hpp"

using namespace test;

namespace {

using Test::FakeResolver;
using Verdict = SenderVerify::Verdict;

struct Verified {
    std::shared_ptr<FakeResolver> dns = std::make_shared<FakeResolver>();
    SenderVerify::Options options{.resolver = dns};
    std::mutex mutex{};
    std::vector<Verdict> verdicts{};
    std::vector<std::string> errors{};

    Setup setup(std::function<void(SenderVerify::Result&)> listener = {}) {
        Setup s;
        s.listeners = [this, listener](Server& server) {
            server.pipeline().add("sender", std::make_shared<SenderVerify>(options));
            server.on<SenderVerify::Result>([this, listener](SenderVerify::Result& e) {
                {
                    std::lock_guard lock(mutex);
                    verdicts.push_back(e.verdict);
                    errors.push_back(e.error);
                }
                if (listener) listener(e);
            });
        };
        return s;
    }
    // What MAIL hears.
    std::string mail(const std::string& sender, std::function<void(SenderVerify::Result&)> listener = {}) {
        Talk talk(setup(std::move(listener)));
        talk.play("S: 220\nC: EHLO me\nS: 250\n");
        talk.wire.say("MAIL FROM:" + sender);
        const auto reply = talk.wire.reply();
        talk.play("C: NOOP\nS: 250\nC: QUIT\nS: 221\nS: EOF");
        talk.end();
        CHECK(talk.troubles().empty());
        return reply;
    }
};

const std::string passes = "250 2.1.0 Sender OK";

bool begins(const std::string& text, const std::string& beginning) { return text.starts_with(beginning); }

}  // namespace

TEST_CASE("a sender's domain has a mail server, or else an address") {
    Verified v;
    v.dns->add("mx.test", "MX 10 mail.mx.test");
    v.dns->add("a.test", "A 192.0.2.1");
    v.dns->add("aaaa.test", "AAAA 2001:db8::1");
    v.dns->add("alias.test", "CNAME mx.test");
    for (const auto* domain : {"mx.test", "a.test", "aaaa.test", "alias.test", "MX.test"}) {
        CAPTURE(domain);
        CHECK(v.mail("<a@" + std::string(domain) + ">") == passes);
    }
    CHECK(v.verdicts == std::vector(5, Verdict::fine));
    CHECK(v.errors == std::vector<std::string>(5));
}

TEST_CASE("a sender's domain that does not exist, or has neither, is 550 5.1.8") {
    Verified v;
    v.dns->add("txt.test", "TXT hello");
    CHECK(begins(v.mail("<a@no.test>"), "550 5.1.8 The sender's domain does not exist: no.test"));
    CHECK(begins(v.mail("<a@txt.test>"), "550 5.1.8 The sender's domain has no mail server: txt.test"));
    CHECK(v.verdicts == std::vector{Verdict::no_domain, Verdict::no_records});
    CHECK_FALSE(v.errors[0].empty());
}

TEST_CASE("a sender's domain that accepts no mail is 550 5.7.27; a null MX among others means nothing") {
    Verified v;
    v.dns->add("null.test", "MX 0 .");
    v.dns->add("null.test", "A 192.0.2.1");
    v.dns->add("both.test", "MX 0 .");
    v.dns->add("both.test", "MX 10 mail.both.test");
    CHECK(begins(v.mail("<a@null.test>"), "550 5.7.27"));
    CHECK(v.mail("<a@both.test>") == passes);
    CHECK(v.verdicts == std::vector{Verdict::null_mx, Verdict::fine});
}

TEST_CASE("a DNS that fails, or says nothing in time, is 451 4.4.3 and no reason to bounce") {
    Verified v;
    v.options.timeout = std::chrono::milliseconds(30);
    v.dns->fail("fail.test");
    v.dns->stall("dead.test");
    v.dns->add("half.test", "TXT hello");
    v.dns->fail("half.test", RecordType::AAAA);
    v.dns->add("third.test", "AAAA 2001:db8::1");
    v.dns->fail("third.test", RecordType::A);
    CHECK(begins(v.mail("<a@fail.test>"), "451 4.4.3 The sender's domain could not be looked up: fail.test"));
    CHECK(begins(v.mail("<a@dead.test>"), "451 4.4.3"));
    CHECK(begins(v.mail("<a@half.test>"), "451 4.4.3"));
    CHECK(v.mail("<a@third.test>") == passes);  // one address is enough
    CHECK(v.verdicts == std::vector{Verdict::unknown, Verdict::unknown, Verdict::unknown, Verdict::fine});
    CHECK(v.errors[0] == "fail.test: SERVFAIL");
    CHECK(v.errors[2] == "half.test: SERVFAIL");
    CHECK(v.errors[3] == "");
}

TEST_CASE("a slow DNS is waited for") {
    Verified v;
    v.options.timeout = patience;
    v.dns->add("slow.test", "MX 10 mail.slow.test");
    v.dns->delay("slow.test", std::chrono::milliseconds(30));
    CHECK(v.mail("<a@slow.test>") == passes);
}

TEST_CASE("a DNS that lies or throws is 451 4.4.3") {
    struct Liar : Resolver {
        Records query(const std::string& name, RecordType, const Wait&) override {
            if (name == "throws.test") throw std::runtime_error("oh");
            return {.status = Records::Status::found, .data = {"\x01"}};
        }
    };
    Verified v;
    v.options.resolver = std::make_shared<Liar>();
    CHECK(begins(v.mail("<a@liar.test>"), "451 4.4.3"));
    CHECK(begins(v.mail("<a@throws.test>"), "451 4.4.3"));
    CHECK(v.verdicts == std::vector{Verdict::unknown, Verdict::unknown});
}

TEST_CASE("nobody is asked about null senders, literals, users, exempt networks and what was refused before") {
    Verified v;
    CHECK(v.mail("<>") == passes);
    CHECK(v.mail("<a@[192.0.2.1]>") == passes);
    v.options.exempt = Networks("127.0.0.1");
    CHECK(v.mail("<a@no.test>") == passes);
    v.options.exempt = {};
    auto setup = v.setup();
    setup.options.auth = std::make_shared<Toy>();
    setup.options.clear_auth = ClearAuth::everywhere;
    dialogue("S: 220\nC: EHLO me\nS: 250\nC: AUTH PLAIN " + base64_encode(credentials) +
                 "\nS: 235\nC: MAIL FROM:<a@no.test>\nS: 250\nC: QUIT\nS: 221",
             setup);
    auto refused = v.setup();
    refused.listeners = [with = refused.listeners](Server& s) {
        auto other = std::make_shared<Plugin>();
        other->on<Event::Mail>([](Event::Mail& e) { e.reply = {550, "5.7.1", "Not you"}; });
        s.pipeline().add("other", other);
        with(s);
    };
    dialogue("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@no.test>\nS: 550 5.7.1 Not you\nC: QUIT\nS: 221", refused);
    CHECK(v.dns->asked() == 0);
    CHECK(v.verdicts.empty());
}

TEST_CASE("listeners hear the verdict and may overrule it, either way") {
    Verified v;
    v.dns->add("good.test", "MX 10 mail.good.test");
    CHECK(v.mail("<a@no.test>", [](SenderVerify::Result& e) {
        CHECK(e.sender.str() == "a@no.test");
        CHECK(e.reply.code == 550);
        e.reply = {250, "2.1.0", "Come in"};
    }) == "250 2.1.0 Come in");
    CHECK(v.mail("<a@good.test>", [](SenderVerify::Result& e) {
        CHECK(e.reply.code == 250);
        throw Reject({550, "5.7.1", "Not that one"});
    }) == "550 5.7.1 Not that one");
}

TEST_CASE("a listener of the verdict may hang up, and one that stumbles is 451") {
    Verified v;
    dialogue("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@no.test>\nS: 550 5.7.1 Go\nS: EOF",
             v.setup([](SenderVerify::Result&) {
                 throw Hangup({550, "5.7.1", "Go"});
             }));
    const auto played = dialogue("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@no.test>\nS: 451 4.3.0\nC: QUIT\nS: 221",
                                 v.setup([](SenderVerify::Result&) { throw std::runtime_error("oh"); }));
    CHECK(played.troubles == std::vector<std::string>{"oh"});
}

TEST_CASE("a domain is asked for once, and the next mail of the session is judged anew") {
    Verified v;
    v.dns->add("good.test", "MX 10 mail.good.test");
    dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@no.test>\nS: 550\nC: MAIL FROM:<b@NO.test>\nS: 550\n"
        "C: MAIL FROM:<a@good.test>\nS: 250\nC: RSET\nS: 250\nC: MAIL FROM:<a@good.test>\nS: 250\nC: QUIT\nS: 221",
        v.setup());
    CHECK(v.dns->asked() == 2);
    CHECK(v.verdicts.size() == 4);
}

TEST_CASE("twenty clients at once are told the same by one question") {
    Verified v;
    v.dns->add("good.test", "MX 10 mail.good.test");
    v.options.timeout = patience;
    Server server(Addresses{"127.0.0.1:0"}, brief());
    server.pipeline().add("sender", std::make_shared<SenderVerify>(v.options));
    Background running([&] { server.run([](Server::Client& c) { c.accept(); }); });
    std::vector<Background> clients;
    for (int i = 0; i < 20; ++i)
        clients.emplace_back([&server] {
            auto wire = dial(server);
            play(wire,
                 "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@good.test>\nS: 250\nC: RSET\nS: 250\n"
                 "C: MAIL FROM:<a@no.test>\nS: 550 5.1.8\nC: QUIT\nS: 221\nS: EOF");
        });
    for (auto& client : clients) client.join();
    server.stop();
    running.join();
    CHECK(v.dns->asked("good.test") == 1);
    CHECK(v.dns->asked("no.test") == 1);
}

TEST_CASE("the end of the drain ends the wait for a DNS that says nothing") {
    Verified v;
    v.dns->stall("dead.test");
    v.options.timeout = 1h;
    Server server(Addresses{"127.0.0.1:0"}, brief());
    server.pipeline().add("sender", std::make_shared<SenderVerify>(v.options));
    Background running([&] { server.run([](Server::Client& c) { c.accept(); }, {.drain = 1s}); });
    auto wire = dial(server);
    play(wire, "S: 220\nC: EHLO me\nS: 250\n");
    wire.say("MAIL FROM:<a@dead.test>");
    CHECK(eventually([&] { return v.dns->asked() > 0; }));
    server.stop();
    CHECK_NOTHROW(running.join());
}

TEST_CASE("without a resolver there is no such plugin") {
    CHECK_THROWS_AS(SenderVerify(SenderVerify::Options{}), std::invalid_argument);
}
