// ScriptedClient -- the client's end of a dialogue with a server under test: says octets, expects replies.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "../Endpoint.hpp"
#include "../TLS.hpp"
#include "Failure.hpp"
#include "Octets.hpp"
#include "Pace.hpp"

namespace Net::SMTP::Test {

class Wire;

// Knows nothing of SMTP but what a reply looks like, so it can say anything. It is strict about what it hears: lines
// end in CRLF and are no longer than 512 octets, hold no control character, and make whole replies. Every wait ends:
// after `within` where it is given, else after `patience`. What was expected and does not come is a Failure with the
// transcript. One thread; moves, never copies.
class ScriptedClient {
public:
    using milliseconds = std::chrono::milliseconds;
    using Within = std::optional<milliseconds>;

    // Connects to "127.0.0.1:25", "[::1]:25", "localhost:25" or "unix:/path". Failure when nobody takes the connection.
    explicit ScriptedClient(const std::string& address, milliseconds within = std::chrono::seconds(10));
    explicit ScriptedClient(const Endpoint& address, milliseconds within = std::chrono::seconds(10));
    // A connected descriptor; owned from now on.
    explicit ScriptedClient(int fd);
    ~ScriptedClient();
    ScriptedClient(ScriptedClient&&) noexcept;
    ScriptedClient& operator=(ScriptedClient&&) noexcept;

    // One end of a socketpair, and the other one's descriptor, which is the caller's: give it to a Connection or to the
    // program under test. std::system_error when the system has none.
    static std::pair<ScriptedClient, int> pair();

    milliseconds patience{10'000};

    // ---- saying ----

    // False when the other side no longer takes it: it may answer first and leave, so only the next reply tells whether
    // that is right. Failure when it does not read.
    bool send(std::string_view octets, const Pace& pace = Pace::groups);
    // The same for a line; CRLF is added.
    bool say(std::string_view line) { return send(std::string(line) + "\r\n"); }

    // Ends our direction and still hears the other.
    void half_close();
    // As if the machine had died: what is unread is thrown away, and over TCP the other side hears a reset.
    void reset();
    void close();

    // ---- hearing ----

    // What comes next in one piece; "" at the end.
    std::string receive(Within within = {});
    // One line, without its CRLF.
    std::string line(Within within = {});
    // A whole reply, its lines joined by '\n'.
    std::string reply(Within within = {});
    // A reply that begins so: "250", "250 2.1.0", "501 5.5.4 Syntax". The first line is compared, "250-" as "250 ".
    std::string expect(std::string_view beginning, Within within = {});
    // Says the line, hears a reply, gives its code.
    int ask(std::string_view line);
    // The end, and nothing before it.
    void expect_end(Within within = {});
    // Nothing comes for so long, not even the end.
    void expect_silence(milliseconds time = milliseconds(150));

    // Plays a dialogue, a step in each line; blanks in front of it, empty lines and those that begin with // do not
    // count. Escapes as unescaped() has them.
    //
    //     S: 250            any 250 reply, of one line or many; "S: 250 2.1.0 Send" begins so
    //     S: 250-SIZE       one line of a reply, and so each further line until one without the hyphen
    //     S: EOF            the end, and nothing before it
    //     C: MAIL FROM:<>   says the line; CRLF is added
    //     c: half a li      says the octets as they are
    //     C: EOF            ends our direction
    //     C: RESET          reset()
    //
    // What the client says from one S: to the next goes out as `pace` says. With Pace::at_once all that stands before
    // the first RESET is said before anything is heard. std::invalid_argument names a line that is no step, before
    // anything is said.
    void play(std::string_view script, const Pace& pace = Pace::groups);

    // Encrypts from here on, after STARTTLS was answered or from the start: runs the handshake of a layer for fd(), a
    // ClientTLS's for example. Failure when it fails, or when something came in the clear behind the last reply.
    void encrypt(std::unique_ptr<TLSLayer> layer);
    // What was agreed on; null in the clear.
    const TLS* tls() const;

    // ---- what was said ----

    int fd() const;
    // Every octet of the other side that was read.
    const std::string& heard() const;
    // Both sides' lines, for a person to read.
    const std::string& transcript() const;
    // Throws Failure(what) with the transcript.
    [[noreturn]] void fail(const std::string& what) const;

private:
    struct State;
    std::unique_ptr<State> state_;
    std::chrono::steady_clock::time_point end_of(Within) const;
    std::string receive_until(std::chrono::steady_clock::time_point);
    std::string line_until(std::chrono::steady_clock::time_point);
    std::string reply_until(std::chrono::steady_clock::time_point);
};

}  // namespace Net::SMTP::Test
