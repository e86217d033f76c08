// QueueVoice -- who hears what happens to queued mail; for our own .cpp files only, it is not installed.
#pragma once

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>

#include "../Server/Pipeline.hpp"
#include "QueueEvents.hpp"

namespace Net::SMTP {

// A queue's own pipeline and those that it is a plugin of. Any thread.
class QueueVoice {
public:
    QueueVoice() { others_.push_back({&own_}); }
    Pipeline& own() const { return own_; }

    void join(Pipeline& pipeline);
    // Afterwards it is not touched any more. Waits for events that are being told there, but for those of this thread.
    void leave(Pipeline& pipeline);

    // What listeners throw is theirs.
    template <class Kind>
    void tell(Kind& event) noexcept {
        each([&](Pipeline& p) { p.send(event); });
    }
    template <class Kind>
    bool heard() noexcept {
        bool any = false;
        each([&](Pipeline& p) {
            Pipeline::View view;
            any |= p.heard(kind_of<Kind>(), view);
        });
        return any;
    }

private:
    struct Other {
        Pipeline* pipeline;
        int telling = 0;
        enum { here, left, left_within } state = here;
    };
    void each(const std::function<void(Pipeline&)>& say) noexcept;

    mutable Pipeline own_;
    std::mutex mutex_;
    std::condition_variable told_;
    std::list<Other> others_;
};

}  // namespace Net::SMTP
