// drained -- waits until so many mails have come to the next hop, and reports how fast, and what their queue has used.
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <thread>

#include "../../examples/arguments.hpp"
#include "Arrivals.hpp"
#include "Usage.hpp"

namespace {

using Clock = std::chrono::steady_clock;

struct Sample {
    Clock::time_point at = Clock::now();
    std::int64_t machine_ns = proc::machine_cpu_ns();
    std::int64_t next_hop_ns = 0, own_ns = proc::cpu_clock_ns(getpid()).value_or(0);
    std::uint64_t arrived = 0, connections = 0;
    Usage queue;

    Sample(pid_t root, const Arrivals& next_hop)
        : next_hop_ns(proc::cpu_clock_ns(static_cast<pid_t>(next_hop.pid.load())).value_or(0)),
          arrived(next_hop.messages),
          connections(next_hop.connections) {
        const auto found = usage(root);
        if (!found) throw std::runtime_error("there is no such process");
        queue = *found;
    }
};

void wait_for(const Arrivals& next_hop, std::uint64_t count, Clock::time_point deadline) {
    while (next_hop.messages < count) {
        if (Clock::now() > deadline)
            throw std::runtime_error("only " + std::to_string(next_hop.messages) + " of " + std::to_string(count) +
                                     " have come in time");
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

}  // namespace

int main(int argc, char** argv) try {
    const Arguments given(argc, argv, "Measures a queue that is being emptied; one JSON object on standard output.",
                          {{"--pid", "PID", "of the queue; its children count too", "", "", is_number},
                           {"--arrivals", "FILE", "which the next hop counts in, from 0"},
                           {"--from", "COUNT", "begins when so many have come", "", "1", is_number},
                           {"--to", "COUNT", "ends when so many have come", "", "", is_number},
                           {"--seconds", "SECONDS", "waits no longer", "", "120", is_number}});
    for (const auto* name : {"--pid", "--arrivals", "--to"}) given.require(name);
    const auto& next_hop = arrivals(given("--arrivals"));
    const auto root = static_cast<pid_t>(given.number("--pid"));
    const auto deadline = Clock::now() + std::chrono::seconds(given.number("--seconds"));

    wait_for(next_hop, given.number("--from"), deadline);
    const Sample before(root, next_hop);
    wait_for(next_hop, given.number("--to"), deadline);
    const auto finish = Clock::now();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // it has still to note that they are gone
    const Sample after(root, next_hop);

    const auto messages = static_cast<double>(after.arrived - before.arrived);
    const std::chrono::duration<double> seconds = finish - before.at, watched = after.at - before.at;
    const auto cpu = static_cast<double>(after.queue.cpu_ns - before.queue.cpu_ns);
    const auto hop = static_cast<double>(after.next_hop_ns - before.next_hop_ns);
    const auto others = static_cast<double>(after.machine_ns - before.machine_ns - (after.own_ns - before.own_ns));
    std::printf(
        "{\"messages\": %.0f, \"seconds\": %.3f, \"messages_per_s\": %.3f, \"cpu_us_per_message\": %.3f, "
        "\"hop_cpu_us_per_message\": %.3f, \"hop_connections\": %llu, \"rss_kb\": %ld, \"others\": %.3f}\n",
        messages, seconds.count(), messages / seconds.count(), cpu / 1e3 / messages, hop / 1e3 / messages,
        static_cast<unsigned long long>(after.connections), after.queue.rss_kb,
        std::max(0.0, (others - cpu - hop) / 1e9 / watched.count()));
} catch (const std::exception& e) {
    std::fprintf(stderr, "drained: %s\n", e.what());
    return 1;
}
