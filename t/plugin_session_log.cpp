// plugin_session_log -- a line for each session and mail, whatever becomes of them, and that every line can be read.
#include <Net/SMTP/Server/Plugins/SessionLog.hpp>
#include <map>

#include "crowd.hpp"
#include "over_tls.hpp"
#include "toy_authenticator.hpp"

using namespace test;

namespace {

using Fields = std::map<std::string, std::string>;

// Strictly key=value, a value in quotes where it has blanks; no key twice.
Fields parsed(std::string_view line) {
    Fields fields;
    for (std::size_t at = 0; at < line.size();) {
        const auto equals = line.find('=', at);
        REQUIRE(equals != line.npos);
        const bool quoted = equals + 1 < line.size() && line[equals + 1] == '"';
        const auto begin = equals + 1 + quoted;
        auto end = line.find(quoted ? '"' : ' ', begin);
        if (quoted) REQUIRE(end != line.npos);
        else end = std::min(end, line.size());
        const std::string value(line.substr(begin, end - begin));
        if (!quoted) CHECK(!value.empty());
        for (const char c : value) CHECK((static_cast<unsigned char>(c) >= 32 && c != 127));
        CHECK(fields.emplace(line.substr(at, equals - at), value).second);
        at = end + quoted;
        if (at < line.size()) REQUIRE(line[at++] == ' ');
    }
    return fields;
}

// One flat object of strings and numbers.
Fields parsed_json(std::string_view line) {
    Fields fields;
    std::size_t at = 0;
    const auto take = [&](char c) { REQUIRE((at < line.size() && line[at++] == c)); };
    const auto string = [&] {
        std::string out;
        take('"');
        while (at < line.size() && line[at] != '"') {
            CHECK(static_cast<unsigned char>(line[at]) >= 32);
            if (line[at] == '\\') out += line[at++];
            REQUIRE(at < line.size());
            out += line[at++];
        }
        take('"');
        return out;
    };
    take('{');
    for (;;) {
        const auto key = string();
        take(':');
        std::string value;
        if (at < line.size() && line[at] == '"') value = string();
        else
            while (at < line.size() && line[at] >= '0' && line[at] <= '9') value += line[at++];
        CHECK(fields.emplace(key, value).second);
        REQUIRE(at < line.size());
        if (line[at] == '}') break;
        take(',');
    }
    CHECK(at + 1 == line.size());
    CHECK(valid_utf8(line));
    return fields;
}

class Log {
public:
    explicit Log(SessionLog::Format format = SessionLog::Format::key_value) : format_(format) {}
    void listen(Server& server) const {
        SessionLog(
            [state = state_](std::string_view line) {
                const std::lock_guard lock(state->mutex);
                state->lines.emplace_back(line);
            },
            format_)
            .listen(server.pipeline());
    }
    std::vector<Fields> get(const std::string& event) const {
        const std::lock_guard lock(state_->mutex);
        std::vector<Fields> out;
        for (const auto& line : state_->lines) {
            auto fields = format_ == SessionLog::Format::json ? parsed_json(line) : parsed(line);
            if (fields["event"] == event) out.push_back(std::move(fields));
        }
        return out;
    }
    std::vector<Fields> mails() const { return get("mail"); }
    // "answered 250 2 0": why, code, to, refused
    std::vector<std::string> ends() const {
        std::vector<std::string> out;
        for (auto& m : mails()) out.push_back(m["why"] + ' ' + m["code"] + ' ' + m["to"] + ' ' + m["refused"]);
        return out;
    }
    Fields session() const {
        const auto all = get("session");
        REQUIRE(all.size() == 1);
        return all[0];
    }

private:
    struct State {
        std::mutex mutex;
        std::vector<std::string> lines;
    };
    std::shared_ptr<State> state_ = std::make_shared<State>();
    SessionLog::Format format_;
};

Setup logged(const Log& log, Setup s = {}) {
    s.listeners = [log, before = s.listeners](Server& server) {
        if (before) before(server);
        log.listen(server);
    };
    return s;
}

using Ends = std::vector<std::string>;

const std::string greeting = "S: 220\nC: EHLO me\nS: 250\n";
const std::string envelope = "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n";
const std::string text = "C: DATA\nS: 354\nC: Subject: x\nC:\nC: hello\nC: .\n";
const std::string quit = "C: QUIT\nS: 221\nS: EOF";

}  // namespace

