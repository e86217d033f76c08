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

Wire::Done Wire::send_piece(std::string_view octets, Deadline end) {
    while (!octets.empty()) {
        const auto n = ::send(fd_, octets.data(), octets.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            octets.remove_prefix(std::size_t(n));
            continue;
        }
        if (errno == EINTR) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) return failed();
        pollfd out{fd_, POLLOUT, 0};
        if (poll(&out, 1, milliseconds_until(end)) == 0) return Done::late;
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
    for (;;) {
        pollfd in{fd_, POLLIN, 0};
        const int ready = poll(&in, 1, milliseconds_until(end));
        if (ready == 0) return Done::late;
        if (ready < 0 && errno != EINTR) return failed();
        if (ready < 0) continue;
        const auto before = to.size();
        to.resize(before + largest_read);
        const auto n = recv(fd_, to.data() + before, largest_read, MSG_DONTWAIT);
        const int error = errno;
        to.resize(before + std::size_t(std::max<ssize_t>(n, 0)));
        errno = error;
        if (n > 0) return Done::all;
        if (n == 0) return Done::gone;
        if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) return failed();
    }
}

bool Wire::readable(Deadline end) const {
    pollfd in{fd_, POLLIN, 0};
    return poll(&in, 1, milliseconds_until(end)) != 0;
}

void Wire::half_close() { shutdown(fd_, SHUT_WR); }

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
