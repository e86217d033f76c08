// relay_trouble -- next hops that misbehave in every state, and senders that leave: the right result, in bounded time.
#include "dialogue.hpp"
#include "next_hop.hpp"

using namespace test;

namespace {

const Message text("Subject: x\r\n\r\nhello\r\n");
const std::vector<std::string> states{"", "EHLO", "MAIL", "RCPT", "DATA", ".", "QUIT"};

// What becomes of one mail in that case; empty when it is as it should be.
std::string wrong(const std::string& state, const std::string& fault, const std::string& keywords) {
    NextHop hop({{state, fault}}, keywords);
    auto o = via(hop);
    using std::chrono::seconds;
    o.patience = {seconds(1), seconds(1), seconds(1), seconds(1), seconds(1),
                  seconds(1), seconds(1), seconds(1), seconds(1)};
    const auto began = Clock::now();
    const Relay relay(Sender("a@b"), recipients({"c@d", "e@f"}), text, o);
    const auto took = Clock::now() - began;
    if (took > 6s) return "took too long";
    for (const auto& r : relay.results()) {
        if (r.host != hop.address()) return "host: " + r.host;
        // After the end of the text the next hop has the mail, however it leaves.
        if (state == "QUIT" ? !r.delivered() : !r.reply.temporary()) return r.reply.str();
        if (state != "QUIT" && fault[0] != '4' && !r.reply.status.starts_with("4.")) return "status: " + r.reply.str();
    }
    const auto heard = hop.only();
    if (heard.complete != (state == "." || state == "QUIT")) return "the text has gone";
    return "";
}

void all_states(const std::string& fault) {
    for (const std::string keywords : {"PIPELINING\nENHANCEDSTATUSCODES", "ENHANCEDSTATUSCODES"}) {
        std::vector<std::string> results(states.size());
        {
            std::vector<Background> all;
            for (std::size_t i = 0; i < states.size(); ++i)
                all.emplace_back([&, i] { results[i] = wrong(states[i], fault, keywords); });
            for (auto& b : all) CHECK_NOTHROW(b.join());
        }
        for (std::size_t i = 0; i < states.size(); ++i) {
            CAPTURE(states[i]);
            CAPTURE(keywords);
            CHECK(results[i] == "");
        }
    }
}

// Plays a session whose mail for c@d is relayed, up to the dot.
Setup relaying(const NextHop& hop, bool at_rcpt = false, bool one_domain = false) {
    auto o = via(hop);
    o.at_rcpt = at_rcpt;
    o.one_domain = one_domain;
    return test::relaying(o);
}

const std::string hello = "S: 220\nC: EHLO me\nS: 250\n";

}  // namespace

TEST_CASE("the next hop closes") { all_states("CLOSE"); }
TEST_CASE("the next hop resets the connection") { all_states("RESET"); }
TEST_CASE("the next hop says nothing") { all_states("STALL"); }
TEST_CASE("the next hop says 421") { all_states("421 4.3.2 going down"); }
TEST_CASE("the next hop says what is no reply") { all_states("RAW:hello there\r\n"); }
TEST_CASE("the next hop sends an empty line") { all_states("RAW:\r\n"); }
TEST_CASE("the next hop uses a code that is none") { all_states("RAW:199 what\r\n"); }
TEST_CASE("the next hop's reply has no end") { all_states("FLOOD"); }
TEST_CASE("the next hop's line has no end") { all_states("LONG"); }
TEST_CASE("the next hop's reply has 10 MB") {
    all_states("RAW:" + [] {
        std::string banner;
        while (banner.size() < 10 << 20) banner += "220-" + std::string(500, 'x') + "\r\n";
        return banner + "220 at last\r\n";
    }());
}
TEST_CASE("the next hop changes the code within a reply") { all_states("RAW:250-one\r\n550 two\r\n"); }

TEST_CASE("a next hop whose lines end in LF alone is understood") {
    Manners manners{{"", "RAW:220 hi\n"},     {"EHLO", "RAW:250-hi\n250 PIPELINING\n"},   {"MAIL", "RAW:250 ok\n"},
                    {"RCPT", "RAW:250 ok\n"}, {".", "RAW:250-2.0.0 taken\n250 really\n"}, {"QUIT", "RAW:221 bye\n"}};
    NextHop hop(manners);
    const Relay relay(Sender("a@b"), recipients({"c@d", "e@f"}), text, via(hop));
    CHECK(relay.delivered());
    CHECK(relay.results()[0].reply.str() == "250 2.0.0 taken\nreally");
    const auto heard = hop.only();
    CHECK(heard.complete);
    CHECK(heard.ended);
}

