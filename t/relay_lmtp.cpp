// relay_lmtp -- handing mail to an LMTP server: a reply for each recipient, and what the sender hears of a mixture.
#include <Net/SMTP/Server/Test/ScriptedServer.hpp>

#include "dialogue.hpp"
#include "next_hop.hpp"

using namespace test;
using Net::SMTP::Test::Act;
using Net::SMTP::Test::Conversation;
using Net::SMTP::Test::ScriptedServer;

namespace {

const Message text("Subject: x\r\n\r\nhello\r\n");

Relay::Options lmtp(const ScriptedServer& hop) {
    Relay::Options o;
    o.host = "lmtp:" + hop.address();
    o.hostname = "relay.test";
    o.total = 15s;
    o.patience = {5s, 5s, 5s, 5s, 5s, 5s, 5s, 5s, 1s, 5s};
    return o;
}

std::vector<std::string> codes(const Relay& relay) {
    std::vector<std::string> out;
    for (const auto& r : relay.results()) out.push_back(r.reply.str().substr(0, 9));
    return out;
}
using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("by LMTP each recipient has a result of its own, by BDAT and by DATA") {
    for (const bool chunking : {true, false}) {
        CAPTURE(chunking);
        ScriptedServer::Options options;
        options.keywords.push_back("CHUNKING");
        ScriptedServer hop(options);
        hop.reply_to(". <full@d>", {452, "4.2.2", "over quota"});
        hop.reply_to(". <gone@d>", {550, "5.1.1", "no longer here"});
        auto o = lmtp(hop);
        o.chunking = chunking;
        const Relay relay(Sender("a@b"), recipients({"one@d", "full@d", "gone@d", "two@d"}), text, o);
        CHECK(codes(relay) == Lines{"250 2.0.0", "452 4.2.2", "550 5.1.1", "250 2.0.0"});
        CHECK(!relay.delivered());
        for (const auto& r : relay.results()) CHECK(!r.in_doubt);
        const auto heard = hop.finish();
        REQUIRE(heard.size() == 1);
        CHECK(heard[0].commands.front() == "LHLO relay.test");
        CHECK(heard[0].said(chunking ? "BDAT" : "DATA"));
        CHECK(heard[0].end == Conversation::End::quit);
    }
}

TEST_CASE("by LMTP a refused RCPT is refused for all, unless some are enough") {
    ScriptedServer hop;
    hop.reply_to("RCPT TO:<bad@", {550, "5.1.1", "no such user"});
    auto o = lmtp(hop);
    CHECK(codes(Relay(Sender("a@b"), recipients({"one@d", "bad@d"}), text, o)) == Lines{"550 5.1.1", "550 5.1.1"});
    o.partial = true;
    CHECK(codes(Relay(Sender("a@b"), recipients({"one@d", "bad@d", "two@d"}), text, o)) ==
          Lines{"250 2.0.0", "550 5.1.1", "250 2.0.0"});
}

TEST_CASE("an LMTP server that leaves among its replies leaves the rest in doubt") {
    for (const auto& act : {Act::close(), Act::reset()}) {
        ScriptedServer hop;
        hop.on(". <two@d>", act);
        const Relay relay(Sender("a@b"), recipients({"one@d", "two@d", "three@d"}), text, lmtp(hop));
        const auto& results = relay.results();
        // A reset may swallow what was said before it.
        if (results[0].delivered()) CHECK(!results[0].in_doubt);
        else CHECK(results[0].in_doubt);
        for (std::size_t i : {1, 2}) {
            CHECK(results[i].reply.temporary());
            CHECK(results[i].in_doubt);
        }
    }
}

TEST_CASE("a mixture is 451 for an SMTP sender, with a word to the program") {
    ScriptedServer hop;
    hop.reply_to(". <gone@d>", {550, "5.1.1", "no longer here"});
    Setup setup;
    setup.listeners = [](Server&) {};
    setup.handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, lmtp(hop)); };
    const auto played = dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<one@d>\nS: 250\nC: RCPT "
        "TO:<gone@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 451 4.1.1 no longer here\nC: QUIT\nS: 221",
        setup);
    CHECK(played.troubles.size() == 1);

    // All refused is no mixture.
    setup.handler = [&](Server::Client& c) {
        Relay(c.FROM, {c.TO[1]}, c.MSG, lmtp(hop));
        c.reject(c.TO[0], {550, "5.0.0", "x"});
    };
    dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<one@d>\nS: 250\nC: RCPT "
        "TO:<gone@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 550\nC: QUIT\nS: 221",
        setup);
}

TEST_CASE("from LMTP to LMTP each recipient hears what became of it, and one refusal keeps nobody else's mail") {
    ScriptedServer hop;
    hop.reply_to("RCPT TO:<bad@", {550, "5.1.1", "no such user"});
    hop.reply_to(". <full@d>", {452, "4.2.2", "over quota"});
    Setup setup;
    setup.options.protocol = Protocol::lmtp;
    setup.handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, lmtp(hop)); };
    Talk talk(setup);
    talk.play(
        "S: 220\nC: LHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<full@d>\nS: 250\nC: RCPT TO:<bad@d>\nS: "
        "250\nC: RCPT TO:<good@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 452 4.2.2 over quota\nS: 550 5.1.1 no such "
        "user\nS: 250 2.0.0\nC: QUIT\nS: 221");
    talk.end();
}

TEST_CASE("next hops that make no sense are named") {
    for (const std::string host :
         {"lmtp:127.0.0.1:25", "lmtp:", "smtp:", "smtp://", "lmtp:unix:x", "http://x", "[1.2.3", "a:b:c", "x:99999"}) {
        CAPTURE(host);
        Relay::Options o;
        o.host = host;
        try {
            Relay(Sender("a@b"), recipients({"c@d"}), text, o);
            FAIL("was taken");
        } catch (const std::invalid_argument& e) {
            CHECK(std::string(e.what()).find(host) != std::string::npos);
        }
    }
    CHECK(Upstream::parse("lmtp://[::1]").endpoint == Endpoint{"::1", 24});
    CHECK(Upstream::parse("lmtp:unix:/x").endpoint == Endpoint{"/x", 0});
    CHECK(Upstream::parse("lmtp:unix:/x").protocol == Protocol::lmtp);
    CHECK(Upstream::parse("smtp://h:26").endpoint == Endpoint{"h", 26});
    CHECK(Upstream::parse("h").endpoint == Endpoint{"h", 25});
}
