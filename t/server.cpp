// server -- where a server listens, what it says when it can't, and what it leaves behind.
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>
#include <system_error>

#include "dialogue.hpp"

using namespace test;

namespace {

const bool has_v6 = [] {
    try {
        Server server(Addresses{"[::1]:0"});
        return true;
    } catch (const std::system_error&) {
        MESSAGE("no IPv6 here: its tests are left out");
        return false;
    }
}();

// Somebody can connect to `e`, and the server gets him.
void serves(Server& server, const Endpoint& e) {
    CAPTURE(e.str());
    auto wire = dial(e);
    pollfd in{wire.fd(), POLLIN, 0};
    for (int others = 0; others < 3 && poll(&in, 1, 0) == 0; ++others) {  // who looked before us whether it is alive
        auto connection = server.accept();
        REQUIRE(connection);
        CHECK(connection.local().host == (e.host == "::" ? "::1" : e.host));
        CHECK(connection.local().port == e.port);
        wire.end();
        Server::Client client(std::move(connection));
        client.reject({554, "5.3.2", "seen"});
        CHECK(!client.process());
    }
    wire.expect("554 5.3.2 seen");
}

// What a Server throws for these addresses; {} when it listens.
struct Thrown {
    std::string what;
    int error = 0;
    bool invalid = false;
};
Thrown thrown(const std::vector<std::string>& addresses) {
    try {
        Server server(addresses);
    } catch (const std::system_error& e) {
        return {e.what(), e.code().value()};
    } catch (const std::invalid_argument& e) {
        return {e.what(), 0, true};
    } catch (const std::exception& e) {
        return {e.what()};
    }
    return {};
}

int listening(int backlog = 5) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof any) == 0);
    REQUIRE(listen(fd, backlog) == 0);
    return fd;
}

bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace

TEST_CASE("a server listens on an address, a name, or everywhere") {
    for (const std::string host : {"127.0.0.1", "localhost", "::1", "", "::"}) {
        if (!has_v6 && host == "::1") continue;
        CAPTURE(host);
        Server server(host, 0);
        CHECK(server.port() > 0);
        CHECK(!server.address().empty());
        for (const auto& e : server.addresses()) {
            CHECK(e.port == server.port());
            serves(server, e);
        }
    }
    for (const std::string address : {"127.0.0.1:0", "localhost:0", "[::1]:0", "[::]:0", ":0"}) {
        if (!has_v6 && address == "[::1]:0") continue;
        CAPTURE(address);
        Server server(Addresses{address});
        serves(server, server.addresses().front());
    }
}

TEST_CASE("everywhere is both kinds, and an IPv4 client has an IPv4 address") {
    Server server("", 0);
    auto wire = dial(Endpoint{"127.0.0.1", server.port()});
    const auto connection = server.accept();
    CHECK(connection.peer().host == "127.0.0.1");
    CHECK(connection.peer().port > 0);
    CHECK(connection.local().host == "127.0.0.1");
    if (!has_v6) return;
    auto other = dial(Endpoint{"::1", server.port()});
    CHECK(server.accept().peer().host == "::1");
}

TEST_CASE("a server listens on several, and serves each") {
    Folder folder;
    std::vector<std::string> all{"127.0.0.1:0", "unix:" + folder / "socket", "127.0.0.1:0"};
    if (has_v6) all.push_back("[::1]:0");
    Server server(all);
    REQUIRE(server.addresses().size() == all.size());
    CHECK(server.addresses()[1].str() == all[1]);
    CHECK(server.addresses()[0].port != server.addresses()[2].port);
    for (int round = 0; round < 2; ++round)
        for (const auto& e : server.addresses()) serves(server, e);
    // None starves while others are busy.
    std::vector<Wire> waiting;
    for (int i = 0; i < 5; ++i) waiting.push_back(dial(server.addresses()[0]));
    waiting.push_back(dial(server.addresses()[2]));
    bool got = false;
    for (int i = 0; i < 3 && !got; ++i) got = server.accept().local() == server.addresses()[2];
    CHECK(got);
}

TEST_CASE("what can't be listened on is named, with the system's word for it") {
    Server first(Addresses{"127.0.0.1:0"});
    const auto taken = thrown({first.address()});
    CHECK(taken.error == EADDRINUSE);
    CHECK(taken.what.find(first.address()) != std::string::npos);
    CHECK(taken.what.find(std::strerror(EADDRINUSE)) != std::string::npos);

    const auto foreign = thrown({"192.0.2.1:0"});
    CHECK(foreign.error == EADDRNOTAVAIL);
    CHECK(foreign.what.find("192.0.2.1") != std::string::npos);

    const auto far = thrown({"unix:/nonexistent/folder/socket"});
    CHECK(far.error == ENOENT);
    CHECK(far.what.find("/nonexistent/folder/socket") != std::string::npos);
    CHECK(thrown({"unix:/" + std::string(200, 'x')}).error == ENAMETOOLONG);

    CHECK(thrown({"fd:999"}).error == EBADF);
    CHECK(thrown({"fd:999"}).what.find("fd:999") != std::string::npos);
}

TEST_CASE("an address that is none is a mistake of the program, and is named") {
    for (const std::string bad : {"127.0.0.1:99999", "127.0.0.1:x", "127.0.0.1:", "::1:25", "[::1", "[nonsense]:25",
                                  "two words:25", "unix:relative", "unix:", "fd:", "fd:x", "fd:-1", "fd:3x", "a\nb:25",
                                  "127.0.0.1:-1", "127.0.0.1:+25", "127.0.0.1:25 "}) {
        CAPTURE(bad);
        const auto t = thrown({bad});
        CHECK(t.invalid);
        CHECK(t.what.find(bad) != std::string::npos);
    }
    CHECK(thrown({}).invalid);
}

