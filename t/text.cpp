// text -- tests of TextDecoder and its kin: however cut, every text decodes as it should, and no false end ends it.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "../Server/Text.hpp"

using namespace Net::SMTP;
using namespace std::string_literals;
using Dots = TextDecoder::Dots;

namespace {

constexpr BareLineEnds policies[] = {BareLineEnds::reject, BareLineEnds::normalize, BareLineEnds::accept};

struct Decoded {
    std::string text;
    std::size_t consumed = 0;
    bool done = false, bare = false;
    bool operator==(const Decoded&) const = default;
};

// What is to come out, told octet by octet with all of the input in sight.
Decoded reference(const std::string& wire, BareLineEnds policy, Dots dots) {
    Decoded d;
    for (std::size_t i = 0; i < wire.size(); ++i) {
        const bool starts_line = i == 0 || (i >= 2 && wire[i - 2] == '\r' && wire[i - 1] == '\n');
        if (dots == Dots::stuffed && starts_line && wire[i] == '.') {
            if (wire.compare(i, 3, ".\r\n") == 0) return d.consumed = i + 3, d.done = true, d;
            if (wire.compare(i, std::string::npos, ".\r") == 0) break;  // the next octet will tell
            continue;
        }
        const bool lone_cr = wire[i] == '\r' && i + 1 < wire.size() && wire[i + 1] != '\n';
        const bool lone_lf = wire[i] == '\n' && (i == 0 || wire[i - 1] != '\r');
        d.bare |= lone_cr || lone_lf;
        if (lone_lf && policy == BareLineEnds::normalize) d.text += '\r';
        d.text += wire[i];
        if (lone_cr && policy == BareLineEnds::normalize) d.text += '\n';
    }
    d.consumed = wire.size();
    return d;
}

// Where the output goes: apart, or in front of the input as Body has it, or still farther in front.
enum class Place { apart, tight, loose };

// Decodes in segments of what `next` says. The buffers are as small as the promise of lead() allows, for the sanitizer.
template <class Next>
Decoded decode(const std::string& wire, BareLineEnds policy, Dots dots, Place place, Next next) {
    TextDecoder decoder(policy, dots);
    Decoded d;
    while (d.consumed < wire.size() && !d.done) {
        const auto size = std::min<std::size_t>(next(), wire.size() - d.consumed);
        const auto lead = decoder.lead(size) + (place == Place::loose ? 7 : 0);
        std::vector<char> buffer(lead + size), apart(2 * size + 2);
        char* const in = buffer.data() + lead;
        std::copy_n(wire.data() + d.consumed, size, in);
        char* const out = place == Place::apart ? apart.data() : buffer.data();
        const auto r = decoder.decode(in, size, out);
        if (r.consumed > size || (!r.done && r.consumed != size) ||
            !std::equal(in + r.consumed, in + size, wire.data() + d.consumed + r.consumed))
            return {"the rest of the input was damaged", 0, false, false};
        d.text.append(out, r.produced);
        d.consumed += r.consumed;
        d.done = r.done;
    }
    d.bare = decoder.bare();
    return d;
}

std::string shown(const std::string& text) {
    std::string out;
    for (char c : text) out += c == '\r' ? "\\r" : c == '\n' ? "\\n" : c == '\0' ? "\\0" : std::string(1, c);
    return out;
}

// Every policy, both modes, these segmentations; "" or what went wrong first.
template <class Next>
std::string differs(const std::string& wire, Place place, Next next) {
    for (auto policy : policies)
        for (auto dots : {Dots::stuffed, Dots::plain}) {
            const auto expected = reference(wire, policy, dots), got = decode(wire, policy, dots, place, next);
            if (got == expected) continue;
            return "policy " + std::to_string(int(policy)) + (dots == Dots::plain ? " plain: " : " stuffed: ") +
                   shown(wire) + " -> " + shown(got.text) + " (" + std::to_string(got.consumed) +
                   (got.done ? ", done" : "") + (got.bare ? ", bare" : "") + "), not " + shown(expected.text) + " (" +
                   std::to_string(expected.consumed) + (expected.done ? ", done" : "") +
                   (expected.bare ? ", bare" : "") + ")";
        }
    return "";
}

auto always(std::size_t n) {
    return [n] { return n; };
}

// All texts of this length over an alphabet.
template <class Each>
void all_texts(std::size_t length, std::string_view alphabet, Each each) {
    std::string text(length, alphabet[0]);
    std::vector<std::size_t> index(length);
    for (;;) {
        each(text);
        std::size_t i = 0;
        while (i < length && ++index[i] == alphabet.size()) text[i] = alphabet[index[i] = 0], ++i;
        if (i == length) return;
        text[i] = alphabet[index[i]];
    }
}

std::string random_text(std::mt19937& random, std::size_t most) {
    static const std::string pieces[] = {"a",  ".",       "\r\n",  "\r\n.",   "\r\n..",  "\r\n.a", "\r",
                                         "\n", "\r\n.\r", ".\r\n", "\n.\r\n", "\r\n.\n", "\r.\r"};
    const auto wanted = random() % (most + 1);
    const bool clean = random() % 3 == 0, filled = random() % 2;
    std::string text;
    while (text.size() < wanted) {
        text += pieces[random() % (clean ? 6 : std::size(pieces))];
        if (filled && random() % 3 == 0) text += std::string(random() % 130, random() % 4 ? 'a' : '.');
    }
    return text;
}

}  // namespace

