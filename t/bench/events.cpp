// events -- what plugins and listeners cost: nanoseconds per event, events per mail, and their share of a mail's CPU.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Plugins/Counters.hpp>
#include <Net/SMTP/Server/Plugins/Domains.hpp>
#include <Net/SMTP/Server/Plugins/SessionLog.hpp>
#include <Net/SMTP/Server/Plugins/Transcript.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "EventCourse.hpp"
#include "Script.hpp"
#include "Usage.hpp"
#include "Worker.hpp"

namespace {

namespace SMTP = Net::SMTP;
using SMTP::Event, SMTP::Pipeline;

const bool quick = [] {
    const char* text = std::getenv("QUICK");
    return text && *text && std::string_view(text) != "0";
}();
const int rounds = quick ? 9 : 35;
const std::chrono::duration<double> turn{quick ? 0.07 : 0.1};  // of one server, in one mode
constexpr double bar = 0.01;
constexpr std::size_t mail_size = 1024;

// ---- who hears ----

struct Audience {
    const char* name;
    std::function<void(Pipeline&)> add;
    bool judged = false;  // by the bar; what others cost is mostly what they do with an event
};

void for_each_of_8(const std::function<void(int)>& action) {
    for (int i = 0; i < 8; ++i) action(i);
}

void add_plugins(Pipeline& p) {
    for_each_of_8([&](int i) {
        auto plugin = std::make_shared<SMTP::Plugin>();
        plugin->on<Event::Connect>([](Event::Connect&) {}).on<Event::Helo>([](Event::Helo&) {});
        plugin->on<Event::Mail>([](Event::Mail&) {}).on<Event::Rcpt>([](Event::Rcpt&) {});
        plugin->on<Event::Data>([](Event::Data&) {});
        p.add("plugin " + std::to_string(i), plugin);
    });
}

// All that ours can do about every mail; the lines go nowhere.
void add_ours(Pipeline& p) {
    const auto nowhere = [](std::string_view) {};
    p.add("domains", std::make_shared<SMTP::Domains>(SMTP::Domains::Options{.domains = {"example.org"}}));
    SMTP::Counters().listen(p);
    SMTP::SessionLog(nowhere).listen(p);
    SMTP::Transcript(nowhere).listen(p);
}

const std::vector<Audience> audiences{
    {"nobody", [](Pipeline&) {}},
    {"nobody, again", [](Pipeline&) {}},  // how far two measurements of the same differ
    {"8 listeners to one kind",
     [](Pipeline& p) { for_each_of_8([&](int) { p.on<Event::Rcpt>([](Event::Rcpt&) {}); }); }, true},
    {"8 listeners to all kinds", [](Pipeline& p) { for_each_of_8([&](int) { p.on_all([](Event&) {}); }); }, true},
    {"8 plugins, 5 kinds each", add_plugins, true},
    {"Domains, Counters, SessionLog, Transcript", add_ours},
};

// ---- how mail comes ----

struct Traffic {
    const char* name;
    Mode mode;
    unsigned mails;  // in a session
};
constexpr std::array<Traffic, 3> traffics{
    {{"1 a session", Mode::newconn, 1}, {"100 a session", Mode::keep, 100}, {"100, pipelined", Mode::pipe, 100}}};

Endpoint loopback(std::uint16_t port) {
    Endpoint out;
    auto& address = reinterpret_cast<sockaddr_in&>(out.address);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    out.size = sizeof address;
    return out;
}

// Sends mails to the server until the time or their number is over; how many it has taken.
std::uint64_t load(const Traffic& traffic, std::uint16_t port, std::size_t connections, std::uint64_t total,
                   std::chrono::duration<double> time) {
    const Script lines = script(traffic.mode, message(mail_size, "text"));
    const Work work{loopback(port), connections, traffic.mails, total, time};
    Worker worker(work, lines);
    worker.run();
    if (worker.errors > 0 || worker.messages() == 0) throw std::runtime_error("the server answered wrong");
    return worker.messages();
}

SMTP::Options options() { return {.max_commands = 0}; }

// A server in a process of its own, so that its CPU can be told from ours. It ends with its scope, or with us.
class Host {
public:
    explicit Host(const Audience& audience) {
        int ends[2];
        if (pipe(ends) != 0 || (pid_ = fork()) < 0) throw std::runtime_error("no process for a server");
        if (pid_ == 0) serve(audience, ends[1]);
        close(ends[1]);
        const bool told = read(ends[0], &port_, sizeof port_) == sizeof port_;
        close(ends[0]);
        if (!told) throw std::runtime_error(std::string("no server for ") + audience.name);
    }
    Host(const Host&) = delete;
    Host(Host&& other) noexcept : pid_(std::exchange(other.pid_, 0)), port_(other.port_) {}
    ~Host() {
        if (pid_ <= 0) return;
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }

