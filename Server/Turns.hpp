// Turns -- a thread of ours that would sleep for input lets others run first and looks again, where that pays; for our
// own .cpp files only, it is not installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace Net::SMTP {

// Whoever speaks to us from the same machine may need no more than a processor to answer: to yield ours and to look
// again costs less than to fall asleep and to be woken. What comes over a network is never there so soon. So a thread
// learns from its own waits whether it pays, and tries a few of each 128 where it does not.
//
// Who yields stands behind the others for a slice of the scheduler's, 3 ms for each of them, which the slowest of a
// hundred replies would show. So a thread whose yielding pays has a slice of 0.3 ms meanwhile, as Linux 6.12 and later
// let it; elsewhere, and with other schedulers than the ordinary one, nothing is done.
class Turns {
public:
    // Of the calling thread, until it is destroyed there. Only for threads of our own: it changes how they are
    // scheduled.
    Turns() noexcept;
    ~Turns();
    Turns(const Turns&) = delete;
    Turns& operator=(const Turns&) = delete;

    // As recv(2) of a socket that blocks.
    static std::ptrdiff_t receive(int fd, char* to, std::size_t size) noexcept;

private:
    bool worth_it() noexcept;
    void learn(bool paid) noexcept;
    void hurry(bool on) noexcept;

    int credit_;
    int rest_ = 0;  // waits until it is tried again
    bool hurried_ = false, able_ = true;
    std::uint64_t slice_ = 0;  // that it had
};

}  // namespace Net::SMTP
