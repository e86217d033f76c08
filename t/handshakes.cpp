// handshakes -- tests of Handshakes: a few threads compute for many, and nobody waits for those that are stuck.
#include <doctest/doctest.h>

#include <latch>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "../Server/Handshakes.hpp"
#include "over_tls.hpp"
#include "toy_authenticator.hpp"

using namespace test;
using Did = TLSLayer::Did;

namespace {

// Where handshakes were computed.
struct Threads {
    std::mutex mutex;
    std::set<std::thread::id> all;
    void note() {
        const std::lock_guard lock(mutex);
        all.insert(std::this_thread::get_id());
    }
};

struct Noted : PlainLayer {
    explicit Noted(Threads& t, int fd = -1) : PlainLayer(fd), threads(t) {}
    Did handshake(bool wait) override {
        CHECK_FALSE(wait);
        threads.note();
        return did;
    }
    Threads& threads;
    Did did = Did::done;
};
struct Throwing : PlainLayer {
    Throwing() : PlainLayer(-1) {}
    Did handshake(bool) override { throw std::runtime_error("no memory"); }
};
// Waits as a key does that is a device's.
struct Stuck : PlainLayer {
    Stuck() : PlainLayer(-1) {}
    Did handshake(bool) override {
        begun.count_down();
        end.wait();
        return Did::ended;
    }
    std::latch begun{1}, end{1};
};

// Real ones, that tell where they are computed.
struct NotedLayer : TLSLayer {
    NotedLayer(std::unique_ptr<TLSLayer> l, Threads& t) : layer(std::move(l)), threads(t) {}
    Did handshake(bool wait) override {
        threads.note();
        return layer->handshake(wait);
    }
    Did read(char* to, std::size_t size, std::size_t& got, bool wait) override {
        return layer->read(to, size, got, wait);
    }
    Did write(const char* from, std::size_t size, std::size_t& sent) override { return layer->write(from, size, sent); }
    Did end(std::string_view last) noexcept override { return layer->end(last); }
    const TLS& tls() const override { return layer->tls(); }
    std::string channel_binding(std::string_view type) const override { return layer->channel_binding(type); }
    bool heard() const override { return layer->heard(); }
    std::string problem() const override { return layer->problem(); }
    std::unique_ptr<TLSLayer> layer;
    Threads& threads;
};
struct NotedTLS : TLSAcceptor {
    std::unique_ptr<TLSLayer> accept(int fd) override {
        return std::make_unique<NotedLayer>(real->accept(fd), threads);
    }
    std::shared_ptr<TLSAcceptor> real = acceptor();
    Threads threads;
};

}  // namespace

TEST_CASE("the handshakes of many are computed by a few threads, and each hears of its own") {
    Handshakes few;
    few.open(2);
    Threads where, askers;
    {
        std::vector<std::jthread> many;
        for (int i = 0; i < 8; ++i)
            many.emplace_back([&, i] {
                askers.note();
                const auto did = i % 2 ? Did::done : Did::wants_input;
                for (int n = 0; n < 100; ++n) {
                    Noted layer(where);
                    layer.did = did;
                    CHECK(few.go_on(layer) == did);
                    Throwing broken;
                    CHECK_THROWS_WITH(few.go_on(broken), "no memory");
                }
            });
    }
    few.close();
    // On a machine that is very busy somebody may have computed himself.
    CHECK(where.all.size() >= 1);
    std::size_t ours = 0;
    for (const auto& id : where.all) ours += askers.all.contains(id);
    CHECK(where.all.size() - ours <= 2);
    CHECK(where.all.size() > ours);
}

TEST_CASE("who finds all threads stuck computes himself") {
    Handshakes few;
    few.open(1);
    Stuck device;
    std::jthread waiting([&] { CHECK(few.go_on(device) == Did::ended); });
    device.begun.wait();
    Threads where;
    std::vector<std::jthread> others;
    for (int i = 0; i < 3; ++i)
        others.emplace_back([&] {
            Noted layer(where);
            CHECK(few.go_on(layer) == Did::done);
        });
    Noted layer(where);
    CHECK(few.go_on(layer) == Did::done);
    CHECK(where.all.contains(std::this_thread::get_id()));
    others.clear();
    CHECK(where.all.size() == 4);
    device.end.count_down();
    waiting.join();
    few.close();
}

TEST_CASE("where nobody computes for others each computes himself, and closing waits for what has begun") {
    Handshakes few;
    Threads where;
    Noted layer(where);
    CHECK_FALSE(few.is_open());
    CHECK(few.go_on(layer) == Did::done);
    few.open(1);
    CHECK(few.is_open());
    Stuck device;
    std::jthread waiting([&] { CHECK(few.go_on(device) == Did::ended); });
    device.begun.wait();
    std::jthread closing([&] { few.close(); });
    while (few.is_open()) std::this_thread::yield();
    CHECK(few.go_on(layer) == Did::done);
    CHECK(where.all == std::set{std::this_thread::get_id()});
    device.end.count_down();
    waiting.join();
    closing.join();
    few.close();
    few.open(1);
    CHECK(few.go_on(layer) == Did::done);
    few.close();
}

TEST_CASE("in a crowd a session's thread does not compute its handshake, before the greeting or at STARTTLS") {
    for (const bool crowd : {true, false})
        for (const bool first : {true, false}) {
            CAPTURE(crowd);
            CAPTURE(first);
            auto tls = std::make_shared<NotedTLS>();
            auto options = brief();
            options.tls = tls;
            Server server(Addresses{first ? "tls:127.0.0.1:0" : "127.0.0.1:0", "127.0.0.1:0"}, options);
            Threads sessions;
            server.on<Event::TLS>([&](Event::TLS& e) {
                CHECK(e.problem == "");
                sessions.note();
            });
            Background running([&] { server.run([](Server::Client& c) { c.accept(); }); });
            std::vector<std::unique_ptr<Wire>> wires;
            for (int i = 0; crowd && i < 100; ++i)
                play(*wires.emplace_back(new Wire(dial(server.addresses().back()))), "S: 220\n");
            for (int i = 0; i < 4; ++i) {
                auto& wire = *wires.emplace_back(new Wire(dial(server)));
                if (!first) play(wire, starttls);
                encrypt(wire);
                play(wire, first ? "S: 220\nC: EHLO me\nS: 250\n" : "C: EHLO me\nS: 250\n");
            }
            CHECK(sessions.all.size() == 4);
            // All of them, but for who may have found nobody free for long.
            std::size_t others = 0;
            for (const auto& id : tls->threads.all) others += !sessions.all.contains(id);
            CHECK((others > 0) == crowd);
            wires.clear();
            server.stop();
        }
}
