// PostgresConnection -- one connection to PostgreSQL: transactions in pipeline mode, binary, each with a deadline; for
// our own .cpp files only, it is not installed.
#pragma once

#include <libpq-fe.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace Net::SMTP {

using Deadline = std::chrono::steady_clock::time_point;

// What the database says when it can't. No secret is in it: it speaks of hosts, users and databases.
class PostgresFailure : public std::runtime_error {
public:
    PostgresFailure(const std::string& what, std::string state, bool lost)
        : std::runtime_error(what), state_(std::move(state)), lost_(lost) {}
    // SQLSTATE; "" where the database did not say anything.
    const std::string& state() const { return state_; }
    // The connection is of no more use; whether a transaction under way was committed is not known.
    bool lost() const { return lost_; }
    bool no_room() const { return state_ == "53100"; }
    // It was chosen as the victim of a deadlock or a conflict: the same again may do.
    bool again() const { return state_ == "40001" || state_ == "40P01"; }
    bool duplicate() const { return state_ == "23505"; }
    // A division by zero: by this our statements say that a lease is not ours any more.
    bool fenced() const { return state_ == "22012"; }

private:
    std::string state_;
    bool lost_;
};

// Parameters of a statement, in binary. Octets are not copied: they must live until it was sent.
class PostgresValues {
public:
    PostgresValues& i4(std::int32_t);
    PostgresValues& i8(std::int64_t);
    PostgresValues& flag(bool);
    PostgresValues& octets(std::string_view);
    PostgresValues& octets(const std::string& value) { return octets(std::string_view(value)); }
    PostgresValues& octets(const std::optional<std::string>&);
    PostgresValues& null();
    // Arrays of one dimension.
    PostgresValues& i4s(const std::vector<std::int32_t>&);
    PostgresValues& i8s(const std::vector<std::int64_t>&);
    PostgresValues& flags(const std::vector<char>&);
    PostgresValues& octets_list(const std::vector<std::optional<std::string_view>>&);

    std::size_t size() const { return size_; }  // octets of all

private:
    friend class PostgresConnection;
    PostgresValues& own(std::string value);
    std::deque<std::string> own_;
    std::vector<const char*> values_;
    std::vector<int> lengths_;
    std::size_t size_ = 0;
};

// What a statement has returned, in binary.
class PostgresRows {
public:
    explicit PostgresRows(PGresult* result) : result_(result, PQclear) {}
    int size() const { return PQntuples(result_.get()); }
    bool null(int row, int column) const { return PQgetisnull(result_.get(), row, column) != 0; }
    std::int32_t i4(int row, int column) const;
    std::int64_t i8(int row, int column) const;
    bool flag(int row, int column) const;
    std::string_view octets(int row, int column) const;
    std::optional<std::string> maybe(int row, int column) const;

private:
    std::string_view value(int row, int column, std::size_t size) const;
    std::shared_ptr<PGresult> result_;
};

// A statement that each connection has prepared under its name.
struct PostgresStatement {
    const char* name;
    std::string text;
};

// One thread at a time.
class PostgresConnection {
public:
    // Where, and with which settings. `parameters` is a libpq connection string that is known to be well-formed.
    struct Where {
        std::string parameters;
        std::string schema;
        std::chrono::milliseconds time_out{};
    };
    // Connects; nothing is prepared yet. PostgresFailure.
    explicit PostgresConnection(const Where&);

    // ---- statements of one transaction, which begins by itself; their results in order ----
    void begin(Deadline end) { end_ = end, waiting_ = 0; }
    void add(const PostgresStatement&, const PostgresValues& = {});
    // PostgresFailure: nothing has changed, unless the connection is lost.
    std::vector<PostgresRows> commit();
    std::vector<PostgresRows> run(Deadline end, const PostgresStatement&, const PostgresValues& = {});

    void prepare(Deadline end, std::span<const PostgresStatement>);
    // Several statements in the simple protocol, as they are. Not between begin() and commit().
    void script(Deadline end, const std::string& text);

    // Whether the other end is still there, as far as this one knows; takes what has arrived.
    bool alive();
    bool connected() const { return connection_ != nullptr; }
    void close() { connection_.reset(); }

private:
    void drain();
    void await(bool writable);
    PGresult* result(bool failed);
    [[noreturn]] void lost(const char* what);

    std::unique_ptr<PGconn, decltype(&PQfinish)> connection_;
    Deadline end_{};
    std::size_t waiting_ = 0;  // statements without a result
};

// What PQerrorMessage and the like say, in one line.
std::string one_line(std::string_view);

}  // namespace Net::SMTP
