// Handshakes -- a few threads that compute the handshakes of many sessions; for our own .cpp files only, it is not
// installed.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <vector>

#include "TLS.hpp"

namespace Net::SMTP {

// A handshake leaves more behind in its thread than a session ever needs again: random generators, and what the heap
// keeps for the thread, 11 KiB. So in a crowd they are in a few threads, not in that of every session which then waits
// for hours; to hand a handshake over costs a sixth of its CPU time, so a few sessions don't. Any thread may ask.
class Handshakes {
public:
    Handshakes() = default;
    Handshakes(const Handshakes&) = delete;
    Handshakes& operator=(const Handshakes&) = delete;

    // From now on; the threads begin when they are needed, so many at most.
    void open(std::size_t threads) noexcept;
    // Ends the threads. Who asks from then on computes himself.
    void close();
    bool is_open();

    // What layer.handshake(false) says or throws. Who finds all threads busy for long (with a key that is a device's,
    // perhaps) computes himself.
    TLSLayer::Did go_on(TLSLayer& layer);

private:
    struct Task {
        TLSLayer& layer;
        TLSLayer::Did did{};
        std::exception_ptr thrown{};
        enum { waiting, begun, done } state = waiting;
        Task* next = nullptr;
        std::condition_variable changed{};
    };
    // With the lock held.
    void enlist();
    void take_out(const Task&);
    void work();
    static void* enter(void* self);

    std::mutex mutex_;
    std::condition_variable given_;
    Task* first_ = nullptr;
    Task** last_ = &first_;
    std::vector<pthread_t> threads_;
    std::size_t most_ = 0, free_ = 0;  // threads: at most; of them, who have nothing to do
    bool open_ = false;
};

}  // namespace Net::SMTP
