#include "DomainName.hpp"

#include <idn2.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string_view>

namespace Net::SMTP {

namespace {

// A U-label takes several octets for each of its at most 63 characters; no name is longer than this, whatever it maps
// to.
constexpr std::size_t longest_text = 4 * 253;

bool ascii(std::string_view text) {
    return std::ranges::all_of(text, [](unsigned char c) { return c < 128; });
}

bool askable(std::string_view name) {
    if (name.empty() || name.size() > 253) return false;
    std::size_t label = 0;
    for (const unsigned char c : name) {
        if (c == '.' && label == 0) return false;
        if (c <= 32 || c >= 127 || c == '\\') return false;
        label = c == '.' ? 0 : label + 1;
        if (label > 63) return false;
    }
    return label > 0;
}

}  // namespace

std::optional<std::string> domain_name(const std::string& text) {
    if (ascii(text)) return askable(text) ? std::optional(text) : std::nullopt;
    if (text.size() > longest_text || text.find('\0') != text.npos) return std::nullopt;
    char* found = nullptr;
    const int error = idn2_to_ascii_8z(text.c_str(), &found, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT);
    const std::unique_ptr<char, decltype(&idn2_free)> owner(found, idn2_free);
    if (error == IDN2_MALLOC) throw std::bad_alloc();
    if (error != IDN2_OK || !found || !askable(found)) return std::nullopt;
    return std::string(found);
}

}  // namespace Net::SMTP
