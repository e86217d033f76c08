// SaslKeys -- SCRAM keys as text, and back.
#include <charconv>

#include "Base64.hpp"
#include "Sasl.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t key_size = 32;

bool decode_key(std::string_view text, std::string& key) { return base64_decode(text, key) && key.size() == key_size; }

}  // namespace

std::string ScramKeys::str() const {
    return std::string(scheme) + std::to_string(iterations) + '$' + base64_encode(salt) + ':' +
           base64_encode(stored_key) + ':' + base64_encode(server_key);
}

std::optional<ScramKeys> ScramKeys::parse(std::string_view text) {
    if (!text.starts_with(scheme)) return std::nullopt;
    text.remove_prefix(scheme.size());
    const auto dollar = text.find('$'), first = text.find(':'), second = text.find(':', first + 1);
    if (dollar == text.npos || first == text.npos || second == text.npos || dollar > first) return std::nullopt;
    ScramKeys keys;
    const auto [end, error] = std::from_chars(text.data(), text.data() + dollar, keys.iterations);
    if (error != std::errc() || end != text.data() + dollar) return std::nullopt;
    if (keys.iterations == 0 || keys.iterations > most_iterations) return std::nullopt;
    if (!base64_decode(text.substr(dollar + 1, first - dollar - 1), keys.salt) || keys.salt.empty() ||
        !decode_key(text.substr(first + 1, second - first - 1), keys.stored_key) ||
        !decode_key(text.substr(second + 1), keys.server_key))
        return std::nullopt;
    return keys;
}

}  // namespace Net::SMTP
