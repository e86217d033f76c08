// StoreCodec -- what every store does with mail on its way into columns and back; for our own .cpp files only, it is
// not installed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "Store.hpp"

namespace Net::SMTP {

// std::invalid_argument names what QueuedMail does not allow.
void check_queued(const QueuedMail& mail);

// What the queue calls the domain of an address: in small letters; "" where there is none.
std::string queue_domain(const Address& address);

inline std::int64_t to_number(QueueTime time) { return time.time_since_epoch().count(); }
inline QueueTime to_time(std::int64_t number) { return QueueTime(std::chrono::milliseconds(number)); }
// What is due later than this counts as due, but for never_due.
inline QueueTime too_far(QueueTime now) { return now + longest_wait; }
// When it is due in truth: `now` for what is too far away.
QueueTime honest_due(QueueTime due, QueueTime now);

// body, smtputf8 and ret as one small number.
int sender_flags(const Sender& from);
Sender stored_sender(std::string local, std::string domain, int flags, std::optional<std::string> envid,
                     std::optional<std::string> auth);

// notify as one small number; orcpt as "type;address".
int notify_flags(const Notify& notify);
std::optional<std::string> orcpt_text(const Recipient& to);
// Its id is number + 1.
Recipient stored_recipient(std::uint32_t number, std::string local, std::string domain, int notify,
                           const std::optional<std::string>& orcpt);

// A reply as one string, its text cut to 1 KiB (not inside a UTF-8 sequence). What can't be read is {0, "", ""}.
std::string encode_reply(const Reply& reply);
Reply decode_reply(std::string_view text);
// A host's name, cut to what is kept of it: 512 octets.
std::string_view kept_host(std::string_view host);

// A StoreError that says 452 4.3.1 to a sender, or 451 4.3.0.
StoreError no_room(const std::string& what);
StoreError no_store(const std::string& what);
// By errno: 452 where there is no room.
StoreError store_error(const std::string& what, int error);

// All octets of a message, in memory. StoreError when they can't be read.
std::string octets_of(const Message& message);

}  // namespace Net::SMTP
