// Store -- where a queue keeps its mail: what every store promises, whichever database is behind it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "../Server/Address.hpp"
#include "../Server/Message.hpp"
#include "../Server/Options.hpp"
#include "../Server/Reply.hpp"

namespace Net::SMTP {

// By the clock of the calendar: what is kept must mean the same after a restart.
using QueueTime = std::chrono::sys_time<std::chrono::milliseconds>;
QueueTime queue_now();

// A message on its way into the queue.
struct QueuedMail {
    std::string id;             // unlike any other in the store; 1 to 255 octets of printable ASCII without blanks
    Sender from;                // kept are the mailbox, body, smtputf8, ret, envid and auth
    std::vector<Recipient> to;  // at least one; kept are the mailbox, notify and orcpt
    std::string head;           // whole fields with their CRLF that go in front of the text: Received
    Message text;               // not one that went into a sink
    QueueTime arrived{};
    QueueTime due{};  // of the first try
    bool held = false;
};

// What is given out to be delivered: recipients of one message in one domain. Nobody else is given them until record()
// or give_back(), or until whoever has them is dead.
struct QueueTask {
    struct To {
        std::uint32_t number = 0;  // which recipient of the message it is, from 0
        Recipient recipient;       // its id is number + 1
        std::uint32_t attempts = 0;
        bool warned = false;  // its sender has been told of the delay
    };
    std::int64_t message = 0;  // the store's own number; later ones are larger
    std::string id;
    Sender from;
    std::string head;
    std::uint64_t size = 0;  // of the text
    QueueTime arrived{};
    std::vector<To> to;
    std::uint64_t claim = 0;  // the store's own: which claim() has given it out
    // What Store::text() gives, where the store had it at hand (a small one); null: ask it.
    std::shared_ptr<const std::string> text{};
};

// What has become of one recipient of a task.
struct QueueVerdict {
    std::uint32_t number = 0;
    bool done = false;  // nothing more is to be tried: it leaves the queue
    bool warned = false;
    QueueTime due{};      // of the next try, when it is not done
    Reply reply{};        // the last one; at most 1 KiB of its text is kept
    std::string host{};   // who said it
    bool attempt = true;  // counts as one
};

// A domain that has mail which may be given out, and when the first of it is due.
struct QueueDomain {
    std::string name;  // in small letters; "" of recipients without one (postmaster)
    QueueTime due{};
};

// What is seen of a message in the queue.
struct QueueItem {
    struct To {
        Recipient recipient;
        std::uint32_t attempts = 0;
        Reply last{0, "", ""};  // code 0: nothing was tried
        std::string host;
        QueueTime due{};
        bool in_flight = false;
    };
    std::int64_t message = 0;
    std::string id;
    Sender from;
    std::uint64_t size = 0;
    QueueTime arrived{};
    bool held = false;
    std::vector<To> to;  // those that are still in the queue
    bool in_flight() const;
};

struct QueueStats {
    std::uint64_t messages = 0, recipients = 0, held = 0, in_flight = 0;  // held: messages; in_flight: recipients
    std::uint64_t octets = 0;                                             // of texts
    std::optional<QueueTime> oldest{};                                    // when the oldest message arrived
};

enum class Cancelled {
    found,      // it has left the queue: nobody who is still in it gets it
    not_found,  // there is no such message (any more)
    in_flight,  // some of it is being delivered at this moment; nothing has changed
};

// The store can't do it now: nothing has changed, but for a commit whose outcome is not known. `reply` is what a sender
// hears: 452 4.3.1 where there is no room, else 451 4.3.0. what() is for the program; no secret is in it.
class StoreError : public std::runtime_error {
public:
    StoreError(const std::string& what, Reply reply) : std::runtime_error(what), reply_(std::move(reply)) {}
    const Reply& reply() const noexcept { return reply_; }

private:
    Reply reply_;
};

// Any number of threads may use one, and a forked child too: it has connections of its own, and never touches those
// that it has inherited. Each call that changes something returns when that is on stable storage, with whatever others
// want to be committed at that moment, or throws StoreError; so do all others. Each ends in bounded time. After an
// error a store recovers by itself, when the cause has gone. Constructors start no threads.
class Store {
public:
    virtual ~Store() = default;
    Store(const Store&) = delete;
    Store& operator=(const Store&) = delete;

