// own_attack -- programs that answer commands themselves, against peers that cut, stall, vanish and talk early, full
// disks, sinks that throw, and threads that say something at the worst moment.
#include <sys/mman.h>

#include <random>
#include <set>

#include "../Server/Content.hpp"

#include "faults.hpp"
#include "over_tls.hpp"
#include "toy_authenticator.hpp"

using namespace test;

namespace {

// TEXT takes a text into what `sink` makes, HELLO is answered, nothing else is known.
Setup texts(const std::shared_ptr<Notes>& book, std::function<std::shared_ptr<Sink>()> sink = {}, Options o = brief()) {
    o.simple = false;
    Setup s;
    s.options = o;
    s.listeners = [=](Server& server) {
        server.on<Event::Command>([=](Event::Command& e) {
            if (e.line == "HELLO") e.reply = {250, "", "Hello yourself"};
            if (e.line == "TEXT") e.reply = {354, "", "Go on"}, e.client.data_mode(sink ? sink() : nullptr);
        });
        server.on<Event::Text>([=](Event::Text& e) {
            book->add("text " + std::to_string(e.reply.code) + ' ' + std::string(sink ? "" : e.client.MSG.view()));
        });
        server.on<Event::Disconnect>([=](Event::Disconnect& e) { book->add("end " + std::to_string(e.last.code)); });
    };
    return s;
}

struct Noting : Sink {
    explicit Noting(std::shared_ptr<Notes> b) : book(std::move(b)) {}
    void write(std::string_view octets) override { text += octets; }
    void end(bool complete) override { book->add(complete ? "whole: " + text : "thrown away"); }
    std::shared_ptr<Notes> book;
    std::string text;
};

const std::string in_step_again = "C: HELLO\nS: 250\nC: QUIT\nS: 221\nS: EOF";

std::string random_text(std::mt19937& random) {
    // What decides is here more often than by chance.
    static const std::string pieces[] = {"\r\n",      ".",        "..",       "\r\n.", "\r\n..", "x",
                                         "HELLO\r\n", "QUIT\r\n", "TEXT\r\n", " ",     "\t"};
    std::string out;
    for (auto n = random() % 40; n > 0; --n) out += pieces[random() % std::size(pieces)];
    if (!out.ends_with("\r\n")) out += "\r\n";
    return out;
}

// RFC 5321 4.5.2
std::string stuffed(const std::string& text) {
    std::string out;
    bool begin = true;
    for (const char c : text) {
        if (begin && c == '.') out += '.';
        out += c;
        begin = c == '\n';
    }
    return out;
}

}  // namespace

// ---- data_mode() ----

TEST_CASE("whatever a text holds and however it is cut, it is the text, and commands go on behind it") {
    std::mt19937 random(5321);
    for (int round = 0; round < 60; ++round) {
        const auto text = random_text(random);
        CAPTURE(round);
        const auto book = std::make_shared<Notes>();
        Talk talk(texts(book));
        talk.wire.expect("220");
        const auto said = "HELLO\r\nTEXT\r\n" + stuffed(text) + ".\r\nHELLO\r\nNOOP\r\nQUIT\r\n";
        talk.wire.send(said, Test::Pace::random(unsigned(round), 1 + std::size_t(round) % 30));
        for (const auto* code : {"250 Hello", "354", "250 2.0.0", "250 Hello", "502", "221"}) talk.wire.expect(code);
        talk.end();
        CHECK(book->all() == Names{"text 250 " + text, "end 221"});
    }
}

TEST_CASE("who leaves in the middle of a text has sent none: the sink throws it away, and the event says so") {
    for (const bool reset : {false, true})
        for (const std::string half : {"", "x", "x\r\n", "x\r\n.", "x\r\n.\r"}) {
            CAPTURE(half);
            const auto book = std::make_shared<Notes>();
            Talk talk(texts(book, [book] { return std::make_shared<Noting>(book); }));
            talk.play("S: 220\nC: TEXT\nS: 354");
            talk.wire.send(half);
            if (reset) talk.wire.vanish();
            else talk.wire.end();
            talk.wait();
            CHECK(book->all() == Names{"thrown away", "text 451 ", "end 0"});
        }
}

