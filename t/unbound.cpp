// unbound -- the real resolver, against name servers that are kind, slow, broken or gone.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <Net/SMTP/Server/UnboundResolver.hpp>
#include <fstream>
#include <set>
#include <sstream>

#include "faults.hpp"
#include "sanitized.hpp"
#include "signed_zone.hpp"

using namespace test;
using Net::SMTP::Records;
using test::dns::Answer;
using Status = Records::Status;
using Texts = std::vector<std::string>;

namespace {

// What a resolver is asked for that has a server of the test's own.
UnboundResolver::Options by(const DnsServer& server) { return {.servers = {server.address()}}; }

Records ask(Resolver& resolver, const std::string& name, RecordType type = RecordType::A,
            std::chrono::milliseconds within = patience) {
    return resolver.query(name, type, Clock::now() + within);
}
Status status(Resolver& resolver, const std::string& name, RecordType type = RecordType::A) {
    return ask(resolver, name, type).status;
}

std::size_t entries(const char* folder) {
    return std::size_t(std::distance(std::filesystem::directory_iterator(folder), {}));
}
std::size_t descriptors() { return entries("/proc/self/fd"); }

using Threads = std::set<std::string>;
Threads threads() {
    Threads all;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) all.insert(task.path());
    return all;
}
Threads threads_since(const Threads& before) {
    Threads all;
    std::ranges::set_difference(threads(), before, std::inserter(all, all.end()));
    return all;
}

void write_file(const std::string& path, std::string_view text) { std::ofstream(path) << text; }

// Runs `work` in a forked child, and gives what it returned; 99 when it threw, 98 when it did not end in time.
int in_child(const std::function<int()>& work) {
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        alarm(60);
        int code = 99;
        try {
            code = work();
        } catch (...) {
        }
        _exit(code);
    }
    int end = 0;
    const auto deadline = Clock::now() + 3 * patience;
    while (waitpid(child, &end, WNOHANG) == 0) {
        if (Clock::now() > deadline) {
            kill(child, SIGKILL);
            waitpid(child, &end, 0);
            return 98;
        }
        std::this_thread::sleep_for(2ms);
    }
    return WIFEXITED(end) ? WEXITSTATUS(end) : 100 + WTERMSIG(end);
}

}  // namespace

// ---- what comes back ----

TEST_CASE("the records of a name come back as they are on the wire") {
    DnsServer server;
    server.tell({dns::a("example.org", "192.0.2.1"), dns::a("example.org", "192.0.2.2")});
    server.tell({dns::a("example.org", "2001:db8::1")});
    server.tell({dns::txt("example.org", {"v=spf1 ", "-all"}), dns::txt("example.org", {""})});
    server.tell("_25._tcp.mx.example.org", dns::TLSA,
                {{{"_25._tcp.mx.example.org", dns::TLSA, "\3\1\1" + std::string(32, 'h')}}});
    // The host's name is compressed: "mx", and then the name of the question.
    server.tell(
        "example.org", dns::MX,
        {{dns::mx("example.org", 20, "b.example.net"), {"example.org", dns::MX, std::string("\0\n\2mx\xC0\x0C", 7)}}});
    UnboundResolver resolver(by(server));

    const auto sorted = [](Texts all) {
        std::ranges::sort(all);
        return all;
    };
    CHECK(sorted(addresses(ask(resolver, "example.org"))) == Texts{"192.0.2.1", "192.0.2.2"});
    CHECK(addresses(ask(resolver, "example.org", RecordType::AAAA)) == Texts{"2001:db8::1"});
    CHECK(sorted(texts(ask(resolver, "example.org", RecordType::TXT))) == Texts{"", "v=spf1 -all"});
    CHECK(ask(resolver, "_25._tcp.mx.example.org", RecordType::TLSA).data == Texts{"\3\1\1" + std::string(32, 'h')});
    auto exchangers = mail_exchangers(ask(resolver, "example.org", RecordType::MX));
    std::ranges::sort(exchangers, {}, &MailExchanger::preference);
    CHECK(exchangers == std::vector<MailExchanger>{{10, "mx.example.org"}, {20, "b.example.net"}});

    const auto found = ask(resolver, "example.org");
    CHECK(found.found());
    CHECK_FALSE(found.secure);
    CHECK(found.error == "");
}

