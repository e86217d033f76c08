// Relay -- forwards a message to a next hop, now, and says what became of it.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "../Server/Address.hpp"
#include "../Server/Fields.hpp"
#include "../Server/Message.hpp"
#include "../Server/Reply.hpp"
#include "../Server/Resolver.hpp"
#include "../Server/Server.hpp"
#include "ClientTLS.hpp"
#include "HostFailures.hpp"
#include "Login.hpp"
#include "Session.hpp"
#include "SessionCache.hpp"
#include "Target.hpp"

namespace Net::SMTP {

// One synchronous delivery; it is over when the constructor returns. All or nothing: unless every recipient is accepted
// nobody gets the message, so the sender's next try duplicates nothing. Only what is decided after the text can be
// mixed: several domains, LMTP, targets (see results()). It takes the message for its recipients when the next hop has
// it, and refuses it in the next hop's own words otherwise (see Custody): nothing needs to be done with the results.
// Nothing of an address, a parameter or a text can become a command on the way; what could is refused.
class Relay {
public:
    // Where to, in this order: `target`, `host`, by MX with `resolver`; without any of them 451 4.4.4 No route.
    struct Options {
        // The smart host: "HOST", "HOST:PORT" (25; 465 with implicit TLS), "[IPv6]:PORT", "unix:/path", with "lmtp:" in
        // front of it (24) if LMTP is spoken there. Every address of a name is tried, those that `resolver` finds if
        // there is one.
        std::string host{};
        // By MX (RFC 5321 5.1): the hosts in the order of their preference, equal ones shuffled, all their addresses;
        // the next one where one can't be reached or says 4xx. Domains without MX are their own host, address literals
        // are taken at their word; null MX is 556 5.1.10, a domain that does not exist 550 5.1.2, and a DNS that does
        // not answer 451 4.4.3.
        std::shared_ptr<Resolver> resolver{};
        std::uint16_t mx_port = 25;  // of hosts found by MX, and of address literals
        std::shared_ptr<Target> target{};
        // Of the smart host, and of hosts by MX. What can't be had of what it asks for is 451 4.7.5, and the next host
        // is asked. std::invalid_argument for what can never be: `dane` without `resolver` or of an address literal,
        // any TLS that is required over a Unix socket.
        ClientTLS tls{};
        // Who we are at the smart host. Before it is told anything of a mail AUTH must have gone well; what fails is
        // 451 4.7.8, and 451 4.7.5 where there is no mechanism. After a refusal for good (5xx) no other address is
        // tried: each failure counts where accounts are locked. Not by MX: std::invalid_argument.
        std::shared_ptr<Login> login{};
        std::string hostname{};  // what we call ourselves. Empty: as the message was received, else the system's name
        std::chrono::seconds total{240};  // for everything together; a sender waits for 600 (RFC 5321 4.5.3.2.6)
        Patience patience{};              // for each step
        bool received = true;  // adds a Received field (RFC 5321 4.4), if it is due: see Message::own_received()
        std::size_t max_hops = usual_max_hops;  // of the message, see hops(); from there on 554 5.4.6 (RFC 5321 6.3).
                                                // 0: they are not counted
        bool partial = false;          // delivers to those who are accepted though others are refused. By LMTP it
                                       // is always so; by SMTP the sender then hears 451 and tries again for all
        bool at_rcpt = false;          // see attach()
        bool one_domain = false;       // see attach()
        std::size_t max_domains = 20;  // by MX, in one message: each has a connection. From there on 452 4.5.3
        bool chunking = true;          // uses BDAT (RFC 3030) where it is offered. It has no "go on": a next hop that
                                       // answers twice, the second time late, could seem to take what it refuses;
                                       // without it BDAT is for binary texts only
        std::shared_ptr<SessionCache> sessions{};  // keeps connections for the next message; empty: one for each
        // Knows hosts that others could not be connected to: they are passed over, and where there is no other host the
        // reply is what was said then, at once. Empty: each is tried.
        std::shared_ptr<HostFailures> failures{};
        // Whole fields with their CRLF to go in front of the text, in place of a Received of our own, which is then in
        // it if there is to be one. std::invalid_argument for what is something else. "": see `received`.
        std::string head{};
        // Hears what is said to next hops and by them: Transcript::next_hops(). A conversation that was begun during
        // RCPT is heard by the transcript of the options that were attached.
        Overhear transcript{};
    };

    struct Result {
        Recipient recipient;
        Reply reply;             // the next hop's, or ours when it did not get that far
        std::string host;        // who said it, or could not be reached (451 4.4.1): "192.0.2.1:25",
                                 // "mx.example.org[192.0.2.1]:25"; empty when there was nobody to ask
        std::string tls{};       // "TLSv1.3 TLS_AES_256_GCM_SHA384, verified"; empty: in the clear, or not connected
        bool in_doubt = false;   // the end was sent and no answer came: the next hop may have the mail (RFC 1047)
        bool held_back = false;  // was accepted, but not sent to because of another, whose reply and host these are
        // It was delivered to a next hop that offers DSN, and was told NOTIFY, ORCPT, RET and ENVID as they were said:
        // what is to be told to the sender from now on is its duty (RFC 3461 5.2.1). Otherwise whoever wanted to hear
        // of a success is owed a notice that it was "relayed", by us (5.2.2); but none of a target, nor by LMTP, where
        // it was delivered.
        bool notifies = false;
        bool delivered() const { return reply.positive(); }
    };

    // Delivers. std::invalid_argument names an option that makes no sense; std::logic_error when the sender of
    // `message` was answered already: before anything is connected. Whatever hosts and networks do is in the results.
    Relay(const Sender& from, const std::vector<Recipient>& to, const Message& message, const Options& options);
    // Without a route: 451 4.4.4 for everybody.
    Relay(const Sender& from, const std::vector<Recipient>& to, const Message& message);

    // One for each recipient, in their order. Who was accepted, but not sent to because of another, has the worst reply
    // and is `held_back`. A second try by the program begins with client.reconsider(). If some have the message and
    // others don't, a sender who can hear only one answer (not by LMTP) hears 451 for it all, and Event::Trouble tells
    // the program.
    const std::vector<Result>& results() const { return results_; }
    // Whether all of them are; so also when there are none.
    bool delivered() const;

    // For a server whose mail will be relayed with the same options. With `at_rcpt` the next hop is asked during each
    // RCPT, so that each recipient hears its own answer, and the Relay of that message goes on with the connection.
    // With `one_domain` recipients of a second domain hear 452 4.5.3 and come in a transaction of their own; those of
    // more than `max_domains` hear it by MX in any case.
    static void attach(Server& server, const Options& options);

    // What the smart host offers in EHLO, asked now with the TLS that a mail would have, and without a login. Nothing
    // of it when it can't be reached; `failure` says why then.
    static Offer offered(const Options& options, Reply* failure = nullptr);

private:
    void deliver(const Sender&, const std::vector<Recipient>&, const Message&, const Options&);
    void deliver_to_target(const Sender&, const std::vector<Recipient>&, const Message&, const Options&);
    void settle(const Message&) const;
    void all(const Reply&, const std::string& host);
    std::vector<Result> results_;
};

}  // namespace Net::SMTP
