// connection -- a connected descriptor by itself: lines, limits, deadlines, and its end.
#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <random>
#include <system_error>

#include "peer.hpp"

#include <doctest/doctest.h>

using namespace test;
using Got = Connection::Got;

namespace {

// A connection and the test's end of it.
struct Pair {
    explicit Pair(int type = SOCK_STREAM) : wire(-1) {
        const auto [ours, theirs] = socket_pair(type);
        wire = Wire(ours);
        connection = Connection(theirs);
    }
    // The next line, or what came instead: "(end)", "(timeout)", "(too long)".
    std::string line(std::size_t limit = 100, bool lf = false, std::chrono::milliseconds within = patience) {
        std::string_view text;
        switch (connection.read_line(text, limit, Clock::now() + within, lf)) {
            case Got::data: return std::string(text);
            case Got::end: return "(end)";
            case Got::timeout: return "(timeout)";
            case Got::stopped: return "(stopped)";
            case Got::woken: return "(woken)";
            case Got::too_long: return "(too long)";
        }
        return "?";
    }
    std::string octets(std::size_t most, std::chrono::milliseconds within = patience) {
        std::string out(most, '\0');
        std::size_t got = 0;
        if (connection.receive(out.data(), most, got, Clock::now() + within) != Got::data) return "(none)";
        out.resize(got);
        return out;
    }
    Wire wire;
    Connection connection;
};

int error_of(int fd) {
    try {
        Connection connection(fd);
    } catch (const std::system_error& e) {
        return e.code().value();
    }
    return 0;
}

Deadline soon() { return Clock::now() + patience; }

}  // namespace