TEST_CASE("a mail and its session are a line each, with who, what and how it ended") {
    for (const auto format : {SessionLog::Format::key_value, SessionLog::Format::json}) {
        Log log(format);
        auto setup = logged(log);
        setup.options.name = "in \"front\"=";
        const auto played = dialogue(greeting + envelope + text + "S: 250\n" + quit, setup);
        REQUIRE(log.mails().size() == 1);
        auto m = log.mails()[0], s = log.session();
        for (auto* fields : {&m, &s}) {
            auto& f = *fields;
            const std::string name = format == SessionLog::Format::json ? "in \\\"front\\\"=" : "in \\x22front\\x22=";
            CHECK(f["server"] == name);
            CHECK(f["time"].size() == 24);
            CHECK(f["session"].size() == 13);
            CHECK(f["peer"].starts_with("127.0.0.1:"));
            CHECK(f["helo"] == "me");
            CHECK(f["tls"] == "");
            CHECK(f["cipher"] == "");
            CHECK(f["user"] == "");
            CHECK(f["ms"].find_first_not_of("0123456789") == std::string::npos);
            CHECK(!f["ms"].empty());
        }
        CHECK(m["id"] == played.mails.at(0).id);
        CHECK(m["from"] == "<a@b>");
        CHECK(m["to"] == "1");
        CHECK(m["refused"] == "0");
        CHECK(m["size"] == "21");
        CHECK(m["code"] == "250");
        CHECK(m["status"] == "2.0.0");
        CHECK(m["taken"] == "1");
        CHECK(m["answers"] == "1");
        CHECK(m["why"] == "answered");
        CHECK(s["mails"] == "1");
        CHECK(s["refused"] == "0");
        CHECK(s["bytes"] == "21");
        CHECK(s["commands"] == "5");
        CHECK(s["code"] == "221");
        CHECK(s["why"] == "quit");
    }
}

TEST_CASE("the verdict in the log is the program's, of each mail its own") {
    Log log;
    auto setup = logged(log);
    setup.handler = [n = 0](Server::Client& c) mutable {
        if (++n == 2) return c.reject({554, "5.7.1", "No"});
        if (n == 4) c.MSG = Message(), c.FROM = Sender(), c.TO.clear();  // they are the program's to change
        c.accept();
    };
    dialogue(greeting + envelope + text + "S: 250\n" + envelope + "C: RCPT TO:<x@d>\nS: 250\n" + text + "S: 554\n" +
                 envelope + text + "S: 250\n" + envelope + text + "S: 250\n" + quit,
             setup);
    CHECK(log.ends() == Ends{"answered 250 1 0", "answered 554 2 0", "answered 250 1 0", "answered 250 1 0"});
    CHECK(log.mails()[3]["size"] == "21");
    CHECK(log.session()["mails"] == "3");
    CHECK(log.session()["refused"] == "1");
    CHECK(log.session()["bytes"] == "84");
}

TEST_CASE("a mail that listeners refuse or take when it arrives has its line too") {
    for (const bool take : {false, true}) {
        Log log;
        Setup s;
        s.listeners = [take](Server& server) {
            server.on<Event::Arrived>([take](Event::Arrived& e) {
                if (take) e.client.accept();
                else e.reply = {550, "5.7.1", "No"};
            });
        };
        dialogue(greeting + envelope + text + (take ? "S: 250\n" : "S: 550\n") + quit, logged(log, s));
        CHECK(log.ends() == Ends{take ? "answered 250 1 0" : "answered 550 1 0"});
    }
}

TEST_CASE("by LMTP the line tells how many of the answers were positive, and the worst") {
    Log log;
    auto setup = logged(log);
    setup.options.protocol = Protocol::lmtp;
    setup.handler = [](Server::Client& c) {
        c.accept(c.TO.at(0));
        c.reject(c.TO.at(1), {550, "5.1.1", "Not the second"});
        c.accept(c.TO.at(2));
    };
    dialogue("S: 220\nC: LHLO me\nS: 250\n" + envelope + "C: RCPT TO:<e@d>\nS: 250\nC: RCPT TO:<f@d>\nS: 250\n" + text +
                 "S: 250\nS: 550\nS: 250\n" + quit,
             setup);
    CHECK(log.ends() == Ends{"answered 550 3 0"});
    CHECK(log.mails()[0]["taken"] == "2");
    CHECK(log.mails()[0]["answers"] == "3");
    CHECK(log.session()["mails"] == "1");
}

