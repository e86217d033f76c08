// Sink -- where a body streams to when it is not to become MSG.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

namespace Net::SMTP {

// Hears the octets of one message, dots undone, as they come, in constant memory; then end(), exactly once. To refuse,
// throw: Reject is the answer in its own words, std::system_error is 452 4.3.1, anything else 451 4.3.0. After a throw
// nothing more is written, and end(false) follows. Called on the session's thread.
class Sink {
public:
    virtual ~Sink() = default;
    virtual void write(std::string_view octets) = 0;
    // Whether the message was received to its end and nobody refused it. False: throw away what was written.
    virtual void end(bool complete) { (void)complete; }
};

// A sink over a function, and one over a descriptor, which stays the caller's. A pipe or socket that takes nothing for
// 180 s, or whose reader has gone, is 452 4.3.1.
std::shared_ptr<Sink> make_sink(std::function<void(std::string_view)> write);
std::shared_ptr<Sink> make_sink(int fd);

}  // namespace Net::SMTP
