// SqliteConnection -- a connection to an SQLite database and its prepared statements; for our own .cpp files only, it
// is not installed.
#pragma once

#include <sqlite3.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>

#include "Store.hpp"

namespace Net::SMTP {

class SqliteError : public std::runtime_error {
public:
    SqliteError(const std::string& what, int code, int system);
    // Without its details: SQLITE_BUSY, SQLITE_FULL, ...
    int code() const { return extended_ & 0xff; }
    bool full() const;
    // An fsync has failed.
    bool not_synced() const { return extended_ == SQLITE_IOERR_FSYNC || extended_ == SQLITE_IOERR_DIR_FSYNC; }
    // About what was to be stored, not about the database.
    bool of_the_data() const;
    StoreError store_error() const;

private:
    int extended_;
    int system_;  // errno, where one is known
};

// Bound as text; any other string is a BLOB. Both keep all octets.
struct SqliteText {
    std::string_view text;
};

// One run of a prepared statement. What is bound must live as long.
class SqliteQuery {
public:
    template <class... Values>
    SqliteQuery(sqlite3* db, sqlite3_stmt* statement, const Values&... values) : db_(db), statement_(statement) {
        (bind(values), ...);
    }
    ~SqliteQuery();
    SqliteQuery(const SqliteQuery&) = delete;
    SqliteQuery& operator=(const SqliteQuery&) = delete;

    // The next parameter, from the first on.
    template <std::integral T>
    void bind(T value) {
        check(sqlite3_bind_int64(statement_, ++bound_, std::int64_t(value)));
    }
    void bind(std::string_view octets);
    void bind(SqliteText text);
    void bind(const std::string& octets) { bind(std::string_view(octets)); }
    void bind(const std::optional<std::string>& octets);
    void bind_null() { ++bound_; }

    // To the next row; false behind the last one. SqliteError.
    bool step();

    // Of the row, by number from 0.
    std::int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
    bool null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
    // Until the next step.
    std::string_view view(int column) const;
    std::string string(int column) const { return std::string(view(column)); }
    std::optional<std::string> optional(int column) const;

private:
    void check(int result) const;
    sqlite3* db_;
    sqlite3_stmt* statement_;
    int bound_ = 0;
};

// One thread at a time, and never behind a fork.
class SqliteConnection {
public:
    // Opens what is there; waits up to `patience` milliseconds for others. SqliteError.
    SqliteConnection(const std::string& path, int patience);

    // Prepared once; `sql` must be a literal.
    template <class... Values>
    SqliteQuery query(const char* sql, const Values&... values) {
        return SqliteQuery(db_.get(), prepared(sql), values...);
    }
    // A statement without a result.
    template <class... Values>
    void run(const char* sql, const Values&... values) {
        query(sql, values...).step();
    }
    // Any statements, not kept.
    void execute(const std::string& sql);
    // The first column of the first row.
    std::string ask(const std::string& sql);

    std::int64_t changes() const { return sqlite3_changes64(db_.get()); }
    bool in_transaction() const { return sqlite3_get_autocommit(db_.get()) == 0; }
    sqlite3* get() const { return db_.get(); }

private:
    struct Close {
        void operator()(sqlite3* db) const { sqlite3_close(db); }
    };
    struct Finalize {
        void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
    };
    sqlite3_stmt* prepared(const char* sql);

    std::unique_ptr<sqlite3, Close> db_;
    std::unordered_map<const char*, std::unique_ptr<sqlite3_stmt, Finalize>> statements_;
};

}  // namespace Net::SMTP
