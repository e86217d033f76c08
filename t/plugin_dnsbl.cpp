// plugin_dnsbl -- who is listed and greeted by 554, and block lists that are dead, slow, or lie.
#include <Net/SMTP/Server/Plugins/DNSBL.hpp>
#include <condition_variable>

#include "dialogue.hpp"

using namespace test;

namespace {

using Test::FakeResolver;
using Zone = DNSBL::Zone;
using std::chrono::milliseconds;

// From one of loopback's addresses: 127.0.0.2, or ::1.
Wire dial_from(const std::string& from, const Endpoint& to) {
    if (from.find(':') != from.npos) return dial(to);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in ours{}, theirs{};
    ours.sin_family = theirs.sin_family = AF_INET;
    const auto octets = address_octets(from);
    std::memcpy(&ours.sin_addr, octets.data(), 4);
    theirs.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    theirs.sin_port = htons(to.port);
    if (bind(fd, reinterpret_cast<sockaddr*>(&ours), sizeof ours) != 0 ||
        connect(fd, reinterpret_cast<sockaddr*>(&theirs), sizeof theirs) != 0)
        throw std::runtime_error("connect from " + from);
    return Wire(fd);
}

// What a listener saw.
struct Seen {
    std::vector<DNSBL::Answer> answers;
    int weight;
    bool listed;
    int code;
};

struct Listed {
    std::shared_ptr<FakeResolver> dns = std::make_shared<FakeResolver>();
    DNSBL::Options options{.resolver = dns, .zones = {{.name = "zen.test"}}};
    std::function<void(Server&)> also{};
    std::vector<Seen> seen{};
    std::vector<std::string> troubles{};

    // Greets one client after the other, by the same plugin.
    std::vector<std::string> greetings(const std::vector<std::string>& peers) {
        auto plugin = std::make_shared<DNSBL>(options);
        std::vector<std::string> heard;
        for (const auto& peer : peers) {
            const bool v6 = peer.find(':') != peer.npos;
            Server server(Addresses{v6 ? "[::1]:0" : "127.0.0.1:0"}, brief());
            server.pipeline().add("dnsbl", plugin);
            server.on<Event::Trouble>([this](Event::Trouble& e) { troubles.push_back(e.what); });
            server.on<DNSBL::Result>([this](DNSBL::Result& e) {
                seen.push_back({e.answers, e.weight, e.listed, e.reply.code});
                CHECK(e.greeting.code == 220);
            });
            if (also) also(server);
            auto wire = dial_from(peer, server.addresses().front());
            Background session([connection = std::make_shared<Connection>(server.accept())] {
                Server::Client client(std::move(*connection));
                while (client.process()) client.accept();
            });
            heard.push_back(wire.reply());
            if (heard.back().starts_with("220")) play(wire, "C: QUIT\nS: 221\n");
            wire.expect_end();
            wire.close();
            session.join();
        }
        return heard;
    }
    std::string greeting(const std::string& peer = "127.0.0.2") { return greetings({peer}).front(); }
    bool passes(const std::string& peer = "127.0.0.2") { return greeting(peer).starts_with("220 mx.test"); }
};

const std::string of_loopback = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.zen.test";  // ::1

}  // namespace

TEST_CASE("who is listed is greeted by 554 5.7.1, and the connection closes") {
    Listed l;
    l.dns->add("2.0.0.127.zen.test", "A 127.0.0.4");
    CHECK(l.greeting() == "554 5.7.1 127.0.0.2 is listed by zen.test");
    REQUIRE(l.seen.size() == 1);
    CHECK(l.seen[0].listed);
    CHECK(l.seen[0].weight == 1);
    CHECK(l.seen[0].code == 554);
    const auto& answer = l.seen[0].answers.at(0);
    CHECK(answer.zone == "zen.test");
    CHECK(answer.question == "2.0.0.127.zen.test");
    CHECK(answer.codes == std::vector<std::string>{"127.0.0.4"});
    CHECK(answer.listed);
    CHECK(answer.error == "");
}

