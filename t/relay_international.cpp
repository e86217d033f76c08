// relay_international -- mails whose sender said SMTPUTF8, 8BITMIME or BINARYMIME, at next hops that don't offer it:
// what does not need it goes there, what does comes back.
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

// ---- 8BITMIME and BINARYMIME ----

namespace {

using enum BodyType;

struct Octets {
    const char* name;
    std::string octets;
    BodyType need;  // of one whose sender said BINARYMIME
};
const std::string begin = "Subject: x\r\n\r\n";
const std::vector<Octets> bodies{
    {"nothing", "", seven_bit},
    {"ASCII", begin + "hello\r\n.\r\n", seven_bit},
    {"all of ASCII that a text may hold", begin + "\x01\x7f\t\v\x1b\r\n", seven_bit},
    {"8-bit text", begin + "gr\xc3\xbc\xc3\x9f\r\n", eight_bit_mime},
    {"8-bit in a header", "Subject: \xfc\r\n\r\nhello\r\n", eight_bit_mime},
    {"a lone LF", begin + "a\nb\r\n", binary_mime},
    {"a lone CR", begin + "a\rb\r\n", binary_mime},
    {"two CRs", begin + "a\r\r\n", binary_mime},
    {"an LF before CR", begin + "a\n\r\n", binary_mime},
    {"a NUL", begin + std::string(1, '\0') + "\r\n", binary_mime},
    {"no end of the last line", begin + "hello", binary_mime},
    {"half an end of the last line", begin + "hello\r", binary_mime},
    {"a line of 998", begin + std::string(998, 'x') + "\r\n", seven_bit},
    {"a line of 999", begin + std::string(999, 'x') + "\r\n", binary_mime},
};

Sender announcing(BodyType body) {
    Sender from("a@b");
    from.body = body;
    return from;
}

}  // namespace

TEST_CASE("8BITMIME is needed by an octet above 127, BINARYMIME by what no text may hold") {
    for (const auto& each : bodies) {
        CAPTURE(each.name);
        const Message message(each.octets);
        const bool high = std::ranges::any_of(each.octets, [](unsigned char c) { return c > 127; });
        CHECK(needed_body(seven_bit, ours, message) == seven_bit);
        CHECK(needed_body(eight_bit_mime, ours, message) == (high ? eight_bit_mime : seven_bit));
        CHECK(needed_body(binary_mime, ours, message) == each.need);
    }
    // Whatever is cut by the pieces in which it is read.
    const std::size_t piece = 65536;
    for (std::size_t before = piece - 3; before <= piece + 1; ++before) {
        CAPTURE(before);
        std::string lines;
        while (lines.size() + 2 < before)
            lines += std::string(std::min(before - lines.size() - 2, std::size_t(500)), 'x') + "\r\n";
        CHECK(needed_body(binary_mime, "", Message(lines)) == seven_bit);
        CHECK(needed_body(binary_mime, "", Message(lines + "\n")) == binary_mime);
        CHECK(needed_body(binary_mime, "", Message(lines + "\xfc\r\n")) == eight_bit_mime);
    }
    CHECK(needed_body(eight_bit_mime, "Received: from \xfc\r\n", Message(begin)) == eight_bit_mime);
    CHECK(needed_body(binary_mime, "Received: from x\n", Message(begin)) == binary_mime);
}

TEST_CASE("where 8BITMIME or BINARYMIME is not offered a mail goes without it if it can, else it is 554 5.6.3") {
    struct Offer {
        const char* keywords;
        BodyType most;
    };
    for (const auto announced : {eight_bit_mime, binary_mime})
        for (const auto& each : bodies)
            for (const auto& offer :
                 {Offer{"PIPELINING", seven_bit}, Offer{"SIZE", seven_bit}, Offer{"PIPELINING\nCHUNKING", seven_bit},
                  Offer{"BINARYMIME", seven_bit}, Offer{"PIPELINING\n8BITMIME", eight_bit_mime},
                  Offer{"8BITMIME\nCHUNKING", eight_bit_mime}, Offer{"CHUNKING\nBINARYMIME\n8BITMIME", binary_mime}}) {
                const Message message(each.octets);
                const auto need = needed_body(announced, "", message);
                if (announced == eight_bit_mime && each.need == binary_mime) continue;  // that is no such text
                CAPTURE(each.name);
                CAPTURE(int(announced));
                CAPTURE(offer.keywords);
                NextHop hop({}, offer.keywords);
                auto o = via(hop);
                o.received = false;
                const Relay relay(announcing(announced), recipients({"c@d"}), message, o);
                const auto heard = hop.only();
                const auto body = std::min(announced, offer.most);
                CHECK((heard.commands.at(1).find("8BITMIME") != std::string::npos) == (body == eight_bit_mime));
                CHECK((heard.commands.at(1).find("BINARYMIME") != std::string::npos) == (body == binary_mime));
                CHECK(heard.ended);
                CHECK(heard.complete == (need <= offer.most));
                CHECK(relay.delivered() == (need <= offer.most));
                if (need <= offer.most) continue;
                const std::string missing = need == binary_mime ? "BINARYMIME" : "8BITMIME";
                CHECK(relay.results()[0].reply.str().starts_with("554 5.6.3"));
                CHECK(relay.results()[0].reply.text.ends_with(" does not offer " + missing));
            }
}

TEST_CASE("with at_rcpt a recipient of 8-bit mail is taken, and the text decides") {
    for (const bool high : {false, true}) {
        NextHop hop({}, "PIPELINING");
        auto o = via(hop);
        o.at_rcpt = true;
        Setup setup{.options = {}, .handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, o); }};
        setup.listeners = [&](Server& server) { Relay::attach(server, o); };
        dialogue(
            "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b> BODY=8BITMIME\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: "
            "DATA\nS: 354\nC: Subject: x\nC: \nC: " +
                std::string(high ? "\\xfc" : "x") + "\nC: .\nS: " + (high ? "554 5.6.3" : "250") +
                "\nC: QUIT\nS: 221\nS: EOF",
            setup);
        CHECK(hop.only().complete == !high);
    }
}
