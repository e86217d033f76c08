#include "Base64.hpp"

#include <array>
#include <cstdint>

namespace Net::SMTP {

namespace {

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr auto values = [] {
    std::array<unsigned char, 256> all{};
    all.fill(64);  // is none
    for (unsigned char i = 0; i < 64; ++i) all[static_cast<unsigned char>(alphabet[i])] = i;
    return all;
}();

}  // namespace

std::string base64_encode(std::string_view octets) {
    std::string out;
    out.reserve((octets.size() + 2) / 3 * 4);
    for (; !octets.empty(); octets.remove_prefix(octets.size() < 3 ? octets.size() : 3)) {
        std::uint32_t bits = 0;
        for (std::size_t i = 0; i < 3; ++i)
            bits = bits << 8 | (i < octets.size() ? static_cast<unsigned char>(octets[i]) : 0);
        for (std::size_t i = 0; i < 4; ++i) out += i <= octets.size() ? alphabet[bits >> (18 - 6 * i) & 63] : '=';
    }
    return out;
}

bool base64_decode(std::string_view text, std::string& out) {
    if (text.size() % 4 != 0) return false;
    out.reserve(out.size() + text.size() / 4 * 3);
    for (int pad = 0; pad < 2 && text.ends_with('='); ++pad) text.remove_suffix(1);
    std::uint32_t bits = 0;
    int have = 0;
    for (const char c : text) {
        const std::uint32_t value = values[static_cast<unsigned char>(c)];
        if (value > 63) return false;
        bits = bits << 6 | value;
        have += 6;
        if (have < 8) continue;
        have -= 8;
        out += char(bits >> have & 0xFF);
    }
    return (bits & ((1U << have) - 1)) == 0;
}

}  // namespace Net::SMTP
