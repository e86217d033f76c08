// PostgresSchema -- the tables of a queue in PostgreSQL, and every statement that is said to them; for our own .cpp
// files only, it is not installed.
#pragma once

#include <span>

#include "PostgresConnection.hpp"

namespace Net::SMTP {

// Makes the tables, or brings older ones up to date, all or nothing; whoever else wants to waits. Cheap when there is
// nothing to do. PostgresFailure, also when they are newer than this library knows.
void make_schema(PostgresConnection&, const std::string& schema, Deadline end);

// Octets of a text in one row.
inline constexpr std::size_t postgres_chunk = 256 * 1024;

namespace sql {

// Columns of a message and of a recipient as the statements below return them, in this order.
enum MessageColumn { m_number, m_id, m_local, m_domain, m_flags, m_envid, m_auth, m_size, m_arrived };
inline constexpr int message_columns = m_arrived + 1;
enum RecipientColumn { r_number, r_local, r_domain, r_notify, r_orcpt, r_attempts };
inline constexpr int recipient_columns = r_attempts + 1;

extern const PostgresStatement now;
extern const PostgresStatement put_message, put_recipient, put_recipients, put_chunk;
extern const PostgresStatement domains, due, claim, beat, give_back_turn, give_back_all, give_back, expire, cut_off;
extern const PostgresStatement lock_message, record_done, record_later, remove_empty;
extern const PostgresStatement chunks, text_by_id;
extern const PostgresStatement lock_by_id, lock_recipients, cancel, remove_empty_by_id, hold, release;
extern const PostgresStatement flush, count_due, flush_domain, flush_page;
extern const PostgresStatement items, item, stats_messages, stats_recipients, setting, set, tell, told, forget;

// All of them, to be prepared.
std::span<const PostgresStatement> all();

}  // namespace sql
}  // namespace Net::SMTP
