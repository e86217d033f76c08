// Pipeline -- who hears which event, in order: first the plugins, each under its name, then the listeners.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "Plugin.hpp"

namespace Net::SMTP {

struct Event;

// One for each server, Server::pipeline(). Any thread may change it at any time, a function that is being called too:
// an event that is under way goes on with those that were there when it began, and keeps them alive. Functions are
// called without a lock held. Events about it, PluginAdded and PluginRemoved, are heard when it has happened.
class Pipeline {
    struct Table;

public:
    using PluginPointer = std::shared_ptr<Plugin>;
    using Listener = std::uint64_t;  // 0: none

    Pipeline();
    ~Pipeline();
    Pipeline(const Pipeline&) = delete;
    Pipeline& operator=(const Pipeline&) = delete;

    // Puts a plugin behind all others; or before them; or before, behind or in the place of another one. How many there
    // are then. 0: nothing has changed, because the name is empty or taken (but by the one that is replaced), there is
    // no plugin or no other one of that name, or it declines.
    std::size_t add(const std::string& name, PluginPointer plugin);
    std::size_t add_first(const std::string& name, PluginPointer plugin);
    std::size_t insert_before(const std::string& other, const std::string& name, PluginPointer plugin);
    std::size_t insert_after(const std::string& other, const std::string& name, PluginPointer plugin);
    std::size_t replace(const std::string& other, const std::string& name, PluginPointer plugin);

    // The one that was removed, null if there is none.
    PluginPointer remove(const std::string& name);
    PluginPointer remove(const Plugin& plugin);  // the first place it has
    PluginPointer remove_first();
    PluginPointer remove_last();

    // Nearer to the front, or to the end, by so many places, or as far as it goes. False: there is no such name.
    bool move_up(const std::string& name, std::size_t places = 1);
    bool move_down(const std::string& name, std::size_t places = 1);

    PluginPointer get(const std::string& name) const;                 // null: there is none
    std::string name_of(const Plugin& plugin) const;                  // of its first place, "": it is not here
    std::optional<std::size_t> index(const std::string& name) const;  // from 0
    std::vector<std::string> order() const;                           // names
    std::vector<std::pair<std::string, PluginPointer>> list() const;

    // Calls the listener on each event of that kind, or of any kind, behind the plugins, in the order they came. One
    // that hears Event::Registered is told so at once.
    template <class Kind, class Function>
    Listener on(Function function) {
        return listen(kind_of<Kind>(), [function](Event& e) { function(static_cast<Kind&>(e)); });
    }
    Listener on_all(std::function<void(Event&)> listener) { return listen(every, std::move(listener)); }
    // False: there is no such listener.
    bool off(Listener listener);

    // Shows an event, the program's own kinds too, to all who hear it; true if no plugin has kept it from the
    // listeners. What they throw: see Event. std::bad_alloc.
    template <class Kind>
    bool send(Kind& event) const {
        View view;
        return show(kind_of<Kind>(), event, view).listeners;
    }

    // For a sender of many events: what it has seen of the pipeline last. One thread.
    class View {
        friend class Pipeline;
        std::uint64_t version = 0;
        std::uint64_t heard = 0;  // a bit for each of the first 64 kinds
        int depth = 0;            // of events within events
        std::shared_ptr<const Table> table{};
    };
    struct Shown {
        bool listeners = true;  // were not kept from it
        bool hang_up = false;   // somebody threw Hangup
    };
    // Whether anybody hears that kind: what nobody hears need not be made.
    bool heard(std::size_t kind, View& view) const {
        // Within an event the view stays as it is: functions of it are being called.
        if (view.depth == 0 && view.version != version_.load(std::memory_order_acquire)) refresh(view);
        return kind < 64 ? (view.heard >> kind & 1) != 0 : heard_by(kind, view);
    }
    Shown show(std::size_t kind, Event& event, View& view) const {
        return heard(kind, view) ? call(kind, event, view) : Shown();
    }

private:
    struct Place {
        std::string name{};
        PluginPointer plugin{};
    };
    using Places = std::vector<Place>;
    using Where = std::function<std::optional<Place>(Places&, const Place&)>;
    using Heard = std::function<void(Event&)>;
    static constexpr std::size_t every = ~std::size_t{0};

    friend class Server;
    Listener listen(std::size_t kind, Heard);
    std::size_t put(const std::string& name, PluginPointer, const Where&);
    std::size_t insert_beside(const std::string& other, const std::string& name, PluginPointer, std::ptrdiff_t behind);
    PluginPointer take(const std::function<Places::iterator(Places&)>& which);
    bool move(const std::string& name, bool up, std::size_t places);
    void gone(const Place&);
    void publish(std::shared_ptr<Table>);
    std::shared_ptr<const Table> now() const;
    void refresh(View&) const;
    bool heard_by(std::size_t kind, const View&) const;
    Shown call(std::size_t kind, Event&, View&) const;
    void stumbled(std::size_t kind, Event&, const std::string& plugin, View&, Shown&) const;

    mutable std::mutex mutex_;
    std::shared_ptr<const Table> table_;  // replaced as a whole
    std::atomic<std::uint64_t> version_{1};
    Listener last_ = 0;
};

}  // namespace Net::SMTP
