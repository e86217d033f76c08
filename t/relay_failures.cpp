// relay_failures -- hosts that could not be connected to are remembered, and passed over.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <Net/SMTP/Server/Test/FakeResolver.hpp>
#include <Net/SMTP/Server/Test/ScriptedServer.hpp>
#include <thread>

#include "next_hop.hpp"

using namespace test;
using Net::SMTP::HostFailures;
using Net::SMTP::Test::FakeResolver;
using Net::SMTP::Test::ScriptedServer;

namespace {

const Message text("Subject: x\r\n\r\nhello\r\n");
const Reply refused{451, "4.4.1", "connect to somewhere: refused"};

// Where nobody listens any more, nor anybody else will: other tests are on other addresses.
std::string dead_host() {
    ScriptedServer::Options at;
    at.listen = "127.77.0.1:0";
    return "127.77.0.1:" + std::to_string(ScriptedServer(at).port());
}

Relay::Result to(const std::string& address, const Relay::Options& o) {
    return Relay(Sender("a@b.example"), {Recipient(address)}, text, o).results().at(0);
}

Relay::Options remembering(const Relay::Options& how) {
    auto o = how;
    o.failures = std::make_shared<HostFailures>();
    return o;
}

Relay::Options by_mx(const std::shared_ptr<FakeResolver>& dns, std::uint16_t port) {
    Relay::Options o;
    o.resolver = dns;
    o.mx_port = port;
    o.hostname = "relay.test";
    o.total = 15s;
    o.patience = {2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 1s};
    return remembering(o);
}

}  // namespace

TEST_CASE("a host that could not be connected to is avoided, in the words of the first who tried") {
    Relay::Options o;
    o.host = dead_host();
    o.hostname = "relay.test";
    o = remembering(o);
    const auto first = to("c@d.example", o);
    CHECK(first.reply.str().starts_with("451 4.4.1 "));
    CHECK(o.failures->size() == 1);

    // Somebody listens there now; but nobody asks.
    ScriptedServer::Options at;
    at.listen = o.host;
    ScriptedServer server(at);
    const auto second = to("c@d.example", o);
    CHECK(second.reply == first.reply);
    CHECK(second.host == o.host);
    CHECK(server.conversations().empty());

    o.failures->forget();
    CHECK(o.failures->size() == 0);
    CHECK(to("c@d.example", o).delivered());
}

TEST_CASE("the walk goes on behind a host that is avoided, and its words are said where all are") {
    ScriptedServer::Options at;
    at.listen = "127.77.0.2:0";
    ScriptedServer server(at);
    auto dns = std::make_shared<FakeResolver>();
    dns->add("d.example", "MX 10 gone.example");
    dns->add("d.example", "MX 20 there.example");
    dns->add("e.example", "MX 10 gone.example");
    dns->add("gone.example", "A 127.77.0.99");
    dns->add("there.example", "A 127.77.0.2");
    const auto o = by_mx(dns, server.port());
    const Endpoint gone{"127.77.0.99", server.port()};
    o.failures->failed(gone, refused);  // it would be asked, and refuse in its system's words

    const auto result = to("c@d.example", o);
    CHECK(result.delivered());
    CHECK(result.host.starts_with("there.example["));
    const auto none = to("c@e.example", o);
    CHECK(none.reply == refused);
    CHECK(none.host == "gone.example[127.77.0.99]:" + std::to_string(server.port()));

    // What a host that was asked has said is worth more.
    server.reply_to("RCPT", {452, "4.2.2", "mailbox full"});
    CHECK(to("c@d.example", o).reply.str() == "452 4.2.2 mailbox full");
}

TEST_CASE("a kept connection is used, whoever could not connect meanwhile") {
    NextHop hop;
    {
        auto o = remembering(via(hop));
        o.sessions = std::make_shared<SessionCache>();
        CHECK(to("c@d.example", o).delivered());
        o.failures->failed(Endpoint::parse(hop.address(), 0), refused);
        CHECK(to("c@d.example", o).delivered());
        CHECK(o.failures->size() == 1);
    }
    CHECK(hop.only().commands.size() > 6);
}

TEST_CASE("who was connected to is forgotten, and what a host says is not remembered") {
    for (const char* greeting : {"421 4.3.2 not now", "554 5.7.1 not you", "CLOSE", "RAW:what\r\n", "220 hello"}) {
        CAPTURE(greeting);
        NextHop hop(Manners{{"", greeting}});
        const auto o = remembering(via(hop));
        to("c@d.example", o);
        CHECK(o.failures->size() == 0);
        CHECK(hop.end().size() == 1);
    }
}

