// orders -- what the signals ask for, for the thread that does it.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>

class Orders {
public:
    // The end is wanted: `stop` is called at once, by whoever says so, and once only; it must not wait, nor give
    // orders.
    void end() {
        const std::lock_guard lock(mutex_);
        ended_ = true;
        if (stop_) stop_();
        stop_ = nullptr;
        changed_.notify_all();
    }
    void again() {
        {
            const std::lock_guard lock(mutex_);
            again_ = true;
        }
        changed_.notify_all();
    }

    // What ends the service. Does somebody want that already, it is called now.
    void on_end(std::function<void()> stop) {
        const std::lock_guard lock(mutex_);
        if (ended_) stop();
        else stop_ = std::move(stop);
    }
    // Waits for the next order. True: to read the configuration again; false: the end.
    bool wait_for_again() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return ended_ || again_; });
        again_ = false;
        return !ended_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::function<void()> stop_;
    bool ended_ = false, again_ = false;
};
