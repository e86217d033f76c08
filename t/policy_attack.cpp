// policy_attack -- hostile addresses, patterns and texts against the ready policies: who may relay, who gets a message,
// and what logs and numbers say of it.
#include <Net/SMTP/Relay/Handlers.hpp>
#include <Net/SMTP/Server/Plugins/Counters.hpp>
#include <Net/SMTP/Server/Plugins/Domains.hpp>
#include <Net/SMTP/Server/Plugins/LogText.hpp>
#include <Net/SMTP/Server/Plugins/SessionLog.hpp>
#include <Net/SMTP/Server/Plugins/Transcript.hpp>
#include <random>

#include "dialogue.hpp"

using namespace test;

namespace {

using To = std::vector<Recipient>;

template <class Random, std::size_t n>
const std::string& one_of(Random& random, const std::string (&all)[n]) {
    return all[random() % n];
}

// Something that looks like the inside of RCPT TO:<...>, more often than not.
std::string odd_path(std::mt19937& random) {
    static const std::string pieces[] = {
        "@",           "%",          "!",          "\"",       "\\",        ":",          ",",
        ".",           "ours.test",  "evil.test",  "a",        "OURS.TEST", "postmaster", "Postmaster",
        "[127.0.0.1]", "[IPv6:::1]", "xn--ours",   "\xc3\xb6", " ",         "+",          "sub.ours.test",
        "-",           "@ours.test", "@evil.test", "\"@\"",    "<",         "()"};
    std::string out;
    for (auto n = 1 + random() % 7; n > 0; --n) out += one_of(random, pieces);
    return out;
}

// RFC 5321 4.1.2: the domain behind the last @ that is not in quotes.
std::string domain_of(const std::string& path) {
    bool quoted = false;
    std::size_t at = path.npos;
    for (std::size_t i = 0; i < path.size(); ++i) {
        if (path[i] == '\\' && quoted) ++i;
        else if (path[i] == '"') quoted = !quoted;
        else if (path[i] == '@' && !quoted) at = i;
    }
    return at == path.npos ? "" : path.substr(at + 1);
}

std::string local_of(const std::string& path) {
    const auto domain = domain_of(path);
    auto local = domain.empty() ? path : path.substr(0, path.size() - domain.size() - 1);
    const auto route = local.find(':');  // of what was accepted, none but a route holds one outside of quotes
    if (local.starts_with('@') && route != local.npos) local = local.substr(route + 1);
    return local;
}

Setup with(const std::shared_ptr<Handlers>& handlers, Protocol protocol = Protocol::smtp) {
    Setup setup;
    setup.options.protocol = protocol;
    setup.listeners = [handlers](Server& s) { s.pipeline().add("handlers", handlers); };
    return setup;
}

Reply fine(Server::Client&, const To&) { return {}; }

std::string random_octets(std::mt19937& random, std::size_t most) {
    static const std::string pieces[] = {"\r",
                                         "\n",
                                         "\x1b[2J",
                                         "\"",
                                         "\\",
                                         "=",
                                         " ",
                                         "\xc2\x9b",
                                         "\xff",
                                         "\xe2\x80\xa8",
                                         "a",
                                         "key=value",
                                         std::string(1, '\0'),
                                         "\x7f",
                                         "\t",
                                         ",",
                                         "{",
                                         "}",
                                         "\xc3\xa4",
                                         "\xf0\x9f\x98\x80",
                                         "%s%n"};
    std::string out;
    while (out.size() < most && random() % 12 != 0) out += one_of(random, pieces);
    return out;
}

// What may stand in a log: one line, nothing a terminal obeys.
bool tame(std::string_view line) {
    for (std::size_t i = 0; i < line.size(); ++i) {
        const auto c = static_cast<unsigned char>(line[i]);
        if (c < 32 || c == 127) return false;
        if (c == 0xC2 && i + 1 < line.size() && static_cast<unsigned char>(line[i + 1]) < 0xA0) return false;
    }
    return valid_utf8(line);
}

}  // namespace

// ---- Domains ----

