// load -- loads an SMTP server on this machine, checks every reply, and reports speed and the server's cost as JSON.
#include <netdb.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iomanip>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "Arrivals.hpp"
#include "Latencies.hpp"
#include "Script.hpp"
#include "Session.hpp"
#include "Usage.hpp"
#include "Worker.hpp"

namespace {

constexpr const char* help =
    R"(usage: load [options] HOST:PORT

  --mode MODE       newconn  one message per connection, one command per round trip
                    keep     many messages per connection, one command per round trip (the default)
                    pipe     MAIL, RCPT and DATA in one write, the body after the 354
                    pipe2    a body and the next envelope in one write
                    bdat     envelope and body in one write
  --size OCTETS     of a message, before dots are doubled (4096)
  --body KIND       text     lines of 70 octets (the default)
                    dots     the same, every line beginning with a dot
                    short    lines of two octets
  --connections N   at once (10); one that has sent its messages is followed by another
  --messages N      on each connection (50; with newconn 1)
  --total N         messages in all (connections x messages; with --seconds unlimited)
  --seconds S       begin no message after this time (60)
  --threads N       of this program (1)
  --idle N          connections that said EHLO and wait while the others work (0)
  --hello VERB      EHLO, or HELO for a server that knows no better (EHLO)
  --pid PID         of the server: its CPU and memory are reported, with those of its children and threads, and how
                    many processors were busy with something else ("others": more than 0.1 disturbs); given again:
                    of another that works for it, as a database does
  --arrivals FILE   which the server's next hop counts in (see Arrivals.hpp): the run goes on until every mail has
                    come there, for two minutes at most, and that is what "arrived_per_s" and the CPU are of

HOST must be a loopback address. One JSON object on standard output. Exit status: 0 all replies were as expected,
1 some were not, 2 usage, 3 the server does not offer what the mode needs.
)";

struct Options {
    Mode mode = Mode::keep;
    std::string body = "text", hello = "EHLO", server, arrivals;
    std::uint64_t size = 4096, connections = 10, messages = 0, total = 0, threads = 1, idle = 0;
    std::vector<pid_t> pids;
    double seconds = 0;
};

[[noreturn]] void wrong_usage(const std::string& why) {
    std::fprintf(stderr, "load: %s\n%s", why.c_str(), help);
    std::exit(2);
}

template <typename Number>
Number number(std::string_view option, std::string_view text, Number least, Number most) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most)
        wrong_usage(std::string(option) + ": not a number it can be: " + std::string(text));
    return value;
}

Options options(int argc, char** argv) {
    Options result;
    const struct {
        std::string_view name;
        std::uint64_t& value;
        std::uint64_t least, most;
    } numbers[] = {
        {"--size", result.size, 64, 1 << 30},
        {"--connections", result.connections, 1, 100'000},
        {"--messages", result.messages, 1, 1'000'000'000},
        {"--total", result.total, 1, 1'000'000'000},
        {"--threads", result.threads, 1, 256},
        {"--idle", result.idle, 0, 100'000},
    };
    for (int i = 1; i < argc; ++i) {
        const std::string_view argument = argv[i];
        if (!argument.starts_with("--")) {
            if (!result.server.empty()) wrong_usage("one HOST:PORT");
            result.server = argument;
            continue;
        }
        if (argument == "--help") {
            std::fputs(help, stdout);
            std::exit(0);
        }
        if (++i == argc) wrong_usage(std::string(argument) + " needs a value");
        const std::string_view value = argv[i];
        if (argument == "--mode") {
            const auto mode = mode_named(value);
            if (!mode) wrong_usage("no such mode: " + std::string(value));
            result.mode = *mode;
        } else if (argument == "--body") {
            if (value != "text" && value != "dots" && value != "short")
                wrong_usage("no such body: " + std::string(value));
            result.body = value;
        } else if (argument == "--hello") {
            if (value != "EHLO" && value != "HELO") wrong_usage("no such greeting: " + std::string(value));
            result.hello = value;
        } else if (argument == "--pid") {
            result.pids.push_back(number(argument, value, 1, 1 << 30));
        } else if (argument == "--arrivals") {
            result.arrivals = value;
        } else if (argument == "--seconds") {
            result.seconds = number(argument, value, 0.01, 3600.0);
        } else {
            const auto found = std::ranges::find(numbers, argument, [](const auto& row) { return row.name; });
            if (found == std::end(numbers)) wrong_usage("no such option: " + std::string(argument));
            found->value = number(argument, value, found->least, found->most);
        }
    }
    if (result.server.empty()) wrong_usage("which HOST:PORT?");
    if (result.messages == 0) result.messages = result.mode == Mode::newconn ? 1 : 50;
    if (result.total == 0) result.total = result.seconds > 0 ? 1'000'000'000 : result.connections * result.messages;
    if (result.seconds == 0) result.seconds = 60;
    result.threads = std::min({result.threads, result.connections, result.total});
    return result;
}

// An IPv4 or IPv6 loopback address and port: this is no tool to point at other people's servers.
Endpoint endpoint(const std::string& text) {
    const auto colon = text.rfind(':');
    if (colon == std::string::npos) wrong_usage("HOST:PORT, not " + text);
    std::string host = text.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);

    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    addrinfo* found = nullptr;
    if (const int error = getaddrinfo(host.c_str(), text.c_str() + colon + 1, &hints, &found))
        wrong_usage(text + ": " + gai_strerror(error));
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);

    bool loopback = false;
    if (found->ai_family == AF_INET)
        loopback = ntohl(reinterpret_cast<const sockaddr_in*>(found->ai_addr)->sin_addr.s_addr) >> 24 == 127;
    else if (found->ai_family == AF_INET6)
        loopback = IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(found->ai_addr)->sin6_addr);
    if (!loopback) wrong_usage(text + " is not a loopback address");

    Endpoint result;
    std::memcpy(&result.address, found->ai_addr, found->ai_addrlen);
    result.size = found->ai_addrlen;
    return result;
}

// Every connection is a descriptor. The hard limit is raised too if we may.
void raise_descriptor_limit(rlim_t wanted) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= wanted) return;
    const rlimit higher{wanted, std::max(wanted, limit.rlim_max)};
    if (setrlimit(RLIMIT_NOFILE, &higher) == 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < wanted) wrong_usage("so many connections need `ulimit -n " + std::to_string(wanted) + "`");
}

