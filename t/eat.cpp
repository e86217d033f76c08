// eat -- what plugins keep from each other, from the listeners and from the wire, in real sessions; and what one of
// them can't spoil: by throwing, by blocking, by rewriting whatever is said.
#include <condition_variable>

#include "over_tls.hpp"
#include "toy_authenticator.hpp"

using namespace test;

namespace {

struct Row {
    Eat eat;
    const char* heard;  // by whom
};
const Row table[] = {
    {Eat::none, "one two three"}, {Eat::client, "one two"}, {Eat::plugin, "one three"}, {Eat::all, "one"}};

// Plugin one eats, plugin two stands behind it, three is a listener; each does `act`.
template <class Kind, class Act>
std::function<void(Server&)> three(Eat eat, Act act) {
    auto one = std::make_shared<Plugin>(), two = std::make_shared<Plugin>();
    one->on<Kind>([=](Kind& e) {
        act(e, "one");
        return eat;
    });
    two->on<Kind>([=](Kind& e) { act(e, "two"); });
    return [=](Server& s) {
        s.on<Kind>([=](Kind& e) { act(e, "three"); });
        s.pipeline().add("one", one);
        s.pipeline().add("two", two);
    };
}

const std::string text = "C: DATA\nS: 354\nC: Subject: x\nC:\nC: hello\nC: .\n";
const std::string until_ehlo = "S: 220\nC: EHLO me\n";

// The dialogue until the event asks for its answer.
template <class Kind>
std::string before() {
    const std::string mail = until_ehlo + "S: 250\nC: MAIL FROM:<a@b>\n";
    if constexpr (std::is_same_v<Kind, Event::Connect>) return "";
    else if constexpr (std::is_same_v<Kind, Event::Command> || std::is_same_v<Kind, Event::Helo>) return until_ehlo;
    else if constexpr (std::is_same_v<Kind, Event::Mail>) return mail;
    else if constexpr (std::is_same_v<Kind, Event::Rcpt>) return mail + "S: 250\nC: RCPT TO:<c@d>\n";
    else if constexpr (std::is_same_v<Kind, Event::Data>) return opening + std::string("C: DATA\n");
    else if constexpr (std::is_same_v<Kind, Event::Auth>) return until_ehlo + "S: 250\nC: " + plain() + "\n";
    else return opening + text;
}

// A session where all these events happen, plugins permitting, without a delay for failed logins.
Options open_to_all() { return authenticating().options; }

}  // namespace

// ---- what comes from the client ----

TEST_CASE_TEMPLATE("an eaten question of the client is answered as those who had it agreed on", Kind, Event::Connect,
                   Event::Command, Event::Helo, Event::Auth, Event::Mail, Event::Rcpt, Event::Data, Event::Arrived) {
    const std::string closes = "S: EOF", goes_on = "C: NOOP\nS: 250\nC: QUIT\nS: 221\nS: EOF";
    for (const auto& row : table) {
        const std::string heard = row.heard;
        CAPTURE(heard);
        auto notes = std::make_shared<Notes>();
        const auto act = [notes](Kind& e, const std::string& who) {
            if constexpr (std::is_same_v<Kind, Event::Command>)
                if (e.line != "EHLO me") return;
            e.reply = {550, "5.7.1", who == "one" ? who : e.reply.text + ' ' + who};
            notes->add(who);
        };
        const auto ending = std::is_same_v<Kind, Event::Connect> ? closes : goes_on;
        const auto played = dialogue(before<Kind>() + "S: 550 5.7.1 " + heard + "\n" + ending,
                                     listening(three<Kind>(row.eat, act), open_to_all()));
        CHECK(played.heard.find("550 5.7.1 " + heard + "\r\n") != played.heard.npos);
        CHECK(notes->str() == heard);
        CHECK(played.mails.empty());
    }
}

TEST_CASE("the server does its own part about a question that was eaten and has no other answer") {
    struct Eater : Plugin {
        explicit Eater(Eat eat) {
            otherwise([eat](Event&) { return eat; });
        }
    };
    for (const auto& row : table) {
        auto listeners = std::make_shared<Notes>();
        const auto played = dialogue(opening + text + "S: 250 2.0.0 OK\n" + in_step, listening([&](Server& s) {
                                         s.pipeline().add("eater", std::make_shared<Eater>(row.eat));
                                         s.pipeline().on_all([=](Event& e) {
                                             if (e.whose()) listeners->add("heard");
                                         });
                                     }));
        CHECK(played.mails.size() == 1);
        CHECK(listeners->all().empty() == (row.eat == Eat::client || row.eat == Eat::all));
    }
}