TEST_CASE(
    "of thousands of odd recipients a stranger's pass only at our domain, and without a way on in the local part") {
    std::mt19937 random(5321);
    Setup setup;
    setup.options.offer.smtputf8 = true;
    setup.options.max_errors = 0;
    setup.options.max_recipients = 0;
    setup.listeners = [](Server& s) {
        s.pipeline().add("domains",
                         std::make_shared<Domains>(Domains::Options{.domains = {"ours.test", ".sub.ours.test"}}));
    };
    Talk talk(setup);
    talk.play("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b> SMTPUTF8\nS: 250");
    int passed = 0, denied = 0;
    for (int n = 0; n < 3000; ++n) {
        auto path = odd_path(random);
        if (random() % 2) path = "a" + path + (random() % 2 ? "@ours.test" : "@evil.test");
        talk.wire.say("RCPT TO:<" + path + ">");
        const auto reply = talk.wire.reply();
        CAPTURE(path);
        denied += reply.starts_with("550 5.7.1");
        if (!reply.starts_with("250")) continue;
        ++passed;
        const auto local = local_of(path), domain = domain_of(path);
        if (domain.empty()) CHECK(same_text(local, "postmaster"));
        else CHECK(same_text(domain, "ours.test"));
        CHECK(local.find_first_of("%!@") == local.npos);
    }
    CHECK(passed > 20);
    CHECK(denied > 20);
    talk.play("C: QUIT\nS: 221\nS: EOF");
}

TEST_CASE("by double_at the text behind the last @ decides, however odd the rest is") {
    std::mt19937 random(1425);
    Setup setup;
    setup.options.max_errors = 0;
    setup.options.max_recipients = 0;
    setup.listeners = [](Server& s) {
        s.pipeline().add("domains",
                         std::make_shared<Domains>(Domains::Options{.domains = {"ours.test"}, .double_at = true}));
    };
    Talk talk(setup);
    talk.play("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250");
    int passed = 0;
    for (int n = 0; n < 2000; ++n) {
        auto path = odd_path(random);
        if (random() % 2) path = "a@" + path + (random() % 2 ? "@ours.test" : "@evil.test");
        talk.wire.say("RCPT TO:<" + path + ">");
        const auto reply = talk.wire.reply();
        if (!reply.starts_with("250")) continue;
        ++passed;
        CAPTURE(path);
        const auto domain = domain_of(path);
        const bool postmaster = domain.empty() && same_text(path, "postmaster");
        const bool ours = same_text(domain, "ours.test");
        CHECK((postmaster || ours));
        CHECK(path.find_first_of("%!") == path.npos);
    }
    CHECK(passed > 20);
    talk.play("C: QUIT\nS: 221\nS: EOF");
}

TEST_CASE("the root's dot, empty labels and literals in disguise are no domain of ours") {
    const Domains domains({.domains = {"ours.test", "[192.0.2.1]"}});
    for (const std::string other : {"", ".", "ours.test.", ".ours.test", "ours..test", " ours.test", "ours.test ",
                                    "192.0.2.1", "[192.0.2.10]", "[192.0.2.01]", "[192.0.2.1", "ourstest", "test"}) {
        CAPTURE(other);
        CHECK_FALSE(domains.ours(other));
    }
    CHECK_FALSE(domains.ours(std::string("ours.test\0", 10)));
    CHECK(domains.ours("oURS.tEST"));
}

// ---- Handlers ----

TEST_CASE("whatever handlers do, by LMTP each recipient hears its own, and by SMTP the sender the worst") {
    // What a handler may do, and what its recipient is to hear.
    struct Way {
        Handlers::Function act;
        int code;
    };
    const Way ways[] = {
        {fine, 250},
        {[](auto&, auto&) -> Reply {
             return {550, "5.1.1", "No"};
         },
         550},
        {[](auto&, auto&) -> Reply {
             return {450, "4.2.1", "Later"};
         },
         450},
        {[](auto&, auto&) -> Reply { throw std::runtime_error("hush"); }, 451},
        {[](auto&, auto&) -> Reply {
             throw Hangup({554, "5.7.1", "Never"});
         },
         554},
        {[](auto& c, auto& to) -> Reply { return c.accept(to[0]), c.accept(to[0]), Reply{}; }, 250},
        {[](auto& c, auto& to) -> Reply {
             return c.reject(to[0], {552, "5.2.2", "Full"}), Reply{};
         },
         552},
        {[](auto& c, auto& to) -> Reply {
             return c.accept(to[0]), Reply{553, "5.1.3", "After all not"};
         },
         553},
        {[](auto& c, auto&) -> Reply { return c.TO.clear(), c.FROM = Sender(), c.MSG = Message(), Reply{}; }, 250},
        {[](auto&, auto&) -> Reply {
             return {0, "", ""};
         },
         451},
        {[](auto&, auto&) -> Reply {
             return {354, "", "Go on"};
         },
         451},
    };
    const auto rank = [](int code) { return code < 300 ? 0 : code < 500 ? 2 : 1; };  // 4xx: it may still come
    std::mt19937 random(2033);
    for (int round = 0; round < 40; ++round) {
        std::vector<Handlers::Handler> list;
        std::string script, answers;
        const auto count = 1 + random() % 5;
        int worst = 250;
        for (std::size_t i = 0; i < count; ++i) {
            const auto& way = ways[random() % std::size(ways)];
            list.push_back({"^r" + std::to_string(i) + "@", way.act});
            script += "C: RCPT TO:<r" + std::to_string(i) + "@d>\nS: 250\n";
            answers += "S: " + std::to_string(way.code) + '\n';
            if (rank(way.code) > rank(worst)) worst = way.code;
        }
        CAPTURE(round);
        const auto handlers = std::make_shared<Handlers>();
        handlers->set(list);
        const std::string rest = "C: DATA\nS: 354\nC: x\nC: .\n", end = "C: QUIT\nS: 221\nS: EOF";
        const std::string begin = " me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\n";
        auto played =
            dialogue("S: 220\nC: LHLO" + begin + script + rest + answers + end, with(handlers, Protocol::lmtp));
        CHECK(played.mails.empty());
        played = dialogue("S: 220\nC: EHLO" + begin + script + rest + "S: " + std::to_string(worst) + '\n' + end,
                          with(handlers));
        CHECK(played.mails.empty());
        CHECK(played.heard.find("hush") == played.heard.npos);
    }
}

