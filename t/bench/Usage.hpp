// Usage -- processor time and memory of a process and all that descend from it, read from /proc.
#pragma once

#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>

struct Usage {
    std::int64_t cpu_ns = 0;  // user and system, all threads and children, ended ones too
    long rss_kb = 0;          // VmRSS, summed over the processes alive now
    long peak_kb = 0;         // VmHWM, likewise
};

namespace proc {

struct Stat {
    pid_t parent = 0;
    std::int64_t own_ns = 0;       // in ticks of 10 ms, as precise as the file is
    std::int64_t children_ns = 0;  // of the children waited for
};

inline std::optional<Stat> stat(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    if (!std::getline(file, line)) return {};
    // The second field is the program's name, which may hold blanks and parentheses.
    std::istringstream rest(line.substr(line.rfind(')') + 1));
    std::string skipped;
    Stat result;
    rest >> skipped >> result.parent;
    for (int i = 0; i < 9; ++i) rest >> skipped;
    std::int64_t user = 0, system = 0, children_user = 0, children_system = 0;
    if (!(rest >> user >> system >> children_user >> children_system)) return {};
    const std::int64_t tick_ns = 1'000'000'000 / sysconf(_SC_CLK_TCK);
    result.own_ns = (user + system) * tick_ns;
    result.children_ns = (children_user + children_system) * tick_ns;
    return result;
}

// The scheduler's count in nanoseconds, with the process's ended threads; a tick of 10 ms would be 200 messages.
inline std::optional<std::int64_t> cpu_clock_ns(pid_t pid) {
    clockid_t clock{};
    timespec time{};
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return {};
    return time.tv_sec * std::int64_t{1'000'000'000} + time.tv_nsec;
}

inline void add_memory(pid_t pid, Usage& usage) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/status");
    for (std::string key, rest; file >> key; std::getline(file, rest)) {
        long kb = 0;
        if (key == "VmRSS:" && file >> kb) usage.rss_kb += kb;
        if (key == "VmHWM:" && file >> kb) usage.peak_kb += kb;
    }
}

// Processor time that the whole machine has spent at work, in ticks of 10 ms for each processor.
inline std::int64_t machine_cpu_ns() {
    std::ifstream file("/proc/stat");
    std::string name;
    std::int64_t user = 0, nice = 0, system = 0, idle = 0, waiting = 0, irq = 0, softirq = 0, stolen = 0;
    file >> name >> user >> nice >> system >> idle >> waiting >> irq >> softirq >> stolen;
    return (user + nice + system + irq + softirq + stolen) * (1'000'000'000 / sysconf(_SC_CLK_TCK));
}

}  // namespace proc

// What the tree under `root` has used so far; nothing when that process is gone. Children that ended count once
// their parent waited for them: a server that ignores SIGCHLD hides theirs, and a daemon's leave the tree.
inline std::optional<Usage> usage(pid_t root) {
    std::map<pid_t, proc::Stat> all;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const std::string name = entry.path().filename();
        pid_t pid = 0;
        const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (error != std::errc{} || end != name.data() + name.size()) continue;
        if (const auto found = proc::stat(pid)) all.emplace(pid, *found);
    }
    if (!all.contains(root)) return {};

    const auto below_root = [&](pid_t pid) {
        // As many steps as there are processes: parents change while we look.
        for (std::size_t i = 0; i <= all.size(); ++i) {
            if (pid == root) return true;
            const auto found = all.find(pid);
            if (found == all.end()) return false;
            pid = found->second.parent;
        }
        return false;
    };

    Usage result;
    for (const auto& [pid, stat] : all) {
        if (!below_root(pid)) continue;
        result.cpu_ns += proc::cpu_clock_ns(pid).value_or(stat.own_ns) + stat.children_ns;
        proc::add_memory(pid, result);
    }
    return result;
}
