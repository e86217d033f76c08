// relay -- a message on its way to the next hop: the octets of the wire, the recipients, and what the sender hears of
// it.
#include "dialogue.hpp"
#include "next_hop.hpp"

using namespace test;

namespace {

using Lines = std::vector<std::string>;

// A session whose mail for one@d and two@d goes to the next hop; `reply` is what its sender hears.
void relayed(const NextHop& hop, const std::string& reply, Relay::Options o) {
    const auto played = dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<one@d>\nS: 250\nC: RCPT TO:<two@d>\nS: "
        "250\nC: DATA\nS: 354\nC: Subject: x\n"
        "C: \nC: ..y\nC: .\nS: " +
            reply + "\nC: NOOP\nS: 250\nC: QUIT\nS: 221\nS: EOF",
        {.handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, o); }});
    CHECK(played.mails.size() == 1);
    (void)hop;
}
void relayed(const NextHop& hop, const std::string& reply) { relayed(hop, reply, via(hop)); }

const Message text("Subject: x\r\n\r\nhello\r\n");

}  // namespace

TEST_CASE("a mail reaches the next hop octet for octet, and its sender hears 250 after that") {
    NextHop hop;
    relayed(hop, "250 2.0.0 taken by the next hop");
    const auto heard = hop.only();
    const std::string size = std::to_string(heard.text.size() - 1);  // a dot was doubled
    CHECK(heard.commands == Lines{"EHLO relay.test", "MAIL FROM:<a@b> SIZE=" + size, "RCPT TO:<one@d>",
                                  "RCPT TO:<two@d>", "DATA", ".", "QUIT"});
    // Digits and capitals of the id, and all that changes in the date, as their kind.
    auto shape = heard.text;
    const auto id = shape.find(" id ") + 4, date = shape.find(";\r\n\t") + 4, end = shape.find("\r\n", date);
    REQUIRE((id < date && date < end && end != shape.npos));
    for (auto i = id; i < end; ++i) {
        if (i == date) i += 4;  // the name of the day and its comma
        if (shape[i] >= '0' && shape[i] <= '9') shape[i] = '0';
        else if (i < date && shape[i] >= 'A' && shape[i] <= 'Z') shape[i] = '0';
    }
    shape.replace(date, 3, "Day");
    shape.replace(shape.find(" 0000 ", date) - 3, 3, "Mon");
    const auto day = shape.find(" 00 Mon") == shape.npos ? " 0 Mon" : " 00 Mon";
    CHECK(shape == std::string("Received: from me (local)\r\n\tby mx.test with ESMTP id 0000000000000-0;\r\n\tDay,") +
                       day + " 0000 00:00:00 +0000\r\nSubject: x\r\n\r\n..y\r\n");
}

TEST_CASE("a mail over TCP tells in Received where it came from") {
    NextHop hop;
    Setup setup;
    setup.listeners = [](Server&) {};
    setup.handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, via(hop)); };
    dialogue(
        "S: 220\nC: HELO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: "
        "250\nC: QUIT\nS: 221",
        setup);
    CHECK(hop.only().text.starts_with("Received: from me ([127.0.0.1])\r\n\tby mx.test with SMTP id "));
}

TEST_CASE("without Received the text is just the text") {
    for (const auto& row : std::vector<std::pair<std::string, std::string>>{
             {"", ""},
             {"a\r\n", "a\r\n"},
             {"no end", "no end\r\n"},
             {".\r\n", "..\r\n"},
             {"..\r\n.", "...\r\n..\r\n"},
             {"\r\n.\r\nMAIL FROM:<x@y>\r\n", "\r\n..\r\nMAIL FROM:<x@y>\r\n"},
         }) {
        const auto &message = row.first, &wire = row.second;  // clang 14 captures no structured binding
        CAPTURE(message);
        NextHop hop;
        auto o = via(hop);
        o.received = false;
        const Relay relay(Sender("a@b"), recipients({"c@d"}), Message(message), o);
        CHECK(relay.delivered());
        REQUIRE(relay.results().size() == 1);
        CHECK(relay.results()[0].reply.str() == "250 2.0.0 taken by the next hop");
        CHECK(relay.results()[0].host == hop.address());
        const auto heard = hop.only();
        CHECK(heard.text == wire);
        CHECK(heard.complete);
        CHECK(heard.commands.back() == "QUIT");
    }
}

