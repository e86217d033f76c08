// Handlers -- who gets a message that has arrived, by patterns for its recipients.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "../Server/Address.hpp"
#include "../Server/Event.hpp"
#include "../Server/Plugin.hpp"
#include "../Server/Reply.hpp"
#include "../Server/Server.hpp"
#include "Relay.hpp"
#include "Route.hpp"
#include "Target.hpp"

namespace Net::SMTP {

// A plugin: each recipient of a message goes to the first handler whose pattern matches; the others stay in client.TO
// for whoever is behind, the program's loop for example.
//
//     auto handlers = std::make_shared<Handlers>();
//     handlers->set({{"^bugs@", [](Server::Client& client, const std::vector<Recipient>& to) -> Reply { ... }},
//                    {R"((?i)@lists\.example\.org$)", std::make_shared<Maildir>("/var/mail/lists")},
//                    {R"((?i)@example\.net$)", Relay::Options{.host = "mx.example.net"}}});
//     server.pipeline().add("handlers", handlers);
//     server.run([](Server::Client& client) { Relay rest(client.FROM, client.TO, client.MSG, {.host = "..."}); });
//
// It works at Event::Arrived: the recipients that match anything leave client.TO, and every handler that got some is
// called, once, with just those, in the order of the list. What becomes of it counts for those only: by LMTP each
// recipient hears its own, by SMTP the sender hears the worst of all, so that its next try brings the message to those
// again who have it already (see Options::one_handler). When nobody is left in client.TO the loop does not see the
// message. What was refused before is not handed out; so plugins that look at messages belong in front of this one. Of
// Relay::attach() it knows nothing: with `at_rcpt` the next hop there is asked about everybody.
//
// Patterns are RE2's: their time is linear, whatever an address holds. One is looked for anywhere in Recipient::str(),
// without quotes that it does not need, and with case unless it says (?i); a sender may write a domain in any case.
//
// All members may be called by any thread at any time, by a handler too; a session in a process of its own has the list
// there was when that began. May be in the pipelines of several servers.
class Handlers final : public Plugin {
public:
    // Takes the message in client.MSG for these recipients: its reply is theirs, 2xx if the message is safe. Of some it
    // may have said something worse by client.reject(recipient, reply). Runs on the session's thread, on several at
    // once. What it throws is 451 4.3.0 for them and an Event::Trouble, Reject's and Hangup's reply a refusal like any
    // other; the other handlers are called all the same.
    using Function = std::function<Reply(Server::Client& client, const std::vector<Recipient>& to)>;

    struct Handler {
        std::string pattern;
        // A function, or what a Relay does with the message for them: by a target, or by any other options of its own.
        std::variant<Function, std::shared_ptr<Target>, Relay::Options> take;
    };

    struct Options {
        // By SMTP a transaction has recipients of one handler only, or of none: others than the first one's hear 452
        // 4.5.3 at RCPT and come in a transaction of their own, and nobody gets a message again because of another.
        bool one_handler = false;
    };

    // Of a list; and in octets, of a pattern, and of the memory RE2 may use for one.
    static constexpr std::size_t max_handlers = 1000, max_pattern = 1024, max_memory = std::size_t{1} << 20;

    Handlers();  // none: everybody stays in TO
    explicit Handlers(const Options& options);
    ~Handlers() override;

    // From now on these; a message that is being handed out goes on with those that were there. Nothing has changed
    // after std::invalid_argument, which says which one is wrong, counted from 0, and why: "handlers[2]: missing ):
    // (a". So is a pattern that is empty or over a limit, a function or target that is none, and an option no Relay
    // takes.
    void set(std::vector<Handler> handlers);
    std::vector<Handler> get() const;
    // Whose a recipient would be, counted from 0; nullopt: nobody's.
    std::optional<std::size_t> find(const Address& recipient) const;

    // For Queue::Options::router: the same patterns, looked at for each try, so that what a target or a next hop can't
    // take now is kept and tried again. It keeps them alive; a handler that is a function is passed over, since there
    // is no session any more.
    static Router router(std::shared_ptr<const Handlers> handlers);

private:
    struct List;
    std::shared_ptr<const List> now() const;
    void keep_apart(Event::Rcpt&) const;
    void hand_out(Event::Arrived&) const;
    void tell(Server::Client&, const std::string& what) const noexcept;

    mutable std::mutex mutex_;
    std::shared_ptr<const List> list_;  // replaced as a whole
};

}  // namespace Net::SMTP
