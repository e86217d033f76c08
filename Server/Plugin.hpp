// Plugin -- functions for events under one name, which can be added to a server, moved and removed while it runs.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace Net::SMTP {

struct Event;
class Pipeline;

// What becomes of an event after a plugin has had it.
enum class Eat {
    none,    // it goes on
    client,  // to the plugins behind, but not to the listeners
    plugin,  // to the listeners, but not to the plugins behind
    all,     // to nobody
};

// A number for each kind of event, the program's own too; the same in the whole program, but not in the next run.
std::size_t new_kind();
template <class Kind>
std::size_t kind_of() {
    static_assert(!std::is_same_v<Kind, Event>, "one kind of event is meant; for all: on_all(), Plugin::otherwise()");
    static const std::size_t number = new_kind();
    return number;
}

// Functions for events. Derive it, or fill one: `plugin->on<Event::Rcpt>([](Event::Rcpt& e) { ... });` A function may
// return an Eat; one that returns nothing eats nothing. on() and otherwise() are for the time before it is added: what
// comes later is not called. The same plugin may be in several servers, and several times in one, under different
// names; its functions then run on all those sessions' threads at once. What a function throws: see Event.
class Plugin {
public:
    Plugin() = default;
    virtual ~Plugin() = default;
    Plugin(const Plugin&) = delete;
    Plugin& operator=(const Plugin&) = delete;

    // It is about to be in the pipeline under that name; false: it declines, and is not added. What it throws comes out
    // of Pipeline::add(). Called with no lock held, before the first event.
    virtual bool attached(Pipeline&, const std::string& /*name*/) { return true; }
    // It is no longer in the pipeline; an event that was under way may still be in one of its functions. Also when the
    // server and its last session have gone. Must not throw.
    virtual void detached(Pipeline&, const std::string& /*name*/) {}

    template <class Kind, class Function>
    Plugin& on(Function function) {
        functions_.push_back({kind_of<Kind>(), [function](Event& e) { return call(function, static_cast<Kind&>(e)); }});
        return *this;
    }
    // For every event that it has no function for, the program's own kinds too.
    template <class Function>
    Plugin& otherwise(Function function) {
        otherwise_ = [function](Event& e) { return call(function, e); };
        return *this;
    }

private:
    friend class Pipeline;
    using Call = std::function<Eat(Event&)>;
    struct Entry {
        std::size_t kind;
        Call call;
    };
    template <class Function, class Kind>
    static Eat call(const Function& function, Kind& event) {
        using Result = std::invoke_result_t<const Function&, Kind&>;
        static_assert(std::is_same_v<Result, Eat> || std::is_void_v<Result>, "a plugin's function returns Eat or void");
        if constexpr (std::is_same_v<Result, Eat>) return function(event);
        else return function(event), Eat::none;
    }

    std::vector<Entry> functions_;
    Call otherwise_;
};

}  // namespace Net::SMTP
