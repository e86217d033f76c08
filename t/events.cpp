// events -- commands, replies, arrivals and ends as plugins and listeners see and change them.
#include "crowd.hpp"
#include "dialogue.hpp"

using namespace test;

namespace {

template <class Kind, class Hook>
std::function<void(Server&)> with(Hook hook) {
    return [hook](Server& s) { s.on<Kind>([hook](Kind& e) { hook(e); }); };
}

const std::string text = "C: DATA\nS: 354\nC: Subject: x\nC:\nC: hello\nC: .\n";
const std::string in_step = "C: NOOP\nS: 250\nC: QUIT\nS: 221\nS: EOF";

}  // namespace

// ---- commands ----

TEST_CASE("every command is an event, with its line as it came") {
    auto seen = std::make_shared<Names>();
    dialogue(std::string(opening) + text + "S: 250\nC: xyzzy  \nS: 500\nC:\nS: 500\nC: QUIT\nS: 221\nS: EOF",
             listening(with<Event::Command>([seen](Event::Command& e) { seen->push_back(e.line); })));
    CHECK(*seen == Names{"EHLO me", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "xyzzy  ", "", "QUIT"});
}

TEST_CASE("a command may be answered by the program, and then nothing else is done about it") {
    auto answering = with<Event::Command>([](Event::Command& e) {
        if (e.line == "XYZZY") e.reply = {250, "2.0.0", "Nothing happens"};
        if (e.line.starts_with("VRFY")) e.reply = {250, "2.1.5", "<joe@example.org>"};
        if (e.line.starts_with("RCPT TO:<no@")) throw Reject({550, "5.1.1", "Nobody"});
        if (e.line == "RSET") e.reply = {250, "2.0.0", "In name only"};
        if (e.line == "BYE") e.reply = {221, "2.0.0", "So long"};
    });
    const auto played = dialogue(std::string(opening) +
                                     "C: XYZZY\nS: 250 2.0.0 Nothing happens\nC: VRFY joe\nS: 250 2.1.5 <joe@\n"
                                     "C: RCPT TO:<no@d>\nS: 550 5.1.1\nC: RSET\nS: 250 2.0.0 In name only\n" +
                                     text + "S: 250\nC: BYE\nS: 221 2.0.0 So long\nS: EOF",
                                 listening(answering));
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].to.size() == 1);
}

TEST_CASE("a command may be changed into another one") {
    const auto played = dialogue(
        std::string(
            "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<old@b>\nS: 250\nC: SAML\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n") +
            text + "S: 250\nC: QUIT\nS: 221",
        listening(with<Event::Command>([](Event::Command& e) {
            if (e.line == "MAIL FROM:<old@b>") e.line = "MAIL FROM:<new@b>";
            if (e.line == "SAML") e.line = "NOOP";
        })));
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].from.str() == "new@b");
}

TEST_CASE("what follows a refused BDAT is never run as commands") {
    auto refusing = with<Event::Command>([](Event::Command& e) {
        if (e.line.starts_with("BDAT")) e.reply = {552, "5.3.4", "No chunks"};
    });
    auto played =
        dialogue(std::string(opening) + "C: BDAT 6\nc: RSET\\r\\n\nS: 552 5.3.4\n" + in_step, listening(refusing));
    CHECK(played.mails.empty());
    // In the middle of a message: all of it is refused.
    auto last = with<Event::Command>([](Event::Command& e) {
        if (e.line == "BDAT 6 LAST") e.reply = {552, "5.3.4", "Not the last"};
        if (e.line == "BDAT 5") e.reply = {250, "2.0.0", "A yes changes nothing"};
    });
    played = dialogue(std::string(opening) +
                          "C: BDAT 5\nc: abc\\r\\n\nS: 250 2.0.0 5 octets\nC: BDAT 6 LAST\nc: RSET\\r\\n\nS: 552 5.3.4 "
                          "Not the last\n" +
                          in_step,
                      listening(last));
    CHECK(played.mails.empty());
}

// ---- replies ----

