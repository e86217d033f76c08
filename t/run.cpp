// run -- the server's own loops: limits, handlers that fail, and an end that loses nothing.
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>

#include "dialogue.hpp"
#include "sanitized.hpp"

using namespace test;

namespace {

void take(Server::Client& c) { c.accept(); }

// A server that runs in a thread, and is stopped in the end.
struct Running {
    explicit Running(Server::Handler handler = take, Server::Run how = {}, Options o = brief(),
                     std::function<void(Server&)> listeners = {})
        : server(Addresses{"127.0.0.1:0"}, o) {
        server.on<Event::Trouble>([this](Event::Trouble& e) {
            std::lock_guard lock(mutex);
            troubles.push_back(e.what);
        });
        if (listeners) listeners(server);
        thread = Background([this, handler, how] { server.run(handler, how); });
    }
    ~Running() { server.stop(); }
    std::vector<std::string> heard() {
        std::lock_guard lock(mutex);
        return troubles;
    }
    Server server;
    std::mutex mutex;
    std::vector<std::string> troubles;
    Background thread;
};

const std::string mail = "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: x\nC: .\n";
const std::string hello = "S: 220\nC: EHLO me\nS: 250\n";
const std::string farewell = "C: QUIT\nS: 221\nS: EOF";

}  // namespace

TEST_CASE("who was greeted has gone no deeper than three pages into the stack of the thread") {
    if (sanitized) return;
    constexpr std::size_t page = 4096, pages = 16;
    std::atomic<char*> top = nullptr;
    const auto look = [&](Server& server) {
        server.on<Event::Connect>([&](Event::Connect&) {
            pthread_attr_t attributes;
            REQUIRE(pthread_getattr_np(pthread_self(), &attributes) == 0);
            void* address = nullptr;
            std::size_t size = 0;
            pthread_attr_getstack(&attributes, &address, &size);
            pthread_attr_destroy(&attributes);
            top = static_cast<char*>(address) + size;
        });
    };
    // Of a size that no thread before had, or it would have that one's stack.
    Running running(take, {.stack = 3 << 19}, brief(), look);
    auto wire = dial(running.server);
    wire.expect("220");
    unsigned char resident[pages];
    REQUIRE(mincore(top - pages * page, pages * page, resident) == 0);
    CHECK((resident[pages - 1] & 1) == 1);
    CHECK(std::none_of(resident, resident + pages - 3, [](auto each) { return each & 1; }));
}

TEST_CASE("run serves each connection, and returns after stop()") {
    for (const auto mode : {Server::Mode::thread, Server::Mode::inline_}) {
        CAPTURE(int(mode));
        std::atomic<int> mails = 0;
        Running running([&](Server::Client& c) { ++mails, c.accept(); }, {.mode = mode});
        for (int i = 0; i < 5; ++i) {
            auto wire = dial(running.server);
            play(wire, hello + mail + "S: 250\n" + mail + "S: 250\n" + farewell);
        }
        CHECK(mails == 10);
        const auto where = running.server.addresses().front();
        running.server.stop();
        running.thread.join();
        CHECK(connect_to(where) < 0);
        CHECK(!running.server.accept());
    }
}

TEST_CASE("run serves all its sockets, an inherited one too") {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(listen(fd, 5) == 0);  // bound by the system
    Folder folder;
    Server server(Addresses{"127.0.0.1:0", "unix:" + folder / "socket", "fd:" + std::to_string(fd)}, brief());
    Background thread([&] { server.run(take); });
    for (const auto& e : server.addresses()) {
        for (int i = 0; i < 3; ++i) {
            auto wire = dial(Endpoint{e.host == "0.0.0.0" ? "127.0.0.1" : e.host, e.port});
            play(wire, hello + mail + "S: 250\n" + farewell);
        }
    }
    server.stop();
    thread.join();
    CHECK(access((folder / "socket").c_str(), F_OK) != 0);
}

TEST_CASE("in threads many talk at once, inline one after the other") {
    Running threads;
    std::vector<Wire> wires;
    for (int i = 0; i < 20; ++i) wires.push_back(dial(threads.server));
    for (auto& w : wires) play(w, hello);
    for (auto& w : wires) play(w, mail + "S: 250\n" + farewell);

    Running one(take, {.mode = Server::Mode::inline_});
    auto first = dial(one.server), second = dial(one.server);
    play(first, hello);
    second.expect_silence(50ms);
    play(first, farewell);
    play(second, hello + farewell);
}

TEST_CASE("over the limit is 421, and below it again everybody is welcome") {
    Running running(take, {.limit = 2});
    auto one = dial(running.server), two = dial(running.server);
    play(one, hello);
    play(two, hello);
    auto three = dial(running.server);
    play(three, "S: 421 4.3.2\nS: EOF");
    three.close();
    play(one, mail + "S: 250\n" + farewell);
    one.close();
    CHECK(eventually([&] {
        auto next = dial(running.server);
        return next.reply().starts_with("220");
    }));
    play(two, mail + "S: 250\n" + farewell);
}