TEST_CASE("who is not listed is greeted, and a listener hears of it too") {
    Listed l;
    l.dns->add("3.0.0.127.zen.test", "A 127.0.0.4");
    CHECK(l.passes());
    REQUIRE(l.seen.size() == 1);
    CHECK_FALSE(l.seen[0].listed);
    CHECK(l.seen[0].code == 220);
    CHECK(l.seen[0].answers.at(0).error == "");
}

TEST_CASE("an IPv6 address is asked for by its nibbles") {
    Listed l;
    CHECK(l.passes("::1"));
    CHECK(l.seen.at(0).answers.at(0).question == of_loopback);
    l.dns->add(of_loopback, "A 127.0.0.2");
    CHECK(l.greeting("::1") == "554 5.7.1 ::1 is listed by zen.test");
}

TEST_CASE("only some answers of a zone count, where it is told so") {
    Listed l;
    l.options.zones = {{.name = "zen.test", .codes = Networks("127.0.0.2, 127.0.0.4/31")}};
    l.dns->add("2.0.0.127.zen.test", "A 127.0.0.10");
    l.dns->add("3.0.0.127.zen.test", "A 127.0.0.10");
    l.dns->add("3.0.0.127.zen.test", "A 127.0.0.5");
    CHECK(l.passes("127.0.0.2"));
    CHECK(l.seen.at(0).answers.at(0).error == "");
    CHECK_FALSE(l.passes("127.0.0.3"));
}

TEST_CASE("zones have weights, and those that are enough are the last that are asked") {
    Listed l;
    l.options.zones = {{.name = "a.test", .weight = 2}, {.name = "b.test"}, {.name = "c.test", .weight = 3}};
    l.options.threshold = 3;
    for (const auto* zone : {"a", "b", "c"}) l.dns->add("2.0.0.127." + std::string(zone) + ".test", "A 127.0.0.2");
    l.dns->add("3.0.0.127.a.test", "A 127.0.0.2");
    CHECK(l.greeting("127.0.0.2") == "554 5.7.1 127.0.0.2 is listed by a.test, b.test");
    CHECK(l.dns->asked("2.0.0.127.c.test") == 0);
    CHECK(l.passes("127.0.0.3"));  // one below
    CHECK(l.seen.back().weight == 2);
}

TEST_CASE("an allow list takes weight away, wherever it stands") {
    Listed l;
    l.options.zones = {{.name = "zen.test"}, {.name = "good.test", .weight = -1}};
    l.dns->add("2.0.0.127.zen.test", "A 127.0.0.2");
    l.dns->add("2.0.0.127.good.test", "A 127.0.0.2");
    CHECK(l.passes());
    l.dns->remove("2.0.0.127.good.test");
    CHECK_FALSE(l.passes());
}

TEST_CASE("zones that fail, say nothing in time or throw refuse nobody") {
    Listed l;
    l.options.zones = {{.name = "dead.test"}, {.name = "fail.test"}};
    l.options.timeout = milliseconds(40);
    l.dns->stall("2.0.0.127.dead.test");
    l.dns->fail("2.0.0.127.fail.test");
    CHECK(l.passes());
    CHECK_FALSE(l.seen.at(0).answers.at(0).error.empty());
    CHECK(l.seen.at(0).answers.at(1).error == "2.0.0.127.fail.test: SERVFAIL");
    struct Thrower : Resolver {
        Records query(const std::string&, RecordType, const Wait&) override { throw std::runtime_error("oh"); }
    };
    l.options.resolver = std::make_shared<Thrower>();
    CHECK(l.passes());
    CHECK(l.seen.back().answers.at(0).error == "no answer");
    CHECK(l.troubles.empty());
}

TEST_CASE("a dead zone takes no time from the one behind it, and a slow one is waited for") {
    Listed l;
    l.options.zones = {{.name = "dead.test"}, {.name = "slow.test"}};
    l.options.timeout = milliseconds(2000);
    l.dns->stall("2.0.0.127.dead.test");
    l.dns->add("2.0.0.127.slow.test", "A 127.0.0.2");
    l.dns->delay("2.0.0.127.slow.test", milliseconds(5));
    CHECK(l.greeting() == "554 5.7.1 127.0.0.2 is listed by slow.test");
}

