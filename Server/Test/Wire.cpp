#include "Wire.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <system_error>
#include <thread>

#include "../Connection.hpp"
#include "Failure.hpp"

namespace Net::SMTP::Test {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t largest_read = 64 * 1024;

}  // namespace

Wire::Wire(int fd) : fd_(fd) {}

Wire::Done Wire::failed() {
    error_ = std::strerror(errno);
    return Done::gone;
}

bool Wire::await(short events, Deadline end) const {
    pollfd ready{fd_, events, 0};
    for (;;) {
        const int n = poll(&ready, 1, milliseconds_until(end));
        if (n != 0 && !(n < 0 && errno == EINTR)) return true;
        if (n == 0) return false;
    }
}

std::ptrdiff_t Wire::outcome(TLSLayer::Did did, const std::size_t& moved, short& events) {
    using enum TLSLayer::Did;
    if (did == done) return std::ptrdiff_t(moved);
    if (did == ended) return 0;
    events = did == wants_output ? POLLOUT : POLLIN;
    errno = did == failed ? EPROTO : EAGAIN;
    return -1;
}

std::ptrdiff_t Wire::put(std::string_view octets, short& events) {
    events = POLLOUT;
    if (!layer_) return ::send(fd_, octets.data(), octets.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    std::size_t sent = 0;
    return outcome(layer_->write(octets.data(), octets.size(), sent), sent, events);
}

std::ptrdiff_t Wire::get(char* to, std::size_t size, short& events) {
    events = POLLIN;
    if (!layer_) return recv(fd_, to, size, MSG_DONTWAIT);
    std::size_t got = 0;
    return outcome(layer_->read(to, size, got, false), got, events);
}

Wire::Done Wire::encrypt(std::unique_ptr<TLSLayer> layer, Deadline end) {
    for (;;) {
        short events = 0;
        const auto did = layer->handshake(false);
        const auto n = outcome(did, 1, events);
        if (n > 0) break;
        if (n == 0 || errno != EAGAIN) {
            error_ = n == 0 ? "the other side has gone" : layer->problem();
            return Done::gone;
        }
        if (!await(events, end)) return Done::late;
    }
    layer_ = std::move(layer);
    return Done::all;
}

Wire::Done Wire::send_piece(std::string_view octets, Deadline end) {
    while (!octets.empty()) {
        short events = 0;
        const auto n = put(octets, events);
        if (n > 0) {
            octets.remove_prefix(std::size_t(n));
            continue;
        }
        if (n < 0 && errno == EINTR) continue;
        if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) return failed();
        if (!await(events, end)) return Done::late;
    }
    return Done::all;
}

// Where the system can't tell, the next piece goes at once.
void Wire::await_taken(Deadline end) const {
    int waiting = 0;
    for (int tries = 0; ioctl(fd_, TIOCOUTQ, &waiting) == 0 && waiting > 0 && Clock::now() < end; ++tries) {
        pollfd gone{fd_, 0, 0};  // only errors and the end of both directions
        if (tries < 100) std::this_thread::yield();
        else if (poll(&gone, 1, 1) > 0) return;
    }
}

Wire::Done Wire::send(std::string_view octets, const Pace& pace, Deadline end) {
    if (pace.cut == Pace::Cut::none) return send_piece(octets, end);
    std::mt19937 random(pace.seed);
    const auto size = std::max<std::size_t>(pace.size, 1);
    while (!octets.empty()) {
        if (Clock::now() >= end) return Done::late;
        const auto piece = octets.substr(0, pace.cut == Pace::Cut::fixed ? size : 1 + random() % size);
        octets.remove_prefix(piece.size());
        if (const auto done = send_piece(piece, end); done != Done::all) return done;
        await_taken(end);
    }
    return Done::all;
}

Wire::Done Wire::receive(std::string& to, Deadline end) {
    bool look = layer_ != nullptr;  // it may hold octets that the socket has no more
    short events = POLLIN;
    for (;;) {
        if (!look && !await(events, end)) return Done::late;
        look = false;
        const auto before = to.size();
        to.resize(before + largest_read);
        const auto n = get(to.data() + before, largest_read, events);
        const int error = errno;
        to.resize(before + std::size_t(std::max<std::ptrdiff_t>(n, 0)));
        errno = error;
        if (n > 0) return Done::all;
        if (n == 0) return Done::gone;
        if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) return failed();
    }
}

void Wire::half_close() {
    if (layer_) layer_->end({});
    shutdown(fd_, SHUT_WR);
}

void Wire::finish(Deadline end) {
    half_close();
    std::string waste;
    while (receive(waste, end) == Done::all) waste.clear();
    close();
}

void Wire::reset() {
    const linger none{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close();
}

void Wire::close() {
    std::lock_guard lock(closing_);
    layer_.reset();
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

void Wire::cut() {
    std::lock_guard lock(closing_);
    if (fd_ >= 0) shutdown(fd_, SHUT_RDWR);
}

int connected(const std::string& address, Deadline end) {
    try {
        const auto connection = Connection::connect(Endpoint::parse(address, 25), end);
        // A Connection gives its descriptor away only as a copy.
        const int fd = fcntl(connection.fd(), F_DUPFD_CLOEXEC, 0);
        if (fd < 0) throw std::system_error(errno, std::generic_category(), "connect to " + address);
        return fd;
    } catch (const std::exception& e) {
        throw Failure(e.what());
    }
}

}  // namespace Net::SMTP::Test
