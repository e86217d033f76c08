// client_lmtp -- LMTP (RFC 2033): LHLO in place of HELO and EHLO, and after the text a reply for each recipient.
#include <netinet/in.h>

#include "dialogue.hpp"
#include "next_hop.hpp"

using namespace test;

namespace {

Setup lmtp(std::function<void(Server::Client&)> handler = [](Server::Client& c) { c.accept(); }) {
    Setup setup;
    setup.options.protocol = Protocol::lmtp;
    setup.handler = std::move(handler);
    return setup;
}

// The same from a server with these listeners.
Setup heeding(std::function<void(Server&)> listeners, Setup setup = lmtp()) {
    setup.listeners = std::move(listeners);
    return setup;
}

const std::string hello = "S: 220\nC: LHLO me\nS: 250\n";
const std::string farewell = "C: NOOP\nS: 250 2.0.0\nC: QUIT\nS: 221 2.0.0\nS: EOF\n";

// From MAIL to the last RCPT.
std::string envelope(std::initializer_list<const char*> names = {"one", "two", "three"}) {
    std::string script = "C: MAIL FROM:<a@b>\nS: 250 2.1.0\n";
    for (const std::string name : names) script += "C: RCPT TO:<" + name + "@d>\nS: 250 2.1.5\n";
    return script;
}

const std::string text = "C: DATA\nS: 354\nC: x\nC: .\n";
const std::string three = hello + envelope() + text;

std::string replies(const std::vector<std::string>& all) {
    std::string script;
    for (const auto& r : all) script += "S: " + r + '\n';
    return script;
}

// What the sender of a mail for three hears when the program does that with it, and then the session goes on.
Played heard(const std::vector<std::string>& expected, Setup setup) {
    return dialogue(three + replies(expected) + farewell, std::move(setup));
}
Played heard(const std::vector<std::string>& expected, std::function<void(Server::Client&)> handler) {
    return heard(expected, lmtp(std::move(handler)));
}
// The same when it ends after the replies.
void heard_last(const std::vector<std::string>& expected, std::function<void(Server::Client&)> handler) {
    dialogue(three + replies(expected) + "S: EOF", lmtp(std::move(handler)));
}

const Reply later{450, "4.2.0", "later"}, never{550, "5.1.1", "never"}, taken{250, "2.6.0", "mine"};
const Reply closing{421, "4.3.2", "going down"};

// A server in its own loop.
struct Running {
    Running(Server::Handler handler, Server::Mode mode) : server(Addresses{"127.0.0.1:0"}, lmtp().options) {
        server.on<Event::Trouble>([this](Event::Trouble& e) {
            std::lock_guard lock(mutex);
            troubles.push_back(e.what);
        });
        thread = Background([this, handler, mode] { server.run(handler, {.mode = mode}); });
    }
    ~Running() { server.stop(); }
    std::size_t count() {
        std::lock_guard lock(mutex);
        return troubles.size();
    }
    Server server;
    std::mutex mutex;
    std::vector<std::string> troubles;
    Background thread;
};

}  // namespace

// ---- LHLO ----

TEST_CASE("LHLO does what EHLO does, and is not SMTP") {
    const auto played = dialogue(R"(
        S: 220 mx.test LMTP
        C: HELO me
        S: 500 5.5.1
        C: EHLO me
        S: 500 5.5.1
        C: MAIL FROM:<a@b>
        S: 503 5.5.1 LHLO first
        C: LHLO
        S: 501 5.5.4 Syntax: LHLO hostname
        C: lhlo me.test
        S: 250-mx.test
        S: 250-PIPELINING
        S: 250-SIZE 67108864
        S: 250-8BITMIME
        S: 250-CHUNKING
        S: 250-ENHANCEDSTATUSCODES
        S: 250 HELP
        C: HELO me
        S: 500 5.5.1
        C: EHLO me
        S: 500 5.5.1
        C: HELP
        S: 214 2.0.0 Commands: LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT
        C: MAIL FROM:<a@b>
        S: 250 2.1.0
        C: RCPT TO:<c@d>
        S: 250 2.1.5
        C: DATA
        S: 354
        C: x
        C: .
        S: 250 2.0.0
        C: QUIT
        S: 221 2.0.0
        S: EOF
    )",
                                 lmtp([](Server::Client& c) {
                                     CHECK(c.esmtp());
                                     CHECK(c.helo() == "me.test");
                                     CHECK(c.options().protocol == Protocol::lmtp);
                                     c.accept();
                                 }));
    CHECK(played.mails.size() == 1);
}

TEST_CASE("an SMTP server knows no LHLO and does not list it") {
    const auto played = dialogue(R"(
        S: 220 mx.test ESMTP
        C: LHLO me
        S: 500 5.5.1
        C: EHLO me
        S: 250
        C: LHLO me
        S: 500 5.5.1
        C: HELP
        S: 214
        C: QUIT
        S: 221
        S: EOF
    )");
    CHECK(played.heard.find("LHLO") == std::string::npos);
    CHECK(played.heard.find("LMTP") == std::string::npos);
    CHECK(played.heard.find("Commands: HELO EHLO MAIL") != std::string::npos);
    CHECK(Command::parse("lhlo me").verb == Verb::LHLO);
    CHECK(name(Verb::LHLO) == "LHLO");
}

