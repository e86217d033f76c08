#include "QueueVoice.hpp"

#include <algorithm>

namespace Net::SMTP {

namespace {
// How many events this thread is telling: who leaves from within one can't wait for it.
thread_local int telling_here = 0;
}  // namespace

void QueueVoice::join(Pipeline& pipeline) {
    const std::lock_guard lock(mutex_);
    others_.push_back({&pipeline});
}

void QueueVoice::leave(Pipeline& pipeline) {
    std::unique_lock lock(mutex_);
    const auto ours = [&](const Other& o) { return o.pipeline == &pipeline && o.state == Other::here; };
    const auto found = std::ranges::find_if(others_, ours);
    if (found == others_.end()) return;
    if (found->telling > 0 && telling_here > 0) {
        found->state = Other::left_within;
        return;
    }
    found->state = Other::left;
    told_.wait(lock, [&] { return found->telling == 0; });
    others_.erase(found);
}

void QueueVoice::each(const std::function<void(Pipeline&)>& say) noexcept try {
    std::unique_lock lock(mutex_);
    for (auto at = others_.begin(); at != others_.end();) {
        if (at->state != Other::here) {
            ++at;
            continue;
        }
        ++at->telling, ++telling_here;
        lock.unlock();
        try {
            say(*at->pipeline);
        } catch (const std::exception&) {
            // a lack of memory; the mail is where it should be
        }
        lock.lock();
        --telling_here;
        const auto told = at++;
        if (--told->telling > 0) continue;
        if (told->state == Other::left) told_.notify_all();
        if (told->state == Other::left_within) others_.erase(told);
    }
} catch (const std::exception&) {
    // of the lock: there is none to fear
}

}  // namespace Net::SMTP
