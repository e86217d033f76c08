#include "Listener.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "Options.hpp"
#include "Socket.hpp"

namespace Net::SMTP {

namespace {

using Pointer = std::shared_ptr<Listener>;

[[noreturn]] void fail(const std::string& what, int error = errno) {
    throw std::system_error(error, std::generic_category(), what);
}

unsigned long inode_of(const std::string& path) {
    struct stat status {};
    return stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}

// RFC 2033 5: who expects SMTP must not meet LMTP.
void check_port(const Options& options, const Endpoint& e) {
    if (options.protocol == Protocol::lmtp && !e.local() && e.port == 25)
        throw std::invalid_argument("LMTP must not be spoken on TCP port 25: " + e.str());
}

// A socket file nobody listens behind any more.
bool stale(const SocketAddress& a, const std::string& path) {
    if (!inode_of(path)) return false;
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return false;
    const bool refused = connect(fd, a.get(), a.size) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

Endpoint bound_to(int fd) {
    sockaddr_storage bound{};
    socklen_t size = sizeof bound;
    getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size);
    return endpoint(bound, size);
}

// ---- what an address says ----

constexpr std::string_view implicit = "tls:";

struct Address {
    std::string asked{};
    bool tls = false;
    int fd = -1;         // one that listens already
    Endpoint where{};    // else
    bool every = false;  // interface, of both kinds
};

Address parsed(const std::string& address) {
    Address out{.asked = address};
    std::string_view rest = address;
    if (rest.starts_with(implicit)) {
        out.tls = true;
        rest.remove_prefix(implicit.size());
    }
    if (rest.starts_with("fd:")) {
        const char* const end = rest.data() + rest.size();
        if (std::from_chars(rest.data() + 3, end, out.fd).ptr != end || out.fd < 0)
            throw std::invalid_argument("not a descriptor: " + std::string(rest));
        return out;
    }
    out.where = Endpoint::parse(rest, out.tls ? 465 : 25);
    out.every = out.where.host.empty() || out.where.host == "::";
    if (out.every) out.where.host = "::";
    return out;
}

// A name may have several addresses; a system may have no IPv6.
std::vector<Endpoint> places(const Address& address) {
    const auto& e = address.where;
    if (e.local()) return {e};
    if (address.every) return {e, {"0.0.0.0", e.port}};
    std::vector<Endpoint> out;
    for (const auto& a : resolve(e, true)) {
        auto one = endpoint(a.storage, a.size);
        one.port = e.port;
        if (std::ranges::find(out, one) == out.end()) out.push_back(one);
    }
    return out;
}

// ---- listening ----

Pointer bind_to(const Endpoint& e, const Address& address) {
    const auto a = resolve(e, true).front();
    auto l = std::make_shared<Listener>();
    l->asked = address.asked;
    l->tls = address.tls;
    l->fd = socket(a.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0) fail("listen on " + e.str());
    const int on = 1, only6 = !address.every;
    if (a.family() != AF_UNIX) setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a.family() == AF_INET6) setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &only6, sizeof only6);
    prepare_socket(l->fd);  // connections inherit it
    if (e.local() && stale(a, e.host)) unlink(e.host.c_str());
    if (bind(l->fd, a.get(), a.size) != 0 || listen(l->fd, SOMAXCONN) != 0) fail("listen on " + e.str());
    l->where = e.local() ? e : bound_to(l->fd);
    if (e.local()) l->inode = inode_of(e.host);
    return l;
}

Pointer inherit(const Address& address, const Options& options) {
    const auto name = "fd:" + std::to_string(address.fd);
    int listening = 0;
    socklen_t size = sizeof listening;
    if (getsockopt(address.fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0) fail("listen on " + name);
    if (!listening) fail("listen on " + name, EINVAL);
    auto l = std::make_shared<Listener>();
    l->ours = false;
    l->asked = address.asked;
    l->tls = address.tls;
    l->where = bound_to(address.fd);
    check_port(options, l->where);
    l->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->end_fd < 0) fail("listen on " + name);
    fcntl(address.fd, F_SETFD, FD_CLOEXEC);
    fcntl(address.fd, F_SETFL, fcntl(address.fd, F_GETFL) | O_NONBLOCK);
    l->fd = address.fd;
    return l;
}

// The one that listens there already, with or without TLS as it was asked; else null. EADDRINUSE: the other way.
template <class Same>
Pointer found(const Listeners::Sockets& there, const Address& address, Same same) {
    const auto l = std::ranges::find_if(there, same);
    if (l == there.end()) return nullptr;
    if ((*l)->tls != address.tls) fail("listen on " + address.asked, EADDRINUSE);
    return *l;
}

Pointer listener_at(const Endpoint& e, const Address& address, const Listeners::Sockets& there) {
    auto already = found(there, address, [&](const Pointer& l) {
        return l->where == e && (!e.local() || l->inode == inode_of(e.host));  // or somebody has taken the file away
    });
    return already ? already : bind_to(e, address);
}

// What is in `there` need not be made.
Listeners::Sockets listen_on(const Address& address, const std::vector<Endpoint>& places, const Options& options,
                             const Listeners::Sockets& there) {
    if (address.fd >= 0) {
        auto already = found(there, address, [&](const Pointer& l) { return l->fd == address.fd; });
        return {already ? already : inherit(address, options)};
    }
    Listeners::Sockets out;
    std::exception_ptr missing;
    for (auto one : places) {
        if (address.every && !out.empty()) break;
        if (!out.empty()) one.port = out.front()->where.port;  // port 0: they share the first one's number
        try {
            out.push_back(listener_at(one, address, there));
        } catch (const std::system_error& error) {
            // One kind of address may be missing here, but not all.
            if (error.code().value() != EAFNOSUPPORT && error.code().value() != EADDRNOTAVAIL) throw;
            if (!missing) missing = std::current_exception();
        }
    }
    if (out.empty() && missing) std::rethrow_exception(missing);
    return out;
}