TEST_CASE("a server that can't listen on one of several leaves nothing of the others") {
    Folder folder;
    Server first(Addresses{"127.0.0.1:0"});
    const auto free = [] {
        Server s(Addresses{"127.0.0.1:0"});
        return s.address();
    }();
    CHECK(thrown({"unix:" + folder / "socket", free, first.address()}).error == EADDRINUSE);
    CHECK(!exists(folder / "socket"));
    CHECK(thrown({free}).what.empty());
}

TEST_CASE("after the end of its scope nobody can connect") {
    Endpoint where;
    {
        Server server(Addresses{"127.0.0.1:0"});
        where = server.addresses().front();
        dial(where);
    }
    CHECK(connect_to(where) < 0);
    CHECK(errno == ECONNREFUSED);
}

TEST_CASE("a server may listen on the port of one that has just ended") {
    std::string address;
    {
        Server server(Addresses{"127.0.0.1:0"});
        address = server.address();
        auto wire = dial(server);
        server.accept();  // the server closes first: its end is in TIME_WAIT
    }
    CHECK(thrown({address}).what.empty());
}

TEST_CASE("accept() says nothing to the peer, and neither does letting him go") {
    Server server(Addresses{"127.0.0.1:0"});
    auto wire = dial(server);
    {
        const auto connection = server.accept();
        CHECK(connection.peer().host == "127.0.0.1");
        wire.expect_silence();
    }
    wire.expect_end();
}

// ---- Unix sockets ----

TEST_CASE("a Unix socket's path goes with the server") {
    Folder folder;
    const auto path = folder / "socket";
    {
        Server server("unix:" + path, 0);
        CHECK(server.address() == "unix:" + path);
        CHECK(server.port() == 0);
        serves(server, server.addresses().front());
        CHECK(exists(path));
        auto wire = dial(server);
        const auto c = server.accept();
        CHECK(c.peer().local());
        CHECK(c.local().host == path);
        server.close();
        CHECK(!exists(path));
    }
    CHECK(!exists(path));
}

TEST_CASE("a stale Unix socket is replaced, a living one and any other file are not") {
    Folder folder;
    const auto path = folder / "socket";
    {
        const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_un un{};
        un.sun_family = AF_UNIX;
        std::strcpy(un.sun_path, path.c_str());
        REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&un), sizeof un) == 0);
        close(fd);
        REQUIRE(exists(path));
    }
    Server server(Addresses{"unix:" + path});
    serves(server, server.addresses().front());
    CHECK(thrown({"unix:" + path}).error == EADDRINUSE);
    serves(server, server.addresses().front());

    std::ofstream(folder / "file") << "mine";
    CHECK(thrown({"unix:" + folder / "file"}).error == EADDRINUSE);
    CHECK(std::filesystem::file_size(folder / "file") == 4);
}

TEST_CASE("a file that somebody else put where the socket was stays") {
    Folder folder;
    const auto path = folder / "socket";
    {
        Server server(Addresses{"unix:" + path});
        unlink(path.c_str());
        std::ofstream(path) << "not yours";
    }
    CHECK(exists(path));
    unlink(path.c_str());
    Server old(Addresses{"unix:" + path});
    unlink(path.c_str());
    Server young(Addresses{"unix:" + path});
    old.close();
    CHECK(exists(path));
    serves(young, young.addresses().front());
}

// ---- inherited descriptors ----

TEST_CASE("an inherited descriptor is served, and not shut down for whoever shares it") {
    const int fd = listening();
    const int shared = dup(fd);
    {
        Server server(Addresses{"fd:" + std::to_string(fd)});
        CHECK(server.port() > 0);
        CHECK(server.addresses().front().host == "127.0.0.1");
        serves(server, server.addresses().front());
        CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        const auto where = server.addresses().front();
        server.stop();
        server.close();
        CHECK(fcntl(fd, F_GETFD) < 0);
        auto wire = dial(where);
        pollfd in{shared, POLLIN, 0};
        CHECK(poll(&in, 1, 5000) == 1);
    }
    close(shared);
}

TEST_CASE("a descriptor that does not listen is refused") {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(thrown({"fd:" + std::to_string(fd)}).error == EINVAL);
    close(fd);
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(thrown({"fd:" + std::to_string(null)}).error == ENOTSOCK);
    close(null);
}

TEST_CASE("socket activation is believed only when it is meant for this process") {
    auto with = [](const std::string& pid, const std::string& fds) {
        setenv("LISTEN_PID", pid.c_str(), 1);
        setenv("LISTEN_FDS", fds.c_str(), 1);
        const auto found = Server::activated();
        unsetenv("LISTEN_PID");
        unsetenv("LISTEN_FDS");
        return found;
    };
    const auto me = std::to_string(getpid());
    CHECK(Server::activated().empty());
    CHECK(with(me, "2") == std::vector<std::string>{"fd:3", "fd:4"});
    CHECK(with("1", "2").empty());
    CHECK(with(me, "0").empty());
    CHECK(with(me, "-5").empty());
    CHECK(with(me, "x").empty());
}

TEST_CASE("an address that is not here is no address to be silent about, wherever it stands in a list") {
    for (const auto& list : {Addresses{"127.0.0.1:0", "192.0.2.1:0"}, Addresses{"192.0.2.1:0", "127.0.0.1:0"}})
        CHECK_THROWS_AS(Server(list, Options()), std::system_error);
}

TEST_CASE("braces hold a list of texts, or a host and a port") {
    const Server one{"127.0.0.1", 0}, list{"127.0.0.1:0", std::string("127.0.0.1:0")};
    CHECK(one.addresses().size() == 1);
    CHECK(list.addresses().size() == 2);
}
