#include "Turns.hpp"

#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace Net::SMTP {

namespace {

constexpr int looks = 2;
// A look that pays spares about a third of what one costs that does not.
constexpr int gain = 1, loss = 3;
constexpr int most = 64, sure = 32, trial = 8;
constexpr int rest = 128;
constexpr std::uint64_t short_slice = 300'000;  // ns

thread_local Turns* mine = nullptr;

#if defined(SYS_sched_setattr) && defined(SYS_sched_getattr)

// As the kernel knows it; libc has it not yet everywhere.
struct Attributes {
    std::uint32_t size, policy;
    std::uint64_t flags;
    std::int32_t nice;
    std::uint32_t priority;
    std::uint64_t runtime, deadline, period;
};

bool get(Attributes& a) noexcept { return syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) == 0; }

// What it was in `before`; false when that is not to be had.
bool set_slice(std::uint64_t slice, std::uint64_t* before) noexcept {
    Attributes now{}, after{};
    if (!get(now) || now.policy != SCHED_OTHER) return false;
    if (before) *before = now.runtime;
    now.size = sizeof now;
    now.runtime = slice;
    return syscall(SYS_sched_setattr, 0, &now, 0) == 0 && get(after) && after.runtime == slice;
}

#else

bool set_slice(std::uint64_t, std::uint64_t*) noexcept { return false; }

#endif

}  // namespace

Turns::Turns() noexcept : credit_(trial) { mine = this; }

Turns::~Turns() {
    hurry(false);
    mine = nullptr;
}

bool Turns::worth_it() noexcept {
    if (credit_ > 0) return true;
    if (--rest_ > 0) return false;
    credit_ = trial;
    return true;
}

void Turns::learn(bool paid) noexcept {
    credit_ = std::clamp(credit_ + (paid ? gain : -loss), 0, most);
    if (credit_ >= sure) hurry(true);
    if (credit_ > 0) return;
    rest_ = rest;
    hurry(false);
}

void Turns::hurry(bool on) noexcept {
    if (on == hurried_ || !able_) return;
    able_ = on ? set_slice(short_slice, &slice_) : set_slice(slice_, nullptr);
    hurried_ = on && able_;
}

std::ptrdiff_t Turns::receive(int fd, char* to, std::size_t size) noexcept {
    auto* const turns = mine;
    if (turns && turns->able_ && turns->worth_it()) {
        for (int i = 0; i < looks; ++i) {
            sched_yield();
            const auto n = recv(fd, to, size, MSG_DONTWAIT);
            if (n >= 0 || errno != EAGAIN) {
                turns->learn(true);
                return n;
            }
        }
        turns->learn(false);
    }
    return recv(fd, to, size, 0);
}

}  // namespace Net::SMTP
