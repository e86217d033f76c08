// Target -- a place where mail ends that is not SMTP: a Maildir, a command, one of the program's own.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "../Server/Address.hpp"
#include "../Server/Message.hpp"
#include "../Server/Reply.hpp"
#include "../Server/Wait.hpp"

namespace Net::SMTP {

// Takes messages for good. It knows nothing of custody: give it to a Relay (Relay::Options::target), which speaks to
// the sender for it. Several threads may deliver at once.
class Target {
public:
    virtual ~Target() = default;

    // Delivers to each recipient; one reply for each, in their order. A positive reply means that the mail is safe
    // there. `head` is whole header fields to go in front of the text, such as Received. Whatever happens is over when
    // `wait` is. What it throws counts as 451 4.3.0 for all.
    virtual std::vector<Reply> deliver(const Sender& from, std::span<const Recipient> to, const Message& message,
                                       const std::string& head, const Wait& wait) = 0;

    // What results call it: "maildir:/var/mail/me".
    virtual std::string name() const = 0;

protected:
    Target() = default;
    Target(const Target&) = default;
    Target& operator=(const Target&) = default;
};

}  // namespace Net::SMTP
