// PostgresProcess -- what one process has of a shared queue: connections, group commit, leases; for our own .cpp files
// only, it is not installed.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "PostgresConnection.hpp"
#include "PostgresMail.hpp"
#include "PostgresPool.hpp"
#include "PostgresStore.hpp"
#include "StoreWriter.hpp"

namespace Net::SMTP {

// Any thread. A forked child makes one of its own, and leaves the one it has inherited alone.
class PostgresProcess {
public:
    // `options` must outlive it; `parents` is what was inherited.
    PostgresProcess(const PostgresConnection::Where&, const PostgresStore::Options& options, PostgresProcess* parents);

    bool ours() const { return pid_ == getpid(); }
    std::int64_t owner() const { return owner_; }

    // Runs use(connection, end) on a connection of the pool: again when it lost against somebody else, and once more
    // when the connection was dead, if it may be done twice. StoreError.
    template <class Use>
    auto with(Use use, bool twice = true);
    // One statement that only looks. StoreError.
    PostgresRows ask(const PostgresStatement&, const PostgresValues&);

    // Sends statements of one transaction. It may be called several times.
    using Send = std::function<void(PostgresConnection&)>;
    enum class Outcome {
        done,
        duplicate,  // an id is there already; nothing has changed
        fenced,     // a lease is not ours any more; nothing has changed
    };
    // Together with what others commit at this moment. Rows are locked in the order of `order`, so that two nodes do
    // not wait for each other. StoreError.
    Outcome together(std::int64_t order, const Send&);
    // In a transaction of its own, whose results come out; others are told. StoreError.
    Outcome alone(const Send&, std::vector<PostgresRows>* results = nullptr);

    PostgresClock clock() const { return {ahead_.load(std::memory_order_relaxed)}; }
    // Learns how far the clocks are apart: theirs was read after `before`.
    void compare(QueueTime before, std::int64_t theirs);

    // Gives leases back that have run out, if nobody of us has looked for a while.
    void expire(PostgresConnection&, Deadline end);
    // Whether others have changed something, or leases have run out, since this was asked last.
    bool heard(PostgresConnection&, Deadline end);

    // A new turn of claim(), and the number of those so far.
    std::uint64_t next_turn() { return ++turn_; }
    std::uint64_t turns() const { return turn_; }
    // What was given out, if it was, and has not arrived here: given back when there is a connection again.
    void lost_claim(std::uint64_t turn);
    void give_back_lost(PostgresConnection&, Deadline end);
    // Everything, if the database is at hand.
    void give_back_all() noexcept;

private:
    struct Job {
        std::int64_t order;
        const Send& send;
        std::optional<PostgresFailure> failure{};
    };
    void commit(std::span<Job* const> jobs);
    void commit_alone(std::span<Job* const> jobs, Deadline end);
    void run_alone(Job&, Deadline end);
    static Outcome outcome(const PostgresFailure&);
    void tell(PostgresConnection&) const;
    Deadline deadline() const { return std::chrono::steady_clock::now() + options_.time_out; }

    const pid_t pid_ = getpid();
    const PostgresStore::Options& options_;
    const std::int64_t owner_;
    std::atomic<std::uint64_t> turn_{0};
    std::atomic<std::int64_t> ahead_{0};
    PostgresPool pool_;

    StoreWriter<Job> writer_;
    std::unique_ptr<PostgresConnection> committer_;  // for who commits

    std::mutex claims_;
    std::vector<std::uint64_t> lost_claims_;
    Deadline expired_{};  // when somebody has looked last
    std::atomic<bool> some_expired_{false};
    std::atomic<std::int64_t> heard_{0};

    [[maybe_unused]] PostgresProcess* const parents_;  // so that it is no leak
};

template <class Use>
auto PostgresProcess::with(Use use, bool twice) {
    constexpr int tries = 5;
    const auto end = deadline();
    for (int i = 1;; ++i) {
        try {
            PostgresPool::Lent connection(pool_, end);
            return use(*connection, end);
        } catch (const PostgresFailure& failure) {
            const bool once_more = failure.again() || (failure.lost() && twice && i == 1);
            if (!once_more || i >= tries) throw store_error(failure);
        }
    }
}

}  // namespace Net::SMTP
