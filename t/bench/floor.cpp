// floor -- the least that a blocking SMTP server on reused threads can cost: fixed replies, nothing parsed or checked.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

namespace {

constexpr std::size_t line_buffer = 1024;   // all that an idle connection holds
constexpr std::size_t body_buffer = 65536;  // from the first DATA or BDAT on
constexpr std::size_t stack_size = 32768;

int listener = -1;
bool keep = false;
std::atomic<int> accepting = 0;

// One connection, from greeting to QUIT or the client's end.
class Conversation {
public:
    explicit Conversation(int fd) : fd_(fd) {
        const int on = 1;
        setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    Conversation(const Conversation&) = delete;
    ~Conversation() { close(fd_); }

    void hold() {
        replies_ = "220 floor ESMTP\r\n";
        for (std::string_view line; next_line(line);) {
            // Enough of a verb to tell ours apart: this is a floor, not a server.
            switch (line[0]) {
                case 'E': replies_ += "250-floor\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING\r\n"; break;
                case 'D':
                    replies_ += "354 go ahead\r\n";
                    if (!data()) return;
                    replies_ += "250 OK\r\n";
                    break;
                case 'B':
                    if (!chunk(line)) return;
                    replies_ += "250 OK\r\n";
                    break;
                case 'Q':
                    replies_ += "221 bye\r\n";
                    flush();
                    return;
                default: replies_ += "250 OK\r\n";
            }
        }
    }

private:
    bool flush() {
        for (std::string_view rest = replies_; !rest.empty();) {
            const ssize_t sent = send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR) continue;
            if (sent <= 0) return false;
            rest.remove_prefix(static_cast<std::size_t>(sent));
        }
        replies_.clear();
        return true;
    }

    // Sends what there is to say, then receives behind what is left in the buffer.
    bool receive() {
        if (!flush()) return false;
        if (begin_ > 0) {
            std::memmove(buffer_, buffer_ + begin_, end_ - begin_);
            end_ -= begin_;
            begin_ = 0;
        }
        if (end_ == size_) return false;
        ssize_t got = 0;
        do got = recv(fd_, buffer_ + end_, size_ - end_, 0);
        while (got < 0 && errno == EINTR);
        if (got <= 0) return false;
        end_ += static_cast<std::size_t>(got);
        return true;
    }

    bool next_line(std::string_view& line) {
        for (;;) {
            const std::string_view unread(buffer_ + begin_, end_ - begin_);
            if (const auto newline = unread.find('\n'); newline != unread.npos) {
                line = unread.substr(0, newline + 1);
                begin_ += line.size();
                return true;
            }
            if (!receive()) return false;
        }
    }

    // Makes room for a body and empties the memory for it; `from` is the first octet that still counts.
    void prepare(std::size_t from) {
        begin_ = from;
        message_.clear();
        if (large_) return;
        large_ = std::make_unique_for_overwrite<char[]>(body_buffer);
        std::memcpy(large_.get(), buffer_ + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
        buffer_ = large_.get();
        size_ = body_buffer;
    }

    void take(std::size_t size) {
        if (keep) message_.append(buffer_ + begin_, size);
        begin_ += size;
    }

    // Dots stay doubled: nothing is done here that could be left out.
    bool data() {
        // The CRLF of DATA itself counts: an empty message is only ".CRLF" after it.
        prepare(begin_ - 2);
        for (;;) {
            const char* const last = buffer_ + end_ - 2;
            for (const char* at = buffer_ + begin_ + 2; at < last; ++at) {
                at = static_cast<const char*>(std::memchr(at, '.', static_cast<std::size_t>(last - at)));
                if (!at) break;
                if (std::memcmp(at - 2, "\r\n.\r\n", 5) != 0) continue;
                take(static_cast<std::size_t>(at - buffer_) - begin_);
                begin_ += 3;
                return true;
            }
            // The end may have begun: four octets wait for the rest.
            take(end_ - begin_ - std::min<std::size_t>(4, end_ - begin_));
            if (!receive()) return false;
        }
    }

    bool chunk(std::string_view line) {
        std::size_t left = 0;
        std::from_chars(line.data() + 5, line.data() + line.size(), left);
        prepare(begin_);
        for (;;) {
            const std::size_t here = std::min(left, end_ - begin_);
            take(here);
            left -= here;
            if (left == 0) return true;
            if (!receive()) return false;
        }
    }

    const int fd_;
    char small_[line_buffer];
    std::unique_ptr<char[]> large_;
    char* buffer_ = small_;
    std::size_t size_ = line_buffer, begin_ = 0, end_ = 0;
    std::string replies_, message_;
};

void start_thread();

// Threads take turns at the listener; whoever leaves it empty starts another, and all come back to it.
void* serve(void*) {
    for (;;) {
        const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EINTR && errno != ECONNABORTED) usleep(10'000);
            continue;
        }
        if (accepting.fetch_sub(1) == 1) start_thread();
        Conversation(fd).hold();
        ++accepting;
    }
}

void start_thread() {
    ++accepting;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_size);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread{};
    if (pthread_create(&thread, &attributes, serve, nullptr) != 0) {
        std::perror("floor: pthread_create");
        std::exit(1);
    }
    pthread_attr_destroy(&attributes);
}

void raise_descriptor_limit() {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int usage() {
    std::fputs("usage: floor [--listen 127.0.0.1:PORT] [--keep]\n", stderr);
    return 2;
}

}  // namespace

int main(int argc, char** argv) {
    std::string_view where = "127.0.0.1:0";
    for (int i = 1; i < argc; ++i) {
        const std::string_view argument = argv[i];
        if (argument == "--keep") keep = true;
        else if (argument == "--listen" && i + 1 < argc) where = argv[++i];
        else return usage();
    }
    const auto colon = where.find(':');
    if (colon == where.npos) return usage();
    const std::string host(where.substr(0, colon));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) return usage();
    address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(where.data() + colon + 1)));

    raise_descriptor_limit();
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    socklen_t size = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(listener, generic, size) != 0 || listen(listener, SOMAXCONN) != 0 ||
        getsockname(listener, generic, &size) != 0) {
        std::perror("floor: listen");
        return 1;
    }
    std::printf("listening on %s:%d\n", host.c_str(), ntohs(address.sin_port));
    std::fflush(stdout);
    start_thread();
    for (;;) pause();
}
