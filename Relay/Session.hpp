// Session -- the SMTP or LMTP client's side of one connection to a next hop.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../Server/Address.hpp"
#include "../Server/Connection.hpp"
#include "../Server/Message.hpp"
#include "../Server/Options.hpp"
#include "../Server/Reply.hpp"
#include "ClientTLS.hpp"
#include "Login.hpp"

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
    seconds lookup{20};     // of a name in the DNS, all its record types together
    seconds handshake{60};  // of TLS
};

// What must be settled before a host is told anything of a mail.
struct Security {
    ClientTLS tls{};
    std::shared_ptr<Login> login{};
    bool operator==(const Security&) const = default;
};

// Hears a conversation with a next hop, line by line. A line begins with who speaks: "C: " we, "S: " the host, "-- "
// neither; what follows is without its CRLF, of the host's at most 2 KiB (12 KiB while we log in) of any octets but LF.
// Nothing that we log in with is in it: it is "***", as is what the host asks for it, and a line that repeats some of
// it, in clear or in base64, for as long as the connection lasts. Texts of mails are not in it, but their sizes.
// `session` is the id of the client's session that the mail came by, "" of others; `host` is Upstream::str(). Called by
// whichever thread relays, by several at once; what it throws is ignored. Transcript::next_hops() is one.
using Overhear = std::function<void(std::string_view session, std::string_view host, std::string_view line)>;

// Who hears of a mail.
struct Witness {
    Overhear hear{};  // empty: nobody
    std::string session{};
    // A host is the same, whoever listens.
    bool operator==(const Witness&) const { return true; }
};

// A host to connect to, and what is spoken there.
struct Upstream {
    Endpoint endpoint;
    Protocol protocol = Protocol::smtp;
    std::string name{};  // what results call it; empty: the endpoint as text
    // What is known of its TLS by the DNS, in place of ClientTLS's own level and the endpoint's host.
    std::optional<ClientTLS::Level> level{};
    std::vector<std::string> names{};  // see ClientTLS::Target
    std::vector<TLSA> records{};
    Witness witness{};  // who hears what is said there

    std::string str() const { return name.empty() ? endpoint.str() : name; }
    // Reads "HOST", "HOST:PORT", "[IPv6]:PORT" and "unix:/path", with "smtp:" (`port`) or "lmtp:" (24) in front of it,
    // or "smtp://" and "lmtp://". std::invalid_argument names what can't be parsed, and LMTP on port 25 (RFC 2033 5).
    static Upstream parse(std::string_view text, std::uint16_t port = 25);
    bool operator==(const Upstream&) const = default;
};

// What a next hop said in EHLO or LHLO, under TLS if there is any.
struct Offer {
    Extensions extensions{false, false, false, false, false, false, false, false, false};
    std::uint64_t max_size = 0;  // of SIZE; 0: not said
    bool starttls = false;
    std::vector<std::string> mechanisms{};  // of AUTH, in capitals
};

// What became of a message at one recipient.
struct Outcome {
    Reply reply;
    bool in_doubt = false;  // the end was sent and no answer came: the host may have the mail (RFC 1047)
};

// A dialogue with one host. Never throws for what the host does: its replies come back as they are, cleaned of
// controls, and what goes wrong comes back as a reply of ours (451 4.4.x). After that, and after 421, failed() holds.
// What it reads is bounded: 2 KiB a line, 128 lines a reply; of those the first 4 KiB are kept, in whole lines, and
// nothing of a text that repeats what we have logged in with. Whoever leaves it by an exception leaves the connection
// closed. One thread at a time; a copy of the process says nothing.
class Session {
public:
    // Connects, hears the greeting, says EHLO (LHLO) or, if that is not known there, HELO; then STARTTLS as the level
    // of TLS wants it, and EHLO again, since nothing of what was said in the clear counts any more (RFC 3207 4.2); then
    // AUTH. With `may`, whatever goes wrong in between makes it connect once more, and go without. Without the TLS that
    // is asked for it has failed(): 451 4.7.5, and so it has without a mechanism to log in; with a login that was not
    // taken 451 4.7.8. Over a Unix socket there is no TLS. `end` is the end of all patience; with `server` the end of
    // its drain is, too. std::invalid_argument for a `hostname` that is no word.
    Session(const Upstream& host, const std::string& hostname, const Patience&, Deadline end,
            std::shared_ptr<Shared> server = nullptr, const Security& security = {});
    // Says QUIT.
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // Why no more mail can be sent here.
    const std::optional<Reply>& failed() const { return failure_; }
    // Whether a host has greeted, or refused to.
    bool reached() const { return reached_; }
    // Whether it could not be connected to, and that is not our own doing: nobody listens, there is no way to it, or
    // nothing came of it in all of Patience::connect.
    bool unreachable() const { return unreachable_; }
    const Offer& offer() const { return offer_; }
    const Upstream& host() const { return host_; }
    const std::string& hostname() const { return hostname_; }
    const Security& security() const { return security_; }
    // What was agreed on, see summary(); "" in the clear.
    const std::string& tls() const { return tls_; }
    // Whether the host has refused our login for good: to try the same secret again could lock the account.
    bool login_refused() const { return login_refused_; }
    // How many messages it was begun for.
    std::size_t mails() const { return mails_; }
    // For another message: a new end of all patience, and the server that it came through.
    void extend(Deadline end, std::shared_ptr<Shared> server);
    // Who hears what is said from now on.
    void heard_by(Witness);
    // Whether another command can be sent; and, when no reply is due, whether nothing came that nobody asked for.
    bool alive() const;
    bool quiet() { return alive() && !connection_.readable(); }

