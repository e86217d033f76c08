#include "Server.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "Event.hpp"
#include "Listener.hpp"
#include "Shared.hpp"
#include "Socket.hpp"

namespace Net::SMTP {

namespace {

[[noreturn]] void fail(const std::string& what, int error = errno) {
    throw std::system_error(error, std::generic_category(), what);
}

std::string full_address(const std::string& host, std::uint16_t port) {
    constexpr std::string_view implicit = "tls:";
    if (host.starts_with(implicit)) return std::string(implicit) + full_address(host.substr(implicit.size()), port);
    if (host.starts_with("unix:") || host.starts_with("fd:")) return host;
    const bool with_port = host.starts_with('[') || std::ranges::count(host, ':') == 1;
    return (with_port ? Endpoint::parse(host, port) : Endpoint{host.empty() ? "::" : host, port}).str();
}

}  // namespace

Server::Server(const std::string& host, std::uint16_t port, Options options)
    : Server({full_address(host, port)}, std::move(options)) {}

Server::Server(const std::vector<std::string>& addresses, Options options)
    : shared_(std::make_shared<Shared>(std::move(options))),
      listeners_(std::make_unique<Listeners>()),
      owner_(getpid()) {
    wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_ < 0) fail("eventfd");
    shared_->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    try {
        if (shared_->stop_fd < 0) fail("eventfd");
        if (addresses.empty()) throw std::invalid_argument("Server: no address to listen on");
        for (const auto& a : addresses) listeners_->start(a, shared_->options, Listeners::Again::fails);
    } catch (...) {
        listeners_->clear();
        ::close(wake_);
        throw;
    }
}

Server::~Server() {
    close();
    if (getpid() == owner_) {
        // A program that never said reaped() must not keep us alive through its children's places.
        std::map<pid_t, std::unique_ptr<Slot>> children;
        std::lock_guard lock(shared_->mutex);
        children.swap(shared_->children);
    }
    ::close(wake_);
}

Server::Server(std::initializer_list<Where> addresses, Options options)
    : Server(std::vector<std::string>(addresses.begin(), addresses.end()), std::move(options)) {}

std::vector<std::string> Server::activated() {
    const char* pid = std::getenv("LISTEN_PID");
    const char* count = std::getenv("LISTEN_FDS");
    std::vector<std::string> out;
    if (!pid || !count || std::strtol(pid, nullptr, 10) != getpid()) return out;
    const long n = std::clamp(std::strtol(count, nullptr, 10), 0L, 1000L);
    for (long fd = 3; fd < 3 + n; ++fd) out.push_back("fd:" + std::to_string(fd));
    return out;
}

// ---- listeners ----

std::vector<Endpoint> Server::start_listener(const std::string& address) {
    if (getpid() != owner_) throw std::logic_error("start_listener() in a forked child");
    if (closed_) fail("listen on " + address, ECANCELED);
    std::vector<Endpoint> where;
    try {
        where = listeners_->start(address, shared_->options, Listeners::Again::finds);
    } catch (const std::system_error& error) {
        tell(meant_by(address), error.code().value(), address, false);
        throw;
    } catch (const std::runtime_error&) {  // the name has no address
        tell(meant_by(address), EADDRNOTAVAIL, address, false);
        throw;
    }
    if (closed_) {  // stop() may not have seen it
        listeners_->clear();
        fail("listen on " + address, ECANCELED);
    }
    rouse();
    return where;
}

bool Server::stop_listener(const std::string& address) {
    if (getpid() != owner_) throw std::logic_error("stop_listener() in a forked child");
    if (listeners_->stop(address) == 0) return false;
    rouse();
    return true;
}

void Server::tell(const Endpoint& where, int error, const std::string& address, bool lives) noexcept {
    try {
        Event::ListenerFailed event(where, error, address, lives);
        shared_->pipeline.send(event);
    } catch (...) {  // no memory to tell it
    }
}

// Who takes it from the list tells, when nothing of ours listens there any more. False: somebody else has, or there is
// no memory for it.
bool Server::give_up(std::shared_ptr<Listener> listener, int error) {
    try {
        const auto where = listener->where;
        const auto address = listener->address();
        if (!listeners_->remove(*listener)) return false;
        listener.reset();
        rouse();
        tell(where, error, address, false);
        return true;
    } catch (const std::bad_alloc&) {
        return false;
    }
}

// Nobody listens from now on, while sessions go on.
void Server::leave_ports() {
    if (getpid() == owner_) listeners_->clear();
}

// Tells it once.
void Server::exhausted(Listener& listener, int error) {
    if (listener.exhausted.exchange(true)) return;
    try {
        tell(listener.where, error, listener.address(), true);
    } catch (const std::bad_alloc&) {
    }
}

std::vector<Endpoint> Server::addresses() const { return listeners_->now()->where; }
bool Server::implicit_tls(std::size_t i) const { return listeners_->now()->sockets.at(i)->tls; }

std::uint16_t Server::port() const {
    const auto where = addresses();
    return where.empty() ? 0 : where.front().port;
}

std::string Server::address() const {
    const auto where = addresses();
    return where.empty() ? "" : where.front().str();
}

// ---- connections ----