TEST_CASE("every reply may have another text and code; what asks the client to go on keeps its code") {
    auto rewriting = with<Event::Response>([](Event::Response& e) {
        e.reply.text = "rewritten";
        if (e.reply.code != 221) e.reply.code = e.reply.code == 550 ? 551 : e.reply.code == 354 ? 554 : e.reply.code;
    });
    auto s = listening([rewriting](Server& server) {
        rewriting(server);
        server.on<Event::Rcpt>([](Event::Rcpt& e) {
            if (e.recipient.local == "no") e.reply = {550, "5.1.1", "Nobody"};
        });
    });
    const auto played = dialogue(
        "S: 220 rewritten\nC: EHLO me\nS: 250 rewritten\nC: MAIL FROM:<a@b>\nS: 250 2.1.0 rewritten\n"
        "C: RCPT TO:<no@d>\nS: 551 5.1.1 rewritten\nC: RCPT TO:<c@d>\nS: 250 2.1.5 rewritten\n"
        "C: DATA\nS: 354 rewritten\nC: x\nC: .\nS: 250 2.0.0 rewritten\nC: QUIT\nS: 221 2.0.0 rewritten\nS: EOF",
        s);
    CHECK(played.mails.size() == 1);
    CHECK(played.mails[0].to.size() == 1);
}

TEST_CASE("a reply can't be broken into lines that are none, whatever its text") {
    const auto played = dialogue("S: 220\nC: NOOP\nS: 250-2.0.0 a\nS: 250 2.0.0 221 b\n" + in_step,
                                 listening(with<Event::Response>([](Event::Response& e) {
                                     if (e.reply.text == "OK") e.reply.text = "a\n221 b\r";
                                 })));
    CHECK(played.heard.find("\r\n221 b") == played.heard.npos);
}

TEST_CASE("a plugin that eats replies leaves nobody waiting; swallowing one is asked for by name") {
    auto eater = std::make_shared<Plugin>();
    eater->on<Event::Response>([](Event::Response& e) {
        if (e.reply.text == "Reset") e.swallow = true;
        return Eat::all;
    });
    auto heard = std::make_shared<int>(0);
    dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: RSET\nC: NOOP\nS: 250 2.0.0 OK\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT "
        "TO:<c@d>\nS: 250\n" +
            text + "S: 250\nC: QUIT\nS: 221\nS: EOF",
        listening([=](Server& s) {
            s.pipeline().add("eater", eater);
            s.on<Event::Response>([heard](Event::Response&) { ++*heard; });
        }));
    CHECK(*heard == 0);
}

TEST_CASE("who throws at a reply changes nothing of it") {
    const auto played = dialogue("S: 220\nC: NOOP\nS: 250 2.0.0 OK\nC: QUIT\nS: 221",
                                 listening(with<Event::Response>([](Event::Response& e) {
                                     if (e.reply.text == "OK") throw std::runtime_error("tired");
                                     throw Reject({550, "5.0.0", "no"});
                                 })));
    CHECK(played.troubles == Names{"tired"});
}

// ---- arrivals ----

TEST_CASE("a message that arrives may be refused before the program's loop sees it") {
    for (const bool thrown : {false, true}) {
        auto refusing = with<Event::Arrived>([thrown](Event::Arrived& e) {
            CHECK(e.client.MSG.header("Subject") == "x");
            CHECK(e.client.TO.size() == 1);
            const Reply no{554, "5.7.1", "Not such a text"};
            if (thrown) throw Reject(no);
            e.reply = no;
        });
        const auto played =
            dialogue(std::string(opening) + text + "S: 554 5.7.1 Not such a text\n" + in_step, listening(refusing));
        CHECK(played.mails.empty());
        CHECK(played.troubles.empty());
    }
    const auto played =
        dialogue(std::string(opening) + text + "S: 451 4.3.0\n" + in_step,
                 listening(with<Event::Arrived>([](Event::Arrived&) { throw std::runtime_error("oh"); })));
    CHECK(played.mails.empty());
    CHECK(played.troubles == Names{"oh"});
    dialogue(std::string(opening) + text + "S: 550 5.7.1\nS: EOF", listening(with<Event::Arrived>([](Event::Arrived&) {
                 throw Hangup({550, "5.7.1", "Go"});
             })));
}

TEST_CASE("a message that is taken when it arrives is answered, and the loop has the next one") {
    auto taking = with<Event::Arrived>([](Event::Arrived& e) {
        if (e.client.FROM.local == "a") e.client.accept({250, "2.6.0", "Filed"});
    });
    const std::string second = "C: MAIL FROM:<z@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n" + text + "S: 250 2.0.0 OK\n";
    const auto played =
        dialogue(std::string(opening) + text + "S: 250 2.6.0 Filed\n" + second + in_step, listening(taking));
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].from.str() == "z@b");
}

TEST_CASE("who answers when the message arrives has answered, whatever is said after that") {
    auto s = listening([](Server& server) {
        server.on<Event::Arrived>([](Event::Arrived& e) {
            e.client.accept({250, "2.0.0", "Yes"});
            e.client.answer();
        });
        server.on<Event::Arrived>([](Event::Arrived& e) { e.reply = {554, "5.7.1", "No"}; });
    });
    const auto played = dialogue(std::string(opening) + text + "S: 250 2.0.0 Yes\n" + in_step, s);
    CHECK(played.mails.empty());
}

