// Reply -- what a server says: a code, an enhanced status, a text.
#pragma once

#include <exception>
#include <string>
#include <string_view>

namespace Net::SMTP {

// One answer (RFC 5321 4.2). A value: build it, compare it, return it; only a session puts it on the wire.
struct Reply {
    int code = 250;
    std::string status;  // RFC 3463, "5.1.1"; empty when there is none
    std::string text;    // lines separated by '\n'

    bool positive() const { return code >= 200 && code < 400; }
    bool temporary() const { return code >= 400 && code < 500; }
    bool permanent() const { return code >= 500 && code < 600; }

    // "550 5.1.1 No such user", lines joined by '\n', without line ends of the wire. For logs and tests.
    std::string str() const;

    // Appends the octets of the wire. Whatever the text holds, no line is longer than 512 octets with its CRLF,
    // there are at most 100 lines, and no CR, LF or other control gets through: '\n' begins a line, the rest become
    // blanks. A code outside 200-599 goes out as 451. The status is left out unless `statuses`, or where RFC 2034 has
    // none. What stands in its place and is none is the text, where there is no other: {550, "No such user"}.
    void append_to(std::string& out, bool statuses = true) const;

    bool operator==(const Reply&) const = default;
};

// Which of two answers the sender must hear when both speak of one mail: later (4xx) before never (5xx) before taken.
const Reply& worse(const Reply& a, const Reply& b);

// True for "2.1.5" and the like: class 2, 4 or 5, then two numbers of at most three digits.
bool valid_status(std::string_view status);

// Whether it is well-formed UTF-8 (RFC 3629: no surrogates, nothing over-long).
bool valid_utf8(std::string_view);

// Thrown by a hook or a handler to refuse with this answer; the session goes on.
class Reject : public std::exception {
public:
    // std::invalid_argument unless the code is 400 to 599.
    explicit Reject(Reply reply);
    const Reply& reply() const noexcept { return reply_; }
    const char* what() const noexcept override { return what_.c_str(); }

private:
    Reply reply_;
    std::string what_;
};

// The same, and the connection is closed after the answer.
class Hangup : public Reject {
public:
    using Reject::Reject;
};

}  // namespace Net::SMTP