TEST_CASE("no such name, no such record and a server that can't are three things") {
    DnsServer server;
    server.tell({dns::a("example.org", "192.0.2.1")});
    server.tell("servfail.test", dns::A, {{}, dns::SERVFAIL});
    server.tell("refused.test", dns::A, {{}, dns::REFUSED});
    server.tell("formerr.test", dns::A, {{}, dns::FORMERR});
    UnboundResolver resolver(by(server));
    CHECK(status(resolver, "nobody.example.org") == Status::no_domain);
    CHECK(status(resolver, "example.org", RecordType::MX) == Status::no_data);
    for (const std::string name : {"servfail.test", "refused.test", "formerr.test"}) {
        CAPTURE(name);
        const auto answer = ask(resolver, name);
        CHECK(answer.status == Status::failed);
        CHECK(answer.temporary());
        CHECK_FALSE(answer.error.empty());
        CHECK(answer.data.empty());
    }
    CHECK(status(resolver, "example.org") == Status::found);
}

TEST_CASE("an alias leads to the records of its target") {
    DnsServer server;
    const auto alias = [&](const std::string& from, const std::string& to) {
        for (const auto type : {dns::A, dns::MX}) server.tell(from, type, {{dns::cname(from, to)}});
    };
    alias("one.test", "two.test");
    alias("two.test", "three.test");
    server.tell({dns::a("three.test", "192.0.2.3")});
    alias("lost.test", "nobody.test");
    alias("round.test", "about.test");
    alias("about.test", "round.test");
    UnboundResolver resolver(by(server));
    CHECK(addresses(ask(resolver, "one.test")) == Texts{"192.0.2.3"});
    CHECK(status(resolver, "one.test", RecordType::MX) == Status::no_data);
    CHECK(status(resolver, "lost.test") == Status::no_domain);
    CHECK_FALSE(ask(resolver, "round.test").found());
}

TEST_CASE("what does not fit a datagram comes by TCP") {
    DnsServer server;
    dns::Records many;
    for (int i = 0; i < 200; ++i) many.push_back(dns::txt("large.test", {std::to_string(i) + std::string(200, 'x')}));
    server.tell("large.test", dns::TXT, {many, dns::NOERROR, Answer::truncated});
    UnboundResolver resolver(by(server));
    CHECK(texts(ask(resolver, "large.test", RecordType::TXT)).size() == 200);
    CHECK(server.by_tcp() == 1);
}

TEST_CASE("a server that hangs up in the middle of an answer has failed") {
    DnsServer server;
    server.tell("cut.test", dns::A, {{dns::a("cut.test", "192.0.2.1")}, dns::NOERROR, Answer::cut});
    UnboundResolver resolver(by(server));
    CHECK(status(resolver, "cut.test") == Status::failed);
    CHECK(server.by_tcp() > 0);
}

TEST_CASE("answers to nobody's question are passed over") {
    DnsServer server;
    server.tell("noisy.test", dns::A, {{dns::a("noisy.test", "192.0.2.1")}, dns::NOERROR, Answer::garbled});
    UnboundResolver resolver(by(server));
    CHECK(addresses(ask(resolver, "noisy.test")) == Texts{"192.0.2.1"});
}

TEST_CASE("half an answer is none") {
    DnsServer server;
    server.tell("half.test", dns::A, {{dns::a("half.test", "192.0.2.1")}, dns::NOERROR, Answer::broken});
    UnboundResolver resolver(by(server));
    CHECK(ask(resolver, "half.test").temporary());
}

TEST_CASE("an answer is asked for once, in whatever case") {
    DnsServer server;
    server.tell({dns::a("example.org", "192.0.2.1")});
    UnboundResolver resolver(by(server));
    for (const std::string name : {"example.org", "EXAMPLE.org", "example.org"}) {
        CHECK(status(resolver, name) == Status::found);
        CHECK(status(resolver, "no." + std::string(name)) == Status::no_domain);
    }
    CHECK(server.asked("example.org") == 1);
    CHECK(server.asked("no.example.org") == 1);
}

// ---- names ----

