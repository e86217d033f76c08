// Server -- sockets that listen, and the connections they give.
#pragma once

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "Connection.hpp"
#include "Options.hpp"
#include "Plugin.hpp"

namespace Net::SMTP {

struct Event;
struct Listener;
class Listeners;
class Pipeline;
class Relay;

// Listens from its construction on; the loop is yours, or run()'s. No thread is started, no signal handler set.
// accept() belongs to one thread at a time; the other functions may be called by any, stop() by a signal handler too.
// In a process other than the one that made it (a forked child) close() and the destructor only close the child's
// copies of the descriptors.
class Server {
public:
    class Client;
    using Relay = Net::SMTP::Relay;

    // One address of a list in braces; nothing but a text is one, so that {"127.0.0.1", 0} is a host and a port.
    class Where {
    public:
        template <class Text>
        requires std::convertible_to<const Text&, std::string_view> Where(const Text& address)
            : address_(std::string_view(address)) {}
        operator const std::string&() const { return address_; }

    private:
        std::string address_;
    };

    // Listens on host and port. Host: a name (all its addresses), an IPv4 or IPv6 address, "" or "::" for every
    // interface of both kinds, or "unix:/path"; "HOST:PORT" in one is understood too. Port 0: any free one, see port().
    // std::system_error with address and errno text.
    explicit Server(const std::string& host = "", std::uint16_t port = 25, Options options = {});

    // Listens on several: "127.0.0.1:25", "[::1]:2525", "[::]:25" (both kinds), "localhost:0", "unix:/run/smtp", and
    // "fd:3", a descriptor that listens already (socket activation). Port 25 where none is named. With "tls:" in front
    // of one of them TLS comes before the greeting there (RFC 8314), on port 465 if none is named;
    // std::invalid_argument if Options::tls is empty.
    explicit Server(const std::vector<std::string>& addresses, Options options = {});
    explicit Server(std::initializer_list<Where> addresses, Options options = {});

    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    // "fd:3", "fd:4", ... when a service manager has given this process listening sockets (LISTEN_PID, LISTEN_FDS).
    static std::vector<std::string> activated();

    // The next connection; blocks. Nothing has been said to the peer: look at peer() and let it go, or make a Client of
    // it. Waits out what passes by itself: signals, connections that vanish, a lack of descriptors or memory (with
    // growing pauses up to a second; Event::ListenerFailed tells when it begins, once for each socket). A socket that
    // is beyond help is given up (Event::ListenerFailed, when that is done), the others go on. Empty (false) after
    // close(). std::system_error when the last one is given up, and no listener of the event has started another.
    Connection accept();

    // Listens on one more address, at once, while accept() or run() is under way too. As the constructor understands
    // it; one that is listened on already is as good (but EADDRINUSE if with "tls:" there and without here, or the
    // other way round). Where; of a name with several addresses on all or on none. What can't be listened on is thrown,
    // as by the constructor, and before that told as Event::ListenerFailed; what is no address is only thrown. A name
    // is looked up by the system, which may take its time. ECANCELED after stop() and close(); std::logic_error in a
    // forked child.
    std::vector<Endpoint> start_listener(const std::string& address);
    // Ends listening there; sessions live on, and who was not yet accepted is refused or reset. The address may be
    // written as it was given, or as one of addresses().str(). False: nobody listens there. Without any listener
    // accept() and run() wait for the next one. std::invalid_argument: that is no address.
    bool stop_listener(const std::string& address);

    // Where it listens; in the order given, a name's addresses one by one, after close() where it did. address() and
    // port() are of the first, "" and 0 if there is none.
    std::vector<Endpoint> addresses() const;
    // Whether TLS comes before the greeting at addresses()[i], "tls:". std::out_of_range after close(). Does another
    // thread start and stop listeners meanwhile, the number may be another's.
    bool implicit_tls(std::size_t i) const;
    std::string address() const;
    std::uint16_t port() const;
    const Options& options() const;

