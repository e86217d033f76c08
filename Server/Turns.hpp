// Turns -- a thread of ours that would sleep for input lets others run first and looks again, where that pays; for our
// own .cpp files only, it is not installed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace Net::SMTP {

// Whoever speaks to us from the same machine may need no more than a processor to answer: to yield ours and to look
// again costs less than to fall asleep and to be woken. What comes over a network is never there so soon. So a thread
// learns from its own waits whether it pays, and tries a few of each 128 where it does not.
//
// Threads that each serve somebody gain nothing by driving one another off a processor, which Linux has whoever wakes
// do: a command's answer is a few microseconds away. So they are SCHED_BATCH, which waits for its turn; and have slices
// of 0.3 ms, or who yields or waits would do so for a millisecond or three of each of the others. Where the system
// grants no slices, as Linux before 6.12, and to threads whose scheduling somebody else has chosen, nothing is done.
class Turns {
public:
    // Of the calling thread, until it is destroyed there. Only for threads of our own: it changes how they are
    // scheduled, and what they start other than in a Pause.
    Turns() noexcept;
    ~Turns();
    Turns(const Turns&) = delete;
    Turns& operator=(const Turns&) = delete;

    // While it exists the calling thread is scheduled as it was before: what it starts meanwhile inherits nothing of
    // us.
    class Pause {
    public:
        Pause() noexcept;
        ~Pause();
        Pause(const Pause&) = delete;
        Pause& operator=(const Pause&) = delete;
    };

    // As recv(2) of a socket that blocks.
    static std::ptrdiff_t receive(int fd, char* to, std::size_t size) noexcept;
    // Whether the calling thread is scheduled otherwise than as SCHED_OTHER because of us.
    static bool changed() noexcept;

private:
    bool worth_it() noexcept;
    void learn(bool paid) noexcept;

    int credit_;
    int rest_ = 0;                              // waits until it is tried again
    const std::optional<std::uint64_t> slice_;  // that the thread had, if it is changed
};

}  // namespace Net::SMTP
