#include "QueueAgent.hpp"

#include <algorithm>
#include <iterator>
#include <new>
#include <utility>

#include "../Server/Turns.hpp"

namespace Net::SMTP {

namespace {

using namespace std::chrono_literals;

constexpr auto between_ticks = 1s;
constexpr auto between_looks = 30s;       // at all domains, if nobody says that something has changed
constexpr auto after_trouble = 2s;        // with the store
constexpr std::size_t opened = 5;         // a window after the first success
constexpr std::size_t claimed_ahead = 5;  // for each delivery that may run at once
constexpr std::size_t together = 100;     // recipients of a mail to many (RFC 5321 4.5.3.1.8)
constexpr std::size_t most_idle_ways = 1000;
constexpr std::size_t page = 1000;

std::size_t recipients(const std::vector<QueueTask>& tasks) {
    std::size_t all = 0;
    for (const auto& t : tasks) all += t.to.size();
    return all;
}

std::string domain_of(const QueueJob& job) { return lower_case(job.task.to.front().recipient.domain); }

}  // namespace

QueueAgent::QueueAgent(Store& store, Work work) : store_(store), work_(std::move(work)) {}

QueueAgent::~QueueAgent() { stop(); }

void QueueAgent::limit(const Limits& limits) {
    const Lock lock(mutex_);
    limits_ = limits;
}

void QueueAgent::start() {
    const Lock lock(mutex_);
    if (running_) return;
    stopping_ = false;
    paused_ = look_ = true;
    refreshed_ = beaten_ = ticked_ = {};
    thread_ = std::thread([this] { run(); });
    running_ = true;
}

void QueueAgent::stop() {
    Lock lock(mutex_);
    if (!running_) return;
    stopping_ = true;
    agent_.notify_all();
    workers_.notify_all();
    lock.unlock();
    thread_.join();
    for (auto& thread : crew_) thread.join();
    lock.lock();
    try {
        take_back("");
        give_back_claimed(lock);
        give_back(lock);
    } catch (const std::bad_alloc&) {  // it is the next run's, as after a crash
        if (!lock.owns_lock()) lock.lock();
    }
    claimed_.clear();
    sorted_.clear();
    crew_.clear();
    domains_.clear();
    asleep_.clear();
    ready_.clear();
    ways_.clear();
    runnable_.clear();
    returns_.clear();
    running_ = false;
}

void QueueAgent::look() {
    const Lock lock(mutex_);
    look_ = true;
    rouse();
}

// ---- the agent's thread ----

void QueueAgent::run() {
    Lock lock(mutex_);
    while (!stopping_) {
        try {
            tick(lock);
            wake_sleepers();
            if (!stopping_ && leading_ && !paused_ && claim(lock)) continue;
        } catch (const std::exception& e) {
            if (lock.owns_lock()) lock.unlock();
            work_.trouble(e.what());
            lock.lock();
            stumbled_ = look_ = true;
            agent_.wait_for(lock, between_ticks, [&] { return stopping_; });
        }
        if (stopping_) break;
        auto until = ticked_ + between_ticks;
        if (!asleep_.empty()) {
            const auto left = std::clamp<std::chrono::milliseconds>(asleep_.begin()->first - queue_now(), 0ms, 1s);
            until = std::min<Clock::time_point>(until, Clock::now() + left + 1ms);
        }
        if (look_) continue;
        waits_ = true;
        agent_.wait_until(lock, until);
        waits_ = false;
    }
}

void QueueAgent::rouse() {
    if (waits_) agent_.notify_one();
}

// What is to be done now and then.
void QueueAgent::tick(Lock& lock) {
    const auto now = Clock::now();
    if (now < ticked_ + between_ticks && !look_) return;
    ticked_ = now;
    bool changed = std::exchange(look_, false) || changed_;
    changed |= clock_jumped();
    // What others may have by now is not begun.
    if (now >= store_.surely_ours()) take_back("");
    if (std::exchange(stumbled_, false)) line_up();
    const bool lacking = stumbled_;
    give_back_claimed(lock);
    const bool was_leading = leading_, was_paused = paused_;
    const auto beat = store_.beat_interval();
    const bool beats = beat > 0ms && now >= beaten_ + beat / 2;
    if (beats) beaten_ = now;
    lock.unlock();
    if (lacking) work_.trouble("there is no memory, or no thread, to deliver mail with");
    bool paused = true, leading = was_leading;
    try {
        leading = leading || store_.lead();
        if (beats) store_.beat();
        paused = work_.paused();
        changed |= store_.changed();
    } catch (const std::exception& e) {
        work_.trouble(e.what());
    }
    lock.lock();
    leading_ = leading;
    paused_ = paused;
    if (paused_ && !was_paused) take_back("");
    give_back(lock);
    look_for_stalled();
    // A worker that found the lease at its end has gone to wait, and the beat may have come after it.
    call_worker();
    const bool due = changed || !was_leading || now >= refreshed_ + between_looks;
    changed_ = due;
    if (leading_ && !paused_ && changed_ && now >= refreshed_ + 20 * took_) refresh(lock);
}

void QueueAgent::refresh(Lock& lock) {
    const auto began = Clock::now();
    refreshed_ = began;
    changed_ = false;
    std::optional<std::string> after;
    for (bool more = true; more && !stopping_;) {
        lock.unlock();
        std::vector<QueueDomain> found;
        try {
            found = store_.domains(after, page);
        } catch (const std::exception& e) {
            work_.trouble(e.what());
        }
        lock.lock();
        more = found.size() == page;
        for (auto& f : found) {
            auto& domain = domains_[f.name];
            if (domain.where == Where::claiming) domain.again = true;
            if (domain.where == Where::nowhere || (domain.where == Where::asleep && f.due < domain.due))
                sleep(f.name, domain, f.due);
        }
        if (more) after = std::move(found.back().name);
    }
    took_ = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - began);
}