TEST_CASE("every short text decodes as the RFC says, whole and an octet at a time") {
    for (std::size_t length = 0; length <= 7; ++length)
        all_texts(length, "\r\n.a", [&](const std::string& text) {
            for (auto place : {Place::apart, Place::tight}) {
                if (auto what = differs(text, place, always(length + 1)); !what.empty()) FAIL_CHECK(what);
                if (auto what = differs(text, place, always(1)); !what.empty()) FAIL_CHECK(what);
            }
        });
}

TEST_CASE("every short text decodes the same where blocks of 64 octets meet") {
    for (std::size_t before : {57, 58, 59, 60, 61, 62, 63, 64, 125, 128})
        all_texts(6, "\r\n.a", [&](const std::string& text) {
            for (const auto* start : {"a", "\r\n"}) {
                auto whole = start + std::string(before - 1, 'a') + text;
                if (auto what = differs(whole, Place::tight, always(1000)); !what.empty()) FAIL_CHECK(what);
                whole += std::string(70, 'a');
                if (auto what = differs(whole, Place::tight, always(1000)); !what.empty()) FAIL_CHECK(what);
            }
        });
    // A block of line ends and dots alone.
    for (const auto* unit : {"\r\n", "\r\n.", "\r\n..", ".", "\r", "\n", ".\r\n.", "\n\r", "..\r\n"})
        for (std::size_t shift = 0; shift < 4; ++shift) {
            std::string text(shift, '.');
            while (text.size() < 200) text += unit;
            for (std::size_t size : {1, 63, 64, 65, 1000})
                if (auto what = differs(text, Place::tight, always(size)); !what.empty()) FAIL_CHECK(what);
        }
}

TEST_CASE("a text cut anywhere in two decodes the same") {
    std::mt19937 random(2);
    for (int round = 0; round < 300; ++round) {
        const auto text = random_text(random, 200);
        for (std::size_t at = 1; at < text.size(); ++at) {
            bool first = true;
            auto next = [&] { return std::exchange(first, !first) ? at : text.size(); };
            for (auto policy : policies) {
                first = true;
                if (decode(text, policy, Dots::stuffed, Place::tight, next) != reference(text, policy, Dots::stuffed))
                    FAIL_CHECK(shown(text) << " cut at " << at);
            }
        }
    }
}

TEST_CASE("random texts in random segments decode the same, apart and in place") {
    std::mt19937 random(3);
    for (int round = 0; round < 12'000; ++round) {
        const auto text = random_text(random, round % 10 ? 300 : 3000);
        for (auto place : {Place::apart, Place::tight, Place::loose}) {
            const std::size_t most = 1 + random() % (random() % 2 ? 8 : 200);
            auto next = [&] { return 1 + random() % most; };
            if (auto what = differs(text, place, next); !what.empty()) FAIL_CHECK(what);
        }
        for (std::size_t size : {1, 63, 64, 65, 4096})
            if (auto what = differs(text, Place::tight, always(size)); !what.empty()) FAIL_CHECK(what);
    }
}

