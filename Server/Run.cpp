// Server::run -- the loops a program would write itself, with a limit and a bounded drain.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "Client.hpp"
#include "Event.hpp"
#include "Listener.hpp"
#include "Shared.hpp"
#include "Turns.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NET_SMTP_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define NET_SMTP_SANITIZED 1
#endif
#endif

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// Threads that wait for a connection beyond these end themselves.
constexpr std::size_t most_spare = 64;
// With more sessions than these their handshakes are computed by a few threads for all.
constexpr std::size_t crowd = 100;

bool other_threads() {
    DIR* tasks = opendir("/proc/self/task");
    if (!tasks) return false;
    int n = 0;
    while (const auto* entry = readdir(tasks)) n += entry->d_name[0] != '.';
    closedir(tasks);
    return n > 1;
}

// Says why and leaves. It needs no memory and waits for nothing: a flood of those turned away must not hold up who may
// come in.
void turn_away(Connection connection) {
    if (!connection.implicit_tls) connection.send("421 4.3.2 Too busy, try again later\r\n", Clock::now());
}

}  // namespace

void Server::stop() noexcept {
    shared_->stopping = true;
    closed_ = true;
    if (getpid() != owner_) return;  // a child's copy: the parent decides for itself
    const int before = errno;        // a signal handler's caller may be about to look at it
    make_readable(shared_->stop_fd);
    make_readable(wake_);
    // Whoever waits inside accept(2) comes out. Not where the socket is somebody else's, too.
    listeners_->deafen();
    errno = before;
}

void Server::run(const Handler& handler, const Run& how) {
    if (how.mode == Mode::process && other_threads())
        throw std::logic_error("run(process): the process has other threads; a forked child would inherit their locks");
    struct Running {
        Server& server;
        explicit Running(Server& s) : server(s) {
            if (server.running_.exchange(true)) throw std::logic_error("run() is running already");
        }
        ~Running() {
            server.running_ = false;
            server.close();
        }
    } running(*this);
    shared_->drain = std::min(how.drain, std::chrono::seconds(std::chrono::hours(24)));
    switch (how.mode) {
        case Mode::inline_: return run_inline(handler);
        case Mode::thread: return run_threads(handler, how);
        case Mode::process: return run_processes(handler, how);
    }
}

// One connection from greeting to end. Nothing comes out of it.
void Server::serve(Connection connection, const Handler& handler) {
    try {
        Client client(std::move(connection));
        while (client.process()) {
            try {
                try {
                    handler(client);
                } catch (const Reject& r) {
                    client.hang_up_ = dynamic_cast<const Hangup*>(&r) != nullptr;
                    client.thrown(r.reply());
                } catch (const std::exception& e) {
                    shared_->trouble(&client, e.what());
                    client.thrown({451, "4.3.0", "Local error in processing"});
                } catch (...) {
                    shared_->trouble(&client, "the handler threw an exception of an unknown type");
                    client.thrown({451, "4.3.0", "Local error in processing"});
                }
            } catch (const std::logic_error& e) {
                shared_->trouble(&client, e.what());  // it had answered already
            }
        }
    } catch (const std::exception& e) {
        shared_->trouble(nullptr, e.what());
    }
}

void Server::run_inline(const Handler& handler) {
    while (auto connection = accept()) serve(std::move(connection), handler);
}

// ---- threads ----

// The threads of one run(). Each waits inside accept(2) of one socket, serves what it got itself, and waits again: the
// system wakes exactly one for a connection, and nobody hands anything over. Who takes the last waiting one's place
// first starts another.
struct Server::Crew {
    Crew(Server& s, const Handler& h, const Run& r) : server(s), handler(h), how(r) {}

    // A socket's threads. Whoever waits keeps it open.
    struct Post {
        std::shared_ptr<Listener> listener{};
        std::size_t waiting = 0;
    };

    Server& server;
    const Handler& handler;
    const Run& how;
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::shared_ptr<Post>> posts;
    std::size_t serving = 0, threads = 0;
    std::vector<pthread_t> ended;  // to be joined
    std::atomic<int> failed{0};    // errno: why the last socket was given up

    struct Start {
        Crew* crew;
        std::shared_ptr<Post> post;
    };

