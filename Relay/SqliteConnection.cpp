#include "SqliteConnection.hpp"

#include <cerrno>
#include <string>

#include "SqliteLog.hpp"
#include "StoreCodec.hpp"

namespace Net::SMTP {

namespace {

[[noreturn]] void fail(sqlite3* db) {
    throw SqliteError(sqlite3_errmsg(db), sqlite3_extended_errcode(db), sqlite3_system_errno(db));
}

}  // namespace

SqliteError::SqliteError(const std::string& what, int code, int system)
    : std::runtime_error("sqlite: " + what + " (" + std::to_string(code) + ")"), extended_(code), system_(system) {}

// After an fsync nobody knows what is on the disk, whatever the reason.
bool SqliteError::full() const {
    const bool no_space = system_ == ENOSPC || system_ == EDQUOT || system_ == EFBIG;
    if (not_synced()) return false;
    return code() == SQLITE_FULL || (no_space && (code() == SQLITE_IOERR || code() == SQLITE_CANTOPEN));
}

bool SqliteError::of_the_data() const {
    return code() == SQLITE_TOOBIG || code() == SQLITE_CONSTRAINT || code() == SQLITE_MISMATCH;
}

StoreError SqliteError::store_error() const { return full() ? no_room(what()) : no_store(what()); }

SqliteQuery::~SqliteQuery() {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
}

void SqliteQuery::check(int result) const {
    if (result != SQLITE_OK) fail(db_);
}

// A null pointer would be NULL, not an empty BLOB.
void SqliteQuery::bind(std::string_view octets) {
    const char* at = octets.empty() ? "" : octets.data();
    check(sqlite3_bind_blob64(statement_, ++bound_, at, octets.size(), SQLITE_STATIC));
}

void SqliteQuery::bind(SqliteText text) {
    const char* at = text.text.empty() ? "" : text.text.data();
    check(sqlite3_bind_text64(statement_, ++bound_, at, text.text.size(), SQLITE_STATIC, SQLITE_UTF8));
}

void SqliteQuery::bind(const std::optional<std::string>& octets) {
    if (octets) bind(std::string_view(*octets));
    else bind_null();
}

bool SqliteQuery::step() {
    const int result = sqlite3_step(statement_);
    if (result != SQLITE_ROW && result != SQLITE_DONE) fail(db_);
    return result == SQLITE_ROW;
}

std::string_view SqliteQuery::view(int column) const {
    const auto* at = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    return at ? std::string_view(at, std::size_t(sqlite3_column_bytes(statement_, column))) : std::string_view();
}

std::optional<std::string> SqliteQuery::optional(int column) const {
    if (null(column)) return {};
    return string(column);
}

SqliteConnection::SqliteConnection(const std::string& path, int patience) {
    sqlite3* db = nullptr;
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE;
    const int result = sqlite3_open_v2(path.c_str(), &db, flags, log_vfs());
    db_.reset(db);
    if (!db) throw SqliteError("no memory", SQLITE_NOMEM, 0);
    if (result != SQLITE_OK) fail(db);
    sqlite3_busy_timeout(db, patience);
    sqlite3_rollback_hook(db, discard_log, db);
    // Who is the last to close would empty the log, beside the locks that our writers hold.
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    execute("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY");
}

sqlite3_stmt* SqliteConnection::prepared(const char* sql) {
    auto& kept = statements_[sql];
    if (!kept) {
        sqlite3_stmt* statement = nullptr;
        if (sqlite3_prepare_v3(db_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr) != SQLITE_OK)
            fail(db_.get());
        kept.reset(statement);
    }
    return kept.get();
}

void SqliteConnection::execute(const std::string& sql) {
    if (sqlite3_exec(db_.get(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) fail(db_.get());
}

std::string SqliteConnection::ask(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(db_.get(), sql.c_str(), -1, &statement, nullptr) != SQLITE_OK) fail(db_.get());
    const std::unique_ptr<sqlite3_stmt, Finalize> owned(statement);
    SqliteQuery query(db_.get(), statement);
    return query.step() ? query.string(0) : std::string();
}

}  // namespace Net::SMTP
