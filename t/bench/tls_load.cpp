// tls_load -- opens TLS sessions with an SMTP server on this machine, checks every reply, and reports what they cost
// it.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iomanip>
#include <memory>
#include <sstream>
#include <thread>

#include "../../Server/OpenSSL.hpp"
#include "Latencies.hpp"
#include "Script.hpp"
#include "Session.hpp"
#include "Usage.hpp"

namespace {

constexpr const char* help =
    R"(usage: tls_load [options] 127.0.0.1:PORT

  --ca FILE         PEM: whom the server must show itself as, by TLS 1.3 with AES-128-GCM and X25519 before its
                    greeting; without it nothing is encrypted
  --size OCTETS     of the mail that each session sends (0: none, only EHLO and QUIT)
  --messages N      such mails in each session (1)
  --sessions N      at once (8)
  --seconds S       begin no session after this time (1)
  --resume          each goes on with the ticket of the one before it, where the server has given one
  --idle N          instead: N sessions are opened, --sessions at once, say EHLO and then nothing for --seconds;
                    then the memory is looked at
  --pid PID         of the server: its CPU and memory are reported, with those of its children, and how many
                    processors were busy with something else ("others": more than 0.1 disturbs)

One JSON object on standard output. Exit status: 0 all replies were as expected, 1 some were not, 2 usage.
)";

[[noreturn]] void wrong_usage(const std::string& why) {
    std::fprintf(stderr, "tls_load: %s\n%s", why.c_str(), help);
    std::exit(2);
}

struct Options {
    sockaddr_in server{};
    std::string ca;
    std::uint64_t size = 0, messages = 1, sessions = 8, idle = 0, pid = 0;
    double seconds = 1;
    bool resume = false;
};

template <typename Number>
void number(std::string_view text, Number& value, Number least, Number most) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most)
        wrong_usage("not a number it can be: " + std::string(text));
}

// Loopback only: this is no tool to point at other people's servers.
sockaddr_in endpoint(const std::string& text) {
    sockaddr_in result{};
    result.sin_family = AF_INET;
    const auto colon = std::min(text.find(':'), text.size());
    if (inet_pton(AF_INET, text.substr(0, colon).c_str(), &result.sin_addr) != 1 ||
        ntohl(result.sin_addr.s_addr) >> 24 != 127)
        wrong_usage("127.0.0.1:PORT, not " + text);
    std::uint16_t port = 0;
    number(std::string_view(text).substr(std::min(colon + 1, text.size())), port, std::uint16_t{1},
           std::uint16_t{65535});
    result.sin_port = htons(port);
    return result;
}