Connection Server::dress(int fd, const Listener& from) const {
    Connection c;
    c.in_ = c.out_fd_ = fd;
    c.socket_ = true;
    c.blocking_ = from.ours || prepare_socket(fd);
    c.shared = shared_;
    c.implicit_tls = from.tls;
    const auto& o = shared_->options;
    if (o.max_connections > 0 || o.max_connections_per_ip > 0)
        c.slot =
            std::make_unique<Slot>(shared_, o.max_connections_per_ip > 0 ? customer(c.peer().host) : std::string());
    return c;
}

// Waits, unless the server is closed or its listeners change meanwhile. False: it is closed.
bool Server::pause(int milliseconds) {
    pollfd wake{wake_, POLLIN, 0};
    poll(&wake, 1, milliseconds);
    return !closed_;
}

// Whoever waits for connections looks at the list again. If nobody does, nobody is told: a forked child that accepts,
// too, would never find silence.
void Server::rouse() {
    if (accepting_ > 0 || running_) make_readable(wake_);
}

// Takes rouse()'s word, but leaves close()'s and stop()'s for the others. By the thread that accept() or run() is in.
void Server::heed() {
    if (getpid() != owner_) return;
    std::uint64_t count = 0;
    [[maybe_unused]] const auto n = read(wake_, &count, sizeof count);
    if (closed_) make_readable(wake_);
}

Connection Server::accept() {
    for (;;)
        if (auto connection = accept_within(-1); connection || closed_) return connection;
}

struct Server::Failure {
    std::shared_ptr<Listener> listener;
    int error;
};

// The same, but empty also after that many milliseconds (-1: never).
Connection Server::accept_within(int milliseconds) {
    int back_off = 10;
    while (!closed_) {
        std::vector<Failure> failures;
        auto connection = first_waiting(failures, milliseconds);
        if (connection || failures.empty()) return connection;
        if (!told(std::move(failures))) continue;
        if (!pause(back_off)) break;
        heed();
        back_off = std::min(back_off * 2, 1000);
    }
    return {};
}

// Empty: the time is over, or not all sockets could be asked. Nothing is told from in here, so that close() can wait
// for its end.
Connection Server::first_waiting(std::vector<Failure>& failures, int milliseconds) {
    struct Inside {
        std::atomic<int>& count;
        explicit Inside(std::atomic<int>& c) : count(c) { ++count; }
        ~Inside() { --count; }
    } inside(accepting_);

    while (!closed_) {
        const auto list = listeners_->now();
        const auto& sockets = list->sockets;
        for (std::size_t i = 0; i < sockets.size() && !closed_; ++i) {
            const auto& l = sockets[(next_ + i) % sockets.size()];
            const int fd = accept4(l->fd, nullptr, nullptr, SOCK_CLOEXEC);
            const int error = errno;
            if (fd >= 0 || error == EAGAIN) l->relieved();
            if (fd >= 0) {
                next_ = (next_ + i + 1) % sockets.size();
                return dress(fd, *l);
            }
            if (accept_trouble(error) != AcceptTrouble::passes && !l->retired) failures.push_back({l, error});
        }
        if (!failures.empty()) break;
        std::vector<pollfd> fds(1, {wake_, POLLIN, 0});
        for (const auto& l : sockets) fds.push_back({l->fd, POLLIN, 0});
        if (closed_ || poll(fds.data(), fds.size(), milliseconds) == 0) break;
        if (fds[0].revents) heed();
    }
    return {};
}

// Whether one of them asks for a pause.
bool Server::told(std::vector<Failure> failures) {
    bool wait = false;
    for (auto& f : failures) {
        if (accept_trouble(f.error) == AcceptTrouble::shortage) {
            exhausted(*f.listener, f.error);
            wait = true;
        } else if (!closed_) {
            const bool ours = give_up(std::move(f.listener), f.error);
            if (ours && !closed_ && listeners_->now()->sockets.empty()) fail("accept", f.error);
            wait |= !ours;
        }
    }
    return wait;
}

const Options& Server::options() const { return shared_->options; }

void Server::close() {
    if (running_ && getpid() == owner_) return stop();  // run() closes when its threads have left accept(2)
    closed_ = true;
    if (freed_.exchange(true)) return;
    if (getpid() != owner_) return listeners_->close_copies();
    make_readable(wake_);
    while (accepting_ > 0) std::this_thread::yield();  // it leaves at once
    listeners_->clear();
}

void Server::forked(int pid, Connection& connection) {
    if (!connection.slot) return;
    std::unique_ptr<Slot> forgotten;  // of a child of that pid that was never reaped; its end takes the lock again
    std::lock_guard lock(shared_->mutex);
    forgotten = std::exchange(shared_->children[pid], std::move(connection.slot));
}

void Server::reaped(int pid) {
    std::unique_ptr<Slot> slot;  // its end takes the lock again
    std::lock_guard lock(shared_->mutex);
    const auto child = shared_->children.find(pid);
    if (child == shared_->children.end()) return;
    slot = std::move(child->second);
    shared_->children.erase(child);
}

bool Server::send_to_client(const std::string& id, Reply reply) const {
    const auto mailbox = shared_->mailboxes.find(id);
    const bool sensible = !reply.text.empty() && reply.code >= 200 && reply.code <= 599;
    return mailbox && sensible && mailbox->put(std::move(reply));
}

Pipeline& Server::pipeline() const { return shared_->pipeline; }

std::uint64_t Server::listen(std::size_t kind, std::function<void(Event&)> listener) {
    return shared_->pipeline.listen(kind, std::move(listener));
}

}  // namespace Net::SMTP
