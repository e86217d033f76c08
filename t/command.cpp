// command -- tests of Command: one line taken apart into verb and argument.
#include <doctest/doctest.h>

#include <set>
#include <string>

#include "../Server/Command.hpp"

using namespace Net::SMTP;
using namespace std::string_view_literals;

TEST_CASE("a line is a verb and what follows one blank") {
    struct Row {
        std::string_view line;
        Verb verb;
        std::string_view name, argument;
    };
    const Row rows[] = {
        {"NOOP", Verb::NOOP, "NOOP", ""},
        {"noop", Verb::NOOP, "noop", ""},
        {"nOoP", Verb::NOOP, "nOoP", ""},
        {"NOOP   ", Verb::NOOP, "NOOP", ""},
        {"NOOP \t ", Verb::NOOP, "NOOP", ""},
        {"NOOP x", Verb::NOOP, "NOOP", "x"},
        {"HELO client.example  ", Verb::HELO, "HELO", "client.example"},
        {"MAIL FROM:<a@b>", Verb::MAIL, "MAIL", "FROM:<a@b>"},
        {"MAIL FROM:<a@b> SIZE=1 BODY=8BITMIME ", Verb::MAIL, "MAIL", "FROM:<a@b> SIZE=1 BODY=8BITMIME"},
        {"rcpt TO:<\"a b\"@c>", Verb::RCPT, "rcpt", "TO:<\"a b\"@c>"},
        // What is between is kept for the grammar to refuse.
        {"MAIL  FROM:<a@b>", Verb::MAIL, "MAIL", " FROM:<a@b>"},
        {"BDAT 10 LAST", Verb::BDAT, "BDAT", "10 LAST"},
        {"", Verb::unknown, "", ""},
        {" ", Verb::unknown, "", ""},
        {"NOO", Verb::unknown, "NOO", ""},
        {"NOOPX", Verb::unknown, "NOOPX", ""},
        {"NOOP,x", Verb::unknown, "NOOP,x", ""},
        {"MAIL:FROM <a@b>", Verb::unknown, "MAIL:FROM", "<a@b>"},
        {"NOOP\0"sv, Verb::unknown, "NOOP\0"sv, ""},
        {"\0NOOP"sv, Verb::unknown, "\0NOOP"sv, ""},
        {"NOOP\r", Verb::unknown, "NOOP\r", ""},
        {"NOOP\nQUIT", Verb::unknown, "NOOP\nQUIT", ""},
        {"NOOP\vx", Verb::unknown, "NOOP\vx", ""},
        {"\xEF\xBB\xBFNOOP", Verb::unknown, "\xEF\xBB\xBFNOOP", ""},
        {"\xCE\x9DOOP", Verb::unknown, "\xCE\x9DOOP", ""},
        {"unknown", Verb::unknown, "unknown", ""},
        // Controls of an argument are not the business of this grammar; they stay for whoever reads it.
        {"NOOP a\0b"sv, Verb::NOOP, "NOOP", "a\0b"sv},
        {"VRFY a\tb", Verb::VRFY, "VRFY", "a\tb"},
    };
    for (const auto& r : rows) {
        CAPTURE(std::string(r.line));
        const auto c = Command::parse(r.line);
        CHECK(c.verb == r.verb);
        CHECK(c.name == r.name);
        CHECK(c.argument == r.argument);
    }
}

TEST_CASE("every verb is known by its name, in any case") {
    std::set<Verb> seen;
    for (std::string verb : {"HELO", "EHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "EXPN", "HELP",
                             "QUIT", "STARTTLS", "AUTH", "SEND", "SOML", "SAML", "TURN"}) {
        CAPTURE(verb);
        const auto found = Command::parse(verb).verb;
        CHECK(found != Verb::unknown);
        CHECK(name(found) == verb);
        CHECK(seen.insert(found).second);
        std::string small = verb;
        for (auto& c : small) c = char(c | 0x20);
        CHECK(Command::parse(small + " x").verb == found);
        CHECK(Command::parse(verb.substr(1)).verb == Verb::unknown);
        CHECK(Command::parse(verb + verb).verb == Verb::unknown);
    }
    CHECK(seen.size() == 18);
    CHECK(name(Verb::unknown) == "");
}

TEST_CASE("a command's parts lie within its line, however long it is") {
    const std::string line = "MAIL " + std::string(1 << 20, 'x') + " ";
    const auto c = Command::parse(line);
    CHECK(c.verb == Verb::MAIL);
    CHECK(c.name.data() == line.data());
    CHECK(c.argument.data() == line.data() + 5);
    CHECK(c.argument.size() == 1 << 20);
    CHECK(Command::parse(std::string_view(line).substr(5)).verb == Verb::unknown);
}