TEST_CASE("answers that are no block list's are errors, and refuse nobody") {
    for (const auto* lie : {"127.255.255.254", "127.255.255.1", "192.0.2.1", "0.0.0.0", "128.0.0.2"}) {
        CAPTURE(lie);
        Listed l;
        l.options.zones = {{.name = "zen.test", .codes = Networks("0.0.0.0/0")}};
        l.dns->add("2.0.0.127.zen.test", "A 127.0.0.2");
        l.dns->add("2.0.0.127.zen.test", "A " + std::string(lie));
        CHECK(l.passes());
        CHECK(l.seen.at(0).answers.at(0).error.starts_with(lie));
        CHECK(l.seen.at(0).answers.at(0).codes.size() == 2);
    }
    struct Liar : Resolver {
        Records query(const std::string&, RecordType, const Wait&) override {
            return {.status = Records::Status::found, .data = {"\x7F"}};
        }
    };
    Listed l;
    l.options.resolver = std::make_shared<Liar>();
    CHECK(l.passes());
    CHECK(l.seen.at(0).answers.at(0).error == "an answer without an address");
}

TEST_CASE("a zone that lists 127.0.0.1 lists everybody, and is believed nothing") {
    Listed l;
    l.dns->add("2.0.0.127.zen.test", "A 127.0.0.2");
    l.dns->add("1.0.0.127.zen.test", "A 127.0.0.2");
    CHECK(l.passes("127.0.0.2"));
    CHECK(l.passes("127.0.0.1"));
    CHECK(l.seen.at(0).answers.at(0).error == "the zone lists everybody");
    l.dns->add(of_loopback, "A 127.0.0.2");
    CHECK_FALSE(l.passes("::1"));  // of IPv6 it is ::FFFF:7F00:1
    l.dns->add("1.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.zen.test", "A 127.0.0.2");
    CHECK(l.passes("::1"));
    // Whoever can't be checked is not believed either.
    l.dns->remove("1.0.0.127.zen.test");
    CHECK_FALSE(l.passes("127.0.0.2"));
    l.dns->fail("1.0.0.127.zen.test");
    CHECK(l.passes("127.0.0.2"));
}

TEST_CASE("the refusal has a text of the program's, with what the zone says about it") {
    Listed l;
    l.options.text = "{address}: {reason} ({zone}), {address} {nobody} {";
    l.options.reasons = true;
    l.dns->add("2.0.0.127.zen.test", "A 127.0.0.2");
    l.dns->add("2.0.0.127.zen.test", "TXT \"see {zone}\\013\\010221 bye \\195\\164\"");
    CHECK(l.greeting() == "554 5.7.1 127.0.0.2: see {zone}??221 bye ?? (zen.test), 127.0.0.2 {nobody} {");
    CHECK(l.seen.at(0).answers.at(0).reason == "see {zone}??221 bye ??");
    l.dns->remove("2.0.0.127.zen.test");
    l.dns->add("2.0.0.127.zen.test", "A 127.0.0.2");
    l.dns->add("2.0.0.127.zen.test", "TXT " + std::string(201, 'x'));
    l.options.text = "{reason}";
    CHECK(l.greeting() == "554 5.7.1 " + std::string(200, 'x'));
}

TEST_CASE("a zone whose text can't be had lists all the same, and no blank stands in its place") {
    Listed l;
    l.options.reasons = true;
    l.options.text = "{address} is listed by {zone} {reason}";
    l.dns->add("2.0.0.127.zen.test", "A 127.0.0.2");
    l.dns->fail("2.0.0.127.zen.test", RecordType::TXT);
    CHECK(l.greeting() == "554 5.7.1 127.0.0.2 is listed by zen.test");
}

TEST_CASE("listeners may let in who is listed, and refuse who is not") {
    Listed l;
    l.dns->add("2.0.0.127.zen.test", "A 127.0.0.2");
    l.also = [](Server& s) { s.on<DNSBL::Result>([](DNSBL::Result& e) { e.reply = e.greeting; }); };
    CHECK(l.passes());
    l.also = [](Server& s) { s.on<DNSBL::Result>([](DNSBL::Result&) { throw Reject({554, "5.7.1", "Not today"}); }); };
    CHECK(l.greeting("127.0.0.3") == "554 5.7.1 Not today");
}

