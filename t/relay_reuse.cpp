// relay_reuse -- connections that are kept for the next message: which are, which are not, and what happens when one
// has gone bad meanwhile.
#include <unistd.h>
#include <Net/SMTP/Server/Test/ScriptedServer.hpp>

#include <sys/wait.h>

#include "dialogue.hpp"
#include "next_hop.hpp"

using namespace test;
using Net::SMTP::Test::Act;
using Net::SMTP::Test::Conversation;
using Net::SMTP::Test::ScriptedServer;

namespace {

const Message text("Subject: x\r\n\r\nhello\r\n");

Relay::Options over(const ScriptedServer& hop, const std::shared_ptr<SessionCache>& sessions) {
    Relay::Options o;
    o.host = hop.address();
    o.hostname = "relay.test";
    o.total = 15s;
    o.patience = {5s, 5s, 5s, 5s, 5s, 5s, 5s, 5s, 1s, 5s};
    o.received = false;
    o.sessions = sessions;
    return o;
}

Reply send(const Relay::Options& o, const Message& message = text) {
    return Relay(Sender("a@b"), recipients({"c@d"}), message, o).results().at(0).reply;
}

std::size_t mails(const ScriptedServer& hop) {
    std::size_t n = 0;
    for (const auto& c : hop.conversations())
        for (const auto& t : c.texts) n += t.complete;
    return n;
}

}  // namespace

TEST_CASE("several messages travel over one connection, which says QUIT in the end") {
    ScriptedServer hop;
    {
        const auto sessions = std::make_shared<SessionCache>();
        for (int i = 0; i < 5; ++i) CHECK(send(over(hop, sessions)).positive());
        CHECK(sessions->idle() == 1);
    }
    const auto all = hop.finish();
    REQUIRE(all.size() == 1);
    CHECK(all[0].end == Conversation::End::quit);
    CHECK(mails(hop) == 5);
    using Lines = std::vector<std::string>;
    Lines want{"EHLO relay.test"};
    for (int i = 0; i < 5; ++i)
        for (const auto* line : {"MAIL FROM:<a@b> SIZE=21", "RCPT TO:<c@d>", "DATA", "."}) want.emplace_back(line);
    want.emplace_back("QUIT");
    CHECK(all[0].commands == want);
}

TEST_CASE("on a kept connection one message follows the other, by DATA and by BDAT") {
    const std::string mail = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", whole = "Subject: x\r\n\r\nhello\r\n";
    for (const bool chunking : {false, true}) {
        CAPTURE(chunking);
        ScriptedServer::Options options;
        options.keywords = {"PIPELINING"};
        if (chunking) options.keywords.push_back("CHUNKING");
        ScriptedServer hop(options);
        const auto sessions = std::make_shared<SessionCache>();
        for (int i = 0; i < 3; ++i) CHECK(send(over(hop, sessions)).positive());
        const auto one = mail + (chunking ? "BDAT 21 LAST\r\n" + whole : "DATA\r\n" + whole + ".\r\n");
        CHECK(hop.conversations().at(0).octets == "EHLO relay.test\r\n" + one + one + one);
    }
}

TEST_CASE("a refused message leaves the connection in order for the next one") {
    for (const std::string where : {"MAIL", "RCPT", "DATA", "."}) {
        for (const bool together : {true, false}) {  // with DATA in the group of RCPT, and alone
            CAPTURE(where);
            CAPTURE(together);
            ScriptedServer::Options options;
            if (together) options.keywords = {"PIPELINING"};
            else options.keywords = {"8BITMIME"};
            ScriptedServer hop(options);
            hop.on({.command = where, .nth = 1}, Act(Reply{550, "5.7.1", "no"}));
            if (where == "MAIL" || where == "RCPT")
                hop.on({.command = "DATA", .nth = 1},
                       together ? Act(Reply{503, "5.5.1", "no"}) : Act(Reply{354, "", ""}));
            const auto sessions = std::make_shared<SessionCache>();
            CHECK(send(over(hop, sessions)).code == 550);
            CHECK(send(over(hop, sessions)).positive());
            CHECK(hop.conversations().size() == 1);
            CHECK(mails(hop) == (where == "." ? 2 : 1));
        }
    }
}

TEST_CASE("354 after a refused recipient costs the connection, never a mail") {
    ScriptedServer::Options options;
    options.keywords = {"PIPELINING"};
    ScriptedServer hop(options);
    hop.reply_to("RCPT", {550, "5.1.1", "no such user"});
    const auto sessions = std::make_shared<SessionCache>();
    CHECK(send(over(hop, sessions)).str() == "550 5.1.1 no such user");
    CHECK(sessions->idle() == 0);
    CHECK(mails(hop) == 0);
}

