// Event -- what happens in a server and may be changed by the program: the list of structs is the manual.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "Address.hpp"
#include "Endpoint.hpp"
#include "Reply.hpp"
#include "Server.hpp"

namespace Net::SMTP {

class Message;
class Pipeline;
class Plugin;

// Everything that plugins and listeners hear (Server::on, Pipeline) derives from this, the program's own events too.
// The references are good during the call only. What has a `reply` asks for an answer: it holds what the server means
// to say, and who changes it, or throws Reject or Hangup, says something else; a later one may change that again.
// Plugins are asked first, then the listeners, and what was agreed on is done after that. Functions run on the
// session's thread. Whatever else one throws is 451 4.3.0 to the peer where an answer is due, and a Trouble to the
// program; the others are called all the same.
struct Event {
    virtual ~Event() = default;
    // The answer that is due, and whose session it is; null where there is none.
    virtual Reply* due() { return nullptr; }
    virtual Server::Client* whose() { return nullptr; }

    struct OfSession;
    struct Asking;

    struct Connect;
    struct TLS;
    struct Command;
    struct Helo;
    struct Auth;
    struct Mail;
    struct Rcpt;
    struct Data;
    struct Text;
    struct Arrived;
    struct Answered;
    struct Response;
    struct Disconnect;

    struct Trouble;
    struct ListenerFailed;
    struct Registered;
    struct PluginAdded;
    struct PluginRemoved;

