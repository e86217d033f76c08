// client_tls -- STARTTLS (RFC 3207) and TLS before the greeting (RFC 8314) in a session.
#include "over_tls.hpp"

using namespace test;

namespace {

const std::string envelope = "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n";
const std::string mail = "C: EHLO me\nS: 250\n" + envelope + "C: DATA\nS: 354\nC: text\nC: .\nS: 250\n";
const std::string farewell = "C: QUIT\nS: 221\nS: EOF\n";

// How a session over TLS ends: nothing behind the close_notify.
Setup required() {
    Setup setup;
    setup.options = with_tls();
    setup.options.require_tls = true;
    return setup;
}

// What Event::TLS told of each handshake.
struct Handshakes {
    std::mutex mutex;
    std::vector<std::string> problems;
    std::vector<std::string> all() {
        std::lock_guard lock(mutex);
        return problems;
    }
};
Setup watched(std::shared_ptr<Handshakes> seen, Options options = with_tls()) {
    Setup setup;
    setup.options = std::move(options);
    setup.listeners = [seen](Server& server) {
        server.on<Event::TLS>([seen](Event::TLS& e) {
            std::lock_guard lock(seen->mutex);
            seen->problems.push_back(e.problem);
        });
    };
    return setup;
}

// A server whose one address speaks TLS from the start, in a loop of its own.
struct Implicit {
    explicit Implicit(Options options = with_tls(), std::function<void(Server&)> listeners = {})
        : server(Addresses{"tls:127.0.0.1:0"}, std::move(options)) {
        if (listeners) listeners(server);
        thread = Background([this] { server.run([](Server::Client& c) { c.accept(); }); });
    }
    ~Implicit() { server.stop(); }
    Server server;
    Background thread;
};

}  // namespace

TEST_CASE("STARTTLS is offered where there is a certificate, and no more once it was used") {
    Setup setup;
    setup.options = with_tls();
    const auto played = dialogue_over_tls("C: EHLO me\nS: 250\nC: STARTTLS\nS: 503 5.5.1\n" + farewell, setup);
    const auto first = played.heard.find("250-STARTTLS\r\n"), hello = played.heard.find("250-mx.test\r\n", first);
    CHECK(first != std::string::npos);
    CHECK(hello != std::string::npos);
    CHECK(played.heard.find("STARTTLS", hello) == std::string::npos);
}

TEST_CASE("without a certificate STARTTLS is neither offered nor known") {
    const auto played = dialogue("S: 220\nC: EHLO me\nS: 250\nC: STARTTLS\nS: 502 5.5.1\n" + farewell);
    CHECK(played.heard.find("STARTTLS") == std::string::npos);
}

TEST_CASE("STARTTLS has no argument, and no place in a transaction, which goes on") {
    Setup setup;
    setup.options = with_tls();
    const auto played = dialogue("S: 220\nC: EHLO me\nS: 250\nC: STARTTLS now\nS: 501 5.5.4\n" + envelope +
                                     "C: STARTTLS\nS: 503 5.5.1\nC: DATA\nS: 354\nC: text\nC: .\nS: 250\n" + farewell,
                                 setup);
    CHECK(played.mails.size() == 1);
}

TEST_CASE("what was said before the handshake is forgotten") {
    const auto played = dialogue_over_tls("C: MAIL FROM:<a@b>\nS: 503 5.5.1\n" + mail + farewell);
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].helo == "me");
    CHECK(played.mails[0].protocol == "ESMTPS");
}

TEST_CASE("plain text behind STARTTLS ends the session, and nothing of it acts") {
    for (const std::string rest : {"EHLO evil", "RSET", "MAIL FROM:<evil@b>", "x"}) {
        CAPTURE(rest);
        Setup setup;
        setup.options = with_tls();
        Talk talk(std::move(setup));
        talk.play("S: 220\nC: EHLO me\nS: 250\n");
        talk.wire.send("STARTTLS\r\n" + rest + "\r\n");
        talk.play("S: 554 5.5.1\nS: EOF");
        CHECK(talk.end().empty());
    }
}

