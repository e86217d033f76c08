// text -- the framing of DATA, of BDAT and of what is relayed, in any segmentation, against a decoder of one page.
#include "../../Server/Text.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "fuzz.hpp"

using namespace Net::SMTP;

namespace {

struct Decoded {
    std::string text;
    std::size_t consumed = 0;
    bool done = false, bare = false;
    bool operator==(const Decoded&) const = default;
};

// RFC 5321 4.5.2, line by line: a line ends in CRLF and nothing else; one that is a dot ends the text, of one that
// begins with a dot that dot goes. What stands alone is normalized at last.
Decoded reference(std::string_view in, BareLineEnds policy, bool dots) {
    Decoded out;
    std::string raw;
    while (out.consumed < in.size() && !out.done) {
        const auto rest = in.substr(out.consumed);
        const auto end = rest.find("\r\n");
        const auto line = rest.substr(0, end == rest.npos ? rest.size() : end + 2);
        out.consumed += line.size();
        out.done = dots && line == ".\r\n";
        if (!out.done) raw += line.substr(dots && line.starts_with('.') ? 1 : 0);
    }
    for (std::size_t i = 0; i < raw.size(); ++i) {
        const bool lone = raw[i] == '\r' ? i + 1 == raw.size() || raw[i + 1] != '\n'
                                         : raw[i] == '\n' && (i == 0 || raw[i - 1] != '\r');
        out.bare |= lone;
        if (lone && policy == BareLineEnds::normalize) out.text += "\r\n";
        else out.text += raw[i];
    }
#ifdef WRONG
    // The control: a reference that takes CR LF CR for the end of a line.
    const auto at = out.text.find("\r\n\r");
    if (at != out.text.npos) out.text.erase(at + 2, 1);
#endif
    return out;
}

// The library's, in pieces, as Body uses it: the input lies behind the output, by no more than it asks for.
Decoded decoded(std::string_view in, BareLineEnds policy, bool dots, fuzz::Chance chance) {
    TextDecoder decoder(policy, dots ? TextDecoder::Dots::stuffed : TextDecoder::Dots::plain);
    Decoded out;
    const std::size_t longest = 1 + chance.below(200);
    while (!out.done && out.consumed < in.size()) {
        const auto piece = in.substr(out.consumed, 1 + chance.below(longest));
        const auto lead = decoder.lead(piece.size());
        // Exactly so large, so that a step too far is seen.
        std::vector<char> room(lead + piece.size());
        std::memcpy(room.data() + lead, piece.data(), piece.size());
        const auto result = decoder.decode(room.data() + lead, piece.size(), room.data());
        fuzz::require(result.consumed <= piece.size(), "no more is read than there is", result.consumed);
        fuzz::require(result.produced <= lead + result.consumed, "no more is written than there is room for");
        fuzz::require(result.done || result.consumed == piece.size(), "all is read but what is behind the end");
        out.text.append(room.data(), result.produced);
        out.consumed += result.consumed;
        out.done = result.done;
    }
    if (!dots) out.text += decoder.finish();
    out.bare = decoder.bare();
    return out;
}

void compare(Decoded ours, Decoded theirs, BareLineEnds policy, bool dots) {
    using fuzz::require, fuzz::same;
    same(ours.done, theirs.done, "the text ends where the RFC says, and only there");
    same(ours.consumed, theirs.consumed, "what follows the end is left for the next command");
    if (dots && !theirs.done) return;  // half a line is not decided yet
    same(ours.bare, theirs.bare, "a lone CR or LF is seen");
    if (policy == BareLineEnds::reject && theirs.bare) return;
    same(ours.text, theirs.text, "the text is what the RFC says");
}

// The way back, in pieces too.
std::string stuffed(std::string_view text, fuzz::Chance chance) {
    std::string out;
    bool at_start = true;
    const std::size_t longest = 1 + chance.below(300);
    while (!text.empty()) {
        const auto piece = text.substr(0, 1 + chance.below(longest));
        append_stuffed(out, piece, at_start);
        text.remove_prefix(piece.size());
    }
    return out;
}

bool has_bare(std::string_view text, fuzz::Chance chance) {
    bool after_cr = false;
    const std::size_t longest = 1 + chance.below(300);
    while (!text.empty()) {
        const auto piece = text.substr(0, 1 + chance.below(longest));
        if (bare_line_ends(piece, after_cr)) return true;
        text.remove_prefix(piece.size());
    }
    return after_cr;
}

}  // namespace

void fuzz::run(Input input) {
    const auto how = input.octet();
    const bool dots = how & 4;
    const auto policy = BareLineEnds(how % 3);
    const auto chance = input.chance();
    const auto octets = input.rest();

    const auto meant = reference(octets, policy, dots);
    compare(decoded(octets, policy, dots, chance), meant, policy, dots);

    same(has_bare(octets, chance), reference(octets, policy, false).bare, "bare_line_ends() sees it in any pieces");
    if (!meant.done || meant.bare) return;
    // What was received can be sent on, and arrives as it was.
    const auto again = stuffed(meant.text, chance) + ".\r\n";
    const auto there = reference(again, policy, true);
    require(there.done && there.consumed == again.size(), "what is stuffed has one end", again);
    same(there.text, meant.text, "what is stuffed means the same");
}
