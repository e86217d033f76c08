// peer -- the test's end of a connection, a thread that has to end, a folder that goes away.
#pragma once

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <Net/SMTP/Server.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace test {

using namespace Net::SMTP;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Addresses = std::vector<std::string>;

// How long anything may take that is to happen at once; much, because sanitizers are slow and machines busy.
constexpr auto patience = 10s;

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

// \r \n \t \0 \\ and \xHH.
inline std::string unescaped(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\' || i + 1 == text.size()) {
            out += text[i];
            continue;
        }
        const char c = text[++i];
        if (c == 'x' && i + 2 < text.size()) {
            out += char(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
            i += 2;
        } else {
            out += c == 'r' ? '\r' : c == 'n' ? '\n' : c == 't' ? '\t' : c == '0' ? '\0' : c;
        }
    }
    return out;
}

inline std::string escaped(std::string_view octets) {
    std::string out;
    for (unsigned char c : octets) {
        char hex[8];
        std::snprintf(hex, sizeof hex, "\\x%02x", c);
        out += c == '\r' ? "\\r" : c == '\n' ? "\\n" : c < 32 || c > 126 ? hex : std::string(1, char(c));
    }
    return out;
}

// The test's end of a connection. It remembers what was said; every wait ends.
class Wire {
public:
    explicit Wire(int fd) : fd_(fd) {}
    Wire(Wire&& other) noexcept
        : fd_(std::exchange(other.fd_, -1)),
          buffer_(std::move(other.buffer_)),
          heard_(std::move(other.heard_)),
          transcript_(std::move(other.transcript_)) {}
    Wire& operator=(Wire&& other) noexcept {
        std::swap(fd_, other.fd_);
        buffer_.swap(other.buffer_);
        heard_.swap(other.heard_);
        transcript_.swap(other.transcript_);
        return *this;
    }
    ~Wire() { close(); }

    int fd() const { return fd_; }
    const std::string& heard() const { return heard_; }
    const std::string& transcript() const { return transcript_; }

    [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(what + "\n" + transcript_); }

    // False when nobody takes it any more.
    bool send(std::string_view octets) {
        note("C: ", octets);
        const auto end = Clock::now() + patience;
        while (!octets.empty()) {
            const auto n = ::send(fd_, octets.data(), octets.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n > 0) {
                octets.remove_prefix(std::size_t(n));
            } else if (errno != EAGAIN && errno != EINTR) {
                note("-- ", std::strerror(errno));
                return false;
            } else if (pollfd out{fd_, POLLOUT, 0}; poll(&out, 1, left(end)) == 0) {
                fail("nobody reads what is sent");
            }
        }
        return true;
    }
    bool say(const std::string& line) { return send(line + "\r\n"); }

    // The same, and waits until the other side has read it: then the next octets come in a segment of their own.
    bool send_alone(std::string_view octets) {
        if (!send(octets)) return false;
        const auto end = Clock::now() + patience;
        for (int waiting = 1; ioctl(fd_, SIOCOUTQ, &waiting) == 0 && waiting > 0; std::this_thread::yield())
            if (Clock::now() > end) return true;  // it has stopped reading; the next reply will tell
        return true;
    }

    // What one recv gives; "" at the end.
    std::string receive(std::chrono::milliseconds within = patience) {
        std::string octets(64 * 1024, '\0');
        const auto end = Clock::now() + within;
        for (;;) {
            pollfd in{fd_, POLLIN, 0};
            if (poll(&in, 1, left(end)) == 0) fail("no answer in time");
            const auto n = recv(fd_, octets.data(), octets.size(), MSG_DONTWAIT);
            if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
            octets.resize(std::size_t(std::max<ssize_t>(n, 0)));
            heard_ += octets;
            if (octets.empty()) note("S: ", n < 0 ? std::strerror(errno) : "EOF");
            return octets;
        }
    }

    // One line without its CRLF; nothing else may end it.
    std::string line(std::chrono::milliseconds within = patience) {
        std::size_t end;
        while ((end = buffer_.find('\n')) == buffer_.npos) {
            const auto octets = receive(within);
            if (octets.empty()) fail("the connection ended, but a reply was expected; rest: " + escaped(buffer_));
            buffer_ += octets;
        }
        auto line = buffer_.substr(0, end + 1);
        buffer_.erase(0, end + 1);
        note("S: ", line);
        if (line.size() < 2 || line[line.size() - 2] != '\r') fail("a line does not end in CRLF");
        line.resize(line.size() - 2);
        for (unsigned char c : line)
            if (c < 32 || c == 127) fail("a control character in a reply: " + escaped(line));
        if (line.size() > 510) fail("a reply line is too long");
        return line;
    }

    // A whole reply, its lines joined by '\n'.
    std::string reply(std::chrono::milliseconds within = patience) {
        std::string all;
        for (;;) {
            const auto one = line(within);
            if (one.size() < 4 ||
                !std::all_of(one.begin(), one.begin() + 3, [](char c) { return c >= '0' && c <= '9'; }) ||
                (one[3] != ' ' && one[3] != '-') || (!all.empty() && all.compare(0, 3, one, 0, 3) != 0))
                fail("no reply: " + escaped(one));
            all += (all.empty() ? "" : "\n") + one;
            if (one[3] == ' ') return all;
        }
    }
    // Says it and gives the reply's code.
    int ask(const std::string& line) {
        say(line);
        return std::stoi(reply());
    }
    // A reply that begins so: "250", "250 2.1.0", "501 5.5.4 Syntax".
    std::string expect(std::string_view beginning, std::chrono::milliseconds within = patience) {
        const auto got = reply(within);
        auto plain = got.substr(0, got.find('\n'));
        plain[3] = ' ';
        if (!plain.starts_with(beginning)) fail("expected: " + std::string(beginning) + ", got: " + got);
        return got;
    }
    // The end, and nothing before it.
    void expect_end(std::chrono::milliseconds within = patience) {
        if (!buffer_.empty()) fail("expected the end, got: " + escaped(buffer_));
        const auto octets = receive(within);
        if (!octets.empty()) fail("expected the end, got: " + escaped(octets));
    }
    // Nothing comes for so long.
    void expect_silence(std::chrono::milliseconds time = 150ms) {
        pollfd in{fd_, POLLIN, 0};
        if (!buffer_.empty() || poll(&in, 1, int(time.count())) != 0) fail("expected silence; " + escaped(buffer_));
    }

    void end() {
        note("C: ", "EOF");
        shutdown(fd_, SHUT_WR);
    }
    // As if the machine had died: what is unread is thrown away, and over TCP the other side hears a reset.
    void vanish() {
        const linger none{1, 0};
        setsockopt(fd_, SOL_SOCKET, SO_LINGER, &none, sizeof none);
        close();
    }
    void close() {
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }

private:
    static int left(Clock::time_point end) {
        return int(std::max<long>(0, std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count()));
    }
    void note(const char* who, std::string_view octets) {
        if (transcript_.size() > 8000) transcript_.replace(2000, transcript_.size() - 4000, "...\n");
        const auto shown = escaped(octets.substr(0, 300));
        transcript_ +=
            who + shown + (octets.size() > 300 ? " ... (" + std::to_string(octets.size()) + " octets)" : "") + '\n';
    }

    int fd_;
    std::string buffer_, heard_, transcript_;
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