TEST_CASE("nobody is asked about exempt networks, who has no address, and who was refused before") {
    Listed l;
    l.options.exempt = Networks("127.0.0.0/31");
    CHECK(l.passes("127.0.0.1"));
    CHECK(l.dns->asked() == 0);
    l.options.exempt = {};
    const auto [ours, theirs] = socket_pair();
    Wire wire(ours);
    Background session([&l, fd = theirs] {
        Server::Client client{fd, brief()};
        client.pipeline().add("dnsbl", std::make_shared<DNSBL>(l.options));
        client.process();
    });
    play(wire, "S: 220\nC: QUIT\nS: 221\n");
    session.join();
    l.also = [](Server& s) {
        auto first = std::make_shared<Plugin>();
        first->on<Event::Connect>([](Event::Connect& e) { e.reply = {554, "5.7.1", "Closed"}; });
        s.pipeline().add_first("first", first);
    };
    CHECK(l.greeting() == "554 5.7.1 Closed");
    CHECK(l.dns->asked() == 0);
    CHECK(l.seen.empty());
}

TEST_CASE("what is known is not asked for again, negative answers too, until it is too old or too much") {
    Listed l;
    l.dns->add("2.0.0.127.zen.test", "A 127.0.0.2");
    l.greetings({"127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.3"});
    CHECK(l.dns->asked("2.0.0.127.zen.test") == 1);
    CHECK(l.dns->asked("3.0.0.127.zen.test") == 1);
    CHECK(l.dns->asked("1.0.0.127.zen.test") == 1);
    l.options.cache.entries = 1;
    l.greetings({"127.0.0.3", "127.0.0.3", "127.0.0.4", "127.0.0.3"});
    CHECK(l.dns->asked("3.0.0.127.zen.test") == 3);
    l.options.cache.entries = 0;
    l.greetings({"127.0.0.4", "127.0.0.4"});
    CHECK(l.dns->asked("4.0.0.127.zen.test") == 3);
}

TEST_CASE("twenty clients at once are refused or greeted, each as it is") {
    Listed l;
    l.options.timeout = patience;
    l.options.zones = {{.name = "zen.test"}, {.name = "b.test"}};
    for (int i = 2; i < 12; ++i) l.dns->add(std::to_string(i) + ".0.0.127.b.test", "A 127.0.0.2");
    Server server(Addresses{"127.0.0.1:0"}, brief());
    std::atomic<int> listed = 0, told = 0;
    server.pipeline().add("dnsbl", std::make_shared<DNSBL>(l.options));
    server.on<DNSBL::Result>([&](DNSBL::Result& e) { ++told, listed += e.listed; });
    Background running([&] { server.run([](Server::Client& c) { c.accept(); }); });
    std::vector<Background> clients;
    for (int i = 2; i < 22; ++i)
        clients.emplace_back([&server, i] {
            for (int n = 0; n < 3; ++n) {
                auto wire = dial_from("127.0.0." + std::to_string(i), server.addresses().front());
                play(wire, i < 12 ? "S: 554 5.7.1\nS: EOF" : "S: 220\nC: QUIT\nS: 221\nS: EOF");
            }
        });
    for (auto& client : clients) client.join();
    server.stop();
    running.join();
    CHECK(told == 60);
    CHECK(listed == 30);
    for (int i = 2; i < 22; ++i) CHECK(l.dns->asked(std::to_string(i) + ".0.0.127.zen.test") == 1);
    CHECK(l.dns->asked("1.0.0.127.b.test") == 1);
}

TEST_CASE("what makes no sense is no configuration") {
    const auto dns = std::make_shared<FakeResolver>();
    CHECK_THROWS_AS(DNSBL(DNSBL::Options{}), std::invalid_argument);
    for (const auto& zone :
         {std::string(), std::string("."), std::string("a b"), std::string("zen.test."), std::string("[127.0.0.1]"),
          std::string(60, 'a') + '.' + std::string(60, 'b') + '.' + std::string(60, 'c') + ".example"}) {
        CAPTURE(zone);
        CHECK_THROWS_AS(DNSBL({.resolver = dns, .zones = {{.name = zone}}}), std::invalid_argument);
    }
    CHECK_THROWS_AS(DNSBL({.resolver = dns, .threshold = 0}), std::invalid_argument);
}

