#include "PostgresProcess.hpp"

#include <algorithm>
#include <random>
#include <utility>

#include "PostgresSchema.hpp"
#include "StoreCodec.hpp"

namespace Net::SMTP {

namespace {

using std::chrono::milliseconds, std::chrono::steady_clock;

// Clocks that are no further apart are taken for the same: they are set by NTP, and what was asked is on its way.
constexpr milliseconds same_clock{2000};
constexpr int tries = 5;  // of what lost against somebody else
constexpr std::size_t most_jobs = 500;

std::int64_t random_owner() {
    std::random_device random;
    return std::int64_t((std::uint64_t(random()) << 32 | random()) >> 1);
}

}  // namespace

PostgresProcess::PostgresProcess(const PostgresConnection::Where& where, const PostgresStore::Options& options,
                                 PostgresProcess* parents)
    : options_(options),
      owner_(random_owner()),
      pool_(where, options.connections),
      writer_([this](std::span<Job* const> jobs) { commit(jobs); }, most_jobs),
      parents_(parents) {}

PostgresRows PostgresProcess::ask(const PostgresStatement& statement, const PostgresValues& values) {
    return with(
        [&](PostgresConnection& connection, Deadline end) { return connection.run(end, statement, values)[0]; });
}

PostgresProcess::Outcome PostgresProcess::outcome(const PostgresFailure& failure) {
    if (failure.duplicate()) return Outcome::duplicate;
    if (failure.fenced()) return Outcome::fenced;
    throw store_error(failure);
}

void PostgresProcess::tell(PostgresConnection& connection) const {
    connection.add(sql::tell, PostgresValues().i8(owner_));
}

PostgresProcess::Outcome PostgresProcess::alone(const Send& send, std::vector<PostgresRows>* results) {
    const auto once = [&](PostgresConnection& connection, Deadline end) {
        connection.begin(end);
        try {
            send(connection);
        } catch (...) {
            connection.close();  // in the middle of a transaction
            throw;
        }
        tell(connection);
        try {
            auto found = connection.commit();
            if (results) *results = std::move(found);
        } catch (const PostgresFailure& failure) {
            if (failure.again()) throw;
            return outcome(failure);
        }
        return Outcome::done;
    };
    return with(once, false);
}

// ---- group commit ----

PostgresProcess::Outcome PostgresProcess::together(std::int64_t order, const Send& send) {
    Job job{order, send};
    writer_.run(job);
    return job.failure ? outcome(*job.failure) : Outcome::done;
}

void PostgresProcess::commit(std::span<Job* const> jobs) {
    std::vector<Job*> sorted(jobs.begin(), jobs.end());
    std::ranges::stable_sort(sorted, {}, &Job::order);
    const auto end = deadline();
    try {
        if (!committer_ || !committer_->alive()) {
            committer_.reset();
            committer_ = pool_.open(end);
        }
        committer_->begin(end);
        for (auto* job : sorted) job->send(*committer_);
        tell(*committer_);
        committer_->commit();
    } catch (const PostgresFailure& failure) {
        if (failure.lost()) committer_.reset();
        if (!committer_ || failure.no_room()) throw store_error(failure);
        commit_alone(sorted, deadline());
    }
}

// One of them has failed, and nothing was done; which one is not said.
void PostgresProcess::commit_alone(std::span<Job* const> jobs, Deadline end) {
    for (auto* job : jobs) {
        if (committer_->connected()) run_alone(*job, end);
        else job->failure.emplace("the connection broke", "", true);
    }
    if (!committer_->connected()) committer_.reset();
}

void PostgresProcess::run_alone(Job& job, Deadline end) {
    for (int i = 1; i <= tries; ++i) {
        try {
            committer_->begin(end);
            job.send(*committer_);
            tell(*committer_);
            committer_->commit();
            job.failure.reset();
            return;
        } catch (const PostgresFailure& failure) {
            job.failure.emplace(failure);
            if (!failure.again()) return;
        }
    }
}

// ---- time ----

void PostgresProcess::compare(QueueTime before, std::int64_t theirs) {
    const auto first = to_number(before), last = to_number(queue_now());
    const auto away = theirs < first ? theirs - first : theirs > last ? theirs - last : 0;
    ahead_.store(std::abs(away) > same_clock.count() ? away : 0, std::memory_order_relaxed);
}

void PostgresProcess::expire(PostgresConnection& connection, Deadline end) {
    {
        const auto pause = std::clamp<milliseconds>(options_.lease / 10, milliseconds(100), milliseconds(5000));
        const std::lock_guard lock(claims_);
        const auto now = steady_clock::now();
        if (now - expired_ < pause) return;
        expired_ = now;
    }
    connection.begin(end);
    connection.add(sql::expire, PostgresValues().i8(owner_).i8(options_.lease.count()));
    connection.add(sql::cut_off, PostgresValues().i8(owner_).i8(options_.time_out.count() + options_.lease.count()));
    connection.add(sql::forget);
    if (connection.commit()[0].size() > 0) some_expired_ = true;
}

// ---- the others ----

bool PostgresProcess::heard(PostgresConnection& connection, Deadline end) {
    const auto told = connection.run(end, sql::told, PostgresValues().i8(owner_))[0].i8(0, 0);
    const bool fresh = heard_.exchange(told) != told;
    return some_expired_.exchange(false) || fresh;
}

void PostgresProcess::lost_claim(std::uint64_t turn) {
    const std::lock_guard lock(claims_);
    lost_claims_.push_back(turn);
}

void PostgresProcess::give_back_lost(PostgresConnection& connection, Deadline end) {
    std::vector<std::uint64_t> lost;
    {
        const std::lock_guard lock(claims_);
        lost = lost_claims_;
    }
    for (const auto each : lost) {
        connection.run(end, sql::give_back_turn, PostgresValues().i8(owner_).i8(std::int64_t(each)));
        const std::lock_guard lock(claims_);
        std::erase(lost_claims_, each);
    }
}

void PostgresProcess::give_back_all() noexcept {
    try {
        const auto connection = pool_.idle();
        if (!connection) return;
        connection->begin(steady_clock::now() + std::chrono::seconds(5));
        connection->add(sql::give_back_all, PostgresValues().i8(owner_));
        tell(*connection);
        connection->commit();
    } catch (const std::exception&) {
        // Their leases will run out.
    }
}

}  // namespace Net::SMTP
