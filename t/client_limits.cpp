// client_limits -- every limit of a session: at it, one below, one above; and who pays for it.
#include "dialogue.hpp"

using namespace test;

namespace {

// A line of just so many octets with its CRLF, which NOOP does not mind.
std::string noop(std::size_t octets) { return "NOOP " + std::string(octets - 7, 'x') + "\r\n"; }

void greet(Talk& talk) { talk.play("S: 220\nC: EHLO me\nS: 250"); }

// A text of so many octets, the last two of them CRLF.
std::string text(std::size_t octets) {
    std::string out;
    while (out.size() + 80 < octets) out += std::string(70, 'x') + "\r\n";
    return out + std::string(octets - out.size() - 2, 'y') + "\r\n";
}

}  // namespace

TEST_CASE("a command line may be as long as the limit with its CRLF, and not longer") {
    for (const std::size_t limit : {512, 600, 2048}) {
        CAPTURE(limit);
        Setup setup;
        setup.options.max_command_line = limit;
        Talk talk(setup);
        greet(talk);
        talk.wire.send(noop(limit - 1));
        talk.wire.expect("250");
        talk.wire.send(noop(limit));
        talk.wire.expect("250");
        talk.wire.send(noop(limit + 1));
        talk.wire.expect("500 5.5.2");
        talk.play("C: NOOP\nS: 250\nC: QUIT\nS: 221\nS: EOF");
        talk.end();
    }
}

TEST_CASE("a limit for lines below 512 octets is 512") {
    Setup setup;
    setup.options.max_command_line = 10;
    Talk talk(setup);
    greet(talk);
    talk.wire.send(noop(512));
    talk.wire.expect("250");
    talk.wire.send(noop(513));
    talk.wire.expect("500");
    talk.end();
}

TEST_CASE("the tail of an over-long line is no command") {
    for (const std::size_t length : {2047, 2048, 2049, 4096, 65536, 1 << 20}) {
        CAPTURE(length);
        Talk talk;
        greet(talk);
        talk.wire.send(std::string(length, 'x') + "\nQUIT\n\rQUIT\r \nMAIL FROM:<a@b>\r\nNOOP\r\n");
        talk.wire.expect("500");
        talk.wire.expect("250");
        talk.play("C: RCPT TO:<c@d>\nS: 503\nC: QUIT\nS: 221\nS: EOF");
        talk.end();
    }
}

TEST_CASE("the CR of an over-long line may be the last octet that fits") {
    for (std::size_t length = 2040; length < 2056; ++length) {
        CAPTURE(length);
        Talk talk;
        greet(talk);
        talk.wire.send_alone("NOOP " + std::string(length - 5, 'x') + "\r");
        talk.wire.send_alone("\nNOOP\r\n");
        talk.wire.expect(length + 2 <= 2048 ? "250" : "500");
        talk.wire.expect("250");
        talk.play("C: QUIT\nS: 221\nS: EOF");
        talk.end();
    }
}

TEST_CASE("a recipient too many is 452, and the others are served") {
    for (const std::size_t limit : {1, 3, 100}) {
        Setup setup;
        setup.options.max_recipients = limit;
        Talk talk(setup);
        greet(talk);
        for (int mail = 0; mail < 2; ++mail) {
            talk.play("C: MAIL FROM:<a@b>\nS: 250");
            for (std::size_t i = 0; i < limit; ++i)
                CHECK(talk.wire.ask("RCPT TO:<c" + std::to_string(i) + "@d>") == 250);
            talk.play(
                "C: RCPT TO:<more@d>\nS: 452 4.5.3\nC: RCPT TO:<more@d>\nS: 452 4.5.3\nC: DATA\nS: 354\nC: x\nC: .\nS: "
                "250");
        }
        const auto& mails = talk.end();
        REQUIRE(mails.size() == 2);
        CHECK(mails[0].to.size() == limit);
        CHECK(mails[1].to.size() == limit);
    }
}

