#include "SqliteState.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "SqliteSchema.hpp"
#include "StoreCodec.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto patience = 5s;  // for another process's lock
constexpr int patience_ms = 5000;
constexpr std::size_t most_jobs = 512;  // in a transaction
constexpr std::size_t most_readers = 8;
constexpr std::int64_t log_step = 2 << 20;
constexpr auto longest_pause = 250ms;  // before a database that has failed is tried again

// In write.lock: who has `next` is the one that gets `turn` after whoever has it, so nobody starves.
constexpr int turn = 0, next = 1;

std::exception_ptr error_of(const SqliteError& error) noexcept try {
    return std::make_exception_ptr(error.store_error());
} catch (...) {
    return std::current_exception();
}

void take(LockFile& lock, int octet, Clock::time_point end) {
    for (auto pause = 20us; !lock.take(octet); pause = std::min(2 * pause, 500us)) {
        if (Clock::now() > end) throw no_store("sqlite: another process keeps the queue locked");
        std::this_thread::sleep_for(pause);
    }
}

}  // namespace

// ---- fork ----

// SQLite keeps a list of the files that a process has open, and of the locks on them, which a forked child inherits: a
// connection of its own would take locks of its parent's for its own and take none. So there is no connection when a
// process forks. The list of the states is what pthread_atfork(3), which takes no argument, makes necessary.
class SqliteForks {
public:
    static void add(SqliteState* state) {
        static const int once = pthread_atfork(prepare, parent, child);
        if (once != 0) throw std::system_error(once, std::generic_category(), "pthread_atfork");
        const std::lock_guard lock(mutex);
        state->next_ = first;
        first = state;
    }
    static void remove(SqliteState* state) {
        const std::lock_guard lock(mutex);
        auto** at = &first;
        while (*at && *at != state) at = &(*at)->next_;
        if (*at) *at = state->next_;
    }

private:
    static void prepare() {
        mutex.lock();
        for (auto* s = first; s; s = s->next_) s->before_fork();
    }
    static void parent() {
        for (auto* s = first; s; s = s->next_) s->after_fork();
        mutex.unlock();
    }
    // The states stay as they are: nobody in the child uses them.
    static void child() {
        for (auto* s = first; s; s = s->next_) s->in_child();
        inherited = std::exchange(first, nullptr);
        mutex.unlock();
    }

    static inline std::mutex mutex;
    static inline SqliteState* first = nullptr;
    static inline SqliteState* inherited = nullptr;
};

void SqliteState::before_fork() {
    lead_mutex_.lock();
    writer_.lock();
    std::unique_lock pool(pool_mutex_);
    returned_.wait(pool, [&] { return borrowed_ == 0; });
    idle_.clear();
    db_.reset();
    version_.reset();
    pool.release();
}

void SqliteState::after_fork() {
    pool_mutex_.unlock();
    writer_.unlock();
    lead_mutex_.unlock();
}

void SqliteState::in_child() noexcept {
    for (const auto& lock : {std::cref(write_lock_), std::cref(lead_lock_)})
        if (lock.get()) close(lock.get()->fd());
    if (bodies.lock_fd() >= 0) close(bodies.lock_fd());
    after_fork();
}

// ---- life ----

SqliteState::SqliteState(std::string folder, const SqliteStore::Options& o)
    : process(getpid()),
      bodies(folder),
      options(o),
      folder_(std::move(folder)),
      log_path_(folder_ + "/queue.db-wal"),
      writer_([this](std::span<SqliteJob* const> jobs) { commit(jobs); }, most_jobs, [this] { after_commit(); }),
      reserve_(folder_ + "/reserve", options.log_size) {
    idle_.reserve(most_readers);  // to give one back needs no memory
    SqliteForks::add(this);
}

SqliteState::~SqliteState() { SqliteForks::remove(this); }

void SqliteState::make_folders() const {
    for (const auto& folder : {folder_, bodies.bodies(), folder_ + "/owners"}) make_folder(folder);
}

std::shared_ptr<const std::string> TextsAhead::keep(std::string text) const {
    auto kept = std::make_unique<const std::string>(std::move(text));
    *octets_ += std::int64_t(kept->size());
    return {kept.release(), [octets = octets_](const std::string* gone) {
                *octets -= std::int64_t(gone->size());
                delete gone;
            }};
}