TEST_CASE("no time of our own is not the host's failure, and all its time without an answer is") {
    // A listener whose queue is full answers no more.
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in here{};
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof here;
    REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&here), size) == 0);
    REQUIRE(listen(fd, 0) == 0);
    REQUIRE(getsockname(fd, reinterpret_cast<sockaddr*>(&here), &size) == 0);
    std::vector<int> waiting;
    for (int i = 0; i < 4; ++i) {
        waiting.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        (void)!connect(waiting.back(), reinterpret_cast<sockaddr*>(&here), size);
    }
    Relay::Options o;
    o.host = "127.0.0.1:" + std::to_string(ntohs(here.sin_port));
    o.hostname = "relay.test";
    o = remembering(o);
    o.total = 1s;
    CHECK(to("c@d.example", o).reply.str().starts_with("451 4.4.1"));
    CHECK(o.failures->size() == 0);
    o.total = 10s;
    o.patience.connect = 1s;
    CHECK(to("c@d.example", o).reply.str().starts_with("451 4.4.1"));
    CHECK(o.failures->size() == 1);
    for (const int each : waiting) close(each);
    close(fd);
}

TEST_CASE("no more hosts are remembered than the limit, the newest, and none with a limit of nothing") {
    HostFailures some({.keep = 30s, .hosts = 3});
    for (std::uint16_t port = 1; port <= 5; ++port) some.failed({"192.0.2.1", port}, refused);
    CHECK(some.size() == 3);
    for (std::uint16_t port = 1; port <= 5; ++port) {
        CAPTURE(port);
        CHECK(some.failure({"192.0.2.1", port}).has_value() == (port > 2));
    }
    some.reached({"192.0.2.1", 4});
    CHECK(some.size() == 2);
    some.failed({"192.0.2.1", 4}, refused);
    some.failed({"192.0.2.1", 4}, {451, "4.4.1", "again"});
    CHECK(some.failure({"192.0.2.1", 4}) == refused);
    CHECK(some.size() <= 3);

    for (const HostFailures::Limits limits : {HostFailures::Limits{0s, 10}, {-1s, 10}, {30s, 0}}) {
        HostFailures none(limits);
        none.failed({"192.0.2.1", 1}, refused);
        CHECK_FALSE(none.failure({"192.0.2.1", 1}));
        CHECK(none.size() == 0);
    }
    HostFailures ages({.keep = std::chrono::seconds::max(), .hosts = 1});
    ages.failed({"192.0.2.1", 1}, refused);
    CHECK(ages.size() == 1);
}

TEST_CASE("a host that fails and is reached again and again leaves nothing behind") {
    HostFailures hosts({.keep = 30s, .hosts = 10});
    for (int i = 0; i < 1000; ++i) {
        hosts.failed({"192.0.2.1", 25}, refused);
        hosts.reached({"192.0.2.1", 25});
    }
    CHECK(hosts.size() == 0);
    hosts.failed({"192.0.2.1", 25}, refused);
    for (std::uint16_t port = 1; port <= 9; ++port) hosts.failed({"192.0.2.2", port}, refused);
    CHECK(hosts.size() == 10);
}

TEST_CASE("many threads share what is remembered") {
    HostFailures hosts({.keep = 30s, .hosts = 50});
    {
        std::vector<std::jthread> all;
        for (int t = 0; t < 4; ++t)
            all.emplace_back([&, t] {
                for (int i = 0; i < 2000; ++i) {
                    const Endpoint host{"192.0.2.1", std::uint16_t(1 + (i * (t + 1)) % 100)};
                    if (i % 3 == 0) hosts.failed(host, refused);
                    if (i % 7 == 0) hosts.reached(host);
                    if (i % 500 == 0) hosts.forget();
                    if (const auto why = hosts.failure(host)) CHECK(*why == refused);
                }
            });
    }
    CHECK(hosts.size() <= 50);
}

TEST_CASE("a forked child knows nothing of its parent's failures, and keeps none") {
    HostFailures hosts;
    hosts.failed({"192.0.2.1", 25}, refused);
    const auto child = fork();
    if (child == 0) {
        hosts.failed({"192.0.2.2", 25}, refused);
        _exit(hosts.failure({"192.0.2.1", 25}) || hosts.size() != 0 ? 1 : 0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(hosts.size() == 1);
}