    // With the lock held. False when the system has no more threads.
    bool enlist(const std::shared_ptr<Post>&);
    bool man();
    void work(const std::shared_ptr<Post>&);
    Connection next(const std::shared_ptr<Listener>&);
    void leave(Post&);
    void join_ended(std::unique_lock<std::mutex>&);
    static void* enter(void* start);
};

bool Server::Crew::enlist(const std::shared_ptr<Post>& post) {
    std::size_t stack = std::max<std::size_t>(how.stack, PTHREAD_STACK_MIN);
#ifdef NET_SMTP_SANITIZED
    stack = std::max<std::size_t>(stack, 1 << 20);
#endif
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack);
    std::unique_ptr<Start> start;
    pthread_t thread;
    int error = EAGAIN;
    try {
        ended.reserve(ended.size() + threads + 1);  // so that a thread's end needs no memory
        start = std::make_unique<Start>(Start{this, post});
        error = pthread_create(&thread, &attributes, enter, start.get());
    } catch (const std::bad_alloc&) {
    }
    pthread_attr_destroy(&attributes);
    if (error != 0) return false;
    static_cast<void>(start.release());  // the thread's now
    ++threads;
    ++post->waiting;
    return true;
}

void* Server::Crew::enter(void* argument) {
    const std::unique_ptr<Start> start(static_cast<Start*>(argument));
    auto& crew = *start->crew;
    {
        const Turns turns;
        crew.work(start->post);
    }
    std::unique_lock lock(crew.mutex);
    crew.join_ended(lock);  // or a crowd that has gone would leave its stacks here until the next one comes
    crew.ended.push_back(pthread_self());
    --crew.threads;
    crew.changed.notify_all();
    return nullptr;
}

// The next connection of one socket; empty when that or the server has come to its end.
Connection Server::Crew::next(const std::shared_ptr<Listener>& from) {
    auto& l = *from;
    int back_off = 10;
    while (!server.closed_ && !l.retired) {
        if (!l.ours) {
            pollfd fds[3] = {{l.fd, POLLIN, 0}, {server.wake_, POLLIN, 0}, {l.end_fd, POLLIN, 0}};
            poll(fds, 3, -1);
            if (server.closed_ || l.retired) break;
        }
        const int fd = accept4(l.fd, nullptr, nullptr, SOCK_CLOEXEC);
        const int error = errno;
        if (fd >= 0) {
            l.relieved();
            try {
                return server.dress(fd, l);
            } catch (const std::bad_alloc&) {
                continue;  // the descriptor is closed; its client will come again
            }
        }
        const auto trouble = accept_trouble(error);
        if (trouble == AcceptTrouble::passes) continue;
        if (server.closed_ || l.retired) break;
        if (trouble == AcceptTrouble::shortage) {
            server.exhausted(l, error);
        } else if (server.give_up(from, error)) {
            if (server.listeners_->now()->sockets.empty()) failed = error;
            server.rouse();
            break;
        }
        if (!server.pause(back_off)) break;
        back_off = std::min(back_off * 2, 1000);
    }
    return {};
}

// One waits no more. With the lock held.
void Server::Crew::leave(Post& post) {
    if (--post.waiting == 0 && (server.closed_ || post.listener->retired)) post.listener.reset();
}

void Server::Crew::work(const std::shared_ptr<Post>& post) {
    for (;;) {
        auto connection = next(post->listener);
        bool refuse = false;
        {
            std::unique_lock lock(mutex);
            leave(*post);
            if (!connection) return;
            if (post->waiting == 0) join_ended(lock);  // lets go of the lock: what it guards is looked at behind it
            refuse = how.limit > 0 && serving >= how.limit;
            if (!refuse && post->waiting == 0 && post->listener) refuse = !enlist(post);
            ++serving;
            server.shared_->crowded = serving > crowd;
        }
        try {
            if (refuse) turn_away(std::move(connection));
            else server.serve(std::move(connection), handler);
        } catch (const std::bad_alloc&) {
            // Not even for the telling of it. The connection is closed, nothing was promised.
        }
        std::lock_guard lock(mutex);
        --serving;
        server.shared_->crowded = serving > crowd;
        if (server.closed_ || !post->listener || post->waiting >= most_spare) return;
        ++post->waiting;
    }
}

void Server::Crew::join_ended(std::unique_lock<std::mutex>& lock) {
    while (!ended.empty()) {
        const auto thread = ended.back();
        ended.pop_back();  // keeps the room that enlist() made
        lock.unlock();
        pthread_join(thread, nullptr);
        lock.lock();
    }
}

