#include "SqliteSchema.hpp"

#include <array>

#include "StoreCodec.hpp"

namespace Net::SMTP {

namespace {

// What makes version n + 1 of version n. Numbers of messages are never used again, so they are counted in `total`.
// Each page that a mail touches is written once more: so a message above total.last carries the totals itself, and
// only what is `early`, put behind one that arrived later, is in an index by its arrival; the others arrived as they
// are numbered. `body` comes last: who looks at the rest does not load it. `waiting` has what may be given out,
// `flight` what is: neither grows with what is held.
constexpr std::array migrations = {R"(
    CREATE TABLE total(only_row INTEGER PRIMARY KEY CHECK (only_row = 1), last INTEGER NOT NULL,
        messages INTEGER NOT NULL, recipients INTEGER NOT NULL, held INTEGER NOT NULL, octets INTEGER NOT NULL,
        newest INTEGER NOT NULL, incarnation INTEGER NOT NULL);
    INSERT INTO total VALUES (1, 0, 0, 0, 0, 0, 0, 0);
    CREATE TABLE setting(name BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

    CREATE TABLE message(number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, arrived INTEGER NOT NULL,
        early INTEGER NOT NULL, total_messages INTEGER NOT NULL, total_recipients INTEGER NOT NULL,
        total_held INTEGER NOT NULL, total_octets INTEGER NOT NULL, total_newest INTEGER NOT NULL,
        held INTEGER NOT NULL, size INTEGER NOT NULL, file TEXT, flags INTEGER NOT NULL, local BLOB NOT NULL,
        domain BLOB NOT NULL, envid BLOB, auth BLOB, head BLOB NOT NULL, body BLOB);
    CREATE INDEX early ON message(arrived) WHERE early = 1;
    CREATE UNIQUE INDEX file ON message(file) WHERE file IS NOT NULL;

    CREATE TABLE recipient(key INTEGER PRIMARY KEY, claim INTEGER NOT NULL, held INTEGER NOT NULL,
        due INTEGER NOT NULL, attempts INTEGER NOT NULL, warned INTEGER NOT NULL, notify INTEGER NOT NULL,
        domain BLOB NOT NULL, local BLOB NOT NULL, spelled BLOB, orcpt BLOB, reply BLOB, host BLOB);
    CREATE INDEX waiting ON recipient(domain, due) WHERE claim = 0 AND held = 0;
    CREATE INDEX flight ON recipient(claim) WHERE claim <> 0;
)"};

constexpr std::int64_t ours = 0x534d5451;  // application_id: "SMTQ"

void refuse_foreign(std::int64_t version, SqliteConnection& db) {
    if (version > std::int64_t(migrations.size()))
        throw no_store("sqlite: the queue was made by a newer version of this program (schema " +
                       std::to_string(version) + ", known is " + std::to_string(migrations.size()) + ")");
    const bool empty = db.ask("SELECT count(*) FROM sqlite_schema") == "0";
    if (!empty && db.ask("PRAGMA application_id") != std::to_string(ours))
        throw no_store("sqlite: this database is not a queue's");
}

}  // namespace

void prepare_schema(SqliteConnection& db, std::size_t page_size) {
    const auto version = std::stoll(db.ask("PRAGMA user_version"));
    refuse_foreign(version, db);
    db.execute("PRAGMA page_size=" + std::to_string(page_size));
    if (db.ask("PRAGMA journal_mode=WAL") != "wal") throw no_store("sqlite: no write-ahead log is possible here");
    if (version == std::int64_t(migrations.size())) return;
    db.execute("BEGIN IMMEDIATE");
    try {
        for (auto at = std::size_t(version); at < migrations.size(); ++at) db.execute(migrations[at]);
        db.execute("PRAGMA application_id=" + std::to_string(ours));
        db.execute("PRAGMA user_version=" + std::to_string(migrations.size()));
        db.execute("COMMIT");
    } catch (...) {
        if (db.in_transaction()) sqlite3_exec(db.get(), "ROLLBACK", nullptr, nullptr, nullptr);
        throw;
    }
}

}  // namespace Net::SMTP