TEST_CASE("what a next hop says is clean in the result") {
    NextHop hop(Manners{{".", "RAW:550 5.7.1 a\rb\tc\x1b[2J\x7f\n"}});
    const Relay relay(Sender("a@b"), recipients({"c@d"}), text, via(hop));
    CHECK(relay.results()[0].reply.str() == "550 5.7.1 a b c [2J ");
}

TEST_CASE("a next hop's line without an end is not heard for long") {
    NextHop hop(Manners{{"MAIL", "LONG"}});
    const auto began = Clock::now();
    const Relay relay(Sender("a@b"), recipients({"c@d"}), text, via(hop));
    CHECK(relay.results()[0].reply.str().starts_with("451 4.5.0"));
    CHECK(Clock::now() - began < 5s);  // its patience is 10 s
}

TEST_CASE("354 says go on, and nothing but DATA has anything to go on with") {
    for (const std::string state : {"", "EHLO", "MAIL", "RCPT", "."}) {
        CAPTURE(state);
        NextHop hop({{state, "354 go on"}}, "PIPELINING");
        const Relay relay(Sender("a@b"), recipients({"c@d"}), text, via(hop));
        CHECK(relay.results()[0].reply.temporary());
        CHECK(hop.only().complete == (state == "."));
    }
    NextHop hop(Manners{{"DATA", "250 fine"}});
    const Relay relay(Sender("a@b"), recipients({"c@d"}), text, via(hop));
    CHECK(relay.results()[0].reply.temporary());
    CHECK(!hop.only().complete);
}

TEST_CASE("a refusal at the greeting, at EHLO and HELO is the result") {
    for (const auto& [manners, reply] : std::vector<std::pair<Manners, std::string>>{
             {{{"", "554 5.7.1 not you"}}, "554"},
             {{{"", "451 4.3.0 not now"}}, "451"},
             {{{"EHLO", "500 what"}, {"HELO", "550 5.7.1 not you"}}, "550"},
             {{{"EHLO", "451 4.3.0 not now"}}, "451"},
         }) {
        NextHop hop(manners);
        const Relay relay(Sender("a@b"), recipients({"c@d"}), text, via(hop));
        CHECK(relay.results()[0].reply.str().starts_with(reply));
        CHECK(!relay.delivered());
    }
}

TEST_CASE("nobody listens there") {
    Relay::Options o;
    {
        NextHop hop;
        o = via(hop);
    }
    const Relay relay(Sender("a@b"), recipients({"c@d"}), text, o);
    CHECK(relay.results()[0].reply.str().starts_with("451 4.4.1"));
    CHECK(relay.results()[0].reply.text.find(o.host) != std::string::npos);
    Reply failure;
    const auto offer = Relay::offered(o, &failure);
    CHECK(failure.str().starts_with("451 4.4.1"));
    CHECK(!offer.extensions.pipelining);
}

TEST_CASE("the total is the end of all patience") {
    std::vector<Background> all;
    for (const auto& state : states) {
        if (state == "QUIT") continue;
        all.emplace_back([state] {
            NextHop hop({{state, "STALL"}});
            auto o = via(hop);
            o.total = 1s;
            const auto began = Clock::now();
            const Relay relay(Sender("a@b"), recipients({"c@d"}), text, o);
            if (Clock::now() - began > 4s) throw std::runtime_error("took too long");
            const auto reply = relay.results()[0].reply.str();
            if (!reply.starts_with("451 4.4")) throw std::runtime_error(reply);
        });
    }
    for (auto& b : all) CHECK_NOTHROW(b.join());
}

TEST_CASE("a next hop that reads no text is given up in time") {
    Server server(Addresses{"127.0.0.1:0"});
    std::promise<void> over;
    Background hop([&] {
        auto connection = server.accept();
        Wire wire(dup(connection.fd()));
        play(wire, "");
        wire.send("220 next\r\n");
        for (const char* reply : {"250 next\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"}) {
            wire.line();
            wire.send(reply);
        }
        over.get_future().wait_for(patience);
    });
    Relay::Options o{.host = server.address(), .hostname = "relay.test"};
    o.patience.block = 1s;
    const auto began = Clock::now();
    const Relay relay(Sender("a@b"), recipients({"c@d"}), Message(std::string(64 << 20, 'x') + "\r\n"), o);
    CHECK(Clock::now() - began < patience);
    CHECK(relay.results()[0].reply.str().starts_with("451 4.4.2"));
    over.set_value();
}

