// QueueAgent -- gives out what is due to the threads that deliver it; for our own .cpp files only, it is not installed.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "QueueDelivery.hpp"

namespace Net::SMTP {

// One thread claims, others deliver; it knows no message before it is claimed, but every domain that has one.
//
// A domain is asleep until its first mail is due, or ready, or blocked: the way it goes has enough, or full: enough of
// its own was claimed. What is claimed waits at its way, and each way has a window: so many deliveries at once. It
// begins at one, opens with success, and is one again when sessions stall. None begins another one while it holds a
// quarter of what the others leave free; so places that don't answer hold some threads, and not all. Ways with work
// take turns.
class QueueAgent {
public:
    struct Limits {
        std::size_t all = 100, each = 20;
        std::chrono::milliseconds stall{5000};
    };
    // They are called with no lock held, and throw nothing but a lack of memory.
    struct Work {
        std::function<QueueTry(const QueueJob&)> deliver;  // what throws has not begun
        std::function<QueueWay(const Sender&, const Recipient&)> way;
        std::function<std::string(const std::string& domain)> way_of_domain;
        std::function<bool()> paused;
        std::function<void(std::size_t idle)> keep_idle;  // so many connections at most
        std::function<void(const char* what)> trouble;    // never throws
    };
    QueueAgent(Store& store, Work work);
    // As cut_off().
    ~QueueAgent();
    QueueAgent(const QueueAgent&) = delete;
    QueueAgent& operator=(const QueueAgent&) = delete;

    void limit(const Limits& limits);
    // std::system_error without a single thread to be had.
    void start();
    // Begins nothing more, gives back what has not begun, and returns when everything has ended.
    void stop();

    // Of this domain something waits that is due then. Cheap; any thread.
    void waiting(const std::string& domain, QueueTime due);
    // The store and paused() are to be looked at again, now.
    void look();
    // Gives back what of this message has not begun.
    void withdraw(const std::string& id);

private:
    using Clock = std::chrono::steady_clock;
    using Lock = std::unique_lock<std::mutex>;
    enum class Where { nowhere, asleep, ready, blocked, full, claiming };
    struct Domain {
        QueueTime due = never_due;
        Where where = Where::nowhere;
        bool again = false;       // something came while it was claimed
        std::size_t claimed = 0;  // jobs that have not begun
    };
    struct Way {
        std::deque<QueueJob> jobs{};
        std::deque<std::string> blocked{};  // domains
        std::size_t active = 0, window = 1;
        bool listed = false;  // in runnable_
        double usual = 0;     // seconds that a success takes
        Clock::time_point last_success{};
    };
    struct Running {
        std::string way{}, domain{};
        Clock::time_point since{};
        QueueJob job{};
    };
    using Jobs = std::deque<QueueJob>;
    using Tasks = std::list<QueueTask>;

    void run();
    void tick(Lock&);
    void refresh(Lock&);
    bool claim(Lock&);
    void claim_of(const std::string& name, Domain&, Lock&);
    Jobs sorted(const std::vector<QueueTask>& tasks) const;
    void hand_out(Domain&);
    void give_back_claimed(Lock&);
    void line_up();
    void wake_sleepers();
    void sleep(const std::string& name, Domain&, QueueTime due);
    void make_ready(const std::string& name, Domain&);
    void not_asleep(const std::string& name, const Domain&) noexcept;
    // These never throw: what they could not do line_up() does.
    void list(const std::string& name, Way&) noexcept;
    void not_waiting(const std::string& domain) noexcept;
    void unblock(Way&) noexcept;
    void call_worker() noexcept;
    void hire() noexcept;
    bool may_begin(const Way&) const;
    std::size_t room(const Way&) const;
    std::size_t most_claimed() const;
    void rouse();
    void work();
    bool begin(std::list<Running>& mine);
    void deliver(std::list<Running>& mine, Tasks& back, Lock&);
    void ended(std::list<Running>::iterator, QueueTry);
    void look_for_stalled();
    bool clock_jumped();
    // Into returns_; with an id: of that message; else all.
    void take_back(const std::string& id);
    // Of returns_.
    void give_back(Lock&);

    Store& store_;
    const Work work_;
    mutable std::mutex mutex_;
    std::condition_variable agent_, workers_;
    Limits limits_;
    bool running_ = false, stopping_ = false, leading_ = false, waits_ = false;
    bool paused_ = true;  // until it was asked
    bool look_ = true, changed_ = false;
    std::thread thread_;
    std::list<std::thread> crew_;
    std::size_t idle_ = 0;
    std::unordered_map<std::string, Domain> domains_;
    std::set<std::pair<QueueTime, std::string>> asleep_;
    std::deque<std::string> ready_;
    std::unordered_map<std::string, Way> ways_;
    std::deque<std::string> runnable_;
    std::list<Running> under_way_;
    Tasks returns_;  // what the store has not back yet
    // What the agent's own thread has claimed and not handed out yet: a lack of memory must not make it forget that.
    std::vector<QueueTask> claimed_;
    Jobs sorted_;
    bool stumbled_ = false;  // over a lack of memory or threads: something may not stand in line where it should
    Clock::time_point refreshed_{}, beaten_{}, ticked_{};
    std::chrono::milliseconds took_{};  // the last look at all domains
    QueueTime::duration clocks_apart_{};
};

}  // namespace Net::SMTP
