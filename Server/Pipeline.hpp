// Pipeline -- who hears which event, in order.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <typeindex>
#include <vector>

namespace Net::SMTP {

struct Event;

// Listeners by kind of event, in the order they came. Any thread may add and dispatch: the list is copied and replaced,
// so a dispatch under way goes on with the list it began with. Listeners are called without a lock held.
class Pipeline {
public:
    using Listener = std::function<void(Event&)>;
    void add(std::type_index kind, Listener);
    // Calls all that listen to the event's kind; the first exception ends it and comes out.
    void dispatch(std::type_index kind, Event&) const;
    // Whether anybody may listen at all: events nobody hears need not be made.
    bool silent() const { return !any_.load(std::memory_order_acquire); }

private:
    struct Entry {
        std::type_index kind;
        Listener listener;
    };
    mutable std::mutex mutex_;
    std::shared_ptr<const std::vector<Entry>> entries_ = std::make_shared<std::vector<Entry>>();
    std::atomic<bool> any_{false};
};

}  // namespace Net::SMTP
