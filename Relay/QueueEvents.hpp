// QueueEvents -- what happens to mail in a queue, as events.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "../Server/Event.hpp"
#include "Store.hpp"

namespace Net::SMTP {

class Queue;

// All of them are heard by the queue's own pipeline() and by every pipeline that the queue is a plugin of; Queued on
// the thread of whoever has put the mail there, the others on a thread of the queue's, when what they tell is on stable
// storage. What a listener throws changes nothing.
struct Event::OfQueue : Event {
    OfQueue(Queue& q, const std::string& i, const Sender& f) : queue(q), id(i), from(f) {}
    Queue& queue;
    const std::string& id;
    const Sender& from;
};

// It is in the queue; its sender hears 250 now.
struct Event::Queued : Event::OfQueue {
    Queued(Queue& q, const std::string& i, const Sender& f, const std::vector<Recipient>& t, const Message& m,
           Server::Client* c)
        : OfQueue(q, i, f), to(t), message(m), client(c) {}
    Server::Client* whose() override { return client; }
    std::uint64_t lines() const;  // of the text, by its CRLFs; reads it all. std::system_error
    const std::vector<Recipient>& to;
    const Message& message;
    Server::Client* client;  // who has brought it; null: the program
};

struct Event::OfDelivery : Event::OfQueue {
    OfDelivery(Queue& q, const std::string& i, const Sender& f, const Recipient& t, const Reply& r,
               const std::string& h, std::uint32_t a)
        : OfQueue(q, i, f), recipient(t), reply(r), host(h), attempt(a) {}
    const Recipient& recipient;
    const Reply& reply;       // 2xx, 4xx or 5xx: the host's own, or ours
    const std::string& host;  // as Relay::Result::host
    std::uint32_t attempt;    // from 1
};

// Delivered to one recipient.
struct Event::Sent : Event::OfDelivery {
    using OfDelivery::OfDelivery;
};

// It will be tried again.
struct Event::Deferred : Event::OfDelivery {
    Deferred(Queue& q, const std::string& i, const Sender& f, const Recipient& t, const Reply& r, const std::string& h,
             std::uint32_t a, QueueTime n)
        : OfDelivery(q, i, f, t, r, h, a), next(n) {}
    QueueTime next;
};

// It will not be tried again: refused for good, or `expired`.
struct Event::Failed : Event::OfDelivery {
    Failed(Queue& q, const std::string& i, const Sender& f, const Recipient& t, const Reply& r, const std::string& h,
           std::uint32_t a, bool e)
        : OfDelivery(q, i, f, t, r, h, a), expired(e) {}
    bool expired;
};

// What failed was to be told to the sender: by the message `bounce`, which is in the queue now; or by none ("") because
// there is nobody to tell: a null sender, NOTIFY=NEVER. Delays and successes that the sender is told of are said here
// too.
struct Event::Bounced : Event::OfQueue {
    Bounced(Queue& q, const std::string& i, const Sender& f, const std::string& b, const std::vector<Recipient>& t)
        : OfQueue(q, i, f), bounce(b), about(t) {}
    const std::string& bounce;
    const std::vector<Recipient>& about;
};

}  // namespace Net::SMTP
