// Message -- a whole mail: one string_view wherever the bytes are, its headers, its custody.
#pragma once

#include <any>
#include <cstdint>
#include <ctime>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "Custody.hpp"
#include "Endpoint.hpp"

namespace Net::SMTP {

struct Content;  // where the octets are (Server/Content.hpp)

// How a message came to us: what Received says.
struct Trace {
    std::string hostname;  // ours
    std::string helo;      // what the client called itself
    std::string protocol;  // RFC 3848: "SMTP", "ESMTP", "ESMTPSA", "UTF8SMTP", ...
    Endpoint peer, local;
    std::string cipher{};  // of the TLS it came by; "" in the clear
    std::string user{};    // who had authenticated
};

// Whether a Received field of ours is due to a message: from whoever passes it on, and once for each reception.
enum class OwnReceived {
    due,
    there,     // it is in front of it
    unwanted,  // nobody is to learn how it came
};

// What is to become of a message's header section, see Message::edited().
struct HeaderEdit {
    std::string without{};                  // fields of this name (any case) go, wherever they are; "": none
    std::string front{};                    // whole fields with their CRLF, put in front of all
    std::optional<OwnReceived> received{};  // what own_received() says of the result; nullopt: the same as before
};

// A complete message, octet for octet as it was sent, the dots undone; and in front of it what Options::complete has
// added. Copies are cheap and share the octets, which never change. Looking at it takes nothing; save() takes it (see
// Custody). Octets outlive the session; custody does not: once the sender is answered nobody can take it any more.
// Several threads may look at, write and relay one message and its copies at once.
class Message {
public:
    Message();  // empty
    // A message of your own. Nobody waits for an answer to it. Its lines end in CRLF: a Relay refuses others (5.6.0).
    explicit Message(std::string text);
    ~Message();
    Message(const Message&);
    Message& operator=(const Message&);
    Message(Message&&) noexcept;
    Message& operator=(Message&&) noexcept;

    // All octets. A message in a file is mapped for it; std::system_error if that fails. An I/O error under a mapping
    // is SIGBUS: read(), write_to(), save() and Relay do without.
    std::string_view view() const;
    operator std::string_view() const { return view(); }
    // How many octets it has; also of a message that went into a sink, whose view() is empty.
    std::uint64_t size() const;
    bool empty() const { return size() == 0; }
    // Whether it lies in a file, not in memory; and whether it went into a sink.
    bool spooled() const;
    bool sunk() const;

    // The value of the first header field of that name (any case), unfolded: without its line ends, trimmed. Octets as
    // they are, not decoded; nothing of a message that went into a sink. Looks at the first MiB of the header section
    // only.
    std::optional<std::string> header(std::string_view name) const;
    std::vector<std::string> headers(std::string_view name) const;

    // Copies up to `size` octets from `offset`; fewer only at the end. std::system_error when the file can't be read.
    std::size_t read(std::uint64_t offset, char* to, std::size_t size) const;
    // A stream over it, which reads in pieces; it keeps the octets alive by itself.
    std::unique_ptr<std::istream> stream() const;
    // Writes all of it, without taking it. std::system_error when not all could be written.
    void write_to(int fd) const;

    // Takes it: a new file of that name holds it, and file and folder are on stable storage. std::system_error when
    // not, EEXIST if the name is taken; then no file is left, and the sender hears 452 4.3.1 unless the program begins
    // anew with client.reconsider(). What is refused or thrown after a save() that went well does not remove the file.
    // `mode` as of open(2), with umask.
    void save(const std::string& path, unsigned mode = 0644) const;

    // How it came to us; empty for a message of your own.
    const Trace& trace() const;
    // Unlike any other of this or another process; "" for a message of your own.
    const std::string& id() const;
    std::time_t received_at() const;

    // Who has taken it. For writers of takers.
    Custody& custody() const;
    // The same message with another header section: what is said of the one is said of the other as well (custody, id,
    // trace, baggage), and the octets from the empty line on are the same. Its octets are written anew, where those of
    // this one are, in memory or in a file in Options::spool_dir; in a file too when Options::memory has no room for
    // both. They are read in pieces; a header section may have any size. std::system_error when they can't be read or
    // stored, std::invalid_argument when `front` has no CRLF at its end, std::logic_error of a message that went into a
    // sink.
    Message edited(const HeaderEdit&) const;
    // Also known of a message of your own: due, unless it was edited() to something else.
    OwnReceived own_received() const;

    // Whether a CR or LF stands alone in it; reads it all if it is not known.
    bool bare_line_ends() const;
    // Whether the sender still waits for the answer. True where nobody does.
    bool sender_present() const;

    // What a listener left in client.baggage() for this message; empty in one of your own.
    std::any& baggage() const;

    std::shared_ptr<Content> content() const { return content_; }
    explicit Message(std::shared_ptr<Content> content);
    // Where its octets are; null in an empty message. It differs from content() once it was edited().
    const std::shared_ptr<Content>& octets() const { return edited_ ? edited_ : content_; }

private:
    Content& some() const;
    mutable std::shared_ptr<Content> content_;
    std::shared_ptr<Content> edited_;  // has the octets in place of it
};

}  // namespace Net::SMTP