TEST_CASE("a refused recipient takes no place") {
    Setup setup;
    setup.options.max_recipients = 1;
    setup.options.max_errors = 0;
    dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<bad\nS: 501\nC: RCPT TO:<c@d> X=Y\nS: "
        "555\nC: RCPT TO:<c@d>\nS: 250\nC: RCPT TO:<e@f>\nS: 452",
        setup);
}

TEST_CASE("SIZE over the limit is refused at MAIL, and means nothing for the next one") {
    Setup setup;
    setup.options.max_message_size = 1000;
    dialogue(R"(
        S: 220
        C: EHLO me
        S: 250-mx.test
        S: 250-PIPELINING
        S: 250-SIZE 1000
        S: 250-8BITMIME
        S: 250-CHUNKING
        S: 250-ENHANCEDSTATUSCODES
        S: 250 HELP
        C: MAIL FROM:<a@b> SIZE=1001
        S: 552 5.3.4
        C: RCPT TO:<c@d>
        S: 503
        C: MAIL FROM:<a@b> SIZE=18446744073709551615
        S: 552 5.3.4
        C: MAIL FROM:<a@b> SIZE=1000
        S: 250
        C: RSET
        S: 250
        C: MAIL FROM:<a@b> SIZE=0
        S: 250
        C: RSET
        S: 250
        C: MAIL FROM:<a@b>
        S: 250
        C: QUIT
        S: 221
    )",
             setup);
}

TEST_CASE("a message over the limit is refused at its end, and the session goes on") {
    for (const std::size_t limit : {100, 4096, 100'000}) {
        CAPTURE(limit);
        Setup setup;
        setup.options.max_message_size = limit;
        setup.options.spool_above = 10'000;
        Talk talk(setup);
        greet(talk);
        for (const bool chunked : {false, true}) {
            for (const std::size_t size : {limit - 1, limit, limit + 1, 3 * limit}) {
                CAPTURE(size);
                talk.play("C: MAIL FROM:<a@b> SIZE=10\nS: 250\nC: RCPT TO:<c@d>\nS: 250");  // a lie
                if (chunked) {
                    talk.wire.send("BDAT " + std::to_string(size) + " LAST\r\n" + text(size));
                } else {
                    talk.play("C: DATA\nS: 354");
                    talk.wire.send(text(size) + ".\r\n");
                }
                talk.wire.expect(size > limit ? "552 5.3.4" : "250");
                talk.play("C: RCPT TO:<late@d>\nS: 503");
            }
        }
        talk.play("C: QUIT\nS: 221\nS: EOF");
        const auto& mails = talk.end();
        REQUIRE(mails.size() == 4);
        for (const auto& m : mails) CHECK(m.text == text(m.text.size()));
    }
}

TEST_CASE("the dots that were doubled do not count for the size") {
    Setup setup;
    setup.options.max_message_size = 6;
    const auto played = dialogue(
        std::string(opening) +
            "C: DATA\nS: 354\nC: ....\nC: ..\nC: .\nS: 552\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n"
            "C: DATA\nS: 354\nC: ..\nC: ..\nC: .\nS: 250",
        setup);
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].text == ".\r\n.\r\n");
}

TEST_CASE("without a limit EHLO says SIZE alone") {
    Setup setup;
    setup.options.max_message_size = 0;
    Talk talk(setup);
    talk.play("S: 220\nC: EHLO me");
    CHECK(talk.wire.reply().find("\n250-SIZE\n") != std::string::npos);
    talk.play("C: MAIL FROM:<a@b> SIZE=18446744073709551615\nS: 250\nC: QUIT\nS: 221");
    talk.end();
}

