// queue_kit -- a queue over a store in memory, a next hop for it, and all that is heard of both.
#pragma once

#include <Net/SMTP/Relay/Queue.hpp>
#include <Net/SMTP/Server/Test/MailServer.hpp>
#include <condition_variable>
#include <thread>

#include "dialogue.hpp"
#include "memory_store.hpp"

namespace test {

using namespace Net::SMTP;
using Net::SMTP::Test::MailServer;

// Waits for what must come; false when it does not.
template <class Condition>
bool comes(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(5ms);
    }
    return true;
}

inline Queue::Options soon(Queue::Options o = {}) {
    o.hostname = "queue.test";
    o.schedule.first = 20ms;
    o.schedule.longest = 200ms;
    return o;
}

// Everything to that server.
inline Queue::Options to(const MailServer& hop) {
    auto o = soon();
    o.otherwise.host = hop.address();
    return o;
}

// A queue and what it tells.
class Told {
public:
    explicit Told(const Queue::Options& options, std::shared_ptr<MemoryStore> s = std::make_shared<MemoryStore>())
        : store(std::move(s)), queue(std::make_shared<Queue>(store, options)) {
        queue->on<Event::Queued>([this](Event::Queued& e) { add("queued " + e.id); });
        queue->on<Event::Sent>([this](Event::Sent& e) { add("sent " + e.recipient.str()); });
        queue->on<Event::Deferred>(
            [this](Event::Deferred& e) { add("deferred " + e.recipient.str() + ' ' + std::to_string(e.reply.code)); });
        queue->on<Event::Failed>([this](Event::Failed& e) {
            add((e.expired ? "expired " : "failed ") + e.recipient.str() + ' ' + std::to_string(e.reply.code));
        });
        queue->on<Event::Bounced>([this](Event::Bounced& e) {
            add(e.bounce.empty() ? "nobody to tell of " + e.id : "told " + e.from.str());
        });
        queue->on<Event::Trouble>([this](Event::Trouble& e) { add("trouble " + e.what); });
    }
    std::vector<std::string> notes() const {
        const std::lock_guard lock(mutex_);
        return notes_;
    }
    std::size_t count(const std::string& beginning) const {
        const auto all = notes();
        return std::size_t(std::ranges::count_if(all, [&](const std::string& n) { return n.starts_with(beginning); }));
    }
    bool hears(const std::string& beginning, std::size_t n = 1) const {
        const bool heard = comes([&] { return count(beginning) >= n; });
        if (!heard)
            for (const auto& note : notes()) MESSAGE(note);
        return heard;
    }
    bool empty() const {
        return comes([&] { return store->stats().recipients == 0; });
    }

    std::shared_ptr<MemoryStore> store;

private:
    void add(std::string note) {
        const std::lock_guard lock(mutex_);
        notes_.push_back(std::move(note));
    }
    mutable std::mutex mutex_;
    std::vector<std::string> notes_;

public:
    std::shared_ptr<Queue> queue;  // ends first
};

inline Message letter(const std::string& body = "hello") { return Message("Subject: x\r\n\r\n" + body + "\r\n"); }

inline std::vector<Recipient> everybody(std::initializer_list<const char*> names) {
    std::vector<Recipient> all;
    for (const auto* name : names) all.emplace_back(name);
    return all;
}

}  // namespace test