TEST_CASE("a greeting of the program's own is said by LMTP too, and none is none") {
    for (const std::string greeting : {"mail box LMTP ready", "", "ESMTP?"}) {
        CAPTURE(greeting);
        auto setup = lmtp();
        setup.options.greeting = greeting;
        Talk talk(setup);
        CHECK(talk.wire.line() == "220 mx.test" + (greeting.empty() ? "" : ' ' + greeting));
        talk.end();
    }
}

TEST_CASE("PIPELINING and ENHANCEDSTATUSCODES are offered by LMTP whatever the program thinks") {
    const auto check = [](Setup setup) {
        Talk talk(setup);
        talk.wire.expect("220");
        talk.play("C: NOOP\nS: 250 2.0.0\nC: LHLO me");
        const auto reply = talk.wire.reply();
        CAPTURE(reply);
        CHECK(reply.find("-PIPELINING\n") != reply.npos);
        CHECK(reply.find("-ENHANCEDSTATUSCODES\n") != reply.npos);
        CHECK(reply.find("8BITMIME") == reply.npos);
        talk.play("C: NOOP\nS: 250 2.0.0\nC: QUIT\nS: 221 2.0.0\nS: EOF");
        talk.end();
    };
    auto setup = lmtp();
    setup.options.offer = {false, false, false, false, false, false, false, false};
    check(setup);
    check(heeding([](Server& s) {
        s.on<Event::Helo>([](Event::Helo& e) { e.offer = {false, false, false, false, false, false, false, false}; });
    }));
}

TEST_CASE("a second LHLO throws the transaction away, a refused one does not") {
    const auto setup = heeding([](Server& s) {
        s.on<Event::Helo>([](Event::Helo& e) {
            if (e.helo == "stranger") e.reply = {550, "5.7.1", "Not you"};
        });
    });
    dialogue(hello + envelope() + "C: LHLO me\nS: 250\nC: DATA\nS: 503 5.5.1\n" + envelope({"four"}) + text +
                 "S: 250\n" + farewell,
             setup);
    dialogue(hello + envelope() + "C: LHLO stranger\nS: 550\n" + text + "S: 250\nS: 250\nS: 250\n" + farewell, setup);
}

// ---- a reply for each recipient ----

TEST_CASE("after the final dot there is one reply for each successful RCPT, however the octets come") {
    for (const auto pace : {Pace::groups, Pace::octets, Pace::pieces, Pace::at_once}) {
        CAPTURE(int(pace));
        auto setup = lmtp([](Server::Client& c) {
            for (const auto& to : c.TO) c.accept(to, {250, "2.0.0", "for " + to.local});
        });
        setup.pace = pace;
        // The example of RFC 2033 4.2, and what it does not show: a recipient named twice, and a second mail.
        const auto played = dialogue(R"(
            S: 220
            C: LHLO foo.edu
            S: 250
            C: MAIL FROM:<chris@bar.com>
            C: RCPT TO:<pat@foo.edu>
            C: RCPT TO:<jones
            C: RCPT TO:<green@foo.edu>
            C: RCPT TO:<pat@foo.edu>
            C: DATA
            S: 250 2.1.0
            S: 250 2.1.5
            S: 501
            S: 250 2.1.5
            S: 250 2.1.5
            S: 354
            C: Blah blah blah...
            C: ..
            C: etc. etc. etc.
            C: .
            C: MAIL FROM:<>
            C: RCPT TO:<only@foo.edu>
            C: DATA
            S: 250 2.0.0 for pat
            S: 250 2.0.0 for green
            S: 250 2.0.0 for pat
            S: 250 2.1.0
            S: 250 2.1.5
            S: 354
            C: .
            C: QUIT
            S: 250 2.0.0 for only
            S: 221
            S: EOF
        )",
                                     setup);
        REQUIRE(played.mails.size() == 2);
        CHECK(played.mails[0].text == "Blah blah blah...\r\n.\r\netc. etc. etc.\r\n");
        CHECK(played.mails[0].to.size() == 3);
        CHECK(played.mails[1].to.size() == 1);
    }
}

TEST_CASE("of a recipient named twice each place has its own verdict") {
    dialogue(hello + envelope({"one", "one", "one"}) + text + "S: 250 2.6.0\nS: 550 5.1.1\nS: 451 4.3.0\n" + farewell,
             lmtp([](Server::Client& c) {
                 c.accept(c.TO[0], taken);
                 c.reject(c.TO[1], never);
             }));
}

