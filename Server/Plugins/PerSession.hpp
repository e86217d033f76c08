// PerSession -- what a plugin or listener remembers of each session.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "../Client.hpp"

namespace Net::SMTP {

// A T for each session, made when it is first asked for and kept until end(), which Event::Disconnect should call. Any
// number of sessions at once; each asks for its own on its own thread. A lock is taken at a session's beginning and
// end only, as long as its thread serves no other one in between.
template <class T>
class PerSession {
public:
    // Good until end(). std::bad_alloc, or what T's constructor throws.
    T& operator[](const Server::Client& client) {
        auto& last = recent();
        if (last.store != number_ || last.entry->id != client.id()) last = {number_, find(client)};
        return last.entry->value;
    }
    // Forgets the session.
    void end(const Server::Client& client) {
        auto& last = recent();
        if (last.store == number_) last = {};
        const std::lock_guard lock(mutex_);
        const auto found = entries_.find(&client);
        if (found != entries_.end() && found->second->id == client.id()) entries_.erase(found);
    }
    // How many sessions there are that have begun to be remembered and have not ended.
    std::size_t size() const {
        const std::lock_guard lock(mutex_);
        return entries_.size();
    }

private:
    struct Entry {
        std::string id;
        T value{};
    };
    using Pointer = std::shared_ptr<Entry>;
    // The one this thread asked for last; alive, if no longer of any use, when the store has gone.
    struct Recent {
        std::uint64_t store = 0;
        Pointer entry{};
    };
    // A few of them, for a session may be remembered by several stores.
    Recent& recent() const {
        static thread_local std::array<Recent, 4> some;
        return some[number_ % some.size()];
    }
    static std::uint64_t next_number() {
        static std::atomic<std::uint64_t> last{0};
        return ++last;
    }
    Pointer find(const Server::Client& client) {
        const std::lock_guard lock(mutex_);
        auto& entry = entries_[&client];
        // Another session at the same address whose end was kept from us is over.
        if (!entry || entry->id != client.id()) entry = std::make_shared<Entry>(Entry{client.id()});
        return entry;
    }

    const std::uint64_t number_ = next_number();  // unlike a pointer, never that of a later store
    mutable std::mutex mutex_;
    std::unordered_map<const Server::Client*, Pointer> entries_;
};

}  // namespace Net::SMTP
