// Wire -- a connected descriptor's octets, each wait with its end; for the kit's own .cpp files, it is not installed.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "../TLS.hpp"
#include "../Wait.hpp"
#include "Pace.hpp"

namespace Net::SMTP::Test {

// Belongs to one thread, but for cut().
class Wire {
public:
    // Owned from now on.
    explicit Wire(int fd);
    ~Wire() { close(); }
    Wire(const Wire&) = delete;
    Wire& operator=(const Wire&) = delete;

    int fd() const { return fd_; }

    enum class Done { all, gone, late };
    // All of it has gone out; the other side takes no more; not before the deadline.
    Done send(std::string_view octets, const Pace&, Deadline);
    // Appends what comes next, 64 KiB at most; `gone` at the end, and error() says why, "" for an orderly one.
    Done receive(std::string& to, Deadline);
    const std::string& error() const { return error_; }
    // Runs the handshake of a layer for fd(), through which everything goes then. What was received already was plain.
    Done encrypt(std::unique_ptr<TLSLayer>, Deadline);
    const TLS* tls() const { return layer_ ? &layer_->tls() : nullptr; }

    void half_close();
    // Ends our direction and reads away what still comes until the other side does the same, or until the deadline:
    // closing with unread input would reset the connection.
    void finish(Deadline);
    // Closes so that the other side hears a reset (over TCP; over a Unix socket only if it has something unread).
    void reset();
    void close();
    // Any thread: who waits here, and who will, finds the connection gone.
    void cut();

private:
    Done send_piece(std::string_view octets, Deadline);
    void await_taken(Deadline) const;
    Done failed();
    // Until the descriptor can do that; false when it is too late.
    bool await(short events, Deadline) const;
    // As send(2) and recv(2) with MSG_DONTWAIT, but `events` is what to wait for after EAGAIN.
    std::ptrdiff_t put(std::string_view octets, short& events);
    std::ptrdiff_t get(char* to, std::size_t size, short& events);
    std::ptrdiff_t outcome(TLSLayer::Did, const std::size_t& moved, short& events);

    int fd_;
    std::string error_;
    std::unique_ptr<TLSLayer> layer_;
    std::mutex closing_;  // no cut() of a descriptor that may be somebody else's by now
};

// Connects; owned by the caller. Failure with the address when nobody takes the connection before the deadline.
int connected(const std::string& address, Deadline);

}  // namespace Net::SMTP::Test