// ---- one batch ----

void SqliteState::commit(std::span<SqliteJob* const> jobs) {
    try {
        open();
        take_write_lock();
        if (suspect_) recover();
        look_for_room();
        try {
            transaction(jobs);
        } catch (const SqliteError& e) {
            roll_back();
            if (e.full() && room_) use_reserve(), transaction(jobs);
            else if (e.of_the_data() && jobs.size() > 1) one_by_one(jobs);
            else throw;
        } catch (const std::exception&) {  // a lack of memory, or a mistake in one of them
            roll_back();
            if (jobs.size() == 1) throw;
            one_by_one(jobs);
        }
        failures_ = 0;
    } catch (const SqliteError& e) {
        failed(e);
        throw e.store_error();
    } catch (const std::system_error& e) {
        roll_back();
        ++failures_;
        throw store_error(std::string("sqlite: ") + e.what(), e.code().value());
    } catch (...) {
        roll_back();
        throw;
    }
}

// The reserve is as large as the log: so all of the log can go to its place, and its room be used again to record and
// to remove; but nothing is put until there is room for the reserve too.
void SqliteState::use_reserve() noexcept {
    reserved_ = room_ = false;
    reserve_.release();
    checkpoint();
}

// The database never becomes smaller; what has been removed from it is room too.
void SqliteState::look_for_room() {
    if (reserved_) return;
    reserved_ = reserve_.take();
    const auto unused = reserved_ ? 0 : std::stoll(db_->ask("PRAGMA freelist_count"));
    room_ = reserved_ || unused * page_size_ >= 2 * std::int64_t(options.log_size);
}

// One of them is to blame, and only that one is to hear it.
void SqliteState::one_by_one(std::span<SqliteJob* const> jobs) {
    for (auto* job : jobs) {
        try {
            if (suspect_) recover();
            transaction({&job, 1});
        } catch (const SqliteError& e) {
            failed(e);
            job->error = error_of(e);
        } catch (...) {
            roll_back();
            job->error = std::current_exception();
        }
    }
}

void SqliteState::transaction(std::span<SqliteJob* const> jobs) {
    db_->run("BEGIN IMMEDIATE");
    const auto totals = read_totals(*db_);
    SqliteWrite write{*db_, totals, totals, room_};
    for (auto* job : jobs) {
        const auto kept = write.totals;
        job->error = nullptr;
        try {
            job->run(write);
        } catch (const StoreError&) {  // it has refused before it has written anything
            job->error = std::current_exception();
            write.totals = kept;
        } catch (const std::invalid_argument&) {
            job->error = std::current_exception();
            write.totals = kept;
        }
    }
    const auto& t = write.totals;
    if (t != write.stored)
        db_->run("UPDATE total SET last=?, messages=?, recipients=?, held=?, octets=?, newest=?, incarnation=?", t.last,
                 t.messages, t.recipients, t.held, t.octets, t.newest, t.incarnation);
    db_->run("COMMIT");
}

void SqliteState::roll_back() noexcept {
    if (db_ && db_->in_transaction()) sqlite3_exec(db_->get(), "ROLLBACK", nullptr, nullptr, nullptr);
}

// Where the system has failed (an fsync, say), the log may hold octets of a transaction that was not committed, and
// they have reached the disk or not: see recover().
void SqliteState::failed(const SqliteError& error) {
    roll_back();
    if (error.full() || error.of_the_data() || error.code() == SQLITE_BUSY) return;
    ++failures_;
    suspect_ = suspect_ || db_;
}

