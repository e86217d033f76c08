// SqliteState -- what an SqliteStore has in one process: connections, locks, the group commit; for our own .cpp files
// only, it is not installed.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "SqliteConnection.hpp"
#include "SqliteFiles.hpp"
#include "SqliteStore.hpp"
#include "StoreWriter.hpp"

namespace Net::SMTP {

// The row of `total`, or what messages that were put later have of it.
struct SqliteTotals {
    std::int64_t last = 0;  // number given to a message
    std::int64_t messages = 0, recipients = 0, held = 0, octets = 0;
    std::int64_t newest = 0;       // no message that is there arrived later
    std::int64_t incarnation = 0;  // of who leads
    bool operator==(const SqliteTotals&) const = default;
};
SqliteTotals read_totals(SqliteConnection& db);

// The transaction that a job is part of.
struct SqliteWrite {
    SqliteConnection& db;
    SqliteTotals totals;  // stored when all jobs are done
    SqliteTotals stored;  // by the newest message
    bool room;            // without it nothing is put
};

// Small texts that are given out with their tasks: whoever commits that has them at hand, where a reader would need a
// transaction of its own for each. Any thread.
class TextsAhead {
public:
    static constexpr std::int64_t small = 8 * 1024;
    bool wanted() const { return *octets_ < most; }
    std::shared_ptr<const std::string> keep(std::string text) const;

private:
    static constexpr std::int64_t most = 16 << 20;  // of all of them
    std::shared_ptr<std::atomic<std::int64_t>> octets_ = std::make_shared<std::atomic<std::int64_t>>(0);
};

struct SqliteJob {
    virtual void run(SqliteWrite& write) = 0;
    std::exception_ptr error;  // of this job alone

protected:
    ~SqliteJob() = default;
};

class SqliteState {
public:
    SqliteState(std::string folder, const SqliteStore::Options& options);
    ~SqliteState();
    SqliteState(const SqliteState&) = delete;
    SqliteState& operator=(const SqliteState&) = delete;

    const pid_t process;
    BodyFiles bodies;
    const SqliteStore::Options options;

    const TextsAhead ahead;
    std::mutex claiming;          // one at a time
    std::vector<QueueTask> lost;  // what the last claim was for, if it failed

    // f(SqliteWrite&) in a transaction, with those of others, perhaps more than once; returns when it is committed.
    // What f throws comes out, if it has changed nothing until then; SqliteError must come through it. StoreError.
    template <class F>
    void write(F f);
    // What f(SqliteConnection&) makes of one snapshot. StoreError.
    template <class F>
    auto read(F f);

    bool lead();
    // What is in flight has this in `claim`; 0: nobody leads. Any thread, any connection's totals.
    std::int64_t live(const SqliteTotals& totals);
    std::int64_t incarnation() const { return incarnation_; }
    bool changed();
    std::uint64_t sweep();
    // Makes the folder. std::system_error.
    void make_folders() const;

private:
    friend class SqliteForks;
    using Connection = std::unique_ptr<SqliteConnection>;
    struct Borrowed;

    void commit(std::span<SqliteJob* const> jobs);
    void after_commit() noexcept;
    void transaction(std::span<SqliteJob* const> jobs);
    void one_by_one(std::span<SqliteJob* const> jobs);
    void use_reserve() noexcept;
    void look_for_room();
    void roll_back() noexcept;
    void failed(const SqliteError& error);
    void take_write_lock();
    void release_write_lock() noexcept;
    void open();
    void open_database();
    void recover();
    void wait_before_trying();
    void checkpoint() noexcept;
    void extend_log() noexcept;
    static int count_pages(void* self, sqlite3*, const char*, int pages);

    Connection borrow(std::uint64_t& generation);
    void give_back(Connection connection, std::uint64_t generation) noexcept;
    void close_readers();

    void before_fork();
    void after_fork();
    void in_child() noexcept;

    const std::string folder_, log_path_;

    // ---- with the writer's turn ----
    StoreWriter<SqliteJob> writer_;
    Connection db_;
    std::unique_ptr<LockFile> write_lock_;
    bool locked_ = false;
    const Reserve reserve_;
    bool reserved_ = false;
    bool room_ = true;  // on the disk, for more mail
    std::int64_t page_size_ = 1;
    bool suspect_ = false;      // an error of the system: the log may hold what was never committed
    unsigned failures_ = 0;     // one after the other
    std::int64_t pages_ = 0;    // in the log
    std::int64_t log_end_ = 0;  // its file's, in octets
    std::int64_t next_checkpoint_ = 0;
    std::optional<std::int64_t> version_;  // of the data, when changed() was asked last

    // ---- readers ----
    std::atomic<bool> ready_{false};  // there is a database with our tables
    std::mutex pool_mutex_;
    std::condition_variable returned_;
    std::vector<Connection> idle_;
    std::size_t borrowed_ = 0;
    std::uint64_t generation_ = 0;  // those of an older one are not used again

    // ---- who leads, who sweeps ----
    std::mutex lead_mutex_;  // before the writer's turn
    std::unique_ptr<LockFile> lead_lock_;
    std::atomic<std::int64_t> incarnation_{0};

    SqliteState* next_ = nullptr;  // in the list of SqliteForks
};

template <class F>
void SqliteState::write(F f) {
    struct Job final : SqliteJob {
        explicit Job(F& g) : f(g) {}
        void run(SqliteWrite& write) override { f(write); }
        F& f;
    } job(f);
    writer_.run(job);
    if (job.error) std::rethrow_exception(job.error);
}

struct SqliteState::Borrowed {
    explicit Borrowed(SqliteState& s) : state(s), connection(s.borrow(generation)) {}
    ~Borrowed() { state.give_back(std::move(connection), generation); }
    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;
    SqliteState& state;
    std::uint64_t generation = 0;
    Connection connection;
};

template <class F>
auto SqliteState::read(F f) {
    try {
        Borrowed reader(*this);
        auto& db = *reader.connection;
        db.run("BEGIN");
        auto result = f(db);
        db.run("COMMIT");
        return result;
    } catch (const SqliteError& e) {
        throw e.store_error();
    }
}

}  // namespace Net::SMTP
