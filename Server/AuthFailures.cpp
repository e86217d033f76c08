#include "AuthFailures.hpp"

#include <algorithm>

#include "Socket.hpp"

namespace Net::SMTP {

void AuthFailures::forget(Hosts::iterator host) {
    by_key_.erase(host->key);
    hosts_.erase(host);
}

void AuthFailures::forget_before(Deadline moment) {
    auto old = [&](const Host& h) { return h.failures.empty() || h.failures.back() <= moment; };
    while (!hosts_.empty() && old(hosts_.front())) forget(hosts_.begin());
}

bool AuthFailures::used_up(const std::string& key, Deadline now) {
    forget_before(now - window_);
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) return false;
    auto& failures = found->second->failures;
    std::erase_if(failures, [&](Deadline f) { return f <= now - window_; });
    return failures.size() >= limit_;
}

bool AuthFailures::over(std::string_view host, Deadline now) {
    const auto key = limit_ > 0 ? customer(host) : "";
    if (key.empty()) return false;
    std::lock_guard lock(mutex_);
    return used_up(key, now);
}

bool AuthFailures::note(std::string_view host, Deadline now) {
    const auto key = limit_ > 0 ? customer(host) : "";
    if (key.empty()) return true;
    std::lock_guard lock(mutex_);
    if (used_up(key, now)) return false;
    auto found = by_key_.find(key);
    if (found == by_key_.end()) {
        if (!hosts_.empty() && hosts_.size() >= most_) forget(hosts_.begin());
        hosts_.push_back({key, {}});
        found = by_key_.emplace(key, std::prev(hosts_.end())).first;
    }
    hosts_.splice(hosts_.end(), hosts_, found->second);
    found->second->failures.push_back(now);
    return true;
}

std::size_t AuthFailures::addresses() const {
    std::lock_guard lock(mutex_);
    return hosts_.size();
}

}  // namespace Net::SMTP
