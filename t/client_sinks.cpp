// client_sinks -- bodies that stream elsewhere: every octet once, end() once, and a refusal when the sink will not have
// them.
#include <system_error>

#include "dialogue.hpp"

using namespace test;

namespace {

// Remembers all it hears; counts its ends.
struct Notebook : Sink {
    std::string octets;
    int complete = 0, incomplete = 0, late = 0;
    std::function<void(Notebook&)> on_write, on_end;
    void write(std::string_view more) override {
        if (complete + incomplete > 0) ++late;
        octets += more;
        if (on_write) on_write(*this);
    }
    void end(bool whole) override {
        ++(whole ? complete : incomplete);
        if (on_end) on_end(*this);
    }
};

struct Sunk {
    std::shared_ptr<Notebook> sink = std::make_shared<Notebook>();
    Played played;
};

// A session whose first mail goes into the sink, from a listener on DATA.
Sunk sink_dialogue(const std::string& script, std::function<void(Notebook&)> on_write = {},
                   std::function<void(Notebook&)> on_end = {}, Options options = brief()) {
    Sunk s;
    s.sink->on_write = std::move(on_write);
    s.sink->on_end = std::move(on_end);
    Setup setup{.options = options};
    setup.listeners = [sink = s.sink](Server& server) {
        server.on<Event::Data>([sink](Event::Data& e) {
            if (sink->complete + sink->incomplete == 0) e.client.into(sink);
        });
    };
    s.played = dialogue(opening + script, setup);
    return s;
}

}  // namespace

TEST_CASE("a sink hears the text, its dots undone, and one end") {
    const auto s = sink_dialogue("C: DATA\nS: 354\nC: ..a\nC: b\nC: .\nS: 250\nC: QUIT\nS: 221");
    CHECK(s.sink->octets == ".a\r\nb\r\n");
    CHECK(s.sink->complete == 1);
    CHECK(s.sink->incomplete == 0);
    REQUIRE(s.played.mails.size() == 1);
    CHECK(s.played.mails[0].sunk);
    CHECK(s.played.mails[0].text.empty());
}

TEST_CASE("a sink hears chunks as one text") {
    const auto s = sink_dialogue("C: BDAT 3\nc: .a\\r\nS: 250\nC: BDAT 2 LAST\nc: \\n.\nS: 250\nC: QUIT\nS: 221");
    CHECK(s.sink->octets == ".a\r\n.");
    CHECK(s.sink->complete == 1);
    CHECK(s.sink->incomplete == 0);
}

TEST_CASE("an empty text has its end too") {
    const auto s = sink_dialogue("C: DATA\nS: 354\nC: .\nS: 250\nC: QUIT\nS: 221");
    CHECK(s.sink->octets.empty());
    CHECK(s.sink->complete == 1);
}

TEST_CASE("a sink is for one mail, the next one is in MSG again") {
    const auto s = sink_dialogue(
        "C: DATA\nS: 354\nC: a\nC: .\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: "
        "354\nC: b\nC: .\nS: 250");
    CHECK(s.sink->octets == "a\r\n");
    REQUIRE(s.played.mails.size() == 2);
    CHECK(s.played.mails[1].text == "b\r\n");
    CHECK(!s.played.mails[1].sunk);
}