TEST_CASE_TEMPLATE("what needs no answer is eaten too", Kind, Event::Answered, Event::Disconnect) {
    for (const auto& row : table) {
        const std::string heard = row.heard;
        CAPTURE(heard);
        auto notes = std::make_shared<Notes>();
        const auto act = [notes](Kind&, const std::string& who) { notes->add(who); };
        const auto played = dialogue(opening + text + "S: 250\n" + in_step, listening(three<Kind>(row.eat, act)));
        CHECK(notes->str() == heard);
        CHECK(played.mails.size() == 1);
    }
}

TEST_CASE("the end of a text of the program's own is eaten as other events are") {
    for (const auto& row : table) {
        const std::string heard = row.heard;
        CAPTURE(heard);
        auto notes = std::make_shared<Notes>();
        auto setup = listening(three<Event::Text>(row.eat, [notes](Event::Text& e, const std::string& who) {
            e.reply = {550, "", who == "one" ? who : e.reply.text + ' ' + who};
            notes->add(who);
        }));
        setup.listeners = [listeners = setup.listeners](Server& s) {
            listeners(s);
            s.on<Event::Command>([](Event::Command& e) {
                if (e.line == "TEXT") e.reply = {354, "", "Go on"}, e.client.data_mode();
            });
        };
        dialogue("S: 220\nC: TEXT\nS: 354\nC: x\nC: .\nS: 550 " + heard + "\n" + in_step, setup);
        CHECK(notes->str() == heard);
    }
}

TEST_CASE("the end of a handshake is eaten as other events are") {
    for (const auto& row : table) {
        const std::string heard = row.heard;
        CAPTURE(heard);
        auto notes = std::make_shared<Notes>();
        const auto act = [notes](Event::TLS& e, const std::string& who) {
            CHECK(e.problem.empty());
            e.reply = {550, "5.7.1", who == "one" ? who : e.reply.text + ' ' + who};
            notes->add(who);
        };
        dialogue_over_tls("S: 550 5.7.1 " + heard + "\nS: EOF", listening(three<Event::TLS>(row.eat, act)));
        CHECK(notes->str() == heard);
    }
}

TEST_CASE("trouble, and what a plugin tells of its own, is eaten as other events are") {
    struct Own : Event {};
    for (const auto& row : table) {
        const std::string heard = row.heard;
        CAPTURE(heard);
        Notes notes;
        const auto act = [&notes](Event&, const std::string& who) { notes.add(who); };
        Server server(Addresses{"127.0.0.1:0"}, brief());
        three<Own>(row.eat, act)(server);
        Own own;
        CHECK(server.pipeline().send(own) == heard.ends_with("three"));
        CHECK(notes.str() == heard);
    }
    for (const auto& row : table) {
        const std::string heard = row.heard;
        CAPTURE(heard);
        auto notes = std::make_shared<Notes>();
        const auto listeners =
            three<Event::Trouble>(row.eat, [notes](Event::Trouble&, const std::string& who) { notes->add(who); });
        dialogue("S: 220\nC: EHLO me\nS: 451 4.3.0\n" + in_step, listening([=](Server& s) {
                     listeners(s);
                     s.on<Event::Helo>([](Event::Helo&) { throw std::runtime_error("tired"); });
                 }));
        CHECK(notes->str() == heard);
    }
}

// ---- what goes to the client ----

TEST_CASE("an eaten reply is said all the same, as those who had it made it") {
    for (const auto& row : table) {
        const std::string heard = row.heard;
        CAPTURE(heard);
        auto notes = std::make_shared<Notes>();
        const auto act = [notes](Event::Response& e, const std::string& who) {
            e.reply.text = who == "one" ? who : e.reply.text + ' ' + who;
            notes->add(who);
        };
        dialogue("S: 220 " + heard + "\nC: EHLO me\nS: 250 " + heard + "\nC: XYZZY\nS: 500 5.5.1 " + heard +
                     "\nC: QUIT\nS: 221 2.0.0 " + heard + "\nS: EOF",
                 listening(three<Event::Response>(row.eat, act)));
        CHECK(notes->str() == heard + ' ' + heard + ' ' + heard + ' ' + heard);
    }
}

