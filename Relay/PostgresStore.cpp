#include "PostgresStore.hpp"

#include <libpq-fe.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "PostgresProcess.hpp"
#include "PostgresSchema.hpp"
#include "StoreCodec.hpp"

namespace Net::SMTP {

namespace {

using std::chrono::milliseconds;
using Outcome = PostgresProcess::Outcome;

void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(std::string("PostgresStore: ") + what);
}

bool schema_name(std::string_view name) {
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    const auto fine = [&](char c) { return (c >= 'a' && c <= 'z') || digit(c) || c == '_'; };
    return !name.empty() && name.size() <= 40 && std::ranges::all_of(name, fine) && !digit(name[0]) &&
           !name.starts_with("pg_");
}

// "postgresql:DATABASE@HOST", of what was said or comes from the environment. std::invalid_argument.
std::string name_of(const std::string& connection) {
    char* error = nullptr;
    PQconninfoOption* const options = PQconninfoParse(connection.c_str(), &error);
    PQfreemem(error);  // it may quote a password
    require(options != nullptr, "not a connection string of libpq");
    const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> kept(options, PQconninfoFree);
    const auto value = [&](std::string_view keyword, const char* variable) -> std::string {
        for (const auto* each = options; each->keyword; ++each)
            if (each->keyword == keyword && each->val && *each->val) return each->val;
        const char* set = std::getenv(variable);
        return set ? set : "";
    };
    auto host = value("host", "PGHOST"), database = value("dbname", "PGDATABASE");
    if (host.empty()) host = value("hostaddr", "PGHOSTADDR");
    if (database.empty()) database = value("user", "PGUSER");
    return one_line("postgresql:" + database + '@' + (host.empty() ? "localhost" : host));
}

std::int64_t limited(std::size_t limit) { return std::int64_t(std::min<std::size_t>(limit, INT32_MAX)); }

// Of what a statement says of a domain: its first due, and its last, which may be too far away.
QueueTime first_due(const PostgresRows& rows, int row, int column, PostgresClock clock) {
    const auto now = queue_now();
    return clock.ours(rows.i8(row, column + 1)) > too_far(now) ? now : clock.ours(rows.i8(row, column));
}

Message text_of(PostgresConnection& connection, Deadline end, std::int64_t number, std::uint64_t size,
                const std::string& head, const std::string& folder) {
    std::optional<PostgresRows> page;
    int row = 0;
    std::int32_t next = 0;
    bool headed = head.empty();
    return message_of(size + head.size(), folder, [&]() -> std::string_view {
        if (!std::exchange(headed, true)) return head;
        if (page && ++row < page->size()) return page->octets(row, 0);
        page.reset();  // before the next one comes
        if (std::uint64_t(next) * postgres_chunk >= size) return {};
        page = connection.run(end, sql::chunks, PostgresValues().i8(number).i4(next))[0];
        next += page->size();
        row = 0;
        return page->size() == 0 ? std::string_view() : page->octets(0, 0);
    });
}

}  // namespace

struct PostgresStore::State {
    State(const std::string& connection, Options o)
        : options(std::move(o)), name(name_of(connection)), where{connection, options.schema, options.time_out} {}

    // This process's own.
    PostgresProcess& here() {
        auto* have = process.load(std::memory_order_acquire);
        if (have && have->ours()) return *have;
        auto fresh = std::make_unique<PostgresProcess>(where, options, have);
        if (process.compare_exchange_strong(have, fresh.get())) return *fresh.release();
        return *have;  // another thread was first
    }

    bool changed(const PostgresStatement& statement, const std::string& id);

    const Options options;
    const std::string name;
    const PostgresConnection::Where where;
    std::atomic<PostgresProcess*> process{nullptr};
    std::atomic<Deadline> sure_until{Deadline::max()};
};

PostgresStore::PostgresStore(const std::string& connection) : PostgresStore(connection, Options()) {}

PostgresStore::PostgresStore(const std::string& connection, Options options) {
    require(options.lease >= std::chrono::seconds(1) && options.lease <= std::chrono::hours(24),
            "lease is not from a second to a day");
    require(options.time_out >= std::chrono::seconds(1) && options.time_out <= std::chrono::hours(1),
            "time_out is not from a second to an hour");
    require(options.connections >= 1 && options.connections <= 1000, "connections is not from 1 to 1000");
    require(schema_name(options.schema), "schema is not of small letters, digits and underscores");
    require(PQisthreadsafe() != 0, "this libpq is not for threads");
    state_ = std::make_unique<State>(connection, std::move(options));
}

PostgresStore::~PostgresStore() {
    auto* const process = state_->process.load();
    if (!process || !process->ours()) return;  // a parent's, who still uses it
    const std::unique_ptr<PostgresProcess> ours(process);
    if (ours->turns() > 0) ours->give_back_all();
}

void PostgresStore::put(const QueuedMail& mail) {
    auto& here = state_->here();
    const PostgresPut prepared(mail, here.clock());
    const PostgresProcess::Send send = [&](PostgresConnection& to) { prepared.send(to); };
    const auto outcome = prepared.large() ? here.alone(send) : here.together(0, send);
    if (outcome != Outcome::done) throw std::invalid_argument("there is a message " + mail.id + " already");
}