// ---- the cache by itself ----

namespace {

// Counts who asks at the same time, and answers when it is let.
struct Slow : Resolver {
    Records query(const std::string&, RecordType, const Wait& wait) override {
        std::unique_lock lock(mutex);
        most = std::max(most, ++now);
        ++all;
        changed.notify_all();
        const bool told = changed.wait_until(lock, wait.end, [this] { return open; });
        --now;
        return {.status = told ? Records::Status::no_data : Records::Status::timeout};
    }
    std::mutex mutex;
    std::condition_variable changed;
    int now = 0, most = 0, all = 0;
    bool open = false;

    void let() {
        std::lock_guard lock(mutex);
        open = true;
        changed.notify_all();
    }
    void wait_for(int asking) {
        std::unique_lock lock(mutex);
        CHECK(changed.wait_for(lock, patience, [&] { return now == asking; }));
    }
};

}  // namespace

TEST_CASE("no more questions are outstanding than may be, and who is too late is told so") {
    auto slow = std::make_shared<Slow>();
    ResolverCache cache(slow, {.outstanding = 2});
    std::vector<Background> askers;
    const auto ask = [&](const std::string& name) {
        askers.emplace_back([&cache, name] {
            CHECK(cache.query(name, RecordType::A, Clock::now() + patience).status == Records::Status::no_data);
        });
    };
    ask("a.test"), ask("b.test");
    slow->wait_for(2);
    CHECK(cache.query("c.test", RecordType::A, Clock::now() + milliseconds(10)).status == Records::Status::timeout);
    for (int i = 0; i < 6; ++i) ask(std::to_string(i) + ".test"), ask("A.test");
    slow->let();
    for (auto& asker : askers) asker.join();
    CHECK(slow->most == 2);
    CHECK(slow->all == 8);  // "a.test" once
}

TEST_CASE("a wait for an answer that others asked for ends when it is called off") {
    auto slow = std::make_shared<Slow>();
    ResolverCache cache(slow, {});
    Background asker([&] { cache.query("a.test", RecordType::A, Clock::now() + patience); });
    slow->wait_for(1);
    CHECK(cache.query("a.test", RecordType::A, {Clock::now() + patience, [] { return true; }}).status ==
          Records::Status::timeout);
    slow->let();
    asker.join();
}

TEST_CASE("an answer is forgotten when it is too old, a failure sooner") {
    FakeResolver dns;
    const auto shared = std::shared_ptr<FakeResolver>(&dns, [](FakeResolver*) {});
    dns.fail("fail.test");
    const auto ask = [](ResolverCache& cache, const std::string& name) {
        cache.query(name, RecordType::A, Clock::now() + patience);
    };
    ResolverCache young(shared, {.ttl = milliseconds(1), .failure_ttl = milliseconds(0)});
    for (const auto end = Clock::now() + patience; dns.asked("a.test") < 3 && Clock::now() < end;) ask(young, "a.test");
    CHECK(dns.asked("a.test") == 3);
    ask(young, "fail.test"), ask(young, "fail.test");
    CHECK(dns.asked("fail.test") == 2);
    ResolverCache old(shared, {});
    for (int i = 0; i < 3; ++i) ask(old, "b.test"), ask(old, "B.TEST"), ask(old, "fail.test");
    CHECK(dns.asked("b.test") == 1);
    CHECK(dns.asked("fail.test") == 3);
    CHECK(young.validates());
    CHECK_THROWS_AS(ResolverCache(nullptr, {}), std::invalid_argument);
}

TEST_CASE("a large answer is not remembered") {
    auto dns = std::make_shared<FakeResolver>();
    for (int i = 0; i < 8; ++i) dns->add("large.test", "TXT " + std::string(200, char('a' + i)));
    ResolverCache cache(dns, {});
    for (int i = 0; i < 2; ++i) CHECK(cache.query("large.test", RecordType::TXT, Deadline::max()).data.size() == 8);
    CHECK(dns->asked() == 2);
}