TEST_CASE("octets of any value are kept") {
    std::mt19937 random(4);
    for (int round = 0; round < 500; ++round) {
        std::string text(random() % 500, ' ');
        for (auto& c : text) c = char(random());
        const auto size = 1 + random() % 130;
        if (auto what = differs(text, Place::tight, always(size)); !what.empty()) FAIL_CHECK(what);
    }
}

TEST_CASE("nothing but CRLF.CRLF ends a text") {
    for (const std::string& end : {"\n.\n"s,
                                   "\n.\r\n"s,
                                   "\r\n.\n"s,
                                   "\r.\r"s,
                                   "\r\n.\r"s,
                                   "\r\n.\r\r\n"s,
                                   "\r.\r\n"s,
                                   "\n.\r"s,
                                   "\r.\n"s,
                                   "\r\n.\n\r\n"s,
                                   "\r\n\0.\r\n"s,
                                   "\r\n.\0\r\n"s,
                                   "\r\n.\r\0\n"s,
                                   "\r\0\n.\r\n"s,
                                   "\0.\r\n"s,
                                   "\r\n. \r\n"s,
                                   "\r\n.\t\r\n"s,
                                   "\r\n .\r\n"s,
                                   "\r\n..\r\n"s,
                                   "\n\r.\r\n"s,
                                   "\n\r.\n\r"s,
                                   "\r\r.\r\n"s,
                                   "\n\n.\r\n"s,
                                   "\r\n\r.\r\n"s,
                                   "\r\n\n.\r\n"s,
                                   "\r\n.\r\n\0"s.substr(0, 4),
                                   "\v.\r\n"s,
                                   "\f.\r\n"s,
                                   "\x85.\r\n"s,
                                   "\u2028.\r\n"s,
                                   "\r\n\u3002\r\n"s,
                                   "\r\n.\v\r\n"s,
                                   "\r\n\x7F.\r\n"s,
                                   "\r\n.\b.\r\n"s,
                                   "\r\n\xEF\xBB\xBF.\r\n"s}) {
        CAPTURE(shown(end));
        const auto text = "some text" + end + "MAIL FROM:<smuggled@example.org>\r\n";
        for (auto policy : policies)
            for (std::size_t before : {0, 40, 50, 53, 54, 55, 56})
                for (std::size_t size : {1, 2, 3, 5, 64, 1000}) {
                    const auto wire = std::string(before, 'a') + text;
                    CHECK(!decode(wire, policy, Dots::stuffed, Place::tight, always(size)).done);
                    const auto whole =
                        decode(wire + ".\r\nQUIT\r\n", policy, Dots::stuffed, Place::tight, always(size));
                    CHECK(whole.done);
                    CHECK(whole.consumed == wire.size() + 3);
                }
    }
}

TEST_CASE("a text ends at its first CRLF.CRLF, or at once") {
    struct Row {
        std::string wire, text;
        std::size_t consumed;
    };
    const Row rows[] = {
        {".\r\n", "", 3},
        {".\r\n.\r\n", "", 3},
        {".\r\nQUIT\r\n", "", 3},
        {"\r\n.\r\n", "\r\n", 5},
        {"a\r\n.\r\nb\r\n.\r\n", "a\r\n", 6},
        {"..\r\n.\r\n", ".\r\n", 7},
        {".a\r\n.\r\n", "a\r\n", 7},
        {"...\r\n.\r\n", "..\r\n", 8},
        {".\r\n\r\n.\r\n", "", 3},
        {"a.\r\n.\r\n", "a.\r\n", 7},
    };
    for (const auto& r : rows)
        for (auto policy : policies)
            for (std::size_t size : {1, 2, 3, 100}) {
                CAPTURE(shown(r.wire));
                const auto d = decode(r.wire, policy, Dots::stuffed, Place::tight, always(size));
                CHECK(d.done);
                CHECK(!d.bare);
                CHECK(shown(d.text) == shown(r.text));
                CHECK(d.consumed == r.consumed);
            }
}

