// replies -- what a server has said, taken apart by the letter of RFC 5321 4.2.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fuzz.hpp"

namespace fuzz {

struct Said {
    int code = 0;
    std::vector<std::string_view> lines{};  // without code, separator and CRLF
    std::string_view octets{};
};

// One reply from the front of the text; broken if there is none.
inline Said take_reply(std::string_view& text) {
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    Said out;
    const auto all = text;
    for (bool last = false; !last;) {
        const auto end = text.find('\n');
        require(end != text.npos && end > 0 && text[end - 1] == '\r', "a reply's line ends in CRLF", all);
        const auto line = text.substr(0, end - 1);
        require(line.size() >= 4 && digit(line[0]) && digit(line[1]) && digit(line[2]), "it begins with a code", line);
        require(line.size() <= 510, "it is no longer than 512 octets", line);
        require(line[0] >= '2' && line[0] <= '5', "the code is one of SMTP's", line);
        for (const char c : line)
            require(static_cast<unsigned char>(c) >= 32 && c != 127, "no control character is in it", line);
        require(line[3] == ' ' || line[3] == '-', "a blank or a hyphen is behind the code", line);
        const int code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
        require(out.lines.empty() || code == out.code, "all lines of a reply have one code", all);
        out.code = code;
        out.lines.push_back(line.substr(4));
        last = line[3] == ' ';
        text.remove_prefix(end + 1);
        require(out.lines.size() <= 100, "it has no more than 100 lines", all);
    }
    out.octets = all.substr(0, all.size() - text.size());
    return out;
}

inline std::vector<Said> replies(std::string_view text) {
    std::vector<Said> out;
    while (!text.empty()) out.push_back(take_reply(text));
    return out;
}

}  // namespace fuzz