TEST_CASE("a large message arrives whole, from memory and from a file") {
    std::mt19937 random(5321);
    std::string body;
    while (body.size() < 900'000) {
        static constexpr std::string_view some[] = {".", "..", "\r\n", "\r\n.", "some words", "\r\n..\r\n"};
        body += some[random() % std::size(some)];
    }
    body += "\r\n";
    std::string stuffed;
    bool at_start = true;
    for (char c : body) {
        if (at_start && c == '.') stuffed += '.';
        stuffed += c;
        at_start = c == '\n';
    }
    for (const std::size_t border : {0, 10 << 20}) {
        NextHop hop;
        auto o = via(hop);
        o.received = false;
        Setup setup;
        setup.options.spool_above = border;
        setup.handler = [&](Server::Client& c) {
            CHECK(c.MSG.spooled() == (border == 0));
            Relay(c.FROM, c.TO, c.MSG, o);
        };
        Talk talk(setup);
        talk.play(std::string(opening) + "C: DATA\nS: 354");
        talk.wire.send(stuffed + ".\r\n");
        talk.play("S: 250\nC: QUIT\nS: 221");
        talk.end();
        CHECK((hop.only().text == stuffed));
    }
}

TEST_CASE("a next hop that only knows HELO gets no parameters, and one command at a time") {
    NextHop hop(Manners{{"EHLO", "500 5.5.1 what?"}});
    relayed(hop, "250");
    CHECK(hop.only().commands == Lines{"EHLO relay.test", "HELO relay.test", "MAIL FROM:<a@b>", "RCPT TO:<one@d>",
                                       "RCPT TO:<two@d>", "DATA", ".", "QUIT"});
}

TEST_CASE("without PIPELINING every command waits for its reply, with it none does before DATA") {
    // It reads whole groups only if they come as groups: each reply goes out when all the group is there.
    for (const bool pipelining : {true, false}) {
        CAPTURE(pipelining);
        Server server(Addresses{"127.0.0.1:0"});
        std::vector<std::string> groups;
        Background hop([&] {
            auto connection = server.accept();
            Wire wire(dup(connection.fd()));
            wire.send("220 next\r\n");
            while (true) {
                std::string group = wire.receive();
                if (group.empty()) break;
                groups.push_back(group);
                std::string replies;
                for (std::size_t at = 0, end; (end = group.find("\r\n", at)) != group.npos; at = end + 2) {
                    const auto verb = group.substr(at, 4);
                    replies += verb == "EHLO" ? std::string("250-next\r\n") + (pipelining ? "250-pipelining\r\n" : "") +
                                                    "250 HELP\r\n"
                               : verb == "DATA" ? "354 go\r\n"
                               : verb == "QUIT" ? "221 bye\r\n"
                                                : "250 ok\r\n";
                }
                if (groups.back().starts_with("hello")) replies = "250 ok\r\n";
                wire.send(replies);
            }
        });
        Relay::Options o{.host = server.address(), .hostname = "relay.test", .received = false};
        const Relay relay(Sender("a@b"), recipients({"c@d", "e@f"}), Message("hello\r\n"), o);
        CHECK(relay.delivered());
        hop.join();
        const Lines grouped{"EHLO relay.test\r\n", "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\n", "DATA\r\n",
                            "hello\r\n.\r\n", "QUIT\r\n"};
        const Lines alone{"EHLO relay.test\r\n",
                          "MAIL FROM:<a@b>\r\n",
                          "RCPT TO:<c@d>\r\n",
                          "RCPT TO:<e@f>\r\n",
                          "DATA\r\n",
                          "hello\r\n.\r\n",
                          "QUIT\r\n"};
        CHECK(groups == (pipelining ? grouped : alone));
    }
}

TEST_CASE("parameters go on as far as the next hop offers them") {
    Sender from("a@b");
    from.body = BodyType::eight_bit_mime;
    from.ret = Return::headers;
    from.envid = "q+q =";
    auto to = recipients({"c@d"});
    to[0].notify.success = to[0].notify.delay = true;
    to[0].orcpt = OriginalRecipient{"rfc822", "x+y@z"};
    {
        NextHop hop({}, "8BITMIME\nDSN");
        CHECK(Relay(from, to, text, via(hop)).delivered());
        const auto heard = hop.only();
        CHECK(heard.commands[1] == "MAIL FROM:<a@b> BODY=8BITMIME RET=HDRS ENVID=q+2Bq+20+3D");
        CHECK(heard.commands[2] == "RCPT TO:<c@d> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@z");
    }
    {
        NextHop hop({}, "8bitmime");
        CHECK(Relay(from, to, text, via(hop)).delivered());
        const auto heard = hop.only();
        CHECK(heard.commands[1] == "MAIL FROM:<a@b> BODY=8BITMIME");
        CHECK(heard.commands[2] == "RCPT TO:<c@d>");
    }
}