TEST_CASE("without a successful RCPT there is no text, and one reply") {
    const auto setup = heeding([](Server& s) {
        s.on<Event::Rcpt>([](Event::Rcpt& e) { e.reply = {550, "5.1.1", "Nobody of that name"}; });
    });
    CHECK(dialogue(hello + R"(
        C: DATA
        S: 503 5.5.1
        C: MAIL FROM:<a@b>
        C: RCPT TO:<one@d>
        C: RCPT TO:<two@d>
        C: DATA
        S: 250
        S: 550 5.1.1
        S: 550 5.1.1
        S: 503 5.5.1
        C: BDAT 3
        c: abc
        S: 503 5.5.1
        C: BDAT 6 LAST
        c: QUIT\r\n
        S: 503 5.5.1
    )" + farewell,
                   setup)
              .mails.empty());
}

TEST_CASE("DATA refused before the text is one reply, whatever the number of recipients") {
    const auto played = dialogue(hello + envelope() + "C: DATA\nS: 554 5.7.1 Not now\nC: DATA now\nS: 501\n" + farewell,
                                 heeding([](Server& s) {
                                     s.on<Event::Data>([](Event::Data& e) { e.reply = {554, "5.7.1", "Not now"}; });
                                 }));
    CHECK(played.mails.empty());
    auto setup = lmtp();
    setup.options.memory = 0;
    dialogue(hello + envelope() + "C: DATA\nS: 452 4.3.1\n" + farewell, setup);
    setup = lmtp();
    setup.options.offer.binary_mime = true;
    dialogue(hello +
                 "C: MAIL FROM:<a@b> BODY=BINARYMIME\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: RCPT TO:<e@f>\nS: 250\n"
                 "C: DATA\nS: 503 5.5.1\nC: BDAT 1 LAST\nc: x\nS: 250\nS: 250\n" +
                 farewell,
             setup);
}

TEST_CASE("only the last chunk is answered for each recipient") {
    for (const auto pace : {Pace::groups, Pace::octets, Pace::at_once}) {
        CAPTURE(int(pace));
        auto setup = lmtp([](Server::Client& c) { c.reject(c.TO[1], never), c.accept(); });
        setup.pace = pace;
        const auto played = dialogue(hello + R"(
            C: MAIL FROM:<a@b>
            C: RCPT TO:<one@d>
            C: RCPT TO:<two@d>
            C: BDAT 6 LAST
            c: abc\r\n.
            C: MAIL FROM:<a@b>
            C: RCPT TO:<one@d>
            C: RCPT TO:<two@d>
            C: BDAT 3
            c: abc
            C: BDAT 4
            c: def\r
            C: BDAT 1 LAST
            c: \n
            C: MAIL FROM:<a@b>
            C: RCPT TO:<one@d>
            C: RCPT TO:<two@d>
            C: BDAT 5
            c: x\r\ny.
            C: BDAT 0 LAST
            C: QUIT
            S: 250 2.1.0
            S: 250 2.1.5
            S: 250 2.1.5
            S: 250 2.0.0 OK
            S: 550 5.1.1
            S: 250 2.1.0
            S: 250 2.1.5
            S: 250 2.1.5
            S: 250 2.0.0 3 octets
            S: 250 2.0.0 4 octets
            S: 250 2.0.0 OK
            S: 550 5.1.1
            S: 250 2.1.0
            S: 250 2.1.5
            S: 250 2.1.5
            S: 250 2.0.0 5 octets
            S: 250 2.0.0 OK
            S: 550 5.1.1
            S: 221
            S: EOF
        )",
                                     setup);
        REQUIRE(played.mails.size() == 3);
        CHECK(played.mails[0].text == "abc\r\n.");
        CHECK(played.mails[1].text == "abcdef\r\n");
        CHECK(played.mails[2].text == "x\r\ny.");
    }
}

TEST_CASE("RSET forgets the recipients, and the next mail has its own") {
    const auto played = dialogue(hello + envelope() + "C: RSET\nS: 250 2.0.0\nC: DATA\nS: 503 5.5.1\n" +
                                     envelope({"four"}) + "C: BDAT 3\nc: abc\nS: 250\nC: RSET\nS: 250\n" +
                                     envelope({"five", "six"}) + text + "S: 250\nS: 250\n" + envelope() + text +
                                     "S: 250\nS: 250\nS: 250\n" + envelope({"seven"}) + text + "S: 250\n" + farewell,
                                 lmtp());
    REQUIRE(played.mails.size() == 3);
    CHECK(played.mails[0].to.size() == 2);
    CHECK(played.mails[1].to.size() == 3);
    CHECK(played.mails[2].to.size() == 1);
}

TEST_CASE("recipients over the limit are none") {
    auto setup = lmtp();
    setup.options.max_recipients = 2;
    dialogue(hello + envelope({"one", "two"}) + "C: RCPT TO:<three@d>\nS: 452 4.5.3\n" + text + "S: 250\nS: 250\n" +
                 farewell,
             setup);
}

// ---- verdicts ----