    // Of mail in a queue, in Relay/QueueEvents.hpp:
    struct OfQueue;
    struct OfDelivery;
    struct Queued;
    struct Sent;
    struct Deferred;
    struct Failed;
    struct Bounced;
};

struct Event::OfSession : Event {
    explicit OfSession(Server::Client& c) : client(c) {}
    Server::Client* whose() override { return &client; }
    Server::Client& client;
};

struct Event::Asking : Event::OfSession {
    Asking(Server::Client& c, Reply& r) : OfSession(c), reply(r) {}
    Reply* due() override { return &reply; }
    Reply& reply;
};

// ---- a session, in the order of its events ----

// A session begins; `reply` is the greeting. A refusal closes the connection.
struct Event::Connect : Event::Asking {
    using Asking::Asking;
};

// A handshake has ended. After a good one `problem` is empty, client.tls() tells the rest, and a refusal closes the
// connection; after a failed one it closes anyway.
struct Event::TLS : Event::Asking {
    TLS(Server::Client& c, const std::string& p, Reply& r) : Asking(c, r), problem(p) {}
    const std::string& problem;
};

// A command line has come, whatever it is, without its CRLF; who changes it has said something else in the client's
// place. (Not the lines of an AUTH exchange behind the first, and none that is too long.) With a `reply` other than
// its code 0 that is the answer, and the server does nothing else about the command; 421 and 221 close the connection.
// A BDAT that is answered so, or made another command of, is refused: its octets come all the same.
struct Event::Command : Event::Asking {
    Command(Server::Client& c, std::string& l, Reply& r) : Asking(c, r), line(l) {}
    std::string& line;
};

// HELO, EHLO or LHLO. `offer` is what this session is offered; take away what nobody behind us could keep.
struct Event::Helo : Event::Asking {
    Helo(Server::Client& c, std::string& h, Extensions& o, Reply& r) : Asking(c, r), helo(h), offer(o) {}
    std::string& helo;
    Extensions& offer;
};

// An attempt to authenticate has ended; `reply` is what the client will hear, after a failure when its delay is over.
// By a positive one `user` becomes client.user(); a refusal makes it a failed attempt.
struct Event::Auth : Event::Asking {
    Auth(Server::Client& c, std::string_view m, std::string& u, const std::string& p, const std::string& w, Reply& r)
        : Asking(c, r), mechanism(m), user(u), proved(p), reason(w) {}
    std::string_view mechanism;  // "PLAIN"
    std::string& user;           // who it is, or said it was; "" when it got not that far
    const std::string& proved;   // who has proved to be it, where `user` is another whom it may act as; else ""
    const std::string& reason;   // of a failure, for a log; never a secret
};

// MAIL was understood. After a positive reply `sender` is FROM. Whether it is client.user()'s: see OwnSender.
struct Event::Mail : Event::Asking {
    Mail(Server::Client& c, Sender& s, Reply& r) : Asking(c, r), sender(s) {}
    Sender& sender;
};

// RCPT was understood. After a positive reply `recipient` is the last of TO.
struct Event::Rcpt : Event::Asking {
    Rcpt(Server::Client& c, Recipient& t, Reply& r) : Asking(c, r), recipient(t) {}
    Recipient& recipient;
};

// The body is about to come, by DATA or the first BDAT: the last moment for client.into().
struct Event::Data : Event::Asking {
    using Asking::Asking;
};

// The text that client.data_mode() asked for has ended: it is in client.MSG, or in the sink that was given. `reply` is
// 250, or what was wrong: too large, 452 4.3.1 because it could not be written, 451 4.4.2 because it has not come to
// its end, and then nobody hears it. By LMTP it is the answer for each recipient that the server knows of.
struct Event::Text : Event::Asking {
    using Asking::Asking;
};

// The message is here: client.MSG, for client.FROM and client.TO. A refusal is the sender's answer, by LMTP for all,
// and the program's loop never sees it. It may be taken here, as in the loop (client.accept(), Relay, MSG.save()): if
// everybody has a taker then, or was refused, that is the answer, and process() goes on to the next one.
struct Event::Arrived : Event::Asking {
    using Asking::Asking;
};

// What has become of a message that had arrived, whoever decided on it; nothing can change it now. `verdicts` are what
// the sender is told, one, or by LMTP one for each RCPT that was answered 2xx, in their order: the next Responses.
// `message` is as it arrived. A text that was refused before it was all here has no Arrived, and no Answered.
struct Event::Answered : Event::OfSession {
    Answered(Server::Client& c, const Message& m, const std::vector<Reply>& v)
        : OfSession(c), message(m), verdicts(v) {}
    const Message& message;
    const std::vector<Reply>& verdicts;
};

// A reply is about to go to the client: the greeting, the answer to any command or text. Its text may be changed, and
// its code too, which undoes nothing of what was done; but what asks the client to go on (3xx, 220 to STARTTLS) keeps
// its code, and nothing else becomes 3xx. 421 and 221 close the connection, and so does a Hangup. The challenges of
// AUTH are not shown. With `swallow` the client hears nothing, and may wait for ever: say so only if it is answered in
// another way.
struct Event::Response : Event::Asking {
    Response(Server::Client& c, Reply& r, bool& s) : Asking(c, r), swallow(s) {}
    Reply* due() override { return nullptr; }  // who throws is no reason to say something else
    bool& swallow;
};

// The session is over, once for each that has begun, however it ended. `last` is what the server has said at its end
// (221, 421, a refusal), code 0 if the connection was lost.
struct Event::Disconnect : Event::OfSession {
    Disconnect(Server::Client& c, const Reply& l) : OfSession(c), last(l) {}
    const Reply& last;
};

// ---- a server ----

// Something went wrong that no peer is told about: a plugin, listener or handler threw, recipients of one mail fared
// differently (not by LMTP, where each hears his own), the next hop wants TLS or a login that we have not.
struct Event::Trouble : Event {
    static constexpr std::size_t no_event = ~std::size_t{0};
    Trouble(Server::Client* c, std::string w, std::string p = "", std::size_t a = no_event)
        : client(c), what(std::move(w)), plugin(std::move(p)), at(a) {}
    Server::Client* whose() override { return client; }
    Server::Client* client;  // null when no session is concerned
    std::string what;
    std::string plugin;  // the name of the one that threw, "": no plugin
    std::size_t at;      // which kind of event a function threw at, as kind_of<Event::Rcpt>()
};

// An address can't be listened on, or not any longer; start_listener(address), here too, tries (again). Or, if it
// `lives`, accepting has met a lack of descriptors or memory: that is told once, until nobody waits there any more.
struct Event::ListenerFailed : Event {
    ListenerFailed(const Endpoint& e, int n, const std::string& a, bool l) : where(e), error(n), address(a), lives(l) {}
    const Endpoint& where;
    int error;                   // errno: EADDRINUSE, EMFILE
    const std::string& address;  // as start_listener() understands it: "tls:192.0.2.1:465"
    bool lives;                  // is listened on as before
};

// To a listener that hears it, and to nobody else: it hears the others from now on.
struct Event::Registered : Event {
    explicit Registered(Pipeline& p) : pipeline(p) {}
    Pipeline& pipeline;
};

struct Event::PluginAdded : Event {
    PluginAdded(Pipeline& p, const std::string& n, Plugin& w) : pipeline(p), name(n), plugin(w) {}
    Pipeline& pipeline;
    const std::string& name;
    Plugin& plugin;
};

struct Event::PluginRemoved : Event {
    PluginRemoved(Pipeline& p, const std::string& n, Plugin& w) : pipeline(p), name(n), plugin(w) {}
    Pipeline& pipeline;
    const std::string& name;
    Plugin& plugin;
};

}  // namespace Net::SMTP
