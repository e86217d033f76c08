// handlers -- who gets a message by patterns for its recipients: once, alone, with an answer of his own.
#include <Net/SMTP/Relay/Handlers.hpp>
#include <atomic>
#include <map>
#include <set>

#include "crowd.hpp"
#include "dialogue.hpp"
#include "next_hop.hpp"

using namespace test;

namespace {

using To = std::vector<Recipient>;
using HandlersPointer = std::shared_ptr<Handlers>;

const std::string quit = "C: QUIT\nS: 221\nS: EOF";

std::string joined(const To& to) {
    std::string all;
    for (const auto& r : to) all += (all.empty() ? "" : " ") + r.str();
    return all;
}

// A session up to the end of a text for these recipients.
std::string mail(std::initializer_list<const char*> to, const std::string& hello = "EHLO") {
    std::string script = "S: 220\nC: " + hello + " me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\n";
    for (const std::string r : to) script += "C: RCPT TO:<" + r + ">\nS: 250\n";
    return script + "C: DATA\nS: 354\nC: Subject: x\nC:\nC: hello\nC: .\n";
}

// A handler that remembers whom it got, and answers so.
Handlers::Function saying(const std::shared_ptr<Names>& calls, const std::string& name, const Reply& reply = {}) {
    return [=](Server::Client&, const To& to) {
        calls->push_back(name + ": " + joined(to));
        return reply;
    };
}

HandlersPointer made(std::vector<Handlers::Handler> list, const Handlers::Options& options = {}) {
    auto handlers = std::make_shared<Handlers>(options);
    handlers->set(std::move(list));
    return handlers;
}

Setup with(const HandlersPointer& handlers, Protocol protocol = Protocol::smtp) {
    Setup setup;
    setup.options.protocol = protocol;
    setup.listeners = [handlers](Server& s) { s.pipeline().add("handlers", handlers); };
    return setup;
}

Reply nothing_to_do(Server::Client&, const To&) { return {}; }

std::string refusal(const Handlers::Handler& handler) {
    Handlers handlers;
    try {
        handlers.set({{"ok", nothing_to_do}, handler});
    } catch (const std::invalid_argument& e) {
        CHECK(handlers.get().empty());
        return e.what();
    }
    return "";
}

Recipient at(const std::string& local, const std::string& domain) {
    Recipient r;
    r.local = local;
    r.domain = domain;
    return r;
}

}  // namespace

// ---- whose a recipient is ----

TEST_CASE("quotes that an address does not need hide it from no pattern") {
    const auto handlers = made({{"^bugs@", nothing_to_do}, {"^\"\\\\\"", nothing_to_do}});
    for (const char* local : {"bugs", "\"bugs\"", "\"b\\ugs\""}) CHECK(handlers->find(at(local, "c.test")) == 0);
    for (const char* local : {"\"bugs@\"", "\" bugs\"", "\"bugs.\"", "Bugs", "\"\""})
        CHECK(!handlers->find(at(local, "c.test")));
    CHECK(handlers->find(at("\"\\\"bugs\\\"\"", "c.test")) == 1);  // its quotes are its own
}

TEST_CASE("the first pattern that matches wins; it is looked for anywhere, and with case unless it says otherwise") {
    const auto handlers = made({{"^bugs@", nothing_to_do},
                                {"gs@", nothing_to_do},
                                {"(?i)@lists\\.example\\.org$", nothing_to_do},
                                {"example", nothing_to_do}});
    const auto whose = [&](const char* address) { return handlers->find(Recipient(address)).value_or(99); };
    CHECK(whose("bugs@lists.example.org") == 0);
    CHECK(whose("debugs@lists.example.org") == 1);
    CHECK(whose("Bug@LISTS.Example.Org") == 2);
    CHECK(whose("bug@listsXexample.org") == 3);
    CHECK(whose("bug@Example.org") == 99);
    CHECK(Handlers().find(Recipient("a@b")) == std::nullopt);
}