TEST_CASE("a kept connection that has gone bad is replaced, and nobody hears of it") {
    const std::pair<const char*, Act> ways[] = {
        {"closed after the mail", Act(Reply{250, "2.0.0", "ok"}).then(Act::close())},
        {"reset after the mail", Act(Reply{250, "2.0.0", "ok"}).then(Act::reset())},
        {"421 after the mail",
         Act(Reply{250, "2.0.0", "ok"}).then(Act(Reply{421, "4.4.2", "idle"})).then(Act::close())},
    };
    for (const auto& way : ways) {
        CAPTURE(way.first);
        ScriptedServer hop;
        hop.on({.command = ".", .connection = 1}, way.second);
        const auto sessions = std::make_shared<SessionCache>();
        CHECK(send(over(hop, sessions)).positive());
        CHECK(send(over(hop, sessions)).positive());
        CHECK(send(over(hop, sessions)).positive());
        CHECK(mails(hop) == 3);
    }
    // It seems to be there, and answers the next MAIL with its end.
    for (const auto& act : {Act::close(), Act::reset(), Act(Reply{421, "4.7.0", "too many"}).then(Act::close())}) {
        ScriptedServer hop;
        hop.on({.command = "MAIL", .nth = 2, .connection = 1}, act);
        const auto sessions = std::make_shared<SessionCache>();
        CHECK(send(over(hop, sessions)).positive());
        CHECK(send(over(hop, sessions)).positive());
        CHECK(hop.conversations().size() == 2);
        CHECK(mails(hop) == 2);
    }
}

TEST_CASE("who answers before he is asked is not talked to again") {
    ScriptedServer hop;
    hop.on({.command = ".", .connection = 1}, Act::raw("250 2.0.0 ok\r\n250 2.0.0 and the next one too\r\n"));
    const auto sessions = std::make_shared<SessionCache>();
    CHECK(send(over(hop, sessions)).positive());
    CHECK(send(over(hop, sessions)).positive());
    CHECK(mails(hop) == 2);
    CHECK(hop.conversations().size() == 2);
}

TEST_CASE("limits of the cache: mails over one connection, connections kept, and for how long") {
    ScriptedServer hop;
    {
        const auto sessions = std::make_shared<SessionCache>(SessionCache::Limits{.mails = 2});
        for (int i = 0; i < 5; ++i) CHECK(send(over(hop, sessions)).positive());
        CHECK(hop.conversations().size() == 3);
    }
    {
        const auto sessions = std::make_shared<SessionCache>(SessionCache::Limits{.keep = 0s});
        for (int i = 0; i < 2; ++i) CHECK(send(over(hop, sessions)).positive());
        CHECK(hop.conversations().size() == 5);
    }
    ScriptedServer others[3];
    const auto sessions = std::make_shared<SessionCache>(SessionCache::Limits{.idle = 2});
    for (const auto& other : others) CHECK(send(over(other, sessions)).positive());
    CHECK(sessions->idle() == 2);
    CHECK(others[0].wait_for(1)[0].end == Conversation::End::quit);  // the longest idle one
}

TEST_CASE("another name of ours is another connection") {
    ScriptedServer hop;
    const auto sessions = std::make_shared<SessionCache>();
    auto o = over(hop, sessions);
    CHECK(send(o).positive());
    o.hostname = "other.test";
    CHECK(send(o).positive());
    CHECK(hop.conversations().size() == 2);
    CHECK(sessions->idle() == 2);
}

TEST_CASE("many threads share a cache, and each mail arrives once") {
    ScriptedServer hop;
    const auto sessions = std::make_shared<SessionCache>();
    std::vector<Background> threads;
    for (int t = 0; t < 8; ++t)
        threads.emplace_back([&, t] {
            for (int i = 0; i < 20; ++i) {
                const Message own("Subject: " + std::to_string(t) + '-' + std::to_string(i) + "\r\n\r\n");
                if (!send(over(hop, sessions), own).positive()) throw std::runtime_error("not delivered");
            }
        });
    for (auto& t : threads) CHECK_NOTHROW(t.join(60s));
    CHECK(hop.conversations().size() <= 8);
    std::vector<std::string> all;
    for (const auto& c : hop.conversations())
        for (const auto& t : c.texts) all.push_back(t.text());
    CHECK(all.size() == 160);
    std::ranges::sort(all);
    CHECK(std::unique(all.begin(), all.end()) == all.end());
}

TEST_CASE("a forked child uses none of its parent's connections, and does not end them") {
    ScriptedServer hop;
    const auto sessions = std::make_shared<SessionCache>();
    CHECK(send(over(hop, sessions)).positive());
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        alarm(20);
        const bool fine = send(over(hop, sessions)).positive();
        // As if it ended in order: the cache goes too.
        sessions->~SessionCache();
        _exit(fine ? 0 : 1);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(send(over(hop, sessions)).positive());
    CHECK(hop.conversations().size() == 2);
    CHECK(mails(hop) == 3);
}

TEST_CASE("with at_rcpt the connection is kept as well, also by who gives up") {
    ScriptedServer hop;
    const auto sessions = std::make_shared<SessionCache>();
    auto o = over(hop, sessions);
    o.at_rcpt = true;
    const auto setup = relaying(o);
    const std::string begin = "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n";
    const std::string whole = begin + "C: DATA\nS: 354\nC: .\nS: 250\n";
    dialogue("S: 220\nC: EHLO me\nS: 250\n" + begin + "C: RSET\nS: 250\n" + whole + whole + "C: QUIT\nS: 221", setup);
    CHECK(mails(hop) == 2);
    CHECK(hop.conversations().size() == 1);
    CHECK(sessions->idle() == 1);
}
