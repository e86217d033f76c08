// Session -- one connection that plays steps of a script and checks every reply to them.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "Latencies.hpp"
#include "Script.hpp"

using Clock = std::chrono::steady_clock;

// The far end did not do what the script says; the text tells what and where.
struct Wrong : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Endpoint {
    sockaddr_storage address{};
    socklen_t size = 0;
};

// Non-blocking: whoever owns it calls speak() when it is writable and listen() when it is readable.
class Session {
public:
    enum class Phase { unopened, opening, messages, closing, resting, ended };

    Phase phase = Phase::unopened;
    unsigned messages_left = 0;  // on this connection
    bool watched_for_writing = false;

    Session() = default;
    Session(Session&& other) = delete;
    ~Session() { close(); }

    [[nodiscard]] int fd() const { return fd_; }
    [[nodiscard]] bool blocked() const { return steps_ < steps_end_ && said_ < steps_->say.size(); }
    [[nodiscard]] bool chunking() const { return chunking_; }
    [[nodiscard]] Clock::time_point last_taken() const { return taken_at_; }
    [[nodiscard]] std::uint64_t taken() const { return taken_; }

    // Starts to connect; throws Wrong if that fails at once.
    void open(const Endpoint& to) {
        close();
        fd_ = socket(to.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd_ < 0) fail("socket");
        const int on = 1;
        setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(fd_, reinterpret_cast<const sockaddr*>(&to.address), to.size) != 0 && errno != EINPROGRESS)
            fail("connect");
        length_ = 0;
        begun_ = finished_ = 0;
        chunking_ = false;
    }

    void close() {
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }

    // Begins to play these steps, which must outlive the session's use of them.
    void play(const std::vector<Step>& steps) {
        steps_ = steps.data();
        steps_end_ = steps_ + steps.size();
        just_begun_ = false;
        begin_step();
    }

    // Sends what the socket takes of what the present step says.
    void speak() {
        while (blocked()) {
            const auto rest = std::string_view(steps_->say).substr(said_);
            const ssize_t sent = send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR) continue;
            if (sent < 0 && errno == EAGAIN) return;
            if (sent < 0) fail("send");
            said_ += static_cast<std::size_t>(sent);
        }
    }

    enum class Heard { more_to_come, everything, the_end };

    // Receives once and checks it: `everything` when the last step has been answered, `the_end` when the far end
    // closed after that. Throws Wrong on any other reply or end.
    Heard listen(std::span<char> buffer, Latencies& latencies) {
        const ssize_t got = recv(fd_, buffer.data(), buffer.size(), 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Heard::more_to_come;
        if (got < 0) fail("recv");
        if (got == 0) {
            if (steps_ == steps_end_) return Heard::the_end;
            throw Wrong("the server hung up" + context());
        }
        for (const char c : buffer.first(static_cast<std::size_t>(got))) {
            if (steps_ == steps_end_ || just_begun_) throw Wrong("a reply too many" + context());
            if (length_ < line_.size()) line_[length_] = c;
            ++length_;
            if (c == '\n') end_of_line(latencies);
        }
        just_begun_ = false;
        if (steps_ == steps_end_) return Heard::everything;
        speak();
        return Heard::more_to_come;
    }

private:
    // RFC 5321 4.5.3.1.5 allows 512 octets to a reply line; none that we measure comes near.
    static constexpr std::size_t longest_line = 512;

    void begin_step() {
        said_ = 0;
        heard_ = 0;
        if (steps_ == steps_end_) return;
        // Two messages can be under way: one waits for its 250 while the next has said MAIL.
        if (steps_->begins_message) mail_at_[begun_++ % mail_at_.size()] = Clock::now();
    }

    void end_of_line(Latencies& latencies) {
        const std::string_view line(line_.data(), std::min(length_, line_.size()));
        const auto digit = [&](std::size_t i) { return line[i] >= '0' && line[i] <= '9'; };
        if (length_ > line_.size() || line.size() < 5 || !line.ends_with("\r\n") || !digit(0) || !digit(1) || !digit(2))
            throw Wrong("not a reply" + quoted(line) + context());
        const int code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
        const Expected expected = steps_->hear[heard_];
        if (code != expected.code) throw Wrong("not " + std::to_string(expected.code) + quoted(line) + context());
        length_ = 0;
        if (line.substr(4).starts_with("CHUNKING")) chunking_ = true;
        if (line[3] == '-') return;
        if (line[3] != ' ' && line[3] != '\r') throw Wrong("not a reply" + quoted(line) + context());

        if (expected.taken) {
            taken_at_ = Clock::now();
            ++taken_;
            const auto waited = taken_at_ - mail_at_[finished_++ % mail_at_.size()];
            latencies.add(static_cast<std::uint64_t>(std::chrono::nanoseconds(waited).count()));
        }
        if (++heard_ < steps_->hear.size()) return;
        if (blocked()) throw Wrong("answered before all was said" + context());
        ++steps_;
        begin_step();
        // What follows a complete group of replies in the same read was not asked for.
        just_begun_ = true;
    }

    static std::string quoted(std::string_view line) {
        return ": \"" + std::string(line.substr(0, std::min(line.find_first_of("\r\n"), std::size_t{80}))) + '"';
    }

    [[nodiscard]] std::string context() const {
        if (steps_ == steps_end_) return " (after the last step)";
        if (steps_->say.empty()) return " (waiting for the greeting)";
        std::string said = steps_->say.substr(0, std::min(steps_->say.find('\r'), std::size_t{40}));
        return " (at reply " + std::to_string(heard_ + 1) + " to \"" + said + "\")";
    }

    [[noreturn]] void fail(const char* call) const {
        throw Wrong(std::string(call) + ": " + std::strerror(errno) + context());
    }

    int fd_ = -1;
    const Step* steps_ = nullptr;
    const Step* steps_end_ = nullptr;
    std::size_t said_ = 0;   // octets of the step
    std::size_t heard_ = 0;  // replies to it
    bool just_begun_ = false;
    bool chunking_ = false;
    std::array<char, longest_line> line_{};
    std::size_t length_ = 0;
    std::array<Clock::time_point, 2> mail_at_{};
    std::size_t begun_ = 0, finished_ = 0;
    std::uint64_t taken_ = 0;
    Clock::time_point taken_at_{};
};