TEST_CASE("a sink hears in every ending that the message is not complete, once") {
    Options small = brief();
    small.max_message_size = 20;
    Options hasty = brief();
    hasty.block_timeout = 1s;
    struct Case {
        std::string name, script;
        Options options = brief();
    };
    const std::string large(100, 'x');
    for (const auto& c : std::vector<Case>{
             {"lost in DATA", "C: DATA\nS: 354\nC: abc\nC: EOF\nS: EOF"},
             {"lost before LAST", "C: BDAT 3\nc: abc\nS: 250\nC: EOF\nS: EOF"},
             {"lost in a chunk", "C: BDAT 30 LAST\nc: abc\nC: EOF\nS: EOF"},
             {"QUIT between chunks", "C: BDAT 3\nc: abc\nS: 250\nC: QUIT\nS: 221"},
             {"RSET between chunks", "C: BDAT 3\nc: abc\nS: 250\nC: RSET\nS: 250"},
             {"EHLO between chunks", "C: BDAT 3\nc: abc\nS: 250\nC: EHLO me\nS: 250"},
             {"too large", "C: DATA\nS: 354\nC: " + large + "\nC: .\nS: 552\nC: NOOP\nS: 250", small},
             {"too large a chunk", "C: BDAT 100 LAST\nc: " + large + "\nS: 552\nC: NOOP\nS: 250", small},
             {"chunks too large",
              "C: BDAT 10\nc: 1234567890\nS: 250\nC: BDAT 100\nc: " + large + "\nS: 552\nC: RSET\nS: 250", small},
             {"a bare LF", "C: DATA\nS: 354\nC: a\\nb\nC: .\nS: 554\nC: NOOP\nS: 250"},
             {"a bare CR at the very end", "C: BDAT 2 LAST\nc: a\\r\nS: 554\nC: NOOP\nS: 250"},
             {"too slow", "C: DATA\nS: 354\nC: abc\nS: 421 4.4.2\nS: EOF", hasty},
         }) {
        CAPTURE(c.name);
        const auto s = sink_dialogue(c.script, {}, {}, c.options);
        CHECK(s.sink->complete == 0);
        CHECK(s.sink->incomplete == 1);
        CHECK(s.sink->late == 0);
        CHECK(s.played.mails.empty());
    }
}

TEST_CASE("what a sink throws is the answer: in its words, 452, or 451 without its text") {
    struct Case {
        std::function<void(Notebook&)> what;
        std::string reply;
        bool trouble;
    };
    for (const auto& c : std::vector<Case>{
             {[](Notebook&) {
                  throw Reject({550, "5.7.1", "I don't like it"});
              },
              "550 5.7.1 I don't like it", false},
             {[](Notebook&) { throw std::system_error(ENOSPC, std::generic_category(), "secret path"); }, "452 4.3.1",
              true},
             {[](Notebook&) { throw std::runtime_error("secret"); }, "451 4.3.0", true},
             {[](Notebook&) { throw 7; }, "451 4.3.0", true},
         }) {
        CAPTURE(c.reply);
        for (const bool at_end : {false, true}) {
            CAPTURE(at_end);
            for (const std::string body : {"C: DATA\nS: 354\nC: a\nC: b\nC: .\nS: ", "C: BDAT 3 LAST\nc: abc\nS: "}) {
                const auto throws = [what = c.what](Notebook& n) { what(n); };
                const auto s =
                    sink_dialogue(body + c.reply + "\nC: RCPT TO:<late@d>\nS: 503\nC: QUIT\nS: 221",
                                  at_end ? nullptr : std::function(throws), at_end ? std::function(throws) : nullptr);
                CHECK(s.sink->complete == (at_end ? 1 : 0));
                CHECK(s.sink->incomplete == (at_end ? 0 : 1));
                CHECK(s.sink->late == 0);
                CHECK(s.played.mails.empty());
                CHECK(s.played.troubles.empty() == !c.trouble);
                CHECK(s.played.heard.find("secret") == std::string::npos);
            }
        }
    }
}

TEST_CASE("a sink that threw is not asked again, however much comes") {
    int writes = 0;
    const std::string line(1000, 'x');
    std::string body = "C: DATA\nS: 354\n";
    for (int i = 0; i < 500; ++i) body += "C: " + line + "\n";
    const auto s = sink_dialogue(body + "C: .\nS: 550\nC: NOOP\nS: 250", [&](Notebook&) {
        ++writes;
        throw Reject({550, "5.7.1", "no"});
    });
    CHECK(writes == 1);
    CHECK(s.sink->incomplete == 1);
}

TEST_CASE("a sink that throws although the message is incomplete does no harm") {
    const auto s =
        sink_dialogue("C: BDAT 3\nc: abc\nS: 250\nC: RSET\nS: 250\nC: NOOP\nS: 250", {}, [](Notebook&) { throw 7; });
    CHECK(s.sink->incomplete == 1);
}

