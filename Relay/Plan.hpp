// Plan -- which recipients travel together, and what was opened for them while the client still named them; for our own
// .cpp files only, it is not installed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "Relay.hpp"
#include "Transfer.hpp"

namespace Net::SMTP {

// How the message came, as far as it decides where it goes.
struct Arrival {
    std::string hostname;              // of the server, if any
    Endpoint local{};                  // where it came in
    std::shared_ptr<Shared> server{};  // whose drain ends the waits
    bool each = false;                 // its sender hears a verdict for each recipient
    std::string session{};             // the id of the client's session; "" if there is none
};

// Whether there is any way for mail with these options.
bool routed(const Relay::Options&);
// What recipients that travel together have in common: "via HOST", or by MX the domain in small letters.
std::string destination(const Relay::Options&, const Recipient&);
// Options::host, taken apart; std::invalid_argument.
Upstream smart_host(const Relay::Options&);
std::unique_ptr<Transfer> make_transfer(const Relay::Options&, const std::string& destination, const Arrival&,
                                        Deadline end);
// What we call ourselves.
std::string our_name(const Relay::Options&, const std::string& received_by);
// As our client may hear it. 421 says that whoever says it closes the connection (RFC 5321 3.8): the next hop does, we
// do not. What is wrong with our commands (500 to 504, 555) is not wrong with the client's, nor to be counted against
// him; nor is who we are there (530 to 538).
Reply passed_on(Reply);
// Whether a next hop's reply is about TLS or a login, which it wants or we could not have: the client can't help it.
bool ours_to_mend(const Reply&);

inline const Reply too_many_domains{452, "4.5.3", "Too many domains in one transaction"};

// Recipients of one destination and the transaction for them.
struct Group {
    std::string destination;
    std::vector<std::size_t> members;  // as the Relay counts them
    std::unique_ptr<Transfer> transfer;
};

// The transactions that were opened during RCPT. It travels in the message's baggage and gives up with it what nobody
// has taken out.
struct Ahead {
    Sender from;
    std::vector<Group> groups;  // members are not used here

    Reply ask(const Relay::Options&, const Arrival&, const Sender&, const Recipient&);
    // The transaction for just these recipients of the destination; null if what was asked about is something else, or
    // with another TLS or login.
    std::unique_ptr<Transfer> take(const Relay::Options&, const std::string& destination, const Sender&,
                                   const std::vector<Recipient>&);
};
using AheadPointer = std::shared_ptr<Ahead>;

}  // namespace Net::SMTP
