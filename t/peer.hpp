// peer -- the test's end of a connection, a thread that has to end, a folder that goes away.
#pragma once

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Test.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "sanitized.hpp"

namespace test {

using namespace Net::SMTP;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Addresses = std::vector<std::string>;

// How long anything may take that is to happen at once; much, because sanitizers are slow and machines busy.
constexpr int slower = sanitized ? 3 : 1;
constexpr auto patience = slower * 30s;

// A thread that has to end in time. What it throws comes out of join().
class Background {
public:
    Background() = default;
    template <class Work>
    explicit Background(Work work) {
        std::packaged_task<void()> task(std::move(work));
        ended_ = task.get_future();
        thread_ = std::thread(std::move(task));
    }
    Background(Background&&) = default;
    Background& operator=(Background&&) = default;
    ~Background() {
        try {
            join();
        } catch (...) {
        }
        if (thread_.joinable()) thread_.detach();  // the test has failed already
    }
    bool over(std::chrono::milliseconds within) const {
        return !ended_.valid() || ended_.wait_for(within) == std::future_status::ready;
    }
    void join(std::chrono::milliseconds within = 2 * patience) {
        if (!thread_.joinable()) return;
        if (!over(within)) throw std::runtime_error("a thread does not end");
        thread_.join();
        ended_.get();
    }

private:
    std::future<void> ended_;
    std::thread thread_;
};

using Test::escaped;
using Test::unescaped;

// The test's end of a connection: the kit's client, by names of its own.
class Wire : public Test::ScriptedClient {
public:
    template <class... Arguments>
    explicit Wire(Arguments&&... arguments) : ScriptedClient(std::forward<Arguments>(arguments)...) {
        patience = test::patience;
    }
    Wire(Wire&&) = default;
    Wire& operator=(Wire&&) = default;

    // The same as send(), and waits until the other side has it: then the next octets come in a segment of their own.
    bool send_alone(std::string_view octets) { return send(octets, Test::Pace::fixed(octets.size())); }
    void end() { half_close(); }
    void vanish() { reset(); }
};

inline std::pair<int, int> socket_pair(int type = SOCK_STREAM) {
    int fds[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0) throw std::runtime_error("socketpair");
    return {fds[0], fds[1]};
}

// Connects to a server of the test; -1 and errno when it can't.
inline int connect_to(const Endpoint& e) {
    sockaddr_storage storage{};
    socklen_t size = 0;
    if (e.local()) {
        auto& un = reinterpret_cast<sockaddr_un&>(storage);
        un.sun_family = AF_UNIX;
        std::memcpy(un.sun_path, e.host.c_str(), e.host.size() + 1);
        size = sizeof un;
    } else if (e.host.find(':') != e.host.npos) {
        auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(e.port);
        v6.sin6_addr = e.host == "::" ? in6addr_loopback : in6addr_any;
        if (e.host == "::1") v6.sin6_addr = in6addr_loopback;
        size = sizeof v6;
    } else {
        auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
        v4.sin_family = AF_INET;
        v4.sin_port = htons(e.port);
        v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        size = sizeof v4;
    }
    const int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, reinterpret_cast<sockaddr*>(&storage), size) == 0) return fd;
    const int error = errno;
    close(fd);
    errno = error;
    return -1;
}

inline Wire dial(const Endpoint& e) {
    const int fd = connect_to(e);
    if (fd < 0) throw std::runtime_error("connect to " + e.str() + ": " + std::strerror(errno));
    return Wire(fd);
}
inline Wire dial(const Server& server) { return dial(server.addresses().front()); }

// Waits for something other threads are about to bring about; false: it has not come.
template <class Condition>
bool eventually(Condition condition, std::chrono::milliseconds within = patience) {
    for (const auto end = Clock::now() + within; !condition(); std::this_thread::sleep_for(2ms))
        if (Clock::now() > end) return false;
    return true;
}

// To its end. In blocks: megabytes taken octet by octet last for seconds under a sanitizer.
inline std::string all_of(std::istream& in) {
    std::string all;
    char some[16384];
    do {
        in.read(some, sizeof some);
        all.append(some, std::size_t(in.gcount()));
    } while (in);
    return all;
}

// "" if there is no such file.
inline std::string content_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return all_of(in);
}

// A folder of the test's own, gone with everything in it when it ends.
class Folder {
public:
    Folder() : path(std::string("/tmp/check-XXXXXX")) {
        if (!mkdtemp(path.data())) throw std::runtime_error("mkdtemp");
    }
    ~Folder() { std::filesystem::remove_all(path); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    std::string operator/(const std::string& name) const { return path + '/' + name; }
    std::vector<std::string> names() const {
        std::vector<std::string> all;
        for (const auto& entry : std::filesystem::directory_iterator(path)) all.push_back(entry.path().filename());
        return all;
    }
    std::string path;
};

}  // namespace test
