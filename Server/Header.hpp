// Header -- a mail's header section: its fields one by one, and those that it lacks; for our own .cpp files only, it is
// not installed.
#pragma once

#include <cstddef>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

namespace Net::SMTP {

// Of a header section no more is looked at.
constexpr std::size_t most_header = 1 << 20;

// Calls `field(name, value)` for each field of a header section, lines that are none passed over. Returns what follows
// the section: from the empty line on, "" if the text has none.
template <class Field>
std::string_view each_field(std::string_view text, Field field) {
    while (!text.empty() && text.front() != '\r' && text.front() != '\n') {
        // A field goes on as long as the next line begins with a blank.
        std::size_t end = 0;
        do {
            end = text.find('\n', end);
            end = end == text.npos ? text.size() : end + 1;
        } while (end < text.size() && (text[end] == ' ' || text[end] == '\t'));

        const auto line = text.substr(0, end);
        const auto colon = line.find(':');
        if (colon != line.npos) {
            const auto name = line.substr(0, colon);
            field(name.substr(0, name.find_last_not_of(" \t\r\n") + 1), line.substr(colon + 1));
        }
        text.remove_prefix(end);
    }
    return text;
}

// The time as RFC 5322 3.3 writes it, in UTC: "Sat, 1 Nov 2025 07:00:00 +0000".
std::string date_time(std::time_t when);

constexpr std::size_t most_missing = 512;  // octets that missing_fields() returns
// "Date" and "Message-ID" with their CRLF, as far as the text has them not, to be put in front of it (RFC 6409 8.2,
// 8.3); and an empty line behind them where the text has no header section at all. nullopt: `text` is not all, and its
// header section may go on behind it.
std::optional<std::string> missing_fields(std::string_view text, bool all, std::string_view id,
                                          std::string_view hostname, std::time_t when);

}  // namespace Net::SMTP
