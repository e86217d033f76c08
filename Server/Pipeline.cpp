#include "Pipeline.hpp"

#include "Event.hpp"

namespace Net::SMTP {

void Pipeline::add(std::type_index kind, Listener listener) {
    std::lock_guard lock(mutex_);
    auto grown = std::make_shared<std::vector<Entry>>(*entries_);
    grown->push_back({kind, std::move(listener)});
    entries_ = std::move(grown);
    any_.store(true, std::memory_order_release);
}

void Pipeline::dispatch(std::type_index kind, Event& event) const {
    std::shared_ptr<const std::vector<Entry>> entries;
    {
        std::lock_guard lock(mutex_);
        entries = entries_;
    }
    for (const auto& e : *entries)
        if (e.kind == kind) e.listener(event);
}

}  // namespace Net::SMTP
