#include "Server.hpp"

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
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "Shared.hpp"
#include "Socket.hpp"

namespace Net::SMTP {

namespace {

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
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    const bool refused = connect(fd, a.get(), a.size) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

// "tls:" in front of an address.
constexpr std::string_view implicit = "tls:";

std::string full_address(const std::string& host, std::uint16_t port) {
    if (host.starts_with(implicit)) return std::string(implicit) + full_address(host.substr(implicit.size()), port);
    if (host.starts_with("unix:") || host.starts_with("fd:")) return host;
    const bool with_port = host.starts_with('[') || std::ranges::count(host, ':') == 1;
    return (with_port ? Endpoint::parse(host, port) : Endpoint{host.empty() ? "::" : host, port}).str();
}

bool out_of_resources(int error) { return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM; }

// What accept(2) says when it was the peer's or the network's fault.
bool passing(int error) {
    return error == EINTR || error == ECONNABORTED || error == EPROTO || error == ENETDOWN || error == ENOPROTOOPT ||
           error == EHOSTDOWN || error == ENONET || error == EHOSTUNREACH || error == EOPNOTSUPP ||
           error == ENETUNREACH || error == ETIMEDOUT || error == EPERM;
}

}  // namespace

Server::Server(const std::string& host, std::uint16_t port, Options options)
    : Server({full_address(host, port)}, std::move(options)) {}

Server::Server(const std::vector<std::string>& addresses, Options options)
    : shared_(std::make_shared<Shared>(std::move(options))), owner_(getpid()) {
    wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_ < 0) fail("eventfd");
    shared_->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    try {
        if (shared_->stop_fd < 0) fail("eventfd");
        if (addresses.empty()) throw std::invalid_argument("Server: no address to listen on");
        for (const auto& a : addresses) add(a);
    } catch (...) {
        free_sockets();
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

void Server::add(std::string_view address) {
    if (address.starts_with(implicit)) {
        if (!shared_->options.tls) throw std::invalid_argument("no certificate for " + std::string(address));
        const auto before = sockets_.size();
        address.remove_prefix(implicit.size());
        add(address, 465);
        for (auto i = before; i < sockets_.size(); ++i) sockets_[i].tls = true;
    } else {
        add(address, 25);
    }
}

void Server::add(std::string_view address, std::uint16_t port_unsaid) {
    if (address.starts_with("fd:")) {
        int fd = -1;
        const char* const end = address.data() + address.size();
        if (std::from_chars(address.data() + 3, end, fd).ptr != end || fd < 0)
            throw std::invalid_argument("not a descriptor: " + std::string(address));
        return inherit(fd);
    }
    const auto e = Endpoint::parse(address, port_unsaid);
    check_port(shared_->options, e);
    if (e.local()) return bind_to(e, false);
    if (e.host.empty() || e.host == "::") {
        try {
            return bind_to({"::", e.port}, true);
        } catch (const std::system_error& error) {
            if (error.code().value() != EAFNOSUPPORT) throw;
            return bind_to({"0.0.0.0", e.port}, false);  // a system without IPv6
        }
    }
    // A name may have several addresses; with port 0 they share the first one's number.
    auto port = e.port;
    std::vector<Endpoint> done;
    std::exception_ptr missing;
    const auto before = sockets_.size();
    for (const auto& a : resolve(e, true)) {
        auto one = endpoint(a.storage, a.size);
        one.port = port;
        if (std::ranges::find(done, one) != done.end()) continue;
        done.push_back(one);
        try {
            bind_to(one, false);
        } catch (const std::system_error& error) {
            // Of a name like localhost one kind may be missing here, but not all.
            if (error.code().value() != EAFNOSUPPORT && error.code().value() != EADDRNOTAVAIL) throw;
            missing = std::current_exception();
            continue;
        }
        port = addresses_.back().port;
    }
    if (missing && sockets_.size() == before) std::rethrow_exception(missing);
}

void Server::bind_to(const Endpoint& e, bool dual) {
    const auto a = resolve(e, true).front();
    Socket s;
    s.fd = socket(a.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s.fd < 0) fail("listen on " + e.str());
    const int on = 1, only6 = dual ? 0 : 1;
    if (a.family() != AF_UNIX) setsockopt(s.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a.family() == AF_INET6) setsockopt(s.fd, IPPROTO_IPV6, IPV6_V6ONLY, &only6, sizeof only6);
    prepare_socket(s.fd);  // connections inherit it
    if (e.local() && stale(a, e.host)) unlink(e.host.c_str());
    if (bind(s.fd, a.get(), a.size) != 0 || ::listen(s.fd, SOMAXCONN) != 0) {
        const int error = errno;
        ::close(s.fd);
        fail("listen on " + e.str(), error);
    }
    if (e.local()) {
        s.path = e.host;
        s.inode = inode_of(e.host);
        addresses_.push_back(e);
    } else {
        sockaddr_storage bound{};
        socklen_t size = sizeof bound;
        getsockname(s.fd, reinterpret_cast<sockaddr*>(&bound), &size);
        addresses_.push_back(endpoint(bound, size));
    }
    sockets_.push_back(std::move(s));
}

void Server::inherit(int fd) {
    const auto name = "fd:" + std::to_string(fd);
    int listening = 0;
    socklen_t size = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0) fail("listen on " + name);
    if (!listening) fail("listen on " + name, EINVAL);
    sockaddr_storage bound{};
    size = sizeof bound;
    getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size);
    addresses_.push_back(endpoint(bound, size));
    check_port(shared_->options, addresses_.back());
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    Socket s;
    s.fd = fd;
    s.ours = false;
    sockets_.push_back(std::move(s));
}

