// StoreWriter -- what many threads want to be committed at one moment is committed at once, by one of them; for our own
// .cpp files only, it is not installed.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "Store.hpp"

namespace Net::SMTP {

// Group commit without a thread of its own. Jobs gather in a batch while the batch before is committed; whoever opened
// it commits it for all the others, who sleep until it is done. A lone caller pays no switch of threads. `Job` is
// whatever the store makes of it, and lives on its caller's stack.
template <class Job>
class StoreWriter {
public:
    // Does all jobs of a batch; one call at a time, by any thread. What it throws is heard by every caller of the batch
    // as a StoreError; what concerns one job alone it must leave in that job.
    using Commit = std::function<void(std::span<Job* const>)>;

    // At most `most` jobs in a batch. `after` is called behind each, when its callers have been woken; it never throws.
    StoreWriter(Commit commit, std::size_t most, std::function<void()> after = {})
        : commit_(std::move(commit)), after_(std::move(after)), most_(most) {}
    StoreWriter(const StoreWriter&) = delete;
    StoreWriter& operator=(const StoreWriter&) = delete;

    // Returns when the job was done with its batch. StoreError.
    void run(Job& job);

    // Held, no batch is under way and none begins: for what must not happen beside one. As a std::mutex.
    void lock() { turn_.lock(); }
    void unlock() { turn_.unlock(); }

private:
    struct Batch {
        std::vector<Job*> jobs;
        bool failed = false;
        std::optional<std::pair<std::string, Reply>>
            error;                 // each caller throws one of its own; none: no memory for it
        std::atomic<int> done{0};  // a futex
    };
    static Reply cannot_now() { return {451, "4.3.0", "The queue can't take mail now"}; }
    std::shared_ptr<Batch> join(Job& job, bool& first);
    void commit(Batch& batch);

    const Commit commit_;
    const std::function<void()> after_;
    const std::size_t most_;
    std::mutex turn_;       // of committing
    std::size_t last_ = 0;  // jobs of the batch before; with the turn
    std::mutex mutex_;      // of open_
    std::shared_ptr<Batch> open_;
};

template <class Job>
std::shared_ptr<typename StoreWriter<Job>::Batch> StoreWriter<Job>::join(Job& job, bool& first) {
    const std::lock_guard lock(mutex_);
    first = !open_ || open_->jobs.size() >= most_;
    // A batch is open when it has somebody to commit it, and not before.
    auto batch = first ? std::make_shared<Batch>() : open_;
    batch->jobs.push_back(&job);
    if (first) open_ = batch;
    return batch;
}

template <class Job>
void StoreWriter<Job>::commit(Batch& batch) {
    const std::lock_guard turn(turn_);
    // Where the last one had company, more of it is on its way: one look at who else can run makes batches half as
    // large again.
    if (last_ > 1) std::this_thread::yield();
    {
        const std::lock_guard lock(mutex_);
        if (open_.get() == &batch) open_.reset();
    }
    try {
        try {
            commit_(batch.jobs);
        } catch (const StoreError& e) {
            batch.failed = true;
            batch.error.emplace(e.what(), e.reply());
        } catch (const std::exception& e) {
            batch.failed = true;
            batch.error.emplace(e.what(), cannot_now());
        }
    } catch (const std::bad_alloc&) {  // all of them wait to hear that it has ended
    }
    last_ = batch.jobs.size();
    batch.done.store(1, std::memory_order_release);
    if (last_ > 1) syscall(SYS_futex, &batch.done, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
    if (after_) after_();
}

template <class Job>
void StoreWriter<Job>::run(Job& job) {
    bool first = false;
    const auto batch = join(job, first);
    if (first) commit(*batch);
    else
        while (batch->done.load(std::memory_order_acquire) == 0)  // std::atomic's wait() would yield some times before
            syscall(SYS_futex, &batch->done, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
    if (batch->error) throw StoreError(batch->error->first, batch->error->second);
    if (batch->failed) throw StoreError("no memory", cannot_now());
}

}  // namespace Net::SMTP