TEST_CASE("a reply is swallowed by name only, whatever the plugin eats; what the client must hear to go on is not") {
    for (const auto& row : table) {
        auto swallower = std::make_shared<Plugin>();
        swallower->on<Event::Response>([eat = row.eat](Event::Response& e) {
            e.swallow = e.reply.code != 221 && e.reply.text != "OK";
            return eat;
        });
        const auto played = dialogue(
            "C: EHLO me\nC: MAIL FROM:<a@b>\nC: RCPT TO:<c@d>\nC: DATA\nS: 354\nC: x\nC: .\nS: 250 2.0.0 OK\n"
            "C: XYZZY\nC: NOOP\nS: 250 2.0.0 OK\nC: QUIT\nS: 221\nS: EOF",
            with_plugin(swallower));
        CHECK(played.mails.size() == 1);
    }
}

TEST_CASE("a swallowed goodbye closes the connection all the same") {
    auto swallower = std::make_shared<Plugin>();
    auto last = std::make_shared<Notes>();
    swallower->on<Event::Response>([](Event::Response& e) { e.swallow = e.reply.code == 221 || e.reply.code == 421; });
    swallower->on<Event::Disconnect>([last](Event::Disconnect& e) { last->add(std::to_string(e.last.code)); });
    dialogue("S: 220\nC: QUIT\nS: EOF", with_plugin(swallower));
    auto few = brief();
    few.max_errors = 1;
    dialogue("S: 220\nC: XYZZY\nS: 500\nC: XYZZY\nS: EOF", with_plugin(swallower, few));
    CHECK(last->all() == Names{"221", "421"});
}

TEST_CASE("by LMTP each recipient's reply is swallowed or said by itself") {
    auto swallower = std::make_shared<Plugin>();
    auto texts = std::make_shared<int>(0);
    swallower->on<Event::Response>([texts](Event::Response& e) { e.swallow = e.reply.text == "OK" && ++*texts == 1; });
    auto setup = with_plugin(swallower);
    setup.options.protocol = Protocol::lmtp;
    dialogue(
        "S: 220\nC: LHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: RCPT TO:<e@d>\nS: 250\n" +
            text + "S: 250 2.0.0 OK\nC: RSET\nS: 250 2.0.0 Reset\nC: QUIT\nS: 221\nS: EOF",
        setup);
    CHECK(*texts == 2);
}

TEST_CASE("a plugin that rewrites every reply can make nothing but replies") {
    struct Said {
        std::string text, wire;  // of the reply to NOOP
    };
    const std::string stars(3000, '*');
    for (const auto& said :
         {Said{"", "250 2.0.0 \r\n"}, Said{"one\ntwo", "250-2.0.0 one\r\n250 2.0.0 two\r\n"},
          Said{"one\r\n250 2.0.0 two\r\n", "250-2.0.0 one \r\n250-2.0.0 250 2.0.0 two \r\n250 2.0.0 \r\n"},
          Said{"\r221 bye\r", "250 2.0.0  221 bye \r\n"}, Said{"\n\n", "250-2.0.0 \r\n250-2.0.0 \r\n250 2.0.0 \r\n"},
          Said{"\x1b[2J\t\x7f", "250 2.0.0  [2J  \r\n"}, Said{stars, "250-2.0.0 " + stars.substr(0, 500) + "\r\n"}}) {
        CAPTURE(said.text);
        auto rewriter = std::make_shared<Plugin>();
        rewriter->on<Event::Response>([t = said.text](Event::Response& e) { e.reply.text = t; });
        const auto played = dialogue(
            "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\n"
            "C: x\nC: .\nS: 250\nC: NOOP\nS: 250\nC: XYZZY\nS: 500\nC: QUIT\nS: 221\nS: EOF",
            with_plugin(rewriter));
        CHECK(played.mails.size() == 1);
        CHECK(played.heard.find(said.wire) != played.heard.npos);
    }
}

