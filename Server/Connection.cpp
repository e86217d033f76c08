#include "Connection.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "Content.hpp"
#include "Files.hpp"
#include "Shared.hpp"
#include "Socket.hpp"
#include "Turns.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// A session that is talking waits inside recv, for at most this long (SO_RCVTIMEO): two system calls a round trip
// instead of three. Only who stays silent goes on to poll, which knows deadlines to the millisecond and the stop
// descriptor.
constexpr auto slice = 1s;
constexpr std::size_t first_buffer = 256;          // a command, or a small group of them
constexpr std::size_t largest_buffer = 64 * 1024;  // of who sends more than fits, at a time
constexpr std::size_t pipe_write = 512;            // POSIX's PIPE_BUF: such a write after POLLOUT does not block
constexpr std::size_t longest_front = 16;          // of a line that is too long: more than any verb has

Endpoint ask(int fd, int (*which)(int, sockaddr*, socklen_t*)) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (which(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
    return endpoint(address, size);
}

}  // namespace

Connection::Connection() = default;

Connection::Connection(int fd) { adopt(fd, fd); }
Connection::Connection(int in, int out) { adopt(in, out); }

void Connection::adopt(int in, int out) {
    in_ = in;
    out_fd_ = out;
    auto fail = [&](int error, const char* what) {
        close();
        throw std::system_error(error, std::generic_category(), what);
    };
    struct stat status {};
    for (int fd : {in, out}) {
        if (fstat(fd, &status) != 0) fail(errno, "Connection: descriptor");
        if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) fail(ENOTCONN, "Connection: descriptor of a file");
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    fstat(in, &status);
    socket_ = S_ISSOCK(status.st_mode);
    if (!socket_) return;

    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (getpeername(in, reinterpret_cast<sockaddr*>(&address), &size) != 0) fail(errno, "Connection: socket");
    blocking_ = prepare_socket(in) && !(fcntl(in, F_GETFL) & O_NONBLOCK);
}

Connection::~Connection() { close(); }

Connection::Connection(Connection&& other) noexcept { *this = std::move(other); }