TEST_CASE("what can be no domain name does not exist, and nobody is asked") {
    DnsServer server;
    UnboundResolver resolver(by(server));
    const std::string label(63, 'a');
    const auto longest = label + '.' + label + '.' + label + '.' + std::string(61, 'a');
    Texts bad{"", ".", "..", ".example.org", "example.org.", "example..org", label + 'a', "a." + label + "a.org",
              longest + 'a', std::string(100000, 'a'), "exa mple.org", "example.org\r\n",
              std::string("example.org\0", 12), "a\\.example.org", "a\\000.example.org",
              // Not UTF-8, or cut, or what no U-label holds.
              "b\xFC"
              "cher.example",
              "b\xC3", "\xED\xA0\x80.example",
              "b\xC3\xBC.."
              "example",
              "\xE2\x98\x83\xE2\x80\xAE.example", std::string("b\xC3\xBC\0cher.example", 14), "b\xC3\xBC\n.example",
              "xn--\xC3\xBC.example"};
    std::string umlauts;
    for (int i = 0; i < 60; ++i) umlauts += "\xC3\xBC";
    bad.push_back(umlauts + ".example");  // over 63 as an A-label
    std::string many;
    for (int i = 0; i < 50; ++i) many += "\xC3\xBC.";
    bad.push_back(many + "example");  // over 253 together
    bad.push_back(many + many + many + many + many + many + "example");
    for (int c = 0; c <= 32; ++c) bad.push_back(std::string("a") + char(c) + "b.example");
    bad.push_back(
        "a\x7F"
        "b.example");
    for (const auto& name : bad) {
        CAPTURE(escaped(name.substr(0, 80)));
        const auto answer = ask(resolver, name);
        CHECK(answer.status == Status::no_domain);
        CHECK_FALSE(answer.error.empty());
        CHECK_FALSE(answer.temporary());
    }
    CHECK(server.asked() == 0);
}

TEST_CASE("a name is asked for up to 63 a label and 253 together") {
    DnsServer server;
    const std::string label(63, 'a');
    const auto longest = label + '.' + label + '.' + label + '.' + std::string(61, 'a');
    REQUIRE(longest.size() == 253);
    UnboundResolver resolver(by(server));
    for (const auto& name :
         Texts{"a", "org", label + ".test", longest, "_dmarc.example.org", "0/25.2.0.192.in-addr.arpa", "-.example.org",
               "a--b.example.org", "*.example.org", "\"(;)@$.example.org", "192.0.2.1"}) {
        CAPTURE(name);
        server.tell({dns::txt(name, {name})});
        if (name.size() < 250) CHECK(texts(ask(resolver, name, RecordType::TXT)) == Texts{name});
        else CHECK(status(resolver, name, RecordType::TXT) == Status::found);
        CHECK(server.asked(name) == 1);
    }
}

TEST_CASE("U-labels are asked for as their A-labels") {
    DnsServer server;
    UnboundResolver resolver(by(server));
    const std::pair<std::string, std::string> names[] = {
        {"b\xC3\xBC"
         "cher.example",
         "xn--bcher-kva.example"},
        {"B\xC3\x9C"
         "CHER.Example",
         "xn--bcher-kva.example"},
        {"bu\xCC\x88"
         "cher.example",
         "xn--bcher-kva.example"},                     // a letter and a mark
        {"fa\xC3\x9F.example", "xn--fa-hia.example"},  // non-transitional
        {"b\xC3\xBC"
         "cher\xE3\x80\x82"
         "example",
         "xn--bcher-kva.example"},  // an ideographic full stop
        {"_dmarc.b\xC3\xBC"
         "cher.example",
         "_dmarc.xn--bcher-kva.example"},
        {"_25._tcp.b\xC3\xBC"
         "cher.example",
         "_25._tcp.xn--bcher-kva.example"},
        {"\xE4\xBE\x8B\xE3\x81\x88.\xE3\x83\x86\xE3\x82\xB9\xE3\x83\x88", "xn--r8jz45g.xn--zckzah"},
    };
    for (const auto& name : names) server.tell({dns::txt(name.second, {name.second})});
    for (const auto& name : names) {
        CAPTURE(name.second);
        CHECK(texts(ask(resolver, name.first, RecordType::TXT)) == Texts{name.second});
        CHECK(texts(ask(resolver, name.second, RecordType::TXT)) == Texts{name.second});
    }
}

TEST_CASE("names for tests and homes are asked for, those of no DNS are not") {
    DnsServer server;
    for (const std::string name : {"test", "mail.test", "home.arpa", "nas.home.arpa", "localhost", "invalid",
                                   "a.invalid", "a.onion", "10.in-addr.arpa", "a.local", "a.example"})
        server.tell({dns::a(name, "192.0.2.1")});
    UnboundResolver resolver(by(server));
    for (const auto* name :
         {"test", "mail.test", "home.arpa", "nas.home.arpa", "10.in-addr.arpa", "a.local", "a.example"}) {
        CAPTURE(name);
        CHECK(addresses(ask(resolver, name)) == Texts{"192.0.2.1"});
    }
    for (const std::string name : {"a.invalid", "a.onion"}) {
        CAPTURE(name);
        CHECK(status(resolver, name) == Status::no_domain);
        CHECK(server.asked(name) == 0);
    }
    CHECK(addresses(ask(resolver, "localhost")) == Texts{"127.0.0.1"});
    CHECK(addresses(ask(resolver, "localhost", RecordType::AAAA)) == Texts{"::1"});
    CHECK(server.asked("localhost") == 0);
}

// ---- time ----