TEST_CASE("what comes of a refused body is thrown away, but not for ever") {
    for (const std::string command : {"DATA", "BDAT 9999999"}) {
        CAPTURE(command);
        Setup setup;
        setup.options.max_message_size = 1000;
        setup.options.drain = 100'000;
        Talk talk(setup);
        talk.play(opening);
        talk.wire.say(command);
        const bool data = std::string(command) == "DATA";
        if (data) talk.wire.expect("354");
        const auto block = text(50'000);
        for (int i = 0; i < 100 && talk.wire.send(block); ++i) {
        }
        // An orderly end: the refusal is heard before it, not a reset.
        talk.wire.expect("552 5.3.4");
        talk.wire.expect_end();
        CHECK(talk.end().empty());
    }
}

TEST_CASE("one command too many ends the session") {
    Setup setup;
    setup.options.max_commands = 4;
    dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: NOOP\nS: 250\nC: NOOP\nS: 250\nC: NOOP\nS: 250\nC: NOOP\nS: 421 4.7.0\nS: EOF",
        setup);
    dialogue("S: 220\nC: EHLO me\nC: NOOP\nC: NOOP\nC: QUIT\nS: 250\nS: 250\nS: 250\nS: 221\nS: EOF", setup);
    setup.options.max_commands = 0;
    Talk talk(setup);
    greet(talk);
    for (int i = 0; i < 1000; ++i) CHECK(talk.wire.ask("NOOP") == 250);
    talk.end();
}

TEST_CASE("one error too many ends the session, with one reply to the last command") {
    for (const std::string error : {"FOO", "MAIL", "DATA", "EXPN", ""}) {
        CAPTURE(error);
        Setup setup;
        setup.options.max_errors = 3;
        Talk talk(setup);
        talk.play("S: 220");
        for (int i = 0; i < 3; ++i) CHECK(talk.wire.ask(error) >= 500);
        talk.play("C: NOOP\nS: 250");
        talk.wire.say(error);
        talk.wire.expect("421 4.7.0");
        talk.wire.expect_end();
        talk.end();
    }
}

TEST_CASE("ten errors are allowed by default, and none count when there is no limit") {
    Setup setup;
    CHECK(setup.options.max_errors == 10);
    Talk talk(setup);
    talk.play("S: 220");
    for (int i = 0; i < 10; ++i) CHECK(talk.wire.ask("FOO") == 500);
    CHECK(talk.wire.ask("FOO") == 421);
    talk.end();
    setup.options.max_errors = 0;
    Talk patient(setup);
    patient.play("S: 220");
    for (int i = 0; i < 100; ++i) CHECK(patient.wire.ask("FOO") == 500);
    patient.end();
}

TEST_CASE("refusals that are no mistakes of the client do not count as errors") {
    Setup setup;
    setup.options.max_errors = 1;
    setup.options.max_message_size = 100;
    setup.listeners = [](Server& s) { s.on<Event::Rcpt>([](Event::Rcpt& e) { e.reply = {550, "5.1.1", "no"}; }); };
    Talk talk(setup);
    greet(talk);
    for (int i = 0; i < 5; ++i) CHECK(talk.wire.ask("MAIL FROM:<a@b> SIZE=1000") == 552);
    CHECK(talk.wire.ask("MAIL FROM:<a@b>") == 250);
    for (int i = 0; i < 5; ++i) CHECK(talk.wire.ask("RCPT TO:<c@d>") == 550);
    talk.play("C: QUIT\nS: 221");
    talk.end();
}

TEST_CASE("bad options are named") {
    auto refused = [](auto change) {
        Options o;
        change(o);
        try {
            Server server({"127.0.0.1:0"}, o);
        } catch (const std::invalid_argument& e) {
            return std::string(e.what());
        }
        return std::string();
    };
    CHECK(refused([](Options&) {}) == "");
    CHECK(refused([](Options& o) { o.hostname = "a b"; }).find("hostname") != std::string::npos);
    CHECK(refused([](Options& o) { o.hostname = "a\r\nb"; }).find("hostname") != std::string::npos);
    CHECK(refused([](Options& o) { o.greeting = "a\r\nb"; }).find("greeting") != std::string::npos);
    CHECK(refused([](Options& o) { o.command_timeout = 0s; }).find("timeout") != std::string::npos);
    CHECK(refused([](Options& o) { o.block_timeout = -1s; }).find("timeout") != std::string::npos);
    CHECK(refused([](Options& o) { o.session_timeout = -1s; }).find("timeout") != std::string::npos);
    CHECK(refused([](Options& o) { o.spool_dir = ""; }).find("spool_dir") != std::string::npos);
    CHECK(refused([](Options& o) { o.max_command_line = 1 << 30; }).find("max_command_line") != std::string::npos);
    CHECK(refused([](Options& o) { o.offer.binary_mime = true, o.offer.chunking = false; }).find("binary_mime") !=
          std::string::npos);
}

