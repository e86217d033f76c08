// kit_scripted_server -- the kit's ScriptedServer: polite, or wrong in the way it was told, with a true record of it.
#include <doctest/doctest.h>
#include <sys/ioctl.h>

#include "peer.hpp"

using namespace test;
using Test::Act;
using Test::Conversation;
using Test::Failure;
using Test::Pace;
using Test::ScriptedServer;
using End = Conversation::End;

namespace {

using Lines = std::vector<std::string>;

const std::string envelope = "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n";

template <class Work>
std::string failure(Work work) {
    try {
        work();
    } catch (const Failure& f) {
        return f.what();
    }
    return "";
}

// What is in the queue of a Unix socket when something is. Nothing can join it while it is not read, if its sender
// waits for that.
std::string queued(Wire& wire) {
    pollfd in{wire.fd(), POLLIN, 0};
    int size = 0;
    if (poll(&in, 1, 10'000) != 1 || ioctl(wire.fd(), FIONREAD, &size) != 0) return "";
    std::string octets(std::size_t(size), '\0');
    octets.resize(std::size_t(std::max<ssize_t>(0, recv(wire.fd(), octets.data(), octets.size(), MSG_DONTWAIT))));
    return octets;
}

}  // namespace

TEST_CASE("ScriptedServer: it is polite, and records what it heard") {
    ScriptedServer server;
    const Relay relay(Sender("a@b"), {Recipient("c@d"), Recipient("e@f")}, Message(".dot\r\nend\r\n"),
                      {.host = server.address(), .hostname = "me.test", .received = false});
    CHECK(relay.delivered());
    const auto all = server.finish();
    REQUIRE(all.size() == 1);
    const auto& c = all[0];
    CHECK(c.number == 1);
    CHECK(c.peer.host == "127.0.0.1");
    CHECK(c.commands ==
          Lines{"EHLO me.test", "MAIL FROM:<a@b> SIZE=11", "RCPT TO:<c@d>", "RCPT TO:<e@f>", "DATA", ".", "QUIT"});
    REQUIRE(c.texts.size() == 1);
    CHECK(c.texts[0].wire == "..dot\r\nend\r\n");
    CHECK(c.texts[0].text() == ".dot\r\nend\r\n");
    CHECK(c.texts[0].complete);
    CHECK(c.end == End::quit);
    CHECK(c.said("rcpt to:<E@"));
    CHECK(!c.said("RSET"));
    CHECK(c.octets.ends_with("\r\n.\r\nQUIT\r\n"));
    CHECK(c.transcript.find("S: 220 scripted.test ESMTP\\r\\n\n") != std::string::npos);
    CHECK(c.transcript.find("C: EHLO me.test\\r\\n\n") != std::string::npos);
}

TEST_CASE("ScriptedServer: a reply in place of any other") {
    const Reply no{550, "5.7.1", "No\nnever"};
    for (const auto& row : std::vector<std::pair<std::string, std::string>>{
             {"", ""},
             {"EHLO", "S: 220\nC: EHLO me"},
             {"LHLO", "S: 220\nC: lhlo me"},
             {"HELO", "S: 220\nC: HELO me"},
             {"MAIL", "S: 220\nC: MAIL FROM:<>"},
             {"RCPT", "S: 220\nC: RCPT TO:<c@d>"},
             {"DATA", "S: 220\nC: DATA"},
             {".", "S: 220\nC: DATA\nS: 354\nC: ."},
             {"BDAT", "S: 220\nC: BDAT 3\nc: abc"},
             {"BDAT 2 LAST", "S: 220\nC: BDAT 3\nc: abc\nS: 250\nC: BDAT 2 LAST\nc: de"},
             {"RSET", "S: 220\nC: RSET"},
             {"NOOP", "S: 220\nC: NOOP"},
             {"QUIT", "S: 220\nC: QUIT"},
             {"AUTH", "S: 220\nC: AUTH PLAIN"},
         }) {
        const auto &command = row.first, &script = row.second;  // clang 14 captures no structured binding
        CAPTURE(command);
        ScriptedServer server;
        server.reply_to(command, no);
        Wire wire(server.address());
        wire.play(script + "\nS: 550-5.7.1 No\nS: 550 5.7.1 never");
    }
}

TEST_CASE("ScriptedServer: what it says by itself") {
    ScriptedServer server;
    Wire wire(server.address());
    wire.play(R"(
        S: 220 scripted.test ESMTP
        C: EHLO me
        S: 250-scripted.test
        S: 250-PIPELINING
        S: 250-SIZE 10485760
        S: 250-8BITMIME
        S: 250 ENHANCEDSTATUSCODES
        C: HELO me
        S: 250 scripted.test
        C: NOOP
        S: 250
        C: RSET
        S: 250
        C: VRFY me
        S: 252
        C: STARTTLS
        S: 500 5.5.1
        C: QUIT
        S: 221 2.0.0
        S: EOF
    )");
}

TEST_CASE("ScriptedServer: the end of a text is the same by DATA and by BDAT, unless that is told apart") {
    ScriptedServer server;
    server.reply_to(".", {552, "5.2.2", "Full"});
    Wire wire(server.address());
    wire.play("S: 220\nC: DATA\nS: 354\nC: .\nS: 552\nC: BDAT 1\nc: x\nS: 250\nC: BDAT 1 LAST\nc: x\nS: 552");
    server.reply_to("BDAT", {554, "5.0.0", "No chunks"});
    wire.play("C: BDAT 1\nc: x\nS: 554\nC: BDAT 1 LAST\nc: x\nS: 554\nC: LHLO me\nS: 250\nC: RCPT TO:<a@b>\nS: 250");
    wire.play("C: BDAT 1 LAST\nc: x\nS: 554\nC: RCPT TO:<a@b>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 552\nC: NOOP\nS: 250");
}

TEST_CASE("ScriptedServer: octets as they are, nothing, and later") {
    ScriptedServer server;
    server.on("NOOP", Act::raw(std::string("250 half a\0 reply\xff", 18)));
    server.on("RSET", Act::nothing());
    server.on("VRFY", Act(Reply{252, "", "at last"}).after(150ms));
    server.on("HELP", Act::raw("").then(Act::raw("214 ")).then(Act::wait(1ms)).then(Act::raw("fine\r\n")));
    Wire wire(server.address());
    wire.play("S: 220\nC: NOOP");
    CHECK(wire.receive() == std::string("250 half a\0 reply\xff", 18));
    wire.play("C: RSET");
    wire.expect_silence(100ms);
    const auto began = Clock::now();
    wire.play("C: VRFY me\nS: 252 at last");
    CHECK(Clock::now() - began >= 150ms);
    wire.play("C: HELP\nS: 214 fine");
}

TEST_CASE("ScriptedServer: it closes, with what was said before, and nothing is reset") {
    for (const std::string command : {"", "MAIL", "DATA", "."}) {
        CAPTURE(command);
        ScriptedServer server;
        server.on(command, Act(Reply{421, "4.3.2", "Bye"}).then(Act::close()));
        Wire wire(server.address());
        // Unread input behind the command would make a plain close() a reset.
        wire.send("MAIL FROM:<>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nNOOP\r\nNOOP\r\n");
        while (!wire.receive().empty()) {
        }
        CHECK(wire.heard().ends_with("421 4.3.2 Bye\r\n"));
        CHECK(wire.transcript().ends_with("S: EOF\n"));
        wire.close();
        CHECK(server.wait_for(1).front().end == End::script);
    }
}

TEST_CASE("ScriptedServer: it resets the connection") {
    for (const std::string command : {"", "RCPT", "QUIT"}) {
        CAPTURE(command);
        ScriptedServer server;
        server.on(command, Act::reset());
        Wire wire(server.address());
        if (!command.empty()) wire.play("S: 220");
        if (!command.empty()) wire.say(command);
        CHECK(wire.receive().empty());
        CHECK(wire.transcript().find("reset") != std::string::npos);
        CHECK(server.wait_for(1).front().end == (command == "QUIT" ? End::quit : End::script));
    }
}

TEST_CASE("ScriptedServer: it stalls until the client leaves, and hears what is said meanwhile") {
    ScriptedServer server;
    server.on("MAIL", Act::stall());
    Wire wire(server.address());
    wire.play("S: 220\nC: MAIL FROM:<>\nC: RSET");
    wire.expect_silence(100ms);
    CHECK(server.conversations().front().end == End::open);
    wire.close();
    const auto c = server.wait_for(1).front();
    CHECK(c.end == End::client);
    CHECK(c.commands == Lines{"MAIL FROM:<>"});
    CHECK(c.octets == "MAIL FROM:<>\r\nRSET\r\n");
}

TEST_CASE("ScriptedServer: lines without an end, a line without an end, until the client has enough") {
    for (const bool lines : {true, false}) {
        CAPTURE(lines);
        ScriptedServer server;
        server.on("", lines ? Act::endless_lines("220-more\r\n") : Act::endless_line("220 "));
        Wire wire(server.address());
        std::size_t size = 0;
        for (std::string octets; size < 3'000'000; size += octets.size()) {
            octets = wire.receive();
            REQUIRE(!octets.empty());
        }
        CHECK(wire.heard().starts_with(lines ? "220-more\r\n220-more\r\n" : "220 xxx"));
        CHECK((wire.heard().find('\n') == std::string::npos) == !lines);
        wire.close();
        CHECK(server.wait_for(1).front().end == End::client);
    }
}

TEST_CASE("ScriptedServer: a banner of 10 MB is a reply in all but its size") {
    ScriptedServer server;
    server.on("", Act::long_reply(220, 10'000'000));
    Wire wire(server.address());
    std::size_t lines = 0;
    for (bool last = false; !last; ++lines) last = wire.line().starts_with("220 ");
    CHECK(wire.heard().size() >= 10'000'000);
    CHECK(wire.heard().size() < 10'001'000);
    CHECK(lines > 10'000);
    CHECK(wire.ask("NOOP") == 250);
    CHECK_THROWS_AS(Act::long_reply(99, 1000), std::invalid_argument);
    CHECK_THROWS_AS(Act::endless_lines(""), std::invalid_argument);
    CHECK_THROWS_AS(Act(Reply{100, "", ""}), std::invalid_argument);
}

TEST_CASE("ScriptedServer: a reply's octets go out in the pieces that were asked for") {
    const Folder folder;
    ScriptedServer::Options options;
    options.listen = "unix:" + folder / "socket";
    ScriptedServer server(options);
    const Reply greeting{220, "", "hello there"};
    const std::string whole = "220 hello there\r\n";
    for (const auto& pace : {Pace::octets, Pace::fixed(3), Pace::fixed(1000), Pace::groups, Pace::random(7, 5)}) {
        CAPTURE(pace.size);
        server.on("", Act(greeting).paced(pace));
        Wire wire(server.address());
        std::vector<std::size_t> sizes;
        std::string all;
        while (all.size() < whole.size()) {
            const auto piece = queued(wire);
            REQUIRE(!piece.empty());
            sizes.push_back(piece.size());
            all += piece;
        }
        CHECK(all == whole);
        if (pace == Pace::octets) CHECK(sizes.size() == whole.size());
        if (pace == Pace::fixed(3)) CHECK(sizes == std::vector<std::size_t>{3, 3, 3, 3, 3, 2});
        if (pace == Pace::fixed(1000) || pace == Pace::groups) CHECK(sizes.size() == 1);
        if (pace.cut == Pace::Cut::random) CHECK(std::ranges::max(sizes) <= 5);
        if (pace.cut == Pace::Cut::random) CHECK(sizes.size() > 3);
    }
}

TEST_CASE("ScriptedServer: which act's turn it is") {
    ScriptedServer server;
    server.reply_to("NOOP", {250, "", "each"});
    server.on({.command = "NOOP", .nth = 3}, Act(Reply{250, "", "third"}));
    server.on({.command = "NOOP", .connection = 2}, Act(Reply{250, "", "on the second"}));
    server.on({.command = "NOOP", .nth = 1, .connection = 2}, Act(Reply{250, "", "first on the second"}));
    server.reply_to("NOOP long", {250, "", "longer"});
    server.reply_to("RSET", {250, "", "old"});
    server.reply_to("rset", {250, "", "new"});
    server.on({.command = "", .connection = 3}, Act(Reply{554, "", "Enough"}));
    Wire one(server.address());
    one.play(
        "S: 220\nC: NOOP\nS: 250 each\nC: noop\nS: 250 each\nC: NOOP long one\nS: 250 longer\nC: NOOP\nS: 250 each\nC: "
        "RSET\nS: 250 new");
    Wire two(server.address());
    two.play("S: 220\nC: NOOP\nS: 250 first on the second\nC: NOOP\nS: 250 on the second");
    Wire three(server.address());
    three.play("S: 554 Enough\nC: NOOP\nS: 250 each");
    server.reply_to("NOOP", {250, "", "from now on"});
    three.play("C: NOOP\nS: 250 from now on");
    for (const char* wrong : {" NOOP", "NOOP\r\n", ".x", "..", "RSET\nNOOP"})
        CHECK_THROWS_AS(server.reply_to(wrong, {250, "", ""}), std::invalid_argument);
}

TEST_CASE("ScriptedServer: the n-th time is counted over all connections, where none is named") {
    ScriptedServer server;
    server.on({.command = "MAIL", .nth = 2}, Act(Reply{450, "4.3.0", "Only this one"}));
    for (const char* reply : {"250", "450", "250"}) {
        Wire wire(server.address());
        wire.play(std::string("S: 220\nC: MAIL FROM:<>\nS: ") + reply);
    }
}

TEST_CASE("ScriptedServer: pipelined groups are answered one by one, in any segmentation") {
    for (const auto& pace : {Pace::at_once, Pace::groups, Pace::octets, Pace::pieces}) {
        ScriptedServer server;
        server.reply_to("RCPT TO:<bad@", {550, "5.1.1", "No"});
        Wire wire(server.address());
        wire.play(R"(
            S: 220
            C: EHLO me
            S: 250
            C: MAIL FROM:<a@b>
            C: RCPT TO:<bad@d>
            C: RCPT TO:<c@d>
            C: DATA
            S: 250
            S: 550 5.1.1 No
            S: 250
            S: 354
            C: a
            C: ..b
            C: .c
            C:
            C: .
            S: 250 2.0.0 Taken
            C: MAIL FROM:<x@y>
            C: BDAT 4
            c: a\r\n.
            C: BDAT 5 LAST
            c: \r\nQUI
            S: 250
            S: 250 2.0.0 Chunk
            S: 250 2.0.0 Taken
            C: DATA
            S: 354
            C: .
            S: 250 2.0.0 Taken
            C: QUIT
            S: 221
            S: EOF
        )",
                  pace);
        wire.close();
        const auto c = server.finish().front();
        CHECK(c.end == End::quit);
        REQUIRE(c.texts.size() == 3);
        CHECK(c.texts[0].wire == "a\r\n..b\r\n.c\r\n\r\n");
        CHECK(c.texts[0].text() == "a\r\n.b\r\nc\r\n\r\n");
        CHECK(!c.texts[0].chunks);
        CHECK(c.texts[1].wire == "a\r\n.\r\nQUI");
        CHECK(c.texts[1].text() == c.texts[1].wire);
        CHECK(c.texts[1].chunks);
        CHECK(c.texts[2].wire == "");
        for (const auto& t : c.texts) CHECK(t.complete);
        CHECK(c.commands == Lines{"EHLO me", "MAIL FROM:<a@b>", "RCPT TO:<bad@d>", "RCPT TO:<c@d>", "DATA", ".",
                                  "MAIL FROM:<x@y>", "BDAT 4", "BDAT 5 LAST", "DATA", ".", "QUIT"});
    }
}

TEST_CASE("ScriptedServer: only CRLF.CRLF ends a text") {
    for (const std::string text :
         {"\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "x.\r\n", "\r\n..\r\n", "\r\n.x\r\n", "\r\n. \r\n"}) {
        const auto shown = escaped(text);
        CAPTURE(shown);
        ScriptedServer server;
        Wire wire(server.address());
        wire.play("S: 220\nC: DATA\nS: 354");
        wire.send(text);
        wire.send("NOOP\r\n");
        wire.end();
        wire.expect_end();
        const auto c = server.finish().front();
        REQUIRE(c.texts.size() == 1);
        CHECK(c.texts[0].wire == text + "NOOP\r\n");
        CHECK(!c.texts[0].complete);
        CHECK(c.commands == Lines{"DATA"});
        CHECK(c.end == End::client);
    }
}

TEST_CASE("ScriptedServer: a text that was not sent to its end is known as that, with what came of it") {
    ScriptedServer server;
    Wire data(server.address());
    data.play("S: 220\nC: DATA\nS: 354\nC: .\nS: 250\nC: DATA\nS: 354\nc: half");
    data.close();
    const auto one = server.wait_for(1).front();
    REQUIRE(one.texts.size() == 2);
    CHECK(one.texts[0].complete);
    CHECK(!one.texts[1].complete);
    CHECK(one.texts[1].wire == "half");
    Wire chunk(server.address());
    chunk.play("S: 220\nC: BDAT 10 LAST\nc: half");
    chunk.close();
    const auto two = server.wait_for(2).back();
    REQUIRE(two.texts.size() == 1);
    CHECK(two.texts[0].wire == "half");
    CHECK(!two.texts[0].complete);
}

TEST_CASE("ScriptedServer: a text that was refused is no text") {
    ScriptedServer server;
    server.reply_to("DATA", {554, "5.0.0", "No"});
    Wire wire(server.address());
    wire.play("S: 220\nC: DATA\nS: 554\nC: NOOP\nS: 250\nC: .\nS: 500");
    CHECK(server.conversations().front().texts.empty());
    server.on("DATA", Act::raw("354 as it comes\r\n"));
    wire.play("C: DATA\nS: 354\nC: .\nS: 250");
    server.on("DATA", Act::raw("250-x\r\n354 in disorder\r\n"));
    wire.say("DATA");
    CHECK(wire.line() == "250-x");
    CHECK(wire.line() == "354 in disorder");
    wire.play("C: .\nS: 250");
    CHECK(server.conversations().front().texts.size() == 2);
}

TEST_CASE("ScriptedServer: by LMTP a text has a reply for each recipient that was accepted") {
    ScriptedServer server;
    server.reply_to("RCPT TO:<bad@", {550, "5.1.1", "No"});
    server.reply_to(". <full@d>", {452, "4.2.2", "Full"});
    const std::string recipients =
        "C: MAIL FROM:<a@b>\nC: RCPT TO:<one@d>\nC: RCPT TO:<bad@d>\nC: RCPT TO:<full@d>\nS: 250\nS: 250\nS: 550\nS: "
        "250\n";
    const std::string replies = "S: 250 2.0.0 Taken\nS: 452 4.2.2 Full\n";
    Wire wire(server.address());
    wire.play("S: 220\nC: LHLO me\nS: 250\n" + recipients + "C: DATA\nS: 354\nC: hello\nC: .\n" + replies + recipients +
              "C: BDAT 2\nc: ab\nS: 250 2.0.0 Chunk\nC: BDAT 0 LAST\n" + replies +
              // RFC 2033 4.2: nobody, so no text, or a chunk that is for nobody.
              "C: MAIL FROM:<>\nS: 250\nC: DATA\nS: 503\nC: BDAT 1 LAST\nc: x\nS: 503\nC: NOOP\nS: 250");
    server.on({.command = ".", .nth = 1}, Act(Reply{250, "", "first"}).then(Act::close()));
    wire.play(recipients + "C: DATA\nS: 354\nC: .\nS: 250 first\nS: EOF");
    // The next one says EHLO, and hears one reply.
    Wire other(server.address());
    other.play("S: 220\nC: LHLO me\nS: 250\nC: EHLO me\nS: 250\n" + recipients +
               "C: DATA\nS: 354\nC: .\nS: 250\nC: NOOP\nS: 250 2.0.0 Done");
}

TEST_CASE("ScriptedServer: how a connection ended") {
    ScriptedServer::Options options;
    options.patience = 300ms;
    ScriptedServer server(options);
    Wire silent(server.address());
    silent.play("S: 220");
    CHECK(server.wait_for(1)[0].end == End::silence);
    silent.expect_end();

    server.on("NOOP", Act::endless_lines(std::string(100'000, 'x')));
    Wire deaf(server.address());
    deaf.play("S: 220\nC: NOOP");
    CHECK(server.wait_for(2)[1].end == End::silence);

    Wire endless(server.address());
    endless.play("S: 220");
    endless.send(std::string(200'000, 'x'));
    CHECK(server.wait_for(3)[2].end == End::excess);

    Wire gone(server.address());
    gone.play("S: 220\nC: EHLO me\nS: 250");
    gone.vanish();
    CHECK(server.wait_for(4)[3].end == End::client);

    Wire open(server.address());
    open.play("S: 220");
    CHECK(server.conversations()[4].end == End::open);
}

TEST_CASE("ScriptedServer: what is too much is heard and not kept") {
    ScriptedServer::Options options;
    options.keep = 1000;
    ScriptedServer server(options);
    Wire wire(server.address());
    wire.play("S: 220\nC: DATA\nS: 354");
    const std::string much(500'000, 'x');
    wire.send(much + "\r\n.\r\n");
    wire.play("S: 250\nC: NOOP");
    wire.end();
    const auto c = server.wait_for(1).front();
    CHECK(c.octets.size() == 1000);
    REQUIRE(c.texts.size() == 1);
    CHECK(c.texts[0].wire.size() <= 1000);
    CHECK(c.texts[0].wire.size() >= 990);
    CHECK(c.texts[0].complete);
}

TEST_CASE("ScriptedServer: who waits in vain is told so, in time, with the transcript") {
    ScriptedServer server;
    Wire wire(server.address());
    wire.play("S: 220\nC: EHLO somebody\nS: 250");
    auto what = failure([&] { server.wait_for(1, 100ms); });
    CHECK(what.find("0 of 1 connections") != std::string::npos);
    CHECK(what.find("EHLO somebody") != std::string::npos);
    what = failure([&] { server.finish(100ms); });
    CHECK(what.find("1 connections were open") != std::string::npos);
    CHECK_THROWS_AS(Wire(server.address()), Failure);  // nobody can come any more
    wire.play("C: QUIT\nS: 221");
    CHECK(server.finish().size() == 1);
    CHECK(server.finish().front().end == End::quit);
}

TEST_CASE("ScriptedServer: it ends in time whatever its clients do") {
    std::vector<Wire> open;
    const auto began = Clock::now();
    {
        ScriptedServer server;
        server.on("NOOP", Act::stall());
        server.on("RSET", Act::endless_lines(std::string(10'000, 'x')));
        server.on("HELP", Act::wait(std::chrono::hours(1)));
        server.on("EXPN", Act::raw(std::string(10'000'000, 'x')).paced(Pace::octets));
        for (const std::string state :
             {"", "S: 220", "S: 220\nC: NOOP", "S: 220\nC: RSET", "S: 220\nC: HELP", "S: 220\nC: EXPN",
              "S: 220\nc: half a comm", "S: 220\nC: DATA\nS: 354\nC: x", "S: 220\nC: BDAT 9\nc: x"}) {
            open.emplace_back(server.address());
            open.back().play(state);
        }
    }
    CHECK(Clock::now() - began < patience);
    for (int i = 0; i < 20; ++i) ScriptedServer nobody;
}

TEST_CASE("ScriptedServer: many connections at once keep apart what they say") {
    ScriptedServer server;
    {
        std::vector<Background> clients;
        for (int i = 0; i < 16; ++i)
            clients.emplace_back([&server, i] {
                Wire wire(server.address());
                const auto name = "c" + std::to_string(i);
                wire.play(envelope + "C: DATA\nS: 354\nC: " + name + "\nC: .\nS: 250\nC: RCPT TO:<" + name +
                          "@d>\nS: 250\nC: QUIT\nS: 221");
            });
        for (auto& c : clients) c.join();
    }
    const auto all = server.finish();
    REQUIRE(all.size() == 16);
    for (std::size_t i = 0; i < all.size(); ++i) {
        CHECK(all[i].number == i + 1);
        REQUIRE(all[i].texts.size() == 1);
        const auto name = all[i].texts[0].wire.substr(0, all[i].texts[0].wire.size() - 2);
        CHECK(all[i].said("RCPT TO:<" + name + "@d>"));
    }
}
