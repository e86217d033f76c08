#include "Handshakes.hpp"

#include <chrono>
#include <new>

namespace Net::SMTP {

namespace {
constexpr std::chrono::milliseconds patience(100);  // a thousand handshakes take longer, and no session waits for all
}

void Handshakes::open(std::size_t threads) noexcept try {
    const std::lock_guard lock(mutex_);
    threads_.reserve(threads);  // so that beginning one needs no memory of ours
    most_ = threads;
    open_ = true;
} catch (const std::bad_alloc&) {  // each computes himself
}

void Handshakes::close() {
    std::vector<pthread_t> ended;
    {
        const std::lock_guard lock(mutex_);
        open_ = false;
        ended.swap(threads_);
        given_.notify_all();
    }
    for (const auto thread : ended) pthread_join(thread, nullptr);
}

bool Handshakes::is_open() {
    const std::lock_guard lock(mutex_);
    return open_;
}

void Handshakes::enlist() {
    pthread_t thread;
    if (threads_.size() == most_ || pthread_create(&thread, nullptr, enter, this) != 0) return;
    threads_.push_back(thread);
    ++free_;
}

void Handshakes::take_out(const Task& task) {
    auto** at = &first_;
    while (*at != &task) at = &(*at)->next;
    *at = task.next;
    if (last_ == &task.next) last_ = at;
}

TLSLayer::Did Handshakes::go_on(TLSLayer& layer) {
    Task task{layer};
    {
        std::unique_lock lock(mutex_);
        if (open_ && (free_ == 0 || first_)) enlist();
        if (open_ && !threads_.empty()) {
            *last_ = &task;
            last_ = &task.next;
            given_.notify_one();
            task.changed.wait_for(lock, patience, [&] { return task.state != Task::waiting; });
            if (task.state == Task::waiting) take_out(task);
            else task.changed.wait(lock, [&] { return task.state == Task::done; });
        }
    }
    if (task.state == Task::waiting) return layer.handshake(false);
    if (task.thrown) std::rethrow_exception(task.thrown);
    return task.did;
}

void* Handshakes::enter(void* self) {
    static_cast<Handshakes*>(self)->work();
    return nullptr;
}

// Does what has been given before the end, too.
void Handshakes::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        given_.wait(lock, [&] { return first_ || !open_; });
        if (!first_) break;
        auto& task = *first_;
        take_out(task);
        task.state = Task::begun;
        --free_;
        lock.unlock();
        try {
            task.did = task.layer.handshake(false);
        } catch (...) {
            task.thrown = std::current_exception();
        }
        lock.lock();
        ++free_;
        task.state = Task::done;
        task.changed.notify_one();  // with the lock: the task is on the other's stack
    }
    --free_;
}

}  // namespace Net::SMTP
