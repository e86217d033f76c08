// Connection -- a connected descriptor, read by lines and closed by scope.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "Endpoint.hpp"
#include "TLS.hpp"
#include "Wait.hpp"

namespace Net::SMTP {

struct Shared;  // what the sessions of one server have in common (Server/Shared.hpp)
class Slot;     // one of the server's places for connections (Server/Shared.hpp)

// One connected descriptor, owned. Writes gather in a buffer and leave when somebody would wait for input. Every
// wait has an absolute deadline. Belongs to one thread at a time; moves, never copies. The destructor closes the
// descriptor and does nothing else, so a copy of the process that goes away costs the other side nothing.
class Connection {
public:
    Connection();  // none: false
    // Takes the descriptor over: a connected socket, a pipe or a terminal. std::system_error when it is not open or not
    // connected (it is closed then too). Input and output may be two (inetd's 0 and 1).
    explicit Connection(int fd);
    Connection(int in, int out);
    ~Connection();
    Connection(Connection&&) noexcept;
    Connection& operator=(Connection&&) noexcept;

    explicit operator bool() const { return in_ >= 0; }
    int fd() const { return in_; }

    // The other end, and ours. Empty when the system cannot tell (a pipe). An IPv4 address mapped into IPv6 is shown as
    // IPv4.
    const Endpoint& peer() const;
    const Endpoint& local() const;

    // ---- for sessions ----

    enum class Got {
        data,      // what was asked for
        end,       // the peer has closed or vanished; nothing more will come
        timeout,   // the deadline has passed
        stopped,   // the server is to end; only where `idle`
        woken,     // `wake_fd` can be read; read_line, and nothing of a line has come
        too_long,  // read_line: longer than the limit, and read to its end; `line` is its front, 16 octets or more
    };

    // One line without its CRLF; `line` is a view into the buffer, good until the next call. Only CRLF ends a line, or,
    // with `lf`, LF too. Not more than `limit` octets are buffered. Of a line that is too long `waste` octets are read
    // away at most; then the rest of it is still to come.
    Got read_line(std::string_view& line, std::size_t limit, Deadline, bool lf = false, bool idle = false,
                  std::size_t waste = SIZE_MAX);

    // Up to `size` octets into `to`, at least one: what is buffered, else what comes next, straight from the socket.
    Got receive(char* to, std::size_t size, std::size_t& got, Deadline);

    // Encrypts what comes from here on, both ways: runs the handshake of a layer for fd(). What gathered in out() goes
    // before it, in the clear; nothing may be buffered(). False when it fails, or is not over before the deadline:
    // `problem` says why, and the connection can only be closed. Sockets only; once.
    bool encrypt(std::unique_ptr<TLSLayer> layer, Deadline, std::string& problem);
    // Whether it could be: a socket, whose two directions are one.
    bool can_encrypt() const { return socket_ && in_ == out_fd_ && !layer_; }
    // What was agreed on; null in the clear.
    const TLS* tls() const { return layer_ ? &layer_->tls() : nullptr; }
    // See TLSLayer; "" in the clear.
    std::string channel_binding(std::string_view type) const {
        return layer_ ? layer_->channel_binding(type) : std::string();
    }

    // What has been received and not yet read; consume() reads it, unread() puts octets back in front of it.
    std::string_view buffered() const { return {buffer_.get() + begin_, end_ - begin_}; }
    void consume(std::size_t n) { begin_ += n; }
    void unread(std::string_view octets);
    // Overwrites what was read and is still in the buffer: there was a secret in it. Views of it are void then.
    void wipe();

    // Appends to the output. It leaves with flush(), or before the next wait for input.
    std::string& out() { return out_; }
    // False when the peer no longer takes it (gone, or not before the deadline); then there is no more output.
    bool flush(Deadline);
    // Sends `octets` after what is in out(), without copying them.
    bool send(std::string_view octets, Deadline);
    bool broken() const { return broken_; }

    // Whether there is something to read now, if only the end.
    bool readable();
    // Whether the other side has closed its direction or is gone, and nothing it sent waits to be read.
    bool peer_gone();

    // Lets time pass without reading: true when the moment has come, or the server is to stop; false when peer_gone().
    bool pause(Deadline);

    // Ends our direction and reads away what still comes, for at most 2 s and 64 KiB: closing with unread input would
    // reset the connection and may cost the peer our last reply. Nothing is waited for when nothing `unread` is there
    // and `politely` is false, or when `slot` is hurried.
    void finish(bool politely);
    void close();

    // Connects to one endpoint; a name's addresses are tried in turn, as the system knows them. std::system_error or
    // std::runtime_error with the endpoint's name.
    static Connection connect(const Endpoint&, const Wait&);

private:
    friend class Server;

    Got receive_raw(char* to, std::size_t size, std::size_t& got, Deadline, bool idle, bool may_wake);
    Got poll_input(Deadline, bool idle, bool may_wake);
    bool poll_output(Deadline);
    // One recv, read or decryption; -1 and errno as recv(2) has them, and EINPROGRESS where it must write first.
    std::ptrdiff_t take(char* to, std::size_t size, bool wait);
    // One send, the same way.
    std::ptrdiff_t give(const char* from, std::size_t size);
    // Reads what is there already into the buffer. False: the end.
    bool look();
    bool left_over();
    bool send_raw(const char* from, std::size_t size, Deadline);
    void room();
    void adopt(int in, int out);
    bool stopping() const;
    void park();

    int in_ = -1;
    int out_fd_ = -1;
    bool socket_ = false;
    bool blocking_ = false;  // a recv without MSG_DONTWAIT waits, for at most a second
    bool broken_ = false;
    bool filled_ = false;  // the last read left no room: there may be more
    std::unique_ptr<TLSLayer> layer_;
    std::unique_ptr<char[]> buffer_;
    std::size_t begin_ = 0, end_ = 0, capacity_ = 0;
    std::string out_;
    mutable std::unique_ptr<Endpoint> peer_, local_;

public:
    // What a server gives its connections; empty for a descriptor of your own.
    std::shared_ptr<Shared> shared;
    std::unique_ptr<Slot> slot;
    // Of somebody who may want an idle session to wake up: readable then. -1: nobody.
    int wake_fd = -1;
    // TLS comes before the greeting (RFC 8314).
    bool implicit_tls = false;
    // Called once when nothing has come for a second: whoever holds memory gives it back.
    void (*idle)(void*) = nullptr;
    void* idle_argument = nullptr;
};

}  // namespace Net::SMTP