TEST_CASE("a question to a dead server ends on its deadline, and so does the next one") {
    DnsServer server;
    server.off(true);
    UnboundResolver resolver(by(server));
    for (const auto within : {300ms, 1000ms, 300ms}) {
        const auto began = Clock::now();
        const auto answer = ask(resolver, "dead.test", RecordType::A, within);
        const auto took = Clock::now() - began;
        CHECK(answer.status == Status::timeout);
        CHECK_FALSE(answer.error.empty());
        CHECK(took >= within);
        CHECK(took < patience);
    }
    CHECK(ask(resolver, "other.test", RecordType::A, 100ms).temporary());
    CHECK(ask(resolver, "dead.test", RecordType::A, 0ms).status == Status::timeout);
    CHECK(ask(resolver, "dead.test", RecordType::A, -1h).status == Status::timeout);
}

TEST_CASE("a port where nobody listens is a dead server") {
    auto gone = std::make_unique<DnsServer>();
    UnboundResolver resolver(by(*gone));
    gone.reset();
    CHECK(ask(resolver, "example.org", RecordType::A, 300ms).temporary());
}

TEST_CASE("a late answer serves the next question") {
    DnsServer server;
    server.tell("late.test", dns::A, {{dns::a("late.test", "192.0.2.1")}, dns::NOERROR, Answer::held});
    UnboundResolver resolver(by(server));
    for (int i = 0; i < 50; ++i) CHECK(ask(resolver, "late.test", RecordType::A, 5ms).status == Status::timeout);
    server.wait_for("late.test");
    server.release();
    CHECK(addresses(ask(resolver, "late.test")) == Texts{"192.0.2.1"});
}

TEST_CASE("a question is called off") {
    DnsServer server;
    server.off(true);
    UnboundResolver resolver(by(server));
    std::atomic<bool> off{false};
    std::atomic<int> looked{0};
    Background asking([&] {
        const auto answer = resolver.query("dead.test", RecordType::A, Wait(Deadline::max(), [&] {
                                               ++looked;
                                               return off.load();
                                           }));
        if (answer.status != Status::timeout) throw std::runtime_error("it has an answer");
    });
    server.wait_for("dead.test");
    CHECK_FALSE(asking.over(0ms));
    const int before = looked;
    const auto end = Clock::now() + patience;
    while (looked < before + 3 && Clock::now() < end) std::this_thread::sleep_for(1ms);
    CHECK(looked >= before + 3);
    off = true;
    asking.join();
    CHECK(resolver.query("dead.test", RecordType::A, Wait(Deadline::max(), [] { return true; })).status ==
          Status::timeout);
}

TEST_CASE("who asks whether it is called off may throw, and ask the resolver himself") {
    DnsServer server;
    server.tell("silent.test", dns::A, {{}, dns::NOERROR, Answer::silent});
    server.tell({dns::a("example.org", "192.0.2.1")});
    UnboundResolver resolver(by(server));
    const Wait throwing(Deadline::max(), []() -> bool { throw std::logic_error("mine"); });
    CHECK_THROWS_WITH_AS(static_cast<void>(resolver.query("silent.test", RecordType::A, throwing)), "mine",
                         std::logic_error);
    Status inner = Status::failed;
    const Wait asking(Deadline::max(), [&] { return (inner = status(resolver, "example.org")) == Status::found; });
    CHECK(resolver.query("silent.test", RecordType::A, asking).status == Status::timeout);
    CHECK(inner == Status::found);
}

TEST_CASE("without an end to the wait an answer comes all the same") {
    DnsServer server;
    server.tell({dns::a("example.org", "192.0.2.1")});
    UnboundResolver resolver(by(server));
    CHECK(resolver.query("example.org", RecordType::A, Deadline::max()).found());
}

TEST_CASE("it is destroyed while its questions hang") {
    DnsServer server;
    server.off(true);
    const auto before = descriptors();
    auto resolver = std::make_unique<UnboundResolver>(by(server));
    for (int i = 0; i < 20; ++i) ask(*resolver, "hang" + std::to_string(i) + ".test", RecordType::A, 1ms);
    server.wait_for("hang0.test");
    Background end([&] { resolver.reset(); });
    CHECK_NOTHROW(end.join(patience));
    CHECK(descriptors() == before);
}

