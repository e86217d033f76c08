// PostgresStore -- a queue's mail in a PostgreSQL database, which any number of machines share.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "Store.hpp"

namespace Net::SMTP {

// Any process that has a store on the database accepts, and any delivers: who claims a recipient has it for a lease,
// which beat() extends; the lease of who has died or is frozen runs out, and its mail is given to others, but
// for the time of one lease after the database's start: it may have been away for longer than that. A store that is
// destroyed gives back at once what it still has.
//
// Time is the database's: a clock of ours that is over two seconds away from it is corrected by the difference, each
// way. So machines whose clocks disagree try mail at the same time, and a lease ends for all at once.
//
// Texts are in the database too, as rows of 256 KiB, and go there and back in constant memory. What several threads
// put or record at one moment is committed together, by one thread and one connection of the process; it starts with
// the first of these calls. Nothing is connected before it is needed, so a database that is down at the start is no
// matter.
//
// PostgreSQL 13 or later, without a pooler that gives a session's statements to several servers (pgbouncer:
// pool_mode = session). fsync must be on there. The role owns the schema, or may create it.
class PostgresStore final : public Store {
public:
    struct Options {
        // What was claimed is given to others when nothing was heard of us for so long. From one second.
        std::chrono::milliseconds lease{std::chrono::seconds(120)};
        // No call takes longer than about twice this. From one second.
        std::chrono::milliseconds time_out{std::chrono::seconds(30)};
        // Connections of a process at most, besides the one that commits. From 1 to 1000.
        std::size_t connections = 8;
        // Where the tables are; made when it is missing. Small letters, digits and underscores. Several queues may
        // share one database.
        std::string schema = "net_smtp_queue";
        // Where texts over 256 KiB are put when they are read, in files without a name; "": the system's for such.
        std::string spool_dir{};
    };

    // A connection string or URI, as libpq reads it: "postgresql://user@host/mail", "host=/run/postgresql
    // dbname=mail"; several hosts where the database fails over (with target_session_attrs=read-write). What is not
    // said there comes from the environment (PGPASSFILE and others). std::invalid_argument for what makes no sense; it
    // does not quote the string, which may have a password.
    explicit PostgresStore(const std::string& connection);
    PostgresStore(const std::string& connection, Options options);
    ~PostgresStore() override;

    void put(const QueuedMail& mail) override;

    bool lead() override;  // always true
    void beat() override;
    std::chrono::milliseconds beat_interval() const override;  // a quarter of the lease
    // A lease behind the beginning of the last beat() that went well; of the first claim() when there was none.
    std::chrono::steady_clock::time_point surely_ours() const override;
    std::vector<QueueDomain> domains(const std::optional<std::string>& after, std::size_t limit) override;
    std::optional<QueueTime> due(const std::string& domain) override;
    bool changed() override;
    // What is due by `now`; leases end by the database's clock alone.
    std::vector<QueueTask> claim(const std::string& domain, QueueTime now, std::size_t limit,
                                 std::size_t together = 0) override;
    Message text(const QueueTask& task) override;
    bool record(const QueueTask& task, std::span<const QueueVerdict> verdicts,
                std::span<const QueuedMail> notices) override;
    void give_back(const QueueTask& task) override;

    Cancelled cancel(const std::string& id) override;
    bool hold(const std::string& id) override;
    bool release(const std::string& id) override;
    std::uint64_t flush(const std::string& id) override;
    std::uint64_t flush_domain(const std::string& domain) override;
    std::uint64_t flush_all() override;

    std::vector<QueueItem> items(std::int64_t after, std::size_t limit) override;
    std::optional<QueueItem> item(const std::string& id) override;
    std::optional<Message> look(const std::string& id) override;
    QueueStats stats() override;

    std::optional<std::string> setting(const std::string& name) override;
    void set(const std::string& name, const std::string& value) override;

    std::string name() const override;  // "postgresql:DATABASE@HOST"

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace Net::SMTP