// ---- whoever delivers ----

bool PostgresStore::lead() { return true; }

void PostgresStore::beat() {
    auto& here = state_->here();
    if (here.turns() == 0) return;
    here.with([&](PostgresConnection& connection, Deadline end) {
        const auto before = std::chrono::steady_clock::now();
        here.give_back_lost(connection, end);
        connection.run(end, sql::beat, PostgresValues().i8(here.owner()).i8(state_->options.lease.count()));
        state_->sure_until = before + state_->options.lease;
    });
}

std::chrono::steady_clock::time_point PostgresStore::surely_ours() const { return state_->sure_until; }

milliseconds PostgresStore::beat_interval() const { return state_->options.lease / 4; }

std::vector<QueueDomain> PostgresStore::domains(const std::optional<std::string>& after, std::size_t limit) {
    auto& here = state_->here();
    return here.with([&](PostgresConnection& connection, Deadline end) {
        here.expire(connection, end);
        // The first name that may come behind it, octet by octet.
        const std::string from = after ? *after + '\0' : "";
        const auto before = queue_now();
        connection.begin(end);
        connection.add(sql::now);
        connection.add(sql::domains, PostgresValues().octets(from).i8(limited(limit)));
        const auto found = connection.commit();
        here.compare(before, found[0].i8(0, 0));
        std::vector<QueueDomain> out;
        for (int row = 0; row < found[1].size(); ++row)
            out.push_back({std::string(found[1].octets(row, 0)), first_due(found[1], row, 1, here.clock())});
        return out;
    });
}

std::optional<QueueTime> PostgresStore::due(const std::string& domain) {
    auto& here = state_->here();
    const auto rows = here.ask(sql::due, PostgresValues().octets(domain));
    if (rows.null(0, 0)) return std::nullopt;
    return first_due(rows, 0, 0, here.clock());
}

bool PostgresStore::changed() {
    auto& here = state_->here();
    return here.with([&](PostgresConnection& connection, Deadline end) {
        here.expire(connection, end);
        return here.heard(connection, end);
    });
}

std::vector<QueueTask> PostgresStore::claim(const std::string& domain, QueueTime now, std::size_t limit,
                                            std::size_t together) {
    auto& here = state_->here();
    return here.with([&](PostgresConnection& connection, Deadline end) {
        here.expire(connection, end);
        here.give_back_lost(connection, end);
        // The first claim is the first beat.
        auto never = Deadline::max();
        state_->sure_until.compare_exchange_strong(never, std::chrono::steady_clock::now() + state_->options.lease);
        const auto turn = here.next_turn();
        const auto clock = here.clock();
        PostgresValues values;
        values.octets(domain).i8(clock.theirs(now)).i8(clock.theirs(too_far(now))).i8(limited(limit));
        values.i8(here.owner()).i8(std::int64_t(turn)).i8(state_->options.lease.count());
        values.i8(limited(together));
        try {
            return tasks_of(connection.run(end, sql::claim, values)[0], turn);
        } catch (...) {
            here.lost_claim(turn);
            throw;
        }
    });
}

Message PostgresStore::text(const QueueTask& task) {
    auto& here = state_->here();
    return here.with([&](PostgresConnection& connection, Deadline end) {
        return text_of(connection, end, task.message, task.size, "", state_->options.spool_dir);
    });
}

bool PostgresStore::record(const QueueTask& task, std::span<const QueueVerdict> verdicts,
                           std::span<const QueuedMail> notices) {
    auto& here = state_->here();
    const PostgresVerdicts columns(task, verdicts, here.owner(), here.clock());
    std::vector<std::unique_ptr<PostgresPut>> puts;
    for (const auto& notice : notices) puts.push_back(std::make_unique<PostgresPut>(notice, here.clock()));
    const PostgresProcess::Send send = [&](PostgresConnection& to) {
        for (const auto& put : puts) put->send(to);  // first, for the ids that are there
        columns.send(to);
    };
    const bool large = std::ranges::any_of(puts, &PostgresPut::large);
    const auto outcome = large ? here.alone(send) : here.together(task.message, send);
    if (outcome == Outcome::duplicate) throw std::invalid_argument("a notice has the id of another message");
    return outcome == Outcome::done;
}

void PostgresStore::give_back(const QueueTask& task) {
    auto& here = state_->here();
    std::vector<std::int32_t> numbers;
    for (const auto& to : task.to) numbers.push_back(std::int32_t(to.number));
    here.alone([&](PostgresConnection& connection) {
        PostgresValues values;
        values.i8(task.message).i4s(numbers).i8(here.owner()).i8(std::int64_t(task.claim));
        connection.add(sql::give_back, values);
    });
}

// ---- whoever looks after it ----

