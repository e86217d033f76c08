// SqliteWrites -- what changes the tables of an SqliteStore.
#include <algorithm>
#include <stdexcept>
#include <unordered_map>

#include "SqliteMail.hpp"
#include "SqliteSchema.hpp"
#include "StoreCodec.hpp"

namespace Net::SMTP {

namespace {

constexpr std::int64_t flush_size = 2000;  // recipients, or domains, in one transaction

void insert_message(SqliteWrite& write, const QueuedMail& mail, const StoredText& text, bool early) {
    const auto& t = write.totals;
    const bool file = !text.file.empty();
    auto insert = write.db.query(
        "INSERT INTO message(number, id, arrived, early, total_messages, total_recipients, total_held, total_octets, "
        "total_newest, held, size, flags, local, domain, envid, auth, head, file, body) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        t.last, SqliteText{mail.id}, to_number(mail.arrived), early, t.messages, t.recipients, t.held, t.octets,
        t.newest, mail.held, mail.text.size(), sender_flags(mail.from), mail.from.local, mail.from.domain,
        mail.from.envid, mail.from.auth, mail.head);
    if (file) insert.bind(SqliteText{text.file});
    else insert.bind_null();
    if (file) insert.bind_null();
    else insert.bind(text.octets);
    try {
        insert.step();
    } catch (const SqliteError& e) {
        if (e.code() == SQLITE_CONSTRAINT) throw std::invalid_argument("there is a message " + mail.id + " already");
        throw;
    }
}

void insert_recipient(SqliteWrite& write, const QueuedMail& mail, std::uint32_t number) {
    const auto& to = mail.to[number];
    const auto domain = queue_domain(to);
    const auto orcpt = orcpt_text(to);
    auto insert = write.db.query(
        "INSERT INTO recipient(key, claim, held, due, attempts, warned, notify, domain, local, orcpt, spelled) "
        "VALUES (?, 0, ?, ?, 0, 0, ?, ?, ?, ?, ?)",
        key_of(write.totals.last, number), mail.held, to_number(mail.due), notify_flags(to.notify), domain, to.local,
        orcpt);
    if (domain == to.domain) insert.bind_null();
    else insert.bind(to.domain);
    insert.step();
}

std::vector<std::int64_t> due_keys(SqliteConnection& db, const std::string& domain, QueueTime now, std::size_t limit) {
    std::vector<std::int64_t> keys;
    const auto most = std::int64_t(std::min<std::size_t>(limit, INT64_MAX));
    {
        auto far = db.query(
            "SELECT key FROM recipient INDEXED BY waiting WHERE claim = 0 AND held = 0 AND domain = ? AND due > ? "
            "ORDER BY due, key LIMIT ?",
            domain, to_number(too_far(now)), most);
        while (far.step()) keys.push_back(far.integer(0));
    }
    auto due = db.query(
        "SELECT key FROM recipient INDEXED BY waiting WHERE claim = 0 AND held = 0 AND domain = ? AND due <= ? "
        "ORDER BY due, key LIMIT ?",
        domain, to_number(now), most - std::int64_t(keys.size()));
    while (due.step()) keys.push_back(due.integer(0));
    return keys;
}

// The others of the last one's message, until they are `together`.
void add_together(SqliteConnection& db, const std::string& domain, QueueTime now, std::size_t together,
                  std::vector<std::int64_t>& keys) {
    if (keys.empty()) return;
    const auto message = keys.back() >> recipient_bits;
    auto have = std::size_t(std::ranges::count(keys, message, [](std::int64_t key) { return key >> recipient_bits; }));
    if (have >= together) return;
    auto others = db.query(
        "SELECT key FROM recipient NOT INDEXED WHERE key BETWEEN ? AND ? AND claim = 0 AND held = 0 AND domain = ? "
        "AND (due <= ? OR due > ?) ORDER BY key",
        first_key(message), last_key(message), domain, to_number(now), to_number(too_far(now)));
    for (; have < together && others.step();) {
        const auto key = others.integer(0);
        if (std::ranges::find(keys, key) != keys.end()) continue;
        keys.push_back(key);
        ++have;
    }
}

QueueTask task_of(SqliteConnection& db, std::int64_t message, const TextsAhead& ahead) {
    auto row = db.query(
        "SELECT id, arrived, size, flags, local, domain, envid, auth, head, "
        "CASE WHEN size <= ? AND file IS NULL THEN body END FROM message WHERE number = ?",
        ahead.wanted() ? TextsAhead::small : -1, message);
    if (!row.step()) throw SqliteError("a recipient has no message", SQLITE_CORRUPT, 0);
    QueueTask task;
    task.message = message;
    task.id = row.string(0);
    task.arrived = to_time(row.integer(1));
    task.size = std::uint64_t(row.integer(2));
    task.from = stored_sender(row.string(4), row.string(5), int(row.integer(3)), row.optional(6), row.optional(7));
    task.head = row.string(8);
    if (!row.null(9)) task.text = ahead.keep(row.string(9));
    return task;
}

QueueTask::To recipient_of(SqliteConnection& db, std::int64_t key) {
    auto row = db.query(
        "SELECT local, coalesce(spelled, domain), notify, orcpt, attempts, warned FROM recipient WHERE key = ?", key);
    if (!row.step()) throw SqliteError("a recipient is gone", SQLITE_CORRUPT, 0);
    QueueTask::To to;
    to.number = std::uint32_t(key & (most_recipients - 1));
    to.recipient = stored_recipient(to.number, row.string(0), row.string(1), int(row.integer(2)), row.optional(3));
    to.attempts = std::uint32_t(row.integer(4));
    to.warned = row.integer(5) != 0;
    return to;
}

bool claimed(SqliteConnection& db, std::int64_t claim, std::int64_t message, std::uint32_t number) {
    if (claim == 0 || number >= most_recipients) return false;
    return db.query("SELECT 1 FROM recipient WHERE key = ? AND claim = ?", key_of(message, number), claim).step();
}

void remove_message(SqliteWrite& write, std::int64_t message, std::vector<std::string>& gone) {
    {
        auto row = write.db.query("SELECT size, held, file FROM message WHERE number = ?", message);
        if (!row.step()) return;
        write.totals.octets -= row.integer(0);
        write.totals.held -= row.integer(1) != 0;
        if (const auto file = row.optional(2)) gone.push_back(*file);
    }
    write.totals.messages -= 1;
    write.db.run("DELETE FROM message WHERE number = ?", message);
}

void remove_recipient(SqliteWrite& write, std::int64_t message, std::uint32_t number) {
    write.db.run("DELETE FROM recipient WHERE key = ?", key_of(message, number));
    write.totals.recipients -= write.db.changes();
}

void defer_recipient(SqliteWrite& write, std::int64_t message, const QueueVerdict& verdict) {
    const auto reply = encode_reply(verdict.reply);
    write.db.run(
        "UPDATE recipient SET claim = 0, due = ?, attempts = attempts + ?, warned = ?, reply = ?, host = ? "
        "WHERE key = ?",
        to_number(verdict.due), verdict.attempt, verdict.warned, reply, kept_host(verdict.host),
        key_of(message, verdict.number));
}

bool any_recipient(SqliteConnection& db, std::int64_t message) {
    return db.query("SELECT 1 FROM recipient WHERE key BETWEEN ? AND ? LIMIT 1", first_key(message), last_key(message))
        .step();
}

// One of them may have an id that is taken: then there are none of them.
void insert_notices(SqliteWrite& write, std::span<const QueuedMail> notices, std::span<const StoredText> texts) {
    write.db.run("SAVEPOINT notices");
    try {
        for (std::size_t i = 0; i < notices.size(); ++i) insert_mail(write, notices[i], texts[i]);
    } catch (const std::invalid_argument&) {
        write.db.run("ROLLBACK TO notices");
        write.db.run("RELEASE notices");
        throw;
    }
    write.db.run("RELEASE notices");
}

}  // namespace

void insert_mail(SqliteWrite& write, const QueuedMail& mail, const StoredText& text) {
    auto& t = write.totals;
    const auto arrived = to_number(mail.arrived);
    const bool early = t.messages > 0 && arrived < t.newest;
    if (!early) t.newest = arrived;
    ++t.last;
    t.messages += 1;
    t.recipients += std::int64_t(mail.to.size());
    t.held += mail.held;
    t.octets += std::int64_t(mail.text.size());
    insert_message(write, mail, text, early);
    for (std::uint32_t number = 0; number < mail.to.size(); ++number) insert_recipient(write, mail, number);
    write.stored = t;
}

std::vector<QueueTask> claim_mail(SqliteWrite& write, std::int64_t claim, const std::string& domain, QueueTime now,
                                  std::size_t limit, std::size_t together, const TextsAhead& ahead) {
    std::vector<QueueTask> tasks;
    std::unordered_map<std::int64_t, std::size_t> places;
    auto keys = due_keys(write.db, domain, now, limit);
    add_together(write.db, domain, now, together, keys);
    for (const auto key : keys) {
        const auto message = key >> recipient_bits;
        const auto [place, first] = places.try_emplace(message, tasks.size());
        if (first) tasks.push_back(task_of(write.db, message, ahead));
        tasks[place->second].to.push_back(recipient_of(write.db, key));
        write.db.run("UPDATE recipient SET claim = ? WHERE key = ?", claim, key);
    }
    return tasks;
}

bool record_mail(SqliteWrite& write, std::int64_t claim, const QueueTask& task, std::span<const QueueVerdict> verdicts,
                 std::span<const QueuedMail> notices, std::span<const StoredText> texts,
                 std::vector<std::string>& gone) {
    for (const auto& verdict : verdicts)
        if (!claimed(write.db, claim, task.message, verdict.number)) return false;
    if (!notices.empty()) insert_notices(write, notices, texts);
    bool left = false;
    for (const auto& verdict : verdicts) {
        if (verdict.done) remove_recipient(write, task.message, verdict.number);
        else defer_recipient(write, task.message, verdict);
        left |= verdict.done;
    }
    if (left && !any_recipient(write.db, task.message)) remove_message(write, task.message, gone);
    return true;
}

void give_back_mail(SqliteWrite& write, std::int64_t claim, const QueueTask& task) {
    for (const auto& to : task.to)
        if (claimed(write.db, claim, task.message, to.number))
            write.db.run("UPDATE recipient SET claim = 0 WHERE key = ?", key_of(task.message, to.number));
}

Cancelled cancel_mail(SqliteWrite& write, std::int64_t live, const std::string& id, std::vector<std::string>& gone) {
    const auto message = find_message(write.db, id);
    if (!message) return Cancelled::not_found;
    const auto first = first_key(*message), last = last_key(*message);
    if (live != 0 &&
        write.db.query("SELECT 1 FROM recipient WHERE key BETWEEN ? AND ? AND claim = ?", first, last, live).step())
        return Cancelled::in_flight;
    write.db.run("DELETE FROM recipient WHERE key BETWEEN ? AND ?", first, last);
    write.totals.recipients -= write.db.changes();
    remove_message(write, *message, gone);
    return Cancelled::found;
}

bool hold_mail(SqliteWrite& write, const std::string& id, bool held) {
    const auto message = find_message(write.db, id);
    if (!message) return false;
    write.db.run("UPDATE message SET held = ? WHERE number = ? AND held <> ?", held, *message, held);
    if (write.db.changes() == 0) return true;
    write.totals.held += held ? 1 : -1;
    write.db.run("UPDATE recipient SET held = ? WHERE key BETWEEN ? AND ?", held, first_key(*message),
                 last_key(*message));
    return true;
}

std::uint64_t flush_mail(SqliteWrite& write, std::int64_t live, const std::string& id, QueueTime now) {
    const auto message = find_message(write.db, id);
    if (!message) return 0;
    write.db.run(
        "UPDATE recipient SET due = min(due, ?) WHERE key BETWEEN ? AND ? AND held = 0 AND (claim = 0 OR claim <> ?)",
        to_number(now), first_key(*message), last_key(*message), live);
    return std::uint64_t(write.db.changes());
}

std::uint64_t flush_step(SqliteWrite& write, FlushSteps& steps) {
    std::vector<std::int64_t> keys;
    for (std::int64_t seen = 0; seen < flush_size; ++seen) {
        const auto most = flush_size - std::int64_t(keys.size());
        const auto before = keys.size();
        {
            auto rows = write.db.query(
                "SELECT key FROM recipient INDEXED BY waiting WHERE claim = 0 AND held = 0 AND domain = ? AND due > ? "
                "LIMIT ?",
                steps.domain, to_number(steps.now), most);
            while (rows.step()) keys.push_back(rows.integer(0));
        }
        if (std::int64_t(keys.size() - before) == most) break;  // there may be more of this domain
        const auto next = steps.one ? std::nullopt : next_domain(write.db, steps.domain, steps.now);
        steps.end = !next;
        if (steps.end) break;
        steps.domain = next->name;
    }
    for (const auto key : keys) write.db.run("UPDATE recipient SET due = ? WHERE key = ?", to_number(steps.now), key);
    return keys.size();
}

}  // namespace Net::SMTP
