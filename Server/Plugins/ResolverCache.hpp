// ResolverCache -- remembers what a Resolver said, and asks it not too much at once.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "../Resolver.hpp"

namespace Net::SMTP {

// In front of another Resolver, for what strangers make a server ask. A question is asked once, however many threads
// have it: the others wait for its answer. Any number of threads.
class ResolverCache final : public Resolver {
public:
    using milliseconds = std::chrono::milliseconds;
    struct Limits {
        std::size_t entries = 10'000;      // answers; then the oldest is forgotten. 0: none is remembered
        milliseconds ttl{300'000};         // of an answer, "nothing there" too; Records don't tell their own
        milliseconds failure_ttl{10'000};  // of a question that failed or had no answer in time
        std::size_t outstanding = 100;     // questions at once, at least 1; who comes then waits, and it counts
    };

    // std::invalid_argument without a resolver.
    ResolverCache(std::shared_ptr<Resolver> resolver, const Limits& limits);

    // As Resolver has it; answers of more than 1 KiB are not remembered. What the resolver throws is `failed`.
    Records query(const std::string& name, RecordType type, const Wait& wait) override;
    bool validates() const override { return resolver_->validates(); }

private:
    using Key = std::pair<std::string, RecordType>;
    struct Entry {
        Key key;
        Records records;
        Deadline until;
    };
    Records ask(const std::string& name, RecordType, const Wait&) const;
    // All with the lock held.
    const Records* remembered(const Key&) const;
    void remember(const Key&, const Records&);
    // Waits until some question has been answered; false when `wait` is over.
    bool wait_turn(std::unique_lock<std::mutex>&, const Wait& wait);

    const std::shared_ptr<Resolver> resolver_;
    const Limits limits_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::set<Key> asking_;
    std::uint64_t answered_ = 0;  // questions so far
    std::list<Entry> entries_;    // the oldest first
    std::map<Key, std::list<Entry>::iterator> by_key_;
};

}  // namespace Net::SMTP
