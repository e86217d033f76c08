// SqliteLog -- writes SQLite's log in few large pieces; for our own .cpp files only, it is not installed.
#pragma once

#include <sqlite3.h>

namespace Net::SMTP {

// SQLite writes each page of a commit to its log by two calls. By the VFS of this name (SQLite's own, but for the log)
// they are kept until the log is synced, read, or their memory is full, and then written by one. So octets that are not
// written yet belong to a transaction that has not ended; discard_log() must be the rollback hook of its connection.
// Registered at the first call; any thread. nullptr, SQLite's own, when there is no memory.
const char* log_vfs() noexcept;

// For sqlite3_rollback_hook(); `db` is the sqlite3* itself. What has not been written of the transaction never will be:
// without its lock the place may be another's.
void discard_log(void* db) noexcept;

}  // namespace Net::SMTP
