#include "HostFailures.hpp"

#include <unistd.h>

#include <algorithm>

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds longest_keep = std::chrono::hours(24);

}  // namespace

HostFailures::HostFailures(const Limits& limits)
    : limits_{std::min(limits.keep, longest_keep), limits.hosts}, owner_(getpid()) {}

bool HostFailures::nobody() const { return count_.load(std::memory_order_relaxed) == 0 || getpid() != owner_; }

// With the lock held.
void HostFailures::drop_expired() {
    const auto now = Clock::now();
    while (!order_.empty() && (order_.front().first <= now || order_.size() > limits_.hosts)) {
        const auto known = hosts_.find(order_.front().second);
        if (known != hosts_.end() && known->second.until == order_.front().first) hosts_.erase(known);
        order_.pop_front();
    }
    count_ = hosts_.size();
}

void HostFailures::failed(const Endpoint& host, const Reply& why) {
    if (limits_.keep.count() <= 0 || limits_.hosts == 0 || getpid() != owner_) return;
    const std::lock_guard lock(mutex_);
    drop_expired();
    const auto until = Clock::now() + limits_.keep;
    if (!hosts_.try_emplace(host.str(), Entry{why, until}).second) return;
    order_.emplace_back(until, host.str());
    drop_expired();
}

void HostFailures::reached(const Endpoint& host) {
    if (nobody()) return;
    const std::lock_guard lock(mutex_);
    hosts_.erase(host.str());
    drop_expired();
}

std::optional<Reply> HostFailures::failure(const Endpoint& host) {
    if (nobody()) return std::nullopt;
    const std::lock_guard lock(mutex_);
    drop_expired();
    const auto known = hosts_.find(host.str());
    return known == hosts_.end() ? std::nullopt : std::optional(known->second.why);
}

void HostFailures::forget() {
    if (getpid() != owner_) return;
    const std::lock_guard lock(mutex_);
    hosts_.clear();
    order_.clear();
    count_ = 0;
}

std::size_t HostFailures::size() {
    if (nobody()) return 0;
    const std::lock_guard lock(mutex_);
    drop_expired();
    return hosts_.size();
}

}  // namespace Net::SMTP