Connection Server::dress(int fd, const Socket& from) const {
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

// Waits, unless the server is closed meanwhile: false.
bool Server::pause(int milliseconds) {
    pollfd wake{wake_, POLLIN, 0};
    poll(&wake, 1, milliseconds);
    return !closed_;
}

Connection Server::accept() {
    for (;;)
        if (auto connection = accept_within(-1); connection || closed_) return connection;
}

// The same, but empty also after that many milliseconds (-1: never).
Connection Server::accept_within(int milliseconds) {
    struct Inside {
        std::atomic<int>& count;
        explicit Inside(std::atomic<int>& c) : count(c) { ++count; }
        ~Inside() { --count; }
    } inside(accepting_);

    int back_off = 10;
    std::vector<pollfd> fds;
    while (!closed_) {
        bool exhausted = false;
        for (std::size_t i = 0; i < sockets_.size() && !closed_; ++i) {
            const auto& s = sockets_[(next_ + i) % sockets_.size()];
            const int fd = accept4(s.fd, nullptr, nullptr, SOCK_CLOEXEC);
            if (fd >= 0) {
                next_ = (next_ + i + 1) % sockets_.size();
                return dress(fd, s);
            }
            if (errno == EAGAIN || passing(errno)) continue;
            if (closed_) break;
            if (!out_of_resources(errno)) fail("accept");
            exhausted = true;
        }
        if (exhausted) {
            if (!pause(back_off)) break;
            back_off = std::min(back_off * 2, 1000);
            continue;
        }
        fds.assign(1, {wake_, POLLIN, 0});
        for (const auto& s : sockets_) fds.push_back({s.fd, POLLIN, 0});
        if (!closed_ && poll(fds.data(), fds.size(), milliseconds) == 0) break;
    }
    return {};
}

std::uint16_t Server::port() const { return addresses_.front().port; }
std::string Server::address() const { return addresses_.front().str(); }
const Options& Server::options() const { return shared_->options; }

void Server::close() {
    if (running_ && getpid() == owner_) return stop();  // run() closes when its threads have left accept(2)
    closed_ = true;
    if (freed_.exchange(true)) return;
    if (getpid() == owner_) {
        const std::uint64_t one = 1;
        [[maybe_unused]] const auto n = write(wake_, &one, sizeof one);
        // Whoever is in accept() looks at the descriptors; it leaves at once.
        while (accepting_ > 0) std::this_thread::yield();
    }
    free_sockets();
}

void Server::free_sockets() {
    const bool owner = getpid() == owner_;
    for (auto& s : sockets_) {
        ::close(s.fd);
        // Only the file we made, in case somebody has put another there meanwhile.
        if (owner && !s.path.empty() && inode_of(s.path) == s.inode) unlink(s.path.c_str());
    }
    sockets_.clear();
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
