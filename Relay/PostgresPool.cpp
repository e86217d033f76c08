#include "PostgresPool.hpp"

#include <algorithm>

#include "PostgresSchema.hpp"

namespace Net::SMTP {

namespace {

constexpr std::chrono::milliseconds first_pause{50}, longest_pause{1000};

}  // namespace

std::unique_ptr<PostgresConnection> PostgresPool::open(Deadline end) {
    bool made = false;
    {
        const std::lock_guard lock(outage_);
        if (failures_ > 0 && std::chrono::steady_clock::now() < again_) throw PostgresFailure(why_, "", true);
        made = made_;
    }
    try {
        auto connection = std::make_unique<PostgresConnection>(where_);
        if (!made) make_schema(*connection, where_.schema, end);
        connection->prepare(end, sql::all());
        const std::lock_guard lock(outage_);
        failures_ = 0;
        made_ = true;
        return connection;
    } catch (const PostgresFailure& failure) {
        const std::lock_guard lock(outage_);
        why_ = failure.what();
        failures_ = std::min(failures_ + 1, 10);
        again_ = std::chrono::steady_clock::now() + std::min(longest_pause, first_pause * (1 << failures_));
        throw;
    }
}

std::unique_ptr<PostgresConnection> PostgresPool::idle() {
    const std::lock_guard lock(mutex_);
    while (!idle_.empty()) {
        auto found = std::move(idle_.back());
        idle_.pop_back();
        if (found->alive()) return found;
    }
    return nullptr;
}

std::unique_ptr<PostgresConnection> PostgresPool::take(Deadline end) {
    std::unique_lock lock(mutex_);
    if (!free_.wait_until(lock, end, [&] { return lent_ < most_; }))
        throw PostgresFailure("all connections are busy", "", false);
    idle_.reserve(idle_.size() + lent_ + 1);  // to give one back needs no memory
    ++lent_;
    lock.unlock();
    try {
        auto found = idle();
        return found ? std::move(found) : open(end);
    } catch (...) {
        back(nullptr);
        throw;
    }
}

void PostgresPool::back(std::unique_ptr<PostgresConnection> connection) {
    {
        const std::lock_guard lock(mutex_);
        --lent_;
        if (connection && connection->connected()) idle_.push_back(std::move(connection));
    }
    free_.notify_one();
}

}  // namespace Net::SMTP