TEST_CASE("what the next hop offers can be asked") {
    NextHop hop({}, "PIPELINING\nsize 12345\n8BITMIME\nSMTPUTF8\nDSN\nCHUNKING\nBINARYMIME\nSTARTTLS\nX-SIZE 5");
    const auto offer = Relay::offered(via(hop));
    CHECK(offer.max_size == 12345);
    CHECK((offer.extensions.pipelining && offer.extensions.size && offer.extensions.eight_bit_mime &&
           offer.extensions.smtputf8));
    CHECK((offer.extensions.dsn && offer.extensions.chunking && offer.extensions.binary_mime));
    CHECK(!offer.extensions.enhanced_status_codes);
    CHECK(hop.only().ended);
}

// ---- senders that leave ----

TEST_CASE("when the sender has gone before the dot, the next hop gets no end") {
    for (const std::string way : {"DATA", "BDAT", "binary"}) {
        const bool binary = way == "binary", chunked = way != "DATA";
        CAPTURE(way);
        // The next hop answers RCPT only when the sender has left.
        Server server(Addresses{"127.0.0.1:0"});
        std::promise<void> asked, left;
        std::string heard;
        Background hop([&] {
            auto connection = server.accept();
            Wire wire(dup(connection.fd()));
            connection.close();
            wire.send("220 next\r\n");
            wire.line();
            wire.send(chunked ? "250-next\r\n250-CHUNKING\r\n250 BINARYMIME\r\n" : "250 next\r\n");
            wire.line();
            wire.send("250 ok\r\n");
            wire.line();
            asked.set_value();
            left.get_future().wait_for(patience);
            wire.send("250 ok\r\n");
            if (!chunked) {
                wire.line();
                wire.send("354 go\r\n");
            }
            while (true) {
                const auto octets = wire.receive();
                if (octets.empty()) break;
                heard += octets;
            }
        });
        Relay::Options o{.host = server.address(), .hostname = "relay.test", .received = false};
        Setup setup;
        setup.options.offer.binary_mime = true;
        std::vector<Relay::Result> results;
        setup.handler = [&](Server::Client& c) { results = Relay(c.FROM, c.TO, c.MSG, o).results(); };
        Talk talk(setup);
        talk.play(hello + "C: MAIL FROM:<a@b>" + (binary ? " BODY=BINARYMIME" : "") +
                  "\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: BDAT 7 LAST\nc: hello\\r\\n");
        asked.get_future().wait_for(patience);
        talk.wire.close();
        left.set_value();
        talk.end();
        hop.join();
        REQUIRE(results.size() == 1);
        CHECK(results[0].reply.temporary());
        if (chunked) CHECK(!heard.ends_with("hello\r\n"));
        else CHECK(heard.find("\r\n.\r\n") == heard.npos);
    }
}

// ---- asking during RCPT ----

TEST_CASE("with at_rcpt each recipient hears the next hop's own answer, on one connection") {
    NextHop hop(Manners{{"RCPT TO:<bad@d>", "550 5.1.1 no such user there"}, {"RCPT TO:<full@d>", "452 4.2.2 full"}});
    const auto played = dialogue(hello + R"(
        C: MAIL FROM:<a@b> SIZE=100
        S: 250
        C: RCPT TO:<bad@d>
        S: 550 5.1.1 no such user there
        C: RCPT TO:<good@d>
        S: 250
        C: RCPT TO:<full@d>
        S: 452 4.2.2 full
        C: RCPT TO:<other@d>
        S: 250
        C: DATA
        S: 354
        C: hello
        C: .
        S: 250 2.0.0 taken by the next hop
        C: QUIT
        S: 221
    )",
                                 relaying(hop, true));
    CHECK(played.mails.size() == 1);
    auto heard = hop.end();
    std::erase_if(heard, [](const Heard& h) { return !h.complete; });
    REQUIRE(heard.size() == 1);
    CHECK(heard[0].text.ends_with("\r\nhello\r\n"));
    const auto& commands = heard[0].commands;
    CHECK(std::count(commands.begin(), commands.end(), "RCPT TO:<good@d>") == 1);
    CHECK(std::count(commands.begin(), commands.end(), "RCPT TO:<other@d>") == 1);
}