    // MAIL, and RCPT for each recipient, in one write where PIPELINING is offered. The reply to MAIL; after a positive
    // one `replies` has one for each recipient. What can't be sent without harm is refused here: an address that is
    // none (553), UTF-8 where SMTPUTF8 is not offered (5.6.7), 8-bit or binary bodies where they aren't (5.6.3). With
    // `and_data`, which is for one recipient only, DATA goes along; data() must follow when all is positive.
    Reply mail(const Sender&, std::uint64_t size, std::span<const Recipient>, std::vector<Reply>& replies,
               bool and_data = false);
    // One more recipient, alone.
    Reply rcpt(const Recipient&);

    // The text, with `head` in front of it: by BDAT where that is offered and `chunked`, or it is binary; else by
    // DATA. An outcome for each recipient that was accepted, in their order; by SMTP all are the same. A lone CR or LF
    // in a text is refused: 5.6.0. Before the end is sent the message is asked whether its sender still waits; if not,
    // the connection is cut before the end, and the next hop has nothing. Nor has it what we can't read (4.3.0), or
    // what it answers before its end.
    std::vector<Outcome> data(const std::string& head, const Message&, bool chunked);

    // Gives up the transaction, or the connection. Both are polite and short. Who does not know RSET is left.
    void reset();
    void quit();
    // QUIT without waiting for its reply.
    void leave() noexcept;

private:
    class Dialogue;
    class Secrets;
    // What a reply may speak of: 354 is the answer to DATA only, 334 to AUTH, and 22x to greeting, STARTTLS and QUIT.
    enum class About { command, connection, text, login };
    Reply command(const std::string& line, std::chrono::seconds patience, About about = About::command);
    Reply read_reply(Deadline, About about = About::command);
    Reply fail(Reply);
    void say(const std::string& line);
    void close() noexcept;
    void tell(std::string_view who, std::string_view what) const noexcept;
    void tell_reply(std::string_view line) const noexcept;
    void tell_text(const std::string& head, const Message&) const;
    void tell_failure(const Reply&) const noexcept;
    bool out_of_step();
    void no_text_follows();
    std::vector<Outcome> end_replies();
    std::vector<Outcome> all(const Reply&, bool in_doubt = false) const;
    bool send_text(const std::string& head, const Message&);
    bool send_chunk(const std::string& head, const Message&);
    void open(ClientTLS::Level level, std::shared_ptr<Shared> server);
    void greeting();
    void hello();
    void heard_offer(std::string_view lines);
    // In SessionSecurity.cpp:
    ClientTLS::Level level() const;
    void start_tls(ClientTLS::Level level);
    bool encrypt(ClientTLS::Level level);
    void log_in();
    std::string converse(LoginExchange&);
    Reply say_secretly(const std::string& line);
    static std::string without_secret(const std::string& line);
    bool repeats(std::string_view text) const noexcept;
    void give_up(std::string status, const std::string& why);
    Deadline until(std::chrono::seconds) const;
    std::string mail_line(const Sender&, std::uint64_t size) const;
    std::string rcpt_line(const Recipient&) const;
    std::optional<Reply> unsendable(const Sender&) const;
    std::optional<Reply> unsendable(const Recipient&) const;

    Upstream host_;
    std::string name_, hostname_;
    Patience patience_;
    Deadline end_;
    Security security_;
    Connection connection_;
    Offer offer_;
    BodyType body_ = BodyType::seven_bit;
    bool utf8_ = false, reached_ = false, unreachable_ = false;
    bool tls_failed_ = false;     // so that it might go without it
    bool login_refused_ = false;  // for good
    std::string tls_;
    std::size_t mails_ = 0, accepted_ = 0;
    std::optional<Reply> go_;  // to a DATA that went along with RCPT
    std::optional<Reply> failure_;
    std::shared_ptr<Secrets> said_;  // kept, and wiped in the end: what the host repeats, it may repeat later
    int owner_;
};

}  // namespace Net::SMTP
