// client_body -- where a body is while it is received: in memory, in a file, or nowhere because there is no room.
#include "dialogue.hpp"

using namespace test;

namespace {

std::string text(std::size_t octets) {
    std::string out;
    for (int line = 0; out.size() + 40 < octets; ++line) out += "line " + std::to_string(line) + "\r\n";
    return out + std::string(octets - out.size() - 2, 'z') + "\r\n";
}

void data(Talk& talk, const std::string& body, const char* answer = "250") {
    talk.play("C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354");
    talk.wire.send(body + ".\r\n");
    talk.wire.expect(answer);
}

}  // namespace

TEST_CASE("up to spool_above a message is in memory, from there on in a file") {
    for (const std::size_t border : {100, 20'000, 100'000}) {
        CAPTURE(border);
        Setup setup;
        setup.options.spool_above = border;
        Talk talk(setup);
        talk.play("S: 220\nC: EHLO me\nS: 250");
        const std::vector<std::size_t> sizes{border - 1, border, border + 1, 3 * border, 50};
        for (const auto size : sizes) data(talk, text(size));
        const auto& mails = talk.end();
        REQUIRE(mails.size() == sizes.size());
        for (std::size_t i = 0; i < sizes.size(); ++i) {
            CHECK((mails[i].text == text(sizes[i])));
            CHECK(mails[i].spooled == (sizes[i] > border));
        }
    }
}

TEST_CASE("a message in a file is the same when it is normalized or comes by octets") {
    Setup setup;
    setup.options.spool_above = 0;
    setup.options.bare_line_ends = BareLineEnds::normalize;
    Talk talk(setup);
    talk.play(std::string(opening) + "C: DATA\nS: 354");
    std::string sent, meant;
    for (int i = 0; i < 50'000; ++i) {
        sent += "\n";
        meant += "\r\n";
    }
    talk.wire.send(sent + "\r\n.\r\n");
    talk.play("S: 250");
    const auto& mails = talk.end();
    REQUIRE(mails.size() == 1);
    CHECK(mails[0].spooled);
    CHECK((mails[0].text == meant + "\r\n"));
}

TEST_CASE("nothing stays in the spool folder, however a message ends") {
    Folder folder;
    Setup setup;
    setup.options.spool_dir = folder.path;
    setup.options.spool_above = 10;
    setup.options.max_message_size = 1000;
    {
        Talk talk(setup);
        talk.play("S: 220\nC: EHLO me\nS: 250");
        data(talk, text(500));
        data(talk, text(2000), "552");
        data(talk, text(100) + "\n\r\n", "554");
        talk.play("C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: BDAT 500");
        talk.wire.send(text(500));
        talk.play("S: 250\nC: RSET\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354");
        talk.wire.send(text(500));
        CHECK(talk.end().size() == 1);
    }
    CHECK(folder.names().empty());
}

TEST_CASE("a folder that can't be written costs the sender a 452, and only where it is needed") {
    Setup setup;
    setup.options.spool_dir = "/nonexistent/folder";
    setup.options.spool_above = 1000;
    setup.listeners = [](Server&) {};
    Talk talk(setup);
    talk.play("S: 220\nC: EHLO me\nS: 250");
    data(talk, text(1000));
    data(talk, text(200'000), "452 4.3.1");
    talk.play("C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: BDAT 5000");
    talk.wire.send(text(5000));
    talk.play("S: 452 4.3.1\nC: RSET\nS: 250");
    data(talk, text(500));
    talk.play("C: QUIT\nS: 221");
    CHECK(talk.end().size() == 2);
    CHECK(!talk.troubles().empty());
    CHECK(talk.wire.heard().find("nonexistent") == std::string::npos);
}

TEST_CASE("without memory DATA is 452 before anything is sent, and a chunk is read away") {
    Setup setup;
    setup.options.memory = 0;
    const auto played = dialogue(std::string(opening) + R"(
        C: DATA
        S: 452 4.3.1
        C: NOOP
        S: 250
        C: BDAT 6 LAST
        c: QUIT\r\n
        S: 452 4.3.1
        C: NOOP
        S: 250
        C: QUIT
        S: 221
    )",
                                 setup);
    CHECK(played.mails.empty());
}

TEST_CASE("when the memory of all sessions is used up, bodies are spooled whatever their size") {
    Setup setup;
    setup.options.memory = 20'000;
    Talk talk(setup);
    talk.play("S: 220\nC: EHLO me\nS: 250");
    data(talk, text(10'000));
    data(talk, text(100'000));
    data(talk, text(1'000'000));
    data(talk, text(100));
    const auto& mails = talk.end();
    REQUIRE(mails.size() == 4);
    CHECK(!mails[0].spooled);
    CHECK(mails[1].spooled);
    CHECK(mails[2].spooled);
    CHECK((mails[2].text == text(1'000'000)));
    CHECK(mails[3].text == text(100));
}

TEST_CASE("memory is shared by the sessions of a server, and given back") {
    auto o = brief();
    o.memory = 20'000;  // for one body at a time
    Server server({"127.0.0.1:0"}, o);
    auto open = [&] {
        auto wire = dial(server);
        auto connection = std::make_shared<Connection>(server.accept());
        return std::pair<Wire, Background>(std::move(wire), Background([connection] {
                                               Server::Client client(std::move(*connection));
                                               while (client.process()) client.accept();
                                           }));
    };
    auto [first, one] = open();
    auto [second, two] = open();
    play(first, std::string(opening) + "C: DATA\nS: 354\nC: I hold all there is");
    play(second, std::string(opening) + "C: DATA\nS: 452 4.3.1\nC: NOOP\nS: 250");
    play(first, "C: .\nS: 250\nC: QUIT\nS: 221\nS: EOF");
    first.close();
    one.join();
    play(second, "C: DATA\nS: 354\nC: now me\nC: .\nS: 250\nC: QUIT\nS: 221\nS: EOF");
    two.join();
}

TEST_CASE("a message of a copy outlives its transaction and its session") {
    for (const std::size_t border : {0, 1 << 20}) {
        std::vector<Message> kept;
        {
            Setup setup;
            setup.options.spool_above = border;
            setup.handler = [&](Server::Client& c) {
                kept.push_back(c.MSG);
                c.accept();
            };
            Talk talk(setup);
            talk.play("S: 220\nC: EHLO me\nS: 250");
            data(talk, text(5000));
            data(talk, text(70));
            talk.end();
        }
        REQUIRE(kept.size() == 2);
        CHECK((kept[0].view() == text(5000)));
        CHECK((kept[1].view() == text(70)));
        CHECK(kept[0].id() != kept[1].id());
        CHECK(kept[0].sender_present());
        CHECK_THROWS_AS(kept[0].save("/tmp/never-written"), std::logic_error);
        CHECK(access("/tmp/never-written", F_OK) != 0);
    }
}