TEST_CASE("an original recipient in UTF-8 goes on as RFC 6533 has it, whichever way it came") {
    const std::string octets = "\xe7\x94\xa8@\xc3\xbc+\xf0\x9f\x98\x80.example";
    for (const auto& came : {octets, std::string("\\x{7528}@\\x{FC}\\x{2B}\\x{1F600}.example")})
        for (const bool utf8 : {false, true}) {
            CAPTURE(came);
            NextHop hop({}, "DSN\nSMTPUTF8\n8BITMIME");
            Sender from("a@b");
            from.smtputf8 = utf8;
            auto to = recipients({"c@d"});
            to[0].orcpt = OriginalRecipient{"UTF-8", came};
            CHECK(Relay(from, to, text, via(hop)).delivered());
            CHECK(hop.only().commands[2] ==
                  "RCPT TO:<c@d> ORCPT=UTF-8;" + (utf8 ? "\xe7\x94\xa8@\xc3\xbc\\x{2B}\xf0\x9f\x98\x80.example"
                                                       : std::string("\\x{7528}@\\x{FC}\\x{2B}\\x{1F600}.example")));
        }
    // What is no character, or would be a line or a parameter, is none.
    for (const std::string bad :
         {"\xff", "\\x{D800}", "\\x{110000}", "\\x{", "\\x{}", "\\x{0D}\\x{0A}x", "a b=c+d\r\ne", "\\x{fc}"}) {
        CAPTURE(escaped(bad));
        NextHop hop({}, "DSN");
        auto to = recipients({"c@d"});
        to[0].orcpt = OriginalRecipient{"utf-8", bad};
        CHECK(Relay(Sender("a@b"), to, text, via(hop)).delivered());
        const auto line = hop.only().commands.at(2);
        CHECK(line.starts_with("RCPT TO:<c@d> ORCPT=utf-8;"));
        for (const unsigned char c : line.substr(26)) CHECK((c > 32 && c < 127 && c != '+' && c != '='));
    }
}

TEST_CASE("what the next hop can't take is refused here, and nobody gets it") {
    struct Case {
        const char* name;
        const char* keywords;
        std::function<void(Sender&, std::vector<Recipient>&)> change;
        const char* status;
    };
    for (const auto& c : std::vector<Case>{
             {"UTF-8 in the sender", "8BITMIME", [](Sender&s, auto&) { s.local = "\xc3\xa4"; }, "5.6.7"},
             {"UTF-8 in a recipient", "8BITMIME", [](Sender&, auto&to) { to[1].local = "\xc3\xa4"; }, "5.6.7"},
             {"SIZE", "SIZE 10", [](Sender&, auto&) {}, "5.3.4"},
         }) {
        CAPTURE(c.name);
        NextHop hop({}, c.keywords);
        Sender from("a@b");
        auto to = recipients({"c@d", "e@f"});
        c.change(from, to);
        const Relay relay(from, to, text, via(hop));
        CHECK(!relay.delivered());
        for (const auto& r : relay.results()) CHECK(r.reply.status == c.status);
        const auto heard = hop.only();
        CHECK(!heard.complete);
        CHECK(heard.ended);
    }
}

TEST_CASE("a binary message goes by BDAT, octet for octet") {
    NextHop hop({}, "CHUNKING\nBINARYMIME");
    Sender from("a@b");
    from.body = BodyType::binary_mime;
    const std::string octets("a\0\n.\r\n\r..\r\n.\r\n", 14);
    auto o = via(hop);
    o.received = false;
    CHECK(Relay(from, recipients({"c@d"}), Message(octets), o).delivered());
    const auto heard = hop.only();
    CHECK(heard.commands ==
          Lines{"EHLO relay.test", "MAIL FROM:<a@b> BODY=BINARYMIME", "RCPT TO:<c@d>", "BDAT 14 LAST", "QUIT"});
    CHECK(heard.text == octets);
}