    // Microseconds of its CPU for each mail.
    double cpu_per_mail(const Traffic& traffic) const {
        const auto before = cpu_ns();
        const auto mails = load(traffic, port_, 10, std::numeric_limits<std::uint64_t>::max(), turn);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));  // it may be tidying up after the last
        return double(cpu_ns() - before) / 1e3 / double(mails);
    }
    std::int64_t cpu_ns() const {
        const auto used = proc::cpu_clock_ns(pid_);
        if (!used) throw std::runtime_error("a server has ended");
        return *used;
    }

private:
    [[noreturn]] static void serve(const Audience& audience, int tell) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        try {
            SMTP::Server server("127.0.0.1", 0, options());
            audience.add(server.pipeline());
            const auto port = server.port();
            if (write(tell, &port, sizeof port) == sizeof port) server.run([](auto& client) { client.accept(); });
        } catch (const std::exception& e) {
            std::fprintf(stderr, "events: %s\n", e.what());
        }
        _exit(1);
    }

    pid_t pid_ = 0;
    std::uint16_t port_ = 0;
};

// ---- what is measured ----

// In a session with so many mails of a real server.
std::uint64_t events_of_session(const Traffic& traffic) {
    SMTP::Server server("127.0.0.1", 0, options());
    std::atomic<std::uint64_t> events{0};
    server.pipeline().on_all([&](Event& e) { events += e.whose() != nullptr; });
    std::jthread running([&] { server.run([](auto& client) { client.accept(); }); });
    try {
        load(traffic, server.port(), 1, traffic.mails, std::chrono::seconds(10));
    } catch (...) {
        server.stop();
        throw;
    }
    server.stop();
    running.join();
    return events;
}

double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

// Keeps the least: whatever else the machine does makes everything longer.
void keep_least(double& value, double other) {
    if (value == 0 || other < value) value = other;
}

double thread_ns() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return double(time.tv_sec) * 1e9 + double(time.tv_nsec);
}

