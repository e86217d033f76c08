// Base64 -- octets as letters (RFC 4648 4); for our own .cpp files only, it is not installed.
#pragma once

#include <string>
#include <string_view>

namespace Net::SMTP {

// With padding, in one line.
std::string base64_encode(std::string_view octets);

// Appends what the text means to `out`, which is not enlarged twice on the way: no copy of a secret is left behind.
// False when the text holds anything but the alphabet, is not padded to groups of four, or has bits behind its end;
// `out` then holds some of it.
bool base64_decode(std::string_view text, std::string& out);

}  // namespace Net::SMTP
