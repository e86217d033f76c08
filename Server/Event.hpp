// Event -- what happens in a session and may be changed by the program: the list of structs is the manual.
#pragma once

#include <string>
#include <vector>

#include "Address.hpp"
#include "Reply.hpp"
#include "Server.hpp"

namespace Net::SMTP {

// Everything a listener hears (Server::on) derives from this. The references are good during the call only. A
// listener runs on the session's thread, and may refuse by changing `reply`, or by throwing Reject or Hangup. Whatever
// else it throws is 451 4.3.0 to the peer and a Trouble to the program.
struct Event {
    virtual ~Event() = default;

    struct Connect;
    struct TLS;
    struct Helo;
    struct Auth;
    struct Mail;
    struct Rcpt;
    struct Data;
    struct Trouble;
};

// A session begins; `reply` is the greeting. A refusal closes the connection.
struct Event::Connect : Event {
    Connect(Server::Client& c, Reply& r) : client(c), reply(r) {}
    Server::Client& client;
    Reply& reply;
};

// A handshake has ended. After a good one `problem` is empty, client.tls() tells the rest, and a refusal closes the
// connection; after a failed one it closes anyway.
struct Event::TLS : Event {
    TLS(Server::Client& c, const std::string& p, Reply& r) : client(c), problem(p), reply(r) {}
    Server::Client& client;
    const std::string& problem;
    Reply& reply;
};

// HELO, EHLO or LHLO. `offer` is what this session is offered; take away what nobody behind us could keep.
struct Event::Helo : Event {
    Helo(Server::Client& c, std::string& h, Extensions& o, Reply& r) : client(c), helo(h), offer(o), reply(r) {}
    Server::Client& client;
    std::string& helo;
    Extensions& offer;
    Reply& reply;
};

// An attempt to authenticate has ended; `reply` is what the client will hear, after a failure when its delay is over.
// By a positive one `user` becomes client.user(); a refusal makes it a failed attempt.
struct Event::Auth : Event {
    Auth(Server::Client& c, std::string_view m, std::string& u, const std::string& p, const std::string& w, Reply& r)
        : client(c), mechanism(m), user(u), proved(p), reason(w), reply(r) {}
    Server::Client& client;
    std::string_view mechanism;  // "PLAIN"
    std::string& user;           // who it is, or said it was; "" when it got not that far
    const std::string& proved;   // who has proved to be it, where `user` is another whom it may act as; else ""
    const std::string& reason;   // of a failure, for a log; never a secret
    Reply& reply;
};

// MAIL was understood. After a positive reply `sender` is FROM. Whether it is client.user()'s: see OwnSender.
struct Event::Mail : Event {
    Mail(Server::Client& c, Sender& s, Reply& r) : client(c), sender(s), reply(r) {}
    Server::Client& client;
    Sender& sender;
    Reply& reply;
};

// RCPT was understood. After a positive reply `recipient` is the last of TO.
struct Event::Rcpt : Event {
    Rcpt(Server::Client& c, Recipient& t, Reply& r) : client(c), recipient(t), reply(r) {}
    Server::Client& client;
    Recipient& recipient;
    Reply& reply;
};

// The body is about to come, by DATA or the first BDAT: the last moment for client.into().
struct Event::Data : Event {
    Data(Server::Client& c, Reply& r) : client(c), reply(r) {}
    Server::Client& client;
    Reply& reply;
};

// Something went wrong that no peer is told about: a listener or handler threw, recipients of one mail fared
// differently (not by LMTP, where each hears his own).
struct Event::Trouble : Event {
    Trouble(Server::Client* c, std::string w) : client(c), what(std::move(w)) {}
    Server::Client* client;  // null when no session is concerned
    std::string what;
};

}  // namespace Net::SMTP