TEST_CASE("a sink of a refused DATA hears its end") {
    for (const std::string body :
         {"C: DATA\nS: 550 5.7.1\nC: NOOP\nS: 250", "C: BDAT 6 LAST\nc: QUIT\\r\\n\nS: 550\nC: NOOP\nS: 250"}) {
        auto sink = std::make_shared<Notebook>();
        Setup setup;
        setup.listeners = [sink](Server& server) {
            server.on<Event::Data>([sink](Event::Data& e) {
                e.client.into(sink);
                e.reply = {550, "5.7.1", "not now"};
            });
        };
        dialogue(opening + body, setup);
        CHECK(sink->complete == 0);
        CHECK(sink->incomplete == 1);
        CHECK(sink->octets.empty());
    }
}

TEST_CASE("a program may choose the sink before process(): a function, a descriptor") {
    std::string heard;
    Folder folder;
    const int fd = open((folder / "body").c_str(), O_RDWR | O_CREAT, 0600);
    REQUIRE(fd >= 0);
    Talk talk({.program = [&](Server::Client& c) {
        c.into([&](std::string_view octets) { heard += octets; });
        REQUIRE(c.process());
        CHECK(c.MSG.sunk());
        CHECK(c.MSG.size() == 3);
        CHECK(c.MSG.view().empty());
        CHECK_THROWS_AS(c.MSG.save(folder / "never"), std::logic_error);
        c.reconsider();
        c.accept();
        c.into(fd);
        REQUIRE(c.process());
        c.accept();
        CHECK(!c.process());
    }});
    const std::string mail = "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: ";
    talk.play("S: 220\nC: EHLO me\nS: 250\n" + mail + "x\nC: .\nS: 250\n" + mail +
              "yyyy\nC: .\nS: 250\nC: QUIT\nS: 221");
    talk.end();
    CHECK(heard == "x\r\n");
    char octets[10];
    CHECK(std::string(octets, std::size_t(pread(fd, octets, sizeof octets, 0))) == "yyyy\r\n");
    close(fd);
    CHECK(access((folder / "never").c_str(), F_OK) != 0);
}

TEST_CASE("a descriptor that can't be written is 452 to the sender") {
    Setup setup;
    setup.program = [](Server::Client& c) {
        const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
        c.into(full);
        CHECK(!c.process());
        close(full);
    };
    Talk talk(setup);
    talk.play(std::string(opening) + "C: DATA\nS: 354\nC: x\nC: .\nS: 452 4.3.1\nC: QUIT\nS: 221");
    talk.end();
}

TEST_CASE("nobody takes what only went into a sink") {
    Setup setup;
    setup.program = [](Server::Client& c) {
        std::string octets;
        c.into([&](std::string_view more) { octets += more; });
        while (c.process()) {
        }
    };
    Talk talk(setup);
    talk.play(std::string(opening) + "C: DATA\nS: 354\nC: x\nC: .\nS: 451 4.3.0\nC: QUIT\nS: 221");
    talk.end();
}

TEST_CASE("a sink chosen for a mail that was then reset is not the next mail's") {
    auto sink = std::make_shared<Notebook>();
    Setup setup;
    setup.listeners = [sink](Server& server) {
        server.on<Event::Rcpt>([sink](Event::Rcpt& e) {
            if (e.recipient.local == "archive") e.client.into(sink);
        });
    };
    const auto played = dialogue(R"(
        S: 220
        C: EHLO me
        S: 250
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<archive@d>
        S: 250
        C: RSET
        S: 250
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<c@d>
        S: 250
        C: DATA
        S: 354
        C: private
        C: .
        S: 250
        C: QUIT
        S: 221
    )",
                                 setup);
    CHECK(sink->octets.empty());
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].text == "private\r\n");
}

TEST_CASE("a sink that hangs up is answered for, and then the connection ends") {
    for (const std::string body : {"C: DATA\nS: 354\nC: a\nC: .\n", "C: BDAT 3 LAST\nc: abc\n"}) {
        const auto s = sink_dialogue(body + "S: 554 5.7.1 Go away\nS: EOF", [](Notebook&) {
            throw Hangup({554, "5.7.1", "Go away"});
        });
        CHECK(s.sink->incomplete == 1);
        CHECK(s.played.mails.empty());
    }
}