TEST_CASE("no address makes a pattern slow, and none is too much for the stack of a session") {
    // Who backtracks tries 2^60 ways here.
    const auto calls = std::make_shared<Names>();
    const auto handlers = made({{"^(a+)+$", saying(calls, "all")},
                                {"(x+x+)+y", saying(calls, "many")},
                                {"^(([a-z])+.)+[A-Z]([a-z])+$", saying(calls, "more")},
                                {"(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)\\d", saying(calls, "stars")}});
    const std::string a(64, 'a'), x(64, 'x');
    std::string domain;
    while (domain.size() < 250) domain += "aaaaaaaaa.";
    domain += "aaaaa";
    Server server(Addresses{"127.0.0.1:0"}, brief());
    server.pipeline().add("handlers", handlers);
    Background running([&] { server.run([](Server::Client& c) { c.accept(); }); });
    auto wire = dial(server);
    play(wire, mail({(a + '@' + domain).c_str(), (x + '@' + domain).c_str(), "1@b"}) + "S: 250\n" + quit);
    server.stop();
    running.join();
    CHECK(*calls == Names{"stars: 1@b"});
    // What a program may have made of one.
    const auto find = [&](const std::string& local) { return handlers->find(at(local, "b")); };
    CHECK(find(std::string(1'000'000, 'a')) == std::nullopt);
    CHECK(find(std::string(100'000, '\xff') + '\0' + "\r\n") == std::nullopt);
    CHECK(handlers->find(at("", "")) == std::nullopt);
}

// ---- who gets what ----

TEST_CASE("each handler gets a message once, with its recipients alone; the loop has those whom none of them wants") {
    const auto calls = std::make_shared<Names>();
    const auto handlers =
        made({{"^one", saying(calls, "one")}, {"^two", saying(calls, "two")}, {"^t", saying(calls, "t")}});
    auto setup = with(handlers);
    setup.handler = [calls](Server::Client& c) {
        calls->push_back("loop: " + joined(c.TO));
        for (const auto& r : c.TO) c.accept(r);
    };
    const auto played = dialogue(
        mail({"two@b", "rest@b", "one@b", "two@c", "one@b", "other@b"}) + "S: 250\nC: RSET\nS: 250\n" + quit, setup);
    CHECK(*calls == Names{"one: one@b one@b", "two: two@b two@c", "loop: rest@b other@b"});
    CHECK(played.troubles.empty());
}

TEST_CASE("a message that is the handlers' alone is answered, and the loop has the next one") {
    const auto calls = std::make_shared<Names>();
    const auto played = dialogue(mail({"one@b", "one@c"}) +
                                     "S: 250 2.6.0 Filed\nC: MAIL FROM:<z@b>\nS: 250\nC: RCPT TO:<rest@b>\nS: 250\nC: "
                                     "DATA\nS: 354\nC: .\nS: 250 2.0.0\n" +
                                     quit,
                                 with(made({{"^one", saying(calls, "one", {250, "2.6.0", "Filed"})}})));
    CHECK(*calls == Names{"one: one@b one@c"});
    REQUIRE(played.mails.size() == 1);
    CHECK(joined(played.mails[0].to) == "rest@b");
}

TEST_CASE("a handler sees the message, its sender and its session") {
    std::string seen;
    const auto handlers = made({{".", [&](Server::Client& c, const To&) -> Reply {
                                     seen = c.FROM.str() + '|' + c.MSG.header("Subject").value_or("") + '|' + c.helo();
                                     return {};
                                 }}});
    dialogue(mail({"c@d"}) + "S: 250\n" + quit, with(handlers));
    CHECK(seen == "a@b|x|me");
}

TEST_CASE("nobody gets what was refused before it came to the handlers") {
    const auto calls = std::make_shared<Names>();
    auto setup = with(made({{".", saying(calls, "any")}}));
    setup.listeners = [first = setup.listeners](Server& s) {
        first(s);
        auto filter = std::make_shared<Plugin>();
        filter->on<Event::Arrived>([](Event::Arrived& e) { e.reply = {554, "5.7.1", "Not such a text"}; });
        s.pipeline().add_first("filter", filter);
    };
    dialogue(mail({"c@d"}) + "S: 554 5.7.1 Not such a text\n" + quit, setup);
    CHECK(calls->empty());
}

// ---- answers ----

TEST_CASE("by SMTP the sender hears the worst of all, and the program that recipients fared differently") {
    const auto calls = std::make_shared<Names>();
    const auto handlers = made({{"^no", saying(calls, "no", {550, "5.2.1", "Not now"})},
                                {"^late", saying(calls, "late", {452, "4.2.2", "Full"})},
                                {"^yes", saying(calls, "yes")}});
    auto played = dialogue(mail({"yes@b", "no@b", "rest@b"}) + "S: 550 5.2.1 Not now\n" + quit, with(handlers));
    CHECK(played.mails.size() == 1);
    CHECK(played.troubles.size() == 1);
    played = dialogue(mail({"yes@b", "no@b", "late@b"}) + "S: 452 4.2.2 Full\n" + quit, with(handlers));
    CHECK(played.mails.empty());
}

TEST_CASE("by LMTP each recipient hears its own, whoever speaks for it") {
    const auto calls = std::make_shared<Names>();
    const auto handlers = made({{"^no", saying(calls, "no", {550, "5.2.1", "Not now"})},
                                {"^yes", saying(calls, "yes", {250, "2.6.0", "Filed"})},
                                {"^some", [](Server::Client& c, const To& to) -> Reply {
                                     c.reject(to.at(0), {452, "4.2.2", "Full"});
                                     return {250, "2.1.5", "The others"};
                                 }}});
    auto setup = with(handlers, Protocol::lmtp);
    setup.handler = [](Server::Client& c) { c.reject(c.TO.at(0), {551, "5.1.6", "Moved"}); };
    const auto played = dialogue(
        mail({"rest@b", "no@b", "yes@b", "some@b", "no@c", "some@c"}, "LHLO") +
            "S: 551 5.1.6 Moved\nS: 550 5.2.1\nS: 250 2.6.0 Filed\nS: 452 4.2.2\nS: 550 5.2.1\nS: 250 2.1.5\n" + quit,
        setup);
    CHECK(played.troubles.empty());
}

TEST_CASE("a handler that throws is 451 for its recipients and trouble for the program; the others go on") {
    struct Odd {};
    const auto calls = std::make_shared<Names>();
    const auto handlers =
        made({{"^throws", [](Server::Client&, const To&) -> Reply { throw std::runtime_error("secret"); }},
              {"^odd", [](Server::Client&, const To&) -> Reply { throw Odd(); }},
              {"^mad", saying(calls, "mad", {354, "", "Go on"})},
              {"^rejects",
               [](Server::Client&, const To&) -> Reply {
                   throw Reject({550, "5.1.1", "Nobody"});
               }},
              {"^fine", saying(calls, "fine")}});
    const auto played =
        dialogue(mail({"fine@b", "throws@b", "odd@b", "mad@b", "rejects@b", "rest@b"}, "LHLO") +
                     "S: 250\nS: 451 4.3.0\nS: 451 4.3.0\nS: 451 4.3.0\nS: 550 5.1.1 Nobody\nS: 250\n" + quit,
                 with(handlers, Protocol::lmtp));
    CHECK(*calls == Names{"mad: mad@b", "fine: fine@b"});
    CHECK(played.troubles == Names{"handler for ^throws: secret",
                                   "handler for ^odd: it threw an exception of an unknown type",
                                   "handler for ^mad: this is no answer: 354 Go on"});
    CHECK(played.heard.find("secret") == played.heard.npos);
}

TEST_CASE("trouble says which plugin it is of, and whose session") {
    auto setup = with(made({{".", [](Server::Client&, const To&) -> Reply { throw std::runtime_error("oh"); }}}));
    std::atomic<int> heard{0};
    setup.listeners = [&, first = setup.listeners](Server& s) {
        first(s);
        s.on<Event::Trouble>([&](Event::Trouble& e) { heard += e.plugin == "handlers" && e.client != nullptr; });
    };
    dialogue(mail({"c@d"}) + "S: 451 4.3.0\n" + quit, setup);
    CHECK(heard == 1);
}

// ---- relays and targets ----

TEST_CASE("a relay behind the handlers gets the rest, and one of a handler's own its recipients") {
    NextHop rest, lists;
    const auto calls = std::make_shared<Names>();
    auto setup = with(made({{"^bugs@", saying(calls, "bugs")}, {"@lists$", via(lists)}}));
    setup.handler = [&](Server::Client& c) { Relay relay(c.FROM, c.TO, c.MSG, via(rest)); };
    dialogue(mail({"bugs@b", "one@lists", "one@b", "two@lists"}) + "S: 250\n" + quit, setup);
    CHECK(*calls == Names{"bugs: bugs@b"});
    const auto named = [](const Heard& h) {
        Names all;
        for (const auto& c : h.commands)
            if (c.starts_with("RCPT")) all.push_back(c);
        return all;
    };
    CHECK(named(rest.only()) == Names{"RCPT TO:<one@b>"});
    CHECK(named(lists.only()) == Names{"RCPT TO:<one@lists>", "RCPT TO:<two@lists>"});
}

TEST_CASE("what a next hop refuses is the answer of its own recipients") {
    NextHop no(Manners{{"RCPT", "550 5.1.1 nobody here"}});
    const auto played =
        dialogue(mail({"fine@b", "x@lists", "y@b"}, "LHLO") + "S: 250\nS: 550 5.1.1 nobody here\nS: 250\n" + quit,
                 with(made({{"@lists$", via(no)}, {"^fine", nothing_to_do}}), Protocol::lmtp));
    CHECK(played.troubles.empty());
}

TEST_CASE("a target gets the message with a Received field, and its replies are the recipients'") {
    struct Told : Target {
        std::vector<Reply> deliver(const Sender&, std::span<const Recipient> to, const Message&,
                                   const std::string& head, const Wait&) override {
            with_received = head.starts_with("Received: from me");
            std::vector<Reply> all;
            for (const auto& r : to) all.push_back(r.local == "no" ? Reply{550, "5.1.1", "Nobody"} : Reply{});
            return all;
        }
        std::string name() const override { return "told"; }
        bool with_received = false;
    };
    const auto told = std::make_shared<Told>();
    dialogue(mail({"yes@b", "no@b"}, "LHLO") + "S: 250\nS: 550 5.1.1\n" + quit,
             with(made({{"@b$", told}}), Protocol::lmtp));
    CHECK(told->with_received);
}

TEST_CASE("a relay of a message that a plugin has put in the place of the one that came is answered too") {
    NextHop yes, no(Manners{{"RCPT", "550 5.1.1 nobody here"}});
    auto setup = with(made({{"^yes", via(yes)}, {"^no", via(no)}}), Protocol::lmtp);
    setup.listeners = [first = setup.listeners](Server& s) {
        auto rewriter = std::make_shared<Plugin>();
        rewriter->on<Event::Arrived>([](Event::Arrived& e) { e.client.MSG = Message("another text\r\n"); });
        s.pipeline().add("rewriter", rewriter);
        first(s);
    };
    const auto played = dialogue(mail({"yes@b", "no@b"}, "LHLO") + "S: 250\nS: 550 5.1.1 nobody here\n" + quit, setup);
    CHECK(played.mails.empty());
    CHECK(yes.only().text.find("another text") != std::string::npos);
}

// ---- one destination a transaction ----

TEST_CASE("if asked for, a transaction by SMTP is one handler's, or nobody's") {
    const auto calls = std::make_shared<Names>();
    const auto handlers = made({{"^one", saying(calls, "one")}, {"^two", saying(calls, "two")}}, {.one_handler = true});
    const std::string begin = "C: MAIL FROM:<a@b>\nS: 250\n", end = "C: DATA\nS: 354\nC: .\nS: 250\n";
    dialogue("S: 220\nC: EHLO me\nS: 250\n" + begin +
                 "C: RCPT TO:<one@b>\nS: 250\nC: RCPT TO:<two@b>\nS: 452 4.5.3\nC: RCPT TO:<rest@b>\nS: 452 4.5.3\nC: "
                 "RCPT TO:<one@c>\nS: 250\n" +
                 end + begin +
                 "C: RCPT TO:<rest@b>\nS: 250\nC: RCPT TO:<one@b>\nS: 452 4.5.3\nC: RCPT TO:<other@b>\nS: 250\n" + end +
                 quit,
             with(handlers));
    CHECK(*calls == Names{"one: one@b one@c"});
    dialogue(mail({"one@b", "two@b"}, "LHLO") + "S: 250\nS: 250\n" + quit, with(handlers, Protocol::lmtp));
    CHECK(calls->size() == 3);
}

// ---- the list ----

TEST_CASE("a wrong handler is named with its place in the list, and then nothing has changed") {
    const auto handlers = made({{"^a@", nothing_to_do}});
    CHECK_THROWS_WITH_AS(handlers->set({{"x", nothing_to_do}, {"y", nothing_to_do}, {"(a", nothing_to_do}}),
                         "handlers[2]: missing ): (a", std::invalid_argument);
    CHECK(handlers->get().size() == 1);
    CHECK(handlers->find(Recipient("a@b")) == 0);
    CHECK(handlers->find(Recipient("x@b")) == std::nullopt);
    CHECK(refusal({"a(?=b)", nothing_to_do}) == "handlers[1]: invalid perl operator: (?=");
    CHECK(refusal({"", nothing_to_do}) == "handlers[1]: no pattern");
    CHECK(refusal({"a", Handlers::Function()}) == "handlers[1]: no function");
    CHECK(refusal({"a", std::shared_ptr<Target>()}) == "handlers[1]: no target");
    CHECK(refusal({"a", Relay::Options{.host = "h", .total = 0s}}) ==
          "handlers[1]: Relay::Options: total is not positive");
    CHECK(refusal({"a", Relay::Options{.host = "192.0.2.1"}}).empty());  // and nobody has called there
}

TEST_CASE("patterns have limits: their length, their number, and what RE2 needs for one") {
    CHECK(refusal({std::string(1024, 'a'), nothing_to_do}).empty());
    CHECK(refusal({std::string(1025, 'a'), nothing_to_do}) == "handlers[1]: the pattern is too long");
    CHECK(refusal({"((a{100}){100}){100}", nothing_to_do}).starts_with("handlers[1]: "));
    CHECK(refusal({"(\\pL{500}\\pN{500}){1}", nothing_to_do}).starts_with("handlers[1]: pattern too large"));
    Handlers handlers;
    const std::vector<Handlers::Handler> most(1000, {"a", nothing_to_do});
    CHECK_NOTHROW(handlers.set(most));
    auto more = most;
    more.push_back({"a", nothing_to_do});
    CHECK_THROWS_AS(handlers.set(more), std::invalid_argument);
    CHECK(handlers.get().size() == 1000);
}

TEST_CASE("get() gives a copy, which can be changed and set again") {
    const auto calls = std::make_shared<Names>();
    const auto handlers = made({{"^a@", saying(calls, "a")}, {"^b@", Relay::Options{.host = "h"}}});
    auto list = handlers->get();
    REQUIRE(list.size() == 2);
    CHECK(list[0].pattern == "^a@");
    CHECK(std::get<Relay::Options>(list[1].take).host == "h");
    list.erase(list.begin() + 1);
    list[0].pattern = "^c@";
    CHECK(handlers->find(Recipient("a@b")) == 0);
    handlers->set(list);
    CHECK(handlers->find(Recipient("a@b")) == std::nullopt);
    CHECK(handlers->find(Recipient("c@b")) == 0);
}

TEST_CASE("a handler may replace the list it is in: its message goes on with the old one, the next with the new one") {
    const auto calls = std::make_shared<Names>();
    const auto handlers = std::make_shared<Handlers>();
    // What the old list held may call us when it goes.
    struct Farewell {
        Handlers* handlers;
        std::shared_ptr<Names> calls;
        ~Farewell() { calls->push_back("gone, " + std::to_string(handlers->get().size()) + " now"); }
    };
    std::shared_ptr<Farewell> farewell(new Farewell{handlers.get(), calls});
    handlers->set({{"^one",
                    [=, raw = handlers.get(), held = farewell](Server::Client&, const To&) -> Reply {
                        raw->set({{"^two", saying(calls, "new")}});
                        return {};
                    }},
                   {"^two", saying(calls, "old")}});
    farewell.reset();  // the list has it
    dialogue(mail({"one@b", "two@b"}) +
                 "S: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<two@b>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\n" +
                 quit,
             with(handlers));
    CHECK(*calls == Names{"old: two@b", "gone, 1 now", "new: two@b"});
}

TEST_CASE("lists are replaced under busy clients, and each message meets one of them") {
    std::atomic<bool> over{false};
    std::atomic<int> mixed{0}, handled{0}, lists{0};
    Server server(Addresses{"127.0.0.1:0"}, brief());
    const auto handlers = std::make_shared<Handlers>();
    std::mutex mutex;
    std::map<std::string, int> met;  // which list a message has met, by its id
    const auto noting = [&](int list) {
        return [&, list](Server::Client& c, const To&) -> Reply {
            const std::lock_guard lock(mutex);
            const auto [known, first] = met.emplace(c.MSG.id(), list);
            if (known->second != list) ++mixed;
            ++handled;
            return {};
        };
    };
    // Both lists know both of them, but not by the same patterns.
    const auto list = [&](int n) -> std::vector<Handlers::Handler> {
        if (n % 2) return {{"^one", noting(n)}, {"^two", noting(n)}};
        return {{"^nobody", noting(n)}, {"^t", noting(n)}, {"one", noting(n)}};
    };
    handlers->set(list(0));
    server.pipeline().add("handlers", handlers);
    Background running([&] { server.run([](Server::Client& c) { c.reject({550, "5.1.1", "Nobody's"}); }); });
    Background changer([&] {
        for (int n = 1; !over; ++n) {
            handlers->set(list(n));
            CHECK(handlers->get().size() == (n % 2 ? 2 : 3));
            CHECK(handlers->find(Recipient("one@d")).has_value());
            lists = n;
            std::this_thread::yield();
        }
    });
    crowd(server, [](Wire& wire, int) {
        for (int n = 0; n < 10; ++n) send_mail(wire, "a@b", {"two@d", "one@d"});
    });
    over = true;
    changer.join();
    server.stop();
    running.join();
    CHECK(mixed == 0);
    CHECK(handled == 20 * 10 * 2);
    CHECK(lists > 1);
}