TEST_CASE("a plugin may give every reply another code, but what is none is not said") {
    struct Row {
        int code;
        const char* said;
    };
    // A status of another class than the code's is left out.
    for (const auto& row : {Row{299, "299 2.0.0 OK"}, Row{450, "450 OK"}, Row{550, "550 OK"}, Row{199, "250 2.0.0 OK"},
                            Row{0, "250 2.0.0 OK"}, Row{-5, "250 2.0.0 OK"}, Row{600, "250 2.0.0 OK"}}) {
        CAPTURE(row.code);
        auto rewriter = std::make_shared<Plugin>();
        rewriter->on<Event::Response>([code = row.code](Event::Response& e) {
            if (e.reply.text == "OK") e.reply.code = code;
        });
        const auto played =
            dialogue("S: 220\nC: EHLO me\nS: 250\nC: NOOP\nS: " + std::string(row.said) + "\nC: QUIT\nS: 221\nS: EOF",
                     with_plugin(rewriter));
        CHECK(played.troubles.empty());
    }
}

TEST_CASE("what a reply was rewritten to undoes nothing: the recipient stays, the session goes on, but behind 421") {
    auto rewriter = std::make_shared<Plugin>();
    rewriter->on<Event::Response>([](Event::Response& e) {
        if (e.reply.status == "2.1.5") e.reply = {e.client.TO.size() == 1 ? 450 : 421, "4.3.2", "Not quite"};
    });
    const auto played = dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 450 4.3.2 Not quite\n" + text +
            "S: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 450\nC: RCPT TO:<e@d>\nS: 421 4.3.2\nS: EOF",
        with_plugin(rewriter));
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].to.size() == 1);
}

TEST_CASE("a plugin may rewrite what was asked, as a line and as it was understood, and the answer to it") {
    auto rewriter = std::make_shared<Plugin>();
    rewriter->on<Event::Command>([](Event::Command& e) {
        if (e.line == "MAIL FROM:<a@b>") e.line = "MAIL FROM:<a@rewritten> SIZE=3";
    });
    rewriter->on<Event::Mail>([](Event::Mail& e) {
        CHECK(e.sender.size == 3);
        e.sender.local = "also";
        e.reply.text = "From " + e.sender.str();
    });
    rewriter->on<Event::Rcpt>([](Event::Rcpt& e) { e.recipient.domain = "rewritten"; });
    rewriter->on<Event::Response>([](Event::Response& e) {
        if (e.reply.status == "2.1.5") e.reply.text = "To " + e.client.TO.back().str();
    });
    const auto played = dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250 2.1.0 From also@rewritten\n"
        "C: RCPT TO:<c@d>\nS: 250 2.1.5 To c@rewritten\n" +
            text + "S: 250\n" + in_step,
        with_plugin(rewriter));
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].from.str() == "also@rewritten");
    CHECK(played.mails[0].to.at(0).str() == "c@rewritten");
}

// ---- who stumbles ----

namespace {

using Throw = void (*)();
struct Stumble {
    Throw how;
    const char* answer;
    bool trouble, closes;
};
const Stumble stumbles[] = {
    {[] { throw std::runtime_error("no room"); }, "451 4.3.0", true, false},
    {[] { throw 42; }, "451 4.3.0", true, false},
    {[] {
         throw Reject({450, "4.2.0", "Later"});
     },
     "450 4.2.0 Later", false, false},
    {[] {
         throw Hangup({550, "5.7.1", "Go"});
     },
     "550 5.7.1 Go", false, true},
};

}  // namespace