// What needs memory comes first in what follows: a domain is where it says that it is.
void QueueAgent::sleep(const std::string& name, Domain& domain, QueueTime due) {
    if (domain.where == Where::asleep && domain.due == due) return;
    asleep_.insert({due, name});
    not_asleep(name, domain);
    domain.due = due;
    domain.where = Where::asleep;
}

void QueueAgent::make_ready(const std::string& name, Domain& domain) {
    ready_.push_back(name);
    not_asleep(name, domain);
    domain.where = Where::ready;
}

void QueueAgent::not_asleep(const std::string& name, const Domain& domain) noexcept {
    if (domain.where != Where::asleep) return;
    const auto at = std::find_if(asleep_.lower_bound({domain.due, {}}), asleep_.end(),
                                 [&](const auto& entry) { return entry.second == name; });
    if (at != asleep_.end()) asleep_.erase(at);
}

// After a lack of memory: what was forgotten is done now.
void QueueAgent::line_up() {
    for (auto& [name, way] : ways_) {
        list(name, way);
        unblock(way);
    }
    for (auto& [name, domain] : domains_)
        if (domain.where == Where::full && domain.claimed <= most_claimed() / 2) make_ready(name, domain);
    call_worker();
}

void QueueAgent::wake_sleepers() {
    const auto now = queue_now();
    while (!asleep_.empty() && (asleep_.begin()->first <= now)) {
        const auto name = asleep_.begin()->second;
        make_ready(name, domains_[name]);
    }
}

void QueueAgent::waiting(const std::string& name, QueueTime due) {
    const Lock lock(mutex_);
    if (!running_ || stopping_) return;
    auto& domain = domains_[name];
    switch (domain.where) {
        case Where::claiming: domain.again = true; return;
        case Where::ready:
        case Where::full:
        case Where::blocked: return;
        case Where::asleep:
            if (domain.due <= due) return;
            [[fallthrough]];
        case Where::nowhere: break;
    }
    const bool first = asleep_.empty() || due < asleep_.begin()->first;
    sleep(name, domain, due);
    if (first) rouse();
}

// How much of it may be claimed: enough that its deliveries never wait for the store, and no more.
std::size_t QueueAgent::room(const Way& way) const {
    const auto enough = claimed_ahead * way.window;
    return way.jobs.size() > enough / 2 ? 0 : enough - way.jobs.size();
}

// Of one domain, whichever ways its mail goes.
std::size_t QueueAgent::most_claimed() const { return claimed_ahead * limits_.each; }

// A job of it has begun, or is given back.
void QueueAgent::not_waiting(const std::string& name) noexcept try {
    const auto at = domains_.find(name);
    if (at == domains_.end()) return;
    auto& domain = at->second;
    --domain.claimed;
    if (domain.where == Where::full && domain.claimed <= most_claimed() / 2) {
        make_ready(name, domain);
        rouse();
    } else if (domain.where == Where::nowhere && domain.claimed == 0) {
        domains_.erase(at);
    }
} catch (const std::bad_alloc&) {
    stumbled_ = true;
}

// The next domain in turn. False: there is none, or nobody to deliver it.
bool QueueAgent::claim(Lock& lock) {
    if (ready_.empty() || runnable_.size() >= limits_.all) return false;
    const auto name = std::move(ready_.front());
    ready_.pop_front();
    auto& domain = domains_.find(name)->second;
    domain.where = Where::claiming;
    domain.again = false;
    try {
        claim_of(name, domain, lock);
    } catch (...) {
        if (!lock.owns_lock()) lock.lock();
        if (domain.where == Where::claiming) domain.where = Where::nowhere;  // the next look finds it
        throw;
    }
    return true;
}