TEST_CASE("slow names hold up nobody else") {
    DnsServer server;
    server.tell({dns::a("fast.test", "192.0.2.1")});
    constexpr int slow = 200;
    for (int i = 0; i < slow; ++i)
        server.tell("slow" + std::to_string(i) + ".test", dns::A, {{}, dns::NOERROR, Answer::silent});
    UnboundResolver resolver(by(server));
    for (int i = 0; i < slow; ++i) ask(resolver, "slow" + std::to_string(i) + ".test", RecordType::A, 0ms);
    // libunbound's own 16 sockets are free again after 4.5 s, whatever the machine.
    CHECK(addresses(ask(resolver, "fast.test", RecordType::A, patience / 4)) == Texts{"192.0.2.1"});
    for (int i = 0; i < slow; ++i) server.wait_for("slow" + std::to_string(i) + ".test");
}

TEST_CASE("of several servers one that answers is enough") {
    DnsServer dead, alive;
    dead.off(true);
    alive.tell({dns::a("example.org", "192.0.2.1")});
    UnboundResolver resolver({.servers = {dead.address(), alive.address()}});
    CHECK(addresses(ask(resolver, "example.org")) == Texts{"192.0.2.1"});
}

// ---- threads and processes ----

TEST_CASE("many threads ask at once") {
    DnsServer server;
    for (int i = 0; i < 16; ++i)
        server.tell({dns::a("host" + std::to_string(i) + ".test", "192.0.2." + std::to_string(i))});
    server.tell("silent.test", dns::A, {{}, dns::NOERROR, Answer::silent});
    UnboundResolver resolver(by(server));
    std::vector<Background> all;
    for (int t = 0; t < 32; ++t)
        all.emplace_back([&resolver, t] {
            for (int i = 0; i < 40; ++i) {
                const auto n = std::to_string((t + i) % 16);
                if (addresses(ask(resolver, "host" + n + ".test")) != Texts{"192.0.2." + n})
                    throw std::runtime_error("another's answer");
                if (status(resolver, "no" + n + ".test") != Status::no_domain) throw std::runtime_error("it is there");
                if (i % 8 == 0 && !ask(resolver, "silent.test", RecordType::A, 1ms).temporary())
                    throw std::runtime_error("an answer to what is silent");
            }
        });
    for (auto& thread : all) CHECK_NOTHROW(thread.join(6 * patience));
}

TEST_CASE("threads start with the first question, and end with the resolver") {
    DnsServer server;
    server.tell({dns::a("example.org", "192.0.2.1")});
    const auto before = threads();
    const auto files = descriptors();
    {
        UnboundResolver resolver(by(server));
        CHECK(status(resolver, "no..name") == Status::no_domain);
        CHECK(threads_since(before).empty());
        CHECK(status(resolver, "example.org") == Status::found);
        const auto started = threads_since(before);
        CHECK(started.size() == 2);
        for (const auto& thread : started) {
            std::ifstream file(thread + "/status");
            std::stringstream text;
            text << file.rdbuf();
            const auto at = text.str().find("SigBlk:");
            REQUIRE(at != std::string::npos);
            const auto blocked = std::stoull(text.str().substr(at + 7), nullptr, 16);
            for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGPIPE, SIGALRM, SIGUSR1}) {
                CAPTURE(signal);
                CHECK((blocked >> (signal - 1) & 1) == 1);
            }
        }
    }
    // A thread that was joined may be seen for a moment yet.
    for (const auto end = Clock::now() + patience; !threads_since(before).empty() && Clock::now() < end;)
        std::this_thread::yield();
    CHECK(threads_since(before).empty());
    CHECK(descriptors() == files);
    sigset_t mine;
    pthread_sigmask(SIG_SETMASK, nullptr, &mine);
    CHECK(sigismember(&mine, SIGTERM) == 0);
}

TEST_CASE("a child asks for itself, with a parent's questions under way" * doctest::skip(sanitized)) {
    DnsServer server;
    server.tell({dns::a("example.org", "192.0.2.1")});
    server.tell("silent.test", dns::A, {{}, dns::NOERROR, Answer::silent});
    auto resolver = std::make_unique<UnboundResolver>(by(server));
    CHECK(status(*resolver, "example.org") == Status::found);
    ask(*resolver, "silent.test", RecordType::A, 1ms);
    CHECK(server.asked("example.org") == 1);
    CHECK(in_child([&] {
              if (status(*resolver, "example.org") != Status::found) return 1;
              if (status(*resolver, "nobody.test") != Status::no_domain) return 2;
              if (ask(*resolver, "silent.test", RecordType::A, 50ms).status != Status::timeout) return 3;
              // A child of the child.
              const int inner = in_child([&] {
                  const bool fine = status(*resolver, "example.org") == Status::found;
                  resolver.reset();
                  return fine ? 0 : 4;
              });
              if (inner != 0) return inner;
              if (status(*resolver, "example.org") != Status::found) return 5;
              resolver.reset();
              return 0;
          }) == 0);
    CHECK(server.asked("example.org") == 3);
    CHECK(status(*resolver, "example.org") == Status::found);
    CHECK(server.asked("example.org") == 3);
}