TEST_CASE("a time that no clock can hold is either named or means for ever") {
    Setup setup;
    setup.options.command_timeout = setup.options.block_timeout = setup.options.data_timeout =
        setup.options.session_timeout = Options::seconds::max();
    try {
        setup.options.check();
    } catch (const std::invalid_argument&) {
        return;
    }
    CHECK(dialogue(std::string(opening) + "C: DATA\nS: 354\nC: x\nC: .\nS: 250\nC: QUIT\nS: 221", setup).mails.size() ==
          1);
}

// ---- connections ----

namespace {

// A server whose sessions run in threads of the test's own, as a program's own loop would.
struct Loop {
    explicit Loop(Options o) : server({"127.0.0.1:0"}, o) {
        accepting = Background([this] {
            while (auto connection = server.accept()) {
                auto owned = std::make_shared<Connection>(std::move(connection));
                sessions.emplace_back([owned] {
                    Server::Client client(std::move(*owned));
                    while (client.process()) client.accept();
                });
            }
        });
    }
    ~Loop() { server.close(); }
    Server server;
    std::vector<Background> sessions;
    Background accepting;
};

// Places are given back when a session's thread has got that far; its client can't see when.
bool soon_welcome(const Server& server) {
    for (const auto end = Clock::now() + patience; Clock::now() < end; std::this_thread::sleep_for(5ms)) {
        auto wire = dial(server);
        if (wire.reply().starts_with("220")) return true;
    }
    return false;
}

}  // namespace

TEST_CASE("a connection too many hears 421, the others do not notice") {
    for (const bool per_ip : {false, true}) {
        CAPTURE(per_ip);
        auto o = brief();
        (per_ip ? o.max_connections_per_ip : o.max_connections) = 2;
        Loop loop(o);
        auto one = dial(loop.server), two = dial(loop.server);
        one.expect("220");
        two.expect("220");
        auto three = dial(loop.server);
        three.expect("421 4.7.0");
        three.expect_end();
        three.close();
        CHECK(one.ask("NOOP") == 250);
        CHECK(two.ask("NOOP") == 250);
        CHECK(two.ask("QUIT") == 221);
        two.expect_end();
        CHECK(soon_welcome(loop.server));
        CHECK(one.ask("NOOP") == 250);
    }
}

TEST_CASE("who was turned away takes nobody's place while he lingers") {
    for (const bool per_ip : {false, true}) {
        CAPTURE(per_ip);
        auto o = brief();
        (per_ip ? o.max_connections_per_ip : o.max_connections) = 1;
        Loop loop(o);
        auto one = dial(loop.server);
        one.expect("220");
        auto lingering = dial(loop.server);
        lingering.expect("421");
        CHECK(one.ask("QUIT") == 221);
        one.expect_end();
        one.close();
        // The first one's thread has to end; the lingering one stays for two seconds.
        const auto end = Clock::now() + 1s;
        bool welcome = false;
        while (!welcome && Clock::now() < end) {
            auto next = dial(loop.server);
            welcome = next.reply().starts_with("220");
            if (!welcome) std::this_thread::sleep_for(20ms);
        }
        CHECK(welcome);
    }
}

TEST_CASE("who is turned away in a hurry hears 421 all the same, and nobody waits for him") {
    auto o = brief();
    o.max_connections = 1;
    Loop loop(o);
    auto one = dial(loop.server);
    one.expect("220");
    std::vector<Wire> flood;
    for (int i = 0; i < 200; ++i) {
        flood.push_back(dial(loop.server));
        if (i % 2) flood.back().send("EHLO me\r\nNOOP\r\n");
    }
    for (auto& wire : flood) {
        wire.expect("421 4.7.0");
        wire.expect_end();
    }
    CHECK(one.ask("NOOP") == 250);
}
