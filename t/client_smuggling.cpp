// client_smuggling -- only CRLF.CRLF ends a text: nothing that looks like it to others lets a second mail in.
#include "dialogue.hpp"

using namespace test;

namespace {

const std::string smuggled = "MAIL FROM:<smuggled@x>\r\nRCPT TO:<victim@y>\r\nDATA\r\nevil";

// Every wrong way to write a line of one dot.
std::vector<std::string> false_ends() {
    std::vector<std::string> all;
    for (const std::string before : {"\r\n", "\n", "\r", "\n\r", "\r\r", "\n\n"})
        for (const std::string after : {"\r\n", "\n", "\r", "\n\r", "\r\r\n", "\r \n"})
            if (before != "\r\n" || after != "\r\n") all.push_back(before + '.' + after);
    using namespace std::string_literals;
    for (const auto& odd : {"\r\n.\0\r\n"s, "\r\n\0.\r\n"s, "\r\n.\r\0\n"s, "\r\n. \r\n"s, "\r\n .\r\n"s, "\r\n..\r\n"s,
                            "\r\n.\t\r\n"s, "\r\n.\x85\r\n"s, "\x85.\x85"s, "\r\n.\v\r\n"s, "\r\n.\f\r\n"s,
                            "\0\r\n.\0\r\n"s, "\r\n\xef\xbc\x8e\r\n"s, "\xe2\x80\xa8.\xe2\x80\xa8"s})
        all.push_back(odd);
    return all;
}

// What RFC 5321 says a text means: lines end in CRLF, a dot that begins one is undone.
std::string understood(std::string_view sent) {
    std::string out;
    for (std::size_t at = 0; at < sent.size();) {
        auto end = sent.find("\r\n", at);
        end = end == sent.npos ? sent.size() : end + 2;
        auto line = sent.substr(at, end - at);
        if (line.starts_with('.')) line.remove_prefix(1);
        out += line;
        at = end;
    }
    return out;
}

std::string normalized(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\r' || text[i] == '\n') {
            if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') ++i;
            out += "\r\n";
        } else {
            out += text[i];
        }
    }
    return out;
}

}  // namespace

TEST_CASE("no false end of the data lets a second mail in") {
    for (const auto policy : {BareLineEnds::reject, BareLineEnds::normalize, BareLineEnds::accept}) {
        for (const auto pace : {Pace::groups, Pace::octets}) {
            Setup setup;
            setup.options.bare_line_ends = policy;
            Talk talk(setup);
            talk.play("S: 220\nC: EHLO me\nS: 250");
            std::vector<std::string> expected;
            for (const auto& end : false_ends()) {
                const auto shown = escaped(end);
                CAPTURE(shown);
                talk.play("C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354");
                const auto text = "innocent" + end + smuggled + "\r\n";
                const auto all = text + ".\r\n";
                if (pace == Pace::octets)
                    for (char c : all) talk.wire.send_alone({&c, 1});
                else talk.wire.send(all);
                const auto meant = understood(text);
                const bool refused = policy == BareLineEnds::reject && normalized(meant) != meant;
                talk.wire.expect(refused ? "554 5.6.0" : "250");
                talk.wire.say("NOOP");
                talk.wire.expect("250 2.0.0 OK");
                if (!refused) expected.push_back(policy == BareLineEnds::normalize ? normalized(meant) : meant);
            }
            const auto& mails = talk.end();
            REQUIRE(mails.size() == expected.size());
            for (std::size_t i = 0; i < expected.size(); ++i) {
                CHECK((mails[i].text == expected[i]));
                CHECK(mails[i].from.str() == "a@b");
            }
        }
    }
}

TEST_CASE("a line of two dots is a line of one dot, not the end") {
    const auto played =
        dialogue(std::string(opening) + "C: DATA\nS: 354\nC: ..\nC: NOOP\nC: .\nS: 250\nC: QUIT\nS: 221");
    REQUIRE(played.mails.size() == 1);
    CHECK(played.mails[0].text == ".\r\nNOOP\r\n");
}

TEST_CASE("a refused text is read to its end, and nothing of it is run") {
    Setup setup;
    setup.options.max_message_size = 20;
    const auto played = dialogue(std::string(opening) + R"(
        C: DATA
        S: 354
        C: more than twenty octets, surely
        C: RSET
        C: MAIL FROM:<smuggled@x>
        C: ..
        C: QUIT
        C: .
        S: 552 5.3.4
        C: RCPT TO:<x@y>
        S: 503
        C: QUIT
        S: 221
    )",
                                 setup);
    CHECK(played.mails.empty());
}

TEST_CASE("text that comes although DATA was refused") {
    // There was no 354, so these are commands; but no transaction is open for them, and the session keeps in step.
    const auto played = dialogue(R"(
        S: 220
        C: EHLO me
        S: 250
        C: MAIL FROM:<a@b>
        C: DATA
        C: Subject: x
        C: .
        C: NOOP
        S: 250
        S: 503
        S: 500
        S: 500
        S: 250
    )");
    CHECK(played.mails.empty());
}

TEST_CASE("a command line ends in CRLF and nothing else") {
    for (const std::string line : {"NOOP\\nQUIT", "NOOP\\rQUIT", "NOOP\\0", "\\0NOOP", "NO\\x7fOP",
                                   "MAIL FROM:<a@b>\\nRCPT TO:<c@d>", "NOOP\\r", "\\nNOOP", "NOOP \\x1b[0m"}) {
        CAPTURE(line);
        dialogue("S: 220\nC: EHLO me\nS: 250\nC: " + line +
                 "\nS: 500 5.5.2\nC: RCPT TO:<c@d>\nS: 503\nC: NOOP\nS: 250\nC: QUIT\nS: 221\nS: EOF");
    }
}

TEST_CASE("a server that is lenient takes LF for the end of a command, but never for the end of a text") {
    Setup setup;
    setup.options.lenient.lf_commands = true;
    const auto played = dialogue(R"(
        S: 220
        c: EHLO me\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\n
        S: 250
        S: 250
        S: 250
        S: 354
        c: x\n.\nQUIT\n\r\n.\r\n
        S: 554 5.6.0
        c: QUIT\n
        S: 221
    )",
                                 setup);
    CHECK(played.mails.empty());
}

TEST_CASE("NUL and octets above 127 pass in a text as they are") {
    std::string all = ".";
    for (int i = 0; i < 256; ++i)
        if (i != '\r' && i != '\n') all += char(i);
    Talk talk;
    talk.play(std::string(opening) + "C: DATA\nS: 354");
    talk.wire.send('.' + all + "\r\n.\r\n");
    talk.play("S: 250");
    const auto& mails = talk.end();
    REQUIRE(mails.size() == 1);
    CHECK((mails[0].text == all + "\r\n"));
}