TEST_CASE("a child that never asks leaves what it inherited alone" * doctest::skip(sanitized)) {
    DnsServer server;
    server.tell({dns::a("example.org", "192.0.2.1")});
    auto resolver = std::make_unique<UnboundResolver>(by(server));
    CHECK(status(*resolver, "example.org") == Status::found);
    CHECK(in_child([&] {
              resolver.reset();
              return 0;
          }) == 0);
    CHECK(status(*resolver, "nobody.test") == Status::no_domain);
}

TEST_CASE("a resolver that was not used before the fork serves both sides" * doctest::skip(sanitized)) {
    DnsServer server;
    server.tell({dns::a("example.org", "192.0.2.1")});
    UnboundResolver resolver(by(server));
    CHECK(in_child([&] { return status(resolver, "example.org") == Status::found ? 0 : 1; }) == 0);
    CHECK(status(resolver, "example.org") == Status::found);
}

TEST_CASE("a fork in the midst of others' questions leaves no lock behind" * doctest::skip(sanitized)) {
    DnsServer server;
    server.tell({dns::a("example.org", "192.0.2.1")});
    auto resolver = std::make_unique<UnboundResolver>(by(server));
    std::atomic<bool> enough{false};
    std::vector<Background> all;
    for (int t = 0; t < 4; ++t)
        all.emplace_back([&] {
            while (!enough)
                if (status(*resolver, "example.org") != Status::found) throw std::runtime_error("not found");
        });
    for (int i = 0; i < 60; ++i)
        CHECK(in_child([&] {
                  const bool fine = i % 2 == 0 || status(*resolver, "example.org") == Status::found;
                  resolver.reset();
                  return fine ? 0 : 1;
              }) == 0);
    enough = true;
    for (auto& thread : all) CHECK_NOTHROW(thread.join());
}

TEST_CASE("where the system has no descriptors left a question fails, and a later one does not" *
          doctest::skip(sanitized)) {
    DnsServer server;
    server.tell({dns::a("example.org", "192.0.2.1")});
    CHECK(in_child([&] {
              UnboundResolver resolver(by(server));
              rlimit most{};
              getrlimit(RLIMIT_NOFILE, &most);
              for (rlim_t spare = 0; spare < 24; ++spare) {  // libevent would call exit(1)
                  const int next = dup(0);
                  close(next);
                  const rlimit few{rlim_t(next) + spare, most.rlim_max};
                  setrlimit(RLIMIT_NOFILE, &few);
                  const auto answer = ask(resolver, "example.org");
                  setrlimit(RLIMIT_NOFILE, &most);
                  if (answer.status != Status::failed || answer.error.empty()) return int(200 + spare);
              }
              return ask(resolver, "example.org").found() ? 0 : 199;
          }) == 0);
}

TEST_CASE("a libunbound that took half a question is replaced, and holds up no end" * doctest::skip(sanitized)) {
    DnsServer server;
    server.tell({dns::a("example.org", "192.0.2.1")});
    for (const bool asked_again : {true, false}) {
        CAPTURE(asked_again);
        std::atomic<int> writes{-1};  // to the sockets between libunbound's threads, counted from 0 on
        const auto cut = [&](int, const std::string& path) {
            // The length of a question arrives, the question does not.
            return path.starts_with("socket:") && writes >= 0 && ++writes == 2 ? EIO : 0;
        };
        const auto work = [&] {
            UnboundResolver resolver(by(server));
            if (!ask(resolver, "example.org").found()) _exit(1);
            writes = 0;
            if (!ask(resolver, "example.org").temporary()) _exit(2);
            if (asked_again && !ask(resolver, "example.org").found()) _exit(3);
        };
        CHECK(in_child([&] { return with_faults({SYS_write}, cut, work), 0; }) == 0);
    }
}

// ---- options ----

TEST_CASE("a server is an address, with a port or without") {
    for (const std::string good : {"192.0.2.1", "192.0.2.1:5353", "[192.0.2.1]:53", "2001:db8::1", "[2001:db8::1]",
                                   "[2001:db8::1]:5353", "::1", "192.0.2.1:65535"}) {
        CAPTURE(good);
        CHECK_NOTHROW(UnboundResolver({.servers = {good}}));
        CHECK_NOTHROW(UnboundResolver({.servers = {"192.0.2.9", good, good}}));
    }
    for (const std::string bad :
         {"", "ns.example.org", "localhost:53", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:x",
          "192.0.2.256", "192.0.2", "192.0.2.1@53", "[2001:db8::1", "2001:db8::g", "[2001:db8::1]5353", "unix:/run/dns",
          ":53", " 192.0.2.1", "192.0.2.1 ", "/etc"}) {
        CAPTURE(bad);
        CHECK_THROWS_AS(UnboundResolver({.servers = {bad}}), std::invalid_argument);
        try {
            UnboundResolver({.servers = {"192.0.2.1", bad}});
            FAIL_CHECK("taken");
        } catch (const std::invalid_argument& e) {
            CHECK(std::string(e.what()).ends_with(bad));
        }
    }
}

