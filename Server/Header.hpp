// Header -- a mail's header section: its fields one by one, and those that it lacks; for our own .cpp files only, it is
// not installed.
#pragma once

#include <cstddef>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

#include "Message.hpp"

namespace Net::SMTP {

// Of a header section no more is looked at.
constexpr std::size_t most_header = 1 << 20;

// That much of a message's octets from its beginning, less only if it has no more; nothing of one that went into a
// sink. In memory they are looked at in place, else they are read into `room`. std::system_error.
std::string_view header_part(const Message&, std::string& room);

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

// Takes the fields of a name out of a header section that comes in pieces, of any size; all other octets stay as they
// are. What a field is: as each_field() has it.
class FieldFilter {
public:
    // A name and blanks behind it of so many octets are taken for the field before the colon has been seen.
    static constexpr std::size_t most_name = 1000;

    // "": takes out nothing.
    explicit FieldFilter(std::string_view name) : name_(name), over_(name.empty()) {}
    // Appends to `kept` what stays; returns what is behind the header section, once that is over.
    std::string_view feed(std::string_view text, std::string& kept);
    // No more comes.
    void finish(std::string& kept);

private:
    enum class Field { unknown, stays, goes };
    void begin_line(char first, std::string& kept);
    Field decide() const;

    const std::string name_;
    std::string held_;  // the beginning of a field of which it is not known whether it stays
    Field field_ = Field::stays;
    bool first_line_ = true, line_begins_ = true;
    bool over_;
};

// The time as RFC 5322 3.3 writes it, in UTC: "Sat, 1 Nov 2025 07:00:00 +0000".
std::string date_time(std::time_t when);

constexpr std::size_t most_missing = 512;  // octets that missing_fields() returns
struct Wanted {
    bool date = true, message_id = true;
};
// "Date" and "Message-ID" with their CRLF, as far as they are wanted and the text has them not, to be put in front of
// it (RFC 6409 8.2, 8.3); and an empty line behind them where the text has no header section at all. nullopt: `text` is
// not all, and its header section may go on behind it.
std::optional<std::string> missing_fields(std::string_view text, bool all, std::string_view id,
                                          std::string_view hostname, std::time_t when, Wanted wanted = {});

}  // namespace Net::SMTP
