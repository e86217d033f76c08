// relay_international -- mails whose sender said SMTPUTF8, at next hops that don't offer it: what is ASCII goes there,
// what is not comes back.
#include "../Relay/International.hpp"
#include "dialogue.hpp"
#include "next_hop.hpp"

using namespace test;

namespace {

const char* const ours = "Received: from me\r\n";
const std::string composite = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n";

struct Sample {
    const char* name;
    std::string text;
    bool international;
};
const std::vector<Sample> samples{
    {"nothing", "", false},
    {"ASCII", "Subject: x\r\n\r\nhello\r\n", false},
    {"a header alone", "Subject: x\r\n", false},
    {"no header", "\r\nhello\r\n", false},
    {"8-bit text below an ASCII header", "Subject: x\r\nContent-Type: text/plain\r\n\r\ngr\xc3\xbc\xc3\x9f\r\n", false},
    {"a header in UTF-8", "Subject: gr\xc3\xbc\xc3\x9f\r\n\r\nhello\r\n", true},
    {"a header alone in UTF-8", "Subject: gr\xc3\xbc\xc3\x9f\r\n", true},
    {"parts in ASCII", composite + "Subject: x\r\n\r\nhello\r\n--b--\r\n", false},
    {"a part whose header is in UTF-8", composite + "Subject: \xc3\xbc\r\n\r\nhello\r\n--b--\r\n", true},
    {"a part that is 8-bit", composite + "\r\n\xc3\xbc\r\n--b--\r\n", true},
    {"a message in a message", "content-type: Message/RFC822\r\n\r\nSubject: \xc3\xbc\r\n\r\n", true},
    {"a header longer than is looked at", "X: " + std::string(1 << 20, 'x') + "\r\n\r\nhello\r\n", true},
};

Sender said_utf8() {
    Sender from("a@b");
    from.smtputf8 = true;
    return from;
}

}  // namespace

TEST_CASE("a text needs SMTPUTF8 if a header of it or of its parts is not ASCII") {
    for (const auto& each : samples) {
        CAPTURE(each.name);
        CHECK(international(ours, Message(each.text)) == each.international);
    }
    CHECK(international("Received: from \xc3\xbc\r\n", Message("Subject: x\r\n\r\n")));
}

TEST_CASE("where SMTPUTF8 is not offered a mail goes without it if it can, else it is 550 5.6.7") {
    for (const auto& each : samples)
        for (const char* keywords : {"PIPELINING\n8BITMIME", "8BITMIME", "PIPELINING\n8BITMIME\nCHUNKING"}) {
            CAPTURE(each.name);
            CAPTURE(keywords);
            NextHop hop({}, keywords);
            auto o = via(hop);
            o.received = false;
            const Relay relay(said_utf8(), recipients({"c@d"}), Message(each.text), o);
            const auto heard = hop.only();
            CHECK(heard.commands.at(1) == "MAIL FROM:<a@b>");
            CHECK(heard.ended);
            CHECK(relay.delivered() == !each.international);
            if (each.international) {
                CHECK(relay.results()[0].reply.str().starts_with("550 5.6.7"));
                CHECK(!heard.complete);
                CHECK(std::ranges::find(heard.commands, "DATA") == heard.commands.end());
            }
        }
}

TEST_CASE("where SMTPUTF8 is offered it is passed on, whatever the text") {
    NextHop hop({}, "PIPELINING\nSMTPUTF8");
    CHECK(Relay(said_utf8(), recipients({"c@d"}), Message("Subject: x\r\n\r\nhello\r\n"), via(hop)).delivered());
    CHECK(hop.only().commands.at(1) == "MAIL FROM:<a@b> SMTPUTF8");
}

TEST_CASE("of several recipients nobody gets a text that the host can't take, nor one of them an address") {
    for (const std::string to : {"\xc3\xbc@d", "c@d"}) {
        CAPTURE(to);
        NextHop hop({}, "PIPELINING");
        auto both = recipients({"e@f"});
        both.emplace_back(Recipient("x@d"));
        both.back().local = to.substr(0, to.find('@'));
        const Relay relay(said_utf8(), both, Message("Subject: \xc3\xbc\r\n\r\nhello\r\n"), via(hop));
        for (const auto& result : relay.results()) CHECK(result.reply.str().starts_with("550 5.6.7"));
        CHECK(!hop.only().complete);
    }
}

TEST_CASE("with at_rcpt a recipient is taken, and the text decides") {
    for (const bool international : {false, true}) {
        NextHop hop({}, "PIPELINING\n8BITMIME");
        auto o = via(hop);
        o.at_rcpt = true;
        Setup setup{.options = {}, .handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, o); }};
        setup.options.offer.smtputf8 = true;
        setup.listeners = [&](Server& server) { Relay::attach(server, o); };
        dialogue(
            "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b> SMTPUTF8\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: "
            "354\nC: Subject: " +
                std::string(international ? "\\xc3\\xbc" : "x") +
                "\nC: \nC: hello\nC: .\nS: " + (international ? "550 5.6.7" : "250") + "\nC: QUIT\nS: 221\nS: EOF",
            setup);
        CHECK(hop.only().complete == !international);
    }
}