Options options(int argc, char** argv) {
    Options result;
    const auto value = [&](int& i) -> std::string_view {
        if (++i >= argc) wrong_usage("a value is missing");
        return argv[i];
    };
    for (int i = 1; i < argc; ++i) {
        const std::string_view argument = argv[i];
        if (argument == "--ca") result.ca = value(i);
        else if (argument == "--size") number<std::uint64_t>(value(i), result.size, 64, 1 << 30);
        else if (argument == "--messages") number<std::uint64_t>(value(i), result.messages, 1, 1'000'000);
        else if (argument == "--sessions") number<std::uint64_t>(value(i), result.sessions, 1, 256);
        else if (argument == "--idle") number<std::uint64_t>(value(i), result.idle, 1, 100'000);
        else if (argument == "--pid") number<std::uint64_t>(value(i), result.pid, 1, 1 << 30);
        else if (argument == "--seconds") number(value(i), result.seconds, 0.01, 3600.0);
        else if (argument == "--resume") result.resume = true;
        else if (argument.starts_with("--")) wrong_usage("no such option: " + std::string(argument));
        else result.server = endpoint(std::string(argument));
    }
    if (result.server.sin_port == 0) wrong_usage("which 127.0.0.1:PORT?");
    return result;
}

using Ticket = Net::SMTP::SslSession;
using Context = Net::SMTP::SslContext;

[[noreturn]] void wrong(const std::string& what) {
    char why[256] = "";
    if (const auto error = ERR_get_error()) ERR_error_string_n(error, why, sizeof why);
    ERR_clear_error();
    throw Wrong(what + (*why ? std::string(": ") + why : errno ? std::string(": ") + std::strerror(errno) : ""));
}

// One connection, each of whose calls waits for 30 s at most and throws Wrong if all is not as it should be.
class Client {
public:
    // Connects and, where there is a context, has the whole handshake; with an old session it asks to resume.
    Client(const sockaddr_in& server, SSL_CTX* context, SSL_SESSION* old) {
        fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const timeval patience{30, 0};
        const int on = 1;
        setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        try {
            if (connect(fd_, reinterpret_cast<const sockaddr*>(&server), sizeof server) != 0) wrong("connect");
            if (context) shake_hands(context, old);
        } catch (...) {
            close();
            throw;
        }
    }
    Client(const Client&) = delete;
    ~Client() { close(); }

    bool resumed() const { return ssl_ && SSL_session_reused(ssl_); }

    void say(std::string_view what) {
        for (errno = 0; !what.empty();) {
            const auto n = ssl_ ? SSL_write(ssl_, what.data(), static_cast<int>(what.size()))
                                : static_cast<int>(send(fd_, what.data(), what.size(), MSG_NOSIGNAL));
            if (n <= 0) wrong("the server does not take \"" + std::string(what.substr(0, 40)) + '"');
            what.remove_prefix(static_cast<std::size_t>(n));
        }
    }

    // One reply of that code, of any number of lines.
    void hear(int code) {
        const auto expected = std::to_string(code);
        for (bool last = false; !last;) {
            auto end = heard_.find("\r\n");
            while (end == std::string::npos) {
                if (heard_.size() > 4096 || !listen()) wrong("no " + expected + " but \"" + heard_ + '"');
                end = heard_.find("\r\n");
            }
            const auto line = heard_.substr(0, end);
            heard_.erase(0, end + 2);
            last = line.size() < 4 || line[3] != '-';
            if (!line.starts_with(expected)) throw Wrong("no " + expected + " but \"" + line + '"');
        }
    }

    // After QUIT and its reply: what the server has used is counted when it has closed.
    void leave() {
        say("QUIT\r\n");
        hear(221);
        // Some wait for our end, some do not; the other's may have come with the reply or not.
        if (ssl_) SSL_shutdown(ssl_);
        shutdown(fd_, SHUT_WR);
        char rest[256];
        while (recv(fd_, rest, sizeof rest, 0) > 0) {
        }
        if (errno == EAGAIN) wrong("the server has not closed");
    }

    // The newest ticket that has come, if any.
    Ticket ticket;

private:
    void shake_hands(SSL_CTX* context, SSL_SESSION* old) {
        ssl_ = SSL_new(context);
        SSL_set_fd(ssl_, fd_);
        SSL_set_app_data(ssl_, this);
        if (old) SSL_set_session(ssl_, old);
        if (SSL_connect(ssl_) != 1) wrong("handshake");
    }

    bool listen() {
        char octets[4096];
        errno = 0;
        const auto n =
            ssl_ ? SSL_read(ssl_, octets, sizeof octets) : static_cast<int>(recv(fd_, octets, sizeof octets, 0));
        if (n > 0) heard_.append(octets, static_cast<std::size_t>(n));
        return n > 0;
    }

    void close() {
        SSL_free(ssl_);
        ::close(fd_);
    }

    int fd_ = -1;
    SSL* ssl_ = nullptr;
    std::string heard_;
};

// What every server speaks here, so that none has an easier cipher.
Context context(const std::string& ca) {
    if (ca.empty()) return {};
    Context result(SSL_CTX_new(TLS_client_method()));
    auto* const ssl = result.get();
    if (!ssl || !SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(ssl, "TLS_AES_128_GCM_SHA256") || !SSL_CTX_set1_groups_list(ssl, "X25519") ||
        !SSL_CTX_load_verify_locations(ssl, ca.c_str(), nullptr))
        wrong(ca);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_options(ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ssl, [](SSL* which, SSL_SESSION* session) {
        static_cast<Client*>(SSL_get_app_data(which))->ticket.reset(session);
        return 1;
    });
    return result;
}

// What the sessions of one thread have come to, or of all.
struct Tally {
    Latencies handshakes, sessions;
    std::uint64_t done = 0, resumed = 0, errors = 0;

    void add(const Tally& other) {
        handshakes.add(other.handshakes);
        sessions.add(other.sessions);
        done += other.done;
        resumed += other.resumed;
        errors += other.errors;
    }
    void trouble(const Wrong& what) {
        if (++errors <= 3) std::fprintf(stderr, "tls_load: WRONG: %s\n", what.what());
    }
};

void send_mail(Client& client, const std::string& body) {
    for (const auto& [say, code] : {std::pair{"MAIL FROM:<sender@example.com>\r\n", 250},
                                    {"RCPT TO:<recipient@example.org>\r\n", 250},
                                    {"DATA\r\n", 354}}) {
        client.say(say);
        client.hear(code);
    }
    client.say(body);
    client.hear(250);
}

void greet(Client& client) {
    client.hear(220);
    client.say("EHLO load.example.com\r\n");
    client.hear(250);
}

// Sessions one after the other until it is time; after an error no more.
Tally talk(const Options& options, SSL_CTX* ssl, const std::string& body, Clock::time_point until) {
    const auto since = [](Clock::time_point start) {
        return static_cast<std::uint64_t>((Clock::now() - start).count());
    };
    Tally tally;
    Ticket ticket;
    try {
        while (Clock::now() < until) {
            const auto start = Clock::now();
            Client client(options.server, ssl, options.resume ? ticket.get() : nullptr);
            tally.handshakes.add(since(start));
            greet(client);
            for (auto mails = body.empty() ? 0 : options.messages; mails > 0; --mails) send_mail(client, body);
            client.leave();
            tally.sessions.add(since(start));
            ++tally.done;
            tally.resumed += client.resumed();
            if (client.ticket) ticket = std::move(client.ticket);
        }
    } catch (const Wrong& what) {
        tally.trouble(what);
    }
    return tally;
}

Tally talk_all(const Options& options, SSL_CTX* ssl) {
    const auto body = options.size > 0 ? as_data(message(options.size, "text")) : std::string();
    const auto until =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options.seconds));
    std::vector<Tally> tallies(options.sessions);
    {
        std::vector<std::jthread> threads;
        for (auto& tally : tallies) threads.emplace_back([&] { tally = talk(options, ssl, body, until); });
    }
    Tally all;
    for (const auto& each : tallies) all.add(each);
    return all;
}