Connection& Connection::operator=(Connection&& other) noexcept {
    if (this == &other) return *this;
    close();
    in_ = std::exchange(other.in_, -1);
    out_fd_ = std::exchange(other.out_fd_, -1);
    socket_ = other.socket_;
    blocking_ = other.blocking_;
    broken_ = other.broken_;
    buffer_ = std::move(other.buffer_);
    begin_ = std::exchange(other.begin_, 0);
    end_ = std::exchange(other.end_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    out_ = std::move(other.out_);
    layer_ = std::move(other.layer_);
    implicit_tls = other.implicit_tls;
    wake_fd = std::exchange(other.wake_fd, -1);
    peer_ = std::move(other.peer_);
    local_ = std::move(other.local_);
    shared = std::move(other.shared);
    slot = std::move(other.slot);
    idle = std::exchange(other.idle, nullptr);
    idle_argument = other.idle_argument;
    return *this;
}

void Connection::close() {
    layer_.reset();
    if (in_ >= 0) ::close(in_);
    if (out_fd_ >= 0 && out_fd_ != in_) ::close(out_fd_);
    in_ = out_fd_ = -1;
    slot.reset();
}

const Endpoint& Connection::peer() const {
    if (!peer_) peer_ = std::make_unique<Endpoint>(socket_ ? ask(in_, getpeername) : Endpoint{});
    return *peer_;
}

const Endpoint& Connection::local() const {
    if (!local_) local_ = std::make_unique<Endpoint>(socket_ ? ask(in_, getsockname) : Endpoint{});
    return *local_;
}

bool Connection::stopping() const { return shared && shared->stop_seen(); }

// Nobody has spoken for a second: give back what a silent session does not need.
void Connection::park() {
    if (begin_ == end_ && capacity_ > first_buffer) {
        buffer_.reset();
        capacity_ = begin_ = end_ = 0;
        filled_ = false;
    }
    if (out_.capacity() > 1024) std::string().swap(out_);
    if (layer_) layer_->park();
    if (idle) idle(idle_argument);
}

Connection::Got Connection::poll_input(Deadline deadline, bool heed_stop, bool heed_wake) {
    for (;;) {
        const bool stop = stopping();
        if (stop && heed_stop) {
            pollfd in{in_, POLLIN, 0};  // who has begun a command is not idle
            return poll(&in, 1, 0) > 0 ? Got::data : Got::stopped;
        }
        const auto end = stop ? std::min(deadline, shared->drained()) : deadline;
        pollfd fds[3] = {{in_, POLLIN, 0},
                         {shared && !stop ? shared->stop_fd : -1, POLLIN, 0},
                         {heed_wake ? wake_fd : -1, POLLIN, 0}};
        const int n = poll(fds, 3, milliseconds_until(end));
        if (n < 0 && errno != EINTR) return Got::end;
        if (n > 0 && fds[0].revents) return Got::data;
        if (n > 0 && fds[2].revents) return Got::woken;
        if (n > 0 && fds[1].revents && shared) shared->stopping = true;
        if (n == 0 && Clock::now() >= end) return end == deadline ? Got::timeout : Got::end;
    }
}

std::ptrdiff_t Connection::take(char* to, std::size_t size, bool wait) {
    if (!layer_ && !socket_) return read(in_, to, size);
    if (!layer_) return wait ? Turns::receive(in_, to, size) : recv(in_, to, size, MSG_DONTWAIT);
    std::size_t got = 0;
    switch (layer_->read(to, size, got, wait)) {
        case TLSLayer::Did::done: return std::ptrdiff_t(got);
        case TLSLayer::Did::wants_input: errno = EAGAIN; return -1;
        case TLSLayer::Did::wants_output: errno = EINPROGRESS; return -1;
        case TLSLayer::Did::ended: return 0;
        case TLSLayer::Did::failed: break;
    }
    broken_ = true;  // nothing can be said any more either
    errno = EPROTO;
    return -1;
}

std::ptrdiff_t Connection::give(const char* from, std::size_t size) {
    if (!layer_) return ::send(out_fd_, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    std::size_t sent = 0;
    switch (layer_->write(from, size, sent)) {
        case TLSLayer::Did::done: return std::ptrdiff_t(sent);
        case TLSLayer::Did::wants_output: errno = EAGAIN; return -1;
        default: break;  // renegotiation, for which it would have to read, is not allowed
    }
    errno = EPIPE;
    return -1;
}

Connection::Got Connection::receive_raw(char* to, std::size_t size, std::size_t& got, Deadline deadline, bool heed_stop,
                                        bool may_wake) {
    const bool heed_wake = may_wake && wake_fd >= 0;
    bool silent = false;
    bool first = layer_ != nullptr;  // it may hold octets that the socket has no more
    for (bool tried = false;; tried = true) {
        const auto now = Clock::now();
        const bool stop = stopping();
        if (stop && now >= shared->drained()) return Got::end;
        if (tried && layer_ && now >= deadline) return Got::timeout;  // records may come for ever, and say nothing
        const bool wait_inside = blocking_ && !silent && !heed_wake && !(stop && heed_stop) && deadline - now > slice;
        if (!wait_inside && !first) {
            const auto ready = poll_input(deadline, heed_stop, heed_wake);
            if (ready != Got::data) return ready;
        }
        first = false;
        const auto n = take(to, size, wait_inside);
        if (n > 0) {
            got = std::size_t(n);
            return Got::data;
        }
        if (n == 0) return Got::end;
        if (errno == EINTR) continue;
        if (errno == EINPROGRESS) {
            if (!poll_output(deadline)) return Clock::now() >= deadline ? Got::timeout : Got::end;
            first = true;
            continue;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK) return Got::end;
        silent = !layer_ || silent || Clock::now() - now >= slice;  // part of a record is not silence
        // The buffer may go now: who waits for a command comes back with another one.
        if (wait_inside && silent && heed_stop) {
            park();
            const auto ready = poll_input(deadline, heed_stop, heed_wake);
            got = 0;
            return ready;
        }
    }
}

bool Connection::encrypt(std::unique_ptr<TLSLayer> layer, Deadline deadline, std::string& problem) {
    problem = "there is no socket to encrypt, or plain text before the handshake";
    if (!can_encrypt() || begin_ != end_) return false;
    problem = "the connection was lost";
    if (!flush(deadline)) return false;
    const bool elsewhere = shared && shared->crowded && shared->handshakes.is_open();
    bool silent = elsewhere;
    const auto more = [&] {
        problem = "the handshake was not over in time";
        // To be told to stop does not end one that has begun.
        return poll_input(deadline, !layer->heard(), false) == Got::data;
    };
    if (elsewhere && !layer->heard() && !more()) return false;
    for (;;) {
        const auto began = Clock::now();
        const bool wait = blocking_ && !silent && !stopping() && deadline - began > slice;
        const auto did = elsewhere ? shared->handshakes.go_on(*layer) : layer->handshake(wait);
        if (did == TLSLayer::Did::done) break;
        problem = layer->problem();
        if (did == TLSLayer::Did::failed) broken_ = true;
        if (did == TLSLayer::Did::failed || did == TLSLayer::Did::ended) return false;
        problem = "the handshake was not over in time";
        const auto now = Clock::now();
        if (now >= deadline) return false;
        if (did == TLSLayer::Did::wants_output) {
            if (!poll_output(deadline)) return false;
            continue;
        }
        silent = silent || now - began >= slice;
        if ((!wait || silent) && !more()) return false;
    }
    problem.clear();
    layer_ = std::move(layer);
    return true;
}

// Makes room for more input behind what is buffered. Who fills it with one read gets four times as much.
void Connection::room() {
    if (begin_ == end_) begin_ = end_ = 0;
    const bool full = end_ - begin_ == capacity_;
    if (full || (filled_ && capacity_ < largest_buffer)) {
        const auto larger = capacity_ == 0 ? first_buffer : capacity_ * 4;
        std::unique_ptr<char[]> grown(new char[larger]);
        if (end_ > begin_) std::memcpy(grown.get(), buffer_.get() + begin_, end_ - begin_);
        buffer_ = std::move(grown);
        capacity_ = larger;
        end_ -= begin_;
        begin_ = 0;
    } else if (end_ == capacity_) {
        std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
    }
    filled_ = false;
}

Connection::Got Connection::read_line(std::string_view& line, std::size_t limit, Deadline deadline, bool lf,
                                      bool heed_stop, std::size_t waste) {
    std::size_t scanned = 0;  // octets of the buffer known to hold no line end
    std::size_t front = 0;    // octets at its begin that are all that is kept of a line that is too long
    for (;;) {
        const char* const begin = buffer_.get() + begin_;
        const std::size_t have = end_ - begin_;
        while (scanned < have) {
            const auto* end = static_cast<const char*>(std::memchr(begin + scanned, '\n', have - scanned));
            if (!end) {
                scanned = have;
                break;
            }
            const std::size_t length = end - begin;
            scanned = length + 1;
            const bool crlf = length > front && end[-1] == '\r';
            if (!crlf && !lf) continue;
            line = {begin, front > 0 ? front : length - (crlf ? 1 : 0)};
            begin_ += length + 1;
            return front > 0 || length + 1 > limit ? Got::too_long : Got::data;
        }
        if (have >= limit) {  // throw it away, but for its front and a CR that an LF may follow
            const std::size_t old = front;
            if (front == 0) front = std::min(have, longest_front);
            const std::size_t keep = have > front && begin[have - 1] == '\r' ? 1 : 0;
            if (have - old - keep > waste) {
                line = {begin, front};
                begin_ = end_ - keep;
                return Got::too_long;
            }
            waste -= have - old - keep;
            if (keep > 0) buffer_[begin_ + front] = '\r';
            end_ = begin_ + front + keep;
            scanned = front;
        }
        if (!flush(deadline)) return Got::end;
        room();
        std::size_t got = 0;
        // Only who has sent nothing of a command is idle.
        const bool nothing = begin_ == end_;
        const auto result =
            receive_raw(buffer_.get() + end_, capacity_ - end_, got, deadline, heed_stop && nothing, nothing);
        if (result != Got::data) return result;
        end_ += got;
        filled_ = end_ == capacity_;
    }
}

Connection::Got Connection::receive(char* to, std::size_t size, std::size_t& got, Deadline deadline) {
    if (begin_ < end_) {
        got = std::min(size, end_ - begin_);
        std::memcpy(to, buffer_.get() + begin_, got);
        begin_ += got;
        return Got::data;
    }
    if (!flush(deadline)) return Got::end;
    return receive_raw(to, size, got, deadline, false, false);
}

void Connection::unread(std::string_view octets) {
    if (octets.empty()) return;
    const std::size_t have = end_ - begin_;
    if (begin_ >= octets.size()) {
        begin_ -= octets.size();
    } else {
        auto capacity = std::max(capacity_, first_buffer);
        while (capacity < octets.size() + have) capacity *= 4;
        std::unique_ptr<char[]> grown(new char[capacity]);
        if (have > 0) std::memcpy(grown.get() + octets.size(), buffer_.get() + begin_, have);
        buffer_ = std::move(grown);
        capacity_ = capacity;
        begin_ = 0;
        end_ = have + octets.size();
    }
    std::memcpy(buffer_.get() + begin_, octets.data(), octets.size());
}

void Connection::wipe() {
    if (!buffer_) return;
    explicit_bzero(buffer_.get(), begin_);
    explicit_bzero(buffer_.get() + end_, capacity_ - end_);  // what was moved to the front has been there
}

// Whether the peer takes something, before the deadline or the end of the drain.
bool Connection::poll_output(Deadline deadline) {
    for (;;) {
        const bool stop = stopping();
        const auto end = stop ? std::min(deadline, shared->drained()) : deadline;
        pollfd fds[2] = {{out_fd_, POLLOUT, 0}, {shared && !stop ? shared->stop_fd : -1, POLLIN, 0}};
        const int ready = poll(fds, 2, milliseconds_until(end));
        if (ready < 0 && errno != EINTR) return false;
        if (ready == 0 && Clock::now() >= end) return false;
        if (ready <= 0) continue;
        if (fds[1].revents) shared->stopping = true;
        if (fds[0].revents) return true;
    }
}

bool Connection::send_raw(const char* from, std::size_t size, Deadline deadline) {
    while (size > 0 && !broken_) {
        if (socket_) {
            const auto n = give(from, size);
            if (n >= 0) {
                from += n;
                size -= std::size_t(n);
                continue;
            }
            if (errno == EINTR) continue;
            if (errno != EAGAIN && errno != EWOULDBLOCK) break;
        }
        if (!poll_output(deadline)) break;
        if (socket_) continue;
        const NoPipeSignal held;
        const auto written = write(out_fd_, from, std::min(size, pipe_write));
        if (written < 0 && errno != EINTR && errno != EAGAIN) break;
        if (written > 0) {
            from += written;
            size -= std::size_t(written);
        }
    }
    if (size > 0) broken_ = true;
    return !broken_;
}

bool Connection::flush(Deadline deadline) {
    if (out_.empty()) return !broken_;
    const bool sent = send_raw(out_.data(), out_.size(), deadline);
    out_.clear();
    return sent;
}

bool Connection::send(std::string_view octets, Deadline deadline) {
    return flush(deadline) && send_raw(octets.data(), octets.size(), deadline);
}

// Only a layer can tell octets for us from its own.
bool Connection::look() {
    room();
    const auto n = take(buffer_.get() + end_, capacity_ - end_, false);
    if (n > 0) end_ += std::size_t(n);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR || errno == EINPROGRESS));
}

