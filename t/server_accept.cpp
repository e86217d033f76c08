// server_accept -- accept() under signals, shortage and close(); the copies of a server in forked children.
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <atomic>

#include "dialogue.hpp"
#include "sanitized.hpp"

using namespace test;

namespace {

// Runs it in a forked child, for at most so many seconds. What the child returned, or 1000 + the signal that ended it.
template <class Work>
int in_child(Work work, unsigned seconds = 20) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(seconds);
        _exit(work());
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// Whether the server gets who connects now.
bool serving(Server& server, const Endpoint& e) {
    auto wire = dial(e);
    Background waker([&] {
        pollfd in{wire.fd(), POLLIN, 0};
        if (poll(&in, 1, 5000) == 0) server.close();  // then accept() comes back with nothing
    });
    auto connection = server.accept();
    if (!connection) return false;
    { const auto gone = std::move(connection); }  // its end wakes the waker
    waker.join();
    return true;
}

}  // namespace

TEST_CASE("close() from another thread wakes accept(), and it stays awake") {
    for (int round = 0; round < 20; ++round) {
        Server server(Addresses{"127.0.0.1:0", "127.0.0.1:0"});
        std::atomic<bool> something = false;
        Background waiting([&] { something = bool(server.accept()); });
        if (round % 2) CHECK(!waiting.over(5ms));
        server.close();
        waiting.join();
        CHECK(!something);
        CHECK(!server.accept());
        server.close();
        CHECK(connect_to(server.addresses().front()) < 0);
    }
}

TEST_CASE("stop() wakes accept() as well") {
    Server server(Addresses{"127.0.0.1:0"});
    Background waiting([&] { CHECK(!server.accept()); });
    CHECK(!waiting.over(5ms));
    server.stop();
    waiting.join();
}

TEST_CASE("connections live on when the server is closed") {
    Server server(Addresses{"127.0.0.1:0"});
    auto wire = dial(server);
    auto connection = server.accept();
    server.close();
    Server::Client client(std::move(connection));
    wire.send("QUIT\r\n");
    CHECK(!client.process());
    play(wire, "S: 220\nS: 221\nS: EOF");
}

TEST_CASE("accept() outlives a hundred children and their SIGCHLDs") {
    struct sigaction old {
    }, action{};
    static std::atomic<int> signals = 0;
    signals = 0;
    action.sa_handler = [](int) { ++signals; };  // no SA_RESTART: system calls are interrupted
    sigaction(SIGCHLD, &action, &old);
    {
        Server server(Addresses{"127.0.0.1:0"});
        std::atomic<pthread_t> self{};
        std::atomic<bool> ready = false, got = false;
        Background waiting([&] {
            self = pthread_self();
            ready = true;
            got = bool(server.accept());
        });
        while (!ready) std::this_thread::yield();
        for (int i = 0; i < 100; ++i) {
            CHECK(in_child([] { return 0; }) == 0);
            pthread_kill(self, SIGCHLD);  // whichever thread the system's own one went to
        }
        CHECK(signals >= 100);
        CHECK(!waiting.over(0ms));
        auto wire = dial(server);
        waiting.join();
        CHECK(got);
    }
    sigaction(SIGCHLD, &old, nullptr);
}

TEST_CASE("accept() takes no harm from connections that are gone before it looks") {
    auto o = brief();
    o.max_connections = 100;
    o.max_connections_per_ip = 100;
    Server server({"127.0.0.1:0"}, o);
    for (int i = 0; i < 20; ++i) dial(server).vanish();
    auto wire = dial(server);
    wire.send("QUIT\r\n");
    for (int i = 0; i < 21; ++i) {
        Server::Client client(server.accept());
        CHECK(!client.process());
    }
    play(wire, "S: 220\nS: 221\nS: EOF");
}

