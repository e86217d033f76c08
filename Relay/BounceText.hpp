// BounceText -- strangers' words made fit to be told in a notification; for our own .cpp files only, it is not
// installed.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace Net::SMTP {

// RFC 5322 2.1.1, without CRLF.
constexpr std::size_t longest_text_line = 998;

bool all_ascii(std::string_view);

// What may not be in an 8-bit text that is to be mailed as it is.
struct Octets {
    bool eight_bit = false, nul = false, bare_line_end = false, long_line = false;
    bool mailable() const { return !nul && !bare_line_end && !long_line; }
};
Octets look_at(std::string_view);

// On one line: without controls, those of directions too, runs of blanks made one, none at the ends; what is no UTF-8,
// or is not ASCII where that has to be, becomes '?'. Of more than `limit` octets the rest is "...".
std::string one_line(std::string_view, std::size_t limit, bool utf8);
// The same of an address: its blanks stay as they are.
std::string plain_address(std::string_view, std::size_t limit, bool utf8);
// `first` and behind it the words of `text`, in lines of at most 76 octets where its blanks allow that; each but the
// first begins with `indent`. Ends in CRLF. No line is over the limit.
std::string folded(std::string_view first, std::string_view text, std::string_view indent);

// RFC 2045 6.7. Lines of `text` end in CRLF, and stay lines; so does what comes out.
std::string quoted_printable(std::string_view text);

}  // namespace Net::SMTP