TEST_CASE("who is turned away takes nobody's place, and keeps nobody waiting") {
    Running running(take, {.limit = 1});
    std::vector<Wire> lingering;
    {
        auto one = dial(running.server);
        play(one, hello);
        const auto began = Clock::now();
        for (int i = 0; i < 4; ++i) {
            lingering.push_back(dial(running.server));  // and he does not close when he hears it
            play(lingering.back(), "S: 421 4.3.2");
        }
        CHECK(Clock::now() - began < 1500ms);
        play(one, farewell);
    }
    CHECK(eventually(
        [&] {
            auto next = dial(running.server);
            return next.reply().starts_with("220");
        },
        1s));
}

// A sanitizer keeps stacks of its own accord.
TEST_CASE("the threads of a crowd that has gone leave no stacks behind" * doctest::skip(sanitized)) {
    constexpr std::size_t stack = (3 << 20) + (64 << 10);  // nobody else's is of this size
    const auto stacks = [] {
        int count = 0;
        std::ifstream maps("/proc/self/maps");
        for (std::string line; std::getline(maps, line);) {
            const auto size =
                std::stoull(line.substr(line.find('-') + 1), nullptr, 16) - std::stoull(line, nullptr, 16);
            count += size > stack - (64 << 10) && size <= stack;  // without its guard
        }
        return count;
    };
    Running running(take, {.stack = stack});
    for (int round = 0; round < 2; ++round) {
        std::vector<Wire> wires;
        for (int i = 0; i < 200; ++i) wires.push_back(dial(running.server));
        for (auto& w : wires) w.expect("220");
        CHECK(stacks() > 150);
        wires.clear();
        CHECK(
            eventually([&] { return stacks() <= 100; }));  // of those who wait, and what the system keeps for the next
    }
}

TEST_CASE("what a handler throws is the answer to its mail, and the session goes on") {
    int n = 0;
    Running running([&](Server::Client& c) {
        switch (n++) {
            case 0: throw Reject({550, "5.7.1", "Not this one"});
            case 1: throw std::runtime_error("secret");
            case 2: throw 7;
            case 3: c.accept(); break;
            case 4: break;
            case 5: c.accept(), c.answer(); throw std::runtime_error("too late");
            case 6: throw Hangup({554, "5.7.1", "And out"});
        }
    });
    auto wire = dial(running.server);
    play(wire, hello + mail + "S: 550 5.7.1 Not this one\n" + mail + "S: 451 4.3.0\n" + mail + "S: 451 4.3.0\n" + mail +
                   "S: 250\n" + mail + "S: 451\n" + mail + "S: 250\n" + mail + "S: 554 5.7.1 And out\nS: EOF");
    CHECK(wire.heard().find("secret") == std::string::npos);
    CHECK(running.heard().size() >= 3);
    auto next = dial(running.server);
    play(next, hello + farewell);
}

TEST_CASE("a handler may go on with the session itself") {
    Running running([](Server::Client& c) {
        c.accept();
        REQUIRE(c.process());
        c.accept({250, "2.6.0", "in the same call"});
    });
    auto wire = dial(running.server);
    play(wire, hello + mail + "S: 250 2.0.0\n" + mail + "S: 250 2.6.0\n" + farewell);
}

TEST_CASE("stop() before run() ends it at once, and so does close()") {
    for (const auto mode : {Server::Mode::thread, Server::Mode::inline_}) {
        Server stopped(Addresses{"127.0.0.1:0"}), closed(Addresses{"127.0.0.1:0"});
        stopped.stop();
        closed.close();
        const auto began = Clock::now();
        stopped.run(take, {.mode = mode});
        closed.run(take, {.mode = mode});
        CHECK(Clock::now() - began < 2s);
    }
}

TEST_CASE("stop() may be called by many threads at once, by a handler, and by close()") {
    for (int round = 0; round < 3; ++round) {
        Running running;
        auto wire = dial(running.server);
        play(wire, hello);
        std::vector<Background> stoppers;
        for (int i = 0; i < 4; ++i) {
            stoppers.emplace_back([&] { running.server.stop(); });
            stoppers.emplace_back([&] { running.server.close(); });
        }
        play(wire, "S: 421 4.3.2\nS: EOF");
        wire.close();
        running.thread.join();
    }
    Server* server = nullptr;
    Running running([&](Server::Client& c) {
        c.accept();
        server->stop();
    });
    server = &running.server;
    auto wire = dial(running.server);
    play(wire, hello + mail + "S: 250\nS: 421 4.3.2\nS: EOF");
    wire.close();
    running.thread.join();
}

TEST_CASE("stop() may be called by a signal handler") {
    static std::atomic<Server*> server = nullptr;
    struct sigaction old {
    }, action{};
    action.sa_handler = [](int) { server.load()->stop(); };
    sigaction(SIGUSR1, &action, &old);
    {
        Running running;
        server = &running.server;
        auto wire = dial(running.server);
        play(wire, hello);
        raise(SIGUSR1);
        play(wire, "S: 421 4.3.2\nS: EOF");
        wire.close();
        running.thread.join();
    }
    sigaction(SIGUSR1, &old, nullptr);
}

