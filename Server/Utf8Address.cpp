#include "Utf8Address.hpp"

#include <algorithm>

#include "Reply.hpp"

namespace Net::SMTP {

namespace {

constexpr std::string_view hex = "0123456789ABCDEF";

std::string embedded(char32_t c) {
    std::string digits;
    for (; c > 0 || digits.size() < 2; c >>= 4) digits.insert(digits.begin(), hex[c & 15]);
    return "\\x{" + digits + '}';
}

void append(std::string& out, char32_t c) {
    const int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    out += char(more == 0 ? c : (0xF0 << (3 - more) & 0xFF) | c >> (6 * more));
    for (int i = more - 1; i >= 0; --i) out += char(0x80 | (c >> (6 * i) & 63));
}

// The character of the "\x{FC}" that ends before `end`, if it is one.
bool read_embedded(std::string_view text, std::size_t end, char32_t& c) {
    if (!text.starts_with("\\x{") || end == text.npos || end < 5 || end > 9) return false;
    c = 0;
    for (const char digit : text.substr(3, end - 3)) {
        const auto value = hex.find(digit);
        if (value == hex.npos) return false;
        c = c << 4 | char32_t(value);
    }
    return c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF);
}

}  // namespace

std::size_t utf8_size(std::string_view text) {
    const auto lead = static_cast<unsigned char>(text.front());
    const std::size_t size = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    return size <= text.size() && valid_utf8(text.substr(0, size)) ? size : 0;
}

char32_t utf8_character(std::string_view octets) {
    const auto lead = static_cast<unsigned char>(octets.front());
    auto c = char32_t(octets.size() == 1 ? lead : lead & (0x7F >> octets.size()));
    for (const char each : octets.substr(1)) c = c << 6 | (each & 0x3F);
    return c;
}

std::string utf8_address_encode(std::string_view address, bool high, std::size_t limit) {
    std::string out;
    while (!address.empty()) {
        const auto size = utf8_size(address);
        const auto c = size == 0 ? U'?' : utf8_character(address.substr(0, size));
        const bool as_it_is = c > 126 ? high && c > 127 : c > 32 && c != '\\' && c != '+' && c != '=';
        const auto next = !as_it_is ? embedded(c) : size == 0 ? "?" : std::string(address.substr(0, size));
        if (out.size() + next.size() > limit) break;
        out += next;
        address.remove_prefix(std::max<std::size_t>(size, 1));
    }
    return out;
}

std::string utf8_address_decode(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const auto end = text.find('}');
        char32_t c = 0;
        if (read_embedded(text, end, c)) {
            append(out, c);
            text.remove_prefix(end + 1);
        } else {
            out += text.front();
            text.remove_prefix(1);
        }
    }
    return out;
}

}  // namespace Net::SMTP
