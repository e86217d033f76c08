// Worker -- one thread's share of the sessions, driven by epoll until all of them have ended or rest.
#pragma once

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ratio>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "Latencies.hpp"
#include "Script.hpp"
#include "Session.hpp"

// What there is to do, for one worker.
struct Work {
    Endpoint server;
    std::size_t connections = 1;             // at once
    unsigned messages = 1;                   // on each connection
    std::uint64_t total = 0;                 // in all; 0 opens each connection to hold it idle
    std::chrono::duration<double> time{60};  // after which no message is begun
};

// run() is for one thread; everything else for whoever has seen it return.
class Worker {
public:
    Worker(const Work& work, const Script& script)
        : work_(work),
          script_(script),
          left_(work.total),
          sessions_(work.connections),
          epoll_(epoll_create1(EPOLL_CLOEXEC)) {
        if (epoll_ < 0) refused("epoll_create1");
    }
    Worker(const Worker&) = delete;
    ~Worker() { close(epoll_); }

    // Sends all messages; an idle worker opens its connections and leaves them resting.
    void run() {
        const auto start = Clock::now();
        stop_at_ = start + std::chrono::duration_cast<Clock::duration>(work_.time);
        talking_ = sessions_.size();
        drive();
    }

    // Says QUIT on all the connections that rest, and so learns whether the server still holds them.
    void dismiss() {
        stop_at_ = Clock::now();
        talking_ = 0;
        for (auto& session : sessions_) {
            if (session.phase != Session::Phase::resting) continue;
            ++talking_;
            session.phase = Session::Phase::closing;
            attempt(session, [&] {
                session.play(script_.quit);
                session.speak();
                watch(session);
            });
        }
        drive();
    }

    Latencies latencies;
    std::uint64_t errors = 0;
    bool lacks_chunking = false;  // and so not one BDAT was sent

    [[nodiscard]] std::uint64_t messages() const {
        std::uint64_t sum = 0;
        for (const auto& session : sessions_) sum += session.taken();
        return sum;
    }

    // When the last message was taken.
    [[nodiscard]] Clock::time_point finish() const {
        Clock::time_point last{};
        for (const auto& session : sessions_) last = std::max(last, session.last_taken());
        return last;
    }

private:
    using Phase = Session::Phase;

    [[noreturn]] static void refused(const char* call) {
        throw std::system_error(errno, std::generic_category(), call);
    }

    [[nodiscard]] bool idle() const { return work_.total == 0; }

    // A server's listen queue is finite: this many connections wait for their greeting at once.
    static constexpr std::size_t most_opening = 64;
    static constexpr std::chrono::duration<int, std::milli> longest_silence{30'000};
    static constexpr std::chrono::seconds longest_overtime{90};

    void drive() {
        std::array<epoll_event, 256> events{};
        while (talking_ > 0) {
            while (unopened_ < sessions_.size() && opening_ < most_opening) open(sessions_[unopened_++]);
            if (talking_ == 0) return;
            const int ready = epoll_wait(epoll_, events.data(), events.size(), longest_silence.count());
            if (ready < 0 && errno != EINTR) refused("epoll_wait");
            if (ready == 0) return give_up("no reply for 30 s");
            for (const auto& event : std::span(events).first(static_cast<std::size_t>(std::max(ready, 0))))
                serve(*static_cast<Session*>(event.data.ptr), event.events);
            if (++turns_ % 1024 == 0 && Clock::now() > stop_at_ + longest_overtime) return give_up("90 s over time");
        }
    }

    void open(Session& session) {
        if (!idle() && left_ == 0) return gone(session);
        session.phase = Phase::opening;
        session.messages_left = work_.messages;
        session.watched_for_writing = false;
        if (!idle()) take_one(session);
        ++opening_;
        attempt(session, [&] {
            session.open(work_.server);
            epoll_event event{.events = EPOLLIN, .data = {.ptr = &session}};
            if (epoll_ctl(epoll_, EPOLL_CTL_ADD, session.fd(), &event) != 0) refused("epoll_ctl");
            session.play(script_.opening);
        });
    }

    void serve(Session& session, std::uint32_t events) {
        attempt(session, [&] {
            if (events & EPOLLOUT) session.speak();
            if (events & ~EPOLLOUT) {
                const auto heard = session.listen(buffer_, latencies);
                if (heard == Session::Heard::the_end) return ended(session);
                if (heard == Session::Heard::everything) next(session);
            }
            watch(session);
        });
    }

    // All that was said has been answered.
    void next(Session& session) {
        switch (session.phase) {
            case Phase::opening:
                --opening_;
                if (idle()) {
                    session.phase = Phase::resting;
                    --talking_;
                    return;
                }
                if (script_.needs_chunking && !session.chunking()) {
                    lacks_chunking = true;
                    left_ = 0;
                    session.phase = Phase::closing;
                    session.play(script_.quit);
                    break;
                }
                session.phase = Phase::messages;
                session.play(script_.first);
                break;
            case Phase::messages:
                if (another(session)) {
                    session.play(script_.next);
                } else {
                    session.phase = Phase::closing;
                    session.play(script_.closing);
                }
                break;
            default: return;  // after QUIT only the end may come
        }
        session.speak();
    }

    void take_one(Session& session) {
        --left_;
        --session.messages_left;
    }

    bool another(Session& session) {
        if (session.messages_left == 0 || left_ == 0 || session.last_taken() >= stop_at_) return false;
        take_one(session);
        return true;
    }

    void ended(Session& session) {
        session.close();
        if (left_ > 0 && Clock::now() < stop_at_) open(session);
        else gone(session);
    }

    void gone(Session& session) {
        session.close();
        session.phase = Phase::ended;
        --talking_;
    }

    // A connection that is watched for writing without need wakes us all the time.
    void watch(Session& session) {
        if (session.fd() < 0 || session.blocked() == session.watched_for_writing) return;
        session.watched_for_writing = session.blocked();
        epoll_event event{.events = EPOLLIN, .data = {.ptr = &session}};
        if (session.watched_for_writing) event.events |= EPOLLOUT;
        epoll_ctl(epoll_, EPOLL_CTL_MOD, session.fd(), &event);
    }

    template <typename Action>
    void attempt(Session& session, Action action) {
        try {
            action();
        } catch (const Wrong& wrong) {
            report(wrong.what());
            if (session.phase == Phase::opening) --opening_;
            gone(session);
        }
    }

    void give_up(const char* why) {
        report(why);
        for (auto& session : sessions_) session.close();
        talking_ = 0;
    }

    void report(const std::string& what) {
        ++errors;
        static std::atomic<int> told = 0;
        if (told++ < 5) std::fprintf(stderr, "load: WRONG: %s\n", what.c_str());
    }

    const Work& work_;
    const Script& script_;
    std::uint64_t left_;  // messages not begun
    std::vector<Session> sessions_;
    int epoll_;
    std::size_t unopened_ = 0, opening_ = 0, talking_ = 0;
    std::uint64_t turns_ = 0;
    Clock::time_point stop_at_{};
    std::array<char, 65536> buffer_{};
};