TEST_CASE_TEMPLATE("a plugin that throws: the answer is its own or 451, and the one behind it is called", Kind,
                   Event::Connect, Event::Command, Event::Helo, Event::Auth, Event::Mail, Event::Rcpt, Event::Data,
                   Event::Arrived) {
    for (const auto& row : stumbles) {
        CAPTURE(row.answer);
        auto bad = std::make_shared<Plugin>(), good = std::make_shared<Plugin>();
        auto behind = std::make_shared<Notes>(), troubles = std::make_shared<Notes>();
        const auto meant = [](Kind& e) {
            if constexpr (std::is_same_v<Kind, Event::Command>) return e.line == "EHLO me";
            return true;
        };
        bad->on<Kind>([=](Kind& e) {
            if (meant(e)) row.how();
        });
        good->on<Kind>([=](Kind& e) {
            if (meant(e)) behind->add(e.reply.str().substr(0, 3));
        });
        auto setup = listening(
            [=](Server& s) {
                s.pipeline().add("bad", bad);
                s.pipeline().add("good", good);
                s.on<Event::Trouble>([=](Event::Trouble& e) { troubles->add(e.plugin); });
            },
            open_to_all());
        const bool closes = row.closes || std::is_same_v<Kind, Event::Connect>;
        const auto played = dialogue(before<Kind>() + "S: " + row.answer + "\n" + (closes ? "S: EOF" : in_step), setup);
        CHECK(played.mails.empty());
        CHECK(behind->str() == std::string(row.answer, 3));
        CHECK(troubles->all() == (row.trouble ? Names{"bad"} : Names{}));
        CHECK(played.heard.find("no room") == played.heard.npos);
    }
}

TEST_CASE_TEMPLATE("a plugin that throws where no answer is due changes nothing but that Hangup closes", Kind,
                   Event::Response, Event::Answered) {
    for (const auto& row : stumbles) {
        CAPTURE(row.answer);
        auto bad = std::make_shared<Plugin>(), good = std::make_shared<Plugin>();
        auto behind = std::make_shared<std::atomic<int>>(0);
        auto troubles = std::make_shared<Notes>();
        const auto meant = [](Kind& e) {
            if constexpr (std::is_same_v<Kind, Event::Response>) return e.reply.text == "OK";
            return true;
        };
        bad->on<Kind>([=](Kind& e) {
            if (meant(e)) row.how();
        });
        good->on<Kind>([=](Kind& e) { *behind += meant(e); });
        const auto played =
            dialogue(opening + text + "S: 250 2.0.0 OK\n" + (row.closes ? "" : "C: QUIT\nS: 221\nS: EOF"),
                     listening([=](Server& s) {
                         s.pipeline().add("bad", bad);
                         s.pipeline().add("good", good);
                         s.on<Event::Trouble>([=](Event::Trouble& e) { troubles->add(e.plugin); });
                     }));
        CHECK(played.mails.size() == 1);
        CHECK(*behind == 1);
        CHECK(troubles->all() == (row.trouble ? Names{"bad"} : Names{}));
    }
}

TEST_CASE("a plugin that throws at the end of a session leaves the next one whole") {
    Server server(Addresses{"127.0.0.1:0"}, brief());
    auto bad = std::make_shared<Plugin>();
    std::atomic<int> ends{0}, troubles{0};
    bad->on<Event::Disconnect>([](Event::Disconnect&) { throw std::runtime_error("tired"); });
    server.pipeline().add("bad", bad);
    server.on<Event::Disconnect>([&](Event::Disconnect&) { ++ends; });
    server.on<Event::Trouble>([&](Event::Trouble&) { ++troubles; });
    Background loop([&] { server.run(nothing); });
    for (int i = 0; i < 3; ++i) {
        auto wire = dial(server);
        play(wire, "S: 220\nC: QUIT\nS: 221\nS: EOF");
    }
    server.stop();
    loop.join();
    CHECK(ends == 3);
    CHECK(troubles == 3);
}

TEST_CASE("a plugin that blocks keeps its own session waiting and nobody else, also while it is removed") {
    struct Gate {
        std::mutex mutex;
        std::condition_variable changed;
        bool blocked = false, open = false;
    } gate;
    struct Blocker : Plugin {
        explicit Blocker(Gate& g, std::atomic<int>& d) : detaches(d) {
            on<Event::Rcpt>([&g](Event::Rcpt& e) {
                if (e.recipient.local != "slow") return;
                std::unique_lock lock(g.mutex);
                g.blocked = true;
                g.changed.notify_all();
                g.changed.wait_for(lock, 2 * patience, [&] { return g.open; });
                e.reply.text = "at last";
            });
        }
        void detached(Pipeline&, const std::string&) override { ++detaches; }
        std::atomic<int>& detaches;
    };
    std::atomic<int> detaches{0};
    Server server(Addresses{"127.0.0.1:0"}, brief());
    server.pipeline().add("blocker", std::make_shared<Blocker>(gate, detaches));
    Background loop([&] { server.run([](Server::Client& c) { c.accept(); }); });
    {
        auto slow = dial(server);
        play(slow, "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250");
        slow.say("RCPT TO:<slow@d>");
        {
            std::unique_lock lock(gate.mutex);
            CHECK(gate.changed.wait_for(lock, patience, [&] { return gate.blocked; }));
        }
        for (int i = 0; i < 5; ++i) {
            auto quick = dial(server);
            play(quick, opening + text + "S: 250\n" + in_step);
            if (i == 2) CHECK(server.pipeline().remove("blocker"));
        }
        CHECK(detaches == 1);
        {
            const std::lock_guard lock(gate.mutex);
            gate.open = true;
        }
        gate.changed.notify_all();
        play(slow, "S: 250 2.1.5 at last\n" + text + "S: 250\n" + in_step);
    }
    server.stop();
    loop.join();
}