TEST_CASE("who half-closes behind his text hears its answer") {
    const auto book = std::make_shared<Notes>();
    Talk talk(texts(book, [book] { return std::make_shared<Noting>(book); }));
    talk.wire.expect("220");
    talk.wire.send("TEXT\r\nx\r\n.\r\n");
    talk.wire.end();
    talk.wire.expect("354");
    talk.wire.expect("250");
    talk.wire.expect_end();
    talk.end();
    CHECK(book->all() == Names{"whole: x\r\n", "text 250 ", "end 0"});
}

TEST_CASE("a text that stalls is ended by block_timeout, one that trickles by data_timeout") {
    Options o = brief();
    o.block_timeout = 1s;
    auto book = std::make_shared<Notes>();
    dialogue("S: 220\nC: TEXT\nS: 354\nC: x\nS: 421 4.4.2\nS: EOF",
             texts(
                 book, [book] { return std::make_shared<Noting>(book); }, o));
    CHECK(book->all() == Names{"thrown away", "text 451 ", "end 421"});
    o = brief();
    o.data_timeout = 1s;
    book = std::make_shared<Notes>();
    Talk talk(texts(
        book, [book] { return std::make_shared<Noting>(book); }, o));
    talk.play("S: 220\nC: TEXT\nS: 354");
    const auto end = Clock::now() + patience;
    while (talk.wire.send("x\r\n") && Clock::now() < end && book->all().empty()) std::this_thread::sleep_for(10ms);
    talk.end();
    CHECK(book->all() == Names{"thrown away", "text 451 ", "end 421"});
}

TEST_CASE(
    "a sink that throws, whatever and wherever, is the answer; the rest is read away, and the next text is whole") {
    struct Row {
        std::function<void()> act;
        std::string answer;
    };
    const Row rows[] = {
        {[] { throw std::runtime_error("hush"); }, "451 4.3.0"},
        {[] { throw std::system_error(ENOSPC, std::generic_category()); }, "452 4.3.1"},
        {[] { throw std::bad_alloc(); }, "451 4.3.0"},
        {[] { throw 42; }, "451 4.3.0"},
        {[] {
             throw Reject({554, "5.7.1", "A virus"});
         },
         "554 5.7.1 A virus"},
    };
    struct Ill : Noting {
        Ill(std::shared_ptr<Notes> b, std::function<void()> a, bool e)
            : Noting(std::move(b)), act(std::move(a)), at_end(e) {}
        void write(std::string_view) override {
            if (!at_end) act();
        }
        void end(bool complete) override {
            if (at_end) act();
            Noting::end(complete);
        }
        std::function<void()> act;
        bool at_end;
    };
    for (const bool at_end : {false, true})
        for (const auto& row : rows) {
            CAPTURE(row.answer);
            CAPTURE(at_end);
            const auto book = std::make_shared<Notes>();
            const auto first = std::make_shared<bool>(true);
            const auto played = dialogue("S: 220\nC: TEXT\nS: 354\nC: HELLO\nC: .\nS: " + row.answer +
                                             "\nC: TEXT\nS: 354\nC: y\nC: .\nS: 250\n" + in_step_again,
                                         texts(book, [=]() -> std::shared_ptr<Sink> {
                                             if (std::exchange(*first, false))
                                                 return std::make_shared<Ill>(book, row.act, at_end);
                                             return std::make_shared<Noting>(book);
                                         }));
            Names expected{"text " + row.answer.substr(0, 3) + " ", "whole: y\r\n", "text 250 ", "end 221"};
            if (!at_end) expected.insert(expected.begin(), "thrown away");
            CHECK(book->all() == expected);
            CHECK(played.heard.find("hush") == played.heard.npos);
        }
}