TEST_CASE("client.reconsider() in a handler undoes what was said before, and never makes 250 of nobody") {
    Setup setup;
    const auto handlers = std::make_shared<Handlers>();
    handlers->set({{"^one@",
                    [](auto&, auto&) -> Reply {
                        return {550, "5.1.1", "No"};
                    }},
                   {"^two@", [](Server::Client& c, auto&) -> Reply { return c.reconsider(), Reply{}; }}});
    setup = with(handlers);
    setup.handler = [](Server::Client&) {};
    dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<one@d>\nS: 250\nC: RCPT TO:<two@d>\nS: "
        "250\n"
        "C: DATA\nS: 354\nC: x\nC: .\nS: 451\nC: QUIT\nS: 221",
        setup);
}

TEST_CASE("patterns that cost others minutes or gigabytes are refused, or harmless") {
    Handlers handlers;
    for (const auto& bad : {std::string("(((a{100}){100}){100})"), std::string("a**b("), std::string("\xff"),
                            std::string("\\"), std::string("["), std::string("(?P<n"), std::string("\\8"),
                            std::string("(?=a)"), std::string(1025, 'a'), std::string()}) {
        CAPTURE(bad);
        CHECK_THROWS_AS(handlers.set({{bad, fine}}), std::invalid_argument);
    }
    std::string text(60'000, 'a');
    Recipient victim("x@y");
    victim.local = text;
    for (const std::string slow :
         {"(a*)*b", "(a|aa)+$b", "(.*a){20}b", "(?i)(A+)+B", "^(a?){200}a{200}c", "([a-z]+)+[0-9]"}) {
        CAPTURE(slow);
        handlers.set({{slow, fine}});
        CHECK(handlers.find(victim) == std::nullopt);
    }
}

TEST_CASE("a handler may remove its plugin, and set another list, while its message is under way") {
    const auto handlers = std::make_shared<Handlers>();
    std::atomic<int> calls{0};
    const auto weak = std::weak_ptr(handlers);
    Handlers::Function leave = [&calls, weak](Server::Client& c, const To&) -> Reply {
        ++calls;
        c.pipeline().remove("handlers");
        if (const auto self = weak.lock()) self->set({});
        return {250, "2.0.0", "Gone"};
    };
    handlers->set({{"^one@", leave}, {"^two@", leave}});
    Setup setup = with(handlers);
    setup.handler = [](Server::Client& c) { c.accept({250, "2.0.0", "The loop"}); };
    const std::string mail =
        "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<one@d>\nS: 250\nC: RCPT TO:<two@d>\nS: 250\nC: DATA\nS: 354\nC: .\n";
    dialogue(
        "S: 220\nC: EHLO me\nS: 250\n" + mail + "S: 250 2.0.0 Gone\n" + mail + "S: 250 2.0.0 The loop\nC: QUIT\nS: 221",
        setup);
    CHECK(calls == 2);
}

TEST_CASE("lists are set by many threads while many look, and each finds itself in one of them") {
    Handlers handlers;
    std::atomic<bool> over{false};
    const Recipient who("who@d");
    std::vector<std::unique_ptr<Background>> threads;
    for (int i = 0; i < 2; ++i)
        threads.push_back(std::make_unique<Background>([&, i] {
            for (int n = 0; n < 200; ++n) {
                std::vector<Handlers::Handler> list(std::size_t(i + 1), {"^other@", fine});
                list.push_back({"^who@", fine});
                handlers.set(list);
            }
        }));
    for (int i = 0; i < 2; ++i)
        threads.push_back(std::make_unique<Background>([&] {
            while (!over) {
                const auto found = handlers.find(who).value_or(1);
                CHECK((found == 1 || found == 2));
                CHECK(handlers.get().size() <= 3);
            }
        }));
    threads[0]->join();
    threads[1]->join();
    over = true;
    threads[2]->join();
    threads[3]->join();
    CHECK(handlers.find(who).has_value());
}

// ---- logs and numbers ----

TEST_CASE("log_text and json_text make tame lines of whatever octets, at whatever length") {
    std::mt19937 random(8259);
    for (int n = 0; n < 3000; ++n) {
        const auto text = random_octets(random, 60);
        const std::size_t limit = random() % 40;
        CAPTURE(log_text(text, 1000));
        const auto log = log_text(text, limit, "\"");
        CHECK(tame(log));
        CHECK(log.find('"') == log.npos);
        if (text.size() > limit) CHECK(log.ends_with(" octets]"));
        const auto json = json_text(text, limit);
        CHECK(valid_utf8(json));
        REQUIRE(json.size() >= 2);
        bool escaped = false;
        for (std::size_t i = 1; i + 1 < json.size(); ++i) {
            CHECK(static_cast<unsigned char>(json[i]) >= 32);
            if (!escaped) CHECK(json[i] != '"');
            escaped = !escaped && json[i] == '\\';
        }
        CHECK_FALSE(escaped);
        CHECK(json.back() == '"');
    }
}

TEST_CASE("no octets of a client's break a line of transcript or log, or make one of their own") {
    std::mt19937 random(5424);
    for (int round = 0; round < 30; ++round) {
        std::mutex mutex;
        Names transcript, log, json;
        const auto to = [&](Names& lines) {
            return [&](std::string_view line) {
                const std::lock_guard lock(mutex);
                lines.emplace_back(line);
            };
        };
        Setup setup;
        setup.options.max_errors = 0;
        setup.options.offer.smtputf8 = true;
        setup.options.lenient.lf_commands = round % 2 == 1;
        setup.listeners = [&](Server& s) {
            Transcript(to(transcript)).listen(s.pipeline());
            SessionLog(to(log)).listen(s.pipeline());
            SessionLog(to(json), SessionLog::Format::json).listen(s.pipeline());
        };
        Talk talk(setup);
        talk.wire.expect("220");
        std::string said;
        for (int i = 0; i < 20; ++i) {
            static const std::string verbs[] = {"EHLO ", "MAIL FROM:<", "RCPT TO:<",    "",
                                                "HELP ", "AUTH ",       "MAIL FROM:<\""};
            said += one_of(random, verbs) + random_octets(random, 50);
            if (random() % 2) said += "\"@b>";
            said += "\r\n";
        }
        talk.wire.send(said + "EHLO me\r\nRSET\r\nMAIL FROM:<\"a b=c\"@d>\r\nQUIT\r\n");
        while (!talk.wire.reply().starts_with("221")) {
        }
        talk.end();
        for (const auto& line : transcript) {
            CAPTURE(line);
            CHECK(tame(line));
            CHECK(line.size() > 41);
            CHECK(line.substr(4, 1) == "-");  // 2026-01-31T...
        }
        for (const auto& line : log) {
            CAPTURE(line);
            CHECK(tame(line));
            CHECK(line.starts_with("time="));
        }
        for (const auto& line : json) CHECK(valid_utf8(line));
        CHECK(log.size() == json.size());
        REQUIRE(log.size() >= 2);
        CHECK(log.back().find(" event=session ") != std::string::npos);
        CHECK(log[log.size() - 2].find(" from=\"<\\x22a b=c\\x22@d>\" ") != std::string::npos);
    }
}

TEST_CASE("no name of a server or prefix breaks the lines that Prometheus reads") {
    std::mt19937 random(9090);
    const Counters counters;
    const auto plain = counters.prometheus("smtp", "x");
    const auto count = std::ranges::count(plain, '\n');
    for (int n = 0; n < 300; ++n) {
        const auto text = counters.prometheus(random_octets(random, 20), random_octets(random, 20));
        CHECK(std::ranges::count(text, '\n') == count);
        CHECK(valid_utf8(text));
        CHECK(text.find("\n\n") == text.npos);
    }
}
