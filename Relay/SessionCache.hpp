// SessionCache -- connections to next hops that are kept open for the next message.
#pragma once

#include <chrono>
#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "Session.hpp"

namespace Net::SMTP {

// Give one to several Relays (Relay::Options::sessions), of any number of threads: a delivery takes a connection that
// is open to its next hop, or makes one, and puts it back when it went well. What has been idle for too long, or was
// closed by the other side, is not used again; it is closed when somebody takes or puts back, since nothing runs in
// between. It keeps the patience of whoever opened it. In a process other than the one that made it, it is empty and
// keeps nothing. Nothing here waits for a host.
class SessionCache {
public:
    struct Limits {
        std::size_t idle = 100;         // connections kept in all; the longest idle one goes first
        std::chrono::seconds keep{30};  // how long one may be idle
        std::size_t mails = 100;        // messages over one connection
    };
    SessionCache() : SessionCache(Limits()) {}
    explicit SessionCache(const Limits& limits);
    // Says QUIT to all, without waiting for their replies.
    ~SessionCache();
    SessionCache(const SessionCache&) = delete;
    SessionCache& operator=(const SessionCache&) = delete;

    // The one that was used last, for this host, this name of ours, and the very TLS and login that are asked for; null
    // when there is none. It is heard by the host's witness from now on, and by nobody when it is put back.
    std::unique_ptr<Session> take(const Upstream& host, const std::string& hostname, const Security& security = {});
    // Only between messages. One that can't be used any more is dropped.
    void put(std::unique_ptr<Session> session);
    std::size_t idle() const;
    // Keeps no more than that many for now: the longest idle ones are closed, also those that another thread is
    // trimming at this moment, before it returns.
    void trim(std::size_t idle);

private:
    struct Idle {
        std::unique_ptr<Session> session;
        Deadline until;
    };
    void drop_expired(std::list<Idle>& dropped);

    const Limits limits_;
    std::mutex trimming_;  // before mutex_
    mutable std::mutex mutex_;
    std::list<Idle> idle_;  // the longest idle one in front
    int owner_;
};

}  // namespace Net::SMTP