struct Looking {
    std::atomic<int>& count;
    explicit Looking(std::atomic<int>& c) : count(c) { ++count; }
    ~Looking() { --count; }
};

}  // namespace

AcceptTrouble accept_trouble(int error) {
    static constexpr int shortage[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
    static constexpr int passing[] = {EAGAIN,      EINTR,     ECONNABORTED, EPROTO,       ENETDOWN,
                                      ENOPROTOOPT, EHOSTDOWN, ENONET,       EHOSTUNREACH, EOPNOTSUPP,
                                      ENETUNREACH, ETIMEDOUT, EPERM};
    const auto among = [error](const auto& errors) { return std::ranges::find(errors, error) != std::end(errors); };
    return among(shortage) ? AcceptTrouble::shortage : among(passing) ? AcceptTrouble::passes : AcceptTrouble::end;
}

void make_readable(int event_fd) noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto n = write(event_fd, &one, sizeof one);
}

Endpoint meant_by(const std::string& address) {
    const auto a = parsed(address);
    return a.fd < 0 ? a.where : Endpoint{address, 0};
}

// ---- one ----

Listener::~Listener() {
    if (fd >= 0) close(fd);
    if (end_fd >= 0) close(end_fd);
}

std::string Listener::address() const { return (tls ? std::string(implicit) : std::string()) + where.str(); }

void Listener::deafen() const noexcept {
    if (ours) shutdown(fd, SHUT_RD);
}

void Listener::retire() {
    if (retired.exchange(true)) return;
    deafen();
    if (end_fd >= 0) make_readable(end_fd);
    // Only the file we made, in case somebody has put another there meanwhile.
    if (inode && inode_of(where.host) == inode) unlink(where.host.c_str());
}

void Listener::relieved() {
    if (!exhausted.load(std::memory_order_relaxed)) return;
    pollfd waiting{fd, POLLIN, 0};
    if (poll(&waiting, 1, 0) == 0) exhausted = false;
}

// ---- all ----

Listeners::Listeners() : kept_(std::make_shared<List>()), list_(kept_.get()) {}

std::shared_ptr<const Listeners::List> Listeners::now() const {
    const Looking looking(looking_);
    return list_.load()->shared_from_this();
}

// With the lock held.
void Listeners::publish(Sockets sockets, bool last) {
    auto next = std::make_shared<List>();
    if (last) next->where = kept_->where;
    else
        for (const auto& l : sockets) next->where.push_back(l->where);
    next->sockets = std::move(sockets);
    list_ = next.get();
    while (looking_ > 0) std::this_thread::yield();
    kept_ = std::move(next);
}

std::vector<Endpoint> Listeners::start(const std::string& text, const Options& options, Again again) {
    const auto address = parsed(text);
    if (address.tls && !options.tls) throw std::invalid_argument("no certificate for " + text);
    if (address.fd < 0) check_port(options, address.where);
    const auto wanted = address.fd < 0 ? places(address) : std::vector<Endpoint>();  // may take long
    const std::lock_guard lock(mutex_);
    if (cleared_) fail("listen on " + text, ECANCELED);
    auto all = kept_->sockets;
    std::vector<Endpoint> where;
    for (auto& l : listen_on(address, wanted, options, again == Again::finds ? all : Sockets())) {
        where.push_back(l->where);
        if (std::ranges::find(all, l) == all.end()) all.push_back(std::move(l));
    }
    publish(std::move(all));
    return where;
}

std::size_t Listeners::stop(const std::string& text) {
    const auto address = parsed(text);
    const std::lock_guard lock(mutex_);
    Sockets stay, go;
    for (const auto& l : kept_->sockets)
        (l->asked == text || (address.fd < 0 && l->where == address.where) ? go : stay).push_back(l);
    if (go.empty() || cleared_) return 0;
    publish(std::move(stay));
    for (const auto& l : go) l->retire();
    return go.size();
}

bool Listeners::remove(const Listener& listener) {
    const std::lock_guard lock(mutex_);
    auto stay = kept_->sockets;
    if (std::erase_if(stay, [&](const Pointer& l) { return l.get() == &listener; }) == 0) return false;
    const auto old = kept_;
    publish(std::move(stay));
    for (const auto& l : old->sockets)
        if (l.get() == &listener) l->retire();
    return true;
}

void Listeners::clear() {
    const std::lock_guard lock(mutex_);
    if (std::exchange(cleared_, true)) return;
    for (const auto& l : kept_->sockets) l->retire();
    try {
        publish({}, true);
    } catch (const std::bad_alloc&) {
        // Then they are deaf, and closed in the end.
    }
}

void Listeners::deafen() const noexcept {
    const Looking looking(looking_);
    for (const auto& l : list_.load()->sockets) l->deafen();
}

// No lock: its owner may be a thread that the child has not.
void Listeners::close_copies() {
    for (const auto& l : list_.load()->sockets) {
        if (l->fd >= 0) close(l->fd);
        l->fd = -1;
    }
}

}  // namespace Net::SMTP
