// event_corners -- events where several things meet: own answers and octets that follow, wakes, ends, failures within
// failures.
#include <Net/SMTP/Server/Plugins/Counters.hpp>
#include <Net/SMTP/Server/Plugins/SessionLog.hpp>
#include <atomic>

#include "../Server/Plugins/LogText.hpp"
#include "over_tls.hpp"

using namespace test;

namespace {

const std::string quit = "C: QUIT\nS: 221\nS: EOF";
const std::string two =
    "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<one@b>\nS: 250\n"
    "C: RCPT TO:<two@b>\nS: 250\nC: DATA\nS: 354\nC: x\nC: .\n";

template <class Kind, class Listener>
Setup hearing(Listener listener) {
    Setup s;
    s.listeners = [listener](Server& server) { server.on<Kind>(listener); };
    return s;
}

// Of its own, in a thread.
struct Reachable {
    explicit Reachable(Options o = brief()) : server(Addresses{"127.0.0.1:0"}, with(std::move(o))) {
        server.on<Event::Connect>([this](Event::Connect& e) { id = e.client.id(); });
        running = Background([this] { server.run([](Server::Client& c) { c.accept(); }); });
    }
    ~Reachable() { server.stop(); }
    static Options with(Options o) {
        o.reachable = true;
        return o;
    }
    Server server;
    std::string id;
    Background running;
};

}  // namespace

// ---- recipients ----

TEST_CASE("a recipient that a listener puts in another's place has to be taken by itself") {
    auto s = hearing<Event::Rcpt>([](Event::Rcpt& e) { e.recipient = Recipient(e.recipient.local + "@inside.test"); });
    s.handler = [](Server::Client& c) { c.accept(c.TO.at(0)); };
    dialogue(two + "S: 451\n" + quit, s);
    s.handler = [](Server::Client& c) {
        for (const auto& r : c.TO) c.accept(r);
    };
    dialogue(two + "S: 250\n" + quit, s);
}

TEST_CASE("recipients that a listener adds, made anew or copied, have to be taken by themselves") {
    for (const bool copied : {false, true}) {
        auto s = hearing<Event::Data>([copied](Event::Data& e) {
            auto& to = e.client.TO;
            to.push_back(copied ? to.front() : Recipient("more@inside.test"));
            to.insert(to.begin(), Recipient("first@inside.test"));
        });
        for (std::size_t missing = 0; missing <= 4; ++missing) {
            s.handler = [missing](Server::Client& c) {
                for (std::size_t i = 0; i < 4; ++i)
                    if (i != missing) c.accept(c.TO.at(i));
            };
            dialogue(two + (missing < 4 ? "S: 451\n" : "S: 250\n") + quit, s);
        }
    }
}

// ---- octets behind a command that somebody else answers ----

TEST_CASE("octets of a BDAT are never commands, whoever refuses it, when, or makes another command of it") {
    std::atomic<int> commands = 0;
    const std::string chunk = "C: BDAT 6 LAST\nc: NOOP\\r\\n\n";
    for (const bool simple : {true, false}) {
        auto s = hearing<Event::Command>([&](Event::Command& e) {
            ++commands;
            if (!e.line.starts_with("QUIT")) e.reply = {550, "5.7.1", "Go away"};
        });
        s.options.simple = simple;
        commands = 0;
        dialogue("S: 220\nC: EHLO me\nS: 550\n" + chunk + "S: 550 5.7.1\n" + quit, s);
        CHECK(commands == 3);
    }
    auto changed = hearing<Event::Command>([](Event::Command& e) {
        if (e.line.starts_with("BDAT")) e.line = "NOOP";
    });
    dialogue("S: 220\nC: EHLO me\nS: 250\n" + chunk + "S: 502\n" + quit, changed);
    auto silent = hearing<Event::Command>([](Event::Command&) {});
    silent.options.simple = false;
    dialogue("S: 220\n" + chunk + "S: 502\n" + quit, silent);
    auto welcome = hearing<Event::Command>([](Event::Command& e) {
        if (e.line.starts_with("BDAT")) e.reply = {250, "2.0.0", "OK"};
    });
    welcome.options.simple = false;
    dialogue("S: 220\n" + chunk + "S: 502\n" + quit, welcome);
}

TEST_CASE("data_mode() does nothing where no 2xx or 3xx of the listener's own begins a text") {
    dialogue("S: 220\nC: NOOP\nS: 250\nC: RSET\nS: 250\n" + quit, hearing<Event::Command>([](Event::Command& e) {
                 if (e.line == "NOOP") e.client.data_mode();
             }));
    dialogue("S: 220\nC: EHLO me\nS: 250\nC: RSET\nS: 250\n" + quit,
             hearing<Event::Helo>([](Event::Helo& e) { e.client.data_mode(); }));
    dialogue("S: 220\nC: NOOP\nS: 250\nC: RSET\nS: 250\n" + quit,
             hearing<Event::Connect>([](Event::Connect& e) { e.client.data_mode(); }));
    dialogue("S: 220\nC: NOOP\nS: 250\nC: RSET\nS: 250\n" + quit,
             hearing<Event::Response>([](Event::Response& e) { e.client.data_mode(); }));
}

