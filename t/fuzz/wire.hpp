// wire -- sockets whose other end is played from octets, in this thread: the linker gives us the library's recv, send,
// poll, connect, close and shutdown (--wrap). The descriptors are real; nothing is sent over them.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <string>
#include <string_view>

#include "fuzz.hpp"

extern "C" {
ssize_t __real_recv(int, void*, size_t, int);
ssize_t __real_send(int, const void*, size_t, int);
int __real_poll(pollfd*, nfds_t, int);
int __real_connect(int, const sockaddr*, socklen_t);
int __real_close(int);
int __real_shutdown(int, int);
}

namespace fuzz {

// The other end of one connection.
class Peer {
public:
    virtual ~Peer() = default;
    // What we have said.
    virtual void hear(std::string_view octets) = 0;
    // Appends more of what it says to `arrived`, if anything comes now: the library looks, or it has waited. Who was
    // waited for and says nothing has come to its end.
    virtual void speak(bool waited) = 0;

    bool look(bool waited) {
        if (arrived.empty() && !over) speak(waited);
        over |= arrived.empty() && waited;
        return !arrived.empty();
    }

    std::size_t take(char* to, std::size_t size) {
        const auto n = arrived.copy(to, size);
        arrived.erase(0, n);
        read += n;
        return n;
    }

    std::string arrived;   // and not yet read
    std::size_t read = 0;  // octets, so far
    bool over = false;     // nothing more comes
    bool open = true;      // the library's end
};

// Which descriptors are played.
class Wire {
public:
    static constexpr int most = 256;
    static Peer* at(int fd) { return fd >= 0 && fd < most ? peers()[std::size_t(fd)] : nullptr; }
    static void put(int fd, Peer* peer) {
        require(fd >= 0 && fd < most, "descriptors are given back", fd);
        peers()[std::size_t(fd)] = peer;
    }
    // A connected socket, the library's from now on.
    static int socket(Peer& peer) {
        int fds[2];
        require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "the system gives sockets");
        __real_close(fds[1]);  // nobody is there: what should get past us ends at once
        put(fds[0], &peer);
        return fds[0];
    }
    // Who answers when the library connects; null: nobody.
    static std::function<Peer*()>& dialled() {
        static std::function<Peer*()> who;
        return who;
    }

private:
    static std::array<Peer*, most>& peers() {
        static std::array<Peer*, most> all{};
        return all;
    }
};

}  // namespace fuzz

extern "C" {

ssize_t __wrap_recv(int fd, void* to, size_t size, int flags) {
    auto* peer = fuzz::Wire::at(fd);
    if (!peer) return __real_recv(fd, to, size, flags);
    if (!peer->look((flags & MSG_DONTWAIT) == 0)) {
        if (peer->over) return 0;
        errno = EAGAIN;
        return -1;
    }
    auto* const octets = static_cast<char*>(to);
    return ssize_t(flags & MSG_PEEK ? peer->arrived.copy(octets, size) : peer->take(octets, size));
}

ssize_t __wrap_send(int fd, const void* from, size_t size, int flags) {
    auto* peer = fuzz::Wire::at(fd);
    if (!peer) return __real_send(fd, from, size, flags);
    peer->hear({static_cast<const char*>(from), size});
    return ssize_t(size);
}

int __wrap_poll(pollfd* fds, nfds_t n, int timeout) {
    bool played = false;
    for (nfds_t i = 0; i < n; ++i) played |= fuzz::Wire::at(fds[i].fd) != nullptr;
    if (!played) return __real_poll(fds, n, timeout);
    int ready = 0;
    for (nfds_t i = 0; i < n; ++i) {
        auto& one = fds[i];
        one.revents = 0;
        if (auto* peer = fuzz::Wire::at(one.fd)) {
            if (one.events & POLLOUT) one.revents |= POLLOUT;
            const bool more = peer->look(timeout != 0 && !(one.events & POLLOUT));
            if (more || peer->over) one.revents |= short(one.events & POLLIN);
            if (!more && peer->over) one.revents |= short(one.events & POLLRDHUP);
        } else if (one.fd >= 0) {
            __real_poll(&one, 1, 0);
        }
        ready += one.revents != 0;
    }
    return ready;
}

int __wrap_connect(int fd, const sockaddr* to, socklen_t size) {
    if (!fuzz::Wire::dialled()) return __real_connect(fd, to, size);
    auto* peer = fuzz::Wire::dialled()();
    if (!peer) {
        errno = ECONNREFUSED;
        return -1;
    }
    const int socket = fuzz::Wire::socket(*peer);
    fuzz::Wire::put(socket, nullptr);
    dup2(socket, fd);
    __real_close(socket);
    fuzz::Wire::put(fd, peer);
    return 0;
}

int __wrap_close(int fd) {
    if (auto* peer = fuzz::Wire::at(fd)) {
        peer->open = false;
        fuzz::Wire::put(fd, nullptr);
    }
    return __real_close(fd);
}

int __wrap_shutdown(int fd, int how) { return fuzz::Wire::at(fd) ? 0 : __real_shutdown(fd, how); }

}  // extern "C"