TEST_CASE("plain text that comes instead of a handshake ends the session") {
    auto seen = std::make_shared<Handshakes>();
    Talk talk(watched(seen));
    talk.play(starttls);
    talk.wire.send("EHLO evil\r\nMAIL FROM:<evil@b>\r\n");
    while (!talk.wire.receive().empty()) {
    }
    CHECK(talk.end().empty());
    REQUIRE(seen->all().size() == 1);
    CHECK(seen->all()[0] != "");
}

TEST_CASE("a mail comes over TLS however its octets are cut") {
    for (const auto pace : {Pace::groups, Pace::octets, Pace::pieces, Pace::at_once}) {
        CAPTURE(int(pace));
        Setup setup;
        setup.options = with_tls();
        Talk talk(std::move(setup));
        talk.play(starttls);
        encrypt(talk.wire);
        play(talk.wire,
             mail + "C: RSET\nS: 250\n" + envelope + "C: BDAT 4\nc: ab\\r\\n\nS: 250\nC: BDAT 0 LAST\nS: 250\n" +
                 farewell,
             pace);
        const auto& mails = talk.end();
        REQUIRE(mails.size() == 2);
        CHECK(mails[0].text == "text\r\n");
        CHECK(mails[1].text == "ab\r\n");
    }
}

TEST_CASE("a large text comes whole over TLS, in memory, in a file and into a sink") {
    std::string text;
    for (int i = 0; text.size() < 3'000'000; ++i) text += std::string(std::size_t(i % 200), 'x') + "\r\n";
    for (const bool spooled : {false, true}) {
        Setup setup;
        setup.options = with_tls();
        if (spooled) setup.options.spool_above = 100'000;
        Talk talk(std::move(setup));
        talk.play(starttls);
        encrypt(talk.wire);
        talk.play("C: EHLO me\nS: 250\n" + envelope + "C: DATA\nS: 354\n");
        talk.wire.send(text + ".\r\n");
        talk.play("S: 250\n" + farewell);
        const auto& mails = talk.end();
        REQUIRE(mails.size() == 1);
        CHECK(mails[0].text == text);
        CHECK(mails[0].spooled == spooled);
    }
}

TEST_CASE("Received says by which protocol the mail came") {
    const auto protocol = [](const std::string& script, Protocol spoken = Protocol::smtp) {
        Setup setup;
        setup.options = with_tls();
        setup.options.offer.smtputf8 = true;
        setup.options.protocol = spoken;
        Talk talk(std::move(setup));
        talk.play(spoken == Protocol::lmtp ? "S: 220\nC: LHLO me\nS: 250\nC: STARTTLS\nS: 220\n" : starttls);
        encrypt(talk.wire);
        talk.play(script);
        return talk.end().at(0).protocol;
    };
    const std::string text = "C: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\n";
    CHECK(protocol("C: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\n" + text) == "ESMTPS");
    CHECK(protocol("C: EHLO me\nS: 250\nC: MAIL FROM:<a@b> SMTPUTF8\nS: 250\n" + text) == "UTF8SMTPS");
    CHECK(protocol("C: HELO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\n" + text) == "SMTP");
    CHECK(protocol("C: LHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\n" + text, Protocol::lmtp) == "LMTPS");
}

TEST_CASE("the program sees what was agreed on") {
    TLS seen;
    bool before = true;
    Setup setup;
    setup.options = with_tls();
    setup.program = [&](Server::Client& c) {
        before = c.tls() != nullptr;
        while (c.process()) {
            if (c.tls()) seen = *c.tls();
            c.accept();
        }
    };
    Talk talk(std::move(setup));
    talk.play(starttls);
    encrypt(talk.wire, "MX.test");
    talk.play(mail + farewell);
    talk.end();
    CHECK(!before);
    CHECK(seen.version == "TLSv1.3");
    CHECK(seen.cipher.starts_with("TLS_"));
    CHECK(seen.bits >= 128);
    CHECK(seen.server_name == "mx.test");
    CHECK(!seen.resumed);
    CHECK(!seen.peer);
}

