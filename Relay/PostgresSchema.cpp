#include "PostgresSchema.hpp"

#include <array>
#include <vector>

namespace Net::SMTP {

namespace {

// Each brings the tables from the version before to its own; what was released is never changed. Mailboxes and the like
// are octets, for senders are 8-bit and databases have encodings; times are milliseconds of the calendar.
//
// A recipient that waits has no owner, and is in recipient_waiting; one that was given out is in recipient_given.
// What is small stays in its row, and nothing is compressed: mail lives for seconds.
constexpr const char* versions[] = {
    R"(
CREATE TABLE message (
    number bigserial PRIMARY KEY,
    id bytea NOT NULL UNIQUE,
    from_local bytea NOT NULL,
    from_domain bytea NOT NULL,
    flags integer NOT NULL,
    envid bytea,
    auth bytea,
    head bytea NOT NULL,
    size bigint NOT NULL,
    arrived bigint NOT NULL,
    held boolean NOT NULL
);
CREATE TABLE recipient (
    message bigint NOT NULL,
    number integer NOT NULL,
    destination bytea NOT NULL,
    to_local bytea NOT NULL,
    to_domain bytea NOT NULL,
    notify integer NOT NULL,
    orcpt bytea,
    due bigint NOT NULL,
    held boolean NOT NULL,
    owner bigint,
    turn bigint,
    lease bigint,
    attempts integer NOT NULL DEFAULT 0,
    warned boolean NOT NULL DEFAULT false,
    last bytea NOT NULL DEFAULT '',
    host bytea NOT NULL DEFAULT '',
    PRIMARY KEY (message, number)
);
CREATE INDEX recipient_waiting ON recipient (destination, due, message) WHERE owner IS NULL AND NOT held;
CREATE INDEX recipient_given ON recipient (lease) WHERE owner IS NOT NULL;
CREATE TABLE chunk (
    message bigint NOT NULL,
    number integer NOT NULL,
    octets bytea NOT NULL,
    PRIMARY KEY (message, number)
);
ALTER TABLE chunk ALTER octets SET STORAGE EXTERNAL;
ALTER TABLE chunk SET (toast_tuple_target = 8160);
ALTER TABLE message SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
ALTER TABLE recipient SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
ALTER TABLE chunk SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
CREATE TABLE setting (name bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE change (owner bigint PRIMARY KEY, count bigint NOT NULL, seen bigint NOT NULL);
)",
};
constexpr int newest = int(std::size(versions));

bool yes(PostgresConnection& connection, Deadline end, const std::string& question) {
    const PostgresStatement unnamed{"", question};
    connection.prepare(end, {&unnamed, 1});
    return connection.run(end, unnamed)[0].flag(0, 0);
}

int version_of(PostgresConnection& connection, Deadline end) {
    if (!yes(connection, end, "SELECT to_regclass('schema_version') IS NOT NULL")) return 0;
    const PostgresStatement unnamed{"", "SELECT version FROM schema_version"};
    connection.prepare(end, {&unnamed, 1});
    return connection.run(end, unnamed)[0].i4(0, 0);
}

}  // namespace

void make_schema(PostgresConnection& connection, const std::string& schema, Deadline end) {
    const auto check = [](int version) {
        if (version > newest)
            throw PostgresFailure("the tables are of version " + std::to_string(version) + ", newer than this program",
                                  "", false);
        return version == newest;
    };
    if (check(version_of(connection, end))) return;
    // Held until it is given back, or the connection ends. A transaction that begins behind it sees what others have
    // made.
    const std::string key = "(hashtext('net-smtp-queue'), hashtext('" + schema + "'))";
    connection.script(end, "SELECT pg_advisory_lock" + key);
    connection.script(end, "BEGIN");
    const int version = version_of(connection, end);
    if (!check(version)) {
        // Who may not create schemas can use one that is there.
        if (version == 0 && yes(connection, end, "SELECT to_regnamespace('" + schema + "') IS NULL"))
            connection.script(end, "CREATE SCHEMA " + schema);
        if (version == 0)
            connection.script(end,
                              "CREATE TABLE schema_version (version integer NOT NULL);"
                              "INSERT INTO schema_version VALUES (0)");
        for (int i = version; i < newest; ++i) connection.script(end, versions[i]);
        connection.script(end, "UPDATE schema_version SET version = " + std::to_string(newest));
    }
    connection.script(end, "COMMIT");
    connection.script(end, "SELECT pg_advisory_unlock" + key);
}

// ---- statements ----

namespace sql {

namespace {

// Milliseconds of the calendar by the database's clock.
#define CLOCK "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
#define WAITS "owner IS NULL AND NOT held"
#define MESSAGE "m.number, m.id, m.from_local, m.from_domain, m.flags, m.envid, m.auth, m.size, m.arrived"
#define RECIPIENT "r.number, r.to_local, r.to_domain, r.notify, r.orcpt, r.attempts"
// Held mail is due never, and nothing else is further away than a week.
#define SEEN                                                   \
    RECIPIENT                                                  \
    ", r.last, r.host, CASE WHEN m.held THEN $1::bigint ELSE " \
    "r.due END, r.owner IS NOT NULL AND r.lease > " CLOCK ", m.held"
// A message that has no recipients any more is gone.
#define REMOVE_EMPTY                                                                                            \
    "AND NOT EXISTS (SELECT FROM recipient r WHERE r.message = m.number) RETURNING m.number) DELETE FROM chunk" \
    " USING gone WHERE chunk.message = gone.number"
// Whether so many rows were changed; if not, an error undoes all.
#define ALL_OR_ERROR(n) "SELECT 1 / (count(*) = " n "::integer)::integer FROM changed"

}  // namespace

const PostgresStatement now{"now", "SELECT " CLOCK};

const PostgresStatement put_message{
    "put_message",
    "INSERT INTO message (id, from_local, from_domain, flags, envid, auth, head, size, arrived, held)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"};
#define RECIPIENT_PUT \
    "INSERT INTO recipient (message, number, destination, to_local, to_domain, notify, orcpt, due, held) "
const PostgresStatement put_recipient{
    "put_recipient", RECIPIENT_PUT "VALUES (currval('message_number_seq'), $1, $2, $3, $4, $5, $6, $7, $8)"};
const PostgresStatement put_recipients{
    "put_recipients", RECIPIENT_PUT
    "SELECT currval('message_number_seq'), t.*, $7::bigint, $8::boolean FROM unnest($1::integer[], $2::bytea[],"
    " $3::bytea[], $4::bytea[], $5::integer[], $6::bytea[]) t"};
const PostgresStatement put_chunk{
    "put_chunk", "INSERT INTO chunk (message, number, octets) VALUES (currval('message_number_seq'), $1, $2)"};

// From name to name, by the index alone: $1 is the first name that may come. With when the first and the last of each
// is due.
const PostgresStatement domains{"domains",
                                "WITH RECURSIVE names AS ("
                                "(SELECT destination FROM recipient WHERE " WAITS
                                " AND destination >= $1 ORDER BY destination, due LIMIT 1)"
                                " UNION ALL SELECT (SELECT r.destination FROM recipient r WHERE " WAITS
                                " AND r.destination > names.destination ORDER BY r.destination, r.due LIMIT 1)"
                                " FROM names WHERE names.destination IS NOT NULL) "
                                "SELECT n.destination,"
                                " (SELECT due FROM recipient r WHERE " WAITS
                                " AND r.destination = n.destination ORDER BY r.destination, r.due LIMIT 1),"
                                " (SELECT due FROM recipient r WHERE " WAITS
                                " AND r.destination = n.destination ORDER BY r.destination DESC, r.due DESC LIMIT 1)"
                                " FROM names n WHERE n.destination IS NOT NULL LIMIT $2"};

// Of one domain: the first and the last.
const PostgresStatement due{
    "due", "SELECT (SELECT due FROM recipient WHERE " WAITS
           " AND destination = $1 ORDER BY destination, due LIMIT 1), (SELECT due FROM recipient WHERE " WAITS
           " AND destination = $1 ORDER BY destination DESC, due DESC LIMIT 1)"};

// $1 domain, $2 now, $3 what is due later than this is due too, $4 limit, $5 owner, $6 turn, $7 lease, $8 how many of
// the last message.
const PostgresStatement claim{
    "claim",
    "WITH far AS MATERIALIZED (SELECT message, number FROM recipient WHERE " WAITS
    " AND destination = $1 AND due > $3 ORDER BY due, message LIMIT $4 FOR UPDATE SKIP LOCKED),"
    " near AS MATERIALIZED (SELECT message, number FROM recipient WHERE " WAITS
    " AND destination = $1 AND due <= $2 ORDER BY due, message LIMIT $4 FOR UPDATE SKIP LOCKED),"
    " first AS MATERIALIZED (SELECT * FROM far UNION ALL SELECT * FROM near LIMIT $4),"
    " last AS MATERIALIZED (SELECT message, count(*) AS have FROM first WHERE message ="
    " (SELECT message FROM first OFFSET (SELECT greatest(count(*) - 1, 0) FROM first)) GROUP BY message),"
    " others AS MATERIALIZED (SELECT message, number FROM recipient r WHERE " WAITS
    " AND message = (SELECT message FROM last) AND destination IS NOT DISTINCT FROM $1 AND (due <= $2 OR due > $3)"
    " AND NOT EXISTS (SELECT FROM first f WHERE f.message = r.message AND f.number = r.number)"
    " ORDER BY number LIMIT greatest($8 - (SELECT have FROM last), 0) FOR UPDATE SKIP LOCKED),"
    " due AS MATERIALIZED (SELECT * FROM first UNION ALL SELECT * FROM others),"
    " changed AS (UPDATE recipient r SET owner = $5, turn = $6, lease = " CLOCK
    " + $7::bigint FROM due WHERE r.message = due.message AND r.number = due.number RETURNING r.*) "
    "SELECT " MESSAGE ", " RECIPIENT
    ", m.head, r.warned FROM changed r JOIN message m ON m.number = r.message"
    " ORDER BY r.due, r.message, r.number"};

const PostgresStatement beat{"beat", "UPDATE recipient SET lease = " CLOCK " + $2::bigint WHERE owner = $1"};
#define FREE "UPDATE recipient SET owner = NULL, turn = NULL, lease = NULL "
const PostgresStatement give_back_turn{"give_back_turn", FREE "WHERE owner = $1 AND turn = $2"};
const PostgresStatement give_back_all{"give_back_all", FREE "WHERE owner = $1"};
const PostgresStatement give_back{
    "give_back", FREE "WHERE message = $1 AND number = ANY($2) AND owner IS NOT DISTINCT FROM $3 AND turn = $4"};
// Leases that have run out, but our own: we are here. While the server was away nobody could make them longer, nor say
// what had been delivered: after its start each has the time of one. $1 owner, $2 how long a lease is.
const PostgresStatement expire{
    "expire", FREE
    "WHERE (message, number) IN (SELECT message, number FROM recipient WHERE owner IS NOT NULL AND owner <> $1"
    " AND lease <= " CLOCK
    " AND pg_postmaster_start_time() + $2::bigint * interval '1 ms' <= clock_timestamp()"
    " ORDER BY lease LIMIT 10000 FOR UPDATE SKIP LOCKED) RETURNING number"};

// A process that froze between two statements of a transaction keeps its locks: the server waits for it, without a
// limit where no Sync has come yet. So who is past the time of any transaction, while leases that are over can't be
// given back, is cut off. $1 owner, $2 that time.
const PostgresStatement cut_off{
    "cut_off",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity a WHERE usename = current_user AND pid <> pg_backend_pid()"
    " AND xact_start < clock_timestamp() - $2::bigint * interval '1 ms'"
    " AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.relation = 'recipient'::regclass AND l.granted)"
    " AND EXISTS (SELECT FROM recipient WHERE owner IS NOT NULL AND owner <> $1 AND lease <= " CLOCK ")"};

// In front of what may take the last recipients away: two who do so at once would each still see the other's.
const PostgresStatement lock_message{"lock_message", "SELECT FROM message WHERE number = $1 FOR UPDATE"};
// $1 message, $2 numbers, $3 owner, $4 turn, $5 how many. "IS NOT DISTINCT FROM" keeps the planner from walking through
// recipient_given, whatever it believes of its size.
const PostgresStatement record_done{"record_done",
                                    "WITH changed AS (DELETE FROM recipient WHERE message = $1 AND number = ANY($2) "
                                    "AND owner IS NOT DISTINCT FROM $3 AND turn = $4"
                                    " RETURNING 1) " ALL_OR_ERROR("$5")};
const PostgresStatement record_later{
    "record_later",
    "WITH changed AS (UPDATE recipient r SET owner = NULL, turn = NULL, lease = NULL, due = v.due,"
    " attempts = r.attempts + v.attempt, warned = r.warned OR v.warned, last = v.last,"
    " host = v.host FROM unnest($2::integer[], $6::bigint[], $7::integer[], $8::boolean[],"
    " $9::bytea[], $10::bytea[])"
    " v(number, due, attempt, warned, last, host) WHERE r.message = $1 AND r.number = v.number"
    " AND r.owner IS NOT DISTINCT FROM $3 AND r.turn = $4 RETURNING 1) " ALL_OR_ERROR("$5")};
const PostgresStatement remove_empty{"remove_empty",
                                     "WITH gone AS (DELETE FROM message m WHERE m.number = $1 " REMOVE_EMPTY};

const PostgresStatement chunks{"chunks",
                               "SELECT octets FROM chunk WHERE message = $1 AND number >= $2 ORDER BY number LIMIT 4"};
const PostgresStatement text_by_id{"text_by_id", "SELECT number, head, size FROM message WHERE id = $1"};

const PostgresStatement lock_by_id{"lock_by_id", "SELECT number FROM message WHERE id = $1 FOR UPDATE"};
#define OF_ID "message = (SELECT number FROM message WHERE id = $1)"
const PostgresStatement lock_recipients{
    "lock_recipients", "SELECT count(*) FILTER (WHERE owner IS NOT NULL AND lease > " CLOCK
                       ") FROM (SELECT owner, lease FROM recipient WHERE " OF_ID " ORDER BY number FOR UPDATE) r"};
const PostgresStatement cancel{"cancel", "DELETE FROM recipient WHERE " OF_ID
                                         " AND NOT EXISTS (SELECT FROM recipient WHERE " OF_ID
                                         " AND owner IS NOT NULL AND lease > " CLOCK ")"};
const PostgresStatement remove_empty_by_id{"remove_empty_by_id",
                                           "WITH gone AS (DELETE FROM message m WHERE m.id = $1 " REMOVE_EMPTY};
const PostgresStatement hold{
    "hold",
    "WITH m AS (UPDATE message SET held = true WHERE id = $1 RETURNING number), r AS (UPDATE recipient SET"
    " held = true FROM m WHERE message = m.number) SELECT count(*) FROM m"};
const PostgresStatement release{
    "release",
    "WITH m AS (UPDATE message SET held = false WHERE id = $1 RETURNING number), r AS (UPDATE recipient SET"
    " held = false FROM m WHERE message = m.number) SELECT count(*) FROM m"};

// How many wait: those that were due already, and those that are now ($2).
const PostgresStatement flush{"flush", "WITH r AS (UPDATE recipient SET due = least(due, $2::bigint) WHERE " WAITS
                                       " AND " OF_ID " RETURNING 1) SELECT count(*) FROM r"};
const PostgresStatement count_due{"count_due",
                                  "SELECT count(*) FROM recipient WHERE " WAITS " AND destination = $1 AND due <= $2"};
const PostgresStatement flush_domain{
    "flush_domain",
    "WITH late AS (SELECT message, number FROM recipient WHERE " WAITS
    " AND destination = $1 AND due > $2 ORDER BY due LIMIT 10000 FOR UPDATE SKIP LOCKED), r AS (UPDATE recipient r"
    " SET due = $2 FROM late WHERE r.message = late.message AND r.number = late.number RETURNING 1)"
    " SELECT count(*) FROM r"};
// A page of all, behind message $1 and recipient $2.
const PostgresStatement flush_page{
    "flush_page", "WITH page AS (SELECT message, number FROM recipient WHERE (message, number) > ($1, $2) AND " WAITS
                  " ORDER BY message, number LIMIT 10000), r AS (UPDATE recipient r SET due = $3 FROM page"
                  " WHERE r.message = page.message AND r.number = page.number AND " WAITS
                  " AND due > $3) SELECT message, number, (SELECT count(*) FROM page) FROM page"
                  " ORDER BY message DESC, number DESC LIMIT 1"};

const PostgresStatement items{"items", "SELECT " MESSAGE ", " SEEN
                                       " FROM (SELECT * FROM message WHERE number > $2 ORDER BY number LIMIT $3) m"
                                       " JOIN recipient r ON r.message = m.number ORDER BY m.number, r.number"};
const PostgresStatement item{"item", "SELECT " MESSAGE ", " SEEN
                                     " FROM message m JOIN recipient r ON r.message = m.number WHERE m.id = $2"
                                     " ORDER BY r.number"};
const PostgresStatement stats_messages{
    "stats_messages",
    "SELECT count(*), count(*) FILTER (WHERE held), coalesce(sum(size), 0)::bigint, min(arrived)"
    " FROM message"};
const PostgresStatement stats_recipients{"stats_recipients",
                                         "SELECT count(*), count(*) FILTER (WHERE owner IS NOT NULL AND lease > " CLOCK
                                         ") FROM recipient"};
const PostgresStatement setting{"setting", "SELECT value FROM setting WHERE name = $1"};
const PostgresStatement set{
    "set", "INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value"};
// Each process counts its changes in a row of its own, so that nobody waits for another (as with NOTIFY, whose lock is
// held until the commit is on disk).
const PostgresStatement tell{"tell", "INSERT INTO change VALUES ($1, 1, " CLOCK
                                     ") ON CONFLICT (owner) DO UPDATE SET count = change.count + 1,"
                                     " seen = excluded.seen"};
const PostgresStatement told{"told", "SELECT coalesce(sum(count), 0)::bigint FROM change WHERE owner <> $1"};
// Of who has said nothing for ten minutes.
const PostgresStatement forget{"forget", "DELETE FROM change WHERE seen < " CLOCK " - 600000"};

std::span<const PostgresStatement> all() {
    static const std::vector<PostgresStatement> every{now,
                                                      put_message,
                                                      put_recipient,
                                                      put_recipients,
                                                      put_chunk,
                                                      domains,
                                                      due,
                                                      claim,
                                                      beat,
                                                      give_back_turn,
                                                      give_back_all,
                                                      give_back,
                                                      expire,
                                                      lock_message,
                                                      record_done,
                                                      record_later,
                                                      remove_empty,
                                                      chunks,
                                                      text_by_id,
                                                      lock_by_id,
                                                      lock_recipients,
                                                      cancel,
                                                      remove_empty_by_id,
                                                      hold,
                                                      release,
                                                      flush,
                                                      count_due,
                                                      flush_domain,
                                                      flush_page,
                                                      items,
                                                      item,
                                                      stats_messages,
                                                      stats_recipients,
                                                      setting,
                                                      set,
                                                      tell,
                                                      told,
                                                      forget,
                                                      cut_off};
    return every;
}

}  // namespace sql
}  // namespace Net::SMTP