TEST_CASE("a message that some have taken when it arrives is still the loop's") {
    auto s = listening(with<Event::Arrived>([](Event::Arrived& e) { e.client.accept(e.client.TO.at(0)); }));
    s.handler = [](Server::Client& c) { c.reject(c.TO.at(1), {550, "5.1.1", "Not the second"}); };
    const auto played = dialogue(
        std::string(opening) + "C: RCPT TO:<e@d>\nS: 250\n" + text + "S: 550 5.1.1 Not the second\n" + in_step, s);
    CHECK(played.mails.size() == 1);
}

TEST_CASE("by LMTP a refusal on arrival is every recipient's") {
    auto s = listening(with<Event::Arrived>([](Event::Arrived& e) { e.reply = {554, "5.7.1", "No"}; }));
    s.options.protocol = Protocol::lmtp;
    dialogue(
        "S: 220\nC: LHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: RCPT TO:<e@d>\nS: 250\n" +
            text + "S: 554 5.7.1\nS: 554 5.7.1\n" + in_step,
        s);
}

// ---- ends ----

TEST_CASE("the end of a session is told once, with what was said last, however it ended") {
    struct Ends {
        std::mutex mutex;
        std::vector<int> codes;
    };
    auto ends = std::make_shared<Ends>();
    const auto heard = listening(with<Event::Disconnect>([ends](Event::Disconnect& e) {
        const std::lock_guard lock(ends->mutex);
        ends->codes.push_back(e.last.code);
    }));
    const auto told = [&] {
        const std::lock_guard lock(ends->mutex);
        return std::exchange(ends->codes, {});
    };
    dialogue("S: 220\nC: QUIT\nS: 221\nS: EOF", heard);
    CHECK(told() == std::vector<int>{221});
    dialogue("S: 220\nC: EHLO me\nS: 250", heard);  // and goes
    CHECK(told() == std::vector<int>{0});
    auto refused = heard;
    refused.listeners = [one = heard.listeners](Server& s) {
        one(s);
        s.on<Event::Connect>([](Event::Connect& e) { e.reply = {554, "5.7.1", "No"}; });
    };
    dialogue("S: 554\nS: EOF", refused);
    CHECK(told() == std::vector<int>{554});
    auto impatient = heard;
    impatient.options.command_timeout = 1s;
    dialogue("S: 220\nS: 421 4.4.2\nS: EOF", impatient);
    CHECK(told() == std::vector<int>{421});
    auto once = heard;
    once.program = [](Server::Client& c) {
        if (c.process()) c.accept();
    };
    dialogue(std::string(opening) + text + "S: 250\nC: QUIT\nS: 221\nS: EOF", once);
    CHECK(told() == std::vector<int>{221});
    auto unheard = heard;
    unheard.program = [](Server::Client&) {};  // nothing was said
    dialogue("S: EOF", unheard);
    CHECK(told().empty());
}

TEST_CASE("plugins come, go and change places under busy clients, and each mail meets one state of them") {
    std::atomic<bool> over{false};
    Server server(std::vector<std::string>{"127.0.0.1:0"});
    std::atomic<int> checked{0};
    auto gate = std::make_shared<Plugin>();
    gate->on<Event::Rcpt>([&](Event::Rcpt& e) {
        ++checked;
        if (e.recipient.local == "no") e.reply = {550, "5.1.1", "Nobody"};
    });
    server.pipeline().add("gate", gate);
    Background loop([&] { server.run([](Server::Client& c) { c.accept(); }); });
    Background changer([&] {
        for (int n = 0; !over; ++n) {
            const auto name = "p" + std::to_string(n % 5);
            auto plugin = std::make_shared<Plugin>();
            plugin->otherwise([](Event&) {});
            server.pipeline().add(name, plugin);
            server.pipeline().move_up(name, 3);
            server.pipeline().move_down("gate");
            if (n % 2) server.pipeline().remove("p" + std::to_string((n + 2) % 5));
            std::this_thread::yield();
        }
    });
    crowd(server, [](Wire& wire, int) {
        for (int n = 0; n < 10; ++n) send_mail(wire, "a@b", {"c@d"}, {"no@d"});
    });
    over = true;
    changer.join();
    server.stop();
    loop.join();
    CHECK(checked == 20 * 10 * 2);
}