using Clients = std::vector<std::unique_ptr<Client>>;

// That many sessions that have said EHLO.
Tally open(const Options& options, SSL_CTX* ssl, std::uint64_t wanted, Clients& clients) {
    Tally tally;
    try {
        while (clients.size() < wanted) {
            auto client = std::make_unique<Client>(options.server, ssl, nullptr);
            greet(*client);
            clients.push_back(std::move(client));
        }
    } catch (const Wrong& what) {
        tally.trouble(what);
    }
    return tally;
}

// Sees whether they are all still there.
Tally dismiss(const Clients& clients) {
    Tally tally;
    try {
        for (const auto& client : clients) {
            client->leave();
            ++tally.done;
        }
    } catch (const Wrong& what) {
        tally.trouble(what);
    }
    return tally;
}

// Opens sessions, is silent, calls `look`, and ends them.
template <typename Look>
Tally be_silent(const Options& options, SSL_CTX* ssl, Look look) {
    std::vector<Tally> opened(options.sessions), ended(options.sessions);
    std::vector<Clients> clients(options.sessions);
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < options.sessions; ++i)
            threads.emplace_back([&, i] {
                const auto wanted = options.idle / options.sessions + (i < options.idle % options.sessions ? 1 : 0);
                opened[i] = open(options, ssl, wanted, clients[i]);
            });
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds));
    look();
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < options.sessions; ++i)
            threads.emplace_back([&, i] { ended[i] = dismiss(clients[i]); });
    }
    Tally all;
    for (std::size_t i = 0; i < options.sessions; ++i) {
        all.add(opened[i]);
        all.add(ended[i]);
    }
    return all;
}