TEST_CASE("a server may have an IPv6 address") {
    std::unique_ptr<DnsServer> server;
    try {
        server = std::make_unique<DnsServer>("::1");
    } catch (const std::runtime_error&) {
        MESSAGE("no IPv6 here: left out");
        return;
    }
    server->tell({dns::a("example.org", "192.0.2.1")});
    UnboundResolver resolver(by(*server));
    CHECK(addresses(ask(resolver, "example.org")) == Texts{"192.0.2.1"});
}

TEST_CASE("without servers those of resolv.conf are asked, whatever else is in it") {
    DnsServer server;
    server.tell({dns::a("example.org", "192.0.2.1")});
    Folder folder;
    write_file(folder / "resolv.conf",
               "# nameserver 192.0.2.9\n; nameserver 192.0.2.9\nsearch example.org\noptions timeout:1\n"
               "nameserver\nnameserver nonsense\nnameservers 192.0.2.9\n\n"
               "\tnameserver \t" +
                   server.address() + " # this one\r\n");
    UnboundResolver resolver({.resolv_conf = folder / "resolv.conf", .hosts = ""});
    CHECK(addresses(ask(resolver, "example.org")) == Texts{"192.0.2.1"});
    // No search list.
    CHECK(status(resolver, "example") == Status::no_domain);
    CHECK(server.asked("example.example.org") == 0);
}

TEST_CASE("files that can't be read are as good as empty") {
    Folder folder;
    CHECK_NOTHROW(UnboundResolver({.resolv_conf = folder / "none", .hosts = folder / "none"}));
    CHECK_NOTHROW(UnboundResolver({.resolv_conf = folder.path, .hosts = folder.path}));
    CHECK_NOTHROW(UnboundResolver({.resolv_conf = "", .hosts = ""}));
    CHECK_NOTHROW(UnboundResolver());
    UnboundResolver resolver({.resolv_conf = folder / "none", .hosts = folder / "none"});
    CHECK(status(resolver, "a.invalid") == Status::no_domain);
}

TEST_CASE("addresses of the hosts file come before the DNS") {
    DnsServer server;
    server.tell({dns::a("both.test", "192.0.2.99")});
    server.tell({dns::a("both.test", "2001:db8::99")});
    server.tell({dns::mx("both.test", 10, "mx.test")});
    server.tell({dns::a("dns.test", "192.0.2.99")});
    Folder folder;
    write_file(folder / "resolv.conf", "nameserver " + server.address() + '\n');
    write_file(folder / "hosts",
               "192.0.2.1\tboth.test Alias.Test\t# both.test comment.test\n192.0.2.2 alias.test\r\n"
               "2001:db8::1 six.test alias.test xn--bcher-kva.example\n# 192.0.2.1 dns.test\n"
               "192.0.2.256 dns.test\nnonsense dns.test\n192.0.2.1\n\nfe80::1%lo0 dns.test\n192.0.2.1 .. " +
                   std::string(64, 'a') + " last.test");
    UnboundResolver resolver({.resolv_conf = folder / "resolv.conf", .hosts = folder / "hosts"});
    CHECK(addresses(ask(resolver, "BOTH.test")) == Texts{"192.0.2.1"});
    CHECK(status(resolver, "both.test", RecordType::AAAA) == Status::no_data);
    CHECK(addresses(ask(resolver, "alias.test")) == Texts{"192.0.2.1", "192.0.2.2"});
    CHECK(addresses(ask(resolver, "alias.test", RecordType::AAAA)) == Texts{"2001:db8::1"});
    CHECK(addresses(ask(resolver,
                        "b\xC3\xBC"
                        "cher.example",
                        RecordType::AAAA)) == Texts{"2001:db8::1"});
    CHECK(addresses(ask(resolver, "last.test")) == Texts{"192.0.2.1"});
    CHECK(addresses(ask(resolver, "dns.test")) == Texts{"192.0.2.99"});
    CHECK(status(resolver, "comment.test") == Status::no_domain);
    CHECK(server.asked("alias.test") == 0);
    // Of other types the DNS knows; but the name is there.
    CHECK(mail_exchangers(ask(resolver, "both.test", RecordType::MX)).size() == 1);
    CHECK(status(resolver, "alias.test", RecordType::MX) == Status::no_data);
    // Who names servers has asked for those alone.
    UnboundResolver by_servers({.servers = {server.address()}, .hosts = folder / "hosts"});
    CHECK(addresses(ask(by_servers, "both.test")) == Texts{"192.0.2.99"});
}

