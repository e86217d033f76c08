// PostgresPool -- a process's connections to its database, which come back by themselves; for our own .cpp files only,
// it is not installed.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "PostgresConnection.hpp"

namespace Net::SMTP {

// Any thread.
class PostgresPool {
public:
    PostgresPool(PostgresConnection::Where where, std::size_t most) : where_(std::move(where)), most_(most) {}

    // A new connection, with tables and statements, for whoever keeps one. While the database is down it is asked at
    // most every second or so; in between the last error is said again. PostgresFailure.
    std::unique_ptr<PostgresConnection> open(Deadline end);

    // One that is there and free, or none.
    std::unique_ptr<PostgresConnection> idle();

    // One of at most so many, lent. It goes back by scope, unless it was dropped.
    class Lent {
    public:
        Lent(PostgresPool& pool, Deadline end) : pool_(pool), connection_(pool.take(end)) {}
        ~Lent() { pool_.back(std::move(connection_)); }
        Lent(const Lent&) = delete;
        Lent& operator=(const Lent&) = delete;
        PostgresConnection* operator->() { return connection_.get(); }
        PostgresConnection& operator*() { return *connection_; }

    private:
        PostgresPool& pool_;
        std::unique_ptr<PostgresConnection> connection_;
    };

private:
    std::unique_ptr<PostgresConnection> take(Deadline end);
    void back(std::unique_ptr<PostgresConnection>);

    const PostgresConnection::Where where_;
    const std::size_t most_;
    std::mutex mutex_;
    std::condition_variable free_;
    std::vector<std::unique_ptr<PostgresConnection>> idle_;
    std::size_t lent_ = 0;

    std::mutex outage_;
    int failures_ = 0;
    Deadline again_{};
    std::string why_;
    bool made_ = false;  // the tables are there
};

}  // namespace Net::SMTP