void QueueAgent::claim_of(const std::string& name, Domain& domain, Lock& lock) {
    lock.unlock();
    const auto way_name = work_.way_of_domain(name);
    lock.lock();
    if (domain.claimed >= most_claimed()) {
        domain.where = Where::full;
        return;
    }
    auto& way = ways_[way_name];
    const auto most = std::min(room(way), most_claimed() - domain.claimed);
    if (most == 0) {
        way.blocked.push_back(name);
        domain.where = Where::blocked;
        return;
    }
    lock.unlock();
    const auto now = queue_now();
    std::optional<QueueTime> next;
    try {
        claimed_ = store_.claim(name, now, most, together);
        const bool all = recipients(claimed_) < most;
        sorted_ = sorted(claimed_);
        claimed_.clear();
        next = now;
        // What is due and was not given out is somebody else's at this moment.
        if (all)
            if ((next = store_.due(name))) next = std::max(*next, now + 100ms);
    } catch (const StoreError& e) {
        next = now + std::chrono::milliseconds(after_trouble);
        work_.trouble(e.what());
    }
    lock.lock();
    hand_out(domain);
    domain.where = Where::nowhere;
    if (domain.again || next == now) make_ready(name, domain);
    else if (next) sleep(name, domain, *next);
    else if (domain.claimed == 0) domains_.erase(name);
}

// By the ways that its recipients go.
QueueAgent::Jobs QueueAgent::sorted(const std::vector<QueueTask>& tasks) const {
    Jobs jobs;
    for (const auto& task : tasks) {
        const auto first = jobs.size();
        for (const auto& t : task.to) {
            auto way = work_.way(task.from, t.recipient);
            auto job = std::find_if(jobs.begin() + std::ptrdiff_t(first), jobs.end(),
                                    [&](const QueueJob& j) { return j.way.same_as(way); });
            if (job == jobs.end()) {
                job = jobs.insert(job, {task, std::move(way)});
                job->task.to.clear();
            }
            job->task.to.push_back(t);
        }
    }
    return jobs;
}

// All of sorted_.
void QueueAgent::hand_out(Domain& domain) {
    while (!sorted_.empty()) {
        const auto name = sorted_.front().way.name;
        auto& way = ways_[name];
        way.jobs.push_back(std::move(sorted_.front()));
        sorted_.pop_front();
        ++domain.claimed;
        list(name, way);
    }
    call_worker();
}

// What could not be handed out. By the agent's thread.
void QueueAgent::give_back_claimed(Lock& lock) {
    while (!claimed_.empty()) {
        returns_.emplace_back();
        returns_.back() = std::move(claimed_.back());
        claimed_.pop_back();
    }
    while (!sorted_.empty()) {
        returns_.emplace_back();
        returns_.back() = std::move(sorted_.front().task);
        sorted_.pop_front();
    }
    give_back(lock);
}

// In line, if it has something to do that may begin.
void QueueAgent::list(const std::string& name, Way& way) noexcept try {
    if (way.listed || way.jobs.empty() || !may_begin(way)) return;
    runnable_.push_back(name);
    way.listed = true;
} catch (const std::bad_alloc&) {
    stumbled_ = true;
}

// Somebody for what is in line. One is enough: who begins something calls the next one.
void QueueAgent::call_worker() noexcept {
    if (runnable_.empty()) return;
    if (idle_ > 0) workers_.notify_one();
    else hire();
}

// Who may not is looked at again when one of its own deliveries ends.
bool QueueAgent::may_begin(const Way& way) const {
    const auto busy = std::min(under_way_.size(), limits_.all);
    const auto share = std::max<std::size_t>(1, (limits_.all - busy + 3) / 4);
    return way.active < std::min(way.window, share);
}

void QueueAgent::unblock(Way& way) noexcept try {
    while (!way.blocked.empty() && room(way) > 0) {
        const auto& name = way.blocked.front();
        make_ready(name, domains_.find(name)->second);
        way.blocked.pop_front();
    }
    if (!ready_.empty() && runnable_.size() <= limits_.all / 2) rouse();
} catch (const std::bad_alloc&) {
    stumbled_ = true;
}

// ---- who delivers ----

void QueueAgent::hire() noexcept try {
    if (!stopping_ && crew_.size() < limits_.all) crew_.emplace_back([this] { work(); });
} catch (const std::exception&) {
    stumbled_ |= crew_.empty();  // fewer will do
}

void QueueAgent::work() {
    const Turns turns;
    Lock lock(mutex_);
    while (!stopping_) try {
            std::list<Running> mine(1);
            Tasks back(1);
            if (begin(mine)) {
                deliver(mine, back, lock);
                continue;
            }
            ++idle_;
            workers_.wait(lock);
            --idle_;
        } catch (const std::bad_alloc&) {
            lock.unlock();
            std::this_thread::sleep_for(10ms);
            lock.lock();
        }
}

