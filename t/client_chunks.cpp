// client_chunks -- BDAT: its octets are counted, never looked at, and never commands (RFC 3030).
#include "dialogue.hpp"

using namespace test;

namespace {

Played after_opening(const std::string& script, Setup setup = {}) {
    return dialogue(opening + script, std::move(setup));
}

}  // namespace

TEST_CASE("chunks become one message, and each has its reply") {
    const auto played = after_opening(R"(
        C: BDAT 10
        c: Subject: x
        S: 250 2.0.0
        C: BDAT 4
        c: \r\n\r\n
        S: 250
        C: bdat 0
        S: 250
        C: BDAT 6 last
        c: .\r\nbb\n
        S: 554 5.6.0
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<c@d>
        S: 250
        C: BDAT 10
        c: Subject: x
        S: 250
        C: BDAT 9 LAST
        c: \r\n\r\n.\r\n..
        S: 250
        C: QUIT
        S: 221
    )");
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].text == "Subject: x\r\n\r\n.\r\n..");
}

TEST_CASE("LAST may come with no octets, and alone") {
    for (const std::string script :
         {"C: BDAT 4\nc: a\\r\\nb\nS: 250\nC: BDAT 0 LAST\nS: 250", "C: BDAT 4 LAST\nc: a\\r\\nb\nS: 250"}) {
        const auto played = after_opening(script);
        REQUIRE(played.mails.size() == 1);
        CHECK(played.mails[0].text == "a\r\nb");
    }
    const auto played = after_opening("C: BDAT 0 LAST\nS: 250\nC: QUIT\nS: 221");
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].text.empty());
}

TEST_CASE("a whole transaction of chunks may be sent at once") {
    const auto played = dialogue(R"(
        S: 220
        C: EHLO me
        S: 250
        C: MAIL FROM:<a@b>
        C: RCPT TO:<c@d>
        C: BDAT 3
        c: abc
        C: BDAT 3 LAST
        c: def
        C: MAIL FROM:<e@f>
        C: RCPT TO:<g@h>
        C: BDAT 6 LAST
        c: QUIT\r\n
        C: QUIT
        S: 250 2.1.0
        S: 250 2.1.5
        S: 250
        S: 250
        S: 250 2.1.0
        S: 250 2.1.5
        S: 250
        S: 221
        S: EOF
    )");
    REQUIRE(played.mails.size() == 2);
    CHECK(played.mails[0].text == "abcdef");
    CHECK(played.mails[1].text == "QUIT\r\n");
}

TEST_CASE("octets of a refused chunk are never commands") {
    for (const std::string before : {"", "C: EHLO me\nS: 250\n", "C: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\n"}) {
        CAPTURE(before);
        const auto played = dialogue(std::string("S: 220\n") + before + R"(
            C: BDAT 6 LAST
            c: QUIT\r\n
            C: NOOP
            S: 503
            S: 250
            C: BDAT 18
            c: MAIL FROM:<x@y>\r\n\n
            C: NOOP
            S: 503
            S: 250
            C: QUIT
            S: 221
        )");
        CHECK(played.mails.empty());
    }
}

TEST_CASE("a chunk before EHLO is refused with its octets") {
    dialogue("S: 220\nC: BDAT 6\nc: QUIT\\r\\n\nC: EHLO me\nS: 5\nS: 250\nC: QUIT\nS: 221\nS: EOF");
}

namespace {

// What may be done in the name of a chunk that is refused: nothing. Whether the session goes on is another question.
void run_nothing(const std::string& command, const Setup& setup = {}, const Test::Pace& cut = Test::Pace::groups) {
    Talk talk(setup);
    talk.play(opening);
    const char* const chunk = "RSET\r\nMAIL FROM:<smuggled@x>\r\nRCPT TO:<s@x>\r\nBDAT 1 LAST\r\nxxxxxx";  // 64 octets
    talk.wire.send(command + "\r\n" + chunk, cut);
    talk.wire.expect("5");
    talk.wire.end();
    CHECK(talk.wait().empty());
}

}  // namespace

TEST_CASE("a word too many or a wrong one behind a size does not make commands of its octets") {
    for (const std::string size : {"64 LATS", "64 LAST LAST", "64  LAST", "64 64 LAST", "64 LAST=1"}) {
        CAPTURE(size);
        run_nothing("BDAT " + size);
    }
}

TEST_CASE("after a size that is none it can't be known where the octets end, so nothing is run any more") {
    for (const std::string size : {"-1", "+64", "64x", "x64", "0x40", "6,4", "6.4", "LAST", "LAST 64"}) {
        CAPTURE(size);
        run_nothing("BDAT " + size);
    }
}

