#include "BounceText.hpp"

#include <algorithm>

#include "../Server/Utf8Address.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t line = 76;
constexpr std::size_t longest_word = 900;
constexpr std::string_view hex = "0123456789ABCDEF";

bool high(char c) { return static_cast<unsigned char>(c) >= 128; }

// What a terminal or a reader's screen would obey.
bool control(char32_t c) {
    return c < 32 || (c >= 127 && c < 160) || c == 0x61C || c == 0x200E || c == 0x200F ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

std::string_view trimmed(std::string_view text) {
    text.remove_suffix(text.size() - (text.find_last_not_of(' ') + 1));
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    return text;
}

// Each character as one that can be shown: controls become blanks, all else that can't be '?'.
std::string shown(std::string_view text, std::size_t limit, bool utf8) {
    std::string out;
    while (!text.empty()) {
        const auto size = utf8_size(text);
        const bool blank = size > 0 && control(utf8_character(text.substr(0, size)));
        if (out.size() + size > limit) return out + "...";
        if (blank) out += ' ';
        else if (size == 0 || (size > 1 && !utf8)) out += '?';
        else out.append(text.substr(0, size));
        text.remove_prefix(std::max<std::size_t>(size, 1));
    }
    return out;
}

}  // namespace

bool all_ascii(std::string_view text) { return std::ranges::none_of(text, high); }

Octets look_at(std::string_view text) {
    Octets out;
    out.eight_bit = !all_ascii(text);
    out.nul = text.find('\0') != text.npos;
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size());
        auto one = text.substr(0, end);
        const bool whole = one.ends_with('\r');
        if (end < text.size() && !whole) out.bare_line_end = true;
        if (end < text.size() && whole) one.remove_suffix(1);
        if (one.find('\r') != one.npos) out.bare_line_end = true;
        if (one.size() > longest_text_line) out.long_line = true;
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
}

std::string one_line(std::string_view text, std::size_t limit, bool utf8) {
    auto out = shown(text, limit, utf8);
    out.erase(std::unique(out.begin(), out.end(), [](char a, char b) { return a == ' ' && b == ' '; }), out.end());
    return std::string(trimmed(out));
}

std::string plain_address(std::string_view text, std::size_t limit, bool utf8) {
    return std::string(trimmed(shown(trimmed(text), limit, utf8)));
}

std::string folded(std::string_view first, std::string_view text, std::string_view indent) {
    std::string out(first);
    std::size_t used = out.size();
    for (bool begun = false; !text.empty(); begun = true) {
        const auto blank = std::min(text.find(' '), text.size());
        const auto word = text.substr(0, std::min(blank, longest_word));
        const bool fits = used + 1 + word.size() <= line;
        if (begun && !fits) {
            out.append("\r\n").append(indent);
            used = indent.size();
        } else if (begun) {
            out += ' ';
            ++used;
        }
        out.append(word);
        used += word.size();
        text.remove_prefix(word.size());
        if (word.size() == blank && !text.empty()) text.remove_prefix(1);
    }
    return out + "\r\n";
}

std::string quoted_printable(std::string_view text) {
    std::string out;
    std::size_t used = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text.substr(i).starts_with("\r\n")) {
            out += "\r\n";
            used = 0;
            ++i;
            continue;
        }
        const auto c = static_cast<unsigned char>(text[i]);
        const bool last = i + 1 == text.size() || text.substr(i + 1).starts_with("\r\n");
        const bool blank = (c == ' ' || c == '\t') && !last;
        const bool plain = blank || (c > 32 && c < 127 && c != '=');
        const std::size_t needed = plain ? 1 : 3;
        if (used + needed > (last ? line : line - 1)) {
            out += "=\r\n";
            used = 0;
        }
        if (plain) out += char(c);
        else out.append(1, '=').append(1, hex[c >> 4]).append(1, hex[c & 15]);
        used += needed;
    }
    return out;
}

}  // namespace Net::SMTP
