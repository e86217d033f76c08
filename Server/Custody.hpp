// Custody -- who has taken one message, recipient by recipient, and so what its sender may be told.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "Address.hpp"
#include "Reply.hpp"

namespace Net::SMTP {

// The account of one transaction. Whoever takes the message (Relay, save(), the program by accept()) speaks for the
// recipients it was given, by their id; for each the worst that was said counts: later (4xx), never (5xx), taken. A
// taker that has begun counts as "later" until it says otherwise. Any thread.
class Custody {
public:
    // A new transaction with these recipients; whatever was said before is forgotten.
    void open(std::span<const Recipient> to);
    // The same by their ids; in this order verdict(which) counts them.
    void open(std::span<const std::uint64_t> ids);
    // Not a session's message: nothing is answered, everything may be said.
    bool attached() const;

    // A taker speaks for all, or for these. Those that are not in the transaction are ignored.
    void begin();
    void begin(std::span<const Recipient> to);
    // What the taker says in the end. Once for every begin. std::logic_error when the answer has gone.
    void settle(const Reply&);
    void settle(const Recipient&, const Reply&);

    // The same for those whom nobody has spoken for to the end.
    void settle_rest(const Reply&);

    // What has been said is forgotten: whoever speaks next decides alone. std::logic_error when the answer has gone.
    void reconsider();

    // What the sender is to hear about all, or about one: by its id, or the how-manieth it is, from 0.
    Reply verdict() const;
    Reply verdict(const Recipient&) const;
    Reply verdict(std::size_t which) const;
    // Whether some recipients were taken and others refused.
    bool mixed() const;
    // Whether somebody has begun to speak for this one.
    bool begun(const Recipient&) const;
    // For how many nobody has even begun to speak.
    std::size_t forgotten() const;

    // The answer has been given: what is said from now on comes too late.
    void close();
    bool closed() const;

private:
    struct Entry {
        std::uint64_t id;
        int underway = 0;
        std::optional<Reply> said;
    };
    Reply verdict(const Entry&) const;
    void say(Entry&, const Reply&);
    void refuse_late() const;

    mutable std::mutex mutex_;
    std::vector<Entry> entries_;
    bool attached_ = false;
    bool closed_ = false;
};

}  // namespace Net::SMTP