TEST_CASE("nothing is run behind a BDAT with a control character, which others may have understood") {
    for (const char control : {'\x01', '\v', '\x7f', '\0', '\n'}) {
        CAPTURE(int(control));
        run_nothing("BDAT 64 LAST" + std::string(1, control));
    }
}

TEST_CASE("nothing is run behind a BDAT whose line is too long, however it is cut") {
    for (const std::size_t limit : {512, 2048}) {
        Setup setup;
        setup.options.max_command_line = limit;
        for (const std::size_t length : {limit + 1, limit + 2, 2 * limit, std::size_t(70'000)})
            for (const std::string front : {"BDAT 64 LAST", "bdat 64", "BDAT\t64", "BDAT "})
                for (const char filling : {' ', 'x', '\r'})
                    for (const auto& cut : {Test::Pace::groups, Test::Pace::pieces, Test::Pace::octets}) {
                        if (length > 4096 && cut.cut != Test::Pace::Cut::none) continue;
                        CAPTURE(limit);
                        CAPTURE(length);
                        CAPTURE(front);
                        CAPTURE(int(filling));
                        run_nothing(front + std::string(length - 2 - front.size(), filling), setup, cut);
                    }
    }
}

TEST_CASE("a line that is too long and only looks like BDAT is one error, and the session goes on") {
    for (const std::string front : {"BDATA 64", "BDA", " BDAT 64", "NOOP BDAT 64"})
        for (const std::size_t length : {3000, 70'000}) {
            CAPTURE(front);
            Talk talk;
            talk.play(opening);
            talk.wire.send(front + std::string(length, ' ') + "BDAT 64\r\nRSET\r\n");
            talk.wire.expect("500 5.5.2");
            talk.wire.expect("250");
            CHECK(talk.end().empty());
        }
}

TEST_CASE("BDAT without anything is 501") {
    Talk talk;
    talk.play(std::string(opening) + "C: BDAT\nS: 501 5.5.4");
    CHECK(talk.end().empty());
}

TEST_CASE("a chunk that was not offered is refused with its octets") {
    Setup setup;
    setup.options.offer.chunking = false;
    const auto played =
        after_opening("C: BDAT 6 LAST\nc: QUIT\\r\\n\nS: 50\nC: NOOP\nS: 250\nC: QUIT\nS: 221\nS: EOF", setup);
    CHECK(played.mails.empty());
}

TEST_CASE("a size nobody would take is refused before its octets come") {
    for (const std::string size : {"18446744073709551615", "18446744073709551616", "99999999999999999999999999",
                                   "1099511627776", "9223372036854775808", "4294967296"}) {
        CAPTURE(size);
        for (const std::string last : {"", " LAST"}) {
            Talk talk;
            talk.play(opening);
            talk.wire.send(std::string("BDAT ") + size + last + "\r\nQUIT\r\nNOOP\r\n");
            talk.wire.expect("552 5.3.4");
            talk.wire.expect_end();
            CHECK(talk.end().empty());
        }
    }
}

TEST_CASE("leading zeros do not make a size larger") {
    const auto played = after_opening("C: BDAT 00000000000000000000000003 LAST\nc: abc\nS: 250\nC: QUIT\nS: 221");
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].text == "abc");
}

TEST_CASE("chunks that add up to more than the limit are refused and read away") {
    Setup setup;
    setup.options.max_message_size = 10;
    const auto played = after_opening(R"(
        C: BDAT 6
        c: 123456
        S: 250
        C: BDAT 5
        c: RSET\n
        S: 552 5.3.4
        C: NOOP
        S: 250
    )",
                                      setup);
    CHECK(played.mails.empty());
}

TEST_CASE("once a chunk is refused the message is, until RSET") {
    Setup setup;
    setup.options.max_message_size = 10;
    const auto played = after_opening(R"(
        C: BDAT 11
        c: QUIT\r\nQUIT\n
        S: 552
        C: BDAT 1
        c: x
        S: 5
        C: BDAT 1 LAST
        c: x
        S: 5
        C: RSET
        S: 250
        C: MAIL FROM:<e@f>
        S: 250
        C: RCPT TO:<g@h>
        S: 250
        C: BDAT 10 LAST
        c: 12345678\r\n
        S: 250
        C: QUIT
        S: 221
    )",
                                      setup);
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].text == "12345678\r\n");
}

TEST_CASE("between chunks there is room for BDAT and RSET, and for what touches no mail") {
    const auto played = after_opening(R"(
        C: BDAT 3
        c: abc
        S: 250
        C: DATA
        S: 503 5.5.1
        C: MAIL FROM:<x@y>
        S: 503 5.5.1
        C: RCPT TO:<x@y>
        S: 503 5.5.1
        C: NOOP
        S: 250
        C: BDAT 3 LAST
        c: def
        S: 250
        C: QUIT
        S: 221
    )");
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].text == "abcdef");
    CHECK(played.mails[0].to.size() == 1);
}