TEST_CASE("what is not open or not connected is refused, and closed") {
    CHECK(error_of(-1) == EBADF);
    CHECK(error_of(100'000) == EBADF);
    for (const int fd : {open("/etc/passwd", O_RDONLY | O_CLOEXEC), open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                         socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)}) {
        CAPTURE(fd);
        REQUIRE(fd >= 0);
        CHECK(error_of(fd) == ENOTCONN);
        CHECK(fcntl(fd, F_GETFD) < 0);
    }
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    CHECK_THROWS_AS(Connection(ends[0], -1), std::system_error);
    CHECK(fcntl(ends[0], F_GETFD) < 0);
    close(ends[1]);
}

TEST_CASE("a descriptor is owned, moves, and is closed by its scope") {
    const auto [ours, theirs] = socket_pair();
    Wire wire(ours);
    {
        fcntl(theirs, F_SETFD, 0);
        Connection a(theirs);
        CHECK((fcntl(theirs, F_GETFD) & FD_CLOEXEC) != 0);
        CHECK(a.fd() == theirs);
        wire.send("one\r\ntwo\r\n");
        std::string_view line;
        CHECK(a.read_line(line, 100, soon()) == Got::data);
        CHECK(line == "one");
        Connection b(std::move(a));
        CHECK(!a);
        CHECK(b);
        CHECK(b.read_line(line, 100, soon()) == Got::data);
        CHECK(line == "two");
        Connection c;
        CHECK(!c);
        b.out() += "kept";
        c = std::move(b);
        CHECK(c.flush(soon()));
        CHECK(wire.receive() == "kept");
        c.close();
        CHECK(!c);
    }
    wire.expect_end();
    CHECK(fcntl(theirs, F_GETFD) < 0);
}

TEST_CASE("the destructor sends nothing that was not flushed") {
    auto pair = std::make_unique<Pair>();
    auto wire = std::move(pair->wire);
    pair->connection.out() += "never sent";
    pair.reset();
    wire.expect_end();
}

TEST_CASE("both ends of a connection have names, where the system knows any") {
    Pair pair;
    CHECK(pair.connection.peer().local());
    Server server("127.0.0.1", 0);
    auto wire = dial(server);
    auto connection = server.accept();
    sockaddr_in mine{};
    socklen_t size = sizeof mine;
    getsockname(wire.fd(), reinterpret_cast<sockaddr*>(&mine), &size);
    CHECK(connection.peer() == Endpoint{"127.0.0.1", ntohs(mine.sin_port)});
    CHECK(connection.local() == server.addresses().front());
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    Connection pipes(ends[0], ends[1]);
    CHECK(pipes.peer().str().empty());
    CHECK(pipes.local().str().empty());
}

TEST_CASE("a line ends in CRLF, or where it is allowed in LF") {
    Pair pair;
    pair.wire.send("a\r\n\r\nb\nc\rd\r\r\n");
    CHECK(pair.line() == "a");
    CHECK(pair.line() == "");
    CHECK(pair.line() == "b\nc\rd\r");
    pair.wire.send("a\nb\r\n\n");
    CHECK(pair.line(100, true) == "a");
    CHECK(pair.line(100, true) == "b");
    CHECK(pair.line(100, true) == "");
    pair.wire.send("half");
    pair.wire.end();
    CHECK(pair.line() == "(end)");
    CHECK(pair.line() == "(end)");
}

TEST_CASE("a line may have as many octets as the limit says, with its CRLF") {
    for (const std::size_t limit : {512, 1022, 1023, 1024, 1025, 4096, 5000}) {
        for (const bool at_once : {true, false}) {
            CAPTURE(limit);
            Pair pair;
            for (const std::size_t length : {limit - 1, limit, limit + 1, 5 * limit, limit}) {
                const auto text = std::string(length - 2, 'x') + "\r\n";
                Background sender([&] {
                    if (at_once) pair.wire.send(text);
                    else
                        for (std::size_t i = 0; i < text.size(); i += 100)
                            pair.wire.send_alone(std::string_view(text).substr(i, 100));
                });
                CHECK(pair.line(limit) == (length > limit ? "(too long)" : text.substr(0, length - 2)));
                sender.join();
            }
            pair.wire.send("next\r\n");
            CHECK(pair.line(limit) == "next");
        }
    }
}

TEST_CASE("of a line that is too long the front is told, however it is cut") {
    std::mt19937 random(5321);
    const std::size_t limit = 40;
    for (int turn = 0; turn < 300; ++turn) {
        CAPTURE(turn);
        std::string text;
        while (text.size() < 200) text += "xy\r\n"[random() % (text.size() % 50 == 0 ? 2 : 4)];
        text += "\r\n";
        Pair pair;
        Background sender([&, seed = random()] {
            std::mt19937 cuts(seed);
            for (std::size_t at = 0, n = 0; at < text.size(); at += n) {
                n = 1 + cuts() % 60;
                pair.wire.send_alone(std::string_view(text).substr(at, n));
            }
        });
        for (std::size_t at = 0; at < text.size();) {
            const auto end = text.find("\r\n", at);
            const auto whole = text.substr(at, end - at);
            at = end + 2;
            std::string_view line;
            const auto got = pair.connection.read_line(line, limit, soon());
            CHECK(got == (whole.size() + 2 > limit ? Got::too_long : Got::data));
            if (got == Got::data) CHECK((line == whole));
            else CHECK((line.size() >= 16 && whole.starts_with(line)));
        }
        sender.join();
    }
}

TEST_CASE("a deadline is absolute: what comes meanwhile does not move it") {
    Pair pair;
    const auto began = Clock::now();
    CHECK(pair.line(100, false, 0ms) == "(timeout)");
    CHECK(pair.line(100, false, 50ms) == "(timeout)");
    CHECK(Clock::now() - began >= 50ms);
    std::atomic<bool> end = false;
    Background sender([&] {
        while (!end) {
            pair.wire.send("x");
            std::this_thread::sleep_for(20ms);
        }
    });
    const auto dripping = Clock::now();
    CHECK(pair.line(100'000, false, 300ms) == "(timeout)");
    CHECK(Clock::now() - dripping < 2s);
    end = true;
    sender.join();
    // What is there already is given even when the time is over.
    Pair ready;
    ready.wire.send("a\r\nb\r\n");
    CHECK(ready.line() == "a");
    CHECK(ready.line(100, false, -1s) == "b");
}

TEST_CASE("receive() gives what is there, and unread() puts it back") {
    Pair pair;
    pair.wire.send("one\r\ntwo\r\n");
    CHECK(pair.line() == "one");
    CHECK(pair.connection.buffered() == "two\r\n");
    CHECK(pair.octets(3) == "two");
    pair.connection.unread("two");
    CHECK(pair.octets(100) == "two\r\n");
    pair.wire.send("raw");
    CHECK(pair.octets(100) == "raw");
    pair.connection.unread("");
    const std::string much(100'000, 'y');
    pair.connection.unread("tail");
    pair.connection.unread(much);
    CHECK(pair.connection.buffered().size() == much.size() + 4);
    pair.connection.consume(much.size());
    pair.wire.send("\r\n");
    CHECK(pair.line() == "tail");
    CHECK(pair.octets(100, 20ms) == "(none)");
    pair.wire.end();
    CHECK(pair.octets(100) == "(none)");
}

TEST_CASE("output gathers, and leaves before the next wait for input") {
    Pair pair(SOCK_SEQPACKET);
    pair.connection.out() += "one ";
    pair.connection.out() += "two";
    pair.wire.expect_silence(30ms);
    CHECK(pair.line(100, false, 0ms) == "(timeout)");
    CHECK(pair.wire.receive() == "one two");
    pair.connection.out() += "before ";
    CHECK(pair.connection.send("behind", soon()));
    CHECK(pair.wire.receive() == "before ");
    CHECK(pair.wire.receive() == "behind");
    // Nothing is sent while there is input to be worked on.
    pair.wire.send("a\r\nb\r\n");
    CHECK(pair.line() == "a");
    pair.connection.out() += "reply";
    CHECK(pair.line() == "b");
    pair.wire.expect_silence(30ms);
}

TEST_CASE("a peer that is gone or takes nothing breaks the output, and nothing else") {
    Pair gone;
    gone.wire.close();
    CHECK(!gone.connection.send("x", soon()));
    CHECK(gone.connection.broken());
    CHECK(gone.connection.peer_gone());
    gone.connection.out() += "x";
    CHECK(!gone.connection.flush(soon()));
    CHECK(gone.line() == "(end)");

    Pair deaf;
    const std::string much(4 << 20, 'x');
    const auto began = Clock::now();
    CHECK(!deaf.connection.send(much, Clock::now() + 200ms));
    CHECK(Clock::now() - began < 3s);
    CHECK(deaf.connection.broken());
}

TEST_CASE("peer_gone() looks, and reads nothing") {
    Pair pair;
    CHECK(!pair.connection.peer_gone());
    pair.wire.send("x\r\ny");
    CHECK(!pair.connection.peer_gone());
    CHECK(pair.line() == "x");
    pair.wire.end();
    CHECK(!pair.connection.peer_gone());  // something waits to be read
    CHECK(pair.octets(10) == "y");
    CHECK(pair.connection.peer_gone());
    Server server("127.0.0.1", 0);
    auto wire = dial(server);
    auto connection = server.accept();
    CHECK(!connection.peer_gone());
    wire.vanish();
    for (const auto end = Clock::now() + patience; !connection.peer_gone() && Clock::now() < end;)
        std::this_thread::yield();
    CHECK(connection.peer_gone());
}

TEST_CASE("finish() sends what is left, waits for the other side's end, and not for ever") {
    {
        Pair pair;
        pair.connection.out() += "last words";
        Background finishing([&] { pair.connection.finish(true); });
        CHECK(pair.wire.receive() == "last words");
        pair.wire.expect_end();
        CHECK(!finishing.over(50ms));
        pair.wire.send("waste");
        pair.wire.close();
        finishing.join(1s);
        CHECK(!pair.connection);
    }
    {
        Pair pair;
        const auto began = Clock::now();
        pair.connection.finish(false);
        CHECK(Clock::now() - began < 500ms);
    }
    {
        Pair pair;
        std::atomic<bool> end = false;
        Background flood([&] {
            while (!end && pair.wire.send(std::string(1000, 'x'))) {
            }
        });
        const auto began = Clock::now();
        pair.connection.finish(true);
        CHECK(Clock::now() - began < 4s);
        end = true;
    }
}

TEST_CASE("unread input does not make finish() a reset") {
    Server server("127.0.0.1", 0);
    for (const bool politely : {true, false}) {
        auto wire = dial(server);
        auto connection = server.accept();
        wire.send(std::string(30'000, 'x'));
        std::string_view line;
        CHECK(connection.read_line(line, 100, Clock::now() + 100ms) == Got::timeout);
        connection.out() += "last words\r\n";
        Background finishing([&] { connection.finish(politely); });
        CHECK(wire.line() == "last words");
        wire.expect_end();
        wire.close();
        finishing.join();
    }
}

TEST_CASE("input and output may be two pipes") {
    int in[2], out[2];
    REQUIRE(pipe2(in, O_CLOEXEC) == 0);
    REQUIRE(pipe2(out, O_CLOEXEC) == 0);
    Connection connection(in[0], out[1]);
    REQUIRE(write(in[1], "a\r\nb", 4) == 4);
    std::string_view line;
    CHECK(connection.read_line(line, 100, soon()) == Got::data);
    CHECK(line == "a");
    CHECK(connection.read_line(line, 100, Clock::now() + 30ms) == Got::timeout);
    CHECK(!connection.peer_gone());
    connection.out() += std::string(3000, 'x');
    CHECK(connection.flush(soon()));
    char octets[4000];
    CHECK(read(out[0], octets, sizeof octets) > 0);
    // More than the pipe holds, and nobody reads: a deadline helps.
    CHECK(!connection.send(std::string(1 << 20, 'x'), Clock::now() + 100ms));
    close(in[1]);
    CHECK(connection.read_line(line, 100, soon()) == Got::end);
    CHECK(connection.peer_gone());
    close(out[0]);
}

TEST_CASE("a whole session runs over two pipes") {
    int in[2], out[2];
    REQUIRE(pipe2(in, O_CLOEXEC) == 0);
    REQUIRE(pipe2(out, O_CLOEXEC) == 0);
    const std::string script = "EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n";
    REQUIRE(write(in[1], script.data(), script.size()) == ssize_t(script.size()));
    close(in[1]);
    {
        Server::Client client(Connection(in[0], out[1]));
        CHECK(client.peer().str().empty());
        REQUIRE(client.process());
        CHECK(client.MSG.view() == "x\r\n");
        client.accept();
        CHECK(!client.process());
    }
    std::string heard;
    char octets[4000];
    for (ssize_t n; (n = read(out[0], octets, sizeof octets)) > 0;) heard.append(octets, std::size_t(n));
    close(out[0]);
    CHECK(heard.find("\r\n354 ") != heard.npos);
    CHECK(heard.find("\r\n221 ") != heard.npos);
}

TEST_CASE("a pipe whose reader has gone ends the session, not the program") {
    // In a child: SIGPIPE would end this one.
    const pid_t child = fork();
    if (child == 0) {
        alarm(10);
        signal(SIGPIPE, SIG_DFL);
        int in[2], out[2];
        if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) _exit(3);
        close(out[0]);
        {
            Server::Client client(Connection(in[0], out[1]));
            if (client.process()) _exit(4);
        }
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

TEST_CASE("connecting to where nobody is fails with the endpoint's name, and in time") {
    Endpoint where;
    {
        Server server("127.0.0.1", 0);
        where = server.addresses().front();
    }
    for (const auto& e : {where, Endpoint{"/nonexistent/socket", 0}}) {
        try {
            Connection::connect(e, soon());
            FAIL("it connected");
        } catch (const std::system_error& error) {
            CHECK(std::string(error.what()).find(e.str()) != std::string::npos);
            CHECK((error.code().value() == ECONNREFUSED || error.code().value() == ENOENT));
        }
    }
    Server server("127.0.0.1", 0);
    auto connection = Connection::connect(server.addresses().front(), soon());
    CHECK(connection.peer() == server.addresses().front());
    auto other = server.accept();
    other.out() += "hello\r\n";
    CHECK(other.flush(soon()));
    std::string_view line;
    CHECK(connection.read_line(line, 100, soon()) == Got::data);
    CHECK(line == "hello");
}