TEST_CASE("a listener to the text that throws has its way with the answer, and the session goes on") {
    struct Row {
        std::function<void()> act;
        std::string answer;
    };
    const Row rows[] = {
        {[] { throw std::runtime_error("hush"); }, "451 4.3.0"},
        {[] { throw 42; }, "451 4.3.0"},
        {[] {
             throw Reject({554, "5.7.1", "A virus"});
         },
         "554 5.7.1 A virus"},
    };
    for (const auto& row : rows) {
        auto setup = texts(std::make_shared<Notes>());
        setup.listeners = [first = setup.listeners, row](Server& s) {
            first(s);
            s.on<Event::Text>([row](Event::Text&) { row.act(); });
        };
        dialogue("S: 220\nC: TEXT\nS: 354\nC: x\nC: .\nS: " + row.answer + '\n' + in_step_again, setup);
    }
    auto setup = texts(std::make_shared<Notes>());
    setup.listeners = [first = setup.listeners](Server& s) {
        first(s);
        s.on<Event::Text>([](Event::Text&) { throw Hangup({550, "5.7.1", "Enough"}); });
    };
    dialogue("S: 220\nC: TEXT\nS: 354\nC: x\nC: .\nS: 550 5.7.1 Enough\nS: EOF", setup);
}

TEST_CASE("a descriptor that is closed is 452 4.3.1, and so is a disk that is full in the middle or at the end") {
    const auto talks = [](int fd, const std::string& answer) {
        const auto book = std::make_shared<Notes>();
        dialogue(
            "S: 220\nC: TEXT\nS: 354\nC: " + std::string(1500, 'x') + "\nC: .\nS: " + answer + '\n' + in_step_again,
            texts(book, [fd] { return make_sink(fd); }));
        CHECK(book->all() == Names{"text " + answer.substr(0, 3) + " ", "end 221"});
    };
    talks(-1, "452 4.3.1");
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    Descriptor in(ends[0]), out(ends[1]);
    talks(in.get(), "452 4.3.1");  // not for writing

    for (const int call : {SYS_write, SYS_fsync}) {
        Descriptor file(memfd_create("text", MFD_CLOEXEC));
        std::atomic<bool> failed{false};
        std::string answer;
        const bool can = with_faults(
            {call},
            [&](int, const std::string& path) {
                if (path.find("memfd:text") == path.npos) return 0;
                failed = true;
                return call == SYS_write ? ENOSPC : EIO;
            },
            [&] {
                Options o = brief();
                o.simple = false;
                const auto [ours, theirs] = socket_pair();
                Wire wire(ours);
                Background client([&wire, &answer] {
                    wire.expect("220");
                    wire.ask("TEXT");
                    wire.say("x\r\n.");
                    answer = wire.reply();
                    wire.ask("QUIT");
                });
                {
                    Server::Client session(theirs, o);
                    session.pipeline().on<Event::Command>([&](Event::Command& e) {
                        if (e.line == "TEXT") e.reply = {354, "", "Go on"}, e.client.data_mode(file.get(), true);
                    });
                    CHECK(!session.process());
                }
                client.join();
            });
        if (!can) continue;
        CHECK(failed);
        CHECK(answer == "452 4.3.1 Insufficient system storage");
    }
}

// ---- what holds though nothing, or nothing usual, is said ----

TEST_CASE("with simple off limits hold: errors, commands, the length of a line, silence") {
    const auto book = std::make_shared<Notes>();
    auto s = texts(book);
    s.options.max_errors = 3;
    dialogue("S: 220\nC: A\nS: 502\nC: DATA\nS: 502\nC: BDAT 10\nc: 1234567890\nS: 502\nC: X\nS: 421 4.7.0\nS: EOF", s);
    s.options.max_errors = 0;
    s.options.max_commands = 2;
    dialogue("S: 220\nC: HELLO\nS: 250\nC: HELLO\nS: 250\nC: HELLO\nS: 421 4.7.0\nS: EOF", s);
    s.options.max_commands = 0;
    s.options.max_command_line = 512;
    dialogue("S: 220\nC: " + std::string(511, 'x') + "\nS: 500 5.5.2\n" + in_step_again, s);
    s.options.command_timeout = 1s;
    dialogue("S: 220\nC: HELLO\nS: 250\nS: 421 4.4.2\nS: EOF", s);
}