TEST_CASE("RSET and EHLO between chunks throw the first ones away") {
    for (const std::string verb : {"RSET", "EHLO me", "HELO me"}) {
        CAPTURE(verb);
        const auto played = after_opening("C: BDAT 3\nc: abc\nS: 250\nC: " + verb + R"(
            S: 250
            C: DATA
            S: 503
            C: EHLO me
            S: 250
            C: MAIL FROM:<e@f>
            S: 250
            C: RCPT TO:<g@h>
            S: 250
            C: BDAT 3 LAST
            c: ghi
            S: 250
            C: QUIT
            S: 221
        )");
        REQUIRE(played.mails.size() == 1);
        CHECK(played.mails[0].text == "ghi");
    }
}

TEST_CASE("a connection lost inside BDAT n LAST gives no message") {
    for (const int sent : {0, 1, 99, 100}) {
        CAPTURE(sent);
        Talk talk;
        talk.play(opening);
        talk.wire.send("BDAT 100 LAST\r\n" + std::string(std::size_t(sent), 'x'));
        talk.wire.end();
        CHECK(talk.wait().size() == (sent == 100 ? 1 : 0));
    }
    for (const std::string last :
         {"BDAT 10", "BDAT 10 LAST", "BDAT 10\r\n0123456789BDAT 0 LAS", "BDAT 10\r\n0123456789"}) {
        CAPTURE(last);
        Talk talk;
        talk.play(opening);
        talk.wire.say(last);
        CHECK(talk.end().empty());
    }
}

TEST_CASE("BINARYMIME comes by BDAT only, octet for octet") {
    Setup setup;
    setup.options.offer.binary_mime = true;
    std::string all;
    for (int i = 0; i < 256; ++i) all += char(i);
    all += "\n.\n\r\r.\r\n.\r\n";
    Talk talk(setup);
    talk.play(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b> BODY=BINARYMIME\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: "
        "503");
    talk.wire.send("BDAT " + std::to_string(all.size()) + " LAST\r\n" + all);
    talk.play("S: 250\nC: QUIT\nS: 221");
    const auto& mails = talk.end();
    REQUIRE(mails.size() == 1);
    CHECK(mails[0].text == all);
}

TEST_CASE("a text in chunks obeys the rule of line ends, across chunks too") {
    auto send = [](BareLineEnds policy, const std::string& script) {
        Setup setup;
        setup.options.bare_line_ends = policy;
        return after_opening(script, setup).mails;
    };
    const std::string split = "C: BDAT 2\nc: a\\r\nS: 250\nC: BDAT 2 LAST\nc: \\nb\nS: 250";
    CHECK(send(BareLineEnds::reject, split)[0].text == "a\r\nb");
    CHECK(send(BareLineEnds::normalize, split)[0].text == "a\r\nb");
    const std::string bare = "C: BDAT 3\nc: a\\nb\nS: 250\nC: BDAT 3 LAST\nc: \\rc\\r\nS: 250";
    CHECK(send(BareLineEnds::normalize, bare)[0].text == "a\r\nb\r\nc\r\n");
    CHECK(send(BareLineEnds::accept, bare)[0].text == "a\nb\rc\r");
    for (const std::string octets : {"\\n", "x\\ny", "x\\ry", "x\\r", "\\r\\r\\n"}) {
        CAPTURE(octets);
        const auto length = std::to_string(unescaped(octets).size());
        CHECK(
            send(BareLineEnds::reject, "C: BDAT " + length + " LAST\nc: " + octets + "\nS: 554 5.6.0\nC: NOOP\nS: 250")
                .empty());
    }
}

TEST_CASE("chunks of every size around the buffers arrive whole") {
    Setup setup;
    setup.options.spool_above = 200'000;
    Talk talk(setup);
    talk.play("S: 220\nC: EHLO me\nS: 250");
    std::mt19937 random(3030);
    std::vector<std::string> sent;
    for (const std::size_t size :
         {1023, 1024, 1025, 4095, 4097, 16383, 16384, 16385, 65535, 65537, 199'999, 200'000, 200'001, 300'000}) {
        std::string text;
        while (text.size() < size) text += char('a' + random() % 26);
        talk.play("C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250");
        const std::size_t first = random() % size;
        talk.wire.send("BDAT " + std::to_string(first) + "\r\n" + text.substr(0, first) + "BDAT " +
                       std::to_string(size - first) + " LAST\r\n" + text.substr(first));
        talk.play("S: 250\nS: 250");
        sent.push_back(text);
    }
    const auto& mails = talk.end();
    REQUIRE(mails.size() == sent.size());
    for (std::size_t i = 0; i < sent.size(); ++i) {
        CHECK((mails[i].text == sent[i]));
        CHECK(mails[i].spooled == (sent[i].size() > 200'000));
    }
}
