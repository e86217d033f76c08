// signals -- one thread that waits for the signals of the process; all others have them blocked.
#pragma once

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

// SIGTERM and SIGINT ask for the end, the second one is the end; SIGHUP asks to read the configuration again.
class Signals {
public:
    // For the first thread, before there is any other.
    static void block() {
        const auto ours = set();
        pthread_sigmask(SIG_BLOCK, &ours, nullptr);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGXFSZ, SIG_IGN);  // a file that may not grow (LimitFSIZE=) is a full disk
    }

    // Both are called by the thread, and should return at once.
    Signals(std::function<void()> end, std::function<void()> again)
        : end_(std::move(end)), again_(std::move(again)), thread_([this] { wait(); }) {}
    ~Signals() {
        gone_ = true;
        pthread_kill(thread_.native_handle(), SIGUSR1);
        thread_.join();
    }
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;

private:
    static sigset_t set() {
        sigset_t ours;
        sigemptyset(&ours);
        for (int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) sigaddset(&ours, number);
        return ours;
    }
    void wait() {
        const auto ours = set();
        bool ending = false;
        for (int number; sigwait(&ours, &number) == 0 && !gone_;) {
            if (number == SIGHUP) again_();
            if (number != SIGTERM && number != SIGINT) continue;
            if (ending) _exit(128 + number);
            ending = true;
            end_();
        }
    }

    const std::function<void()> end_, again_;
    std::atomic<bool> gone_{false};
    std::thread thread_;
};
