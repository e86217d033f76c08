// Command -- one command line taken apart, and the table of verbs.
#pragma once

#include <optional>
#include <string_view>

namespace Net::SMTP {

enum class Verb {
    HELO,
    EHLO,
    LHLO,  // RFC 2033
    MAIL,
    RCPT,
    DATA,
    BDAT,
    RSET,
    NOOP,
    VRFY,
    EXPN,
    HELP,
    QUIT,
    STARTTLS,  // RFC 3207
    AUTH,      // RFC 4954
    SEND,
    SOML,
    SAML,
    TURN,  // RFC 5321 appendix F: 502
    unknown
};

// Views into the line: they live as long as it does.
struct Command {
    Verb verb = Verb::unknown;
    std::string_view name;      // as it was sent
    std::string_view argument;  // without the blank behind the verb and without trailing blanks

    // Takes a line without its CRLF apart. The verb's case does not matter; a verb that is none is Verb::unknown.
    static Command parse(std::string_view line);
};

// "HELO", for a verb of the table.
std::string_view name(Verb);

}  // namespace Net::SMTP
