// SqliteMail -- mail as rows of an SqliteStore's tables; for our own .cpp files only, it is not installed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "SqliteState.hpp"

namespace Net::SMTP {

// Where a text will be: its octets, or the name of its file.
struct StoredText {
    std::string_view octets;
    std::string file;
};

// ---- in a transaction; what throws has changed nothing ----

// std::invalid_argument for an id that is there already.
void insert_mail(SqliteWrite& write, const QueuedMail& mail, const StoredText& text);
std::vector<QueueTask> claim_mail(SqliteWrite& write, std::int64_t claim, const std::string& domain, QueueTime now,
                                  std::size_t limit, std::size_t together, const TextsAhead& ahead);
// Files that nobody needs any more are added to `gone`.
bool record_mail(SqliteWrite& write, std::int64_t claim, const QueueTask& task, std::span<const QueueVerdict> verdicts,
                 std::span<const QueuedMail> notices, std::span<const StoredText> texts,
                 std::vector<std::string>& gone);
void give_back_mail(SqliteWrite& write, std::int64_t claim, const QueueTask& task);
// `live`: what is given out has it in `claim`.
Cancelled cancel_mail(SqliteWrite& write, std::int64_t live, const std::string& id, std::vector<std::string>& gone);
bool hold_mail(SqliteWrite& write, const std::string& id, bool held);
std::uint64_t flush_mail(SqliteWrite& write, std::int64_t live, const std::string& id, QueueTime now);

// What waits beyond `now` becomes due, domain by domain.
struct FlushSteps {
    std::string domain;
    bool one;  // that domain only, else all from it on
    QueueTime now;
    bool end = false;
};
// One step, of bounded size, and on to the next; how many recipients.
std::uint64_t flush_step(SqliteWrite& write, FlushSteps& steps);

// ---- in a snapshot ----

std::uint64_t count_due(SqliteConnection& db, const std::optional<std::string>& domain, QueueTime now);
// The first domain behind that one, or at all, with when its first mail is due.
std::optional<QueueDomain> next_domain(SqliteConnection& db, const std::optional<std::string>& after, QueueTime now);
std::optional<QueueTime> first_due(SqliteConnection& db, const std::string& domain, QueueTime now);
std::vector<QueueItem> read_items(SqliteConnection& db, std::int64_t live, std::int64_t after, std::size_t limit);
std::optional<QueueItem> read_item(SqliteConnection& db, std::int64_t live, const std::string& id);
QueueStats read_stats(SqliteConnection& db, std::int64_t live);

// A text where it is now: in `octets`, or `file` has its name.
struct FoundText {
    std::string head, octets;
    std::optional<std::string> file;
    std::uint64_t size = 0;
};
std::optional<FoundText> find_text(SqliteConnection& db, std::int64_t message);
std::optional<std::int64_t> find_message(SqliteConnection& db, const std::string& id);

}  // namespace Net::SMTP