bool Connection::readable() {
    if (begin_ < end_) return true;
    if (layer_) return !look() || begin_ < end_;
    pollfd in{in_, POLLIN, 0};
    return poll(&in, 1, 0) > 0;
}

bool Connection::peer_gone() {
    if (broken_) return true;
    if (begin_ < end_) return false;
    pollfd in{in_, POLLIN, 0};
    if (layer_) return !look();
    if (poll(&in, 1, 0) <= 0) return false;
    if (in.revents & (POLLERR | POLLNVAL)) return true;
    char octet;
    if (socket_) return recv(in_, &octet, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
    return (in.revents & POLLHUP) && !(in.revents & POLLIN);
}

bool Connection::pause(Deadline deadline) {
    bool said_more = false;  // and closed: it may want to hear the answers to that
    while (!stopping() && Clock::now() < deadline) {
        pollfd fds[2] = {{said_more ? -1 : in_, POLLRDHUP, 0}, {shared ? shared->stop_fd : -1, POLLIN, 0}};
        if (poll(fds, 2, milliseconds_until(deadline)) <= 0) continue;
        if (fds[1].revents) shared->stopping = true;
        if (!fds[0].revents) continue;
        if (peer_gone()) return false;
        said_more = true;
    }
    return true;
}

// Whether something was sent that nobody has read; a layer's own octets are nothing.
bool Connection::left_over() {
    char octet;
    if (begin_ < end_) return true;
    if (!layer_) return recv(in_, &octet, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
    look();
    return begin_ < end_;
}

void Connection::finish(bool politely) {
    const auto deadline = Clock::now() + (slot && slot->hurried() ? 0s : 2s);
    if (layer_ && !broken_) {
        while (layer_->end(out_) == TLSLayer::Did::wants_output && poll_output(deadline)) {
        }
        out_.clear();
    }
    flush(deadline);
    if (!socket_ || broken_) return close();
    if (!politely && !left_over()) return close();
    shutdown(out_fd_, SHUT_WR);
    char waste[1024];
    for (std::size_t drained = 0; drained < 64 * 1024;) {
        std::size_t got = 0;
        if (poll_input(deadline, false, false) != Got::data) break;
        const auto n = recv(in_, waste, sizeof waste, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) break;
        if (n > 0) got = std::size_t(n);
        drained += got;
    }
    close();
}

Connection Connection::connect(const Endpoint& to, const Wait& wait) {
    int error = EHOSTUNREACH;
    const auto all = look_up(to, wait);
    auto left = all.size();
    for (const auto& address : all) {
        // Each has its share of the time, so that one which swallows everything does not keep us from the others.
        const auto now = Clock::now();
        const auto share = wait.end == Deadline::max() ? wait : wait.within(now + (wait.end - now) / left);
        --left;
        Descriptor fd(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (!fd) {  // a kind of address that this system does not have, perhaps
            error = errno;
            continue;
        }
        error = ::connect(fd.get(), address.get(), address.size) == 0 ? 0 : errno;
        if (error == EINPROGRESS || error == EINTR) {
            error = ETIMEDOUT;
            pollfd out{fd.get(), POLLOUT, 0};
            for (int ready = 0; ready <= 0 && !share.over();) {
                ready = poll(&out, 1, milliseconds_until(share.look()));
                socklen_t size = sizeof error;
                if (ready > 0) getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
            }
        }
        if (error != 0) continue;
        fcntl(fd.get(), F_SETFL, fcntl(fd.get(), F_GETFL) & ~O_NONBLOCK);
        return Connection(fd.release());
    }
    throw std::system_error(error, std::generic_category(), "connect to " + to.str());
}

}  // namespace Net::SMTP
