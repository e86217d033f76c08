// HostFailures -- hosts that could not be connected to, remembered for a while.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "../Server/Endpoint.hpp"
#include "../Server/Reply.hpp"
#include "../Server/Wait.hpp"

namespace Net::SMTP {

// Give one to several Relays (Relay::Options::failures), of any number of threads: who would connect to a host that
// somebody else could not be connected to a moment ago goes on to the next one. Only that counts: nobody listens there,
// there is no way, or nothing came of it in all of Patience::connect. What a host says, a greeting that does not come,
// or a lack of descriptors or time of our own is not remembered. Hosts are known by address and port. In a process
// other than the one that made it, it is empty and keeps nothing. Nothing here waits for a host.
class HostFailures {
public:
    struct Limits {
        std::chrono::seconds keep{30};  // how long one is avoided, at most a day; zero: nobody is
        std::size_t hosts = 10'000;     // remembered in all; the one that failed first goes first
    };
    HostFailures() : HostFailures(Limits()) {}
    explicit HostFailures(const Limits& limits);
    HostFailures(const HostFailures&) = delete;
    HostFailures& operator=(const HostFailures&) = delete;

    // Could not be connected to now; `why` is what is said of it from now on. Who is remembered already is avoided no
    // longer for it.
    void failed(const Endpoint& host, const Reply& why);
    // Was connected to: forgotten.
    void reached(const Endpoint& host);
    // What was said of a host that is to be avoided; nullopt: it may be asked.
    std::optional<Reply> failure(const Endpoint& host);
    // Everybody may be asked.
    void forget();
    // How many are avoided now.
    std::size_t size();

private:
    struct Entry {
        Reply why;
        Deadline until;
    };
    void drop_expired();
    bool nobody() const;

    const Limits limits_;
    std::mutex mutex_;
    std::unordered_map<std::string, Entry> hosts_;
    // In the order they failed; of a host that has been forgotten meanwhile an older one, or none, is in hosts_.
    std::deque<std::pair<Deadline, std::string>> order_;
    std::atomic<std::size_t> count_{0};  // so that nobody waits for a lock where nothing has failed
    int owner_;
};

}  // namespace Net::SMTP
