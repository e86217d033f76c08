// Content -- the octets behind a Message and what belongs to them; for our own .cpp files only, it is not installed.
#pragma once

#include <unistd.h>

#include <any>
#include <atomic>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "Custody.hpp"
#include "Memory.hpp"
#include "Message.hpp"

namespace Net::SMTP {

// A descriptor, closed by scope.
class Descriptor {
public:
    Descriptor() = default;
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() { reset(); }
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        reset(std::exchange(other.fd_, -1));
        return *this;
    }
    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    void reset(int fd = -1) {
        if (fd_ >= 0) ::close(fd_);
        fd_ = fd;
    }
    int release() { return std::exchange(fd_, -1); }

private:
    int fd_ = -1;
};

struct Shared;

struct Content {
    explicit Content(std::shared_ptr<Budget> budget) : block(std::move(budget)) {}
    ~Content();

    // The octets are in one of: `own`, `block`, `file`; or nowhere, when they went into a sink.
    std::string own;
    Block block;
    std::size_t front = 0;  // octets of the block before the message begins
    Descriptor file;
    bool sunk = false;
    bool named = false;  // the file has become somebody's
    std::uint64_t size = 0;
    // Whether it holds a lone CR or LF, once somebody has looked; several threads may find it out at once.
    enum class Bare : char { unknown, no, yes };
    std::atomic<Bare> bare{Bare::unknown};

    std::shared_ptr<Shared> shared;  // of the server it came through, if any
    std::shared_ptr<const Trace> trace;
    std::string id;
    OwnReceived received = OwnReceived::due;
    std::time_t received_at = 0;
    Custody custody;
    bool each = false;  // the sender hears a verdict for each recipient (LMTP)
    std::function<bool()> sender_present;
    // What a hook wants to find again when the message is there; ends with the transaction.
    std::any baggage;

    std::atomic<const char*> mapped = nullptr;  // the file as a view, once somebody has asked

    bool in_memory() const { return !file && !sunk; }
    std::string_view memory() const { return own.empty() ? std::string_view(block.data() + front, size) : own; }
    // Ready for the next message; what can be used again is kept.
    void clear();
    void unmap();
};

}  // namespace Net::SMTP
