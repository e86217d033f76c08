#include "Command.hpp"

#include <array>
#include <utility>

#include "Address.hpp"

namespace Net::SMTP {

namespace {

constexpr std::array<std::pair<std::string_view, Verb>, 19> verbs{{
    {"HELO", Verb::HELO},
    {"EHLO", Verb::EHLO},
    // RFC 2033: in place of both.
    {"LHLO", Verb::LHLO},
    {"MAIL", Verb::MAIL},
    {"RCPT", Verb::RCPT},
    {"DATA", Verb::DATA},
    {"BDAT", Verb::BDAT},
    {"RSET", Verb::RSET},
    {"NOOP", Verb::NOOP},
    {"VRFY", Verb::VRFY},
    {"EXPN", Verb::EXPN},
    {"HELP", Verb::HELP},
    {"QUIT", Verb::QUIT},
    {"STARTTLS", Verb::STARTTLS},
    {"AUTH", Verb::AUTH},
    {"SEND", Verb::SEND},
    {"SOML", Verb::SOML},
    {"SAML", Verb::SAML},
    {"TURN", Verb::TURN},
}};

bool blank(char c) { return c == ' ' || c == '\t'; }

}  // namespace

Command Command::parse(std::string_view line) {
    while (!line.empty() && blank(line.back())) line.remove_suffix(1);
    std::size_t end = 0;
    while (end < line.size() && !blank(line[end])) ++end;

    Command c;
    c.name = line.substr(0, end);
    // One blank separates; a second one belongs to the argument, which the grammar will refuse.
    c.argument = end < line.size() ? line.substr(end + 1) : std::string_view();
    for (const auto& [text, verb] : verbs) {
        if (!same_text(c.name, text)) continue;
        c.verb = verb;
        break;
    }
    return c;
}

std::string_view name(Verb verb) {
    for (const auto& [text, v] : verbs)
        if (v == verb) return text;
    return "";
}

}  // namespace Net::SMTP
