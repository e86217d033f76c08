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
constexpr int most = 64, trial = 8;
constexpr int rest = 128;
constexpr std::uint64_t short_slice = 300'000, systems_slice = 0;  // ns

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

bool change(std::uint32_t policy, std::uint64_t slice) noexcept {
    Attributes a{};
    if (!get(a)) return false;
    a.size = sizeof a;
    a.policy = policy;
    a.runtime = slice;
    return syscall(SYS_sched_setattr, 0, &a, 0) == 0;
}

// The slice that it had; none when it is not to be changed. Who starts a thread hands down how it is scheduled itself.
std::optional<std::uint64_t> give_way() noexcept {
    Attributes before{}, after{};
    if (!get(before)) return {};
    if (before.policy == SCHED_BATCH && before.runtime == short_slice) return systems_slice;
    if (before.policy != SCHED_OTHER || !change(SCHED_BATCH, short_slice)) return {};
    if (get(after) && after.runtime == short_slice) return before.runtime;
    change(SCHED_OTHER, before.runtime);
    return {};
}

void go_back(std::uint64_t slice) noexcept { change(SCHED_OTHER, slice); }

#else

std::optional<std::uint64_t> give_way() noexcept { return {}; }
void go_back(std::uint64_t) noexcept {}

#endif

}  // namespace

Turns::Turns() noexcept : credit_(trial), slice_(give_way()) { mine = this; }

Turns::~Turns() {
    mine = nullptr;
    if (slice_) go_back(*slice_);
}

Turns::Pause::Pause() noexcept {
    if (changed()) go_back(*mine->slice_);
}

Turns::Pause::~Pause() {
    if (changed()) give_way();
}

bool Turns::changed() noexcept { return mine && mine->slice_; }

bool Turns::worth_it() noexcept {
    if (credit_ > 0) return true;
    if (--rest_ > 0) return false;
    credit_ = trial;
    return true;
}

void Turns::learn(bool paid) noexcept {
    credit_ = std::clamp(credit_ + (paid ? gain : -loss), 0, most);
    if (credit_ == 0) rest_ = rest;
}

std::ptrdiff_t Turns::receive(int fd, char* to, std::size_t size) noexcept {
    auto* const turns = mine;
    if (turns && turns->slice_ && turns->worth_it()) {
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
