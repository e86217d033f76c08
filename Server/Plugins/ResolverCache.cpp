#include "ResolverCache.hpp"

#include <algorithm>
#include <stdexcept>

#include "../Address.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t largest = 1024;  // octets of an answer that is remembered

std::size_t size(const Records& records) {
    std::size_t octets = records.canonical.size() + records.error.size();
    for (const auto& data : records.data) octets += data.size() + sizeof data;
    return octets;
}

}  // namespace

ResolverCache::ResolverCache(std::shared_ptr<Resolver> resolver, const Limits& limits)
    : resolver_(std::move(resolver)), limits_(limits) {
    if (!resolver_) throw std::invalid_argument("ResolverCache: no resolver");
}

Records ResolverCache::query(const std::string& name, RecordType type, const Wait& wait) {
    const Key key{lower_case(name), type};
    std::unique_lock lock(mutex_);
    for (;;) {
        if (const auto* known = remembered(key)) return *known;
        if (asking_.size() < std::max<std::size_t>(limits_.outstanding, 1) && asking_.insert(key).second) break;
        if (!wait_turn(lock, wait))
            return {.status = Records::Status::timeout, .error = name + ": too many other questions"};
    }
    lock.unlock();
    auto records = ask(name, type, wait);
    lock.lock();
    asking_.erase(key);
    ++answered_;
    changed_.notify_all();
    remember(key, records);
    return records;
}

Records ResolverCache::ask(const std::string& name, RecordType type, const Wait& wait) const {
    try {
        return resolver_->query(name, type, wait);
    } catch (...) {
        return {};
    }
}

const Records* ResolverCache::remembered(const Key& key) const {
    const auto found = by_key_.find(key);
    if (found == by_key_.end() || found->second->until <= Clock::now()) return nullptr;
    return &found->second->records;
}

void ResolverCache::remember(const Key& key, const Records& records) {
    if (const auto old = by_key_.find(key); old != by_key_.end()) {
        entries_.erase(old->second);
        by_key_.erase(old);
    }
    const auto ttl = records.temporary() ? limits_.failure_ttl : limits_.ttl;
    if (limits_.entries == 0 || ttl <= milliseconds::zero() || size(records) > largest) return;
    if (entries_.size() >= limits_.entries) {
        by_key_.erase(entries_.front().key);
        entries_.pop_front();
    }
    entries_.push_back({key, records, Clock::now() + ttl});
    by_key_[key] = std::prev(entries_.end());
}

bool ResolverCache::wait_turn(std::unique_lock<std::mutex>& lock, const Wait& wait) {
    const auto before = answered_;
    lock.unlock();  // what calls it off is somebody else's code
    const bool over = wait.over();
    const auto look = std::min(wait.look(), Clock::now() + std::chrono::hours(1));
    lock.lock();
    if (over) return false;
    if (answered_ == before) changed_.wait_until(lock, look);
    return true;
}

}  // namespace Net::SMTP