Cancelled PostgresStore::cancel(const std::string& id) {
    std::vector<PostgresRows> found;
    state_->here().alone(
        [&](PostgresConnection& connection) {
            const PostgresValues by_id = std::move(PostgresValues().octets(id));
            connection.add(sql::lock_by_id, by_id);
            connection.add(sql::lock_recipients, by_id);
            connection.add(sql::cancel, by_id);
            connection.add(sql::remove_empty_by_id, by_id);
        },
        &found);
    if (found[0].size() == 0) return Cancelled::not_found;
    return found[1].i8(0, 0) > 0 ? Cancelled::in_flight : Cancelled::found;
}

bool PostgresStore::State::changed(const PostgresStatement& statement, const std::string& id) {
    std::vector<PostgresRows> found;
    here().alone([&](PostgresConnection& connection) { connection.add(statement, PostgresValues().octets(id)); },
                 &found);
    return found[0].i8(0, 0) > 0;
}

bool PostgresStore::hold(const std::string& id) { return state_->changed(sql::hold, id); }
bool PostgresStore::release(const std::string& id) { return state_->changed(sql::release, id); }

std::uint64_t PostgresStore::flush(const std::string& id) {
    auto& here = state_->here();
    const auto now = here.clock().theirs(queue_now());
    std::vector<PostgresRows> found;
    here.alone([&](PostgresConnection& connection) { connection.add(sql::flush, PostgresValues().octets(id).i8(now)); },
               &found);
    return std::uint64_t(found[0].i8(0, 0));
}

std::uint64_t PostgresStore::flush_domain(const std::string& domain) {
    auto& here = state_->here();
    const auto now = here.clock().theirs(queue_now());
    auto count = std::uint64_t(here.ask(sql::count_due, PostgresValues().octets(domain).i8(now)).i8(0, 0));
    for (std::int64_t some = 1; some > 0;) {
        std::vector<PostgresRows> found;
        here.alone(
            [&](PostgresConnection& connection) {
                connection.add(sql::flush_domain, PostgresValues().octets(domain).i8(now));
            },
            &found);
        some = found[0].i8(0, 0);
        count += std::uint64_t(some);
    }
    return count;
}

std::uint64_t PostgresStore::flush_all() {
    auto& here = state_->here();
    const auto now = here.clock().theirs(queue_now());
    std::uint64_t count = 0;
    std::int64_t message = 0;
    std::int32_t number = -1;
    for (;;) {
        std::vector<PostgresRows> found;
        here.alone(
            [&](PostgresConnection& connection) {
                connection.add(sql::flush_page, PostgresValues().i8(message).i4(number).i8(now));
            },
            &found);
        if (found[0].size() == 0) return count;
        message = found[0].i8(0, 0);
        number = found[0].i4(0, 1);
        count += std::uint64_t(found[0].i8(0, 2));
    }
}

std::vector<QueueItem> PostgresStore::items(std::int64_t after, std::size_t limit) {
    auto& here = state_->here();
    const PostgresValues values = std::move(PostgresValues().i8(to_number(never_due)).i8(after).i8(limited(limit)));
    return items_of(here.ask(sql::items, values), here.clock());
}

std::optional<QueueItem> PostgresStore::item(const std::string& id) {
    auto& here = state_->here();
    auto found = items_of(here.ask(sql::item, PostgresValues().i8(to_number(never_due)).octets(id)), here.clock());
    if (found.empty()) return std::nullopt;
    return std::move(found.front());
}

std::optional<Message> PostgresStore::look(const std::string& id) {
    auto& here = state_->here();
    return here.with([&](PostgresConnection& connection, Deadline end) -> std::optional<Message> {
        const auto rows = connection.run(end, sql::text_by_id, PostgresValues().octets(id))[0];
        if (rows.size() == 0) return std::nullopt;
        return text_of(connection, end, rows.i8(0, 0), std::uint64_t(rows.i8(0, 2)), std::string(rows.octets(0, 1)),
                       state_->options.spool_dir);
    });
}

QueueStats PostgresStore::stats() {
    return state_->here().with([&](PostgresConnection& connection, Deadline end) {
        connection.begin(end);
        connection.add(sql::stats_messages);
        connection.add(sql::stats_recipients);
        const auto found = connection.commit();
        QueueStats out;
        out.messages = std::uint64_t(found[0].i8(0, 0));
        out.held = std::uint64_t(found[0].i8(0, 1));
        out.octets = std::uint64_t(found[0].i8(0, 2));
        if (!found[0].null(0, 3)) out.oldest = to_time(found[0].i8(0, 3));
        out.recipients = std::uint64_t(found[1].i8(0, 0));
        out.in_flight = std::uint64_t(found[1].i8(0, 1));
        return out;
    });
}

std::optional<std::string> PostgresStore::setting(const std::string& name) {
    const auto rows = state_->here().ask(sql::setting, PostgresValues().octets(name));
    return rows.size() == 0 ? std::nullopt : rows.maybe(0, 0);
}

void PostgresStore::set(const std::string& name, const std::string& value) {
    state_->here().alone(
        [&](PostgresConnection& connection) { connection.add(sql::set, PostgresValues().octets(name).octets(value)); });
}

std::string PostgresStore::name() const { return state_->name; }

}  // namespace Net::SMTP
