// SaslCrypto -- what mechanisms compute, by OpenSSL; for our own .cpp files only, it is not installed.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "Sasl.hpp"

namespace Net::SMTP {

// All throw std::runtime_error where OpenSSL can't: no memory, or a build that has no MD5.
std::string sha256(std::string_view octets);
std::string hmac_sha256(std::string_view key, std::string_view octets);
std::string hmac_md5(std::string_view key, std::string_view octets);
std::string pbkdf2_sha256(std::string_view password, std::string_view salt, unsigned iterations);
std::string hexadecimal(std::string_view octets);  // in small letters
std::string random_octets(std::size_t count);

// Whether they are the same, in a time that tells nothing but their sizes.
bool same_octets(std::string_view a, std::string_view b);
// Of two strings of the same size.
std::string exclusive_or(std::string_view a, std::string_view b);

// RFC 5802 3: the keys of SaltedPassword.
std::string client_key(std::string_view salted);
ScramKeys keys_of(std::string_view salted, unsigned iterations, std::string salt);

}  // namespace Net::SMTP
