// Bounce -- delivery status notifications: what a sender is told of its mail (RFC 3461, RFC 3464, RFC 6522, RFC 6533).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "../Server/Address.hpp"
#include "../Server/Message.hpp"
#include "../Server/Reply.hpp"
#include "Store.hpp"

namespace Net::SMTP {

enum class DeliveryAction {
    failed,     // and nobody will try again
    delayed,    // it will be tried again
    delivered,  // to where it ends: a Maildir, a command, LMTP
    relayed,    // to a next hop that sends no notices; see Relay::Result::notifies
};

// What is said of one recipient.
struct DeliveryStatus {
    Recipient recipient;
    DeliveryAction action = DeliveryAction::failed;
    Reply reply{};                           // the last one; of a failure 4xx means that it was tried for long enough
    std::string host{};                      // who said it, as Relay::Result::host; "": we did
    QueueTime last_attempt{};                // not told when it is the default
    std::optional<QueueTime> retry_until{};  // of a delay
};

// Whether a sender wants to hear that of this recipient: what NOTIFY says, and without one failures and delays (RFC
// 3461 4.1). The null sender wants nothing, so that no notice is ever answered by a notice.
bool wants_notice(const Sender& from, const Recipient& about, DeliveryAction action);

// Who writes notifications.
struct NoticeFrom {
    std::string hostname;  // ours, the Reporting-MTA; the report is from MAILER-DAEMON there
    std::uint64_t most_returned = 1 << 20;
};

// One notification of all that is wanted of these; nullopt when nothing is, or the sender is no mailbox. It goes from
// the null sender to `mail.from`, is due at once, and has an id of its own. It says, as multipart/report: a text for
// people; message/delivery-status, with a Diagnostic-Code of type smtp where another host has spoken and x-net-smtp
// where we have; and of the message, with our `mail.head` in front,
//
//   - all of it, octet for octet, with RET=FULL and a failure to tell, up to `most_returned` octets;
//   - else its header section, of which the first 64 KiB. So it is too, and the text says so, when all of it could not
//     be sent on: with NUL, lone CR or LF, lines over 998 octets, BODY=BINARYMIME.
//
// Whatever it is about, it can be sent: lines end in CRLF and are at most 998 octets long; what strangers have said is
// cut to some length, cleaned and folded, so that nothing of it becomes a line, a field or a part of ours. It is ASCII,
// also about others' UTF-8 (RFC 6533's encoded addresses, quoted-printable), so that it can go wherever mail goes, but:
// a message returned whole may be 8-bit, which then `from.body` of the notification says (8BITMIME); and a sender with
// UTF-8 in its address can be told by SMTPUTF8 only: then `from.smtputf8` is set and the parts are message/global-*.
//
// std::system_error when the text can't be read, std::invalid_argument for a hostname that is no word of ASCII.
std::optional<QueuedMail> delivery_notice(const NoticeFrom& us, const QueueTask& mail, const Message& text,
                                          std::span<const DeliveryStatus> statuses, QueueTime now);

}  // namespace Net::SMTP
