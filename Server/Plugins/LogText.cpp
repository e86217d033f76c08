#include "LogText.hpp"

#include <ctime>

#include "../Reply.hpp"

namespace Net::SMTP {

namespace {

constexpr char digits[] = "0123456789ABCDEF";

bool continues(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// At most `limit` octets, and no half of a character.
std::string_view cut(std::string_view text, std::size_t limit) {
    if (text.size() <= limit) return text;
    std::size_t end = limit;
    while (end > 0 && limit - end < 4 && continues(text[end])) --end;
    return text.substr(0, end);
}

// How many octets the control character at `i` has: ASCII's, or U+0080 to U+009F, and those that end lines or turn
// their direction, U+2028 to U+202E and U+2066 to U+2069; 0: it is none.
std::size_t control(std::string_view text, std::size_t i) {
    const auto at = [&](std::size_t n) { return i + n < text.size() ? static_cast<unsigned char>(text[i + n]) : 0; };
    if (at(0) < 32 || at(0) == 127) return 1;
    if (at(0) == 0xC2) return at(1) > 0 && at(1) < 0xA0 ? 2 : 0;
    if (at(0) != 0xE2) return 0;
    const auto last = at(2);
    const bool strange =
        (at(1) == 0x80 && last >= 0xA8 && last <= 0xAE) || (at(1) == 0x81 && last >= 0xA6 && last <= 0xA9);
    return strange ? 3 : 0;
}

void append_hex(std::string& out, std::string_view prefix, char octet) {
    const auto c = static_cast<unsigned char>(octet);
    (out += prefix).append({digits[c >> 4], digits[c & 15]});
}

}  // namespace

std::string log_time(std::chrono::system_clock::time_point moment) {
    using namespace std::chrono;
    const auto whole = floor<seconds>(moment);
    const std::time_t t = system_clock::to_time_t(whole);
    std::tm utc{};
    gmtime_r(&t, &utc);
    char text[32];
    auto size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    const auto ms = int(duration_cast<milliseconds>(moment - whole).count());
    for (const char c : {'.', char('0' + ms / 100), char('0' + ms / 10 % 10), char('0' + ms % 10), 'Z'})
        text[size++] = c;
    return {text, size};
}

std::string log_text(std::string_view text, std::size_t limit, std::string_view also) {
    const auto shown = cut(text, limit);
    const bool readable = valid_utf8(shown);
    std::string out;
    out.reserve(shown.size());
    for (std::size_t i = 0; i < shown.size(); ++i) {
        const char c = shown[i];
        const bool high = static_cast<unsigned char>(c) > 127;
        auto strange = std::max<std::size_t>(control(shown, i), (high && !readable) || c == '\\');
        if (also.find(c) != also.npos) strange = 1;
        if (strange == 0) out += c;
        for (; strange > 0; --strange) append_hex(out, "\\x", shown[strange > 1 ? i++ : i]);
    }
    if (shown.size() < text.size()) out += "[and " + std::to_string(text.size() - shown.size()) + " octets]";
    return out;
}

std::string json_text(std::string_view text, std::size_t limit) {
    text = cut(text, limit);
    const bool readable = valid_utf8(text);
    std::string out = "\"";
    for (const char c : text) {
        const auto octet = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') (out += '\\') += c;
        else if (octet < 32 || octet == 127) append_hex(out, "\\u00", c);
        else if (octet > 127 && !readable) out += "\\uFFFD";
        else out += c;
    }
    return out += '"';
}

}  // namespace Net::SMTP
