#include "QueueAgent.hpp"

#include <algorithm>
#include <iterator>
#include <system_error>
#include <utility>

namespace Net::SMTP {

namespace {

using namespace std::chrono_literals;

constexpr auto between_ticks = 1s;
constexpr auto between_looks = 30s;       // at all domains, if nobody says that something has changed
constexpr auto after_trouble = 2s;        // with the store
constexpr std::size_t opened = 5;         // a window after the first success
constexpr std::size_t claimed_ahead = 5;  // for each delivery that may run at once
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
    auto rest = take_back("");
    std::ranges::move(std::exchange(returns_, {}), std::back_inserter(rest));
    give_back(std::move(rest), lock);
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
            if (!lock.owns_lock()) lock.lock();
            lock.unlock();
            work_.trouble(e.what());
            lock.lock();
            agent_.wait_for(lock, after_trouble, [&] { return stopping_; });
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
    if (now >= store_.surely_ours()) give_back(take_back(""), lock);
    const bool was_leading = leading_, was_paused = paused_;
    auto returns = std::exchange(returns_, {});
    const auto beat = store_.beat_interval();
    const bool beats = beat > 0ms && now >= beaten_ + beat / 2;
    if (beats) beaten_ = now;
    lock.unlock();
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
    give_back(std::move(returns), lock);
    if (paused_ && !was_paused) give_back(take_back(""), lock);
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

void QueueAgent::sleep(const std::string& name, Domain& domain, QueueTime due) {
    if (domain.where == Where::asleep) asleep_.erase({domain.due, name});
    domain.due = due;
    domain.where = Where::asleep;
    asleep_.insert({due, name});
}

void QueueAgent::make_ready(const std::string& name, Domain& domain) {
    if (domain.where == Where::asleep) asleep_.erase({domain.due, name});
    domain.where = Where::ready;
    ready_.push_back(name);
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
void QueueAgent::not_waiting(const std::string& name) {
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
}

// The next domain in turn. False: there is none, or nobody to deliver it.
bool QueueAgent::claim(Lock& lock) {
    if (ready_.empty() || runnable_.size() >= limits_.all) return false;
    const auto name = std::move(ready_.front());
    ready_.pop_front();
    auto& domain = domains_[name];
    domain.where = Where::claiming;
    domain.again = false;
    lock.unlock();
    const auto way_name = work_.way_of_domain(name);
    lock.lock();
    if (domain.claimed >= most_claimed()) {
        domain.where = Where::full;
        return true;
    }
    auto& way = ways_[way_name];
    const auto most = std::min(room(way), most_claimed() - domain.claimed);
    if (most == 0) {
        domain.where = Where::blocked;
        way.blocked.push_back(name);
        return true;
    }
    lock.unlock();
    const auto now = queue_now();
    std::optional<QueueTime> next;
    Claimed jobs;
    try {
        auto tasks = store_.claim(name, now, most);
        const bool all = recipients(tasks) < most;
        jobs = sorted(std::move(tasks));
        next = now;
        // What is due and was not given out is somebody else's at this moment.
        if (all)
            if ((next = store_.due(name))) next = std::max(*next, now + 100ms);
    } catch (const std::exception& e) {
        next = now + std::chrono::milliseconds(after_trouble);
        work_.trouble(e.what());
    }
    lock.lock();
    domain.claimed += jobs.size();
    hand_out(std::move(jobs));
    domain.where = Where::nowhere;
    if (domain.again || next == now) make_ready(name, domain);
    else if (next) sleep(name, domain, *next);
    else if (domain.claimed == 0) domains_.erase(name);
    return true;
}

// By the ways that its recipients go.
QueueAgent::Claimed QueueAgent::sorted(std::vector<QueueTask> tasks) const {
    Claimed jobs;
    for (auto& task : tasks) {
        auto to = std::exchange(task.to, {});
        const auto first = jobs.size();
        for (auto& t : to) {
            auto way = work_.way(task.from, t.recipient);
            auto job = std::find_if(jobs.begin() + std::ptrdiff_t(first), jobs.end(),
                                    [&](const QueueJob& j) { return j.way.same_as(way); });
            if (job == jobs.end()) job = jobs.insert(job, {task, std::move(way)});
            job->task.to.push_back(std::move(t));
        }
    }
    return jobs;
}

void QueueAgent::hand_out(Claimed jobs) {
    for (auto& job : jobs) {
        const auto name = job.way.name;
        auto& way = ways_[name];
        way.jobs.push_back(std::move(job));
        list(name, way);
    }
    call_worker();
}

// In line, if it has something to do that may begin.
void QueueAgent::list(const std::string& name, Way& way) {
    if (way.listed || way.jobs.empty() || !may_begin(way)) return;
    way.listed = true;
    runnable_.push_back(name);
}

// Somebody for what is in line. One is enough: who begins something calls the next one.
void QueueAgent::call_worker() {
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

void QueueAgent::unblock(Way& way) {
    while (!way.blocked.empty() && room(way) > 0) {
        const auto name = std::move(way.blocked.front());
        way.blocked.pop_front();
        make_ready(name, domains_[name]);
    }
    if (!ready_.empty() && runnable_.size() <= limits_.all / 2) rouse();
}

// ---- who delivers ----

void QueueAgent::hire() {
    if (stopping_ || crew_.size() >= limits_.all) return;
    try {
        crew_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
        if (crew_.empty()) throw;  // fewer will do
    }
}

void QueueAgent::work() {
    Lock lock(mutex_);
    while (!stopping_) {
        QueueJob job;
        std::list<Running>::iterator at;
        if (!begin(job, at)) {
            ++idle_;
            workers_.wait(lock);
            --idle_;
            continue;
        }
        const auto idle = limits_.all - std::min(under_way_.size(), limits_.all);
        lock.unlock();
        work_.keep_idle(idle);
        const auto result = work_.deliver(job);
        lock.lock();
        ended(at, result);
    }
}

bool QueueAgent::begin(QueueJob& job, std::list<Running>::iterator& at) {
    while (!runnable_.empty()) {
        if (under_way_.size() >= limits_.all || Clock::now() >= store_.surely_ours()) return false;
        const auto name = std::move(runnable_.front());
        runnable_.pop_front();
        auto& way = ways_[name];
        way.listed = false;
        if (way.jobs.empty() || !may_begin(way)) continue;
        job = std::move(way.jobs.front());
        way.jobs.pop_front();
        not_waiting(domain_of(job));
        ++way.active;
        at = under_way_.insert(under_way_.end(), {name, Clock::now()});
        list(name, way);
        unblock(way);
        call_worker();
        return true;
    }
    return false;
}

void QueueAgent::ended(std::list<Running>::iterator at, QueueTry result) {
    const auto name = std::move(at->way);
    const auto now = Clock::now();
    const auto took = std::chrono::duration<double>(now - at->since).count();
    under_way_.erase(at);
    auto& way = ways_[name];
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
        auto& way = ways_[r.way];
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

std::vector<QueueTask> QueueAgent::take_back(const std::string& id) {
    std::vector<QueueTask> out;
    for (auto& [name, way] : ways_) {
        for (auto& job : way.jobs)
            if (id.empty() || job.task.id == id) {
                not_waiting(domain_of(job));
                out.push_back(std::move(job.task));
            }
        if (id.empty()) way.jobs.clear();
        else std::erase_if(way.jobs, [](const QueueJob& job) { return job.task.to.empty(); });
        unblock(way);
    }
    return out;
}

void QueueAgent::withdraw(const std::string& id) {
    Lock lock(mutex_);
    give_back(take_back(id), lock);
}

void QueueAgent::give_back(std::vector<QueueTask> tasks, Lock& lock) {
    if (tasks.empty()) return;
    lock.unlock();
    std::vector<QueueTask> refused;
    for (auto& task : tasks) {
        try {
            store_.give_back(task);
            waiting(lower_case(task.to.front().recipient.domain), queue_now());
        } catch (const std::exception& e) {
            work_.trouble(e.what());
            refused.push_back(std::move(task));
        }
    }
    lock.lock();
    std::ranges::move(refused, std::back_inserter(returns_));
}

}  // namespace Net::SMTP