// Gives each socket its first thread, without which it is deaf; what the system lacks for it now it may have in a
// moment. False: it lacks something.
bool Server::Crew::man() {
    try {
        const auto list = server.listeners_->now();
        std::unique_lock lock(mutex);
        join_ended(lock);
        std::erase_if(posts, [](const auto& p) {
            if (p->waiting == 0 && p->listener && p->listener->retired) p->listener.reset();
            return !p->listener;
        });
        for (const auto& l : list->sockets) {
            if (std::ranges::find(posts, l, &Post::listener) != posts.end()) continue;
            if (l->ours) fcntl(l->fd, F_SETFL, fcntl(l->fd, F_GETFL) & ~O_NONBLOCK);
            auto post = std::make_shared<Post>(Post{l});
            posts.push_back(post);
            if (enlist(post)) continue;
            posts.pop_back();
            return false;
        }
        return true;
    } catch (const std::bad_alloc&) {
        return false;
    }
}

void Server::run_threads(const Handler& handler, const Run& how) {
    struct Open {
        explicit Open(Shared& s) : shared(s) {
            if (shared.options.tls) shared.handshakes.open(std::clamp(std::thread::hardware_concurrency(), 2U, 16U));
        }
        ~Open() { shared.handshakes.close(); }
        Shared& shared;
    } open(*shared_);
    Crew crew(*this, handler, how);
#ifndef NET_SMTP_SANITIZED
    // Down to here a session of ours is never deep while it waits.
    shared_->trim_stack = how.stack / 2 / 4096 * 4096;
#endif
    int failed = 0;
    while (!closed_) {
        const bool manned = crew.man();
        failed = crew.failed.exchange(0);
        if (failed && listeners_->now()->sockets.empty()) stop();
        else pause(manned ? -1 : 100), heed();
    }
    leave_ports();

    std::unique_lock lock(crew.mutex);
    for (const auto& p : crew.posts)
        if (p->waiting == 0) p->listener.reset();
    crew.changed.wait(lock, [&] { return crew.threads == 0; });
    crew.join_ended(lock);
    if (failed) throw std::system_error(failed, std::generic_category(), "accept");
}

// ---- processes ----

void Server::run_processes(const Handler& handler, const Run& how) {
    std::exception_ptr failed;
    std::vector<pid_t> children;
    // By pid, never waitpid(-1): the program may have children of its own.
    const auto reap = [&] {
        std::erase_if(children, [&](pid_t child) {
            const auto ended = waitpid(child, nullptr, WNOHANG);
            if (ended == 0 || (ended < 0 && errno == EINTR)) return false;
            reaped(child);
            return true;
        });
    };
    while (!closed_) try {
            children.reserve(children.size() + 1);
            reap();
            auto connection = accept_within(children.empty() ? -1 : 250);
            if (!connection) continue;
            reap();
            if (how.limit > 0 && children.size() >= how.limit) {
                // Who has just closed his connection may still be on his way out.
                for (int i = 0; i < 5 && children.size() >= how.limit; ++i) {
                    poll(nullptr, 0, 1);
                    reap();
                }
            }
            if (how.limit > 0 && children.size() >= how.limit) {
                turn_away(std::move(connection));
                continue;
            }
            const pid_t child = fork();
            if (child < 0) {
                turn_away(std::move(connection));
            } else if (child == 0) {
                shared_->forked = true;
                close();
                serve(std::move(connection), handler);
                _exit(0);
            } else {
                children.push_back(child);
                forked(child, connection);
            }
        } catch (const std::bad_alloc&) {
            pause(100);  // some child may give memory back
        } catch (const std::system_error&) {
            failed = std::current_exception();  // nobody listens any more, but the children have clients
            stop();
        }
    leave_ports();
    const auto end = shared_->drained() + 1s;  // a child that cuts its client itself may still say how
    for (reap(); !children.empty() && Clock::now() < end; reap()) poll(nullptr, 0, 20);
    for (auto child : children) kill(child, SIGKILL);
    while (!children.empty()) {
        reap();
        poll(nullptr, 0, 5);
    }
    if (failed) std::rethrow_exception(failed);
}

}  // namespace Net::SMTP
