// Act -- what a scripted server does when it is its turn to speak: a reply, or something else.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "../Reply.hpp"
#include "../TLS.hpp"
#include "Pace.hpp"

namespace Net::SMTP::Test {

// A value; acts are put together with then(): Act(Reply{250, "", "ok"}).after(100ms).then(Act::close()). After it the
// server goes on with the next command, unless the act ends the connection.
class Act {
public:
    using milliseconds = std::chrono::milliseconds;

    // A correct reply; a Reply becomes an Act by itself. 421 does not close: that takes .then(Act::close()).
    // std::invalid_argument when the code is not 200 to 599.
    Act(const Reply& reply);
    // Exactly these octets, whatever they are.
    static Act raw(std::string octets);
    // A reply of that code with so many octets in lines that are short enough: right in all but its size.
    static Act long_reply(int code, std::size_t octets);
    // Says nothing and goes on: every later reply is taken for the one before.
    static Act nothing();
    static Act wait(milliseconds);
    // Closes when the other side has what was said; what it still sends is read away for a second at most.
    static Act close();
    // As if the machine had died: what is unread on either side is lost, and over TCP the other side hears a reset.
    static Act reset();
    // Reads on, and says nothing any more until the other side leaves.
    static Act stall();
    // Waits until the other side says something, and forgets what has come so far: a TLS handshake's begin, mostly.
    static Act swallow();
    // Runs TLS's handshake, of a ServerTLS for example; everything goes through it from then on, both ways. What the
    // client sent before, and nobody has read yet, is forgotten. Act(Reply{220, "", "go"}).then(Act::encrypt(tls)) is
    // an answer to STARTTLS, and on("", Act::encrypt(tls).then(greeting)) implicit TLS. A handshake that fails ends the
    // connection.
    static Act encrypt(std::shared_ptr<TLSAcceptor> tls);
    // Until the other side leaves: this line again and again; octets of a line that does not end.
    static Act endless_lines(std::string line = "250-and so on\r\n");
    static Act endless_line(std::string beginning = "250 ");

    Act then(const Act& next) const;
    // The same, so much later.
    Act after(milliseconds) const;
    // The same, its octets cut as `pace` says.
    Act paced(const Pace& pace) const;

private:
    friend class ScriptedServer;
    struct Step {
        enum class Kind { say, wait, close, reset, stall, swallow, encrypt, repeat };
        Kind kind = Kind::say;
        std::string octets{};
        milliseconds time{0};
        Pace pace{};
        std::shared_ptr<TLSAcceptor> tls{};
    };
    Act() = default;
    explicit Act(Step step) : steps_{std::move(step)} {}
    std::vector<Step> steps_;
};

}  // namespace Net::SMTP::Test