TEST_CASE("where TLS is required nothing but NOOP, EHLO, STARTTLS and QUIT is served before it") {
    dialogue(R"(
        S: 220
        C: HELO me
        S: 530 5.7.0
        C: NOOP
        S: 250
        C: EHLO me
        S: 250
        C: MAIL FROM:<a@b>
        S: 530 5.7.0
        C: RCPT TO:<a@b>
        S: 530 5.7.0
        C: DATA
        S: 530 5.7.0
        C: RSET
        S: 530 5.7.0
        C: VRFY a
        S: 530 5.7.0
        C: HELP
        S: 530 5.7.0
        C: BDAT 6 LAST
        c: QUIT\r\n
        S: 503 5.5.1
        C: QUIT
        S: 221
        S: EOF)",
             required());
    CHECK(dialogue_over_tls(mail + farewell, required()).mails.size() == 1);
}

TEST_CASE("TLS that is required needs a certificate") {
    Options o = brief();
    o.require_tls = true;
    CHECK_THROWS_AS(Server(Addresses{"127.0.0.1:0"}, o), std::invalid_argument);
    CHECK_THROWS_AS(Server(Addresses{"tls:127.0.0.1:0"}, brief()), std::invalid_argument);
}

TEST_CASE("where TLS comes first the greeting is inside") {
    Implicit running;
    auto wire = dial(running.server);
    wire.expect_silence();
    encrypt(wire);
    play(wire, "S: 220\n" + mail + "C: STARTTLS\nS: 503\n" + farewell);
}

TEST_CASE("a server has addresses with TLS from the start beside those without") {
    Server server(Addresses{"127.0.0.1:0", "tls:127.0.0.1:0"}, with_tls());
    REQUIRE(server.addresses().size() == 2);
    Background loop([&] { server.run([](Server::Client& c) { c.accept(); }); });
    auto plain = dial(server.addresses()[0]);
    play(plain, "S: 220\n" + mail + farewell);
    auto encrypted = dial(server.addresses()[1]);
    encrypt(encrypted);
    play(encrypted, "S: 220\n" + mail + farewell);
    server.stop();
}

TEST_CASE("who speaks plain text where TLS comes first hears nothing") {
    auto seen = std::make_shared<Handshakes>();
    Implicit running(with_tls(), watched(seen).listeners);
    auto wire = dial(running.server);
    wire.send("EHLO me\r\nMAIL FROM:<a@b>\r\n");
    while (!wire.receive().empty()) {
    }
    // An alert of TLS may come, which is no reply.
    CHECK(wire.heard().find("220") == std::string::npos);
    REQUIRE(seen->all().size() == 1);
}

TEST_CASE("a handshake that does not end is ended") {
    struct Case {
        const char* name;
        bool drips;
    };
    for (const auto& c : {Case{"silent", false}, Case{"dripping", true}}) {
        CAPTURE(c.name);
        auto seen = std::make_shared<Handshakes>();
        auto options = with_tls();
        options.handshake_timeout = 1s;
        Talk talk(watched(seen, options));
        talk.play(starttls);
        const auto began = Clock::now();
        // The beginning of a record that is announced as 16 KiB long.
        std::string record("\x16\x03\x01\x40\x00", 5);
        for (std::size_t i = 0; Clock::now() - began < patience; ++i) {
            if (c.drips) talk.wire.send(i < record.size() ? record.substr(i, 1) : "\x01");
            pollfd in{talk.wire.fd(), POLLIN, 0};
            if (poll(&in, 1, 100) > 0) break;
        }
        talk.wire.expect_end();
        CHECK(Clock::now() - began < patience);
        CHECK(talk.end().empty());
        REQUIRE(seen->all().size() == 1);
        CHECK(seen->all()[0] != "");
    }
}