// Where a sanitizer looks at a vtable it needs descriptors of its own.
TEST_CASE("without descriptors accept() waits, without burning the processor, and goes on when there are some" *
          doctest::skip(sanitized)) {
    // In a child, so that the shortage is nobody else's.
    int pipe_fds[2];
    REQUIRE(pipe2(pipe_fds, O_CLOEXEC) == 0);
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        Server server(Addresses{"127.0.0.1:0"});
        const int next = dup(0);
        close(next);
        rlimit files{};
        getrlimit(RLIMIT_NOFILE, &files);
        static rlimit before;
        before = files;
        files.rlim_cur = rlim_t(next);
        if (setrlimit(RLIMIT_NOFILE, &files) != 0) _exit(3);
        signal(SIGALRM, [](int) { setrlimit(RLIMIT_NOFILE, &before); });
        const itimerval half{{0, 0}, {0, 500'000}};
        const auto port = server.port();
        if (write(pipe_fds[1], &port, sizeof port) != sizeof port) _exit(3);
        pollfd in{-1, 0, 0};
        poll(&in, 1, 100);  // the parent connects
        setitimer(ITIMER_REAL, &half, nullptr);
        const auto began = Clock::now();
        const auto cpu = clock();
        const bool got = bool(server.accept());
        const auto took = Clock::now() - began;
        _exit(!got ? 4 : took < 300ms ? 5 : took > 5s ? 6 : clock() - cpu > CLOCKS_PER_SEC / 4 ? 7 : 0);
    }
    std::uint16_t port = 0;
    close(pipe_fds[1]);
    REQUIRE(read(pipe_fds[0], &port, sizeof port) == sizeof port);
    close(pipe_fds[0]);
    auto wire = dial(Endpoint{"127.0.0.1", port});
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

// ---- forked children ----

TEST_CASE("whatever forked children do to their copies, the parent goes on accepting") {
    Folder folder;
    const auto path = folder / "socket";
    Server server(Addresses{"127.0.0.1:0", "unix:" + path});
    const auto tcp = server.addresses()[0], local = server.addresses()[1];
    for (int i = 0; i < 100; ++i) {
        const int code = in_child([&] {
            switch (i % 4) {
                case 0: server.close(); break;
                case 1: server.~Server(); break;
                case 2: server.stop(); break;
                case 3: server.close(), server.~Server(); break;
            }
            return 0;
        });
        CHECK(code == 0);
    }
    CHECK(access(path.c_str(), F_OK) == 0);
    CHECK(serving(server, tcp));
    CHECK(serving(server, local));
    Background waiting([&] { CHECK(!server.accept()); });
    CHECK(!waiting.over(50ms));
    server.close();
    waiting.join();
    CHECK(access(path.c_str(), F_OK) != 0);
}

TEST_CASE("in a child accept() gives nothing after close(), and the parent's connection is the child's to serve") {
    Server server(Addresses{"127.0.0.1:0"});
    auto wire = dial(server);
    {
        auto connection = server.accept();
        const pid_t child = fork();
        if (child == 0) {
            alarm(20);
            server.close();
            if (server.accept()) _exit(2);
            {
                Server::Client client(std::move(connection));
                while (client.process()) client.accept();
            }
            _exit(0);
        }
        // Here the parent's copy ends, and sends and shuts down nothing.
        connection = Connection();
        play(wire, std::string(opening) + "C: DATA\nS: 354\nC: x\nC: .\nS: 250\nC: QUIT\nS: 221\nS: EOF");
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(status == 0);
    }
    CHECK(serving(server, server.addresses().front()));
}

TEST_CASE("forked() keeps a connection's place until reaped()") {
    for (const bool per_ip : {false, true}) {
        auto o = brief();
        (per_ip ? o.max_connections_per_ip : o.max_connections) = 2;
        Server server({"127.0.0.1:0"}, o);
        // Whether somebody who comes now is welcome; he is gone at once.
        auto welcome = [&] {
            auto wire = dial(server);
            wire.send("QUIT\r\n");
            wire.end();
            Server::Client client(server.accept());
            CHECK(!client.process());
            return wire.reply().starts_with("220");
        };
        std::vector<Wire> wires;
        for (const int pid : {1001, 1002}) {
            wires.push_back(dial(server));
            auto connection = server.accept();
            server.forked(pid, connection);
        }
        CHECK(!welcome());
        server.reaped(9999);
        CHECK(!welcome());
        server.reaped(1001);
        CHECK(welcome());
        CHECK(welcome());
        server.reaped(1001);
        server.reaped(1002);
        CHECK(welcome());
    }
}

TEST_CASE("without limits forked() and reaped() have nothing to count") {
    Server server(Addresses{"127.0.0.1:0"});
    auto wire = dial(server);
    auto connection = server.accept();
    server.forked(1001, connection);
    server.reaped(1001);
    CHECK(connection);
}

TEST_CASE("a pid that comes again before it was reaped does not lock anything up") {
    CHECK(in_child(
              [] {
                  auto o = brief();
                  o.max_connections = 10;
                  Server server({"127.0.0.1:0"}, o);
                  std::vector<Wire> wires;
                  for (int i = 0; i < 2; ++i) {
                      wires.push_back(dial(server));
                      auto connection = server.accept();
                      server.forked(1001, connection);
                  }
                  server.reaped(1001);
                  return 0;
              },
              5) == 0);
}
