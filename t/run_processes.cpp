// run_processes -- run() with a process for each client. The server is a process too, so that this one may have
// threads.
#include <signal.h>
#include <sys/wait.h>

#include "dialogue.hpp"

using namespace test;

namespace {

Server* stopped_by_signal = nullptr;
constexpr int refused = 77;

// A server in a process of its own; SIGTERM stops it.
class Process {
public:
    explicit Process(Server::Handler handler, Server::Run how = {}, Options o = brief()) {
        how.mode = Server::Mode::process;
        int ready[2];
        if (pipe2(ready, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
        std::fflush(nullptr);  // a child must not say again what waits here
        pid = fork();
        if (pid == 0) {
            alarm(60);
            int code = 1;
            try {
                Server server(Addresses{"127.0.0.1:0"}, o);
                stopped_by_signal = &server;
                signal(SIGTERM, [](int) { stopped_by_signal->stop(); });
                const auto port = server.port();
                if (write(ready[1], &port, sizeof port) != sizeof port) _exit(2);
                server.run(handler, how);
                code = 0;
            } catch (const std::logic_error&) {
                code = refused;
            } catch (...) {
            }
            _exit(code);
        }
        close(ready[1]);
        address.host = "127.0.0.1";
        const bool told = read(ready[0], &address.port, sizeof address.port) == sizeof address.port;
        close(ready[0]);
        if (!told) throw std::runtime_error("the server's process has gone");
    }
    ~Process() {
        if (pid > 0) stop(SIGKILL);
    }
    // How it ended: as wait(2) says.
    int stop(int signal = SIGTERM) {
        kill(pid, signal);
        return ended();
    }
    int ended() {
        int status = -1;
        for (const auto end = Clock::now() + patience; waitpid(pid, &status, WNOHANG) == 0;
             std::this_thread::sleep_for(5ms))
            if (Clock::now() > end) kill(pid, SIGKILL);
        pid = -1;
        return status;
    }
    // Whether it can run at all: a sanitizer may keep a thread of its own, and then run(process) rightly refuses.
    bool runs() {
        const int fd = connect_to(address);
        Wire wire(fd);
        pollfd in{fd, POLLIN, 0};
        if (fd >= 0 && poll(&in, 1, 5000) == 1 && wire.receive().starts_with("220")) return true;
        const int status = ended();
        REQUIRE(WIFEXITED(status));
        REQUIRE(WEXITSTATUS(status) == refused);
        MESSAGE("run(process) does not run here: left out");
        return false;
    }

    pid_t pid = -1;
    Endpoint address;
};

// A connection that is greeted with 220: the one that asked whether it runs may still hold its place.
Wire welcomed(const Endpoint& address) {
    for (const auto end = Clock::now() + patience; Clock::now() < end;) {
        auto wire = dial(address);
        if (wire.reply().starts_with("220")) return wire;
    }
    throw std::runtime_error("nobody is welcome");
}

const std::string hello = "S: 220\nC: EHLO me\nS: 250\n";
const std::string mail = "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: x\nC: .\n";
const std::string farewell = "C: QUIT\nS: 221\nS: EOF";

// Answers with the number of the process it runs in.
void tell_pid(Server::Client& c) { c.accept({250, "2.0.0", std::to_string(getpid())}); }

pid_t pid_of(Wire& wire) {
    play(wire, mail);
    const auto reply = wire.expect("250 2.0.0 ");
    return std::stoi(reply.substr(10));
}

bool gone(pid_t pid, std::chrono::milliseconds within = 5s) {
    for (const auto end = Clock::now() + within; kill(pid, 0) == 0; std::this_thread::sleep_for(5ms))
        if (Clock::now() > end) return false;
    return true;
}

}  // namespace

TEST_CASE("each client has a process of its own, which is reaped when it ends") {
    Process server(tell_pid);
    if (!server.runs()) return;
    auto one = dial(server.address), two = dial(server.address);
    play(one, hello);
    play(two, hello);
    const auto first = pid_of(one), second = pid_of(two);
    CHECK(first != second);
    CHECK(first != server.pid);
    CHECK(pid_of(one) == first);
    play(one, farewell);
    CHECK(gone(first));
    CHECK(pid_of(two) == second);
    play(two, farewell);
    CHECK(server.stop() == 0);
    CHECK(gone(second));
}

TEST_CASE("a killed child costs its own client the connection, and nobody else anything") {
    Process server(tell_pid, {.limit = 2});
    if (!server.runs()) return;
    auto one = welcomed(server.address), two = welcomed(server.address);
    play(one, "C: EHLO me\nS: 250\n");
    play(two, "C: EHLO me\nS: 250\n");
    const auto first = pid_of(one), second = pid_of(two);
    kill(first, SIGKILL);
    one.expect_end();
    CHECK(gone(first));
    auto three = welcomed(server.address);  // its place is free again
    play(three, "C: EHLO me\nS: 250\n");
    CHECK(pid_of(two) == second);
    play(three, farewell);
    play(two, farewell);
    CHECK(server.stop() == 0);
}

TEST_CASE("children over the limit are 421") {
    auto o = brief();
    Process server(tell_pid, {.limit = 1}, o);
    if (!server.runs()) return;
    auto one = dial(server.address);
    // The one that asked whether it runs has to be reaped first.
    for (const auto end = Clock::now() + patience; Clock::now() < end; one = dial(server.address))
        if (one.reply().starts_with("220")) break;
    auto two = dial(server.address);
    play(two, "S: 421 4.3.2\nS: EOF");
    two.close();
    play(one, "C: EHLO me\nS: 250\n" + mail + "S: 250\n" + farewell);
    CHECK(server.stop() == 0);
}

TEST_CASE("a stranger who is turned away does not keep the others waiting") {
    Process server(tell_pid, {.limit = 2});
    if (!server.runs()) return;
    std::vector<Wire> wires;
    for (const auto end = Clock::now() + patience; wires.size() < 2 && Clock::now() < end;) {
        auto wire = dial(server.address);
        if (wire.reply().starts_with("220")) wires.push_back(std::move(wire));
    }
    REQUIRE(wires.size() == 2);
    std::vector<Wire> lingering;
    for (int i = 0; i < 4; ++i) lingering.push_back(dial(server.address));
    const auto began = Clock::now();
    for (auto& l : lingering) play(l, "S: 421 4.3.2");
    CHECK(Clock::now() - began < 1500ms);
    CHECK(server.stop() == 0);
}

TEST_CASE("connections are counted until their children are reaped") {
    auto o = brief();
    o.max_connections = 2;
    Process server(tell_pid, {}, o);
    if (!server.runs()) return;
    std::vector<Wire> wires;
    for (const auto end = Clock::now() + patience; wires.size() < 2 && Clock::now() < end;) {
        auto wire = dial(server.address);
        if (wire.reply().starts_with("220")) wires.push_back(std::move(wire));
    }
    REQUIRE(wires.size() == 2);
    auto more = dial(server.address);
    play(more, "S: 421 4.7.0\nS: EOF");
    more.close();
    play(wires[0], "C: QUIT\nS: 221\nS: EOF");
    bool welcome = false;
    for (const auto end = Clock::now() + patience; !welcome && Clock::now() < end;)
        welcome = dial(server.address).reply().starts_with("220");
    CHECK(welcome);
    CHECK(server.stop() == 0);
}

TEST_CASE("the drain reaches the children: idle ones hear 421, running mails end") {
    Process server(tell_pid);
    if (!server.runs()) return;
    auto idle = dial(server.address), sending = dial(server.address);
    play(idle, hello);
    play(sending, std::string(opening) + "C: DATA\nS: 354\nC: begun");
    kill(server.pid, SIGTERM);
    play(idle, "S: 421 4.3.2\nS: EOF");
    idle.close();
    play(sending, "C: ended\nC: .\nS: 250\nS: 421 4.3.2\nS: EOF");
    sending.close();
    CHECK(server.ended() == 0);
}

TEST_CASE("after the drain's time children are cut") {
    Process server(tell_pid, {.drain = 1s});
    if (!server.runs()) return;
    auto sending = dial(server.address);
    play(sending, std::string(opening) + "C: DATA\nS: 354\nC: begun");
    const auto began = Clock::now();
    CHECK(server.stop() == 0);
    CHECK(Clock::now() - began > 700ms);
    CHECK(Clock::now() - began < 5s);
    sending.expect_end();
}

TEST_CASE("a handler's exception in a child is 451, and the child goes on") {
    Process server([](Server::Client& c) {
        if (c.FROM.null()) throw std::runtime_error("secret");
        c.accept();
    });
    if (!server.runs()) return;
    auto wire = dial(server.address);
    play(wire, hello + "C: MAIL FROM:<>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 451 4.3.0\n" +
                   mail + "S: 250\n" + farewell);
    CHECK(wire.heard().find("secret") == std::string::npos);
    CHECK(server.stop() == 0);
}