TEST_CASE("with simple off every verb of ours is the program's, STARTTLS and AUTH too") {
    auto s = texts(std::make_shared<Notes>());
    s.options = with_tls(s.options);
    s.options.simple = false;
    s.options.max_errors = 0;
    s.options.auth = std::make_shared<Toy>();
    s.options.clear_auth = ClearAuth::everywhere;
    std::string script = "S: 220\n";
    for (const std::string verb :
         {"HELO me", "EHLO me", "LHLO me", "STARTTLS", "AUTH PLAIN AGpvZQBzZXNhbWU=", "MAIL FROM:<a@b>",
          "RCPT TO:<a@b>", "DATA", "BDAT 0 LAST", "RSET", "NOOP", "VRFY a", "EXPN a", "HELP", "XYZZY"})
        script += "C: " + verb + "\nS: 502 5.5.1\n";
    dialogue(script + in_step_again, s);
}

TEST_CASE("a request of HTTP ends the session, whatever its body says") {
    for (const std::string request : {"POST / HTTP/1.1", "GET /?x HTTP/1.0", "put * http/2"}) {
        Setup s;
        s.options = brief();
        dialogue(
            "S: 220\nC: " + request +
                "\nC: Host: x\nC:\nC: EHLO me\nC: MAIL FROM:<a@b>\nC: RCPT TO:<c@d>\nC: DATA\nS: 421 4.7.0\nS: EOF",
            s);
    }
    dialogue("S: 220\nC: HTTP/1.1\nS: 500\nC: XHTTP a/b\nS: 500\nC: NOOP HTTP/1.1\nS: 250\nC: QUIT\nS: 221\nS: EOF",
             {.options = brief()});
}

TEST_CASE("with handle_connects off silence, early talk, half-closes and too many connections end as ever") {
    Options o = brief();
    o.handle_connects = false;
    Setup s;
    s.options = o;
    s.options.command_timeout = 1s;
    dialogue("S: 421 4.4.2\nS: EOF", s);
    s.options = o;
    dialogue("C: EHLO me\nC: NOOP\nC: QUIT\nC: EOF\nS: 250\nS: 250\nS: 221\nS: EOF", s);
    dialogue("C: EOF\nS: EOF", s);
    dialogue("c: NOO\nC: EOF\nS: EOF", s);
    s.options.max_errors = 2;
    dialogue("C: \\x16\\x03\\x01\nS: 500\nC: SSH-2.0-x\nS: 500\nC: Host: x\nS: 421 4.7.0\nS: EOF", s);

    o.max_connections = 1;
    RunningServer running(o);
    auto first = dial(running.server);
    CHECK(first.ask("EHLO me") == 250);
    auto second = dial(running.server);
    second.expect("421 4.7.0");
    second.expect_end();
    CHECK(first.ask("QUIT") == 221);
}

TEST_CASE(
    "with handle_connects off TLS works from the start and by STARTTLS, and what is said in between is not heard") {
    Options o = with_tls();
    o.handle_connects = false;
    RunningServer implicit(o, {}, "tls:127.0.0.1:0");
    auto wire = dial(implicit.server);
    encrypt(wire);
    CHECK(wire.ask("EHLO me") == 250);
    CHECK(wire.ask("QUIT") == 221);
    RunningServer running(o);
    auto other = dial(running.server);
    CHECK(other.ask("STARTTLS") == 220);
    encrypt(other);
    CHECK(other.ask("NOOP") == 250);
    auto sly = dial(running.server);
    sly.send("STARTTLS\r\nNOOP\r\n");
    sly.expect("554");
    sly.expect_end();
}

