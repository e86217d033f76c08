// base64 -- strict both ways: one text for each string of octets, and no other is read (RFC 4648 3.5).
#include "../../Server/Base64.hpp"

#include <optional>

#include "fuzz.hpp"

using namespace Net::SMTP;

namespace {

// Bit by bit.
std::optional<std::string> reference(std::string_view text) {
    static constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (text.size() % 4 != 0) return std::nullopt;
    std::string out;
    for (; !text.empty(); text.remove_prefix(4)) {
        const bool last = text.size() == 4;
        const std::size_t pads = last && text[3] == '=' ? (text[2] == '=' ? 2 : 1) : 0;
        unsigned bits = 0;
        for (std::size_t i = 0; i < 4; ++i) {
            const auto value = i < 4 - pads ? letters.find(text[i]) : 0;
            if (value == letters.npos) return std::nullopt;
            bits = bits << 6 | unsigned(value);
        }
        if (bits & ((1U << 8 * pads) - 1)) return std::nullopt;
        for (std::size_t i = 0; i < 3 - pads; ++i) out += char(bits >> (16 - 8 * i) & 0xFF);
    }
    return out;
}

}  // namespace

void fuzz::run(Input input) {
    const auto octets = input.rest();
    const std::string before = "before";

    auto out = before;
    const bool read = base64_decode(octets, out);
    const auto meant = reference(octets);
    same(read, meant.has_value(), "what is no base64 is refused, and nothing else");
    require(out.starts_with(before), "what is decoded is appended", out);
    if (meant) {
        same(out.substr(before.size()), *meant, "it means what the RFC says");
        same(base64_encode(*meant), octets, "there is one text for it");
    }

    const auto text = base64_encode(octets);
    std::string back;
    require(base64_decode(text, back), "what we write can be read", text);
    same(back, octets, "and means the same");
}