// The first that may, out of its line into `mine`, which the caller has made: so nothing is thrown when it has left the
// line.
bool QueueAgent::begin(std::list<Running>& mine) {
    while (!runnable_.empty()) {
        if (under_way_.size() >= limits_.all || Clock::now() >= store_.surely_ours()) return false;
        auto& way = ways_.find(runnable_.front())->second;
        const bool may = !way.jobs.empty() && may_begin(way);
        if (may) {
            mine.front().way = runnable_.front();
            mine.front().domain = domain_of(way.jobs.front());
        }
        runnable_.pop_front();
        way.listed = false;
        if (!may) continue;
        mine.front().since = Clock::now();
        mine.front().job = std::move(way.jobs.front());
        way.jobs.pop_front();
        ++way.active;
        return true;
    }
    return false;
}

void QueueAgent::deliver(std::list<Running>& mine, Tasks& back, Lock& lock) {
    const auto at = mine.begin();
    under_way_.splice(under_way_.end(), mine);
    auto& way = ways_.find(at->way)->second;
    not_waiting(at->domain);
    list(at->way, way);
    unblock(way);
    call_worker();
    const auto idle = limits_.all - std::min(under_way_.size(), limits_.all);
    lock.unlock();
    auto result = QueueTry::answered;
    bool tried = false;
    try {
        work_.keep_idle(idle);
        result = work_.deliver(at->job);
        tried = true;
    } catch (const std::exception& e) {
        work_.trouble(e.what());
    }
    lock.lock();
    if (!tried) {
        back.front() = std::move(at->job.task);
        returns_.splice(returns_.end(), back);
    }
    ended(at, result);
}

void QueueAgent::ended(std::list<Running>::iterator at, QueueTry result) {
    const auto name = std::move(at->way);
    const auto now = Clock::now();
    const auto took = std::chrono::duration<double>(now - at->since).count();
    under_way_.erase(at);
    auto& way = ways_.find(name)->second;
    --way.active;
    if (result == QueueTry::sent) {
        way.usual = way.last_success == Clock::time_point{} ? took : 0.8 * way.usual + 0.2 * took;
        way.last_success = now;
        way.window = std::min(limits_.each, std::max(way.window + 1, opened));
    } else if (result == QueueTry::failed) {
        way.window = std::max<std::size_t>(1, way.window / 2);
    }
    list(name, way);
    unblock(way);
    const bool idle = way.jobs.empty() && way.active == 0 && way.blocked.empty() && !way.listed;
    if (idle && (way.last_success == Clock::time_point{} || ways_.size() > most_idle_ways)) ways_.erase(name);
}

// Where nothing has gone well since one of its sessions began, and that is long ago, a single one probes.
void QueueAgent::look_for_stalled() {
    const auto now = Clock::now();
    for (const auto& r : under_way_) {
        auto& way = ways_.find(r.way)->second;
        const auto usual = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(3 * way.usual));
        if (way.last_success < r.since && now - r.since > std::max<Clock::duration>(limits_.stall, usual))
            way.window = 1;
    }
}

// The calendar and the clock that only goes forward should go together.
bool QueueAgent::clock_jumped() {
    const auto steady = std::chrono::duration_cast<QueueTime::duration>(Clock::now().time_since_epoch());
    const auto apart = queue_now().time_since_epoch() - steady;
    const auto moved = apart - std::exchange(clocks_apart_, apart);
    return moved > 5s || moved < -5s;
}

// ---- what is not to be delivered after all ----

void QueueAgent::take_back(const std::string& id) {
    for (auto& [name, way] : ways_) {
        for (std::size_t i = 0; i < way.jobs.size();) {
            if (!id.empty() && way.jobs[i].task.id != id) {
                ++i;
                continue;
            }
            const auto domain = domain_of(way.jobs[i]);
            returns_.emplace_back();
            returns_.back() = std::move(way.jobs[i].task);
            way.jobs.erase(way.jobs.begin() + std::ptrdiff_t(i));
            not_waiting(domain);
        }
        unblock(way);
    }
}

void QueueAgent::withdraw(const std::string& id) {
    Lock lock(mutex_);
    take_back(id);
    give_back(lock);
}

void QueueAgent::give_back(Lock& lock) {
    if (returns_.empty()) return;
    auto tasks = std::move(returns_);
    returns_.clear();
    lock.unlock();
    for (auto at = tasks.begin(); at != tasks.end();) {
        try {
            store_.give_back(*at);
            waiting(lower_case(at->to.front().recipient.domain), queue_now());
            at = tasks.erase(at);
        } catch (const std::exception& e) {
            work_.trouble(e.what());
            ++at;
        }
    }
    lock.lock();
    returns_.splice(returns_.end(), tasks);
}

}  // namespace Net::SMTP