// After an fsync that has failed, what it was for is neither on the disk nor, as the system sees it, still to be
// written. In the log such octets would part later commits from earlier ones. So the log is emptied before anything
// else is committed: what it holds goes to its place and is synced there. A new connection would read the log again,
// with what has failed; so this one goes on, unless it is the connection that fails.
void SqliteState::recover() {
    const int result = sqlite3_wal_checkpoint_v2(db_->get(), nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
    if (result == SQLITE_OK) {
        suspect_ = false;
        pages_ = next_checkpoint_ = log_end_ = 0;
        return close_readers();
    }
    const SqliteError error(sqlite3_errmsg(db_->get()), sqlite3_extended_errcode(db_->get()),
                            sqlite3_system_errno(db_->get()));
    if (error.code() != SQLITE_BUSY && !error.not_synced()) {
        db_.reset();
        close_readers();
    }
    throw error;
}

void SqliteState::after_commit() noexcept {
    if (!locked_) return;
    const auto limit = std::int64_t(options.log_size) / page_size_;
    if (pages_ < next_checkpoint_ / 2) next_checkpoint_ = 0;  // the log has begun anew
    if (db_ && !suspect_ && pages_ >= std::max(limit, next_checkpoint_)) {
        checkpoint();
        next_checkpoint_ = pages_ + limit / 4;
    }
    extend_log();
    release_write_lock();
}

// Moves what the log holds to its place. Readers may keep some of it there; where that has gone on for long they are
// waited for.
void SqliteState::checkpoint() noexcept {
    const bool long_ago = pages_ > 4 * std::int64_t(options.log_size) / page_size_;
    const auto mode = long_ago ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE;
    const int result = sqlite3_wal_checkpoint_v2(db_->get(), nullptr, mode, nullptr, nullptr) & 0xff;
    if (result == SQLITE_FULL && room_) return use_reserve();
    if (result != SQLITE_OK && result != SQLITE_BUSY && result != SQLITE_FULL) suspect_ = true;
}

// To write where a file has octets already is one write to the disk; to make it longer each time is several. Zeros
// behind the log are no part of it.
void SqliteState::extend_log() noexcept {
    if (!db_ || suspect_ || !room_) return;
    const auto frame = page_size_ + 24, most = std::int64_t(options.log_size);
    if (log_end_ >= most || pages_ * frame + log_step / 2 < log_end_) return;
    log_end_ = extend_file(log_path_, std::min(log_step, most / 4), most);
}

int SqliteState::count_pages(void* self, sqlite3*, const char*, int pages) {
    static_cast<SqliteState*>(self)->pages_ = pages;
    return SQLITE_OK;
}

void SqliteState::take_write_lock() {
    const auto end = Clock::now() + patience;
    take(*write_lock_, next, end);
    try {
        take(*write_lock_, turn, end);
    } catch (...) {
        write_lock_->release(next);
        throw;
    }
    write_lock_->release(next);
    locked_ = true;
}

void SqliteState::release_write_lock() noexcept {
    write_lock_->release(turn);
    locked_ = false;
}

// ---- opening ----

void SqliteState::wait_before_trying() {
    if (failures_ > 2)
        std::this_thread::sleep_for(std::min<std::chrono::milliseconds>(failures_ * 10ms, longest_pause));
}

void SqliteState::open() {
    if (db_) return;
    wait_before_trying();
    make_folders();
    if (!write_lock_) write_lock_ = std::make_unique<LockFile>(folder_ + "/write.lock");
    take_write_lock();
    try {
        open_database();
    } catch (...) {
        db_.reset();
        release_write_lock();
        throw;
    }
    release_write_lock();
    ready_ = true;
}

void SqliteState::open_database() {
    const auto path = folder_ + "/queue.db";
    {
        // Mode 0600, which SQLite gives to what it makes beside it as well.
        const Descriptor made(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        if (!made && errno != EEXIST) throw std::system_error(errno, std::generic_category(), "make " + path);
        if (made) sync_folder(folder_);
    }
    db_ = std::make_unique<SqliteConnection>(path, patience_ms);
    db_->execute("PRAGMA cache_size=-" + std::to_string(options.cache_size / 1024));
    prepare_schema(*db_, options.page_size);
    version_.reset();
    log_end_ = 0;
    sqlite3_wal_hook(db_->get(), count_pages, this);
    reserved_ = false;
    page_size_ = std::stoll(db_->ask("PRAGMA page_size"));
}

// ---- readers ----

SqliteState::Connection SqliteState::borrow(std::uint64_t& generation) {
    if (!ready_) write([](SqliteWrite&) {});
    std::unique_lock lock(pool_mutex_);
    if (!returned_.wait_for(lock, 2 * patience, [&] { return borrowed_ < most_readers; }))
        throw no_store("sqlite: all readers are busy");
    ++borrowed_;
    generation = generation_;
    if (!idle_.empty()) {
        auto connection = std::move(idle_.back());
        idle_.pop_back();
        return connection;
    }
    lock.unlock();
    try {
        auto connection = std::make_unique<SqliteConnection>(folder_ + "/queue.db", patience_ms);
        connection->execute("PRAGMA query_only=1; PRAGMA cache_size=-" + std::to_string(options.cache_size / 4096));
        return connection;
    } catch (...) {
        give_back({}, generation);
        throw;
    }
}

void SqliteState::give_back(Connection connection, std::uint64_t generation) noexcept {
    const std::lock_guard lock(pool_mutex_);
    // One that has not ended its transaction has failed.
    if (connection && (connection->in_transaction() || generation != generation_)) connection.reset();
    if (connection) idle_.push_back(std::move(connection));
    --borrowed_;
    returned_.notify_all();
}

void SqliteState::close_readers() {
    const std::lock_guard lock(pool_mutex_);
    ++generation_;
    idle_.clear();
}

// ---- who leads ----

bool SqliteState::lead() {
    const std::lock_guard lock(lead_mutex_);
    if (incarnation_ != 0) return true;
    std::int64_t mine = 0;
    try {
        make_folders();
        auto file = std::make_unique<LockFile>(folder_ + "/lead.lock");
        if (!file->take()) return false;
        write([&](SqliteWrite& write) {
            mine = ++write.totals.incarnation;
            write.db.run("UPDATE recipient INDEXED BY flight SET claim = 0 WHERE claim <> 0");
        });
        lead_lock_ = std::move(file);
    } catch (const std::system_error& e) {
        throw store_error(std::string("sqlite: ") + e.what(), e.code().value());
    }
    incarnation_ = mine;
    return true;
}

std::int64_t SqliteState::live(const SqliteTotals& totals) {
    if (const auto mine = incarnation_.load(); mine != 0) return mine;
    try {
        return LockFile(folder_ + "/lead.lock").taken() ? totals.incarnation : 0;
    } catch (const std::system_error& e) {
        throw store_error(std::string("sqlite: ") + e.what(), e.code().value());
    }
}

// A connection does not count its own commits.
bool SqliteState::changed() {
    const std::lock_guard held(writer_);
    try {
        open();
        auto query = db_->query("PRAGMA data_version");
        query.step();
        const auto now = query.integer(0);
        return std::exchange(version_, now) != now;
    } catch (const SqliteError& e) {
        failed(e);
        throw e.store_error();
    } catch (const std::system_error& e) {
        throw store_error(std::string("sqlite: ") + e.what(), e.code().value());
    }
}

std::uint64_t SqliteState::sweep() {
    const std::lock_guard lock(lead_mutex_);
    try {
        make_folders();
        return bodies.sweep([&](const std::vector<std::string>& names) {
            std::vector<std::string> unnamed;
            write([&](SqliteWrite& write) {
                unnamed.clear();
                for (const auto& name : names)
                    if (!write.db.query("SELECT 1 FROM message WHERE file = ?", SqliteText{name}).step())
                        unnamed.push_back(name);
            });
            return unnamed;
        });
    } catch (const std::system_error& e) {
        throw store_error(std::string("sqlite: ") + e.what(), e.code().value());
    }
}

SqliteTotals read_totals(SqliteConnection& db) {
    const auto totals = [](const SqliteQuery& row, std::int64_t incarnation) {
        return SqliteTotals{.last = row.integer(0),
                            .messages = row.integer(1),
                            .recipients = row.integer(2),
                            .held = row.integer(3),
                            .octets = row.integer(4),
                            .newest = row.integer(5),
                            .incarnation = incarnation};
    };
    auto total = db.query("SELECT last, messages, recipients, held, octets, newest, incarnation FROM total");
    if (!total.step()) throw SqliteError("the totals are gone", SQLITE_CORRUPT, 0);
    auto message = db.query(
        "SELECT number, total_messages, total_recipients, total_held, total_octets, total_newest FROM message "
        "WHERE number > ? ORDER BY number DESC LIMIT 1",
        total.integer(0));
    return totals(message.step() ? message : total, total.integer(6));
}

}  // namespace Net::SMTP