TEST_CASE("texts that are refused on the way are one line each, by LMTP too") {
    Log log;
    auto setup = logged(log);
    setup.options.max_message_size = 10;
    dialogue(greeting + envelope + text + "S: 552\n" + envelope + "C: DATA\nS: 354\nC: x\nC: .\nS: 250\n" + quit,
             setup);
    CHECK(log.ends() == Ends{"refused 552 1 0", "answered 250 1 0"});
    CHECK(log.mails()[0]["size"] == "0");
    Log by_lmtp;
    setup.listeners = [&](Server& s) { by_lmtp.listen(s); };
    setup.options.protocol = Protocol::lmtp;
    dialogue(
        "S: 220\nC: LHLO me\nS: 250\n" + envelope + "C: RCPT TO:<e@d>\nS: 250\n" + text + "S: 552\nS: 552\n" + quit,
        setup);
    CHECK(by_lmtp.ends() == Ends{"refused 552 2 0"});
}

TEST_CASE("a refusal of DATA is a line; the transaction that goes on is another one when it is answered") {
    Log log;
    Setup s;
    s.listeners = [](Server& server) {
        server.on<Event::Data>([n = std::make_shared<int>(0)](Event::Data& e) {
            if (++*n != 2) e.reply = {451, "4.7.1", "Later"};
        });
    };
    dialogue(greeting + envelope + "C: DATA\nS: 451\n" + text + "S: 250\n" + envelope +
                 "C: DATA\nS: 451\nC: RSET\nS: 250\n" + quit,
             logged(log, s));
    CHECK(log.ends() == Ends{"refused 451 1 0", "answered 250 1 0", "refused 451 1 0"});
}

TEST_CASE("chunks are one mail, and replies to other commands between them are not its answer") {
    Log log;
    dialogue(greeting + envelope +
                 "C: BDAT 3\nc: abc\nS: 250\nC: XYZZY\nS: 500\nC: RCPT TO:<x@y>\nS: 503\nC: BDAT 3 LAST\nc: "
                 "d\\r\\n\nS: 250\n" +
                 envelope + "C: BDAT 3\nc: abc\nS: 250\nC: RSET\nS: 250\n" + quit,
             logged(log));
    CHECK(log.ends() == Ends{"answered 250 1 1", "dropped 0 1 0"});
    Log refused;
    auto setup = logged(refused);
    setup.options.max_message_size = 5;
    dialogue(greeting + envelope +
                 "C: BDAT 3\nc: abc\nS: 250\nC: BDAT 4\nc: defg\nS: 552\nC: BDAT 1 LAST\nc: h\nS: 552\n" + quit,
             setup);
    CHECK(refused.ends() == Ends{"refused 552 1 0"});
}

TEST_CASE("what comes to nothing is told: refused senders and recipients, RSET, EHLO, QUIT, a lost connection") {
    Setup s;
    s.listeners = [](Server& server) {
        server.on<Event::Mail>([](Event::Mail& e) {
            if (e.sender.local == "no") e.reply = {550, "5.7.1", "Not you"};
        });
        server.on<Event::Rcpt>([](Event::Rcpt& e) {
            if (e.recipient.local == "no") e.reply = {550, "5.1.1", "Nobody"};
        });
    };
    Log log;
    dialogue(greeting + "C: MAIL FROM:<no@b>\nS: 550\nC: MAIL FROM:b\nS: 501\n" +  //
                 "C: MAIL FROM:<>\nS: 250\nC: MAIL FROM:<z@b>\nS: 503\nC: RCPT TO:<no@d>\nS: 550\nC: DATA\nS: 503\nC: "
                 "RSET\nS: 250\n" +
                 envelope + "C: EHLO me\nS: 250\n" + envelope + quit,
             logged(log, s));
    CHECK(log.ends() == Ends{"refused 550 0 0", "dropped 0 0 1", "dropped 0 1 0", "dropped 0 1 0"});
    CHECK(log.mails()[0]["from"] == "<no@b>");
    CHECK(log.mails()[1]["from"] == "<>");
    for (const auto& last : {std::string(), std::string("C: DATA\nS: 354\nC: half of it\n")}) {
        Log lost;
        dialogue(greeting + envelope + last, logged(lost));
        CHECK(lost.ends() == Ends{"lost 0 1 0"});
        CHECK(lost.session()["why"] == "lost");
        CHECK(lost.session()["code"] == "0");
    }
}

