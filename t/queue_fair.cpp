// queue_fair -- how much a queue does at once, and that no destination keeps others out.
#include <Net/SMTP/Server/Test/ScriptedServer.hpp>

#include "queue_kit.hpp"

using namespace test;
using Net::SMTP::Test::Act;
using Net::SMTP::Test::ScriptedServer;

namespace {

// How many are in there at once, at most.
class Crowd {
public:
    void enter() {
        const auto n = ++now_;
        for (auto most = most_.load(); n > most && !most_.compare_exchange_weak(most, n);) {
        }
    }
    void leave() { --now_; }
    int most() const { return most_; }

private:
    std::atomic<int> now_{0}, most_{0};
};

std::string domain(const char* kind, int i) { return kind + std::to_string(i) + ".test"; }

void enqueue(Told& t, const std::string& to) { t.queue->enqueue(Sender("a@x.test"), {Recipient("b@" + to)}, letter()); }

// A store whose lease ends when the test wants it, and is renewed by a beat that then took its time.
class LeasedStore : public MemoryStore {
public:
    using Clock = std::chrono::steady_clock;
    std::atomic<bool> slow{false}, beating{false};
    std::chrono::milliseconds beat_interval() const override { return 100ms; }
    Clock::time_point surely_ours() const override { return until_; }
    void end_now() { until_ = Clock::now(); }
    void beat() override {
        beating = slow.load();
        if (slow.exchange(false)) {
            comes([&] { return until_.load() <= Clock::now(); });
            std::this_thread::sleep_for(200ms);  // those who work have noticed
        }
        until_ = Clock::now() + 1h;
        beating = false;
    }

private:
    std::atomic<Clock::time_point> until_{Clock::now() + 1h};
};

}  // namespace

TEST_CASE("what waits while a lease ends and is renewed goes on") {
    MailServer hop;
    const auto store = std::make_shared<LeasedStore>();
    std::atomic<bool> first{true};
    hop.verdict([&](const Test::Mail&, const Recipient&) {
        if (first.exchange(false)) {
            store->slow = true;
            CHECK(comes([&] { return store->beating.load(); }));
            store->end_now();
        }
        return Reply{250, "2.0.0", "OK"};
    });
    auto o = to(hop);
    o.maxrelay = 1;
    o.paused = true;
    Told t(o, store);
    t.queue->start();
    for (int i = 0; i < 4; ++i) enqueue(t, "y.test");
    t.queue->resume();
    CHECK(t.hears("sent", 4));
    CHECK(t.empty());
}

TEST_CASE("no more than maxrelay deliveries at once, however many domains there are") {
    MailServer hop;
    Crowd crowd;
    hop.verdict([&](const Test::Mail&, const Recipient&) {
        crowd.enter();
        std::this_thread::sleep_for(10ms);
        crowd.leave();
        return Reply{250, "2.0.0", "OK"};
    });
    auto o = soon();
    o.maxrelay = 7;
    o.paused = true;
    for (int i = 0; i < 100; ++i) o.routes[domain("d", i)] = {domain("d", i), {.host = hop.address()}};
    Told t(o);
    t.queue->start();
    for (int i = 0; i < 100; ++i) enqueue(t, domain("d", i));
    t.queue->resume();
    hop.wait_for(100, 30s);
    CHECK(t.empty());
    CHECK(crowd.most() <= 7);
    CHECK(crowd.most() > 1);
}

TEST_CASE("one destination has a quarter of maxrelay at most, whatever per_destination says") {
    MailServer hop;
    Crowd crowd;
    hop.verdict([&](const Test::Mail&, const Recipient&) {
        crowd.enter();
        std::this_thread::sleep_for(5ms);
        crowd.leave();
        return Reply{250, "2.0.0", "OK"};
    });
    auto o = to(hop);
    o.maxrelay = 12;
    o.paused = true;
    Told t(o);
    t.queue->start();
    for (int i = 0; i < 60; ++i) enqueue(t, domain("d", i));
    t.queue->resume();
    hop.wait_for(60, 30s);
    CHECK(crowd.most() <= 3);
    CHECK(crowd.most() > 1);
}

TEST_CASE("domains whose servers accept and stall keep nobody waiting") {
    MailServer good;
    ScriptedServer stalled;
    stalled.on("", Act::stall());
    auto o = to(good);
    o.maxrelay = 40;
    o.stall = 1s;
    for (int i = 0; i < 20; ++i) o.routes[domain("stalled", i)] = {domain("stalled", i), {.host = stalled.address()}};
    o.paused = true;
    Told t(o);
    t.queue->start();
    for (int i = 0; i < 20; ++i)
        for (int n = 0; n < 10; ++n) enqueue(t, domain("stalled", i));
    for (int i = 0; i < 300; ++i) enqueue(t, domain("good", i % 50));
    t.queue->resume();
    good.wait_for(300, 30s);
    CHECK(comes([&] { return t.queue->stats().recipients == 200; }));
    // One probes for each of them, and no more.
    CHECK(comes([&] { return stalled.conversations().size() == 20; }));
    CHECK(t.count("sent") == 300);
    t.queue->stop(0s);
    CHECK(t.queue->stats().in_flight == 0);
    CHECK(t.queue->stats().recipients == 200);
}

