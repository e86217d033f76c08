// store_pg -- what a queue in PostgreSQL takes and gives: durable mails a second and their processor time, by threads
// and by nodes; claims and records; and whether either slows down beside much that waits.
//
//     build/bench/store_pg CONNECTION [SECONDS]      a libpq connection string, of a database that may be written to
//
// t/interop/postgres.py starts a private one:  t/interop/postgres.py sh -c 'build/bench/store_pg "$POSTGRES_URL"'
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <Net/SMTP/Relay/PostgresStore.hpp>
#include <Net/SMTP/Server.hpp>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "Latencies.hpp"
#include "Usage.hpp"

namespace {

using namespace Net::SMTP;
using Clock = std::chrono::steady_clock;

std::string database;
PostgresStore::Options options;
std::chrono::duration<double> turn{5};

QueuedMail mail(const Message& text, const std::string& domain, QueueTime due) {
    QueuedMail out;
    out.id = new_queue_id();
    out.from = Sender("anna@example.net");
    out.to.emplace_back("bert@" + domain);
    out.head =
        "Received: from client.example.net (client.example.net [192.0.2.1]) by mx.example.org with ESMTP;\r\n"
        "\tMon, 6 Jan 2025 10:00:00 +0000\r\n";
    out.text = text;
    out.arrived = queue_now();
    out.due = due;
    return out;
}

const Message& letter() {
    static const Message text([] {
        std::string out = "Subject: bench\r\n\r\n";
        while (out.size() < 4096 - 66) out += std::string(64, 'x') + "\r\n";
        return out;
    }());
    return text;
}

double seconds(const timeval& time) { return double(time.tv_sec) + double(time.tv_usec) / 1e6; }
double own_cpu() {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    return seconds(used.ru_utime) + seconds(used.ru_stime);
}

struct Course {
    std::uint64_t done = 0;
    double seconds = 0, cpu = 0, machine = 0;
    Latencies latencies;
};

// So many threads do `step` again and again until it is over or says that there is no more; how many things each did.
Course run(int threads, const std::function<std::uint64_t(int thread)>& step) {
    Course course;
    std::mutex mutex;
    std::vector<std::thread> all;
    const auto began = Clock::now();
    const auto cpu = own_cpu();
    const auto machine = double(proc::machine_cpu_ns()) / 1e9;
    for (int i = 0; i < threads; ++i)
        all.emplace_back([&, i] {
            Latencies mine;
            std::uint64_t done = 0;
            while (Clock::now() - began < turn) {
                const auto from = Clock::now();
                const auto some = step(i);
                if (some == 0) break;
                mine.add(std::uint64_t(std::chrono::nanoseconds(Clock::now() - from).count()));
                done += some;
            }
            const std::lock_guard lock(mutex);
            course.latencies.add(mine);
            course.done += done;
        });
    for (auto& each : all) each.join();
    course.seconds = std::chrono::duration<double>(Clock::now() - began).count();
    course.cpu = own_cpu() - cpu;
    course.machine = double(proc::machine_cpu_ns()) / 1e9 - machine;
    return course;
}

void say(const std::string& what, const Course& c) {
    const auto count = double(c.done ? c.done : 1);
    std::printf("%-44s %9.0f /s  %7.1f us CPU ours %7.1f us in all   call p50 %8.0f us  p99 %8.0f us\n", what.c_str(),
                double(c.done) / c.seconds, c.cpu / count * 1e6, c.machine / count * 1e6, c.latencies.quantile(0.5),
                c.latencies.quantile(0.99));
    std::fflush(stdout);
}

std::string domain_of(int i) { return "d" + std::to_string(i) + ".example.org"; }

Course put(Store& store, int threads) {
    return run(threads, [&](int thread) {
        store.put(mail(letter(), domain_of(thread % 16), queue_now()));
        return std::uint64_t(1);
    });
}

// Claims a batch, reads each text, records each as done.
Course drain(Store& store, int threads, bool texts) {
    return run(threads, [&](int thread) {
        std::uint64_t done = 0;
        for (int i = 0; i < 16 && done == 0; ++i)
            for (const auto& task : store.claim(domain_of((thread + i) % 16), queue_now(), 20)) {
                if (texts) (void)store.text(task);
                std::vector<QueueVerdict> verdicts;
                for (const auto& to : task.to) verdicts.push_back({.number = to.number, .done = true});
                done += store.record(task, verdicts, {});
            }
        return done;
    });
}

// Each node is a process, and says its own.
void by_nodes(int nodes, int threads) {
    std::vector<pid_t> children;
    for (int i = 0; i < nodes; ++i) {
        std::fflush(stdout);
        const pid_t child = fork();
        if (child == 0) {
            {
                PostgresStore store(database, options);
                say("node " + std::to_string(i + 1) + " of " + std::to_string(nodes) + ": put, " +
                        std::to_string(threads) + " threads",
                    put(store, threads));
                say("node " + std::to_string(i + 1) + " of " + std::to_string(nodes) + ": claim+text+record",
                    drain(store, threads, true));
            }
            _exit(0);
        }
        children.push_back(child);
    }
    for (const auto child : children) waitpid(child, nullptr, 0);
}

void fill(Store& store, int count, const std::string& domain) {
    std::atomic<int> next{0};
    std::vector<std::thread> all;
    const Message small("Subject: waits\r\n\r\n");
    for (int i = 0; i < 64; ++i)
        all.emplace_back([&] {
            while (next++ < count) store.put(mail(small, domain, queue_now() + std::chrono::hours(10)));
        });
    for (auto& each : all) each.join();
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: store_pg CONNECTION [SECONDS]\n");
        return 2;
    }
    database = argv[1];
    if (argc > 2) turn = std::chrono::duration<double>(std::atof(argv[2]));
    options.schema = "bench_" + std::to_string(getpid());
    try {
        PostgresStore(database, options).stats();
        by_nodes(3, 64);
        PostgresStore store(database, options);
        for (const int threads : {1, 10, 64})
            say("put 4 KiB, threads: " + std::to_string(threads), put(store, threads));
        say("claim+record, threads: 1", drain(store, 1, false));
        say("claim+record, threads: 64", drain(store, 64, false));
        put(store, 64);
        say("claim+text+record, threads: 64", drain(store, 64, true));
        const int much = std::getenv("WAITING") ? std::atoi(std::getenv("WAITING")) : 100'000;
        fill(store, much, domain_of(0));
        std::printf("now %d more wait in one domain\n", much);
        say("put 4 KiB, threads: 64", put(store, 64));
        say("claim+text+record, threads: 64", drain(store, 64, true));
        say("domains()", run(1, [&](int) { return store.domains(std::nullopt, 1000).size() > 0 ? 1 : 0; }));
        say("stats()", run(1, [&](int) { return store.stats().messages > 0 ? 1 : 0; }));
    } catch (const std::exception& e) {
        std::fprintf(stderr, "store_pg: %s\n", e.what());
        return 1;
    }
    return 0;
}
