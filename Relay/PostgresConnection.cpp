#include "PostgresConnection.hpp"

#include <arpa/inet.h>
#include <endian.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace Net::SMTP {

namespace {

// Types of PostgreSQL (pg_type.dat), which never change.
constexpr std::int32_t type_bool = 16, type_bytea = 17, type_int8 = 20, type_int4 = 23;

void append4(std::string& out, std::int32_t value) {
    const auto wire = htobe32(std::uint32_t(value));
    out.append(reinterpret_cast<const char*>(&wire), sizeof wire);
}

void append8(std::string& out, std::int64_t value) {
    const auto wire = htobe64(std::uint64_t(value));
    out.append(reinterpret_cast<const char*>(&wire), sizeof wire);
}

// Dimensions, whether there are nulls, type of the elements; length and lower bound of the dimension.
std::string array_of(std::int32_t type, std::size_t size, bool nulls) {
    std::string out;
    append4(out, size > 0 ? 1 : 0);
    append4(out, nulls ? 1 : 0);
    append4(out, type);
    if (size == 0) return out;
    append4(out, std::int32_t(size));
    append4(out, 1);
    return out;
}

std::string state_of(const PGresult* result) {
    const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    return state ? state : "";
}

// Its first words only: what follows may quote data (mailboxes).
std::string said(const PGresult* result) {
    const char* what = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    return one_line(what ? what : PQresultErrorMessage(result));
}

// These end the session: the database is shut down, restarts, has thrown us out, or is one that only reads (another has
// taken its place).
bool ends_session(const std::string& state) {
    return state.starts_with("57P") || state.starts_with("08") || state == "25006";
}

// An error that did not come from the server has no SQLSTATE: libpq had no memory for what came, perhaps, and what is
// still to come nobody can tell.
bool libpqs_own(const PGresult* result) {
    return PQresultStatus(result) == PGRES_FATAL_ERROR && state_of(result).empty();
}

}  // namespace

std::string one_line(std::string_view text) {
    std::string out(text.substr(0, 500));
    std::ranges::replace_if(
        out, [](char c) { return std::uint8_t(c) < 32; }, ' ');
    while (out.ends_with(' ')) out.pop_back();
    return out;
}

// ---- PostgresValues ----

PostgresValues& PostgresValues::own(std::string value) {
    own_.push_back(std::move(value));
    return octets(own_.back());
}

PostgresValues& PostgresValues::octets(std::string_view value) {
    values_.push_back(value.data() ? value.data() : "");
    lengths_.push_back(int(value.size()));
    size_ += value.size();
    return *this;
}

PostgresValues& PostgresValues::octets(const std::optional<std::string>& value) {
    return value ? octets(std::string_view(*value)) : null();
}

PostgresValues& PostgresValues::null() {
    values_.push_back(nullptr);
    lengths_.push_back(0);
    return *this;
}

PostgresValues& PostgresValues::i4(std::int32_t value) {
    std::string wire;
    append4(wire, value);
    return own(std::move(wire));
}

PostgresValues& PostgresValues::i8(std::int64_t value) {
    std::string wire;
    append8(wire, value);
    return own(std::move(wire));
}

PostgresValues& PostgresValues::flag(bool value) { return own(std::string(1, value ? 1 : 0)); }

PostgresValues& PostgresValues::i4s(const std::vector<std::int32_t>& values) {
    auto wire = array_of(type_int4, values.size(), false);
    for (const auto value : values) append4(wire, 4), append4(wire, value);
    return own(std::move(wire));
}

PostgresValues& PostgresValues::i8s(const std::vector<std::int64_t>& values) {
    auto wire = array_of(type_int8, values.size(), false);
    for (const auto value : values) append4(wire, 8), append8(wire, value);
    return own(std::move(wire));
}

PostgresValues& PostgresValues::flags(const std::vector<char>& values) {
    auto wire = array_of(type_bool, values.size(), false);
    for (const auto value : values) append4(wire, 1), wire += value ? '\1' : '\0';
    return own(std::move(wire));
}

PostgresValues& PostgresValues::octets_list(const std::vector<std::optional<std::string_view>>& values) {
    const bool nulls = std::ranges::any_of(values, [](const auto& value) { return !value; });
    auto wire = array_of(type_bytea, values.size(), nulls);
    for (const auto& value : values) {
        append4(wire, value ? std::int32_t(value->size()) : -1);
        if (value) wire += *value;
    }
    return own(std::move(wire));
}

// ---- PostgresRows ----