TEST_CASE("a trust anchor that can't be read is refused at once") {
    Folder folder;
    const auto with = [](const std::string& path) { return UnboundResolver({.trust_anchor = path}); };
    try {
        with(folder / "none");
        FAIL_CHECK("taken");
    } catch (const std::system_error& e) {
        CHECK(e.code() == std::errc::no_such_file_or_directory);
        CHECK(std::string(e.what()).find(folder / "none") != std::string::npos);
    }
    CHECK_THROWS_AS(with(folder.path), std::system_error);
    for (const std::string bad :
         {"", "nonsense\n", "example.org. IN A 192.0.2.1\n", ". IN DS 1 2\n", "; . IN DS 1 2\n"}) {
        CAPTURE(bad);
        write_file(folder / "anchor", bad);
        CHECK_THROWS_AS(with(folder / "anchor"), std::runtime_error);
    }
    write_file(folder / "anchor", dns::trust_anchor);
    CHECK_NOTHROW(with(folder / "anchor"));
}

// ---- DNSSEC ----

TEST_CASE("what a trust anchor vouches for is secure, what is forged has failed") {
    DnsServer server;
    const std::string mail = "mail.signed.test", tlsa = "_25._tcp.mail.signed.test";
    server.tell("signed.test", dns::DNSKEY, {dns::signed_key()});
    server.tell(mail, dns::A, {dns::signed_address()});
    server.tell(tlsa, dns::TLSA, {dns::signed_tlsa()});
    server.tell("forged.signed.test", dns::A, {dns::forged_address()});
    server.tell("stripped.signed.test", dns::A, {{dns::a("stripped.signed.test", "192.0.2.66")}});
    server.tell(mail, dns::MX,
                {{}, dns::NOERROR, Answer::plain, dns::together({dns::signed_soa(), dns::after_mail()})});
    server.tell(
        "nobody.signed.test", dns::A,
        {{}, dns::NXDOMAIN, Answer::plain, dns::together({dns::signed_soa(), dns::after_apex(), dns::after_tlsa()})});
    // NXDOMAIN without a proof.
    server.tell("denied.signed.test", dns::A, {{}, dns::NXDOMAIN, Answer::plain, {dns::soa("signed.test")}});
    server.tell({dns::a("plain.test", "192.0.2.1")});
    Folder folder;
    write_file(folder / "anchor", dns::trust_anchor);

    UnboundResolver validating({.servers = {server.address()}, .trust_anchor = folder / "anchor"});
    const auto address = ask(validating, mail);
    CHECK(address.secure);
    CHECK(addresses(address) == Texts{"192.0.2.25"});
    const auto key = ask(validating, tlsa, RecordType::TLSA);
    CHECK(key.secure);
    CHECK(key.data.size() == 1);
    const auto none = ask(validating, mail, RecordType::MX);
    CHECK(none.status == Status::no_data);
    CHECK(none.secure);
    const auto nobody = ask(validating, "nobody.signed.test");
    CHECK(nobody.status == Status::no_domain);
    CHECK(nobody.secure);
    // Another resolver: this one knows now that there is no name between.
    UnboundResolver other({.servers = {server.address()}, .trust_anchor = folder / "anchor"});
    for (const std::string name : {"forged.signed.test", "stripped.signed.test", "denied.signed.test"}) {
        CAPTURE(name);
        const auto bogus = ask(other, name);
        CHECK(bogus.status == Status::failed);
        CHECK_FALSE(bogus.secure);
        CHECK(bogus.data.empty());
        CHECK(bogus.error.starts_with("bogus: "));
        CHECK(bogus.error.size() > 10);
    }
    const auto plain = ask(validating, "plain.test");
    CHECK(plain.found());
    CHECK_FALSE(plain.secure);
    if (!sanitized) CHECK(in_child([&] { return ask(validating, mail).secure ? 0 : 1; }) == 0);

    UnboundResolver trusting(by(server));
    CHECK(addresses(ask(trusting, mail)) == Texts{"192.0.2.25"});
    CHECK_FALSE(ask(trusting, mail).secure);
    CHECK_FALSE(ask(trusting, "nobody.signed.test").secure);
    CHECK(ask(trusting, "forged.signed.test").found());
}
