// SqliteReads -- what is seen in the tables of an SqliteStore.
#include <algorithm>

#include "SqliteMail.hpp"
#include "SqliteSchema.hpp"
#include "StoreCodec.hpp"

namespace Net::SMTP {

namespace {

QueueTime honest(SqliteConnection& db, const std::string& domain, QueueTime first, QueueTime now) {
    if (first <= now) return first;
    const bool far = db.query(
                           "SELECT 1 FROM recipient INDEXED BY waiting WHERE claim = 0 AND held = 0 AND domain = ? "
                           "AND due > ? LIMIT 1",
                           domain, to_number(too_far(now)))
                         .step();
    return far ? now : first;
}

void read_recipients(SqliteConnection& db, std::int64_t live, QueueItem& item) {
    auto row = db.query(
        "SELECT key, local, coalesce(spelled, domain), notify, orcpt, attempts, reply, host, due, claim "
        "FROM recipient WHERE key BETWEEN ? AND ?",
        first_key(item.message), last_key(item.message));
    while (row.step()) {
        QueueItem::To to;
        const auto number = std::uint32_t(row.integer(0) & (most_recipients - 1));
        to.recipient = stored_recipient(number, row.string(1), row.string(2), int(row.integer(3)), row.optional(4));
        to.attempts = std::uint32_t(row.integer(5));
        to.last = decode_reply(row.view(6));
        to.host = row.string(7);
        to.due = item.held ? never_due : to_time(row.integer(8));
        to.in_flight = live != 0 && row.integer(9) == live;
        item.to.push_back(std::move(to));
    }
}

QueueItem read_message(const SqliteQuery& row) {
    QueueItem item;
    item.message = row.integer(0);
    item.id = row.string(1);
    item.arrived = to_time(row.integer(2));
    item.held = row.integer(3) != 0;
    item.size = std::uint64_t(row.integer(4));
    item.from = stored_sender(row.string(6), row.string(7), int(row.integer(5)), row.optional(8), row.optional(9));
    return item;
}

}  // namespace

std::uint64_t count_due(SqliteConnection& db, const std::optional<std::string>& domain, QueueTime now) {
    auto row =
        domain ? db.query(
                     "SELECT count(*) FROM recipient INDEXED BY waiting WHERE claim = 0 AND held = 0 AND domain = ? "
                     "AND due <= ?",
                     *domain, to_number(now))
               : db.query("SELECT count(*) FROM recipient INDEXED BY waiting WHERE claim = 0 AND held = 0 AND due <= ?",
                          to_number(now));
    row.step();
    return std::uint64_t(row.integer(0));
}

std::optional<QueueDomain> next_domain(SqliteConnection& db, const std::optional<std::string>& after, QueueTime now) {
    QueueDomain found;
    {
        auto row = after ? db.query(
                               "SELECT domain, due FROM recipient INDEXED BY waiting WHERE claim = 0 AND held = 0 "
                               "AND domain > ? ORDER BY domain, due LIMIT 1",
                               *after)
                         : db.query(
                               "SELECT domain, due FROM recipient INDEXED BY waiting WHERE claim = 0 AND held = 0 "
                               "ORDER BY domain, due LIMIT 1");
        if (!row.step()) return {};
        found = {row.string(0), to_time(row.integer(1))};
    }
    found.due = honest(db, found.name, found.due, now);
    return found;
}

std::optional<QueueTime> first_due(SqliteConnection& db, const std::string& domain, QueueTime now) {
    QueueTime first{};
    {
        auto row = db.query(
            "SELECT due FROM recipient INDEXED BY waiting WHERE claim = 0 AND held = 0 AND domain = ? "
            "ORDER BY due LIMIT 1",
            domain);
        if (!row.step()) return {};
        first = to_time(row.integer(0));
    }
    return honest(db, domain, first, now);
}

std::vector<QueueItem> read_items(SqliteConnection& db, std::int64_t live, std::int64_t after, std::size_t limit) {
    std::vector<QueueItem> items;
    auto row = db.query(
        "SELECT number, id, arrived, held, size, flags, local, domain, envid, auth FROM message WHERE number > ? "
        "ORDER BY number LIMIT ?",
        after, std::min<std::size_t>(limit, INT64_MAX));
    while (row.step()) {
        items.push_back(read_message(row));
        read_recipients(db, live, items.back());
    }
    return items;
}

std::optional<QueueItem> read_item(SqliteConnection& db, std::int64_t live, const std::string& id) {
    auto row =
        db.query("SELECT number, id, arrived, held, size, flags, local, domain, envid, auth FROM message WHERE id = ?",
                 SqliteText{id});
    if (!row.step()) return {};
    auto item = read_message(row);
    read_recipients(db, live, item);
    return item;
}

QueueStats read_stats(SqliteConnection& db, std::int64_t live) {
    const auto totals = read_totals(db);
    QueueStats stats;
    stats.messages = std::uint64_t(totals.messages);
    stats.recipients = std::uint64_t(totals.recipients);
    stats.held = std::uint64_t(totals.held);
    stats.octets = std::uint64_t(totals.octets);
    if (live != 0) {
        auto row = db.query("SELECT count(*) FROM recipient INDEXED BY flight WHERE claim <> 0 AND claim = ?", live);
        row.step();
        stats.in_flight = std::uint64_t(row.integer(0));
    }
    auto first = db.query("SELECT arrived FROM message ORDER BY number LIMIT 1");
    if (first.step()) stats.oldest = to_time(first.integer(0));
    auto early = db.query("SELECT arrived FROM message INDEXED BY early WHERE early = 1 ORDER BY arrived LIMIT 1");
    if (early.step()) stats.oldest = std::min(*stats.oldest, to_time(early.integer(0)));
    return stats;
}

std::optional<FoundText> find_text(SqliteConnection& db, std::int64_t message) {
    auto row = db.query("SELECT head, body, file, size FROM message WHERE number = ?", message);
    if (!row.step()) return {};
    return FoundText{row.string(0), row.string(1), row.optional(2), std::uint64_t(row.integer(3))};
}

std::optional<std::int64_t> find_message(SqliteConnection& db, const std::string& id) {
    auto row = db.query("SELECT number FROM message WHERE id = ?", SqliteText{id});
    if (!row.step()) return {};
    return row.integer(0);
}

}  // namespace Net::SMTP
