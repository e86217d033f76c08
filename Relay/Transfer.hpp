// Transfer -- one transaction at the next hop of some recipients, whichever of its hosts it comes to; for our own .cpp
// files only, it is not installed.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "HostFailures.hpp"
#include "HostWalk.hpp"
#include "Session.hpp"
#include "SessionCache.hpp"

namespace Net::SMTP {

// Goes from host to host until one has accepted the sender and every recipient, or one has refused for good, or there
// is no more. Nothing is sent that could become a mail before send(). One thread.
class Transfer {
public:
    struct Settings {
        std::string hostname;
        Patience patience{};
        bool chunking = true;
        bool partial = false;              // some recipients are enough
        SessionCache* cache = nullptr;     // outlives this
        HostFailures* failures = nullptr;  // outlives this
        Security security{};
        Deadline end = Deadline::max();
        std::shared_ptr<Shared> server{};  // whose drain ends it
    };
    Transfer(HostWalk walk, Settings settings);
    // Gives up a transaction that is still open.
    ~Transfer();
    Transfer(const Transfer&) = delete;
    Transfer& operator=(const Transfer&) = delete;

    // MAIL and RCPT. Afterwards replies() has one for each recipient, which may all be the same. `and_data` as in
    // Session::mail().
    void open(const Sender& from, std::uint64_t size, std::vector<Recipient> to, bool and_data = false);
    // Sender and one recipient, whatever becomes of the recipient: others can follow with add() if the sender was
    // accepted.
    Reply begin(const Sender& from, std::uint64_t size, const Recipient& first);
    Reply add(const Recipient& recipient);

    const std::vector<Recipient>& to() const { return to_; }
    const std::vector<Reply>& replies() const { return replies_; }
    // Whether a host has accepted them and waits for the text; and whether it seems to wait still.
    bool ready() const;
    bool still_ready() const;
    // Who said what replies() hold; "" when nobody could be asked.
    const std::string& host() const { return host_; }
    // How it was encrypted, see summary().
    const std::string& tls() const { return tls_; }
    // Whether who has taken the text offers DSN.
    bool notifies() const { return notifies_; }
    const Security& security() const { return settings_.security; }

    // Once the text is there: where the host does not offer SMTPUTF8, 8BITMIME or BINARYMIME, as the sender announced,
    // and the text needs it, the transaction is given up, and replies() say 550 5.6.7 or 554 5.6.3. A text that does
    // not need it goes there without the parameter.
    void suit(const std::string& head, const Message& message);

    // For a transaction that was begun earlier.
    void extend(Deadline end, std::shared_ptr<Shared> server);

    // The text, once ready(). An outcome for each recipient, also for those that were refused. Where a host takes it
    // from nobody for now, the next one is asked.
    std::vector<Outcome> send(const std::string& head, const Message& message);

    // Ends the transaction: the connection is kept for others, or closed.
    void close() noexcept;

private:
    enum class Said { yes, later, never };
    std::unique_ptr<Session> connected(const Upstream&) const;
    bool connect();
    bool avoided(const Upstream&);
    void named();
    bool lacks_utf8() const;
    BodyType body() const;
    std::optional<Reply> missing(const std::string& head, const Message&);
    Reply envelope(std::span<const Recipient> to, std::vector<Reply>& replies, bool and_data);
    Said ask(std::span<const Recipient> to, bool and_data);
    std::vector<Outcome> text(const std::string& head, const Message&);
    void refused(const Reply& reply, bool by_host);

    HostWalk walk_;
    Settings settings_;
    std::unique_ptr<Session> session_;
    bool reused_ = false;
    Sender from_;
    std::uint64_t size_ = 0;
    std::optional<bool> needs_utf8_{};  // of the text, once it was looked at
    std::optional<BodyType> needs_body_{};
    std::vector<Recipient> to_;
    std::vector<Reply> replies_;
    Reply refusal_{451, "4.4.4", "No route"};  // where there is no reply for each
    std::string host_, tls_;
    bool login_refused_ = false;  // nobody else is told our secret then
    bool answered_ = false;       // a host has spoken, so that nobody cares about others who could not be reached
    bool notifies_ = false;
    bool open_ = false;  // MAIL was accepted, and nothing has ended the transaction
};

}  // namespace Net::SMTP