TEST_CASE("domains that took mail well and then stall keep nobody waiting either") {
    MailServer good, turncoat;
    std::atomic<bool> stalls{false}, over{false};
    turncoat.server().on<Event::Connect>([&](Event::Connect& e) {
        if (stalls) comes([&] { return over || !e.client.pause(std::chrono::steady_clock::now() + 50ms); });
    });
    turncoat.verdict([&](const Test::Mail&, const Recipient&) {
        if (stalls) comes([&] { return over.load(); });
        return Reply{250, "2.0.0", "OK"};
    });
    auto o = to(good);
    o.maxrelay = 40;
    for (int i = 0; i < 10; ++i) o.routes[domain("bad", i)] = {domain("bad", i), {.host = turncoat.address()}};
    Told t(o);
    t.queue->start();
    const auto all_bad = [&] {
        for (int n = 0; n < 20; ++n)
            for (int i = 0; i < 10; ++i) enqueue(t, domain("bad", i));
    };
    all_bad();
    turncoat.wait_for(200, 30s);
    stalls = true;
    all_bad();
    CHECK(comes([&] { return t.queue->stats().in_flight > 10; }));
    for (int i = 0; i < 100; ++i) enqueue(t, domain("good", i % 20));
    good.wait_for(100, 30s);
    CHECK(comes([&] { return t.queue->stats().recipients == 200; }));
    over = true;
    t.queue->stop(0s);
}

TEST_CASE("no more than maxrelay connections, those among them that wait for the next mail") {
    MailServer hop;
    Crowd crowd;
    hop.server().on<Event::Connect>([&](Event::Connect&) { crowd.enter(); });
    hop.server().on<Event::Disconnect>([&](Event::Disconnect&) { crowd.leave(); });
    auto o = soon();
    o.maxrelay = 5;
    // Connections of one name are not used for another.
    for (int i = 0; i < 30; ++i)
        o.routes[domain("d", i)] = {domain("d", i), {.host = hop.address(), .hostname = domain("relay", i)}};
    o.paused = true;
    Told t(o);
    t.queue->start();
    for (int i = 0; i < 60; ++i) enqueue(t, domain("d", i % 30));
    t.queue->resume();
    CHECK(t.empty());
    // What was closed here may not have been seen there yet.
    CHECK(crowd.most() <= 10);
}

TEST_CASE("a destination with much mail lets others through") {
    MailServer slow, quick;
    slow.delay(".", 10ms);
    auto o = soon();
    o.maxrelay = 4;
    o.routes["slow.test"].how.host = slow.address();
    o.otherwise.host = quick.address();
    o.paused = true;
    Told t(o);
    t.queue->start();
    for (int i = 0; i < 200; ++i) enqueue(t, "slow.test");
    for (int i = 0; i < 5; ++i) enqueue(t, domain("quick", i));
    t.queue->resume();
    quick.wait_for(5, 30s);
    CHECK(slow.mails().size() < 200);
    slow.wait_for(200, 60s);
    CHECK(t.empty());
}

TEST_CASE("a host that is down is connected to once, and its mail is tried again") {
    // A port that was free a moment ago.
    auto hop = std::make_unique<MailServer>();
    const auto address = hop->address();
    hop.reset();
    auto o = soon();
    o.otherwise.host = address;
    Told t(o);
    t.queue->start();
    for (int i = 0; i < 30; ++i) enqueue(t, domain("d", i));
    CHECK(t.hears("deferred", 30));
    Options options;
    options.hostname = "mail.test";
    MailServer again(options, address);
    // What is remembered of the host would hold for half a minute.
    CHECK(t.queue->flush_all() > 0);
    again.wait_for(30, 30s);
    CHECK(t.empty());
}

TEST_CASE("connections are used again for the next mail to the same place") {
    MailServer hop;
    std::atomic<int> sessions{0};
    hop.server().on<Event::Connect>([&](Event::Connect&) { ++sessions; });
    auto o = to(hop);
    o.maxrelay = 8;
    Told t(o);
    t.queue->start();
    for (int i = 0; i < 60; ++i) enqueue(t, "y.test");
    hop.wait_for(60, 30s);
    CHECK(t.empty());
    CHECK(sessions < 10);
}

TEST_CASE("mail for many at one place goes in one transaction") {
    MailServer hop;
    Told t(to(hop));
    t.queue->start();
    std::vector<Recipient> all;
    for (int i = 0; i < 5; ++i) all.emplace_back("r" + std::to_string(i) + "@y.test");
    t.queue->enqueue(Sender("a@x.test"), all, letter());
    CHECK(t.empty());
    CHECK(hop.mails().size() == 1);
    CHECK(t.hears("sent", 5));
    for (int i = 5; i < 250; ++i) all.emplace_back("r" + std::to_string(i) + "@y.test");
    t.queue->enqueue(Sender("a@x.test"), all, letter());
    CHECK(hop.wait_for(4, 30s).size() == 4);  // 100 are as many as every host takes at once
    CHECK(t.empty());
    CHECK(t.hears("sent", 255));
    CHECK(t.count("sent") == 255);
}

TEST_CASE("however its router makes its routes, a queue claims a few deliveries ahead and no more") {
    MailServer hop;
    const auto store = std::make_shared<MemoryStore>();
    std::atomic<std::uint64_t> most{0};
    hop.verdict([&](const Test::Mail&, const Recipient&) {
        most = std::max(most.load(), store->stats().in_flight);
        return Reply{250, "2.0.0", "OK"};
    });
    auto o = soon();
    o.maxrelay = 4;  // so one at once each way
    o.router = [&](const Sender&, const Recipient& to) -> std::optional<Route> {
        return Route{to.local.back() % 2 != 0 ? "odd" : "even", {.host = hop.address()}};
    };
    Told t(o, store);
    for (int i = 0; i < 200; ++i)
        t.queue->enqueue(Sender("a@x.test"), {Recipient("b" + std::to_string(i) + "@y.test")}, letter());
    t.queue->start();
    hop.wait_for(200, 30s);
    CHECK(t.empty());
    CHECK(most <= 10);
}
