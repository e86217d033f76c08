// Shared -- what the sessions of one server have in common; for our own .cpp files only, it is not installed.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "AuthFailures.hpp"
#include "Connection.hpp"
#include "Handshakes.hpp"
#include "Mailbox.hpp"
#include "Memory.hpp"
#include "Options.hpp"
#include "Pipeline.hpp"
#include "Server.hpp"

namespace Net::SMTP {

class Slot;

struct Shared {
    // Checks the options and fills in what the system knows (host name).
    explicit Shared(Options options);
    ~Shared();

    const Options options;
    Pipeline pipeline;
    const std::shared_ptr<Budget> memory;
    AuthFailures auth_failures;
    Mailboxes mailboxes;               // with Options::reachable
    Handshakes handshakes;             // open while threads of ours serve, and there is TLS
    std::atomic<bool> crowded{false};  // so many of them that what each holds while it waits matters

    // stop(): idle sessions say 421, the others end their mail first, but wait for nothing after drained(). The
    // descriptor is readable for good then; it is all that a forked child sees.
    std::atomic<bool> stopping{false};
    int stop_fd = -1;
    bool stop_seen();
    // `drain` after the stop was first seen.
    Deadline drained();
    // Until `end`, or the end of the drain of that server, if there is one.
    static Wait wait(std::shared_ptr<Shared> server, Deadline end);
    std::chrono::seconds drain{30};
    std::atomic<Deadline::rep> drained_{0};
    bool forked = false;
    // The sessions run on stacks of ours: so many octets below a silent one are given back. 0: on somebody else's.
    std::size_t trim_stack = 0;

    // Event::Trouble; who stumbles while hearing of it has nobody left to tell.
    void trouble(Server::Client* client, const std::string& what) noexcept;

    std::mutex mutex;
    std::size_t connections = 0;
    std::size_t turned_away = 0;  // who are one too many, and have not gone yet
    std::unordered_map<std::string, std::size_t> per_ip;
    std::map<pid_t, std::unique_ptr<Slot>> children;
};

// One place for a connection, given back by scope, in the process that took it.
class Slot {
public:
    Slot(std::shared_ptr<Shared> shared, std::string ip);
    ~Slot();
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    bool over() const { return over_; }
    // Over, and so many others have not gone yet that nobody waits for this one: a flood of those who are turned away
    // and stay must not hold a thread for each.
    bool hurried() const { return hurried_; }

private:
    static constexpr std::size_t most_waited_for = 64;
    void give_back();
    std::shared_ptr<Shared> shared_;
    std::string ip_;
    pid_t owner_;
    bool over_, hurried_ = false;
};

}  // namespace Net::SMTP
