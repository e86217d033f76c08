// faults -- system calls of one thread that fail as the test wants it, on any file system and for any user.
#pragma once

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <exception>
#include <functional>
#include <future>
#include <string>
#include <thread>
#include <vector>

namespace test {

// Decides about a call, given its number and the path behind its first argument ("" if that is no descriptor): 0 lets
// it happen, else it fails with that errno. Called in a thread of its own while the caller stands still.
using Verdict = std::function<int(int call, const std::string& path)>;

namespace faults {

inline int listener(const std::vector<int>& calls) {
    std::vector<sock_filter> filter{{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)}};
    for (int call : calls) {
        filter.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, 1, unsigned(call)});
        filter.push_back({BPF_RET | BPF_K, 0, 0, SECCOMP_RET_USER_NOTIF});
    }
    filter.push_back({BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW});
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    return int(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
}

inline void judge(int fd, const Verdict& verdict, const std::atomic<bool>& done) {
    seccomp_notif asked{};
    if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) return;
    std::array<char, 4096> path{};
    const auto link = "/proc/self/fd/" + std::to_string(int(asked.data.args[0]));
    const auto size = readlink(link.c_str(), path.data(), path.size());
    seccomp_notif_resp answer{};
    answer.id = asked.id;
    answer.error = done ? 0 : -verdict(asked.data.nr, {path.data(), std::size_t(size > 0 ? size : 0)});
    if (answer.error == 0) answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

}  // namespace faults

// Does `work` in a thread whose system calls of these numbers are put to `verdict` first; what it throws comes out.
// False, and nothing is done, where the system has no such thing.
inline bool with_faults(const std::vector<int>& calls, const Verdict& verdict, const std::function<void()>& work) {
    std::promise<int> filtered;
    std::string task;
    auto listening = filtered.get_future();
    std::atomic<bool> done{false};
    std::exception_ptr thrown;
    std::thread worker([&] {
        task = "/proc/self/task/" + std::to_string(gettid());
        const int fd = faults::listener(calls);
        filtered.set_value(fd);
        if (fd >= 0) {
            try {
                work();
            } catch (...) {
                thrown = std::current_exception();
            }
        }
        done = true;
    });
    const int fd = listening.get();
    // A sanitizer makes system calls of its own until the thread is gone, and they would wait for ever.
    while (fd >= 0 && !(done && access(task.c_str(), F_OK) != 0)) {
        pollfd in{fd, POLLIN, 0};
        if (poll(&in, 1, 20) == 1 && (in.revents & POLLIN)) faults::judge(fd, verdict, done);
    }
    worker.join();
    if (fd >= 0) close(fd);
    if (thrown) std::rethrow_exception(thrown);
    return fd >= 0;
}

}  // namespace test