TEST_CASE("the session's line says why it ended") {
    const auto why = [](const std::string& script, Setup setup) {
        Log log;
        dialogue(script, logged(log, std::move(setup)));
        return log.session()["why"];
    };
    Setup impatient, refusing, limited;
    impatient.options.command_timeout = 1s;
    CHECK(why("S: 220\nS: 421\nS: EOF", impatient) == "timeout");
    refusing.listeners = [](Server& s) {
        s.on<Event::Connect>([](Event::Connect& e) { e.reply = {554, "5.7.1", "No"}; });
    };
    CHECK(why("S: 554\nS: EOF", refusing) == "refused");
    limited.options.max_errors = 1;
    CHECK(why("S: 220\nC: X\nS: 500\nC: X\nS: 421\nS: EOF", limited) == "limit");
    Log log;
    auto setup = logged(log);
    setup.options = with_tls();
    Talk talk(setup);
    talk.play(starttls);
    talk.wire.send("this is no handshake\r\n");
    talk.end();
    CHECK(log.session()["why"] == "tls");
}

TEST_CASE("TLS and the user are in the lines") {
    Log log;
    auto setup = logged(log, authenticating());
    setup.options.tls = acceptor();
    dialogue_over_tls("C: EHLO you\nS: 250\nC: " + plain() + "\nS: 235\n" + envelope + text + "S: 250\n" + quit, setup);
    REQUIRE(log.mails().size() == 1);
    for (auto f : {log.mails()[0], log.session()}) {
        CHECK(f["tls"] == "TLSv1.3");
        CHECK(f["cipher"].starts_with("TLS_"));
        CHECK(f["user"] == "joe");
        CHECK(f["helo"] == "you");
    }
}

TEST_CASE("a line stays one, whatever names clients give themselves") {
    for (const auto format : {SessionLog::Format::key_value, SessionLog::Format::json}) {
        Log log(format);
        auto setup = logged(log, authenticating());
        auto toy = std::make_shared<Toy>();
        toy->add("QUOTES", [](Response r) -> test::Step {
            return r ? test::Step{Is::success, "", "a\" why=\"b\\\xFF"} : test::Step{Is::challenge};
        });
        setup.options.auth = toy;
        dialogue(
            "S: 220\nC: EHLO a=\"b\"\nS: 250\nC: AUTH QUOTES =\nS: 235\nC: MAIL FROM:<\"x\\\\\"y z\"@b>\nS: 250\n" +
                quit,
            setup);
        const bool json = format == SessionLog::Format::json;
        auto m = log.mails().at(0);
        CHECK(m["helo"] == (json ? "a=\\\"b\\\"" : "a=\\x22b\\x22"));
        CHECK(m["user"] == (json ? "a\\\" why=\\\"b\\\\\\uFFFD" : "a\\x22 why=\\x22b\\x5C\\xFF"));
        CHECK(m["from"] == (json ? "<\\\"x\\\\\\\"y z\\\"@b>" : "<\\x22x\\x5C\\x22y z\\x22@b>"));
        CHECK(m["why"] == "dropped");
    }
}

TEST_CASE("a log that throws is trouble, and no mail is refused for it") {
    Setup s;
    s.listeners = [](Server& server) {
        SessionLog([](std::string_view) { throw std::runtime_error("disk full"); }).listen(server.pipeline());
    };
    const auto played = dialogue(greeting + envelope + text + "S: 250\n" + quit, s);
    CHECK(played.troubles == Ends{"disk full", "disk full"});
}

TEST_CASE("20 clients at once have the lines that are theirs") {
    Log log;
    RunningServer running({}, [&](Server& s) { log.listen(s); });
    crowd(running.server, [](Wire& wire, int i) {
        for (int n = 0; n < 5; ++n) send_mail(wire, "a" + std::to_string(i) + "@b", {"c@d"});
    });
    running.server.stop();
    running.thread.join();
    std::map<std::string, std::map<std::string, int>> senders;
    for (auto& m : log.mails()) ++senders[m["session"]][m["from"]];
    CHECK(senders.size() == 20);
    for (const auto& [session, from] : senders) {
        REQUIRE(from.size() == 1);
        CHECK(from.begin()->second == 5);
    }
    CHECK(log.get("session").size() == 20);
}