TEST_CASE("when all replies are swallowed limits and timeouts hold, and the end is told") {
    for (const std::string how : {"errors", "commands", "timeout", "session"}) {
        CAPTURE(how);
        const auto last = std::make_shared<std::atomic<int>>(-1);
        Setup s;
        if (how == "errors") s.options.max_errors = 2;
        if (how == "commands") s.options.max_commands = 2;
        if (how == "timeout") s.options.command_timeout = 1s;
        if (how == "session") s.options.session_timeout = 1s;
        s.listeners = [last](Server& server) {
            server.on<Event::Response>([](Event::Response& e) { e.swallow = true; });
            server.on<Event::Disconnect>([last](Event::Disconnect& e) { *last = e.last.code; });
        };
        dialogue(how == "timeout" || how == "session" ? "S: EOF" : "C: XYZZY\nC: XYZZY\nC: XYZZY\nS: EOF", s);
        CHECK(*last == 421);
    }
}

TEST_CASE("what asks the client to go on is said though all replies are swallowed: DATA and STARTTLS don't hang") {
    Setup s;
    s.options = with_tls();
    s.listeners = [](Server& server) { server.on<Event::Response>([](Event::Response& e) { e.swallow = true; }); };
    Talk talk(s);
    talk.play("C: EHLO me\nC: STARTTLS\nS: 220");
    encrypt(talk.wire);
    talk.play("C: EHLO me\nC: MAIL FROM:<a@b>\nC: RCPT TO:<c@d>\nC: DATA\nS: 354\nC: x\nC: .\nC: QUIT\nS: EOF");
    CHECK(talk.end().size() == 1);
}

// ---- own verbs and words ----

TEST_CASE("own words have limits, and none can put a line into a reply") {
    const auto fits = [](const Additions& own) {
        Options o = brief();
        o.own = own;
        try {
            o.check();
            return true;
        } catch (const std::invalid_argument&) {
            return false;
        }
    };
    for (const std::size_t size : {1, 2, 59, 60}) CHECK(fits({{std::string(size, 'X')}}));
    CHECK_FALSE(fits({{std::string(61, 'X')}}));
    CHECK(fits({{}, {"X" + std::string(399, ' ')}}));
    CHECK_FALSE(fits({{}, {"X" + std::string(400, ' ')}}));
    for (int c = 0; c < 256; ++c) {
        const std::string word{'X', char(c)};
        const bool fine = (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
        CAPTURE(c);
        CHECK(fits({{word}}) == fine);
        CHECK(fits({{}, {}, {word}}) == fine);
        CHECK(fits({{}, {}, {}, {word}}) == fine);
        if (c < 32 || c == 127) CHECK_FALSE(fits({{}, {"X " + word}}));
    }
}

TEST_CASE("a verb of the program's is its own only as a whole word; what it does not answer is 500") {
    Setup s;
    s.options.own.verbs = {"X"};
    s.listeners = [](Server& server) {
        server.on<Event::Command>([](Event::Command& e) {
            if (e.line == "X") e.reply = {250, "2.0.0", "X it is"};
        });
    };
    dialogue(
        "S: 220\nC: X\nS: 250 2.0.0 X it is\nC: XX\nS: 500\nC: x\nS: 500\nC: DATAX\nS: 500\nC: QUIT\nS: 221\nS: EOF",
        s);
}

TEST_CASE("names of the server's own parameters keep their meaning, though the program lists them") {
    Setup s;
    s.options.max_message_size = 1000;
    s.options.own.mail_parameters = {"SIZE", "BODY", "SMTPUTF8", "XA"};
    dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b> SIZE=5000\nS: 552 5.3.4\nC: MAIL FROM:<a@b> SIZE=x\nS: 501\n"
        "C: MAIL FROM:<a@b> BODY=9BIT\nS: 501\nC: MAIL FROM:<\\xc3\\xa4@b> SMTPUTF8\nS: 553 5.6.7\n"
        "C: MAIL FROM:<a@b> XA=1 xa=2\nS: 501\nC: MAIL FROM:<a@b> XA=1\nS: 250\nC: QUIT\nS: 221\nS: EOF",
        s);
}

