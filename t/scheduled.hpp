// scheduled -- how the system schedules a thread or a process.
#pragma once

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <doctest/doctest.h>
#include <cstdint>

namespace test {

// Its policy and, where that is told, its slice in ns; of the calling thread, or of another by its number.
struct Scheduled {
    int policy;
    std::uint64_t slice = 0;
    explicit Scheduled(pid_t of = 0) : policy(sched_getscheduler(of)) {
#ifdef SYS_sched_getattr
        std::uint64_t attributes[8]{};  // the fourth has it
        REQUIRE(syscall(SYS_sched_getattr, of, attributes, sizeof attributes, 0) == 0);
        slice = attributes[3];
#endif
    }
    bool operator==(const Scheduled&) const = default;
};

}  // namespace test