    // For a server whose mail will be put here: where bodies are to be received, and from which size on in a file, so
    // that put() need not copy them (Options::spool_dir, spool_above).
    virtual void apply(Options& options) const { (void)options; }

    // All of it is stored, or nothing. std::invalid_argument for an id that is there already, and what QueuedMail does
    // not allow.
    virtual void put(const QueuedMail& mail) = 0;

    // ---- whoever delivers ----

    // Whether this process may give out mail: of some stores one process at a time. Ask until it is true; then it stays
    // so until the process ends or the store does.
    virtual bool lead() = 0;
    // Keeps alive what this store has given out; at least every beat_interval() where that is not zero.
    virtual void beat() {}
    virtual std::chrono::milliseconds beat_interval() const { return std::chrono::milliseconds(0); }
    // Until then nobody else can have what this store has given out; after it (this process may have been frozen) give
    // back what has not begun. By the steady clock.
    virtual std::chrono::steady_clock::time_point surely_ours() const {
        return std::chrono::steady_clock::time_point::max();
    }
    // Domains in the order of their names, behind `after` ("" alone comes first, with no `after`), that have mail which
    // is neither held nor given out; at most `limit`. Flat in the number of messages.
    virtual std::vector<QueueDomain> domains(const std::optional<std::string>& after, std::size_t limit) = 0;
    // The same of one domain: when the first of it is due; nullopt: there is nothing.
    virtual std::optional<QueueTime> due(const std::string& domain) = 0;
    // Whether somebody else (another process, another machine) may have changed something since this was asked last.
    virtual bool changed() = 0;
    // Up to `limit` recipients of that domain that are due, the longest due first; those of one message together. Of
    // the message of the last one its other recipients there that wait come as well, until they are `together`.
    virtual std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                         std::size_t together = 0) = 0;
    // The octets of a message that was given out; without `head`. It can be read as long as the task has not been
    // recorded as done.
    virtual Message text(const QueueTask& task) = 0;
    // What has become of a task, some of its recipients or all, and the notices about it that go into the queue: all of
    // it or nothing. A message without recipients is gone. False: somebody else has it by now (we were thought dead);
    // nothing has changed then.
    virtual bool record(const QueueTask& task, std::span<const QueueVerdict> verdicts,
                        std::span<const QueuedMail> notices) = 0;
    // Gives back what was not tried.
    virtual void give_back(const QueueTask& task) = 0;

    // ---- whoever looks after it ----

    virtual Cancelled cancel(const std::string& id) = 0;
    // Nothing of it is given out until release(); what is given out already goes its way. False: no such message.
    virtual bool hold(const std::string& id) = 0;
    virtual bool release(const std::string& id) = 0;
    // What is waiting becomes due now; what is held stays held. How many recipients.
    virtual std::uint64_t flush(const std::string& id) = 0;
    virtual std::uint64_t flush_domain(const std::string& domain) = 0;
    virtual std::uint64_t flush_all() = 0;

    // In the order they came, behind the number `after`; at most `limit`.
    virtual std::vector<QueueItem> items(std::int64_t after, std::size_t limit) = 0;
    virtual std::optional<QueueItem> item(const std::string& id) = 0;
    // Head and text of a message, to look at it.
    virtual std::optional<Message> look(const std::string& id) = 0;
    virtual QueueStats stats() = 0;

    // A setting that is kept with the mail, such as "paused"; nullopt where there is none.
    virtual std::optional<std::string> setting(const std::string& name) = 0;
    virtual void set(const std::string& name, const std::string& value) = 0;

    // What it is, for logs: "sqlite:/var/spool/mail", "postgresql:mail@db.example.org". No secret.
    virtual std::string name() const = 0;

protected:
    Store() = default;
};

// Held mail is due then.
inline constexpr QueueTime never_due{std::chrono::milliseconds(INT64_MAX)};
// No other is due later than so long from now: what a clock that was wrong has put further away is due at once.
inline constexpr std::chrono::hours longest_wait{24 * 7};

// A new id: of letters and digits, later ones behind earlier ones in the order of the alphabet, unlike any other of any
// process or machine.
std::string new_queue_id();

}  // namespace Net::SMTP