TEST_CASE("each recipient hears what was said about him, and 451 if nobody spoke") {
    const std::string nobody = "451 4.3.0 Nobody took the message";
    heard({nobody, nobody, nobody}, nothing);
    heard({"250 2.6.0 mine", "250 2.6.0 mine", "250 2.6.0 mine"}, [](Server::Client& c) { c.accept(taken); });
    heard({"550 5.1.1 never", "550 5.1.1 never", "550 5.1.1 never"}, [](Server::Client& c) { c.reject(never); });
    heard({nobody, "250 2.6.0 mine", nobody}, [](Server::Client& c) { c.accept(c.TO[1], taken); });
    heard({nobody, nobody, "550 5.1.1 never"}, [](Server::Client& c) { c.reject(c.TO[2], never); });
    heard({"450 4.2.0 later", "250 2.6.0 mine", "550 5.1.1 never"}, [](Server::Client& c) {
        c.reject(c.TO[2], never);
        c.accept(c.TO[1], taken);
        c.reject(c.TO[0], later);
    });
    heard({"250 2.0.0 OK", "550 5.1.1 never", "250 2.0.0 OK"}, [](Server::Client& c) {
        c.accept();
        c.reject(c.TO[1], never);
    });
    heard({"250 2.0.0 OK", "550 5.1.1 never", "250 2.0.0 OK"}, [](Server::Client& c) {
        c.reject(c.TO[1], never);
        c.accept();
    });
    heard({"450 4.2.0 later", "550 5.1.1 never", "550 5.1.1 never"}, [](Server::Client& c) {
        c.reject(never);
        c.reject(c.TO[0], later);
    });
}

TEST_CASE("what is forgotten by reconsider() is forgotten for each") {
    const std::string nobody = "451 4.3.0 Nobody";
    heard({"250", nobody, nobody}, [](Server::Client& c) {
        c.reject(later);
        c.accept(c.TO[1]);
        c.reconsider();
        c.accept(c.TO[0]);
    });
}

TEST_CASE("a taker that began for one recipient and did not end leaves the others alone") {
    heard({"250", "451 4.3.0 Delivery was not finished", "250"}, [](Server::Client& c) {
        c.accept();
        c.MSG.custody().begin({&c.TO[1], 1});
    });
}

TEST_CASE("recipients that fare differently are no trouble by LMTP") {
    auto setup = heeding([](Server&) {}, lmtp([](Server::Client& c) {
                             c.accept(c.TO[0]);
                             c.reject(c.TO[1], never);
                             c.reject(c.TO[2], {451, "4.3.0", "not now"});
                         }));
    CHECK(heard({"250", "550", "451"}, setup).troubles.empty());
    // By SMTP they are, as ever.
    setup.options.protocol = Protocol::smtp;
    const auto played =
        dialogue("S: 220\nC: EHLO me\nS: 250\n" + envelope() + text + "S: 451 4.3.0\n" + farewell, setup);
    CHECK(played.troubles.size() == 1);
}

TEST_CASE("recipients are counted from the session's own list, not from TO") {
    heard({"250", "250", "250"}, [](Server::Client& c) {
        c.TO.clear();
        c.accept();
    });
    heard({"250 2.6.0 mine", "451", "550 5.1.1 never"}, [](Server::Client& c) {
        std::reverse(c.TO.begin(), c.TO.end());
        c.reject(c.TO[0], never);
        c.TO[2].local = "alias";
        c.accept(c.TO[2], taken);
        c.TO.emplace_back("new@d");
        c.accept(c.TO.back());
    });
    heard({"451", "451", "451"}, [](Server::Client& c) { c.accept(Recipient("one@d")); });  // of the same name only
    heard({"250", "250", "250"}, [](Server::Client& c) {
        c.MSG = Message("another");
        c.accept();
    });
}

TEST_CASE("a listener that changes TO changes nothing about who hears a reply") {
    const auto clears = [](Server::Client& c) { c.TO.clear(); };
    heard({"250", "250", "250"},
          heeding([clears](Server& s) { s.on<Event::Data>([clears](Event::Data& e) { clears(e.client); }); }));
    // Named: one, a refused one, and two that a listener puts strangers in the place of. Only the last is taken.
    auto setup = heeding(
        [](Server& s) {
            s.on<Event::Rcpt>([](Event::Rcpt& e) {
                if (e.recipient.local == "bad") e.reply = never;
                if (e.recipient.local.starts_with("alias")) e.recipient = Recipient("real@d");
                e.client.TO.clear();
            });
        },
        lmtp([](Server::Client& c) {
            REQUIRE(c.TO.size() == 1);
            CHECK(c.TO[0].str() == "real@d");
            c.accept(c.TO[0]);
        }));
    dialogue(hello +
                 "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<one@d>\nS: 250\nC: RCPT TO:<bad@d>\nS: 550\n"
                 "C: RCPT TO:<alias1@d>\nS: 250\nC: RCPT TO:<alias2@d>\nS: 250\n" +
                 text + "S: 451\nS: 451\nS: 250\n" + farewell,
             setup);
    // Nobody is left in TO, but three wait for an answer; and a limit counts them.
    setup.handler = [](Server::Client& c) { CHECK(c.TO.empty()); };
    dialogue(hello + envelope() + "C: RCPT TO:<bad@d>\nS: 550\n" + text + "S: 451\nS: 451\nS: 451\n" + farewell, setup);
    setup.options.max_recipients = 3;
    setup.handler = nothing;
    dialogue(hello + envelope() + "C: RCPT TO:<four@d>\nS: 452 4.5.3\n" + text + "S: 451\nS: 451\nS: 451\n" + farewell,
             setup);
}

