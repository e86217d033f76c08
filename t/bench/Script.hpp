// Script -- what a client of the benchmark says in each mode, and the replies it must hear.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

enum class Mode { newconn, keep, pipe, pipe2, bdat };

inline constexpr std::array<std::string_view, 5> mode_names{"newconn", "keep", "pipe", "pipe2", "bdat"};

inline std::string_view name(Mode mode) { return mode_names[static_cast<std::size_t>(mode)]; }

inline std::optional<Mode> mode_named(std::string_view text) {
    const auto found = std::ranges::find(mode_names, text);
    if (found == mode_names.end()) return {};
    return static_cast<Mode>(found - mode_names.begin());
}

struct Expected {
    int code;
    bool taken = false;  // answers the end of a message
};

// One write, and the replies that must come before the next.
struct Step {
    std::string say;
    std::vector<Expected> hear;
    bool begins_message = false;
};

// A connection plays opening and first, then next once for every further message, then closing; one that has no
// message under way can leave with quit.
struct Script {
    std::vector<Step> opening, first, next, closing, quit;
    bool needs_chunking = false;
};

// A message of exactly `size` octets (at least 64), before any dot is doubled. Its lines are text of 70 octets,
// the same with a dot at the start of each ("dots"), or two octets long ("short").
inline std::string message(std::size_t size, std::string_view kind) {
    std::string line = "The quick brown fox jumps over the lazy dog. It sleeps in the warm sun\r\n";
    if (kind == "dots") line.front() = '.';
    if (kind == "short") line = "ab\r\n";
    std::string text = "From: <sender@example.com>\r\nSubject: load\r\n\r\n";
    text.reserve(size + line.size());
    while (text.size() + line.size() + 3 <= size) text += line;
    // The last line takes what is left, so that sizes are exact; it always has an octet before its CRLF.
    if (text.size() < size) text += std::string(size - text.size() - 2, 'z') + "\r\n";
    return text;
}

// RFC 5321 4.5.2: a dot that begins a line is doubled; then the line with the dot alone.
inline std::string as_data(std::string_view text) {
    std::string wire;
    wire.reserve(text.size() + text.size() / 2);
    bool line_start = true;
    for (const char c : text) {
        if (line_start && c == '.') wire += '.';
        wire += c;
        line_start = c == '\n';
    }
    return wire + ".\r\n";
}

// What is played in a mode, with mails of that text; `hello` is the verb of the greeting.
inline Script script(Mode mode, std::string_view text, const std::string& hello = "EHLO") {
    const std::string mail = "MAIL FROM:<sender@example.com>\r\n";
    const std::string rcpt = "RCPT TO:<recipient@example.org>\r\n";
    const std::string data = "DATA\r\n";
    const Step quit{"QUIT\r\n", {{221}}};
    const Expected ok{250}, go_ahead{354}, taken{250, true};

    Script result;
    result.opening = {{"", {{220}}}, {hello + " load.example.com\r\n", {ok}}};
    result.quit = result.closing = {quit};
    result.needs_chunking = mode == Mode::bdat;

    const std::string body = mode == Mode::bdat ? std::string(text) : as_data(text);
    const std::string envelope = mail + rcpt + data;
    switch (mode) {
        case Mode::newconn:
        case Mode::keep: result.next = {{mail, {ok}, true}, {rcpt, {ok}}, {data, {go_ahead}}, {body, {taken}}}; break;
        case Mode::pipe: result.next = {{envelope, {ok, ok, go_ahead}, true}, {body, {taken}}}; break;
        case Mode::pipe2:
            result.first = {{envelope, {ok, ok, go_ahead}, true}};
            result.next = {{body + envelope, {taken, ok, ok, go_ahead}, true}};
            result.closing = {{body + quit.say, {taken, quit.hear.front()}}};
            return result;
        case Mode::bdat: {
            const std::string chunk = "BDAT " + std::to_string(body.size()) + " LAST\r\n";
            result.next = {{mail + rcpt + chunk + body, {ok, ok, taken}, true}};
            break;
        }
    }
    result.first = result.next;
    return result;
}
