// Gsasl -- texts as SASL wants them, by libgsasl; for our own .cpp files only, it is not installed.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace Net::SMTP {

// The text as SASLprep (RFC 4013) writes it, code points that Unicode 3.2 did not know allowed. nullopt for what it
// prohibits, for what is not UTF-8, has a NUL or is longer than 1024 octets, and where nothing is left.
std::optional<std::string> saslprep(std::string_view text);

}  // namespace Net::SMTP
