// LogText -- texts of strangers, and moments, as logs have them.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace Net::SMTP {

// "2026-01-31T12:34:56.789Z" (RFC 3339, UTC). Any thread.
std::string log_time(std::chrono::system_clock::time_point);

// On one line and without anything a terminal would obey: control characters (those of directions too), backslashes,
// those in `also`, and whatever is not UTF-8 become "\x0A". Of more than `limit` octets the rest is told by number:
// "[and 300 octets]".
void append_log_text(std::string& out, std::string_view text, std::size_t limit, std::string_view also = "");
std::string log_text(std::string_view text, std::size_t limit, std::string_view also = "");

// A string of JSON with its quotes (RFC 8259); octets that are no UTF-8 become U+FFFD, and of more than `limit` octets
// the rest is left out.
void append_json_text(std::string& out, std::string_view text, std::size_t limit);
std::string json_text(std::string_view text, std::size_t limit);

}  // namespace Net::SMTP
