// Session -- the SMTP client's side of one connection to a next hop.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../Server/Address.hpp"
#include "../Server/Connection.hpp"
#include "../Server/Message.hpp"
#include "../Server/Reply.hpp"

namespace Net::SMTP {

// How long each step may take; RFC 5321 4.5.3.2 where it names one. Each is absolute, for a whole command with its
// reply.
struct Patience {
    using seconds = std::chrono::seconds;
    seconds connect{30};
    seconds greeting{300};
    seconds helo{300};
    seconds mail{300};
    seconds rcpt{300};
    seconds data{120};
    seconds block{180};  // for each 64 KiB of the text to be taken
    seconds data_end{600};
    seconds quit{2};
};

// What a next hop said in EHLO.
struct Offer {
    Extensions extensions{false, false, false, false, false, false, false, false};
    std::uint64_t max_size = 0;  // of SIZE; 0: not said
};

// A dialogue with one host. Never throws for what the host does: its replies come back as they are, cleaned by Reply
// when they go on to somebody, and what goes wrong comes back as a reply of ours (451 4.4.x). After that, and after
// 421, failed() holds. What it reads is bounded: 2 KiB a line, 128 lines a reply. One thread.
class Session {
public:
    // Connects, hears the greeting, says EHLO or, if that is not known there, HELO. `end` is the end of all patience.
    Session(const Endpoint& host, const std::string& hostname, const Patience&, Deadline end);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // Why no more mail can be sent here.
    const std::optional<Reply>& failed() const { return failure_; }
    const Offer& offer() const { return offer_; }
    const std::string& host() const { return host_; }
    // A new end of all patience.
    void extend(Deadline end) { end_ = end; }
    // Ends its waits when the drain of that server does.
    void heed(std::shared_ptr<Shared> server) { connection_.shared = std::move(server); }
    // Whether the end of a message was sent and no answer to it came.
    bool in_doubt() const { return in_doubt_; }

    // MAIL, and RCPT for each recipient, in one write where PIPELINING is offered. The reply to MAIL; after a positive
    // one `replies` has one for each recipient. What can't be sent without harm is refused here: an address that is
    // none (553), UTF-8 where SMTPUTF8 is not offered (5.6.7), 8-bit or binary bodies where they aren't (5.6.3).
    Reply mail(const Sender&, std::uint64_t size, std::span<const Recipient>, std::vector<Reply>& replies);
    // One more recipient, alone.
    Reply rcpt(const Recipient&);

    // The text, with `head` in front of it. Where `binary`, by BDAT. A lone CR or LF is refused: 5.6.0. Before the end
    // is sent the message is asked whether its sender still waits; if not, the connection is cut before the end, and
    // the next hop has nothing.
    Reply data(const std::string& head, const Message&, bool binary);

    // Gives up the transaction, or the connection. Both are polite and short.
    void reset();
    void quit();

private:
    Reply command(const std::string& line, std::chrono::seconds patience, bool go_on = false);
    Reply read_reply(Deadline, bool go_on = false);
    Reply fail(Reply);
    bool out_of_step();
    Reply end_reply();
    bool send_text(const std::string& head, const Message&);
    bool send_chunk(const std::string& head, const Message&);
    void hello(const std::string& hostname, const Patience&);
    Deadline until(std::chrono::seconds) const;
    std::string mail_line(const Sender&, std::uint64_t size) const;
    std::string rcpt_line(const Recipient&) const;
    std::optional<Reply> unsendable(const Sender&) const;
    std::optional<Reply> unsendable(const Recipient&) const;

    std::string host_;
    Patience patience_;
    Deadline end_;
    Connection connection_;
    Offer offer_;
    bool esmtp_ = false, utf8_ = false, in_doubt_ = false;
    std::optional<Reply> failure_;
};

}  // namespace Net::SMTP
