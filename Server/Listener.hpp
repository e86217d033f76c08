// Listener -- a socket that listens, and the set of a server's; for our own .cpp files only, it is not installed.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "Endpoint.hpp"

namespace Net::SMTP {

struct Options;

// Closed by scope. What is not atomic does not change while others can see it.
struct Listener {
    Listener() = default;
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    int fd = -1;
    bool ours = true;     // we made it, so we may shut it down
    bool tls = false;     // before the greeting
    std::string asked{};  // as the program has named it
    Endpoint where{};
    unsigned long inode = 0;             // of a Unix socket's file
    int end_fd = -1;                     // of one that is not ours: readable when it is retired
    std::atomic<bool> retired{false};    // nobody accepts here any more
    std::atomic<bool> exhausted{false};  // a shortage of descriptors or memory was told, and lasts

    // What listens there again: "tls:192.0.2.1:465".
    std::string address() const;
    // Nobody can connect any more, and whoever waits inside accept(2) comes out; if the socket is somebody else's, too,
    // only we don't accept there any more. The path of a Unix socket goes.
    void retire();
    // The first half of it: async-signal-safe.
    void deafen() const noexcept;
    // A connection was accepted: if nobody else is waiting the shortage is over.
    void relieved();
};

// Those of one server. now() and deafen() wait for nobody, the others wait for each other; deafen() may be called by a
// signal handler, everything else by any thread.
class Listeners {
public:
    using Sockets = std::vector<std::shared_ptr<Listener>>;
    // Does not change; who holds one keeps its sockets open.
    struct List : std::enable_shared_from_this<List> {
        Sockets sockets{};
        std::vector<Endpoint> where{};  // of the sockets; after clear(), of those that were there
    };

    Listeners();
    std::shared_ptr<const List> now() const;

    enum class Again { fails, finds };  // when an address is listened on already: EADDRINUSE, or it is as good as new
    // Listens on all that the address means, or none; where. std::system_error, std::runtime_error for an unknown name,
    // std::invalid_argument; ECANCELED after clear().
    std::vector<Endpoint> start(const std::string& address, const Options&, Again);
    // Retires what was started by that address or is there; how many.
    std::size_t stop(const std::string& address);
    // Retires one; false: it is not here any longer.
    bool remove(const Listener&);
    // Retires all, for good.
    void clear();
    void deafen() const noexcept;
    // In a forked child: closes its copies.
    void close_copies();

private:
    void publish(Sockets, bool last = false);

    std::mutex mutex_;  // of those who change
    bool cleared_ = false;
    std::shared_ptr<const List> kept_;  // what list_ points to
    // Replaced as a whole. Who looks says so for that moment, and the old one is kept as long.
    std::atomic<const List*> list_;
    mutable std::atomic<int> looking_{0};
};

// What an error of accept(2) means: the peer's or the network's fault, a lack that may pass, or the socket's end.
enum class AcceptTrouble { passes, shortage, end };
AcceptTrouble accept_trouble(int error);

// Of an eventfd. Async-signal-safe.
void make_readable(int event_fd) noexcept;

// Where an address would listen, for telling that it can't: as it was written if it is none.
Endpoint meant_by(const std::string& address);

}  // namespace Net::SMTP
