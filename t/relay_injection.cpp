// relay_injection -- whatever a program or a client puts into an address, a parameter or a name: one command goes out
// for one.
#include "dialogue.hpp"
#include "next_hop.hpp"

using namespace test;

namespace {

const Message text("Subject: x\r\n\r\nhello\r\n");

// What a transaction may say to the next hop, line by line; anything else has been injected.
void clean(const std::vector<Heard>& all) {
    for (const auto& heard : all) {
        for (const auto& command : heard.commands) {
            CAPTURE(command);
            const bool known = command.starts_with("EHLO relay.test") || command.starts_with("MAIL FROM:<") ||
                               command.starts_with("RCPT TO:<") || command == "DATA" || command == "." ||
                               command == "RSET" || command == "QUIT";
            CHECK(known);
            for (unsigned char c : command) CHECK((c >= 32 && c != 127));
            CHECK(command.find("evil") == std::string::npos);
        }
    }
}

using namespace std::string_literals;
const std::vector<std::string> poison{"x\r\nRCPT TO:<evil@y>",
                                      "x\nRCPT TO:<evil@y>",
                                      "x\rRCPT TO:<evil@y>",
                                      "x>\r\nRCPT TO:<evil",
                                      "x\0evil"s,
                                      "x> evil=1",
                                      "x evil",
                                      "\"x\r\nevil\"",
                                      "x\x7f"
                                      "evil",
                                      "\x1b[evil",
                                      "evil@a",
                                      "<evil",
                                      "\"evil"};

}  // namespace

TEST_CASE("an address with more than an address in it is refused, and not sent") {
    for (const auto& local : poison) {
        const auto shown = escaped(local);
        CAPTURE(shown);
        for (int part = 0; part < 4; ++part) {
            CAPTURE(part);
            NextHop hop({}, "PIPELINING\nDSN\nSMTPUTF8");
            Sender from("a@b");
            auto to = recipients({"c@d", "e@f"});
            (part == 0 ? from.local : part == 1 ? from.domain : part == 2 ? to[1].local : to[1].domain) = local;
            const Relay relay(from, to, text, via(hop));
            CHECK(!relay.delivered());
            CHECK(relay.results()[1].reply.code == 553);
            const auto heard = hop.end();
            clean(heard);
            for (const auto& h : heard) CHECK(!h.complete);
        }
    }
}

TEST_CASE("parameters with more than a parameter in them are encoded, left out, or refused") {
    for (const auto& value : poison) {
        const auto shown = escaped(value);
        CAPTURE(shown);
        for (int part = 0; part < 3; ++part) {
            CAPTURE(part);
            NextHop hop({}, "PIPELINING\nDSN");
            Sender from("a@b");
            auto to = recipients({"c@d"});
            if (part == 0) from.envid = value;
            if (part == 1) to[0].orcpt = OriginalRecipient{"rfc822", value};
            if (part == 2) to[0].orcpt = OriginalRecipient{value, "c@d"};
            const Relay relay(from, to, text, via(hop));
            const auto heard = hop.end();
            for (const auto& h : heard) {
                CHECK(h.octets.find("\r\nRCPT TO:<evil") == std::string::npos);
                for (const auto& command : h.commands) {
                    CAPTURE(command);
                    CHECK((command.starts_with("EHLO relay.test") || command.starts_with("MAIL FROM:<a@b>") ||
                           command.starts_with("RCPT TO:<c@d>") || command == "DATA" || command == "." ||
                           command == "RSET" || command == "QUIT"));
                    for (unsigned char c : command) CHECK((c >= 32 && c != 127));
                    // One blank stands before each parameter, and each is one of ours.
                    for (auto at = command.find(' ', 11); command.starts_with("MAIL") || command.starts_with("RCPT");
                         at = command.find(' ', at + 1)) {
                        if (at == command.npos) break;
                        const auto parameter = command.substr(at + 1);
                        CHECK((parameter.starts_with("ENVID=") || parameter.starts_with("ORCPT=")));
                    }
                }
            }
        }
    }
}

