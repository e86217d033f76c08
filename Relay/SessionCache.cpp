#include "SessionCache.hpp"

#include <unistd.h>

#include <algorithm>

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::hours longest_keep(24);

bool same(const Session& session, const Upstream& host, const std::string& hostname, const Security& security) {
    return session.host() == host && session.hostname() == hostname && session.security() == security;
}

}  // namespace

SessionCache::SessionCache(const Limits& limits)
    : limits_{limits.idle, std::min<std::chrono::seconds>(limits.keep, longest_keep), limits.mails}, owner_(getpid()) {}

SessionCache::~SessionCache() {
    if (getpid() != owner_) return;  // sessions look at the pid too
    for (auto& idle : idle_) idle.session->leave();
}

// With the lock held; they are closed when it no longer is.
void SessionCache::drop_expired(std::list<Idle>& dropped) {
    while (!idle_.empty() && (idle_.front().until <= Clock::now() || idle_.size() > limits_.idle))
        dropped.splice(dropped.end(), idle_, idle_.begin());
}

std::unique_ptr<Session> SessionCache::take(const Upstream& host, const std::string& hostname,
                                            const Security& security) {
    if (getpid() != owner_) return nullptr;
    std::list<Idle> dropped;
    std::unique_ptr<Session> found;
    for (;;) {
        {
            std::lock_guard lock(mutex_);
            drop_expired(dropped);
            const auto at = std::find_if(idle_.rbegin(), idle_.rend(),
                                         [&](const Idle& i) { return same(*i.session, host, hostname, security); });
            if (at == idle_.rend()) break;
            found = std::move(at->session);
            idle_.erase(std::next(at).base());
        }
        if (found->quiet()) break;
        found->leave();  // its host has ended it meanwhile
        found.reset();
    }
    for (auto& idle : dropped) idle.session->leave();
    if (found) found->heard_by(host.witness);
    return found;
}

void SessionCache::put(std::unique_ptr<Session> session) {
    if (!session || getpid() != owner_) return;
    if (session->mails() >= limits_.mails || !session->alive()) return session->leave();
    session->extend(Deadline::max(), nullptr);
    session->heard_by({});
    std::list<Idle> dropped, kept;
    kept.push_back({std::move(session), Clock::now() + limits_.keep});
    {
        std::lock_guard lock(mutex_);
        idle_.splice(idle_.end(), kept);
        drop_expired(dropped);
    }
    for (auto& idle : dropped) idle.session->leave();
}

void SessionCache::trim(std::size_t idle) {
    if (getpid() != owner_) return;
    const std::lock_guard closing(trimming_);  // who comes next opens nothing before these are closed
    std::list<Idle> dropped;
    {
        std::lock_guard lock(mutex_);
        drop_expired(dropped);
        while (idle_.size() > idle) dropped.splice(dropped.end(), idle_, idle_.begin());
    }
    for (auto& one : dropped) one.session->leave();
}

std::size_t SessionCache::idle() const {
    if (getpid() != owner_) return 0;
    std::lock_guard lock(mutex_);
    return idle_.size();
}

}  // namespace Net::SMTP