std::string_view PostgresRows::value(int row, int column, std::size_t size) const {
    const auto found = octets(row, column);
    if (found.size() != size || null(row, column))
        throw PostgresFailure("a column is not what it should be", "", false);
    return found;
}

std::int32_t PostgresRows::i4(int row, int column) const {
    std::uint32_t wire = 0;
    std::memcpy(&wire, value(row, column, sizeof wire).data(), sizeof wire);
    return std::int32_t(be32toh(wire));
}

std::int64_t PostgresRows::i8(int row, int column) const {
    std::uint64_t wire = 0;
    std::memcpy(&wire, value(row, column, sizeof wire).data(), sizeof wire);
    return std::int64_t(be64toh(wire));
}

bool PostgresRows::flag(int row, int column) const { return value(row, column, 1)[0] != 0; }

std::string_view PostgresRows::octets(int row, int column) const {
    return {PQgetvalue(result_.get(), row, column), std::size_t(PQgetlength(result_.get(), row, column))};
}

std::optional<std::string> PostgresRows::maybe(int row, int column) const {
    if (null(row, column)) return std::nullopt;
    return std::string(octets(row, column));
}

// ---- PostgresConnection ----

PostgresConnection::PostgresConnection(const Where& where) : connection_(nullptr, PQfinish) {
    const auto patience = std::to_string(where.time_out.count());
    // The user's own words follow ours, and so have the last one; nullptr is as if it were not there. Who has not asked
    // for encryption by GSSAPI does without: libpq would look for Kerberos' tickets each time, and MIT's library
    // crashes (1.20) when it lacks memory for that.
    const char* keywords[] = {"connect_timeout",  "keepalives_idle",  "keepalives_interval",
                              "keepalives_count", "tcp_user_timeout", "application_name",
                              "gssencmode",       "dbname",           nullptr};
    const char* values[] = {"5",
                            "30",
                            "10",
                            "3",
                            patience.c_str(),
                            "net-smtp-queue",
                            std::getenv("PGGSSENCMODE") ? nullptr : "disable",
                            where.parameters.c_str(),
                            nullptr};
    connection_.reset(PQconnectdbParams(keywords, values, 1));
    if (!connection_) throw std::bad_alloc();
    auto* const pg = connection_.get();
    if (PQstatus(pg) != CONNECTION_OK) throw PostgresFailure(one_line(PQerrorMessage(pg)), "", true);
    PQsetNoticeProcessor(
        pg, [](void*, const char*) {}, nullptr);
    if (PQsetnonblocking(pg, 1) != 0) lost("non-blocking mode");
    if (PQserverVersion(pg) < 130000) throw PostgresFailure("the server is older than PostgreSQL 13", "", true);
    // What we promise must not depend on how the role or the database is set up; neither do plans on statistics, which
    // say little of a table that is now empty and now full.
    script(std::chrono::steady_clock::now() + where.time_out,
           "SET search_path = " + where.schema +
               ";"
               "SET default_transaction_isolation = 'read committed';"
               "SET default_transaction_read_only = off;"
               "SET idle_in_transaction_session_timeout = 60000;"
               "SET jit = off; SET enable_seqscan = off; SET enable_bitmapscan = off;"
               "SET plan_cache_mode = force_generic_plan;"
               "SET max_parallel_workers_per_gather = 0;"
               "SET statement_timeout = " +
               patience +
               ";"
               "SELECT set_config('synchronous_commit', 'on', false)"
               " WHERE current_setting('synchronous_commit') = 'off'");
    if (PQenterPipelineMode(pg) != 1) lost("pipeline mode");
}

void PostgresConnection::lost(const char* what) {
    std::string why = connection_ ? one_line(PQerrorMessage(connection_.get())) : "";
    if (why.empty()) why = what;
    connection_.reset();
    throw PostgresFailure(why, "", true);
}