TEST_CASE("what a relay heard for one recipient is told at his place") {
    NextHop hop(Manners{{"RCPT TO:<two@d>", "550 5.1.1 nobody of that name"}});
    Relay::Options o;
    o.host = hop.address();
    auto setup = heeding([](Server&) {}, lmtp([o](Server::Client& c) {
                             for (const auto& to : c.TO) Relay(c.FROM, std::vector<Recipient>{to}, c.MSG, o);
                         }));
    heard({"250 2.0.0 taken by the next hop", "550 5.1.1 nobody of that name", "250 2.0.0 taken by the next hop"},
          setup);
    const auto all = hop.end();
    REQUIRE(all.size() == 3);
    for (const auto& h : all) {
        if (h.complete) CHECK(h.text.find(" with LMTP id ") != std::string::npos);
    }
}

TEST_CASE("one relay for all hears for each, and those it could deliver to have the mail") {
    NextHop hop(Manners{{"RCPT TO:<two@d>", "450 4.2.2 full"}});
    Relay::Options o;
    o.host = hop.address();
    const auto setup = heeding([](Server&) {}, lmtp([o](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, o); }));
    const auto played =
        heard({"250 2.0.0 taken by the next hop", "450 4.2.2 full", "250 2.0.0 taken by the next hop"}, setup);
    CHECK(played.troubles.empty());
    CHECK(hop.only().complete);
}

TEST_CASE("a saved message is taken for each, one that can't be saved is 452 for each") {
    Folder folder;
    heard({"250", "250", "250"}, [&](Server::Client& c) { c.MSG.save(folder / "mail"); });
    heard({"452 4.3.1", "452 4.3.1", "452 4.3.1"},
          [&](Server::Client& c) { CHECK_THROWS_AS(c.MSG.save(folder / "mail"), std::system_error); });
}

TEST_CASE("answer() and the end of the scope say it for each") {
    std::promise<void> done;
    Talk talk({.options = lmtp().options, .program = [left = done.get_future().share()](Server::Client& c) {
                   REQUIRE(c.process());
                   c.accept(c.TO[1]);
                   c.answer();
                   left.wait_for(patience);
                   c.answer();
                   CHECK_THROWS_AS(c.accept(c.TO[0]), std::logic_error);
                   CHECK_THROWS_AS(c.reject(never), std::logic_error);
                   REQUIRE(c.process());
                   c.reject(c.TO[0], never);
               }});
    talk.play(three + "S: 451\nS: 250\nS: 451\n");
    done.set_value();
    talk.play(envelope() + text + "S: 550\nS: 451\nS: 451\nC: QUIT\nS: 221\nS: EOF");
    talk.end();
}

TEST_CASE("what flies out of a handler of run() is told to each recipient") {
    struct Case {
        Server::Handler handler;
        std::vector<std::string> replies;
        bool closes;
        std::size_t troubles;
    };
    const std::vector<Case> cases{
        {[](Server::Client&) { throw std::runtime_error("secret"); },
         {"451 4.3.0", "451 4.3.0", "451 4.3.0"},
         false,
         1},
        {[](Server::Client&) { throw 5; }, {"451 4.3.0", "451 4.3.0", "451 4.3.0"}, false, 1},
        {[](Server::Client&) { throw Reject(never); }, {"550 5.1.1", "550 5.1.1", "550 5.1.1"}, false, 0},
        {[](Server::Client&) { throw Hangup(never); }, {"550 5.1.1", "550 5.1.1", "550 5.1.1"}, true, 0},
        {[](Server::Client&) { throw Hangup(closing); }, {"451 4.3.2", "451 4.3.2", "421 4.3.2"}, true, 0},
        // What was decided stays so: who was taken for would get it twice.
        {[](Server::Client& c) {
             c.accept(c.TO[0]);
             c.reject(c.TO[1], later);
             throw std::runtime_error("secret");
         },
         {"250 2.0.0", "450 4.2.0", "451 4.3.0"},
         false,
         1},
    };
    for (const auto mode : {Server::Mode::thread, Server::Mode::inline_}) {
        for (std::size_t i = 0; i < cases.size(); ++i) {
            CAPTURE(i);
            const auto& one = cases[i];
            Running running(one.handler, mode);
            auto wire = dial(running.server);
            play(wire, three + replies(one.replies) + (one.closes ? "S: EOF" : farewell));
            CHECK(wire.heard().find("secret") == std::string::npos);
            CHECK(running.count() == one.troubles);
        }
    }
}