TEST_CASE("a lone CR or LF is told, normalized or kept, as the policy says") {
    struct Row {
        std::string wire, normalized, accepted;
    };
    const Row rows[] = {
        {"a\nb\r\n", "a\r\nb\r\n", "a\nb\r\n"},
        {"a\rb\r\n", "a\r\nb\r\n", "a\rb\r\n"},
        {"a\r\rb\r\n", "a\r\n\r\nb\r\n", "a\r\rb\r\n"},
        {"a\r\r\n", "a\r\n\r\n", "a\r\r\n"},
        {"a\n\nb\r\n", "a\r\n\r\nb\r\n", "a\n\nb\r\n"},
        {"a\n\rb\r\n", "a\r\n\r\nb\r\n", "a\n\rb\r\n"},
        {"a\r\n\n", "a\r\n\r\n", "a\r\n\n"},
        {"\n", "\r\n", "\n"},
        // A dot behind a lone LF begins no line of the wire: it is text.
        {"a\n.b\r\n", "a\r\n.b\r\n", "a\n.b\r\n"},
        {"a\n..\r\n", "a\r\n..\r\n", "a\n..\r\n"},
        {".\nb\r\n", "\r\nb\r\n", "\nb\r\n"},
        {".\rb\r\n", "\r\nb\r\n", "\rb\r\n"},
        {".\r\r\n", "\r\n\r\n", "\r\r\n"},
    };
    for (const auto& r : rows)
        for (std::size_t size : {1, 2, 100}) {
            CAPTURE(shown(r.wire));
            const auto rejected = decode(r.wire, BareLineEnds::reject, Dots::stuffed, Place::tight, always(size));
            const auto normalized = decode(r.wire, BareLineEnds::normalize, Dots::stuffed, Place::tight, always(size));
            const auto accepted = decode(r.wire, BareLineEnds::accept, Dots::stuffed, Place::tight, always(size));
            CHECK(rejected.bare);
            CHECK(normalized.bare);
            CHECK(accepted.bare);
            CHECK(shown(normalized.text) == shown(r.normalized));
            CHECK(shown(accepted.text) == shown(r.accepted));
        }
}

TEST_CASE("a chunk's dots are dots, and a CR at its very end was alone") {
    struct Row {
        const char* wire;
        bool cr_at_end;
    };
    for (const Row& r : {Row{"", false},
                         {"a\r\n.\r\n", false},
                         {"..\r\n", false},
                         {"a\r", true},
                         {"\r", true},
                         {"a\r\n\r", true},
                         {"a", false}})
        for (auto policy : policies) {
            CAPTURE(shown(r.wire));
            TextDecoder decoder(policy, Dots::plain);
            std::string text = r.wire;
            const auto d = decoder.decode(text.data(), text.size(), text.data());
            CHECK(d.produced == text.size());
            CHECK(!d.done);
            CHECK(text == r.wire);
            CHECK(!decoder.bare());
            CHECK(decoder.finish() == (r.cr_at_end && policy == BareLineEnds::normalize ? "\n" : ""));
            CHECK(decoder.bare() == r.cr_at_end);
            CHECK(decoder.finish() == "");
        }
}

TEST_CASE("a CR and a LF in two chunks are one line end") {
    TextDecoder decoder(BareLineEnds::normalize, Dots::plain);
    char out[8];
    CHECK(std::string(out, decoder.decode("a\r", 2, out).produced) == "a\r");
    CHECK(std::string(out, decoder.decode("", 0, out).produced) == "");
    CHECK(std::string(out, decoder.decode("\nb", 2, out).produced) == "\nb");
    CHECK(!decoder.bare());
}

