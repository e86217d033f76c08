// Options -- what a server's sessions promise, allow and refuse; every limit with its default.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "Address.hpp"
#include "Auth.hpp"

namespace Net::SMTP {

// What becomes of a CR or LF that stands alone in a text sent by DATA or BDAT (not BINARYMIME). RFC 5321 2.3.8 forbids
// it, and it is how mail is smuggled past servers that disagree about line ends.
enum class BareLineEnds {
    reject,     // the text is read to its end and answered 554 5.6.0
    normalize,  // each becomes CRLF
    accept,     // kept as it is; it never ends a line or the text
};

// What is spoken. LMTP (RFC 2033) is for the last hop: LHLO, and after the text a reply for each recipient.
enum class Protocol { smtp, lmtp };

// Where AUTH is offered though nothing is encrypted. Passwords are read by whoever can listen.
enum class ClearAuth { never, loopback, everywhere };

// What a program adds to the protocol: it answers in its listeners, here it is only announced. The server's own verbs
// and keywords can't be added, EXPN can; 50 of each at most.
struct Additions {
    std::vector<std::string> verbs{};            // in HELP; see Event::Command
    std::vector<std::string> keywords{};         // further lines of EHLO: "XCOLOUR RED GREEN"
    std::vector<std::string> mail_parameters{};  // by name, in capital letters: kept in FROM.parameters, not 555
    std::vector<std::string> rcpt_parameters{};  // the same of TO
};

struct Options {
    using seconds = std::chrono::seconds;

    std::string name{};              // of the server, in events and logs; no meaning on the wire
    std::string hostname{};          // ours, in 220, HELO, EHLO, Received. Empty: the system's host name
    std::string greeting = "ESMTP";  // what follows the host name in 220; where LMTP is spoken this one is "LMTP"

    // With lmtp the server refuses to listen on TCP port 25 (RFC 2033 5): std::invalid_argument. PIPELINING and
    // ENHANCEDSTATUSCODES are offered then whatever `offer` says.
    Protocol protocol = Protocol::smtp;

    // Offers STARTTLS (RFC 3207); addresses of a Server that begin with "tls:" speak TLS from the start (RFC 8314). See
    // ServerTLS. Empty: neither.
    std::shared_ptr<TLSAcceptor> tls{};
    // 530 5.7.0 to all but NOOP, EHLO, STARTTLS and QUIT before it (RFC 3207 4), whatever a listener answers.
    bool require_tls = false;

    // Offers AUTH (RFC 4954). See Sasl. Empty: 502.
    std::shared_ptr<Authenticator> auth{};
    ClearAuth clear_auth = ClearAuth::never;
    bool require_auth = false;  // 530 5.7.0 to MAIL before it (RFC 6409 4.3)

    // A mail without a Date or a Message-ID field is given them, in front of it and wherever it lies (RFC
    // 6409 8.2, 8.3); max_message_size does not count them. A mail that goes into a sink stays as it is. A header
    // section (the first MiB of it) is in memory until it has been looked at, whatever `spool_above` says: 452 4.3.1 if
    // there is not enough.
    bool complete = false;

    // RFC 6409 4.2: 554 5.1.8 to a sender, 5.1.2 to a recipient whose domain has no dot ("localhost").
    bool qualified = false;

    // What RFC 6409 asks of a submission server, on ports 587 and, with TLS from the start, 465: `require_auth`,
    // `complete`, `qualified`; `require_tls` where there is `tls` (RFC 8314; without it clear_auth must be set, or
    // nobody could authenticate: std::invalid_argument by the Server); and 120 s as command_timeout (5.3), since
    // whoever submits is near and strangers have no business here. Who may send as whom: see OwnSender. Addresses in
    // the header are left as they are.
    static Options submission(std::shared_ptr<TLSAcceptor> tls, std::shared_ptr<Authenticator> auth);

    Extensions offer{};
    Additions own{};
    // False: the server itself does nothing about a command but QUIT; what no listener to Event::Command answers is
    // 502.
    bool simple = true;
    // Server::send_to_client() can be used. It costs each session a descriptor, a system call for each command, and its
    // buffers while it is silent.
    bool reachable = false;
    // False: the server says no greeting of its own, but what a listener to Event::Connect makes of `reply`, if
    // anything.
    bool handle_connects = true;
    Leniency lenient{};
    BareLineEnds bare_line_ends = BareLineEnds::reject;

    // Sizes, in octets. 0: no limit, where it says so.
    std::uint64_t max_message_size = 64 << 20;  // 552 5.3.4; after the dots are undone. 0: none
    std::size_t max_command_line = 2048;        // with CRLF; 500 5.5.2. At least 512 (RFC 5321 4.5.3.1.4), else 512
    std::size_t max_recipients = 1000;          // 452 4.5.3. RFC 5321 4.5.3.1.8 wants 100 at least. 0: none
    std::size_t max_commands = 100'000;         // in a session; then 421 4.7.0. 0: none
    std::size_t max_errors = 10;     // answered by 500-504 or 555 in a session; one more is 421 4.7.0. 0: none
    std::uint64_t drain = 64 << 20;  // of a refused body, read and thrown away before 421

    // How many sessions; over it the first answer is 421 4.7.0 instead of the greeting, or where TLS comes first the
    // connection is only closed. 0: none.
    std::size_t max_connections = 0;
    std::size_t max_connections_per_ip = 0;  // of an IPv4 address, or a /64 of IPv6

    // How long; all are absolute, none starts anew with an octet. RFC 5321 4.5.3.2 has the names.
    seconds command_timeout{300};       // for a whole command line, and for a reply to be taken: 421 4.4.2
    seconds block_timeout{180};         // for any octet of a body
    seconds data_timeout{1800};         // for a whole body
    seconds session_timeout{0};         // for a whole session; 0: none
    std::uint64_t min_data_rate = 128;  // octets a second of a body, in the mean, after `data_grace`; 0: none
    seconds data_grace{180};
    seconds handshake_timeout{60};  // for a whole TLS handshake: the connection is closed

    // Against who guesses passwords. A failed AUTH is answered `auth_delay` after it was said. After so many in a
    // session one more is 421 4.7.0; after so many of an address (IPv6: a /64; Unix sockets have none) in `auth_window`
    // AUTH is 454 4.7.0, whatever is said, until they are that long ago. 0: no limit. Each process counts for itself.
    seconds auth_delay{2};
    std::size_t auth_failures = 3;
    std::size_t auth_failures_per_ip = 20;
    seconds auth_window{600};

    // Where bodies are. A message up to `spool_above` is in memory, a larger one in an unnamed file in `spool_dir`.
    // `memory` is what the bodies of all sessions of a server may hold together in this process: over it they are
    // spooled whatever their size, and when not even 16 KiB are left, DATA is answered 452 4.3.1.
    std::uint64_t spool_above = 16 << 20;
    std::string spool_dir = "/var/tmp";
    std::uint64_t memory = 512 << 20;

    // std::invalid_argument names the option that makes no sense.
    void check() const;
};

}  // namespace Net::SMTP