TEST_CASE("BDAT that is refused now and then, by the program, is never run as commands") {
    std::mt19937 random(5321);
    for (int round = 0; round < 20; ++round) {
        CAPTURE(round);
        const auto refuse = std::make_shared<std::atomic<unsigned>>(unsigned(random()));
        const auto commands = std::make_shared<Notes>();
        Setup s;
        s.options.max_errors = 0;
        s.listeners = [=](Server& server) {
            server.on<Event::Command>([=](Event::Command& e) {
                commands->add(e.line.substr(0, 4));
                if (!e.line.starts_with("BDAT")) return;
                if (*refuse & 1) e.reply = {450, "4.7.1", "Not this one"};
                *refuse = *refuse >> 1;
            });
        };
        Talk talk(s);
        talk.play("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250");
        Names expected{"EHLO", "MAIL", "RCPT"};
        std::string said;
        for (int i = 0; i < 5; ++i) {
            const bool last = i == 4;
            said += last ? "BDAT 6 LAST\r\nQUIT\r\n" : "BDAT 6\r\nRSET\r\n";
            expected.push_back("BDAT");
        }
        said += "NOOP\r\nQUIT\r\n";
        expected.insert(expected.end(), {"NOOP", "QUIT"});
        talk.wire.send(said, Test::Pace::random(unsigned(round), 9));
        for (int i = 0; i < 6; ++i) talk.wire.reply();
        talk.wire.expect("221");
        talk.end();
        CHECK(commands->all() == expected);
    }
}

// ---- replies by other threads ----

TEST_CASE("news come whole and between commands only, to sessions that come, talk, encrypt, log in and go") {
    Options o = with_tls();
    o.reachable = true;
    o.auth = std::make_shared<Toy>();
    o.clear_auth = ClearAuth::everywhere;
    std::mutex mutex;
    std::set<std::string> ids;
    std::atomic<bool> over{false};
    std::atomic<int> told{0};
    {
        RunningServer running(o, [&](Server& s) {
            s.on<Event::Connect>([&](Event::Connect& e) {
                const std::lock_guard lock(mutex);
                ids.insert(e.client.id());
            });
            s.on<Event::Disconnect>([&](Event::Disconnect& e) {
                const std::lock_guard lock(mutex);
                ids.erase(e.client.id());
            });
        });
        std::vector<std::unique_ptr<Background>> talkers, clients;
        for (int i = 0; i < 2; ++i)
            talkers.push_back(std::make_unique<Background>([&] {
                while (!over) {
                    std::set<std::string> all;
                    {
                        const std::lock_guard lock(mutex);
                        all = ids;
                    }
                    for (const auto& id : all)
                        told += running.server.send_to_client(
                            id, {299, "", "first line of the news\nsecond line of the news"});
                    std::this_thread::sleep_for(1ms);
                }
            }));
        for (int i = 0; i < 3; ++i)
            clients.push_back(std::make_unique<Background>([&, i] {
                for (int n = 0; n < 4; ++n) {
                    auto wire = dial(running.server);
                    const auto answer = [&] {
                        auto reply = wire.reply();
                        while (reply.starts_with("299")) {
                            std::erase(reply, '\r');
                            if (reply != "299-first line of the news\n299 second line of the news") wire.fail(reply);
                            reply = wire.reply();
                        }
                        return reply.substr(0, 3);
                    };
                    const auto ask = [&](const std::string& line) {
                        wire.say(line);
                        return answer();
                    };
                    CHECK(answer() == "220");
                    CHECK(ask("EHLO me") == "250");
                    CHECK(ask("AUTH ASK") == "334");
                    // Between a challenge and its response nobody else speaks.
                    wire.say(base64_encode("joe"));
                    CHECK(wire.reply().starts_with("334"));
                    CHECK(ask(base64_encode("sesame")) == "235");
                    CHECK(ask("MAIL FROM:<a@b>") == "250");
                    CHECK(ask("RCPT TO:<c@d>") == "250");
                    CHECK(ask("DATA") == "354");
                    CHECK(ask("x\r\n.") == "250");
                    CHECK(ask("MAIL FROM:<a@b>") == "250");
                    CHECK(ask("RCPT TO:<c@d>") == "250");
                    CHECK(ask("BDAT 5\r\nabc") == "250");
                    CHECK(ask("BDAT 5 LAST\r\nabc") == "250");
                    if ((i + n) % 2) wire.vanish();
                    else CHECK(ask("QUIT") == "221");
                }
            }));
        for (auto& c : clients) c->join();
        over = true;
        for (auto& t : talkers) t->join();
    }
    CHECK(told > 0);
    CHECK(ids.empty());
}