TEST_CASE("what is stuffed in any pieces and decoded in any segments is what it was") {
    std::mt19937 random(5);
    static const std::string pieces[] = {"a", ".", "..", "\r\n", "\r\n.", "\r\n..", ".\r\n"};
    for (int round = 0; round < 8000; ++round) {
        std::string body;
        const auto wanted = random() % (round % 10 ? 200 : 4000);
        while (body.size() < wanted) {
            body += pieces[random() % std::size(pieces)];
            if (random() % 4 == 0) body += std::string(random() % 100, char('b' + random() % 3));
        }
        if (!body.empty()) body += "\r\n";

        std::string simple;  // a dot before each line's dot
        for (std::size_t i = 0; i < body.size(); ++i) {
            if (body[i] == '.' && (i == 0 || body[i - 1] == '\n')) simple += '.';
            simple += body[i];
        }
        std::string wire = "354\r\n";
        bool at_start = true;
        const auto most = 1 + random() % 150;
        for (std::size_t i = 0; i < body.size();) {
            const auto n = std::min<std::size_t>(random() % (most + 1), body.size() - i);
            append_stuffed(wire, std::string_view(body).substr(i, n), at_start);
            i += n;
        }
        CHECK(at_start);
        wire.erase(0, 5);
        if (wire != simple) FAIL_CHECK("stuffed otherwise: " << shown(body));
        wire += ".\r\n";
        const auto back =
            decode(wire, BareLineEnds::reject, Dots::stuffed, Place::tight, [&] { return 1 + random() % most; });
        if (back.text != body || !back.done || back.bare || back.consumed != wire.size())
            FAIL_CHECK("not the same: " << shown(body));
    }
}

TEST_CASE("stuffing knows from piece to piece whether a line begins") {
    struct Row {
        bool before;
        const char *text, *out;
        bool after;
    };
    const Row rows[] = {{true, "", "", true},        {false, "", "", false},           {true, ".", "..", false},
                        {false, ".", ".", false},    {true, "a\r\n", "a\r\n", true},   {false, "\n", "\n", true},
                        {true, "a\r", "a\r", false}, {true, "\r\n.", "\r\n..", false}, {true, "..", "...", false}};
    for (const auto& r : rows) {
        CAPTURE(shown(r.text));
        std::string out;
        bool at_start = r.before;
        append_stuffed(out, r.text, at_start);
        CHECK(shown(out) == shown(r.out));
        CHECK(at_start == r.after);
    }
}

TEST_CASE("lone CRs and LFs are found in any pieces") {
    std::mt19937 random(6);
    auto check = [&](const std::string& text, std::size_t most) {
        std::size_t first = text.size();  // the octet that shows it
        for (std::size_t i = text.size(); i-- > 0;) {
            const bool after_cr = i > 0 && text[i - 1] == '\r';
            if ((text[i] == '\n') != after_cr) first = i;
        }
        bool after_cr = false;
        for (std::size_t i = 0; i < text.size();) {
            const auto n = std::min<std::size_t>(1 + random() % most, text.size() - i);
            const bool bare = bare_line_ends(std::string_view(text).substr(i, n), after_cr);
            i += n;
            if (bare != (first < i)) return false;
            if (bare) return true;
            if (after_cr != (text[i - 1] == '\r')) return false;
        }
        return true;
    };
    for (std::size_t length = 1; length <= 7; ++length)
        all_texts(length, "\r\na", [&](const std::string& text) {
            for (std::size_t before : {0, 60, 61, 62, 63, 64}) {
                const auto whole = std::string(before, 'a') + text;
                if (!check(whole, 1000) || !check(whole, 1) || !check(whole + std::string(64, 'a'), 1000))
                    FAIL_CHECK(shown(whole));
            }
        });
    for (int round = 0; round < 20'000; ++round) {
        const auto text = random_text(random, 400);
        if (!check(text, 1 + random() % 200)) FAIL_CHECK(shown(text));
    }
    // One that stands alone, anywhere in an otherwise clean text.
    std::string clean;
    while (clean.size() < 300) clean += "line\r\n";
    bool none = false;
    CHECK(!bare_line_ends(clean, none));
    for (std::size_t at = 0; at <= clean.size(); ++at)
        for (char c : {'\r', '\n'}) {
            auto text = clean;
            text.insert(at, 1, c);
            bool after_cr = false;
            const bool told = bare_line_ends(text, after_cr);
            if (!told && !(at == clean.size() && c == '\r' && after_cr)) FAIL_CHECK(at << " " << int(c));
        }
    bool after_cr = true;
    CHECK(!bare_line_ends("", after_cr));
    CHECK(after_cr);
}