// Who has used how much at one moment.
struct Sample {
    Clock::time_point at = Clock::now();
    std::int64_t machine_ns = proc::machine_cpu_ns();
    std::int64_t load_ns = proc::cpu_clock_ns(getpid()).value_or(0);
    Usage server;

    explicit Sample(const Options& options) {
        if (options.pid == 0) return;
        const auto found = usage(static_cast<pid_t>(options.pid));
        if (!found) wrong("there is no server process " + std::to_string(options.pid));
        server = *found;
    }
};

void print(const Options& options, const Tally& tally, const Sample& before, const Sample& after) {
    const auto sessions = static_cast<double>(std::max<std::uint64_t>(tally.done, 1));
    const auto wall_ns = static_cast<double>((after.at - before.at).count());
    const auto server_ns = after.server.cpu_ns - before.server.cpu_ns, load_ns = after.load_ns - before.load_ns;

    std::ostringstream line;
    line << std::fixed << std::setprecision(3);
    const auto field = [&](const char* key, auto value) {
        line << (line.tellp() > 0 ? ", \"" : "{\"") << key << "\": " << value;
    };
    field("size", options.size);
    field("messages", options.size > 0 ? tally.done * options.messages : 0);
    field("sessions", tally.done);
    field("resumed", tally.resumed);
    field("errors", tally.errors);
    field("load_cpu_us", static_cast<double>(load_ns) / 1e3 / sessions);
    if (options.idle == 0) {
        field("sessions_per_s", sessions * 1e9 / wall_ns);
        field("handshake_p50_us", tally.handshakes.quantile(0.5));
        field("session_p50_us", tally.sessions.quantile(0.5));
        field("session_p99_us", tally.sessions.quantile(0.99));
        field("session_p999_us", tally.sessions.quantile(0.999));
    }
    if (options.pid > 0) {
        field("cpu_us", static_cast<double>(server_ns) / 1e3 / sessions);
        field("rss_kb", after.server.rss_kb);
        if (options.idle > 0)
            field("rss_kb_each", static_cast<double>(after.server.rss_kb - before.server.rss_kb) / sessions);
        const auto others_ns = static_cast<double>(after.machine_ns - before.machine_ns - load_ns - server_ns);
        field("others", std::max(0.0, others_ns / wall_ns));
    }
    std::puts((line.str() + "}").c_str());
}

}  // namespace

int main(int argc, char** argv) {
    std::signal(SIGPIPE, SIG_IGN);
    const Options given = options(argc, argv);
    try {
        const auto ssl = context(given.ca);
        const Sample before(given);
        std::optional<Sample> after;
        Tally tally;
        if (given.idle > 0) {
            tally = be_silent(given, ssl.get(), [&] { after.emplace(given); });
        } else {
            tally = talk_all(given, ssl.get());
            // The server has closed every connection, yet may still be tidying up after the last.
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
        if (!after) after.emplace(given);
        if (!given.resume && tally.resumed > 0) tally.trouble(Wrong("resumed without a ticket"));
        print(given, tally, before, *after);
        return tally.errors > 0 || tally.done == 0 ? 1 : 0;
    } catch (const std::exception& trouble) {
        std::fprintf(stderr, "tls_load: %s\n", trouble.what());
        return 1;
    }
}