void PostgresConnection::await(bool writable) {
    using namespace std::chrono;
    for (;;) {
        const auto left = duration_cast<milliseconds>(end_ - steady_clock::now()).count();
        if (left <= 0) {
            connection_.reset();
            throw PostgresFailure("the database did not answer in time", "", true);
        }
        pollfd at{PQsocket(connection_.get()), short(POLLIN | (writable ? POLLOUT : 0)), 0};
        const int n = poll(&at, 1, int(std::min<std::int64_t>(left + 1, 60'000)));
        if (n < 0 && errno != EINTR) lost("poll");
        if (n <= 0) continue;
        if ((at.revents & ~POLLOUT) != 0 && PQconsumeInput(connection_.get()) != 1) lost("the connection broke");
        return;
    }
}

void PostgresConnection::drain() {
    for (;;) {
        const int more = PQflush(connection_.get());
        if (more == 0) return;
        if (more < 0) lost("the connection broke");
        await(true);
    }
}

void PostgresConnection::add(const PostgresStatement& statement, const PostgresValues& values) {
    if (!connection_) lost("not connected");
    static constexpr std::size_t most = 32;
    static constexpr auto binary = [] {
        std::array<int, most> all{};
        all.fill(1);
        return all;
    }();
    const auto count = values.values_.size();
    if (count > most) throw std::logic_error("too many parameters");
    if (PQsendQueryPrepared(connection_.get(), statement.name, int(count), values.values_.data(),
                            values.lengths_.data(), binary.data(), 1) != 1)
        lost("can't send");
    ++waiting_;
    // What is large does not pile up here.
    if (values.size() >= 64 * 1024) drain();
}

// While nothing has failed there is no error message; but libpq (15) that has no memory for the end of a pipeline
// leaves one, and is busy for ever.
PGresult* PostgresConnection::result(bool failed) {
    while (PQisBusy(connection_.get())) {
        if (!failed && *PQerrorMessage(connection_.get()) != '\0') lost("the connection broke");
        await(false);
    }
    return PQgetResult(connection_.get());
}

std::vector<PostgresRows> PostgresConnection::commit() {
    if (!connection_) lost("not connected");
    if (PQpipelineSync(connection_.get()) != 1) lost("can't send");
    drain();
    std::vector<PostgresRows> rows;
    std::optional<PostgresFailure> failure;
    for (int nothing = 0; nothing < 2;) {
        PGresult* const found = result(failure.has_value());
        if (!found) {
            ++nothing;  // the end of one statement; two in a row would be the end of all
            continue;
        }
        nothing = 0;
        PostgresRows kept(found);
        const auto status = PQresultStatus(found);
        if (status == PGRES_PIPELINE_SYNC) {
            if (failure) {
                if (failure->lost()) connection_.reset();
                throw PostgresFailure(*failure);
            }
            if (rows.size() != waiting_) lost("not all was answered");
            return rows;
        }
        if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) rows.push_back(std::move(kept));
        else if (status == PGRES_FATAL_ERROR && !failure)
            failure.emplace(said(found), state_of(found), ends_session(state_of(found)));
        if (PQstatus(connection_.get()) == CONNECTION_BAD || libpqs_own(found)) break;
    }
    if (failure) {
        connection_.reset();
        throw PostgresFailure(failure->what(), failure->state(), true);
    }
    lost("the connection broke");
}

std::vector<PostgresRows> PostgresConnection::run(Deadline end, const PostgresStatement& statement,
                                                  const PostgresValues& values) {
    begin(end);
    add(statement, values);
    return commit();
}

void PostgresConnection::prepare(Deadline end, std::span<const PostgresStatement> statements) {
    begin(end);
    for (const auto& each : statements) {
        if (PQsendPrepare(connection_.get(), each.name, each.text.c_str(), 0, nullptr) != 1) lost("can't send");
        ++waiting_;
    }
    commit();
}

void PostgresConnection::script(Deadline end, const std::string& text) {
    if (!connection_) lost("not connected");
    const bool pipeline = PQpipelineStatus(connection_.get()) != PQ_PIPELINE_OFF;
    if (pipeline && PQexitPipelineMode(connection_.get()) != 1) lost("pipeline mode");
    end_ = end;
    if (PQsendQuery(connection_.get(), text.c_str()) != 1) lost("can't send");
    drain();
    std::optional<PostgresFailure> failure;
    while (PGresult* const found = result(failure.has_value())) {
        const PostgresRows kept(found);
        const auto status = PQresultStatus(found);
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && !failure)
            failure.emplace(said(found), state_of(found), PQstatus(connection_.get()) == CONNECTION_BAD);
        if (libpqs_own(found)) lost("the connection broke");
    }
    if (failure) throw PostgresFailure(*failure);
    if (pipeline && PQenterPipelineMode(connection_.get()) != 1) lost("pipeline mode");
}

bool PostgresConnection::alive() {
    if (!connection_ || PQstatus(connection_.get()) != CONNECTION_OK) return false;
    // A farewell may come in front of the end.
    for (int i = 0; i < 100; ++i) {
        pollfd at{PQsocket(connection_.get()), POLLIN, 0};
        if (poll(&at, 1, 0) <= 0) return true;
        if (PQconsumeInput(connection_.get()) != 1 || PQstatus(connection_.get()) != CONNECTION_OK) return false;
    }
    return true;
}

}  // namespace Net::SMTP