// The server's usage; nothing when there is no --pid. A server that is gone ends the run.
std::optional<Usage> look(const Options& options) {
    if (options.pids.empty()) return {};
    Usage sum;
    for (const auto pid : options.pids) {
        const auto found = usage(pid);
        if (!found) {
            std::fprintf(stderr, "load: WRONG: there is no server process %d\n", pid);
            std::exit(1);
        }
        sum.cpu_ns += found->cpu_ns;
        sum.rss_kb += found->rss_kb;
        sum.peak_kb += found->peak_kb;
    }
    return sum;
}

// Who has used how much processor time at one moment, and what has come to the next hop by then.
struct Sample {
    Clock::time_point at = Clock::now();
    std::int64_t machine_ns = proc::machine_cpu_ns();
    std::int64_t load_ns = proc::cpu_clock_ns(getpid()).value_or(0);
    std::int64_t next_hop_ns = 0;
    std::uint64_t hop_connections = 0, arrived = 0;
    std::optional<Usage> server;

    Sample(const Options& options, const Arrivals* next_hop) {
        if (next_hop) {
            next_hop_ns = proc::cpu_clock_ns(static_cast<pid_t>(next_hop->pid.load())).value_or(0);
            hop_connections = next_hop->connections;
            arrived = next_hop->messages;
        }
        server = look(options);
    }
};

// Waits until that many have come to the next hop. Who answers before it delivers is given two minutes.
Clock::time_point wait_for(const Arrivals& next_hop, std::uint64_t count) {
    const auto deadline = Clock::now() + std::chrono::minutes(2);
    while (next_hop.messages < count && Clock::now() < deadline)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return Clock::now();
}

struct Outcome {
    Latencies latencies;
    std::uint64_t messages = 0, errors = 0;
    bool lacks_chunking = false;
    double seconds = 0, arrived_seconds = 0;
    std::uint64_t arrived = 0, hop_connections = 0;
    std::int64_t load_cpu_ns = 0, server_cpu_ns = 0, next_hop_cpu_ns = 0;
    double others = 0;  // processors that neither the server nor we have used: they disturb
    long rss_kb = 0, peak_kb = 0;
};