TEST_CASE("421 for one recipient does not swallow the others' replies: the last one may say it, before it it is 451") {
    const auto one = [](std::size_t which) {
        return [which](Server::Client& c) {
            c.accept();
            c.reject(c.TO[which], closing);
        };
    };
    heard_last({"451 4.3.2 going down", "250 2.0.0 OK", "250 2.0.0 OK"}, one(0));
    heard_last({"250 2.0.0 OK", "451 4.3.2 going down", "250 2.0.0 OK"}, one(1));
    heard_last({"250 2.0.0 OK", "250 2.0.0 OK", "421 4.3.2 going down"}, one(2));
    heard_last({"451 4.3.2 going down", "451 4.3.2 going down", "421 4.3.2 going down"},
               [](Server::Client& c) { c.reject(closing); });
    dialogue(hello + envelope({"one"}) + text + "S: 421 4.3.2\nS: EOF",
             lmtp([](Server::Client& c) { c.reject(closing); }));
}

TEST_CASE("a thousand recipients hear a thousand verdicts, in order") {
    for (const std::size_t size : {0, 2000}) {
        auto setup = lmtp([size](Server::Client& c) {
            REQUIRE(c.TO.size() == 1000);
            const auto words = [&](int i) { return std::to_string(i) + ' ' + std::string(size, 'w'); };
            for (int i = 999; i >= 0; --i) {
                if (i % 3 == 0) c.accept(c.TO[std::size_t(i)], {250, "2.0.0", words(i)});
                if (i % 3 == 1) c.reject(c.TO[std::size_t(i)], {550, "5.1.1", words(i)});
            }
        });
        Talk talk(setup);
        talk.play(hello);
        std::string group = "MAIL FROM:<a@b>\r\n";
        for (int i = 0; i < 1000; ++i) group += "RCPT TO:<r" + std::to_string(i) + "@d>\r\n";
        // All of it before any reply is read.
        talk.wire.send(group + "DATA\r\nx\r\n.\r\nRSET\r\nQUIT\r\n");
        for (int i = 0; i < 1001; ++i) talk.wire.expect("250");
        talk.wire.expect("354");
        for (int i = 0; i < 1000; ++i) {
            CAPTURE(i);
            const auto reply = talk.wire.reply();
            const std::string beginning = i % 3 == 0 ? "250" : i % 3 == 1 ? "550" : "451";
            REQUIRE(reply.substr(0, 3) == beginning);
            if (i % 3 != 2) REQUIRE(reply.substr(10, std::to_string(i).size() + 1) == std::to_string(i) + ' ');
        }
        talk.play("S: 250 2.0.0 Reset\nS: 221\nS: EOF");
        talk.end();
    }
}