TEST_CASE("a lone CR or LF does not travel in a text") {
    for (const char* octets : {"a\nb\r\n", "a\rb\r\n", "a\r\n.\n.\r\n", "a\r", "\n"}) {
        NextHop hop;
        const Relay relay(Sender("a@b"), recipients({"c@d"}), Message(octets), via(hop));
        CHECK(relay.results()[0].reply.str().starts_with("554 5.6.0"));
        CHECK(!hop.only().complete);
    }
}

TEST_CASE("all or nothing: one refused recipient, and nobody gets the message") {
    for (const char* keywords : {"PIPELINING\nENHANCEDSTATUSCODES", "ENHANCEDSTATUSCODES"}) {
        for (const std::string refusal : {"550 5.1.1 no such user", "450 4.2.1 later"}) {
            CAPTURE(refusal);
            NextHop hop(Manners{{"RCPT TO:<two@d>", refusal}}, keywords);
            relayed(hop, refusal);
            const auto heard = hop.only();
            CHECK(!heard.complete);
            CHECK(std::find(heard.commands.begin(), heard.commands.end(), "DATA") == heard.commands.end());
            CHECK(heard.ended);
        }
    }
    NextHop hop(Manners{{"RCPT TO:<two@d>", "550 5.1.1 never"}, {"RCPT TO:<one@d>", "450 4.2.1 later"}});
    const Relay relay(Sender("a@b"), recipients({"one@d", "two@d", "three@d"}), text, via(hop));
    REQUIRE(relay.results().size() == 3);
    CHECK(relay.results()[0].reply.str() == "450 4.2.1 later");
    CHECK(relay.results()[1].reply.str() == "550 5.1.1 never");
    CHECK(relay.results()[2].reply.str() == "450 4.2.1 later");  // had been accepted; the worst is its reply
    CHECK(!relay.delivered());
}

TEST_CASE("the next hop's words reach the sender, line by line") {
    for (const std::string where : {"MAIL", "RCPT", "DATA", "."}) {
        CAPTURE(where);
        Manners manners{{where, "554 5.7.1 first line\n5.7.1 second line"}};
        if (where == "MAIL" || where == "RCPT") manners["DATA"] = "503 5.5.1 no recipients";
        NextHop hop(manners);
        Setup setup;
        setup.handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, via(hop)); };
        dialogue(std::string(opening) +
                     "C: DATA\nS: 354\nC: .\nS: 554-5.7.1 first line\nS: 554 5.7.1 second line\nC: NOOP\nS: 250\nC: "
                     "QUIT\nS: 221",
                 setup);
        CHECK(hop.only().ended);
    }
}

TEST_CASE("what a next hop says can't become a reply of its own") {
    using namespace std::string_literals;
    for (const auto& raw : {"550 5.7.1 a\r250 fake\r\n"s, "550-a\r\n550 b\0c\r\n"s, "550 \x1b[2J\r\n"s,
                            "550 " + std::string(1500, 'x') + "\r\n"}) {
        NextHop hop(Manners{{".", "RAW:" + raw}});
        relayed(hop, "550");
    }
}

TEST_CASE("a next hop's 421 ends its session, and ours only in order") {
    NextHop hop(Manners{{"MAIL", "421 4.3.2 next.test is going down"}});
    Setup setup;
    setup.handler = [&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, via(hop)); };
    Talk talk(setup);
    talk.play(std::string(opening) + "C: DATA\nS: 354\nC: .");
    const auto reply = talk.wire.expect("4");
    // 421 means that we close (RFC 5321 3.8); if we do not, it is not ours to say.
    if (reply.starts_with("421")) talk.wire.expect_end();
    else CHECK(talk.wire.ask("NOOP") == 250);
    talk.end();
}

TEST_CASE("a relay for some recipients leaves the others to somebody else") {
    NextHop hop;
    Setup setup;
    setup.handler = [&](Server::Client& c) {
        for (const auto& to : c.TO)
            if (to.local == "one") Relay(c.FROM, {to}, c.MSG, via(hop));
    };
    const std::string start = "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<one@d>\nS: 250\n";
    dialogue(start +
                 "C: RCPT TO:<two@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 451 4.3.0\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT "
                 "TO:<one@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\nC: QUIT\nS: 221",
             setup);
}

