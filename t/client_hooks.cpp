// client_hooks -- listeners look, change, refuse and fail; what they say reaches the client as one reply, and never
// their secrets.
#include "dialogue.hpp"

using namespace test;

namespace {

// A transaction up to the reply that a hook on `Kind` is asked about.
template <class Kind>
std::string until();
template <>
std::string until<Event::Connect>() {
    return "";
}
template <>
std::string until<Event::Helo>() {
    return "S: 220\nC: EHLO me\n";
}
template <>
std::string until<Event::Mail>() {
    return "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\n";
}
template <>
std::string until<Event::Rcpt>() {
    return "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\n";
}
template <>
std::string until<Event::Data>() {
    return std::string(opening) + "C: DATA\n";
}

template <class Kind, class Hook>
Setup hooked(Hook hook) {
    Setup setup;
    setup.listeners = [hook](Server& s) { s.on<Kind>([hook](Kind& e) { hook(e); }); };
    return setup;
}

}  // namespace

TEST_CASE_TEMPLATE("a hook may refuse by its reply, by Reject, by Hangup, or by accident", Kind, Event::Connect,
                   Event::Helo, Event::Mail, Event::Rcpt, Event::Data) {
    const auto script = until<Kind>();
    const bool connect = script.empty();
    const std::string goes_on = connect ? "S: EOF" : "C: NOOP\nS: 250\nC: QUIT\nS: 221\nS: EOF";
    const Reply no{550, "5.7.1", "No"};

    auto played = dialogue(script + "S: 550 5.7.1 No\n" + goes_on, hooked<Kind>([no](Kind& e) { e.reply = no; }));
    CHECK(played.mails.empty());
    played = dialogue(script + "S: 550 5.7.1 No\n" + goes_on, hooked<Kind>([no](Kind&) { throw Reject(no); }));
    CHECK(played.troubles.empty());
    dialogue(script + "S: 450 4.7.1 Later\n" + goes_on, hooked<Kind>([](Kind&) {
                 throw Reject({450, "4.7.1", "Later"});
             }));
    dialogue(script + "S: 550 5.7.1 No\nS: EOF", hooked<Kind>([no](Kind&) { throw Hangup(no); }));
    played = dialogue(script + "S: 451 4.3.0\n" + goes_on,
                      hooked<Kind>([](Kind&) { throw std::runtime_error("the password is secret"); }));
    CHECK(played.heard.find("secret") == std::string::npos);
    REQUIRE(played.troubles.size() == 1);
    CHECK(played.troubles[0].find("the password is secret") != std::string::npos);
    played = dialogue(script + "S: 451 4.3.0\n" + goes_on, hooked<Kind>([](Kind&) { throw 5; }));
    CHECK(played.troubles.size() == 1);
}

TEST_CASE_TEMPLATE("no hook can put more than one reply on the wire", Kind, Event::Connect, Event::Helo, Event::Mail,
                   Event::Rcpt, Event::Data) {
    const auto script = until<Kind>();
    const std::string goes_on = script.empty() ? "S: EOF" : "C: NOOP\nS: 250 2.0.0 OK\nC: QUIT\nS: 221\nS: EOF";
    using namespace std::string_literals;
    for (const auto& text : {"x\r\n250 fake"s, "x\n250 fake\n"s, "x\r250 fake\r"s, "x\0y"s, std::string(3000, 'x'),
                             std::string(3000, '\n'), "\x1b[2J"s}) {
        dialogue(script + "S: 550 5.7.1\n" + goes_on, hooked<Kind>([text](Kind& e) {
                     e.reply = {550, "5.7.1", text};
                 }));
    }
    dialogue(script + "S: 550\n" + goes_on, hooked<Kind>([](Kind& e) { e.reply = {550, "5.7.1\r\n250 fake", "No"}; }));
    for (const int code : {0, -1, 99, 600, 2500}) {
        CAPTURE(code);
        dialogue(script + "S: 4\n", hooked<Kind>([code](Kind& e) { e.reply = {code, "", "odd"}; }));
    }
}

