// Text -- how a mail text travels in DATA: dots doubled and undone, its end found, lone CRs and LFs told apart.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "Options.hpp"

namespace Net::SMTP {

// Undoes what RFC 5321 4.5.2 does to a text, in any segmentation and in place. Only CRLF ends a line, only CRLF.CRLF
// the text. Octets are looked at 64 at a time; a line costs nothing unless a dot begins it.
class TextDecoder {
public:
    enum class Dots {
        stuffed,  // DATA: a dot that begins a line is undone, a line of one dot ends the text
        plain,    // BDAT: dots are dots, and the end is counted by somebody else
    };
    TextDecoder(BareLineEnds policy, Dots dots) : policy_(policy), dots_(dots == Dots::stuffed) {}

    struct Result {
        std::size_t consumed;  // all of the input, unless the text ended in it
        std::size_t produced;
        bool done;
    };
    // `out` may be `in`, or anywhere in front of it by at least lead() octets; never behind it.
    Result decode(const char* in, std::size_t size, char* out);
    // For plain dots: no more will come. A CR at the very end was alone. Octets to append to what was produced.
    std::string_view finish();

    // By how much the next output of `size` octets of input may be ahead of them.
    std::size_t lead(std::size_t size) const;
    // Whether a lone CR or LF was met; under BareLineEnds::reject the text is not to be used then.
    bool bare() const { return bare_; }

private:
    enum class State { start, line, cr, dot, dot_cr };
    char* step(char c, char* out);

    BareLineEnds policy_;
    bool dots_;
    bool bare_ = false;
    State state_ = State::start;
};

// Appends `text` as DATA wants it, dots doubled; `at_start` says whether the text so far ended in CRLF (or is empty),
// and is brought up to date. The text must hold no lone CR or LF, see bare_line_ends().
void append_stuffed(std::string& out, std::string_view text, bool& at_start);

// Whether a text holds a CR or LF that stands alone; in pieces, with `after_cr` telling how the last piece ended.
bool bare_line_ends(std::string_view text, bool& after_cr);

}  // namespace Net::SMTP
