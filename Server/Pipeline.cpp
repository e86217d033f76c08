#include "Pipeline.hpp"

#include <algorithm>
#include <exception>

#include "Event.hpp"

namespace Net::SMTP {

std::size_t new_kind() {
    static std::atomic<std::size_t> last{0};
    return last++;
}

// What is there, and for each kind of event the functions in the order they are called; it never changes. The pointers
// lead into what the table itself keeps alive.
struct Pipeline::Table {
    struct Ear {
        Listener number;
        std::size_t kind;
        Heard call;
    };
    struct Step {
        const std::string* plugin;
        const Plugin::Call* call;
    };
    struct Chain {
        std::vector<Step> plugins;
        std::vector<const Heard*> listeners;
        bool empty() const { return plugins.empty() && listeners.empty(); }
    };

    Places places{};
    std::vector<Ear> ears{};
    std::vector<Chain> chains{};
    Chain others{};           // of kinds that nobody has a function for
    std::uint64_t heard = 0;  // see View

    std::shared_ptr<Table> changed() const {
        auto next = std::make_shared<Table>();
        next->places = places;
        next->ears = ears;
        return next;
    }
    const Chain& chain(std::size_t kind) const { return kind < chains.size() ? chains[kind] : others; }
    Places::iterator find(const std::string& name) { return std::ranges::find(places, name, &Place::name); }
    void compile();
    Chain compiled(std::size_t kind) const;
};

void Pipeline::Table::compile() {
    std::size_t kinds = 0;
    for (const auto& p : places)
        for (const auto& f : p.plugin->functions_) kinds = std::max(kinds, f.kind + 1);
    for (const auto& e : ears)
        if (e.kind != every) kinds = std::max(kinds, e.kind + 1);
    for (std::size_t kind = 0; kind < kinds; ++kind) chains.push_back(compiled(kind));
    others = compiled(every);
    for (std::size_t kind = 0; kind < 64; ++kind) heard |= std::uint64_t{!chain(kind).empty()} << kind;
}

Pipeline::Table::Chain Pipeline::Table::compiled(std::size_t kind) const {
    Chain out;
    for (const auto& p : places) {
        bool own = false;
        for (const auto& f : p.plugin->functions_)
            if (f.kind == kind) out.plugins.push_back({&p.name, &f.call}), own = true;
        if (!own && p.plugin->otherwise_) out.plugins.push_back({&p.name, &p.plugin->otherwise_});
    }
    for (const auto& e : ears)
        if (e.kind == kind || e.kind == every) out.listeners.push_back(&e.call);
    return out;
}

Pipeline::Pipeline() : table_(std::make_shared<Table>()) {}

Pipeline::~Pipeline() {
    // Nobody listens any more, and who removes itself or others while it goes finds nothing. A plugin may still be
    // telling events of its own here: it ends that in detached().
    std::shared_ptr<const Table> last;
    try {
        last = std::make_shared<Table>();
    } catch (const std::bad_alloc&) {
        // then who is being told hears it to the end
    }
    {
        const std::lock_guard lock(mutex_);
        if (last) last.swap(table_);
        else last = table_;
        version_.fetch_add(1, std::memory_order_release);
    }
    for (const auto& p : last->places) p.plugin->detached(*this, p.name);
}

// With the lock held.
void Pipeline::publish(std::shared_ptr<Table> next) {
    next->compile();
    table_ = std::move(next);
    version_.fetch_add(1, std::memory_order_release);
}

std::shared_ptr<const Pipeline::Table> Pipeline::now() const {
    const std::lock_guard lock(mutex_);
    return table_;
}

// ---- plugins ----

namespace {

template <class Places>
bool taken(const Places& places, const std::string& name) {
    return std::ranges::any_of(places, [&](const auto& p) { return p.name == name; });
}

}  // namespace

// `where` puts the place into the list, and tells which it has displaced, if any; nullopt: it can't be.
std::size_t Pipeline::put(const std::string& name, PluginPointer plugin, const Where& where) {
    if (name.empty() || !plugin) return 0;
    const Place place{name, plugin};
    auto tried = now()->places;
    if (!where(tried, place) || !plugin->attached(*this, name)) return 0;
    std::optional<Place> displaced;
    std::size_t count = 0;
    {
        const std::lock_guard lock(mutex_);
        auto next = table_->changed();
        displaced = where(next->places, place);
        count = next->places.size();
        if (displaced) publish(std::move(next));
    }
    if (!displaced) return plugin->detached(*this, name), 0;  // somebody else was faster
    if (displaced->plugin) gone(*displaced);
    Event::PluginAdded event(*this, name, *plugin);
    send(event);
    return count;
}

void Pipeline::gone(const Place& place) {
    place.plugin->detached(*this, place.name);
    Event::PluginRemoved event(*this, place.name, *place.plugin);
    send(event);
}

std::size_t Pipeline::add(const std::string& name, PluginPointer plugin) {
    return put(name, std::move(plugin), [](Places& all, const Place& place) -> std::optional<Place> {
        if (taken(all, place.name)) return std::nullopt;
        all.push_back(place);
        return Place();
    });
}

std::size_t Pipeline::add_first(const std::string& name, PluginPointer plugin) {
    return put(name, std::move(plugin), [](Places& all, const Place& place) -> std::optional<Place> {
        if (taken(all, place.name)) return std::nullopt;
        all.insert(all.begin(), place);
        return Place();
    });
}

std::size_t Pipeline::insert_beside(const std::string& other, const std::string& name, PluginPointer plugin,
                                    std::ptrdiff_t behind) {
    return put(name, std::move(plugin), [&](Places& all, const Place& place) -> std::optional<Place> {
        const auto at = std::ranges::find(all, other, &Place::name);
        if (at == all.end() || taken(all, place.name)) return std::nullopt;
        all.insert(at + behind, place);
        return Place();
    });
}

std::size_t Pipeline::insert_before(const std::string& other, const std::string& name, PluginPointer plugin) {
    return insert_beside(other, name, std::move(plugin), 0);
}

std::size_t Pipeline::insert_after(const std::string& other, const std::string& name, PluginPointer plugin) {
    return insert_beside(other, name, std::move(plugin), 1);
}

std::size_t Pipeline::replace(const std::string& other, const std::string& name, PluginPointer plugin) {
    return put(name, std::move(plugin), [&](Places& all, const Place& place) -> std::optional<Place> {
        const auto at = std::ranges::find(all, other, &Place::name);
        if (at == all.end() || (place.name != other && taken(all, place.name))) return std::nullopt;
        return std::exchange(*at, place);
    });
}

Pipeline::PluginPointer Pipeline::take(const std::function<Places::iterator(Places&)>& which) {
    Place place;
    {
        const std::lock_guard lock(mutex_);
        auto next = table_->changed();
        const auto at = which(next->places);
        if (at == next->places.end()) return nullptr;
        place = *at;
        next->places.erase(at);
        publish(std::move(next));
    }
    gone(place);
    return place.plugin;
}

Pipeline::PluginPointer Pipeline::remove(const std::string& name) {
    return take([&](Places& all) { return std::ranges::find(all, name, &Place::name); });
}

Pipeline::PluginPointer Pipeline::remove(const Plugin& plugin) {
    return take([&](Places& all) {
        return std::ranges::find_if(all, [&](const Place& p) { return p.plugin.get() == &plugin; });
    });
}

Pipeline::PluginPointer Pipeline::remove_first() {
    return take([](Places& all) { return all.begin(); });
}

Pipeline::PluginPointer Pipeline::remove_last() {
    return take([](Places& all) { return all.empty() ? all.end() : std::prev(all.end()); });
}

bool Pipeline::move(const std::string& name, bool up, std::size_t places) {
    const std::lock_guard lock(mutex_);
    auto next = table_->changed();
    auto& all = next->places;
    const auto at = next->find(name);
    if (at == all.end()) return false;
    const auto room = std::size_t(up ? at - all.begin() : all.end() - at - 1);
    const auto by = std::ptrdiff_t(std::min(places, room));
    if (up) std::rotate(at - by, at, at + 1);
    else std::rotate(at, at + 1, at + 1 + by);
    publish(std::move(next));
    return true;
}

bool Pipeline::move_up(const std::string& name, std::size_t places) { return move(name, true, places); }
bool Pipeline::move_down(const std::string& name, std::size_t places) { return move(name, false, places); }

Pipeline::PluginPointer Pipeline::get(const std::string& name) const {
    for (const auto& p : now()->places)
        if (p.name == name) return p.plugin;
    return nullptr;
}

std::string Pipeline::name_of(const Plugin& plugin) const {
    for (const auto& p : now()->places)
        if (p.plugin.get() == &plugin) return p.name;
    return "";
}

std::optional<std::size_t> Pipeline::index(const std::string& name) const {
    const auto names = order();
    const auto at = std::ranges::find(names, name);
    if (at == names.end()) return std::nullopt;
    return std::size_t(at - names.begin());
}

std::vector<std::string> Pipeline::order() const {
    std::vector<std::string> names;
    for (const auto& p : now()->places) names.push_back(p.name);
    return names;
}

std::vector<std::pair<std::string, Pipeline::PluginPointer>> Pipeline::list() const {
    std::vector<std::pair<std::string, PluginPointer>> all;
    for (const auto& p : now()->places) all.emplace_back(p.name, p.plugin);
    return all;
}

// ---- listeners ----

Pipeline::Listener Pipeline::listen(std::size_t kind, Heard heard) {
    Listener number = 0;
    {
        const std::lock_guard lock(mutex_);
        auto next = table_->changed();
        number = ++last_;
        next->ears.push_back({number, kind, heard});
        publish(std::move(next));
    }
    if (kind == every || kind == kind_of<Event::Registered>()) {
        Event::Registered event(*this);
        View view;
        Shown shown;
        try {
            heard(event);
        } catch (...) {
            stumbled(kind_of<Event::Registered>(), event, "", view, shown);
        }
    }
    return number;
}

bool Pipeline::off(Listener listener) {
    const std::lock_guard lock(mutex_);
    auto next = table_->changed();
    if (std::erase_if(next->ears, [&](const Table::Ear& e) { return e.number == listener; }) == 0) return false;
    publish(std::move(next));
    return true;
}

// ---- events ----

void Pipeline::refresh(View& view) const {
    const std::lock_guard lock(mutex_);
    view.table = table_;
    view.heard = table_->heard;
    view.version = version_.load(std::memory_order_relaxed);
}

bool Pipeline::heard_by(std::size_t kind, const View& view) const { return !view.table->chain(kind).empty(); }

// Most of what a mail's events cost is here: nothing is made before somebody has stumbled.
Pipeline::Shown Pipeline::call(std::size_t kind, Event& event, View& view) const {
    Shown shown;
    struct Within {
        int& depth;
        explicit Within(int& d) : depth(d) { ++depth; }
        ~Within() { --depth; }
    } within(view.depth);
    const auto& chain = view.table->chain(kind);
    for (const auto& step : chain.plugins) {
        auto eat = Eat::none;
        try {
            eat = (*step.call)(event);
        } catch (...) {
            stumbled(kind, event, *step.plugin, view, shown);
        }
        if (eat == Eat::client || eat == Eat::all) shown.listeners = false;
        if (eat == Eat::plugin || eat == Eat::all) break;
    }
    if (!shown.listeners) return shown;
    for (const auto* listener : chain.listeners) {
        try {
            (*listener)(event);
        } catch (...) {
            stumbled(kind, event, "", view, shown);
        }
    }
    return shown;
}

// What it has thrown, the exception that is being handled, keeps no other from its work.
void Pipeline::stumbled(std::size_t kind, Event& event, const std::string& plugin, View& view, Shown& shown) const {
    const auto answer = [&](const Reply& reply) {
        if (auto* due = event.due()) *due = reply;
    };
    std::string what = "it threw an exception of an unknown type";
    try {
        throw;
    } catch (const Hangup& h) {
        answer(h.reply());
        shown.hang_up = true;
        return;
    } catch (const Reject& r) {
        return answer(r.reply());
    } catch (const std::exception& e) {
        what = e.what();
    } catch (...) {
    }
    answer({451, "4.3.0", "Local error in processing"});
    // Who stumbles while hearing of trouble, or of what that brings about, has nobody left to tell.
    static thread_local bool telling = false;
    if (kind == kind_of<Event::Trouble>() || telling) return;
    telling = true;
    Event::Trouble trouble(event.whose(), std::move(what), plugin, kind);
    show(kind_of<Event::Trouble>(), trouble, view);
    telling = false;
}

}  // namespace Net::SMTP