TEST_CASE("listeners are called in the order they came, and each may have the last word") {
    std::vector<int> calls;
    Setup setup;
    setup.listeners = [&](Server& s) {
        s.on<Event::Rcpt>([&](Event::Rcpt& e) {
            calls.push_back(1);
            e.reply = {550, "5.1.1", "first"};
        });
        s.on<Event::Rcpt>([&](Event::Rcpt& e) {
            calls.push_back(2);
            CHECK(e.reply.text == "first");
            throw Reject({551, "5.1.6", "second"});
        });
        s.on<Event::Rcpt>([&](Event::Rcpt& e) {
            calls.push_back(3);
            CHECK(e.reply.text == "second");
        });
    };
    dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 551 5.1.6 second\nC: QUIT\nS: "
        "221",
        setup);
    CHECK(calls == std::vector{1, 2, 3});
}

TEST_CASE("hooks see what was parsed, and may change it") {
    Setup setup;
    setup.listeners = [](Server& s) {
        s.on<Event::Connect>([](Event::Connect& e) {
            CHECK(e.client.peer().host == "127.0.0.1");
            CHECK(e.client.peer().port > 0);
            CHECK(e.client.local().port > 0);
            e.reply.text = "mx.test at your service";
        });
        s.on<Event::Helo>([](Event::Helo& e) {
            CHECK(e.helo == "me");
            e.offer.chunking = false;
            e.offer.eight_bit_mime = false;
        });
        s.on<Event::Mail>([](Event::Mail& e) {
            CHECK(e.client.helo() == "me");
            CHECK(e.client.esmtp());
            CHECK(!e.client.offered().chunking);
            CHECK(e.sender.str() == "a@b");
            CHECK(e.client.FROM.unset());
            e.sender.local = "changed";
            e.reply.text = "Fine";
        });
        s.on<Event::Rcpt>([](Event::Rcpt& e) {
            CHECK(e.client.FROM.local == "changed");
            e.recipient.domain = "elsewhere";
        });
    };
    const auto played = dialogue(R"(
        S: 220 mx.test at your service
        C: EHLO me
        S: 250-mx.test
        S: 250-PIPELINING
        S: 250-SIZE
        S: 250-ENHANCEDSTATUSCODES
        S: 250 HELP
        C: MAIL FROM:<a@b> BODY=8BITMIME
        S: 555
        C: MAIL FROM:<a@b>
        S: 250 2.1.0 Fine
        C: RCPT TO:<c@d>
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250
        C: QUIT
        S: 221
    )",
                                 setup);
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].from.str() == "changed@b");
    CHECK(played.mails[0].to[0].str() == "c@elsewhere");
}

TEST_CASE("a session that is not offered status codes hears none") {
    dialogue("S: 220\nC: EHLO me\nS: 250\nC: NOOP\nS: 250 OK\nC: QUIT\nS: 221 mx.test",
             hooked<Event::Helo>([](Event::Helo& e) { e.offer.enhanced_status_codes = false; }));
}

TEST_CASE("what a hook refused leaves nothing in the transaction") {
    Setup setup;
    setup.listeners = [](Server& s) {
        s.on<Event::Mail>([](Event::Mail& e) {
            if (e.sender.local == "bad") e.reply = {550, "5.7.1", "No"};
        });
        s.on<Event::Rcpt>([](Event::Rcpt& e) {
            if (e.recipient.local == "bad") throw Reject({550, "5.1.1", "No"});
        });
    };
    const auto played = dialogue(R"(
        S: 220
        C: EHLO me
        S: 250
        C: MAIL FROM:<bad@b>
        S: 550
        C: RCPT TO:<c@d>
        S: 503
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<bad@d>
        S: 550
        C: DATA
        S: 503
        C: RCPT TO:<c@d>
        S: 250
        C: RCPT TO:<bad@d>
        S: 550
        C: DATA
        S: 354
        C: .
        S: 250
        C: QUIT
        S: 221
    )",
                                 setup);
    REQUIRE(played.mails.size() == 1);
    REQUIRE(played.mails[0].to.size() == 1);
    CHECK(played.mails[0].to[0].str() == "c@d");
}