TEST_CASE("by LMTP a text of the program's own is answered for each recipient") {
    auto s = hearing<Event::Command>([](Event::Command& e) {
        if (e.line != "DATA") return;
        e.reply = {354, "", "Go on"};
        e.client.data_mode();
    });
    s.options.protocol = Protocol::lmtp;
    dialogue(
        "S: 220\nC: LHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: RCPT TO:<e@d>\nS: 250\n"
        "C: DATA\nS: 354\nC: x\nC: .\nS: 250\nS: 250\n" +
            quit,
        s);
}

TEST_CASE("a text of the program's own that does not come to its end is told too") {
    std::atomic<int> code = 0;
    Setup s;
    s.listeners = [&](Server& server) {
        server.on<Event::Command>([](Event::Command& e) {
            if (e.line != "TEXT") return;
            e.reply = {354, "", "Go on"};
            e.client.data_mode();
        });
        server.on<Event::Text>([&](Event::Text& e) { code = e.reply.code; });
    };
    Talk talk(s);
    talk.play("S: 220\nC: TEXT\nS: 354\nC: half of\n");
    talk.end();
    CHECK(code == 451);
}

TEST_CASE("a text into a pipe that nobody reads is 452 4.3.1, and the program lives") {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    close(ends[0]);
    const int fd = ends[1];
    dialogue("S: 220\nC: TEXT\nS: 354\nC: x\nC: .\nS: 452 4.3.1\n" + quit,
             hearing<Event::Command>([fd](Event::Command& e) {
                 if (e.line != "TEXT") return;
                 e.reply = {354, "", "Go on"};
                 e.client.data_mode(fd);
             }));
    close(fd);
}

TEST_CASE("a text goes into a pipe, whole, though it takes little at once and does not wait") {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    std::string got;
    Background reader([&] {
        char octets[100];
        for (;;) {
            pollfd in{ends[0], POLLIN, 0};
            if (poll(&in, 1, int(std::chrono::milliseconds(patience).count())) <= 0) return;
            const auto n = read(ends[0], octets, sizeof octets);
            if (n <= 0) return;
            got.append(octets, std::size_t(n));
        }
    });
    const std::string line(70, 'y');
    std::string text, want;
    for (int i = 0; i < 3000; ++i) text += "C: " + line + '\n', want += line + "\r\n";
    dialogue("S: 220\nC: TEXT\nS: 354\n" + text + "C: .\nS: 250\n" + quit,
             hearing<Event::Command>([&](Event::Command& e) {
                 if (e.line != "TEXT") return;
                 e.reply = {354, "", "Go on"};
                 e.client.data_mode(ends[1]);
             }));
    close(ends[1]);
    reader.join();
    close(ends[0]);
    CHECK(got == want);
}

TEST_CASE("what requires TLS is not to be had in the clear by a listener's answer") {
    auto s = hearing<Event::Command>([](Event::Command& e) {
        if (e.line == "XSECRET") e.reply = {250, "2.0.0", "Sesame"};
    });
    s.options = with_tls();
    s.options.require_tls = true;
    s.options.own.verbs = {"XSECRET"};
    dialogue("S: 220\nC: EHLO me\nS: 250\nC: XSECRET\nS: 530 5.7.0\nC: XYZZY\nS: 530 5.7.0\n" + quit, s);
}

// ---- replies that end a session ----

TEST_CASE("a Hangup at a reply closes behind it, and 421 or 221 that a listener makes of it too") {
    dialogue("S: 220\nC: EHLO me\nS: 250\nS: EOF", hearing<Event::Response>([](Event::Response& e) {
                 if (e.reply.code == 250) throw Hangup({550, "5.7.1", "No"});
             }));
    for (const int code : {421, 221})
        dialogue("S: 220\nC: EHLO me\nS: " + std::to_string(code) + "\nS: EOF",
                 hearing<Event::Response>([code](Event::Response& e) {
                     if (e.reply.code == 250) e.reply.code = code;
                 }));
    dialogue("S: 220\nS: EOF", hearing<Event::Response>([](Event::Response&) { throw Hangup({550, "5.7.1", "No"}); }));
}

TEST_CASE("a listener can't make a reply one that asks the client to go on") {
    dialogue("S: 220\nC: EHLO me\nS: 250\nC: NOOP\nS: 250\n" + quit, hearing<Event::Response>([](Event::Response& e) {
                 if (e.reply.code == 250) e.reply.code = 354;
             }));
}