Outcome run(const Options& options, const Endpoint& server, const Script& script) {
    Outcome outcome;
    const Arrivals* const next_hop = options.arrivals.empty() ? nullptr : &arrivals(options.arrivals);

    const Work waiting{server, options.idle};
    Worker idle(waiting, script);
    if (options.idle > 0) idle.run();

    std::vector<Work> work(options.threads);
    std::vector<std::unique_ptr<Worker>> workers;
    for (std::uint64_t i = 0; i < options.threads; ++i) {
        const auto share = [&](std::uint64_t all) {
            return all / options.threads + (i < all % options.threads ? 1 : 0);
        };
        work[i] = {server, share(options.connections), static_cast<unsigned>(options.messages), share(options.total),
                   std::chrono::duration<double>(options.seconds)};
        workers.push_back(std::make_unique<Worker>(work[i], script));
    }

    const Sample before(options, next_hop);
    const auto start = Clock::now();
    std::atomic<std::uint64_t> running = options.threads;
    {
        std::vector<std::jthread> threads;
        for (auto& worker : workers)
            threads.emplace_back([&running, &worker] {
                worker->run();
                --running;
            });
        // Processes and threads that serve one connection are gone at the end, so memory is looked at meanwhile.
        for (int turn = 1; running > 0; ++turn) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
            if (turn % 20 != 0) continue;
            if (const auto now = look(options)) outcome.rss_kb = std::max(outcome.rss_kb, now->rss_kb);
        }
    }
    auto finish = start;
    for (const auto& worker : workers) {
        outcome.latencies.add(worker->latencies);
        outcome.messages += worker->messages();
        outcome.errors += worker->errors;
        outcome.lacks_chunking |= worker->lacks_chunking;
        finish = std::max(finish, worker->finish());
    }
    const auto all_arrived = next_hop ? wait_for(*next_hop, before.arrived + outcome.messages) : finish;

    // The server has closed every connection, yet may still be tidying up after the last.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const Sample after(options, next_hop);
    outcome.arrived = after.arrived - before.arrived;
    outcome.hop_connections = after.hop_connections - before.hop_connections;
    outcome.next_hop_cpu_ns = after.next_hop_ns - before.next_hop_ns;
    outcome.load_cpu_ns = after.load_ns - before.load_ns;
    if (after.server) {
        outcome.server_cpu_ns = after.server->cpu_ns - before.server->cpu_ns;
        outcome.rss_kb = std::max(outcome.rss_kb, after.server->rss_kb);
        outcome.peak_kb = after.server->peak_kb;
        const auto others_ns = after.machine_ns - before.machine_ns - outcome.load_cpu_ns - outcome.server_cpu_ns -
                               outcome.next_hop_cpu_ns;
        const std::chrono::duration<double, std::nano> meanwhile = after.at - before.at;
        outcome.others = std::max(0.0, static_cast<double>(others_ns) / meanwhile.count());
    }
    if (options.idle > 0) idle.dismiss();

    outcome.errors += idle.errors;
    outcome.seconds = std::chrono::duration<double>(finish - start).count();
    outcome.arrived_seconds = std::chrono::duration<double>(all_arrived - start).count();
    if (next_hop && outcome.arrived != outcome.messages) {
        std::fprintf(stderr, "load: WRONG: %llu mails taken, %llu came to the next hop\n",
                     static_cast<unsigned long long>(outcome.messages),
                     static_cast<unsigned long long>(outcome.arrived));
        ++outcome.errors;
    }
    return outcome;
}

void print(const Options& options, const Outcome& outcome) {
    const auto per_message = [&](std::int64_t nanoseconds) {
        return static_cast<double>(nanoseconds) / 1e3 /
               static_cast<double>(std::max<std::uint64_t>(outcome.messages, 1));
    };
    const double rate = outcome.seconds > 0 ? static_cast<double>(outcome.messages) / outcome.seconds : 0;

    std::ostringstream line;
    const auto field = [&](const char* key, auto value) { line << ", \"" << key << "\": " << value; };
    line << std::fixed << std::setprecision(3) << "{\"mode\": \"" << name(options.mode) << "\", \"body\": \""
         << options.body << '"';
    field("size", options.size);
    field("connections", options.connections);
    field("threads", options.threads);
    field("idle", options.idle);
    field("messages", outcome.messages);
    field("errors", outcome.errors);
    field("seconds", outcome.seconds);
    field("messages_per_s", rate);
    field("mb_per_s", rate * static_cast<double>(options.size) / 1e6);
    field("p50_us", outcome.latencies.quantile(0.5));
    field("p99_us", outcome.latencies.quantile(0.99));
    field("p999_us", outcome.latencies.quantile(0.999));
    field("load_cpu_us_per_message", per_message(outcome.load_cpu_ns));
    if (!options.pids.empty()) {
        field("cpu_us_per_message", per_message(outcome.server_cpu_ns));
        field("rss_kb", outcome.rss_kb);
        field("peak_kb", outcome.peak_kb);
        field("others", outcome.others);
    }
    if (!options.arrivals.empty()) {
        field("arrived", outcome.arrived);
        field("arrived_per_s", static_cast<double>(outcome.arrived) / outcome.arrived_seconds);
        field("hop_connections", outcome.hop_connections);
        field("hop_cpu_us_per_message", per_message(outcome.next_hop_cpu_ns));
    }
    std::puts((line.str() + "}").c_str());
}

}  // namespace

int main(int argc, char** argv) {
    const Options chosen = options(argc, argv);
    const Endpoint server = endpoint(chosen.server);
    raise_descriptor_limit(chosen.connections + chosen.idle + 100);
    const Script lines = script(chosen.mode, message(chosen.size, chosen.body), chosen.hello);

    const Outcome outcome = run(chosen, server, lines);
    if (outcome.lacks_chunking && outcome.errors == 0) {
        std::fprintf(stderr, "load: the server does not offer CHUNKING\n");
        return 3;
    }
    print(chosen, outcome);
    if (outcome.errors > 0 || outcome.messages == 0) {
        std::fprintf(stderr, "load: FAILED: %llu errors\n", static_cast<unsigned long long>(outcome.errors));
        return 1;
    }
    return 0;
}