TEST_CASE("raw and parameters of the client's own are not sent on") {
    NextHop hop;
    Sender from("a@b");
    from.raw = "<a@b>\r\nRCPT TO:<evil@x>";
    from.parameters.push_back({"SIZE", "5\r\nRCPT TO:<evil@x>", true});
    auto to = recipients({"c@d"});
    to[0].raw = "<c@d>\r\nRCPT TO:<evil@x>";
    to[0].parameters.push_back({"NOTIFY", "evil", true});
    CHECK(Relay(from, to, text, via(hop)).delivered());
    const auto heard = hop.end();
    clean(heard);
    CHECK(heard[0].octets.find("evil") == std::string::npos);
}

TEST_CASE("a sender that was never set is not sent as the null sender of a bounce, or at least nothing else is") {
    NextHop hop;
    const Relay relay(Sender(), recipients({"c@d"}), text, via(hop));
    clean(hop.end());
}

TEST_CASE("no name of a client ends the header of our Received") {
    // A listener may change what the client called itself, into anything.
    for (const auto& name : {"me\r\n\r\nbody"s, "me\r\n.\r\nMAIL FROM:<evil@x>\r\nRCPT TO:<evil@y>\r\nDATA"s,
                             "me\nBcc: evil@x"s, "me\revil"s, "me\0evil"s, ".\r\nevil"s, "\xff\xfe"s}) {
        const auto shown = escaped(name);
        CAPTURE(shown);
        NextHop hop;
        Setup setup;
        setup.listeners = [name](Server& s) { s.on<Event::Helo>([name](Event::Helo& e) { e.helo = name; }); };
        setup.handler = [&](Server::Client& c) {
            Relay relay(c.FROM, c.TO, c.MSG, via(hop));
            if (!relay.delivered()) {
                c.reconsider();
                c.accept();  // refusing it is right as well
            }
        };
        dialogue(std::string(opening) + "C: DATA\nS: 354\nC: Subject: x\nC: \nC: hello\nC: .\nS: 250\nC: QUIT\nS: 221",
                 setup);
        for (const auto& heard : hop.end()) {
            clean({heard});
            if (!heard.complete) continue;
            // The header section is Received, folded, and Subject.
            const auto header = heard.text.substr(0, heard.text.find("\r\n\r\n"));
            int fields = 0;
            for (std::size_t at = 0; at < header.size();) {
                if (header[at] != ' ' && header[at] != '\t') ++fields;
                const auto end = header.find("\r\n", at);
                at = end == header.npos ? header.size() : end + 2;
            }
            CHECK(fields == 2);
            CHECK(heard.text.ends_with("\r\nSubject: x\r\n\r\nhello\r\n"));
            for (std::size_t i = 0; i < heard.text.size(); ++i) {
                const unsigned char c = static_cast<unsigned char>(heard.text[i]);
                CHECK((c >= 32 || c == '\t' || c == '\r' || c == '\n'));
                CHECK((c == '\n') == (i > 0 && heard.text[i - 1] == '\r'));
            }
        }
    }
}

TEST_CASE("a text that looks like the end and more commands stays a text") {
    NextHop hop;
    auto o = via(hop);
    o.received = false;
    const std::string body = "a\r\n.\r\nMAIL FROM:<evil@x>\r\nRCPT TO:<evil@y>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n";
    CHECK(Relay(Sender("a@b"), recipients({"c@d"}), Message(body), o).delivered());
    const auto heard = hop.only();
    clean({heard});
    CHECK(heard.text == "a\r\n..\r\nMAIL FROM:<evil@x>\r\nRCPT TO:<evil@y>\r\nDATA\r\nevil\r\n..\r\nQUIT\r\n");
}

TEST_CASE("quoted local parts travel as they are") {
    NextHop hop;
    const auto played = dialogue(R"(
        S: 220
        C: EHLO me
        S: 250
        C: MAIL FROM:<"a b\\"c>"@x>
        S: 250
        C: RCPT TO:<"QUIT @ \\\\ ; <evil>"@y>
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250
        C: QUIT
        S: 221
    )",
                                 {.handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, via(hop)); }});
    const auto heard = hop.only();
    REQUIRE(heard.commands.size() == 6);
    CHECK(heard.commands[1].starts_with("MAIL FROM:<\"a b\\\"c>\"@x>"));
    CHECK(heard.commands[2] == "RCPT TO:<\"QUIT @ \\\\ ; <evil>\"@y>");
}
