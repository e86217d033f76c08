#include "Reply.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <stdexcept>

namespace Net::SMTP {

namespace {

constexpr std::size_t longest_line = 510;  // RFC 5321 4.5.3.1.5: 512 with CRLF
constexpr int most_lines = 100;

bool digit(char c) { return c >= '0' && c <= '9'; }

bool control(unsigned char c) { return c < 32 || c == 127; }

void append_code(std::string& out, int code) {
    out += char('0' + code / 100);
    out += char('0' + code / 10 % 10);
    out += char('0' + code % 10);
}

// How much of `rest` fits into one line; a UTF-8 character is not cut in two.
std::size_t fitting(std::string_view rest, std::size_t room) {
    if (rest.size() <= room) return rest.size();
    std::size_t cut = room;
    for (int back = 0; back < 3 && (static_cast<unsigned char>(rest[cut]) & 0xC0) == 0x80; ++back) --cut;
    return cut;
}

}  // namespace

bool valid_status(std::string_view s) {
    if (s.size() < 5 || (s[0] != '2' && s[0] != '4' && s[0] != '5') || s[1] != '.') return false;
    auto number = [&](std::size_t from, std::size_t to) {
        return to > from && to - from <= 3 && std::all_of(s.begin() + from, s.begin() + to, digit) &&
               (s[from] != '0' || to - from == 1);  // RFC 3463 2: no leading zeros
    };
    const auto dot = s.find('.', 2);
    return dot != s.npos && number(2, dot) && number(dot + 1, s.size());
}

bool valid_utf8(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        const auto lead = static_cast<unsigned char>(text[i++]);
        if (lead < 0x80) continue;
        const int more = lead >= 0xC2 && lead <= 0xDF   ? 1
                         : (lead & 0xF0) == 0xE0        ? 2
                         : lead >= 0xF0 && lead <= 0xF4 ? 3
                                                        : 0;
        if (more == 0 || i + more > text.size()) return false;
        const auto second = static_cast<unsigned char>(text[i]);
        if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) || (lead == 0xF0 && second < 0x90) ||
            (lead == 0xF4 && second > 0x8F))
            return false;
        for (int k = 0; k < more; ++k)
            if ((static_cast<unsigned char>(text[i++]) & 0xC0) != 0x80) return false;
    }
    return true;
}

std::string Reply::str() const {
    std::string out = std::to_string(code);
    if (!status.empty()) out += ' ' + status;
    if (!text.empty()) out += ' ' + text;
    return out;
}

void Reply::append_to(std::string& out, bool statuses) const {
    const bool sane = code >= 200 && code <= 599;
    const int sent = sane ? code : 451;
    // RFC 2034: the class of the status is that of the code.
    const bool with_status =
        statuses && !status.empty() && valid_status(status) && sane && status[0] == char('0' + code / 100);
    const std::size_t head = 4 + (with_status ? status.size() + 1 : 0);

    std::string_view rest = text.empty() && !valid_status(status) ? status : text;
    for (int line = 1;; ++line) {
        const auto end = std::min(rest.find('\n'), rest.size());
        const auto length = fitting(rest.substr(0, end), longest_line - head);
        const bool broken = length < end;
        const bool last = (!broken && end == rest.size()) || line == most_lines;

        append_code(out, sent);
        out += last ? ' ' : '-';
        if (with_status) {
            out += status;
            out += ' ';
        }
        const auto from = out.size();
        out.append(rest.substr(0, length));
        const bool utf8 = valid_utf8(std::string_view(out).substr(from));
        for (auto i = from; i < out.size(); ++i) {
            if (control(static_cast<unsigned char>(out[i]))) out[i] = ' ';
            if (!utf8 && static_cast<unsigned char>(out[i]) > 127) out[i] = '?';
        }
        out += "\r\n";
        if (last) return;
        rest.remove_prefix(broken ? length : end + 1);
    }
}

const Reply& worse(const Reply& a, const Reply& b) {
    // Last what goes out as 451, because it is no code at all.
    auto rank = [](const Reply& r) {
        return r.code >= 200 && r.code < 400 ? 0 : r.code >= 500 && r.code < 600 ? 1 : 2;
    };
    return rank(b) > rank(a) ? b : a;
}

Reject::Reject(Reply reply) : reply_(std::move(reply)), what_(reply_.str()) {
    if (reply_.code < 400 || reply_.code > 599)
        throw std::invalid_argument("Reject: " + std::to_string(reply_.code) + " is not a refusal (400 to 599)");
}

}  // namespace Net::SMTP
