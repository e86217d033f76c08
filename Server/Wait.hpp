// Wait -- how long something may take.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

namespace Net::SMTP {

using Deadline = std::chrono::steady_clock::time_point;

// For poll(2): 0 when it has passed, rounded up, and so many days at most that whoever waits looks again.
inline int milliseconds_until(Deadline end) {
    const auto left = end - std::chrono::steady_clock::now();
    if (left <= Deadline::duration::zero()) return 0;
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    return int(std::min<std::chrono::milliseconds::rep>(ms, 1 << 30));
}

// Until an absolute moment, or until it is called off: `off` is asked now and then, at least once a second, by the
// thread that waits; empty: never. A value; whoever gets it waits no longer than it says.
struct Wait {
    Deadline end = Deadline::max();
    std::function<bool()> off{};

    Wait(Deadline until) : end(until) {}
    Wait(Deadline until, std::function<bool()> called_off) : end(until), off(std::move(called_off)) {}

    bool over() const { return std::chrono::steady_clock::now() >= end || (off && off()); }
    // When to look at over() again.
    Deadline look() const {
        return off ? std::min(end, std::chrono::steady_clock::now() + std::chrono::milliseconds(250)) : end;
    }
    // The same, but no later than `sooner`.
    Wait within(Deadline sooner) const { return {std::min(end, sooner), off}; }
};

}  // namespace Net::SMTP
