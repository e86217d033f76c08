// Utf8Address -- addresses of the type "utf-8" where only ASCII may stand (RFC 6533 3); for our own .cpp files only, it
// is not installed.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace Net::SMTP {

// As utf-8-addr-xtext: "j\x{FC}rgen@example.org"; with `high` (utf-8-addr-unitext) what is UTF-8 stays as it is. What
// is none becomes '?'. At most `limit` octets, of whole characters. Also fit to stand in ORCPT.
std::string utf8_address_encode(std::string_view address, bool high = false, std::size_t limit = std::string::npos);
// What it says, whether it was encoded so or not. What is encoded and no character stays as it is.
std::string utf8_address_decode(std::string_view text);

// The character at the front of a text that is not empty: how many octets it has, 0 if it is none; and its number.
std::size_t utf8_size(std::string_view text);
char32_t utf8_character(std::string_view octets);

}  // namespace Net::SMTP