TEST_CASE("sessions over TLS hear news and their end, from many threads at once") {
    Options o = with_tls();
    o.reachable = true;
    Notes ids;
    RunningServer running(
        o, [&](Server& s) { s.on<Event::Connect>([&](Event::Connect& e) { ids.add(e.client.id()); }); },
        "tls:127.0.0.1:0");
    std::vector<std::unique_ptr<Background>> clients, threads;
    std::atomic<int> ready{0};
    for (int i = 0; i < 4; ++i)
        clients.push_back(std::make_unique<Background>([&] {
            auto wire = dial(running.server);
            encrypt(wire);
            wire.expect("220");
            ++ready;
            std::string reply;
            while (!(reply = wire.reply()).starts_with("421")) CHECK(reply == "250 news");
            wire.expect_end();
        }));
    CHECK(eventually([&] { return ready == 4; }));
    for (int i = 0; i < 3; ++i)
        threads.push_back(std::make_unique<Background>([&, i] {
            for (int n = 0; n < 20; ++n)
                for (const auto& id : ids.all()) running.server.send_to_client(id, {250, "", "news"});
            if (i > 0) return;
            for (const auto& id : ids.all())
                while (!running.server.send_to_client(id, {421, "4.3.2", "Enough"})) std::this_thread::yield();
        }));
    for (auto& t : threads) t->join();
    for (auto& c : clients) c->join();
    CHECK(ids.all().size() == 4);
}

// ---- who takes a message when it arrives ----

TEST_CASE("a message that arrives is answered 250 only if everybody has a taker; what nobody takes is the loop's") {
    // What becomes of each of two recipients on arrival and in the loop: nothing, taken, refused.
    for (int which = 0; which < 81; ++which) {
        const int there[] = {which % 3, which / 3 % 3}, here[] = {which / 9 % 3, which / 27 % 3};
        CAPTURE(which);
        const auto act = [](Server::Client& c, const Recipient& r, int how) {
            if (how == 1) c.accept(r);
            if (how == 2) c.reject(r, {550, "5.1.1", "No"});
        };
        Setup s;
        s.listeners = [&](Server& server) {
            server.on<Event::Arrived>([&](Event::Arrived& e) {
                for (std::size_t i = 0; i < 2; ++i) act(e.client, e.client.TO.at(i), there[i]);
            });
        };
        s.handler = [&](Server::Client& c) {
            for (std::size_t i = 0; i < 2; ++i) act(c, c.TO.at(i), here[i]);
        };
        const bool seen = there[0] == 0 || there[1] == 0;
        bool forgotten = false, refused = false;
        for (int i = 0; i < 2; ++i) {
            const int late = seen ? here[i] : 0;
            forgotten |= there[i] == 0 && late == 0;
            refused |= there[i] == 2 || late == 2;
        }
        // Of "never" and "later" the sender hears "later".
        const std::string answer = forgotten ? "451" : refused ? "550" : "250";
        const auto played =
            dialogue(opening + std::string("C: RCPT TO:<e@d>\nS: 250\nC: DATA\nS: 354\nC: x\nC: .\nS: ") + answer +
                         "\nC: QUIT\nS: 221",
                     s);
        CHECK(played.mails.size() == (seen ? 1 : 0));
    }
}
