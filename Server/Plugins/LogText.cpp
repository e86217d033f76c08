#include "LogText.hpp"

#include <algorithm>

#include "../Reply.hpp"

namespace Net::SMTP {

namespace {

constexpr char digits[] = "0123456789ABCDEF";

// The octets at the beginning that need no second look: ASCII's, but for controls, the backslash and those in `also`.
std::string_view plain(std::string_view text, std::string_view also) {
    const auto strange = [&](char c) { return c < 32 || c >= 127 || c == '\\' || also.find(c) != also.npos; };
    return {text.begin(), std::ranges::find_if(text, strange)};
}

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
    const auto whole = floor<milliseconds>(moment);
    const auto day = floor<days>(whole);
    const year_month_day date(day);
    const hh_mm_ss time(whole - day);
    std::string text = "0000-00-00T00:00:00.000Z";
    const auto put = [&](std::size_t end, auto number) {  // right-aligned
        for (auto value = unsigned(number); value > 0; value /= 10) text[--end] = digits[value % 10];
    };
    put(4, int(date.year()));
    put(7, unsigned(date.month()));
    put(10, unsigned(date.day()));
    put(13, time.hours().count());
    put(16, time.minutes().count());
    put(19, time.seconds().count());
    put(23, time.subseconds().count());
    return text;
}

void append_log_text(std::string& out, std::string_view text, std::size_t limit, std::string_view also) {
    const auto shown = cut(text, limit);
    auto i = plain(shown, also).size();
    out += shown.substr(0, i);
    const bool readable = valid_utf8(shown.substr(i));
    while (i < shown.size()) {
        const char c = shown[i];
        const bool high = static_cast<unsigned char>(c) > 127;
        auto strange = std::max<std::size_t>(control(shown, i), (high && !readable) || c == '\\');
        if (also.find(c) != also.npos) strange = 1;
        if (strange == 0) out += c, ++i;
        for (; strange > 0; --strange) append_hex(out, "\\x", shown[i++]);
        const auto run = plain(shown.substr(i), also);
        out += run;
        i += run.size();
    }
    if (shown.size() < text.size()) out += "[and " + std::to_string(text.size() - shown.size()) + " octets]";
}

std::string log_text(std::string_view text, std::size_t limit, std::string_view also) {
    std::string out;
    append_log_text(out, text, limit, also);
    return out;
}

void append_json_text(std::string& out, std::string_view text, std::size_t limit) {
    text = cut(text, limit);
    const bool readable = valid_utf8(text);
    out += '"';
    while (!text.empty()) {
        const auto run = plain(text, "\"");
        out += run;
        text.remove_prefix(run.size());
        if (text.empty()) break;
        const char c = text.front();
        const auto octet = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') (out += '\\') += c;
        else if (octet < 32 || octet == 127) append_hex(out, "\\u00", c);
        else if (!readable) out += "\\uFFFD";
        else out += c;
        text.remove_prefix(1);
    }
    out += '"';
}

std::string json_text(std::string_view text, std::size_t limit) {
    std::string out;
    append_json_text(out, text, limit);
    return out;
}

}  // namespace Net::SMTP