TEST_CASE("recipient by recipient, each relayed alone") {
    NextHop hop(Manners{{"RCPT TO:<two@d>", "550 5.1.1 no"}});
    Setup setup;
    setup.listeners = [](Server&) {};
    setup.handler = [&](Server::Client& c) {
        for (const auto& to : c.TO) Relay(c.FROM, {to}, c.MSG, via(hop));
    };
    const auto played = dialogue(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<one@d>\nS: 250\nC: RCPT TO:<two@d>\nS: "
        "250\nC: DATA\nS: 354\nC: .\nS: 550 5.1.1 no\nC: QUIT\nS: 221",
        setup);
    CHECK(played.troubles.size() == 1);  // one was taken
    CHECK(hop.end().size() == 2);
}

TEST_CASE("too many hops are 554, nowhere to go is 451, and nobody is asked") {
    auto received = [](int n) {
        std::string out;
        for (int i = 0; i < n; ++i) out += "Received: by somebody;\r\n\tsome day\r\n";
        return Message(out + "\r\nReceived: in the body\r\n");
    };
    NextHop hop;
    const auto to = recipients({"c@d", "e@f"});
    for (const auto& [n, limit] : {std::pair{100, 100}, {101, 100}, {5, 5}, {1, 1}}) {
        auto o = via(hop);
        o.max_hops = std::size_t(limit);
        const Relay looping(Sender("a@b"), to, received(n), o);
        for (const auto& r : looping.results()) CHECK(r.reply.str().starts_with("554 5.4.6"));
    }
    const Relay nowhere(Sender("a@b"), to, text), empty(Sender("a@b"), to, text, Relay::Options{});
    for (const auto* relay : {&nowhere, &empty}) {
        REQUIRE(relay->results().size() == 2);
        CHECK(relay->results()[1].reply.str() == "451 4.4.4 No route");
        CHECK(relay->results()[1].host.empty());
    }
    CHECK(!hop.asked());
    CHECK(Relay(Sender("a@b"), to, received(99), via(hop)).delivered());
    auto without = via(hop);
    without.max_hops = 0;
    CHECK(Relay(Sender("a@b"), to, received(200), without).delivered());
    CHECK(hop.end().size() == 2);
}

TEST_CASE("nothing is relayed, or even asked, once the sender has his answer") {
    NextHop hop;
    Talk talk({.program = [&](Server::Client& c) {
        REQUIRE(c.process());
        c.reject({550, "5.7.1", "no"});
        c.answer();
        const auto copy = c.MSG;
        CHECK_THROWS_AS(Relay(c.FROM, c.TO, c.MSG, via(hop)), std::logic_error);
        CHECK(!c.process());
        CHECK_THROWS_AS(Relay(Sender("a@b"), recipients({"c@d"}), copy, via(hop)), std::logic_error);
    }});
    talk.play(std::string(opening) + "C: DATA\nS: 354\nC: .\nS: 550\nC: QUIT\nS: 221");
    talk.end();
    CHECK(hop.end().empty());
}

TEST_CASE("options that make no sense are named") {
    auto thrown = [](auto change) {
        Relay::Options o{.host = "127.0.0.1:1"};
        change(o);
        try {
            Relay relay(Sender("a@b"), recipients({}), text, o);
        } catch (const std::invalid_argument& e) {
            return std::string(e.what());
        }
        return std::string();
    };
    CHECK(thrown([](auto&) {}).empty());
    CHECK(thrown([](auto& o) { o.hostname = "a b"; }).find("hostname") != std::string::npos);
    CHECK(thrown([](auto& o) { o.hostname = "a\r\nMAIL FROM:<x@y>"; }).find("hostname") != std::string::npos);
    CHECK(thrown([](auto& o) { o.total = 0s; }).find("total") != std::string::npos);
    CHECK(thrown([](auto& o) { o.total = -1s; }).find("total") != std::string::npos);
    CHECK(!thrown([](auto& o) { o.patience.mail = -1s; }).empty());
    CHECK(!thrown([](auto& o) { o.host = "a:b:c"; }).empty());
    CHECK(!thrown([](auto& o) { o.host = "127.0.0.1:99999"; }).empty());
    CHECK(!thrown([](auto& o) { o.host = "two words"; }).empty());
}