double ns_per_event(EventCourse& course, unsigned mails) {
    const auto events = course.events();
    const auto start = thread_ns();
    for (unsigned n = 0; n < 2'000 / mails; ++n) course.session(mails);
    return (thread_ns() - start) / double(course.events() - events);
}

struct Figures {
    double ns = 0, cpu_us = 0;    // the least: of an event, of a mail
    std::vector<double> ratio{};  // of a mail's CPU to what it is when nobody hears, of each round
};
using Row = std::array<Figures, traffics.size()>;

struct Measured {
    std::vector<Row> rows;  // of the audiences
    double others = 0;      // processors that were busy with something else
};

struct Side {
    explicit Side(const Audience& a) : host(a), course(std::make_unique<EventCourse>()) { a.add(course->pipeline()); }
    Host host;
    std::unique_ptr<EventCourse> course;
};

// All in turns.
void measure(std::vector<Side>& sides, std::size_t t, std::vector<Row>& rows) {
    for (const auto& side : sides) side.host.cpu_per_mail(traffics[t]);  // threads, caches, heaps
    for (int round = 0; round < rounds; ++round) {
        double nobody = 0;
        for (std::size_t i = 0; i < sides.size(); ++i) {
            auto& figures = rows[i][t];
            const auto cpu = sides[i].host.cpu_per_mail(traffics[t]);
            if (i == 0) nobody = cpu;
            figures.ratio.push_back(cpu / nobody);
            keep_least(figures.cpu_us, cpu);
            keep_least(figures.ns, ns_per_event(*sides[i].course, traffics[t].mails));
        }
    }
}

Measured measure() {
    std::vector<Side> sides;
    for (const auto& a : audiences) sides.emplace_back(a);
    const auto busy = [&] {
        double ns = double(proc::machine_cpu_ns() - proc::cpu_clock_ns(getpid()).value_or(0));
        for (const auto& side : sides) ns -= double(side.host.cpu_ns());
        return ns;
    };
    const auto start = Clock::now();
    const auto before = busy();
    Measured out;
    out.rows.resize(sides.size());
    for (std::size_t t = 0; t < traffics.size(); ++t) measure(sides, t, out.rows);
    const std::chrono::duration<double, std::nano> took = Clock::now() - start;
    out.others = std::max(0.0, (busy() - before) / took.count());
    return out;
}

// ---- what is told ----

using Events = std::array<double, traffics.size()>;  // of a mail

void print_events(const std::vector<Row>& rows, const Events& events) {
    std::puts("| mails | events/mail | CPU us/mail, nobody hears |\n|---|---|---|");
    for (std::size_t t = 0; t < traffics.size(); ++t)
        std::printf("| %s | %.2f | %.2f |\n", traffics[t].name, events[t], rows[0][t].cpu_us);
}

void print_shares(const std::vector<Row>& rows, const Events& events) {
    std::printf("| who hears | mails | ns/event | x events, ns | of the CPU | at most %g %% | whole mail / nobody |\n",
                bar * 100);
    std::puts("|---|---|---|---|---|---|---|");
    for (std::size_t a = 0; a < rows.size(); ++a)
        for (std::size_t t = 0; t < traffics.size(); ++t) {
            const auto& f = rows[a][t];
            const double ns = f.ns * events[t], share = ns / 1e3 / rows[0][t].cpu_us;
            const char* verdict = !audiences[a].judged ? "-" : share <= bar ? "met" : "MISSED";
            std::printf("| %s | %s | %.1f | %.0f | %.2f %% | %s | %.3f |\n", audiences[a].name, traffics[t].name, f.ns,
                        ns, share * 100, verdict, median(f.ratio));
        }
}

void print(const Measured& measured, const Events& events) {
    std::printf(
        "# Events\n\nMails of %zu octets to one recipient, 10 clients on loopback; %d rounds of %g s in turns. "
        "Nanoseconds and CPU are the least, ratios the median of all rounds.\n",
        mail_size, rounds, turn.count());
    std::printf("Other programs kept %.2f processors busy: %s.\n\n", measured.others,
                measured.others <= 0.1 ? "quiet" : "NOT QUIET, ratios of such a run mislead");
    print_events(measured.rows, events);
    std::puts("");
    print_shares(measured.rows, events);
}

}  // namespace

// No timing decides the exit status.
int main() {
    std::signal(SIGPIPE, SIG_IGN);
    try {
        const auto measured = measure();
        Events events{};
        for (std::size_t t = 0; t < traffics.size(); ++t) {
            EventCourse course;
            course.session(traffics[t].mails);
            const auto counted = events_of_session(traffics[t]);
            if (counted != course.events()) throw std::runtime_error("EventCourse shows not what a session does");
            events[t] = double(counted) / traffics[t].mails;
        }
        print(measured, events);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "events: %s\n", e.what());
        return 1;
    }
}