TEST_CASE("baggage of a transaction is found in its message, and only there") {
    std::vector<std::string> found;
    Setup setup;
    setup.listeners = [](Server& s) {
        s.on<Event::Mail>([](Event::Mail& e) {
            CHECK(!e.client.baggage().has_value());
            e.client.baggage() = e.sender.local;
        });
    };
    setup.handler = [&](Server::Client& c) {
        found.push_back(std::any_cast<std::string>(c.MSG.baggage()));
        c.accept();
    };
    const std::string rest = "S: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\n";
    dialogue("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<one@x>\n" + rest +
                 "C: MAIL FROM:<two@x>\nS: 250\nC: RSET\nS: 250\nC: MAIL FROM:<three@x>\n" + rest,
             setup);
    CHECK(found == std::vector<std::string>{"one", "three"});
}

TEST_CASE("a hook that throws in trouble does not make it worse") {
    Setup setup;
    setup.listeners = [](Server& s) {
        s.on<Event::Mail>([](Event::Mail&) { throw std::runtime_error("one"); });
        s.on<Event::Trouble>([](Event::Trouble&) { throw std::runtime_error("two"); });
    };
    dialogue("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 451\nC: NOOP\nS: 250\nC: QUIT\nS: 221", setup);
}

// ---- refusing before the greeting ----

TEST_CASE("reject() before the first process() is heard in place of the greeting") {
    for (const bool process : {true, false}) {
        CAPTURE(process);
        Talk talk({.program = [process](Server::Client& c) {
            c.reject({554, "5.7.1", "No service for you"});
            if (!process) return;  // then the end of the scope says it
            CHECK(!c.process());
            CHECK(c.closed());
            CHECK_THROWS_AS(c.process(), std::logic_error);
        }});
        talk.play("S: 554 5.7.1 No service for you\nS: EOF");
        talk.end();
    }
}

TEST_CASE("a verdict that is none is a mistake of the program, before and after the greeting") {
    Talk talk({.program = [](Server::Client& c) {
        CHECK_THROWS_AS(c.reject({250, "2.0.0", "yes"}), std::invalid_argument);
        CHECK_THROWS_AS(c.reject({600, "", "?"}), std::invalid_argument);
        CHECK_THROWS_AS(c.accept(), std::logic_error);
        REQUIRE(c.process());
        CHECK_THROWS_AS(c.reject({354, "", "?"}), std::invalid_argument);
        CHECK_THROWS_AS(c.accept({550, "5.0.0", "no"}), std::invalid_argument);
        CHECK_THROWS_AS(c.accept({354, "", "?"}), std::invalid_argument);
        CHECK_THROWS_AS(Reject({250, "", ""}), std::invalid_argument);
        c.accept({250, "2.6.0", "mine\r\n550 not"});
        CHECK(!c.process());
    }});
    talk.play(std::string(opening) + "C: DATA\nS: 354\nC: .\nS: 250 2.6.0 mine\nC: QUIT\nS: 221\nS: EOF");
    talk.end();
}

TEST_CASE("any connected descriptor makes a Client, and nothing else does") {
    const auto [ours, theirs] = socket_pair();
    Wire wire(ours);
    Background session([fd = theirs] {
        Server::Client client(fd, brief());
        CHECK(!client.process());
    });
    play(wire, "S: 220 mx.test ESMTP\nC: QUIT\nS: 221\nS: EOF");
    session.join();
    CHECK_THROWS_AS(Server::Client{-1}, std::system_error);
    Connection none;
    CHECK_THROWS_AS(Server::Client{std::move(none)}, std::invalid_argument);
    const int unconnected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_THROWS_AS(Server::Client(unconnected, Options()), std::system_error);
    CHECK(fcntl(unconnected, F_GETFD) < 0);  // it was ours to close
}