TEST_CASE("with at_rcpt a refused sender, or a next hop that is away, is heard at RCPT") {
    NextHop hop(Manners{{"MAIL", "550 5.7.1 not from you"}});
    dialogue(
        hello +
            "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 550 5.7.1 not from you\nC: DATA\nS: 503\nC: QUIT\nS: 221",
        relaying(hop, true));
    Setup away;
    {
        NextHop gone;
        away = relaying(gone, true);
    }
    dialogue(hello + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 451 4.4.1\nC: QUIT\nS: 221", away);
}

TEST_CASE("with at_rcpt a transaction that is given up delivers nothing, and the next one is its own") {
    NextHop hop;
    dialogue(hello + R"(
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<first@d>
        S: 250
        C: RSET
        S: 250
        C: MAIL FROM:<e@f>
        S: 250
        C: RCPT TO:<second@d>
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250
        C: QUIT
        S: 221
    )",
             relaying(hop, true));
    const auto heard = hop.end();
    REQUIRE(heard.size() == 2);
    CHECK(!heard[0].complete);
    CHECK(heard[1].complete);
    CHECK(heard[1].octets.find("first@d") == std::string::npos);
}

TEST_CASE("with at_rcpt a mail goes to whom the program says, not to whom was asked about") {
    NextHop hop;
    auto setup = relaying(hop, true);
    auto o = via(hop);
    o.at_rcpt = true;
    setup.handler = [o](Server::Client& c) {
        c.FROM = Sender("bounces@b");
        c.TO[0].local = "alias";
        Relay(c.FROM, c.TO, c.MSG, o);
    };
    dialogue(
        hello + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\nC: QUIT\nS: 221",
        setup);
    int delivered = 0;
    for (const auto& heard : hop.end()) {
        if (!heard.complete) continue;
        ++delivered;
        CHECK(heard.octets.find("RCPT TO:<alias@d>") != std::string::npos);
        CHECK(heard.octets.find("RCPT TO:<c@d>") == std::string::npos);
        CHECK(heard.octets.find("MAIL FROM:<bounces@b>") != std::string::npos);
    }
    CHECK(delivered == 1);
}

TEST_CASE("with at_rcpt a recipient whom another listener refused gets nothing") {
    NextHop hop;
    auto setup = relaying(hop, true);
    setup.listeners = [attach = setup.listeners](Server& s) {
        attach(s);
        s.on<Event::Rcpt>([](Event::Rcpt& e) {
            if (e.recipient.local == "late") e.reply = {550, "5.7.1", "not this one"};
        });
    };
    dialogue(hello +
                 "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: RCPT TO:<late@d>\nS: 550\nC: DATA\nS: "
                 "354\nC: .\nS: 250\nC: QUIT\nS: 221",
             setup);
    int delivered = 0;
    for (const auto& heard : hop.end()) {
        if (!heard.complete) continue;
        ++delivered;
        CHECK(heard.octets.find("late@d") == std::string::npos);
    }
    CHECK(delivered == 1);
}

TEST_CASE("with at_rcpt a next hop that leaves before DATA costs a 451, or is asked again") {
    // The connection opened during RCPT dies; what the sender hears must be true.
    NextHop hop(Manners{{"DATA", "CLOSE"}});
    dialogue(
        hello +
            "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 451 4.4\nC: QUIT\nS: 221",
        relaying(hop, true));
    for (const auto& heard : hop.end()) CHECK(!heard.complete);
}

TEST_CASE("with one_domain a second domain is for the next transaction") {
    NextHop hop;
    const auto played = dialogue(hello + R"(
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<one@d.example>
        S: 250
        C: RCPT TO:<two@D.EXAMPLE>
        S: 250
        C: RCPT TO:<three@e.example>
        S: 452 4.5.3
        C: DATA
        S: 354
        C: .
        S: 250
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<three@e.example>
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250
        C: QUIT
        S: 221
    )",
                                 relaying(hop, false, true));
    CHECK(played.mails.size() == 2);
}