TEST_CASE("many replies leave in pieces, they are not gathered") {
    auto setup = lmtp([](Server::Client& c) { c.accept({250, "2.0.0", std::string(400, 'w')}); });
    setup.type = SOCK_SEQPACKET;  // one recv here is one send there
    Talk talk(setup);
    talk.play(hello + "C: MAIL FROM:<a@b>\nS: 250\n");
    for (int i = 0; i < 200; ++i) talk.play("C: RCPT TO:<c@d>\nS: 250");
    talk.play("C: DATA\nS: 354");
    talk.wire.send("x\r\n.\r\n");
    std::size_t most = 0;
    for (std::size_t lines = 0; lines < 200;) {
        const auto octets = talk.wire.receive();
        REQUIRE(!octets.empty());
        most = std::max(most, octets.size());
        lines += std::size_t(std::count(octets.begin(), octets.end(), '\n'));
    }
    CHECK(most < 20'000);
    talk.play("C: QUIT\nS: 221\nS: EOF");
    talk.end();
}

TEST_CASE("a client that goes away between the replies is no trouble") {
    auto setup = lmtp([](Server::Client& c) { c.accept({250, "2.0.0", std::string(20'000, 'w')}); });
    Talk talk(setup);
    talk.play(hello + "C: MAIL FROM:<a@b>\nS: 250\n");
    for (int i = 0; i < 100; ++i) talk.play("C: RCPT TO:<c@d>\nS: 250");
    talk.play("C: DATA\nS: 354\nC: x\nC: .");
    talk.wire.expect("250");
    CHECK(talk.end().size() == 1);
}

// ---- refused texts ----

TEST_CASE("a refused text is refused for each recipient, in the same words, and the session goes on") {
    struct Case {
        const char* what;
        std::function<void(Setup&)> prepare;
        std::string body, reply;
    };
    const auto sink = [](std::function<void(std::string_view)> write) {
        return [write](Setup& s) {
            s.listeners = [write](Server& server) {
                server.on<Event::Data>([write](Event::Data& e) { e.client.into(write); });
            };
        };
    };
    const std::vector<Case> cases{
        {"too large", [](Setup& s) { s.options.max_message_size = 10; }, "12345678901\r\n", "552 5.3.4"},
        {"bare LF", [](Setup&) {}, "a\nb\r\n", "554 5.6.0"},
        {"bare CR", [](Setup&) {}, "a\rb\r\n", "554 5.6.0"},
        {"no disk",
         [](Setup& s) {
             s.options.spool_dir = "/nonexistent/folder";
             s.options.spool_above = 3;
         },
         "12345\r\n", "452 4.3.1"},
        {"a sink refuses", sink([](std::string_view) { throw Reject(never); }), "x\r\n", "550 5.1.1 never"},
        {"a sink fails", sink([](std::string_view) { throw std::runtime_error("secret"); }), "x\r\n", "451 4.3.0"},
    };
    for (const auto& c : cases) {
        CAPTURE(c.what);
        auto setup = lmtp();
        c.prepare(setup);
        const auto each = replies({c.reply, c.reply, c.reply});
        const auto size = std::to_string(c.body.size());
        Talk talk(setup);
        talk.play(hello + envelope() + "C: DATA\nS: 354");
        talk.wire.send(c.body + ".\r\n");
        talk.play(each + "C: NOOP\nS: 250\n" + envelope());
        talk.wire.send("BDAT " + size + " LAST\r\n" + c.body);
        talk.play(each + "C: NOOP\nS: 250\nC: DATA\nS: 503 5.5.1\n" + envelope());
        // By chunks: what is known at once is said at once, by one reply, and for each by the last.
        talk.wire.send("BDAT " + size + "\r\n" + c.body + "BDAT 4\r\nxxxx");
        talk.wire.reply();
        talk.wire.reply();
        talk.wire.send("BDAT 0 LAST\r\n");
        talk.play(each + farewell);
        CHECK(talk.end().empty());
        CHECK(talk.wire.heard().find("secret") == std::string::npos);
    }
}

TEST_CASE("after a failed chunk each further one has one reply, and LAST one for each recipient") {
    auto setup = lmtp();
    setup.options.max_message_size = 10;
    for (const std::string last : {"C: BDAT 0 LAST\n", "C: BDAT 5 LAST\nc: QUIT\\n\n"}) {
        CAPTURE(last);
        const auto played =
            dialogue(hello + envelope() + "C: BDAT 6\nc: 123456\nS: 250\nC: BDAT 5\nc: RSET\\n\nS: 552\n" +
                         "C: BDAT 1\nc: x\nS: 552\nC: NOOP\nS: 250\nC: RCPT TO:<e@f>\nS: 503\n" + last +
                         "S: 552 5.3.4\nS: 552 5.3.4\nS: 552 5.3.4\n" + envelope({"one", "two"}) +
                         "C: BDAT 2 LAST\nc: ok\nS: 250\nS: 250\n" + farewell,
                     setup);
        REQUIRE(played.mails.size() == 1);
        CHECK(played.mails[0].text == "ok");
    }
}

TEST_CASE("a listener's refusal of the text is one reply to a chunk, and one for each to the last") {
    const auto setup = heeding([](Server& s) {
        s.on<Event::Data>([](Event::Data& e) { e.reply = {550, "5.7.1", "Not that"}; });
    });
    dialogue(hello + envelope() + "C: BDAT 1 LAST\nc: x\nS: 550 5.7.1\nS: 550 5.7.1\nS: 550 5.7.1\n" + envelope() +
                 "C: BDAT 1\nc: x\nS: 550 5.7.1\nC: BDAT 1 LAST\nc: x\nS: 550 5.7.1\nS: 550 5.7.1\nS: 550 5.7.1\n" +
                 farewell,
             setup);
}

TEST_CASE("who hangs up on a text has refused it for each recipient first") {
    const auto sink = [](Reply reply) {
        return heeding([reply](Server& s) {
            s.on<Event::Data>(
                [reply](Event::Data& e) { e.client.into([reply](std::string_view) { throw Hangup(reply); }); });
        });
    };
    dialogue(three + replies({"550 5.1.1", "550 5.1.1", "550 5.1.1"}) + "S: EOF", sink(never));
    dialogue(three + replies({"451 4.3.2", "451 4.3.2", "421 4.3.2"}) + "S: EOF", sink(closing));
    const auto refuses = heeding([](Server& s) {
        s.on<Event::Data>([](Event::Data& e) { e.reply = {421, "4.3.2", "Going down"}; });
    });
    dialogue(hello + envelope() + "C: DATA\nS: 421 4.3.2\nS: EOF", refuses);
    dialogue(hello + envelope() + "C: BDAT 1\nc: x\nS: 421 4.3.2\nS: EOF", refuses);
    dialogue(hello + envelope() + "C: BDAT 1 LAST\nc: x\nS: 451 4.3.2\nS: 451 4.3.2\nS: 421 4.3.2\nS: EOF", refuses);
}

TEST_CASE("a text that does not end is refused for each before the connection is closed") {
    for (const std::string command : {"DATA", "BDAT 150000 LAST", "BDAT 150000"}) {
        CAPTURE(command);
        auto setup = lmtp();
        setup.options.max_message_size = 150'000;
        setup.options.drain = 10'000;
        setup = heeding(
            [](Server& s) {
                s.on<Event::Data>([](Event::Data& e) {
                    e.client.into([](std::string_view) { throw Reject({552, "5.2.2", "Mailbox full"}); });
                });
            },
            setup);
        Talk talk(setup);
        talk.play(hello + envelope() + "C: " + command);
        if (command == "DATA") talk.wire.expect("354");
        std::string block;
        while (block.size() < 50'000) block += "some text\r\n";
        for (int i = 0; i < 100 && talk.wire.send(block); ++i) {
        }
        for (int i = 0; i < (command == "BDAT 150000" ? 1 : 3); ++i) talk.wire.expect("552 5.2.2");
        talk.wire.expect_end();
        CHECK(talk.end().empty());
    }
}

TEST_CASE("a last chunk that nobody would read away is refused for each before it comes") {
    auto setup = lmtp();
    setup.options.max_message_size = 1000;
    setup.options.drain = 1000;
    for (const std::string size : {"1001", "99999999999999999999999999"}) {
        dialogue(hello + envelope() + "C: BDAT " + size + " LAST\nS: 552 5.3.4\nS: 552 5.3.4\nS: 552 5.3.4\nS: EOF",
                 setup);
        dialogue(hello + envelope() + "C: BDAT " + size + "\nS: 552 5.3.4\nS: EOF", setup);
        dialogue(hello + "C: BDAT " + size + " LAST\nS: 552 5.3.4\nS: EOF", setup);
    }
    // How long it is can't be told, and so not that it is the last one.
    dialogue(hello + envelope() + "C: BDAT 10 LATS\nS: 501\nS: EOF", setup);
}

TEST_CASE("a chunk where none was offered is one reply") {
    auto setup = lmtp();
    setup.options.offer.chunking = false;
    dialogue(
        hello + envelope() + "C: BDAT 6 LAST\nc: QUIT\\r\\n\nS: 502\n" + text + "S: 250\nS: 250\nS: 250\n" + farewell,
        setup);
}

TEST_CASE("a text that stays away is one 421: nothing is due for the recipients before its end") {
    auto setup = lmtp();
    setup.options.block_timeout = 1s;
    dialogue(hello + envelope() + "C: DATA\nS: 354\nc: x\nS: 421 4.4.2\nS: EOF", setup);
    dialogue(hello + envelope() + "C: BDAT 5 LAST\nc: x\nS: 421 4.4.2\nS: EOF", setup);
}

TEST_CASE("a connection lost inside a text gives no message") {
    Talk talk(lmtp());
    talk.play(hello + envelope() + "C: DATA\nS: 354\nC: x\nc: .\nC: EOF\nS: EOF");
    CHECK(talk.end().empty());
}

// ---- what a mail says of its way ----

TEST_CASE("a mail that came by LMTP says so") {
    auto setup = lmtp();
    setup.options.offer.smtputf8 = true;
    const std::string plain = "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n" + text + "S: 250\n";
    const std::string utf8 =
        "C: MAIL FROM:<\xC3\xA4@b> SMTPUTF8\nS: 250\nC: RCPT TO:<\xC3\xB6@d>\nS: 250\n" + text + "S: 250\n";
    const auto played = dialogue(hello + plain + utf8 + utf8 + plain + farewell, setup);
    std::vector<std::string> protocols;
    for (const auto& m : played.mails) protocols.push_back(m.protocol);
    CHECK(protocols == std::vector<std::string>{"LMTP", "UTF8LMTP", "UTF8LMTP", "LMTP"});
}

// ---- where ----

TEST_CASE("LMTP is not spoken on port 25") {
    const auto options = lmtp().options;
    for (const std::string address : {"127.0.0.1:25", "[::1]:25", "127.0.0.1", "localhost:25", "[::]:25"}) {
        CAPTURE(address);
        try {
            Server server(Addresses{"127.0.0.1:0", address}, options);
            FAIL("it listens");
        } catch (const std::invalid_argument& e) {
            CHECK(std::string(e.what()).find("port 25") != std::string::npos);
        }
    }
    CHECK_THROWS_AS(Server("", 25, options), std::invalid_argument);
    Folder folder;
    const Server server(Addresses{"127.0.0.1:0", "unix:" + folder / "25"}, options);
    CHECK(server.addresses().size() == 2);
}

TEST_CASE("a descriptor that listens on port 25 is not taken for LMTP") {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in somewhere{};
    somewhere.sin_family = AF_INET;
    somewhere.sin_port = htons(25);
    // Some address of the loopback network that nobody else uses.
    somewhere.sin_addr.s_addr = htonl(0x7F000000u + (unsigned(getpid()) & 0xFFFFu) * 251u % 0xFFFFFEu + 1);
    if (bind(fd, reinterpret_cast<sockaddr*>(&somewhere), sizeof somewhere) != 0 || listen(fd, 1) != 0) {
        MESSAGE("may not listen on port 25 here: left out");
    } else {
        CHECK_THROWS_AS(Server(Addresses{"fd:" + std::to_string(fd)}, lmtp().options), std::invalid_argument);
        CHECK(fcntl(fd, F_GETFD) >= 0);  // it stays the program's
    }
    close(fd);
}

TEST_CASE("that somebody was forgotten is told to the program, not only to the sender") {
    const auto setup = heeding([](Server&) {}, lmtp([](Server::Client& c) { c.accept(c.TO[0]); }));
    const auto played = heard({"250", "451 4.3.0", "451 4.3.0"}, setup);
    REQUIRE(played.troubles.size() == 1);
    CHECK(played.troubles[0] == "nobody took the message for 2 of its recipients");
}
