// store_load -- loads a queue's store alone, without SMTP: fills it, and measures how fast it stores and gives out
// mail.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "../../examples/arguments.hpp"
#include "Usage.hpp"
#include "open_store.hpp"

using namespace Net::SMTP;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Load {
    std::string text;
    std::uint64_t domains = 1;
    std::chrono::milliseconds due{};
};

QueuedMail mail(const Load& load, std::uint64_t number) {
    QueuedMail result;
    result.id = new_queue_id();
    result.from = Sender("sender@example.com");
    result.to = {Recipient("recipient@d" + std::to_string(number % load.domains) + ".example.org")};
    result.head = "Received: from bench by bench; Mon, 6 Jan 2025 10:00:00 +0000\r\n";
    result.text = Message(load.text);
    result.arrived = queue_now();
    result.due = result.arrived + load.due;
    return result;
}

// So many mails by so many threads, or as many as the time allows. Returns how many.
std::uint64_t put(Store& store, const Load& load, std::uint64_t threads, std::uint64_t count, double seconds) {
    std::atomic<std::uint64_t> next{0}, stored{0};
    std::atomic<bool> failed{false};
    const auto start = Clock::now();
    {
        std::vector<std::jthread> workers;
        for (std::uint64_t i = 0; i < threads; ++i)
            workers.emplace_back([&] {
                try {
                    for (auto n = next++; n < count && !failed && seconds_since(start) < seconds; n = next++) {
                        store.put(mail(load, n));
                        ++stored;
                    }
                } catch (const std::exception& e) {
                    failed = true;
                    std::fprintf(stderr, "store_load: put: %s\n", e.what());
                }
            });
    }
    if (failed) throw std::runtime_error("not all could be stored");
    return stored;
}

// Gives out `count` recipients that are due, a few at a time, and strikes them off. Microseconds of each claim.
std::vector<double> claims(Store& store, const std::string& domain, std::uint64_t count) {
    std::vector<double> each;
    for (std::uint64_t done = 0; done < count;) {
        const auto start = Clock::now();
        const auto tasks = store.claim(domain, queue_now(), 20);
        each.push_back(seconds_since(start) * 1e6);
        if (tasks.empty()) throw std::runtime_error("nothing is due in " + domain);
        for (const auto& task : tasks) {
            std::vector<QueueVerdict> verdicts;
            for (const auto& to : task.to) {
                verdicts.emplace_back();
                verdicts.back().number = to.number;
                verdicts.back().done = true;
            }
            if (!store.record(task, verdicts, {})) throw std::runtime_error("what was given out was taken away");
            done += task.to.size();
        }
    }
    std::ranges::sort(each);
    return each;
}

// What the disk can do at best for one who waits for it: 4 KiB written in place and synced, again and again, for a
// second.
double syncs_per_s(const std::string& path) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) throw std::system_error(errno, std::generic_category(), path);
    const std::string page(4096, 'x');
    const auto start = Clock::now();
    double count = 0;
    for (; seconds_since(start) < 1; ++count)
        if (pwrite(fd, page.data(), page.size(), 0) != static_cast<ssize_t>(page.size()) || fdatasync(fd) != 0)
            throw std::system_error(errno, std::generic_category(), path);
    const double spent = seconds_since(start);
    close(fd);
    unlink(path.c_str());
    return count / spent;
}

double microseconds(const std::function<void()>& work) {
    const auto start = Clock::now();
    work();
    return seconds_since(start) * 1e6;
}

}  // namespace

int main(int argc, char** argv) try {
    const Arguments given(
        argc, argv, "Loads a store; one JSON object on standard output.",
        {{"--queue", "PLACE", "a folder, or postgresql://..."},
         {"--sync", "FILE", "instead: how often a second 4 KiB can be written to a new FILE and synced"},
         {"--fill", "N", "puts so many mails there", "", "0", is_number},
         {"--put", "SECONDS", "puts as many as it can in that time", "", "0", is_number},
         {"--claim", "N", "puts so many that are due, gives them out and strikes them off", "", "0", is_number},
         {"--due", "SECONDS", "from now on, of what --fill and --put put there", "", "0", is_number},
         {"--domains", "N", "over which these are spread", "", "1", is_number},
         {"--size", "OCTETS", "of a mail", "", "4096", is_number},
         {"--threads", "N", "that put", "", "64", is_number},
         {"--pid", "PID", "of a database's server, whose processor time counts too", "", "0", is_number}});
    if (given.has("--sync")) {
        std::printf("{\"syncs_per_s\": %.1f}\n", syncs_per_s(given("--sync")));
        return 0;
    }
    given.require("--queue");
    const auto opened = open_store(given("--queue"));
    Store& store = *opened;
    Load load;
    load.domains = std::max<std::uint64_t>(given.number("--domains"), 1);
    load.due = std::chrono::seconds(given.number("--due"));
    load.text = "Subject: bench\r\n\r\n";
    while (load.text.size() + 72 < given.number("--size")) load.text += std::string(70, 'x') + "\r\n";
    const auto threads = given.number("--threads");

    const auto start = Clock::now();
    const auto used_so_far = [&] {
        const auto server = usage(static_cast<pid_t>(given.number("--pid")));
        return proc::cpu_clock_ns(getpid()).value_or(0) + (server ? server->cpu_ns : 0);
    };
    const auto before = used_so_far();
    std::uint64_t stored = 0;
    if (const auto count = given.number("--fill")) stored += put(store, load, threads, count, 3600);
    if (const auto seconds = given.number("--put"))
        stored += put(store, load, threads, UINT64_MAX, static_cast<double>(seconds));
    const double spent = seconds_since(start);
    const auto used = static_cast<double>(used_so_far() - before);
    std::printf("{\"messages\": %llu, \"seconds\": %.3f, \"messages_per_s\": %.3f, \"cpu_us_per_message\": %.3f",
                static_cast<unsigned long long>(stored), spent, static_cast<double>(stored) / spent,
                stored ? used / 1e3 / static_cast<double>(stored) : 0);
    if (const auto count = given.number("--claim")) {
        if (!store.lead()) throw std::runtime_error("another process gives out its mail");
        Load due = load;
        due.domains = 1;
        due.due = {};
        put(store, due, threads, count, 3600);
        const auto each = claims(store, "d0.example.org", count);
        std::printf(", \"claim_p50_us\": %.1f, \"claim_p99_us\": %.1f", each[each.size() / 2],
                    each[each.size() * 99 / 100]);
        std::printf(", \"domains_us\": %.1f, \"stats_us\": %.1f, \"items_us\": %.1f",
                    microseconds([&] { store.domains({}, 1000); }), microseconds([&] { store.stats(); }),
                    microseconds([&] { store.items(0, 1000); }));
    }
    std::puts("}");
} catch (const std::exception& e) {
    std::fprintf(stderr, "store_load: %s\n", e.what());
    return 1;
}
