#include "Text.hpp"

#include <bit>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace Net::SMTP {

namespace {

constexpr std::size_t block = 64;

// A bit for each of 64 octets that is `c`.
#ifdef __SSE2__
std::uint64_t mask(const char* p, char c) {
    const __m128i wanted = _mm_set1_epi8(c);
    std::uint64_t bits = 0;
    for (int i = 0; i < 4; ++i) {
        const auto octets = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * i));
        const auto some = static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(octets, wanted)));
        bits |= static_cast<std::uint64_t>(some) << (16 * i);
    }
    return bits;
}
#else
std::uint64_t mask(const char* p, char c) {
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < block; ++i) bits |= static_cast<std::uint64_t>(p[i] == c) << i;
    return bits;
}
#endif

}  // namespace

std::size_t TextDecoder::lead(std::size_t size) const {
    const std::size_t withheld = state_ == State::dot_cr ? 1 : 0;  // its CR may yet turn out to be text
    return policy_ == BareLineEnds::normalize ? size + 2 : withheld;
}

// One octet; the only place that knows the rules.
char* TextDecoder::step(char c, char* out) {
    if (state_ == State::dot_cr) {
        *out++ = '\r';
        state_ = State::cr;
    }
    if (state_ == State::cr) {
        if (c == '\n') {
            *out++ = '\n';
            state_ = State::start;
            return out;
        }
        bare_ = true;
        if (policy_ == BareLineEnds::normalize) *out++ = '\n';
        state_ = State::line;
    }
    if (state_ == State::start && c == '.' && dots_) {
        state_ = State::dot;
        return out;
    }
    if (c == '\r') {
        if (state_ == State::dot) {
            state_ = State::dot_cr;
            return out;
        }
        state_ = State::cr;
        *out++ = c;
        return out;
    }
    if (c == '\n') {
        bare_ = true;
        if (policy_ == BareLineEnds::normalize) *out++ = '\r';
    }
    // A line begins behind CRLF only, for input: what is normalized makes lines in the output alone.
    state_ = State::line;
    *out++ = c;
    return out;
}

TextDecoder::Result TextDecoder::decode(const char* in, std::size_t size, char* out) {
    char* o = out;
    std::size_t i = 0;
    auto copy = [&](std::size_t from, std::size_t to) {
        if (o != in + from && to > from) std::memmove(o, in + from, to - from);
        o += to - from;
    };
    while (i < size) {
        // Whole blocks, as long as nothing happens in them but CRLF and undone dots.
        if (size - i >= block && state_ <= State::cr) {
            std::size_t kept = i;  // [kept, i) is still to be copied
            std::uint64_t after_cr = state_ == State::cr, at_start = state_ == State::start;
            bool event = false;
            while (!event && size - i >= block) {
                const auto cr = mask(in + i, '\r'), lf = mask(in + i, '\n');
                const auto lone = lf ^ (cr << 1 | after_cr);
                const auto starts = lf << 1 | at_start;
                auto dots = dots_ ? mask(in + i, '.') & starts : 0;
                std::size_t good = lone ? std::countr_zero(lone) : block;
                for (; dots; dots &= dots - 1) {
                    const auto at = static_cast<std::size_t>(std::countr_zero(dots));
                    if (at >= good) break;
                    // Surely no end of the text, and no CR to be withheld: undone on the spot.
                    if (i + at + 1 < size && in[i + at + 1] != '\r') {
                        copy(kept, i + at);
                        kept = i + at + 1;
                    } else {
                        good = at;
                    }
                }
                event = good < block;
                if (good > 0) {
                    after_cr = cr >> (good - 1) & 1;
                    at_start = lf >> (good - 1) & 1;
                }
                i += good;
            }
            copy(kept, i);
            // A dot undone as the very last octet of the blocks leaves a line begun.
            state_ = after_cr ? State::cr : at_start ? State::start : State::line;
            if (i == size) break;
        }
        if (state_ == State::dot_cr && in[i] == '\n') {
            state_ = State::start;
            return {i + 1, std::size_t(o - out), true};
        }
        o = step(in[i++], o);
    }
    return {size, std::size_t(o - out), false};
}

std::string_view TextDecoder::finish() {
    if (state_ != State::cr) return {};
    bare_ = true;
    state_ = State::line;
    return policy_ == BareLineEnds::normalize ? "\n" : "";
}

void append_stuffed(std::string& out, std::string_view text, bool& at_start) {
    const char* const p = text.data();
    std::size_t kept = 0, i = 0;
    std::uint64_t starts_next = at_start;
    for (; i + block <= text.size(); i += block) {
        const auto lf = mask(p + i, '\n');
        for (auto dots = mask(p + i, '.') & (lf << 1 | starts_next); dots; dots &= dots - 1) {
            const auto at = i + static_cast<std::size_t>(std::countr_zero(dots));
            out.append(p + kept, at - kept);
            out += '.';
            kept = at;
        }
        starts_next = lf >> 63;
    }
    for (; i < text.size(); ++i) {
        if (starts_next && p[i] == '.') {
            out.append(p + kept, i - kept);
            out += '.';
            kept = i;
        }
        starts_next = p[i] == '\n';
    }
    out.append(p + kept, text.size() - kept);
    at_start = starts_next;
}

bool bare_line_ends(std::string_view text, bool& after_cr) {
    const char* const p = text.data();
    std::size_t i = 0;
    std::uint64_t after = after_cr;
    for (; i + block <= text.size(); i += block) {
        const auto cr = mask(p + i, '\r');
        if (mask(p + i, '\n') ^ (cr << 1 | after)) return true;
        after = cr >> 63;
    }
    for (; i < text.size(); ++i) {
        if ((p[i] == '\n') != (after != 0)) return true;
        after = p[i] == '\r';
    }
    after_cr = after;
    return false;
}

}  // namespace Net::SMTP