// ---- who hears it all ----

TEST_CASE("a catch-all has every event of a session but those it has a function for") {
    auto all = std::make_shared<Plugin>();
    auto own = std::make_shared<std::atomic<int>>(0);
    auto kinds = std::make_shared<Notes>();
    all->on<Event::Response>([own](Event::Response&) { ++*own; });
    all->otherwise([kinds](Event& e) {
        const auto is = [&](const char* name, bool it) {
            if (it) kinds->add(name);
        };
        is("connect", dynamic_cast<Event::Connect*>(&e));
        is("command", dynamic_cast<Event::Command*>(&e));
        is("helo", dynamic_cast<Event::Helo*>(&e));
        is("mail", dynamic_cast<Event::Mail*>(&e));
        is("rcpt", dynamic_cast<Event::Rcpt*>(&e));
        is("data", dynamic_cast<Event::Data*>(&e));
        is("arrived", dynamic_cast<Event::Arrived*>(&e));
        is("answered", dynamic_cast<Event::Answered*>(&e));
        is("disconnect", dynamic_cast<Event::Disconnect*>(&e));
        is("response", dynamic_cast<Event::Response*>(&e));
        is("added", dynamic_cast<Event::PluginAdded*>(&e));
    });
    dialogue(opening + text + "S: 250\nC: QUIT\nS: 221\nS: EOF", with_plugin(all));
    CHECK(kinds->str() ==
          "added connect command helo command mail command rcpt command data arrived answered command "
          "disconnect");
    CHECK(*own == 7);
}

TEST_CASE("a listener may take itself and others off while it is called, and put new ones on: for the next event") {
    auto notes = std::make_shared<Notes>();
    auto numbers = std::make_shared<std::vector<std::uint64_t>>();
    const auto changing = listening([=](Server& s) {
        auto& pipeline = s.pipeline();
        numbers->push_back(s.on<Event::Command>([=, &pipeline](Event::Command& e) {
            notes->add("first:" + e.line.substr(0, 4));
            for (const auto number : *numbers) CHECK(pipeline.off(number));
            pipeline.on<Event::Command>([=](Event::Command& c) { notes->add("late:" + c.line.substr(0, 4)); });
        }));
        numbers->push_back(
            s.on<Event::Command>([=](Event::Command& e) { notes->add("second:" + e.line.substr(0, 4)); }));
    });
    dialogue("S: 220\nC: EHLO me\nS: 250\n" + in_step, changing);
    CHECK(notes->str() == "first:EHLO second:EHLO late:NOOP late:QUIT");
}

TEST_CASE("the event of a connection tells both its ends, by IPv4 and IPv6, and may refuse it") {
    for (const auto& [address, host] : {std::pair{"127.0.0.1:0", "127.0.0.1"}, {"[::1]:0", "::1"}}) {
        Server server(Addresses{address}, brief());
        std::string id, peer, local;
        server.on<Event::Connect>([&](Event::Connect& e) {
            id = e.client.id(), peer = e.client.peer().str(), local = e.client.local().str();
            e.reply = {554, "5.7.1", "Not you"};
        });
        auto wire = dial(server);
        sockaddr_storage ours{};
        socklen_t size = sizeof ours;
        REQUIRE(getsockname(wire.fd(), reinterpret_cast<sockaddr*>(&ours), &size) == 0);
        const auto port = ntohs(ours.ss_family == AF_INET ? reinterpret_cast<sockaddr_in&>(ours).sin_port
                                                          : reinterpret_cast<sockaddr_in6&>(ours).sin6_port);
        Background session([connection = std::make_shared<Connection>(server.accept())] {
            Server::Client client(std::move(*connection));
            CHECK(!client.process());
        });
        play(wire, "S: 554 5.7.1 Not you\nS: EOF");
        session.join();
        CHECK(id.size() == 13);
        CHECK(peer == Endpoint{host, port}.str());
        CHECK(local == server.addresses().front().str());
    }
}