TEST_CASE("a listener may refuse what was agreed on") {
    Setup setup;
    setup.options = with_tls();
    setup.listeners = [](Server& server) {
        server.on<Event::TLS>([](Event::TLS& e) {
            if (e.problem.empty()) e.reply = {554, "5.7.0", "Not with " + e.client.tls()->version};
        });
    };
    CHECK(dialogue_over_tls("S: 554 5.7.0 Not with TLSv1\nS: EOF", setup).mails.empty());
}

TEST_CASE("who is one too many where TLS comes first is not worth a handshake") {
    auto options = with_tls();
    options.max_connections = 1;
    Implicit running(options);
    auto first = dial(running.server);
    encrypt(first);
    first.expect("220");
    auto second = dial(running.server);
    second.expect_end();
    CHECK(second.heard().empty());
}

TEST_CASE("a connection that the program lets go before its handshake is only closed") {
    Server server(Addresses{"tls:127.0.0.1:0"}, with_tls());
    auto wire = dial(server);
    {
        Server::Client client(server.accept());
        client.reject({554, "5.7.1", "not you"});
    }
    wire.expect_end();
    CHECK(wire.heard().empty());
}

TEST_CASE("a refusal in place of the greeting is inside TLS") {
    Server server(Addresses{"tls:127.0.0.1:0"}, with_tls());
    auto wire = dial(server);
    Background session([&] {
        Server::Client client(server.accept());
        client.reject({554, "5.7.1", "not you"});
        while (client.process()) client.accept();
    });
    encrypt(wire);
    play(wire, "S: 554 5.7.1 not you\nS: EOF");
    session.join();
}

TEST_CASE("a sender over TLS who has gone is known to have gone") {
    std::atomic<bool> waits{false}, gone{false};
    Setup setup;
    setup.options = with_tls();
    setup.handler = [&](Server::Client& c) {
        waits = c.MSG.sender_present();
        for (int i = 0; i < 1000 && c.MSG.sender_present(); ++i) std::this_thread::sleep_for(10ms);
        gone = !c.MSG.sender_present();
        c.reject({450, "4.0.0", "too late"});
    };
    Talk talk(std::move(setup));
    talk.play(starttls);
    encrypt(talk.wire);
    talk.play("C: EHLO me\nS: 250\n" + envelope + "C: DATA\nS: 354\nC: text\nC: .\n");
    for (int i = 0; i < 1000 && !waits; ++i) std::this_thread::sleep_for(10ms);
    talk.end();
    CHECK(waits);
    CHECK(gone);
}

TEST_CASE("idle sessions over TLS are told when the server stops, and mails under way end first") {
    auto options = with_tls();
    Implicit running(options);
    auto idle = dial(running.server), busy = dial(running.server);
    encrypt(idle);
    idle.expect("220");
    encrypt(busy);
    play(busy, "S: 220\nC: EHLO me\nS: 250\n" + envelope + "C: DATA\nS: 354\n");
    running.server.stop();
    play(idle, "S: 421 4.3.2\nS: EOF");
    play(busy, "C: text\nC: .\nS: 250\nS: 421 4.3.2\nS: EOF");
}

TEST_CASE("a server that stops waits for a handshake that has begun no longer than its drain, for none that has not") {
    for (const bool begun : {true, false}) {
        CAPTURE(begun);
        auto seen = std::make_shared<Handshakes>();
        Server server(Addresses{"tls:127.0.0.1:0"}, with_tls());
        watched(seen).listeners(server);
        const auto drain = begun ? 1s : 600s;
        Background loop([&] { server.run([](Server::Client& c) { c.accept(); }, {.drain = drain}); });
        auto wire = dial(server);
        if (begun) wire.send("\x16\x03\x01");
        wire.expect_silence();
        server.stop();
        loop.join();
        CHECK(wire.receive().empty());
        CHECK(seen->all().size() == 1);
    }
}
