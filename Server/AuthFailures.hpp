// AuthFailures -- from which addresses passwords were guessed lately; for our own .cpp files only, it is not installed.
#pragma once

#include <cstddef>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "Wait.hpp"

namespace Net::SMTP {

// Counts the failed attempts of each IPv4 address and each /64 of IPv6, which is what one customer has. Any number of
// threads. It remembers `most` addresses; then the one that has not failed for the longest time is forgotten. What has
// no address (a Unix socket, a pipe) is not counted: it would be everybody on the machine.
class AuthFailures {
public:
    // So many failures within `window` are allowed; 0: any number, and nothing is remembered.
    AuthFailures(std::size_t limit, Deadline::duration window, std::size_t most = 10'000)
        : limit_(limit), most_(most), window_(window) {}

    // Whether that host has used up its failures, at that moment. Moments don't go back.
    bool over(std::string_view host, Deadline now);
    // One more failure. False when they were used up already: then it is not counted, lest who goes on trying be locked
    // out for ever.
    bool note(std::string_view host, Deadline now);
    std::size_t addresses() const;

private:
    struct Host {
        std::string key;
        std::vector<Deadline> failures;  // the oldest first
    };
    using Hosts = std::list<Host>;
    // All with the lock held.
    bool used_up(const std::string& key, Deadline now);
    void forget_before(Deadline);
    void forget(Hosts::iterator);

    const std::size_t limit_, most_;
    const Deadline::duration window_;
    mutable std::mutex mutex_;
    Hosts hosts_;  // whose last failure is the oldest comes first
    std::unordered_map<std::string, Hosts::iterator> by_key_;
};

}  // namespace Net::SMTP