TEST_CASE("plugins that come and go are told to those who are there, and a listener that it is registered") {
    struct Passer : Plugin {
        explicit Passer(Notes& n) : notes(n) {}
        bool attached(Pipeline&, const std::string& name) override { return notes.add("attached " + name), true; }
        void detached(Pipeline&, const std::string& name) override { notes.add("detached " + name); }
        Notes& notes;
    };
    Notes notes;
    {
        Server server(Addresses{"127.0.0.1:0"}, brief());
        auto watcher = std::make_shared<Plugin>();
        watcher->on<Event::PluginAdded>([&](Event::PluginAdded& e) { notes.add("added " + e.name); });
        watcher->on<Event::PluginRemoved>([&](Event::PluginRemoved& e) { notes.add("removed " + e.name); });
        server.pipeline().add("watcher", watcher);
        server.on<Event::Registered>(
            [&](Event::Registered& e) { notes.add(&e.pipeline == &server.pipeline() ? "registered" : "elsewhere"); });
        server.on<Event::Rcpt>([&](Event::Rcpt&) {});
        server.pipeline().add("one", std::make_shared<Passer>(notes));
        server.pipeline().replace("one", "two", std::make_shared<Passer>(notes));
        server.pipeline().remove("two");
        server.pipeline().add("three", std::make_shared<Passer>(notes));
    }
    CHECK(notes.all() == Names{"added watcher", "registered", "attached one", "added one", "attached two",
                               "detached one", "removed one", "added two", "detached two", "removed two",
                               "attached three", "added three", "detached three"});
}

// ---- two servers ----

TEST_CASE("two servers of one process do not mix: events, plugins and listeners are each server's own") {
    struct Place {
        explicit Place(const std::string& name) : server(Addresses{"127.0.0.1:0"}, named(name)) {
            server.on<Event::Helo>([this](Event::Helo& e) {
                heard.add(e.client.options().name + ':' + e.helo);
                id = e.client.id();
            });
            loop = Background([this] { server.run([](Server::Client& c) { c.accept(); }); });
        }
        ~Place() { server.stop(); }
        static Options named(const std::string& name) {
            auto o = brief();
            o.name = name;
            o.reachable = true;
            return o;
        }
        Server server;
        Notes heard;
        std::string id;
        Background loop;
    };
    Place in("in"), out("out");
    auto shared = std::make_shared<Plugin>(), of_one = std::make_shared<Plugin>();
    Notes both;
    shared->on<Event::Helo>([&](Event::Helo& e) { both.add(e.client.options().name); });
    of_one->on<Event::Helo>([](Event::Helo& e) { e.reply = {550, "5.7.1", "Not in here"}; });
    in.server.pipeline().add("shared", shared);
    out.server.pipeline().add("shared", shared);
    in.server.pipeline().add("strict", of_one);
    CHECK(&in.server.pipeline() != &out.server.pipeline());

    auto one = dial(in.server), two = dial(out.server);
    play(one, "S: 220\nC: EHLO one\nS: 550 5.7.1 Not in here");
    play(two, "S: 220\nC: EHLO two\nS: 250");
    CHECK(both.all() == Names{"in", "out"});
    CHECK(in.heard.all() == Names{"in:one"});
    CHECK(out.heard.all() == Names{"out:two"});
    CHECK(in.id != out.id);
    CHECK(!in.server.send_to_client(out.id, {250, "", "wrong door"}));
    CHECK(out.server.send_to_client(out.id, {250, "", "right door"}));
    two.expect("250 right door");
    in.server.stop();
    in.loop.join();
    CHECK(two.ask("NOOP") == 250);  // the other one's end is not ours
}
