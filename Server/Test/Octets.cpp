#include "Octets.hpp"

#include <charconv>
#include <stdexcept>

#include "../Address.hpp"

namespace Net::SMTP::Test {

namespace {

constexpr std::size_t longest_piece = 300;
constexpr std::size_t longest_transcript = 8000;
constexpr std::size_t kept_of_it = 2000;  // at either end

}  // namespace

std::string escaped(std::string_view octets) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string out;
    for (const unsigned char c : octets) {
        if (c == '\r') out += "\\r";
        else if (c == '\n') out += "\\n";
        else if (c >= 32 && c < 127) out += char(c);
        else out.append("\\x").append(1, digits[c >> 4]).append(1, digits[c & 15]);
    }
    return out;
}

std::string unescaped(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\' || i + 1 == text.size()) {
            out += text[i];
            continue;
        }
        const char c = text[++i];
        if (c == 'x') {
            const auto hex = text.substr(i + 1, 2);
            unsigned value = 0;
            const auto end = std::from_chars(hex.data(), hex.data() + hex.size(), value, 16).ptr;
            if (hex.size() != 2 || end != hex.data() + 2)
                throw std::invalid_argument("no hexadecimal number: " + std::string(text.substr(i - 1, 4)));
            out += char(value);
            i += 2;
        } else {
            out += c == 'r' ? '\r' : c == 'n' ? '\n' : c == 't' ? '\t' : c == '0' ? '\0' : c;
        }
    }
    return out;
}

bool begins(std::string_view command, std::string_view beginning) {
    return command.size() >= beginning.size() && same_text(command.substr(0, beginning.size()), beginning);
}

void Transcript::note(std::string_view who, std::string_view octets) {
    if (text_.size() > longest_transcript) text_.replace(kept_of_it, text_.size() - 2 * kept_of_it, "...\n");
    text_.append(who).append(escaped(octets.substr(0, longest_piece)));
    if (octets.size() > longest_piece) text_ += " ... (" + std::to_string(octets.size()) + " octets)";
    text_ += '\n';
}

}  // namespace Net::SMTP::Test
