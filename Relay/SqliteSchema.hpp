// SqliteSchema -- the tables of an SqliteStore, and how older ones become these; for our own .cpp files only, it is not
// installed.
#pragma once

#include <cstddef>

#include "SqliteConnection.hpp"

namespace Net::SMTP {

// A recipient's key is its message's number and its own.
inline constexpr int recipient_bits = 20;
inline constexpr std::int64_t most_recipients = 1 << recipient_bits;
inline std::int64_t first_key(std::int64_t message) { return message << recipient_bits; }
inline std::int64_t last_key(std::int64_t message) { return first_key(message) + most_recipients - 1; }
inline std::int64_t key_of(std::int64_t message, std::uint32_t number) { return first_key(message) + number; }

// Makes a database ours: a new one in WAL mode with pages of that size; in one transaction up to date. Nobody else may
// do so at once. StoreError when it is newer than we are, or not a queue; SqliteError.
void prepare_schema(SqliteConnection& db, std::size_t page_size);

}  // namespace Net::SMTP
