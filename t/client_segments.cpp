// client_segments -- however the client's octets are cut, the replies are the same; a group of commands costs one send.
#include "dialogue.hpp"

using namespace test;

namespace {

const char* const everything = R"(
    C: NOOP
    C: EHLO me
    C: MAIL FROM:<a@b>
    C: RCPT TO:<c@d>
    C: RCPT TO:<bad
    C: DATA
    C: Subject: dots
    C: 
    C: ..
    C: ...
    C: ..x
    C: .
    C: RSET
    C: FOO
    C: MAIL FROM:<a@b> BODY=8BITMIME
    C: RCPT TO:<c@d>
    C: BDAT 5
    c: ab\r\n.
    C: BDAT 5 LAST
    c: \r\n.\r\n
    C: HELP
    C: MAIL FROM:<a@b>
    C: RCPT TO:<c@d>
    C: DATA
    C: lone \r CR and \n LF
    C: .
    C: MAIL FROM:<bad>
    C: NOOP
    C: MAIL FROM:<>
    C: RCPT TO:<postmaster>
    C: DATA
    C: .
    C: QUIT
    S: 220
    S: 250
    S: 250
    S: 250 2.1.0
    S: 250 2.1.5
    S: 501
    S: 354
    S: 250
    S: 250
    S: 500
    S: 250
    S: 250
    S: 250
    S: 250
    S: 214
    S: 250
    S: 250
    S: 354
    S: 554 5.6.0
    S: 501
    S: 250
    S: 250
    S: 250
    S: 354
    S: 250
    S: 221
    S: EOF
)";

}  // namespace

TEST_CASE("the replies do not depend on how the octets are cut") {
    std::string whole;
    for (const auto pace : {Pace::at_once, Pace::groups, Pace::pieces, Pace::octets}) {
        CAPTURE(int(pace));
        const auto played = dialogue(everything, {.pace = pace});
        if (whole.empty()) whole = played.heard;
        CHECK(played.heard == whole);
        REQUIRE(played.mails.size() == 3);
        CHECK(played.mails[0].text == "Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n");
        CHECK(played.mails[1].text == "ab\r\n.\r\n.\r\n");
        CHECK(played.mails[2].text.empty());
    }
}

TEST_CASE("a body arrives whole in segments of every size") {
    std::mt19937 random(821);
    std::string text;
    while (text.size() < 3000) {
        static constexpr std::string_view some[] = {".", "..", "\r\n", "x", "\r\n.", "yy.y", "\r\n\r\n"};
        text += some[random() % std::size(some)];
    }
    text += "\r\n";
    std::string stuffed;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '.' && (i == 0 || text[i - 1] == '\n')) stuffed += '.';
        stuffed += text[i];
    }
    Talk talk;
    talk.play("S: 220\nC: EHLO me\nS: 250");
    int mails = 0;
    for (const std::size_t segment : {1, 2, 3, 5, 7, 63, 64, 65, 127, 1000, 4000}) {
        talk.play("C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354");
        const auto all = stuffed + ".\r\n";
        for (std::size_t at = 0; at < all.size(); at += segment)
            talk.wire.send_alone(std::string_view(all).substr(at, segment));
        talk.play("S: 250");
        ++mails;
    }
    const auto& got = talk.end();
    REQUIRE(int(got.size()) == mails);
    for (const auto& m : got) CHECK((m.text == text));
}

// SOCK_SEQPACKET keeps the borders of what was sent: one recv here is one send there.
TEST_CASE("a group of commands is answered in one send") {
    Talk talk({.type = SOCK_SEQPACKET});
    auto replies = [&] {
        const auto octets = talk.wire.receive();
        CAPTURE(octets);
        CHECK(octets.ends_with("\r\n"));
        return std::count(octets.begin(), octets.end(), '\n');
    };
    CHECK(replies() == 1);
    talk.wire.send("EHLO me\r\n");
    CHECK(replies() == 7);
    talk.wire.send("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nRCPT TO:bad\r\nDATA\r\n");
    CHECK(replies() == 5);
    talk.wire.send("x\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    CHECK(replies() == 4);
    talk.wire.send(".\r\nRSET\r\nNOOP\r\n");
    CHECK(replies() == 3);
    talk.wire.send("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 3\r\nabcBDAT 3 LAST\r\ndefMAIL FROM:<a@b>\r\n");
    CHECK(replies() == 5);
    talk.wire.send("RCPT TO:<c@d>\r\nBDAT 1 LAST\r\nxQUIT\r\n");
    CHECK(replies() == 3);
    CHECK(talk.wire.receive().empty());
    CHECK(talk.end().size() == 4);
}

TEST_CASE("half a command does not keep the replies to the whole ones back") {
    Talk talk;
    talk.play(
        "S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nc: RCPT TO:<c@\nS: 250 2.1.0\nC: d>\nS: 250 2.1.5\nC: "
        "QUIT\nS: 221");
    talk.end();
}

TEST_CASE("a client that sends much and reads late is answered, and costs no memory without bound") {
    Talk talk;
    std::string many;
    for (int i = 0; i < 90'000; ++i) many += "NOOP\r\n";
    Background sender([&] { talk.wire.send("EHLO me\r\n" + many + "QUIT\r\n"); });
    CHECK(!sender.over(100ms));  // it waits for us: replies are not piled up
    std::string heard;
    const int fd = talk.wire.fd();
    char octets[4096];
    for (const auto end = Clock::now() + patience; Clock::now() < end;) {
        const auto n = recv(fd, octets, sizeof octets, 0);
        if (n <= 0) break;
        heard.append(octets, std::size_t(n));
    }
    sender.join();
    CHECK(std::count(heard.begin(), heard.end(), '\n') == 1 + 7 + 90'000 + 1);
    talk.end();
}