TEST_CASE("what others have a session say is said within a transaction too, and 421 ends it there") {
    Reachable r;
    auto wire = dial(r.server);
    play(wire, "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\n");
    CHECK(r.server.send_to_client(r.id, {250, "", "News"}));
    play(wire, "S: 250 News\nC: RCPT TO:<c@d>\nS: 250\n");
    CHECK(r.server.send_to_client(r.id, {421, "", "Go"}));
    play(wire, "S: 421\nS: EOF");
}

TEST_CASE("who is told something is given no more time for his command") {
    auto o = brief();
    o.command_timeout = 2s;
    Reachable r(o);
    auto wire = dial(r.server);
    play(wire, "S: 220\n");
    CHECK(eventually([&] {
        std::this_thread::sleep_for(200ms);
        return !r.server.send_to_client(r.id, {250, "", "Still there?"});
    }));
}

TEST_CASE("who is being told of a session's end can have it say nothing more") {
    std::atomic<int> said = -1;
    Reachable r;
    r.server.on<Event::Disconnect>([&](Event::Disconnect& e) {
        said = r.server.send_to_client(e.client.id(), {250, "", "News"});
    });
    auto wire = dial(r.server);
    play(wire, "S: 220\nC: QUIT\nS: 221\nS: EOF");
    r.server.stop();
    r.running.join();
    CHECK(said == 0);
}

TEST_CASE("news for a client that has not begun its handshake wait, and the handshake goes on") {
    Options o = with_tls();
    o.reachable = true;
    Server server(Addresses{"tls:127.0.0.1:0"}, o);
    std::promise<std::string> connected;
    server.on<Event::TLS>([](Event::TLS& e) { CHECK(e.problem.empty()); });
    Background running([&] {
        auto connection = server.accept();
        Server::Client client(std::move(connection));
        connected.set_value(client.id());
        CHECK(!client.process());
    });
    auto wire = dial(server);
    CHECK(server.send_to_client(connected.get_future().get(), {250, "", "News"}));
    std::this_thread::sleep_for(50ms);  // more than it takes to look
    encrypt(wire);
    play(wire, "S: 220\nS: 250 News\nC: QUIT\nS: 221\nS: EOF");
    running.join();
}

// ---- failures within failures ----

TEST_CASE("trouble that makes trouble comes to an end") {
    struct Note : Event {};
    Pipeline pipeline;
    int troubles = 0;
    pipeline.on<Event::Trouble>([&](Event::Trouble&) {
        if (++troubles > 100) return;
        Note note;
        pipeline.send(note);
    });
    pipeline.on<Note>([](Note&) { throw std::runtime_error("disk full"); });
    Note note;
    pipeline.send(note);
    CHECK(troubles == 1);
    pipeline.send(note);
    CHECK(troubles == 2);
}

TEST_CASE("trouble tells which event it was, and whose function") {
    Pipeline pipeline;
    std::vector<std::size_t> at;
    Names who;
    pipeline.on<Event::Trouble>([&](Event::Trouble& e) {
        at.push_back(e.at);
        who.push_back(e.plugin);
    });
    struct Note : Event {};
    const auto plugin = std::make_shared<Plugin>();
    plugin->on<Note>([](Note&) { throw std::runtime_error("no"); });
    pipeline.add("clumsy", plugin);
    pipeline.on<Note>([](Note&) { throw 7; });
    Note note;
    pipeline.send(note);
    CHECK(at == std::vector<std::size_t>{kind_of<Note>(), kind_of<Note>()});
    CHECK(who == Names{"clumsy", ""});
}

TEST_CASE("replies that are swallowed are counted, and no refusals") {
    Counters counters;
    Setup s;
    s.listeners = [&](Server& server) {
        server.on<Event::Response>([](Event::Response& e) { e.swallow = e.reply.code == 500; });
        counters.listen(server.pipeline());
    };
    dialogue("S: 220\nC: XYZZY\nC: NOOP\nS: 250\n" + quit, s);
    CHECK(counters.snapshot().swallowed == 1);
    CHECK(counters.snapshot().refusals.empty());
    CHECK(counters.prometheus().find("\nsmtp_swallowed_replies_total 1\n") != std::string::npos);
}

TEST_CASE("a listener that throws when it is registered is registered, and that is trouble") {
    Pipeline pipeline;
    int troubles = 0;
    pipeline.on<Event::Trouble>([&](Event::Trouble&) { ++troubles; });
    Pipeline::Listener number = 0;
    CHECK_NOTHROW(number = pipeline.on_all([](Event&) { throw std::runtime_error("no"); }));
    CHECK(troubles == 1);
    CHECK(pipeline.off(number));
}