    // Ends accept() and frees the sockets; the path of a Unix socket goes too. Connections live on. Ends run() as
    // stop() does.
    void close();

    // For a fork loop of your own: the connection's place in max_connections and max_connections_per_ip is kept for the
    // child until it is reaped. Without these calls such a loop has no limits: the place is given back when the
    // parent's Connection ends.
    void forked(int pid, Connection& connection);
    void reaped(int pid);

    enum class Mode { thread, process, inline_ };
    struct Run {
        Mode mode = Mode::thread;
        std::size_t limit = 0;           // sessions at once; over it 421 4.3.2. 0: as many as the system bears
        std::chrono::seconds drain{30};  // how long running mails may take to end after stop()
        std::size_t stack = 256 * 1024;  // of a session's thread; 1 MiB at least under a sanitizer
    };
    using Handler = std::function<void(Client&)>;

    // Serves until stop(): each connection gets a Client, `handler` each mail. What the handler throws does not end the
    // session: Reject and Hangup are the answer, anything else is 451 4.3.0 and an Event::Trouble. Threads are reused;
    // processes are reaped by their pid. Then the drain: no new connections, 421 to who is idle, running mails end, and
    // after `drain` the rest is cut; only a handler that is busy with something of its own is waited for. The server is
    // closed when it returns. std::logic_error for Mode::process if the process has other threads. On Linux 6.12 and
    // later the sessions' threads are SCHED_BATCH with slices of 0.3 ms, unless run()'s caller is not SCHED_OTHER;
    // what a handler starts in them inherits that.
    void run(const Handler& handler, const Run& how);
    void run(const Handler& handler) { run(handler, Run()); }
    // Ends accept() and run() for good; sessions that wait for a command hear 421, a mail under way ends first.
    // Async-signal-safe, and callable from any thread, before run() too.
    void stop() noexcept;

    // Has the session of that id say a reply, as soon as it is between two commands; a 421 ends it. Any thread. False:
    // there is no such session, or not with Options::reachable; the reply has no text or a code other than 200 to 599;
    // or 16 others are waiting there already.
    bool send_to_client(const std::string& id, Reply reply) const;

    // Who hears what happens: plugins and listeners. As good as the server lives.
    Pipeline& pipeline() const;
    // Calls `listener` on each event of the kind: server.on<Event::Rcpt>([](Event::Rcpt& e) { ... }). Any time. The
    // number is for pipeline().off().
    template <class Kind, class Listener>
    std::uint64_t on(Listener listener) {
        return listen(kind_of<Kind>(), [listener](Event& e) { listener(static_cast<Kind&>(e)); });
    }

private:
    friend Relay;  // attach(): the drain ends its waits
    Connection dress(int fd, const Listener&) const;
    std::uint64_t listen(std::size_t kind, std::function<void(Event&)> listener);
    struct Failure;
    Connection accept_within(int milliseconds);
    Connection first_waiting(std::vector<Failure>&, int milliseconds);
    bool told(std::vector<Failure>);
    bool give_up(std::shared_ptr<Listener>, int error);
    void exhausted(Listener&, int error);
    void tell(const Endpoint&, int error, const std::string& address, bool lives) noexcept;
    bool pause(int milliseconds);
    void leave_ports();
    void rouse();
    void heed();
    void serve(Connection, const Handler&);
    void run_inline(const Handler&);
    void run_threads(const Handler&, const Run&);
    void run_processes(const Handler&, const Run&);
    struct Crew;

    std::shared_ptr<Shared> shared_;
    const std::unique_ptr<Listeners> listeners_;
    std::atomic<bool> closed_{false}, freed_{false};
    std::atomic<bool> running_{false};
    std::atomic<int> accepting_{0};
    std::size_t next_ = 0;  // the socket to ask first: none starves
    int wake_ = -1;         // readable for good after close() and stop(), for a moment when listeners have changed
    int owner_;             // the pid that listens
};

}  // namespace Net::SMTP