TEST_CASE("the drain: idle clients hear 421, running mails end, strangers are refused") {
    Running running;
    auto silent = dial(running.server), idle = dial(running.server), between = dial(running.server),
         named = dial(running.server), sending = dial(running.server), chunking = dial(running.server),
         half = dial(running.server);
    play(silent, "S: 220");
    play(idle, hello);
    play(between, hello + mail + "S: 250");
    play(named, opening);
    play(sending, std::string(opening) + "C: DATA\nS: 354\nC: begun");
    play(chunking, std::string(opening) + "C: BDAT 3\nc: abc\nS: 250");
    play(half, hello + "c: MAIL FROM:<a@b");
    const auto where = running.server.addresses().front();
    running.server.stop();
    for (auto* w : {&silent, &idle, &between}) {
        play(*w, "S: 421 4.3.2\nS: EOF");
        w->close();
    }
    CHECK(!running.thread.over(0ms));
    CHECK(eventually([&] {
        const int fd = connect_to(where);
        if (fd >= 0) close(fd);
        return fd < 0;
    }));
    play(named, "C: DATA\nS: 354\nC: x\nC: .\nS: 250\nS: 421 4.3.2\nS: EOF");
    play(sending, "C: ended\nC: .\nS: 250\nS: 421 4.3.2\nS: EOF");
    play(chunking, "C: BDAT 3 LAST\nc: def\nS: 250\nS: 421 4.3.2\nS: EOF");
    play(half, "C: >\nS: 250\nC: RSET\nS: 250\nS: 421 4.3.2\nS: EOF");
    for (auto* w : {&named, &sending, &chunking, &half}) w->close();
    running.thread.join();
}

TEST_CASE("after the drain's time the rest is cut, and what was cut is no mail") {
    for (const auto mode : {Server::Mode::thread, Server::Mode::inline_}) {
        CAPTURE(int(mode));
        std::atomic<int> mails = 0;
        Running running([&](Server::Client& c) { ++mails, c.accept(); }, {.mode = mode, .drain = 1s});
        auto sending = dial(running.server);
        play(sending, std::string(opening) + "C: DATA\nS: 354\nC: begun");
        const auto began = Clock::now();
        running.server.stop();
        CHECK_NOTHROW(running.thread.join(5s));
        CHECK(Clock::now() - began > 700ms);
        CHECK(Clock::now() - began < 4s);
        sending.send("C: ended\r\n.\r\n");
        CHECK(mails == 0);
    }
}

TEST_CASE("run() is for one caller at a time") {
    Running running;
    auto wire = dial(running.server);
    play(wire, hello);
    CHECK_THROWS_AS(running.server.run(take), std::logic_error);
    play(wire, mail + "S: 250\n" + farewell);  // the first one took no notice
}

TEST_CASE("run(process) will not fork a process that has other threads") {
    std::promise<void> end;
    Background other([&] { end.get_future().wait_for(patience); });
    Server server(Addresses{"127.0.0.1:0"});
    CHECK_THROWS_AS(server.run(take, {.mode = Server::Mode::process}), std::logic_error);
    end.set_value();
}

TEST_CASE("limits on connections hold in run() too") {
    auto o = brief();
    o.max_connections_per_ip = 3;
    Running running(take, {}, o);
    std::vector<Wire> wires;
    for (int i = 0; i < 3; ++i) {
        wires.push_back(dial(running.server));
        play(wires.back(), hello);
    }
    auto more = dial(running.server);
    play(more, "S: 421 4.7.0\nS: EOF");
    more.close();
    play(wires[0], farewell);
    wires[0].close();
    CHECK(eventually([&] {
        auto next = dial(running.server);
        return next.reply().starts_with("220");
    }));
}

TEST_CASE("24 clients send 50 mails each, and each mail is taken once") {
    std::mutex mutex;
    std::vector<std::string> texts;
    Running running([&](Server::Client& c) {
        const auto text = std::string(c.MSG.view());
        {
            std::lock_guard lock(mutex);
            texts.push_back(text);
        }
        c.accept();
    });
    std::vector<Background> clients;
    for (int client = 0; client < 24; ++client) {
        clients.emplace_back([&, client] {
            auto wire = dial(running.server);
            wire.expect("220");
            wire.say("EHLO me");
            wire.expect("250");
            for (int i = 0; i < 50; ++i) {
                // Half of them pipelined.
                const std::string commands = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
                const auto body = std::to_string(client) + ' ' + std::to_string(i) + "\r\n.\r\n";
                if (client % 2) {
                    wire.send(commands);
                    for (const char* reply : {"250", "250", "354"}) wire.expect(reply);
                } else {
                    play(wire, "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354");
                }
                wire.send(body);
                wire.expect("250");
            }
            wire.say("QUIT");
            wire.expect("221");
        });
    }
    for (auto& c : clients) CHECK_NOTHROW(c.join(60s));
    std::sort(texts.begin(), texts.end());
    CHECK(texts.size() == 24 * 50);
    CHECK(std::unique(texts.begin(), texts.end()) == texts.end());
}