TEST_CASE("at the end of a pipeline each plugin is detached once, whatever it removes then") {
    struct Leaving : Plugin {
        int times = 0;
        void detached(Pipeline& p, const std::string& name) override {
            ++times;
            p.remove(name);
            p.remove("other");
        }
    };
    const auto one = std::make_shared<Leaving>(), other = std::make_shared<Leaving>();
    {
        Pipeline pipeline;
        pipeline.add("one", one);
        pipeline.add("other", other);
    }
    CHECK(one->times == 1);
    CHECK(other->times == 1);
}

// ---- words ----

TEST_CASE("keywords and verbs of the server's own can't be added, nor more than fit a reply") {
    for (const auto* keyword : {"AUTH PLAIN", "STARTTLS", "SIZE 7", "PIPELINING", "HELP"}) {
        auto o = brief();
        o.own.keywords = {keyword};
        CHECK_THROWS_AS(o.check(), std::invalid_argument);
    }
    auto o = brief();
    o.own.verbs = {"DATA"};
    CHECK_THROWS_AS(o.check(), std::invalid_argument);
    o.own.verbs = {"EXPN", "ETRN", "SOML"};
    CHECK_NOTHROW(o.check());
    o = brief();
    for (int i = 0; i < 51; ++i) o.own.keywords.push_back("X" + std::to_string(i));
    CHECK_THROWS_AS(o.check(), std::invalid_argument);
    o.own.keywords.pop_back();
    CHECK_NOTHROW(o.check());
}

TEST_CASE("the longest sender there is leaves a log's line in order") {
    Names lines;
    Setup s;
    s.listeners = [&](Server& server) {
        SessionLog([&](std::string_view line) { lines.emplace_back(line); }).listen(server.pipeline());
    };
    std::string domain;
    for (int i = 0; i < 25; ++i) domain += "aaaaaaaaa.";
    const auto sender = '<' + std::string(64, 'x') + '@' + domain + "aaaaa>";
    dialogue("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:" + sender + "\nS: 250\n" + quit, s);
    REQUIRE(lines.size() == 2);
    CHECK(lines[0].find(" from=" + sender + " to=0 ") != std::string::npos);
}

TEST_CASE("what turns lines around, or ends them, is no part of a log's text") {
    CHECK(log_text("a\xE2\x80\xAE"
                   "b\xE2\x80\xA8"
                   "c\xE2\x81\xA6",
                   100) ==
          "a\\xE2\\x80\\xAE"
          "b\\xE2\\x80\\xA8"
          "c\\xE2\\x81\\xA6");
    CHECK(log_text("\xE2\x80\xA7\xE2\x82\xAC", 100) == "\xE2\x80\xA7\xE2\x82\xAC");
}

TEST_CASE("a log's text keeps what is plain between what is not, wherever it stands") {
    CHECK(log_text("", 10).empty());
    CHECK(log_text("\\a b\x01\x7F\xC3\xA4 c\n", 100) == "\\x5Ca b\\x01\\x7F\xC3\xA4 c\\x0A");
    CHECK(log_text("a\xFF\xC3\xA4z", 100) == "a\\xFF\\xC3\\xA4z");  // is no UTF-8 as a whole
    CHECK(log_text("a \"b\"", 100, " \"") == "a\\x20\\x22b\\x22");
    CHECK(log_text("ab\xC3\xA4", 3) == "ab[and 2 octets]");
    CHECK(json_text("", 10) == "\"\"");
    CHECK(json_text("\\a\"b\x01\x7F\xC3\xA4", 100) == "\"\\\\a\\\"b\\u0001\\u007F\xC3\xA4\"");
    CHECK(json_text("a\xFFz", 100) == "\"a\\uFFFDz\"");
}

TEST_CASE("a log's moment is UTC to the millisecond, in leap years and before 1970 too") {
    using namespace std::chrono;
    const auto shown = [](sys_days day, system_clock::duration since) { return log_time(day + since); };
    CHECK(shown(1970y / 1 / 1, 0s) == "1970-01-01T00:00:00.000Z");
    CHECK(shown(1970y / 1 / 1, -1ms) == "1969-12-31T23:59:59.999Z");
    CHECK(shown(1970y / 1 / 1, -1us) == "1969-12-31T23:59:59.999Z");
    CHECK(shown(2024y / 2 / 29, 23h + 59min + 59s + 999999us) == "2024-02-29T23:59:59.999Z");
    CHECK(shown(2026y / 1 / 31, 12h + 34min + 56s + 789ms) == "2026-01-31T12:34:56.789Z");
    CHECK(shown(2100y / 3 / 1, 1h + 2min + 3s + 4ms) == "2100-03-01T01:02:03.004Z");
}
